//! What one attempt came to, and everything that follows from it: the one place where an answer or a failure
//! becomes a decision.

use crate::domain::clock::Dice;
use crate::domain::failure::ErrorClass;
use crate::domain::failure::Failure;
use crate::domain::job::Job;
use crate::domain::job::Phase;
use crate::domain::retry::RetryPolicy;
use crate::domain::settle::SettleRule;
use crate::domain::settle::Settling;
use crate::domain::settle::time_delta;
use crate::domain::snapshot::ConnectionSnapshot;
use crate::domain::snapshot::ContentHash;
use chrono::DateTime;
use chrono::Utc;
use std::borrow::Cow;
use std::time::Duration;
use std::time::Instant;

pub use failed::word_of;

/// A call that was answered with a connection.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The connection.
    pub snapshot: Box<ConnectionSnapshot>,
    /// Status code.
    pub http_status: u16,
    /// `x-request-id`.
    pub upstream_request_id: Option<String>,
}

/// How an attempt ended, in the contract's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(
    missing_docs,
    reason = "the contract's table of outcomes says what each means"
)]
pub enum Outcome {
    Synced,
    Settling,
    Retry,
    Dead,
    Deferred,
    Crashed,
    Cancelled,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 7] = [
        Self::Synced,
        Self::Settling,
        Self::Retry,
        Self::Dead,
        Self::Deferred,
        Self::Crashed,
        Self::Cancelled,
    ];

    /// The word used in tables and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::Settling => "settling",
            Self::Retry => "retry",
            Self::Dead => "dead",
            Self::Deferred => "deferred",
            Self::Crashed => "crashed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What becomes of the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing is left to do.
    Done,
    /// Poll.
    Poll {
        /// After this long.
        delay: Duration,
        /// What this answer looked like.
        fingerprint: ContentHash,
    },
    /// The same again.
    Retry {
        /// Which call.
        phase: Phase,
        /// After this long.
        delay: Duration,
        /// No request brings it forward past this.
        server_delay: Option<Duration>,
    },
    /// The attempt does not count; due again at once, or when the account's pause ends.
    Defer,
    /// Given up.
    Bury,
}

/// What the attempt says about the account as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountWord {
    /// The key is accepted and the limit is not exceeded.
    Works,
    /// An answer, but none that proves the key: enough to end a rate pause, not an auth pause.
    Answered,
    /// Nothing was learned.
    Silent,
    /// 401 or 429: nobody calls until the pause is over.
    Refused {
        /// `auth` or `rate_limited`.
        class: ErrorClass,
        /// How long the server asks for, clamped.
        delay: Option<Duration>,
    },
}

/// What is to be stored of an answer.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The connection.
    pub snapshot: Box<ConnectionSnapshot>,
    /// A finalize that succeeded.
    pub finalized: bool,
    /// The `tools` array is complete: what it lacks is removed.
    pub complete: bool,
    /// What the attempt comes to instead, with nothing stored, where another account than at the claim has come to hold the
    /// connection.
    pub if_held: Box<Verdict>,
}

/// Everything that follows from one attempt.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// How it ended.
    pub outcome: Outcome,
    /// The class of its failure.
    pub class: Option<ErrorClass>,
    /// The failure in words.
    pub error: Option<String>,
    /// The start of the body, as of [`Failure::body`].
    pub body: Option<String>,
    /// Status code of the answer.
    pub http_status: Option<u16>,
    /// `x-request-id` of the answer.
    pub upstream_request_id: Option<String>,
    /// What becomes of the job.
    pub next: Next,
    /// Answers in a row that were not what the API promises, this one included.
    pub malformed: u32,
    /// What is to be stored.
    pub stored: Option<Stored>,
    /// The API says that the connection does not exist.
    pub gone: bool,
    /// What it says about the account.
    pub account: AccountWord,
}

impl Verdict {
    /// Whether it keeps every call of its account from being made.
    pub fn refuses_account(&self) -> bool {
        matches!(self.account, AccountWord::Refused { .. })
    }

    /// The failure as the history has it: with the start of the body, which the log never gets.
    pub fn error_on_record(&self) -> Option<Cow<'_, str>> {
        let error = self.error.as_deref()?;
        Some(match &self.body {
            Some(body) => format!("{error}; body: {body}").into(),
            None => error.into(),
        })
    }
}

/// An attempt that is over and waits to be committed.
#[derive(Clone, Debug)]
pub struct Finished {
    /// What was claimed.
    pub job: Job,
    /// What it came to.
    pub verdict: Verdict,
    /// How long it took from claim to verdict.
    pub took: Duration,
    /// When the verdict was reached.
    pub ended: Instant,
}

impl Finished {
    /// What the database's clock says at a moment after its end, as far as can be told without asking.
    pub fn time_at(&self, now: Instant) -> DateTime<Utc> {
        let since = self.took + now.saturating_duration_since(self.ended);
        self.job.started_at + time_delta(since)
    }

    /// What it comes to where another account than at the claim has come to hold the connection; `None` where nothing was to
    /// be stored anyway.
    pub fn if_held(&self) -> Option<Self> {
        let stored = self.verdict.stored.as_ref()?;
        Some(Self {
            job: self.job.clone(),
            verdict: (*stored.if_held).clone(),
            took: self.took,
            ended: self.ended,
        })
    }
}

/// Judges what a call came to.
pub fn judge(
    job: &Job,
    result: Result<Answer, Failure>,
    retry: &RetryPolicy,
    settle: &SettleRule,
    dice: &Dice,
) -> Verdict {
    match result {
        Ok(answer) => match &job.held_by {
            None => judge_answer(job, answer, retry, settle, dice),
            Some(other) => failed::refuse_answer(job, &answer, Some(other), retry, dice),
        },
        Err(failure) => failed::judge_failure(job, failure, retry, dice),
    }
}

/// An attempt that a stop interrupted after the call may have gone out: recorded, not counted.
pub fn interrupted(job: &Job) -> Verdict {
    Verdict {
        outcome: Outcome::Deferred,
        class: None,
        error: Some(
            "interrupted by shutdown before the answer came; it will be tried again".into(),
        ),
        body: None,
        http_status: None,
        upstream_request_id: None,
        next: Next::Defer,
        malformed: job.malformed,
        stored: None,
        gone: false,
        account: AccountWord::Silent,
    }
}

/// An answer that Postgres refused to store: the job is dead and nothing of the answer is kept.
pub fn unstorable(verdict: &Verdict, why: String) -> Verdict {
    Verdict {
        outcome: Outcome::Dead,
        class: Some(ErrorClass::Storage),
        error: Some(why),
        body: None,
        next: Next::Bury,
        stored: None,
        gone: false,
        ..verdict.clone()
    }
}

fn judge_answer(
    job: &Job,
    answer: Answer,
    retry: &RetryPolicy,
    settle: &SettleRule,
    dice: &Dice,
) -> Verdict {
    let if_held = failed::refuse_answer(job, &answer, None, retry, dice);
    let snapshot = answer.snapshot;
    let settling = settle.judge(job, &snapshot);
    let overdue = !job.is_first_look()
        && job
            .settle_deadline
            .is_some_and(|deadline| job.started_at >= deadline);
    let (outcome, next, failure) = match settling {
        Settling::Settled => (Outcome::Synced, Next::Done, None),
        Settling::Unsettled if overdue => (
            Outcome::Dead,
            Next::Bury,
            Some(Failure::new(
                ErrorClass::SettleTimeout,
                format!(
                    "tools_status is still {:?} after settle.deadline; raise it, or retry when upstream has synced",
                    word(&snapshot.tools_status)
                ),
            )),
        ),
        Settling::Unsettled => (
            Outcome::Settling,
            Next::Poll {
                delay: next_poll(job, settle, dice),
                fingerprint: snapshot.fingerprint(),
            },
            None,
        ),
        Settling::Failed => (
            Outcome::Dead,
            Next::Bury,
            Some(Failure::new(
                ErrorClass::ToolsFailed,
                format!(
                    "upstream ended the tool sync as {:?}",
                    word(&snapshot.tools_status)
                ),
            )),
        ),
        // Nobody asked for a finalize.
        Settling::NotActive if job.is_only_looked_after() => (Outcome::Synced, Next::Done, None),
        Settling::NotActive => {
            let failure = Failure::new(
                ErrorClass::NotActive,
                format!(
                    "status is {:?}: OAuth is not finished",
                    word(&snapshot.status)
                ),
            );
            let (outcome, next) =
                failed::retry_or_bury(job, &failure, Phase::Finalize, 0, retry, dice);
            (outcome, next, Some(failure))
        }
    };
    Verdict {
        outcome,
        class: failure.as_ref().map(|failure| failure.class),
        error: failure.map(|failure| failure.message),
        body: None,
        http_status: Some(answer.http_status),
        upstream_request_id: answer.upstream_request_id,
        next,
        malformed: 0,
        stored: Some(Stored {
            finalized: job.phase == Phase::Finalize && settling != Settling::NotActive,
            complete: settling == Settling::Settled && snapshot.tools.is_some(),
            snapshot,
            if_held: Box::new(if_held),
        }),
        gone: false,
        account: AccountWord::Works,
    }
}

/// The start of a word of upstream's, which may be of any length.
fn word(text: &str) -> &str {
    let end = text.char_indices().nth(60).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

fn next_poll(job: &Job, settle: &SettleRule, dice: &Dice) -> Duration {
    // Either POST restarts the polls; its deadline is set by the database when it is committed.
    let (polls, until_deadline) = match job.phase {
        Phase::Finalize | Phase::Refresh => (0, settle.deadline),
        Phase::Settle if job.is_first_look() => (1, settle.deadline),
        Phase::Settle => (
            job.settle_polls.saturating_add(1),
            job.settle_deadline
                .and_then(|deadline| (deadline - job.started_at).to_std().ok())
                .unwrap_or_default(),
        ),
    };
    settle.poll_delay(polls, Some(until_deadline), dice.roll())
}

mod failed;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

//! What follows from a call that failed, or whose answer is not to be stored.

use crate::domain::account::AccountName;
use crate::domain::clock::Dice;
use crate::domain::failure::ErrorClass;
use crate::domain::failure::Failure;
use crate::domain::job::Job;
use crate::domain::job::Phase;
use crate::domain::retry::RetryDecision;
use crate::domain::retry::RetryPolicy;
use crate::domain::verdict::AccountWord;
use crate::domain::verdict::Answer;
use crate::domain::verdict::Next;
use crate::domain::verdict::Outcome;
use crate::domain::verdict::Verdict;

/// So often at most a refresh is tried before it is left to the next one.
const REFRESH_TRIES: u32 = 3;

/// What another account holds is not overwritten: that one, or where it is not known, one that has come to hold it during the
/// call.
pub(super) fn refuse_answer(
    job: &Job,
    answer: &Answer,
    other: Option<&AccountName>,
    retry: &RetryPolicy,
    dice: &Dice,
) -> Verdict {
    let account = &job.account;
    let message = match other {
        Some(other) => format!(
            "the connection is held from account {other}, which is served too, and not overwritten by {account}: enqueue it for \
             {other}, or take that account out of the configuration"
        ),
        None => format!(
            "another account has come to hold the connection during the call, and it is not overwritten by {account}"
        ),
    };
    let failure = Failure {
        http_status: Some(answer.http_status),
        upstream_request_id: answer.upstream_request_id.clone(),
        ..Failure::new(ErrorClass::OtherAccount, message)
    };
    Verdict {
        account: AccountWord::Works,
        ..judge_failure(job, failure, retry, dice)
    }
}

pub(super) fn judge_failure(
    job: &Job,
    failure: Failure,
    retry: &RetryPolicy,
    dice: &Dice,
) -> Verdict {
    let malformed = match failure.class {
        ErrorClass::Protocol | ErrorClass::Mismatch => job.malformed + 1,
        _ => 0,
    };
    let account = word_of(&failure, retry);
    let (outcome, next) = match failure.class {
        ErrorClass::Auth | ErrorClass::RateLimited => (Outcome::Deferred, Next::Defer),
        _ => retry_or_bury(job, &failure, job.phase, malformed, retry, dice),
    };
    // Nobody has asked for a refresh, and the next one comes: it leaves nothing dead, but for what is gone.
    let is_over = outcome == Outcome::Dead || job.attempt >= REFRESH_TRIES;
    let (outcome, next) = match failure.class {
        ErrorClass::Auth | ErrorClass::RateLimited | ErrorClass::NotFound => (outcome, next),
        _ if job.phase == Phase::Refresh && is_over => (Outcome::Deferred, Next::Done),
        _ => (outcome, next),
    };
    // The API's word for a connection that is not active.
    let class = match failure.http_status {
        Some(422) if job.phase == Phase::Refresh => ErrorClass::NotActive,
        _ => failure.class,
    };
    Verdict {
        outcome,
        class: Some(class),
        error: Some(failure.message),
        body: failure.body,
        http_status: failure.http_status,
        upstream_request_id: failure.upstream_request_id,
        next,
        malformed,
        stored: None,
        gone: failure.class == ErrorClass::NotFound,
        account,
    }
}

/// What a failed call says about its account.
pub fn word_of(failure: &Failure, retry: &RetryPolicy) -> AccountWord {
    match failure.class {
        ErrorClass::Auth | ErrorClass::RateLimited => AccountWord::Refused {
            class: failure.class,
            delay: retry.server_delay(failure.hint.retry_after),
        },
        ErrorClass::Forbidden
        | ErrorClass::NotFound
        | ErrorClass::InvalidRequest
        | ErrorClass::Conflict
            if failure.own_words =>
        {
            AccountWord::Works
        }
        _ if failure.http_status.is_some() => AccountWord::Answered,
        _ => AccountWord::Silent,
    }
}

pub(super) fn retry_or_bury(
    job: &Job,
    failure: &Failure,
    phase: Phase,
    malformed: u32,
    retry: &RetryPolicy,
    dice: &Dice,
) -> (Outcome, Next) {
    match retry.decide(failure, job.attempt, malformed, dice.roll()) {
        RetryDecision::Retry {
            delay,
            server_delay,
        } => (
            Outcome::Retry,
            Next::Retry {
                phase,
                delay,
                server_delay,
            },
        ),
        RetryDecision::GiveUp => (Outcome::Dead, Next::Bury),
    }
}

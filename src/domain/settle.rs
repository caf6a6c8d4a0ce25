//! Whether a connection's tools have settled, as a pure function. Upstream does not publish the words.

use crate::domain::duration::LONGEST;
use crate::domain::job::CallKind;
use crate::domain::job::Job;
use crate::domain::job::Sighting;
use crate::domain::snapshot::ConnectionSnapshot;
use chrono::DateTime;
use chrono::TimeDelta;
use chrono::Utc;
use std::time::Duration;

/// The rule of `[settle]`.
#[derive(Clone, Debug)]
pub struct SettleRule {
    /// `tools_status` words that mean settled, with `tools_synced_at` not null.
    pub done: Vec<String>,
    /// Words that mean not settled.
    pub in_progress: Vec<String>,
    /// Words that mean settled as failed.
    pub failed: Vec<String>,
    /// `status` words that mean that OAuth is not finished.
    pub not_active: Vec<String>,
    /// First interval between polls, and the least time between two answers that are compared.
    pub initial: Duration,
    /// Longest interval between polls.
    pub max: Duration,
    /// How long after a finalize the tools may take.
    pub deadline: Duration,
}

/// What an answer says about settling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settling {
    /// OAuth is not finished.
    NotActive,
    /// The tools are final.
    Settled,
    /// The tool sync ended, as failed.
    Failed,
    /// Not yet.
    Unsettled,
}

impl SettleRule {
    /// Judges the answer to `job`'s call.
    pub fn judge(&self, job: &Job, answer: &ConnectionSnapshot) -> Settling {
        // Upstream answers a finalize or a refresh before its background sync has run: an answer that shows the sync
        // that we already know says nothing about the one just asked for.
        let shows_known_sync = job.phase.call() != CallKind::Poll
            && job
                .stored
                .is_some_and(|stored| stored.tools_synced_at == answer.tools_synced_at);
        match self.judge_look(answer, job.seen.as_ref(), job.started_at) {
            Settling::NotActive => Settling::NotActive,
            _ if shows_known_sync => Settling::Unsettled,
            settling => settling,
        }
    }

    /// Judges how a connection looks to whoever looked at that time, and, where its words say nothing, how it looked
    /// before.
    pub fn judge_look(
        &self,
        answer: &ConnectionSnapshot,
        seen: Option<&Sighting>,
        at: DateTime<Utc>,
    ) -> Settling {
        if is_word(&self.not_active, &answer.status) {
            return Settling::NotActive;
        }
        if is_word(&self.in_progress, &answer.tools_status) {
            return Settling::Unsettled;
        }
        if is_word(&self.failed, &answer.tools_status) {
            return Settling::Failed;
        }
        if is_word(&self.done, &answer.tools_status) && answer.tools_synced_at.is_some() {
            return Settling::Settled;
        }
        let agrees = seen.is_some_and(|seen| {
            seen.fingerprint == answer.fingerprint() && at - seen.at >= time_delta(self.initial)
        });
        if agrees {
            Settling::Settled
        } else {
            Settling::Unsettled
        }
    }

    /// Whether the answer's words alone do not say that it has settled, nor that it has not.
    pub fn needs_another_look(&self, answer: &ConnectionSnapshot) -> bool {
        let says_so = [&self.in_progress, &self.failed, &self.done]
            .iter()
            .any(|words| is_word(words, &answer.tools_status));
        let is_done = is_word(&self.done, &answer.tools_status);
        !says_so || is_done && answer.tools_synced_at.is_none()
    }

    /// Time until poll number `polls` + 1: doubles from `initial` to `max`, up to a tenth longer by `roll`
    /// (in `0.0..1.0`) so that connections finalized together are not polled together, and never past the
    /// deadline, so that the poll that decides comes when it is due.
    pub fn poll_delay(&self, polls: u32, until_deadline: Option<Duration>, roll: f64) -> Duration {
        let growing = self
            .initial
            .saturating_mul(1 << polls.min(30))
            .min(self.max)
            .mul_f64(1.0 + 0.1 * roll.clamp(0.0, 1.0));
        match until_deadline {
            Some(left) => growing.min(left.max(self.initial)),
            None => growing,
        }
    }
}

fn is_word(words: &[String], word: &str) -> bool {
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// A duration for arithmetic with database times: a century at most, so that no sum overflows.
pub fn time_delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration.min(LONGEST)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::Phase;
    use crate::domain::job::StoredSync;
    use crate::domain::verdict::fixture;

    fn rule() -> SettleRule {
        fixture::settle_rule()
    }

    fn answer(tools_status: &str, synced: bool) -> ConnectionSnapshot {
        ConnectionSnapshot {
            tools_status: tools_status.into(),
            tools_synced_at: synced.then(|| fixture::time(5)),
            ..fixture::snapshot()
        }
    }

    #[test]
    fn the_longest_duration_can_be_added_to_a_time() {
        let late = fixture::time(0) + time_delta(Duration::MAX);
        assert_eq!(late - fixture::time(0), TimeDelta::days(36_500));
    }

    #[test]
    fn the_words_decide() {
        let job = fixture::job(Phase::Settle);
        let table = [
            ("syncing", true, Settling::Unsettled),
            ("Pending", false, Settling::Unsettled),
            ("failed", false, Settling::Failed),
            ("ERROR", true, Settling::Failed),
            ("synced", true, Settling::Settled),
            ("Ready", true, Settling::Settled),
            ("synced", false, Settling::Unsettled),
            ("perplexed", true, Settling::Unsettled),
        ];
        for (word, synced, expected) in table {
            assert_eq!(
                rule().judge(&job, &answer(word, synced)),
                expected,
                "{word}"
            );
        }
    }

    #[test]
    fn an_unfinished_oauth_is_not_active_whatever_the_tools_say() {
        let pending = ConnectionSnapshot {
            status: "pending_oauth".into(),
            ..answer("synced", true)
        };
        let judged = rule().judge(&fixture::job(Phase::Finalize), &pending);
        assert_eq!(judged, Settling::NotActive);
    }

    #[test]
    fn a_finalize_that_shows_the_known_sync_is_not_settled_but_a_poll_is() {
        let known = answer("synced", true);
        let stored = Some(StoredSync {
            tools_synced_at: known.tools_synced_at,
        });
        let finalize = Job {
            stored,
            ..fixture::job(Phase::Finalize)
        };
        let poll = Job {
            stored,
            ..fixture::job(Phase::Settle)
        };
        assert_eq!(rule().judge(&finalize, &known), Settling::Unsettled);
        assert_eq!(rule().judge(&poll, &known), Settling::Settled);
        let failed = ConnectionSnapshot {
            tools_status: "failed".into(),
            ..known
        };
        assert_eq!(rule().judge(&finalize, &failed), Settling::Unsettled);
    }

    #[test]
    fn an_unknown_word_settles_when_two_answers_far_enough_apart_agree() {
        let odd = answer("perplexed", true);
        let seen = |at| Job {
            seen: Some(Sighting {
                fingerprint: odd.fingerprint().to_vec(),
                at,
            }),
            started_at: fixture::time(100),
            ..fixture::job(Phase::Settle)
        };
        assert_eq!(
            rule().judge(&seen(fixture::time(99)), &odd),
            Settling::Settled
        );
        let too_soon = fixture::time(99) + TimeDelta::milliseconds(1);
        assert_eq!(rule().judge(&seen(too_soon), &odd), Settling::Unsettled);
        let other = ConnectionSnapshot {
            tools: Some(vec![]),
            ..odd.clone()
        };
        assert_eq!(
            rule().judge(&seen(fixture::time(0)), &other),
            Settling::Unsettled
        );
    }

    #[test]
    fn polls_slow_down_to_the_maximum_and_never_pass_the_deadline() {
        let delay = |polls, left| rule().poll_delay(polls, left, 0.0).as_secs_f64();
        assert_eq!(delay(0, None), 1.0);
        assert_eq!(delay(3, None), 8.0);
        assert_eq!(delay(u32::MAX, None), 30.0);
        assert_eq!(delay(10, Some(Duration::from_secs(7))), 7.0);
        assert_eq!(delay(10, Some(Duration::ZERO)), 1.0);
    }
}

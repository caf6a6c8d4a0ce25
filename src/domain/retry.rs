//! When to try again, as a pure function.

use crate::domain::failure::ErrorClass;
use crate::domain::failure::Failure;
use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;
use std::time::Duration;

/// Calls in a row with an answer that is not what the API promises, after which a job is dead.
pub const MALFORMED_LIMIT: u32 = 4;

/// The policy of `[retry]`.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// Upper bound of the first delay.
    pub initial: Duration,
    /// Growth of the upper bound per attempt, at least 1.
    pub multiplier: f64,
    /// Largest upper bound.
    pub max: Duration,
    /// Attempts after which a job is dead, at least 1.
    pub max_attempts: u32,
    /// Longest delay that the server is granted.
    pub max_server_delay: Duration,
}

/// What follows a failure that concerns one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    /// Try again.
    Retry {
        /// After this long, at least what the server asked for.
        delay: Duration,
        /// What the server asked for, clamped: no request brings the job forward past it.
        server_delay: Option<Duration>,
    },
    /// Give up.
    GiveUp,
}

impl RetryPolicy {
    /// Decides on a failure of attempt number `attempt` (from 1), with `malformed` unpromised answers in a row,
    /// this one included. `roll` is in `0.0..1.0`.
    ///
    /// Not for `auth` and `rate_limited`, which concern the whole account.
    pub fn decide(
        &self,
        failure: &Failure,
        attempt: u32,
        malformed: u32,
        roll: f64,
    ) -> RetryDecision {
        if malformed >= MALFORMED_LIMIT || attempt >= self.max_attempts {
            return RetryDecision::GiveUp;
        }
        match self.classify(failure) {
            backoff::Error::Permanent(_) => RetryDecision::GiveUp,
            backoff::Error::Transient { retry_after, .. } => RetryDecision::Retry {
                delay: self
                    .full_jitter(attempt, roll)
                    .max(retry_after.unwrap_or_default()),
                server_delay: retry_after,
            },
        }
    }

    /// Permanent or transient, the server's own word first.
    fn classify(&self, failure: &Failure) -> backoff::Error<ErrorClass> {
        let class = failure.class;
        let transient = match (class, failure.hint.retryable) {
            (ErrorClass::NotFound, _) => false,
            (_, Some(retryable)) => retryable,
            (
                ErrorClass::InvalidRequest
                | ErrorClass::SettleTimeout
                | ErrorClass::ToolsFailed
                | ErrorClass::Storage,
                None,
            ) => false,
            (
                ErrorClass::Auth
                | ErrorClass::RateLimited
                | ErrorClass::Forbidden
                | ErrorClass::Conflict
                | ErrorClass::Upstream
                | ErrorClass::Timeout
                | ErrorClass::Network
                | ErrorClass::Protocol
                | ErrorClass::Mismatch
                // While an account is renamed, replicas with the old name may still run.
                | ErrorClass::OtherAccount
                | ErrorClass::NotActive
                | ErrorClass::LeaseLost,
                None,
            ) => true,
        };
        match (transient, self.server_delay(failure.hint.retry_after)) {
            (false, _) => backoff::Error::permanent(class),
            (true, None) => backoff::Error::transient(class),
            (true, Some(delay)) => backoff::Error::retry_after(class, delay),
        }
    }

    /// A delay that the server named, clamped to what it is granted.
    pub fn server_delay(&self, asked: Option<Duration>) -> Option<Duration> {
        asked.map(|delay| delay.min(self.max_server_delay))
    }

    /// Anywhere between nothing and the exponential bound ("full jitter", Brooker 2015).
    fn full_jitter(&self, attempt: u32, roll: f64) -> Duration {
        self.bound(attempt).mul_f64(roll.clamp(0.0, 1.0))
    }

    /// Upper bound of the delay after attempt number `attempt`. The policy is the `backoff` crate's, without its
    /// randomness (dice are ours) and without its driver, which ignores its own limits.
    fn bound(&self, attempt: u32) -> Duration {
        let mut policy = ExponentialBackoff {
            current_interval: self.initial,
            initial_interval: self.initial,
            randomization_factor: 0.0,
            multiplier: self.multiplier,
            max_interval: self.max,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        let mut bound = self.initial;
        // 64 doublings exceed any configurable maximum; more steps change nothing.
        for _ in 0..attempt.min(64) {
            bound = policy.next_backoff().unwrap_or(self.max);
        }
        bound.min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::ServerHint;
    use proptest::prelude::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            initial: Duration::from_secs(1),
            multiplier: 2.0,
            max: Duration::from_secs(900),
            max_attempts: 20,
            max_server_delay: Duration::from_secs(3600),
        }
    }

    fn failure(class: ErrorClass, retryable: Option<bool>, after: Option<u64>) -> Failure {
        Failure {
            hint: ServerHint {
                retryable,
                retry_after: after.map(Duration::from_secs),
            },
            ..Failure::new(class, "x")
        }
    }

    #[test]
    fn without_a_hint_the_class_decides() {
        use ErrorClass::*;
        for class in ErrorClass::ALL {
            let dead = matches!(
                class,
                NotFound | InvalidRequest | SettleTimeout | ToolsFailed | Storage
            );
            let decision = policy().decide(&failure(class, None, None), 1, 0, 0.5);
            assert_eq!(decision == RetryDecision::GiveUp, dead, "{class}");
        }
    }

    #[test]
    fn the_servers_retryable_beats_the_class_but_not_a_not_found() {
        let decide =
            |class, retryable| policy().decide(&failure(class, Some(retryable), None), 1, 0, 0.5);
        assert_eq!(decide(ErrorClass::Upstream, false), RetryDecision::GiveUp);
        assert_ne!(
            decide(ErrorClass::InvalidRequest, true),
            RetryDecision::GiveUp
        );
        assert_eq!(decide(ErrorClass::NotFound, true), RetryDecision::GiveUp);
    }

    #[test]
    fn the_bound_doubles_up_to_the_maximum() {
        let seconds: Vec<_> = (1..=12).map(|n| policy().bound(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
        assert_eq!(policy().bound(u32::MAX), Duration::from_secs(900));
    }

    #[test]
    fn the_last_attempt_gives_up_and_so_does_the_fourth_malformed_answer() {
        let network = failure(ErrorClass::Network, Some(true), None);
        assert_ne!(policy().decide(&network, 19, 0, 0.5), RetryDecision::GiveUp);
        assert_eq!(policy().decide(&network, 20, 0, 0.5), RetryDecision::GiveUp);
        let protocol = failure(ErrorClass::Protocol, None, None);
        assert_ne!(policy().decide(&protocol, 3, 3, 0.5), RetryDecision::GiveUp);
        assert_eq!(policy().decide(&protocol, 4, 4, 0.5), RetryDecision::GiveUp);
    }

    proptest! {
        #[test]
        fn a_delay_is_never_below_what_the_server_asked_nor_above_the_limits(
            attempt in 1u32..20, roll in 0.0f64..1.0, asked in proptest::option::of(0u64..100_000)
        ) {
            let failure = failure(ErrorClass::Upstream, None, asked);
            let RetryDecision::Retry { delay, server_delay } = policy().decide(&failure, attempt, 0, roll) else {
                return Err(TestCaseError::fail("an upstream failure is retried"));
            };
            let floor = asked.map(|s| Duration::from_secs(s.min(3600)));
            prop_assert_eq!(server_delay, floor);
            prop_assert!(delay >= floor.unwrap_or_default());
            prop_assert!(delay <= policy().bound(attempt).max(floor.unwrap_or_default()));
        }
    }
}

//! How much of the configured limit an account draws while the API's true limit is lower, as when others use up a part
//! of it: down by a share at a refusal, up by a little a minute (additive increase, multiplicative decrease).

use crate::domain::pause::Pause;
use crate::domain::pause::PauseReason;
use chrono::DateTime;
use chrono::Utc;

/// What a refusal leaves of the pace.
const AFTER_REFUSAL: f64 = 0.8;

/// The smallest pace. Where the true limit is lower still, pauses do the rest.
const LEAST: f64 = 0.05;

/// What is added per second: back from a half to the whole in 50 minutes, and one round of refusals in about 10 minutes
/// while the true limit stays below the configured one.
pub const CLIMB_PER_SECOND: f64 = 0.01 / 60.0;

/// The part of the limit that an account draws. It is kept as of a moment and climbs from there without being written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// As of `since`, in `0.0..=1.0`.
    pub share: f64,
    /// From when it climbs, on the database's clock; later than now while a pause is to come to its end first.
    pub since: DateTime<Utc>,
}

impl Pace {
    /// The part of the limit that may be drawn at `now`, in `0.0..=1.0`. The claim computes the same in SQL.
    pub fn share_at(self, now: DateTime<Utc>) -> f64 {
        let climbed = (now - self.since).as_seconds_f64().max(0.0) * CLIMB_PER_SECOND;
        (self.share + climbed).min(1.0)
    }

    /// The pace after a 429 to a call that was claimed at `claimed_at`.
    ///
    /// One round of refusals counts once: the calls that were under way together were all drawn at the same pace. A
    /// refused probe says that the window is not over yet, nothing of the pace; do not ask for it.
    #[must_use]
    pub fn refused(self, claimed_at: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        if claimed_at <= self.since {
            return self;
        }
        Self {
            share: (self.share_at(now) * AFTER_REFUSAL).max(LEAST),
            since: now,
        }
    }

    /// The pace after what a batch made of the account's pause: while nothing is sent for the limit's sake nothing is
    /// learned of it, so a long pause does not bring the pace back.
    #[must_use]
    pub fn held(self, before: Option<Pause>, after: Option<Pause>, now: DateTime<Utc>) -> Self {
        let limited = |pause: Option<Pause>| pause.filter(|p| p.reason == PauseReason::RateLimited);
        match (limited(before), limited(after)) {
            (_, Some(pause)) => Self {
                since: self.since.max(pause.until),
                ..self
            },
            (Some(_), None) => Self { since: now, ..self },
            (None, None) => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::AccountWord;
    use crate::domain::Budget;
    use crate::domain::ErrorClass;
    use crate::domain::pause::pause_after;
    use crate::domain::verdict::fixture::time;
    use chrono::TimeDelta;
    use std::collections::VecDeque;
    use std::time::Duration;

    const FULL: Pace = Pace {
        share: 1.0,
        since: DateTime::UNIX_EPOCH,
    };

    #[test]
    fn a_round_of_refusals_counts_once_and_the_next_round_again() {
        let once = FULL.refused(time(9), time(10));
        assert_eq!(once.share, 0.8);
        assert_eq!(once.refused(time(10), time(12)), once);
        assert!((once.refused(time(11), time(12)).share - 0.64).abs() < 0.001);
    }

    #[test]
    fn it_climbs_with_time_but_not_during_a_pause_for_the_limits_sake_however_long() {
        let pace = Pace {
            share: 0.5,
            since: time(0),
        };
        assert!((pace.share_at(time(600)) - 0.6).abs() < 1e-9);
        assert_eq!(pace.share_at(time(100_000)), 1.0);
        assert_eq!(pace.share_at(time(-5)), 0.5, "a clock that went back");
        let pause = |reason| {
            Some(Pause {
                reason,
                until: time(3_600),
                step: 1,
            })
        };
        let limited = pause(PauseReason::RateLimited);
        let held = pace.held(None, limited, time(1));
        assert_eq!(held.share_at(time(3_600)), 0.5);
        assert_eq!(held.held(limited, None, time(3_700)).since, time(3_700));
        let auth = pause(PauseReason::Auth);
        assert_eq!(pace.held(None, auth, time(1)), pace);
        assert_eq!(pace.held(auth, None, time(1)), pace);
    }

    #[test]
    fn it_never_falls_to_nothing() {
        let fallen = (1..100).fold(FULL, |pace, n| pace.refused(time(n), time(n)));
        assert_eq!(fallen.share, LEAST);
    }

    /// An API with a true limit, and an account that works for it without end. Time goes in steps of 50 ms.
    struct Simulation {
        limit: usize,
        sliding: bool,
        /// The API says how long to wait, rather than nothing.
        tells: bool,
        accepted: VecDeque<i64>,
        pace: Pace,
        pause: Option<Pause>,
        probing: bool,
        tokens: f64,
        /// When it was claimed, whether it was accepted, whether it was the probe.
        under_way: VecDeque<(i64, bool, bool)>,
        now: i64,
    }

    const STEP_MS: i64 = 50;
    const LATENCY_MS: i64 = 200;
    const MINUTE_MS: i64 = 60_000;
    const CONFIGURED: u32 = 600;

    impl Simulation {
        fn new(limit: usize, sliding: bool, tells: bool) -> Self {
            Self {
                limit,
                sliding,
                tells,
                accepted: VecDeque::new(),
                pace: FULL,
                pause: None,
                probing: false,
                tokens: 1.0,
                under_way: VecDeque::new(),
                now: 0,
            }
        }

        fn at(ms: i64) -> DateTime<Utc> {
            time(0) + TimeDelta::milliseconds(ms)
        }

        /// Answers of this step; returns how many were refusals.
        fn hear(&mut self) -> usize {
            let mut refusals = 0;
            while let Some((claimed, good, probe)) = self.under_way.front().copied() {
                if claimed + LATENCY_MS > self.now {
                    break;
                }
                self.under_way.pop_front();
                self.probing &= !probe;
                let now = Self::at(self.now);
                let left = match (self.sliding, self.accepted.front()) {
                    (true, Some(oldest)) => oldest + MINUTE_MS - self.now,
                    _ => MINUTE_MS - self.now % MINUTE_MS,
                };
                let word = if good {
                    AccountWord::Works
                } else {
                    refusals += 1;
                    AccountWord::Refused {
                        class: ErrorClass::RateLimited,
                        delay: self
                            .tells
                            .then(|| Duration::from_millis(left.max(1_000).unsigned_abs())),
                    }
                };
                let after = pause_after(self.pause, &word, probe, now);
                if !good && !probe {
                    self.pace = self.pace.refused(Self::at(claimed), now);
                }
                self.pace = self.pace.held(self.pause, after, now);
                self.pause = after;
            }
            refusals
        }

        /// Calls of this step; returns how many were accepted.
        fn send(&mut self) -> usize {
            let budget =
                Budget::per_minute(CONFIGURED).at_pace(self.pace.share_at(Self::at(self.now)));
            self.tokens = (self.tokens + budget.rate * STEP_MS as f64 / 1_000.0).min(budget.burst);
            let most = match self.pause {
                Some(pause) if self.probing || pause.until > Self::at(self.now) => 0.0,
                Some(_) => 1.0,
                None => self.tokens,
            };
            let mut accepted = 0;
            while self.tokens >= 1.0 && most >= 1.0 && !self.probing {
                self.tokens -= 1.0;
                let begun = if self.sliding {
                    self.now - MINUTE_MS + 1
                } else {
                    self.now - self.now % MINUTE_MS
                };
                while self.accepted.front().is_some_and(|at| *at < begun) {
                    self.accepted.pop_front();
                }
                let good = self.accepted.len() < self.limit;
                if good {
                    self.accepted.push_back(self.now);
                    accepted += 1;
                }
                self.probing = self.pause.is_some();
                self.under_way.push_back((self.now, good, self.probing));
            }
            accepted
        }

        /// Runs on; returns the calls accepted and refused.
        fn run(&mut self, minutes: i64) -> (usize, usize) {
            let end = self.now + minutes * MINUTE_MS;
            let (mut accepted, mut refused) = (0, 0);
            while self.now < end {
                refused += self.hear();
                accepted += self.send();
                self.now += STEP_MS;
            }
            (accepted, refused)
        }
    }

    #[test]
    fn of_a_lower_true_limit_most_is_used_with_few_refusals_and_all_of_it_again_when_it_is_lifted()
    {
        for sliding in [false, true] {
            for tells in [false, true] {
                for limit in [120, 300, 540] {
                    let mut api = Simulation::new(limit, sliding, tells);
                    api.run(60);
                    let (accepted, refused) = api.run(180);
                    let used = accepted as f64 / (limit * 180) as f64;
                    let case = format!(
                        "{limit} of 600, sliding {sliding}, told {tells}: {used:.2} used, {:.1} refused an hour",
                        refused as f64 / 3.0
                    );
                    println!("{case}");
                    assert!(used > 0.88, "{case}");
                    assert!(refused <= 3 * 20, "{case}");
                    api.limit = 6_000;
                    api.run(100);
                    let (accepted, refused) = api.run(10);
                    assert!(accepted > 5_850 && refused == 0, "{case}, then {accepted}");
                }
            }
        }
    }

    #[test]
    fn an_api_that_keeps_to_the_configured_limit_is_never_slowed_for() {
        for sliding in [false, true] {
            let mut api = Simulation::new(600, sliding, true);
            let (accepted, refused) = api.run(60);
            assert_eq!(refused, 0);
            assert!(accepted > 600 * 60 * 97 / 100);
        }
    }
}

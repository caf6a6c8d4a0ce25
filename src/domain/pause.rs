//! How long an account stays silent after the API has refused it.

use crate::domain::failure::ErrorClass;
use crate::domain::settle::time_delta;
use crate::domain::verdict::AccountWord;
use chrono::DateTime;
use chrono::Utc;
use std::time::Duration;

/// A server that asks for no delay at all is still not asked again at once, and ever later where it refuses again.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Why the API keeps an account from working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseReason {
    /// The key was refused.
    Auth,
    /// The limit was exceeded.
    RateLimited,
}

impl PauseReason {
    /// The word used in tables and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => ErrorClass::Auth.as_str(),
            Self::RateLimited => ErrorClass::RateLimited.as_str(),
        }
    }

    /// The reason that a table's word names.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Auth, Self::RateLimited]
            .into_iter()
            .find(|reason| reason.as_str() == word)
    }

    /// First pause where the server names none. The first after a refused key is below the promised 5 s, so that
    /// the probe itself goes out within them.
    fn first(self) -> Duration {
        match self {
            Self::Auth => Duration::from_secs(4),
            Self::RateLimited => Duration::from_secs(5),
        }
    }

    fn pause(self, step: u32) -> Duration {
        grown(self.first(), step)
    }
}

/// `first`, doubled with every step after the first one, up to the longest.
fn grown(first: Duration, step: u32) -> Duration {
    let doublings = step.saturating_sub(1).min(8);
    first.saturating_mul(1 << doublings).min(LONGEST)
}

/// A pause of an account. After `until`, one call at a time probes whether it works again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Why.
    pub reason: PauseReason,
    /// No call before, on the database's clock.
    pub until: DateTime<Utc>,
    /// Refusals in a row, from 1.
    pub step: u32,
}

/// The pause that follows from `word`, which came from the account's single probe or from a call that was under
/// way anyway. `None` means that the account works.
pub fn pause_after(
    current: Option<Pause>,
    word: &AccountWord,
    probe: bool,
    now: DateTime<Utc>,
) -> Option<Pause> {
    match (current, word) {
        (_, AccountWord::Refused { class, delay }) => {
            let reason = match class {
                ErrorClass::Auth => PauseReason::Auth,
                _ => PauseReason::RateLimited,
            };
            // A revoked key is not cured by waiting as long as some proxy suggests: probes keep their rhythm.
            let asked = delay.filter(|_| reason == PauseReason::RateLimited);
            match current {
                Some(pause) if !probe => Some(Pause {
                    reason: if pause.reason == PauseReason::Auth {
                        pause.reason
                    } else {
                        reason
                    },
                    until: asked.map_or(pause.until, |asked| {
                        pause.until.max(now + time_delta(asked.max(SHORTEST)))
                    }),
                    step: pause.step,
                }),
                _ => {
                    let step = current.map_or(0, |pause| pause.step).saturating_add(1);
                    let delay = match asked {
                        Some(asked) if asked < SHORTEST => grown(SHORTEST, step),
                        Some(asked) => asked,
                        None => reason.pause(step),
                    };
                    Some(Pause {
                        reason,
                        until: now + time_delta(delay),
                        step,
                    })
                }
            }
        }
        (Some(_), AccountWord::Works) if probe => None,
        (Some(pause), AccountWord::Answered)
            if probe && pause.reason == PauseReason::RateLimited =>
        {
            None
        }
        (Some(pause), AccountWord::Answered | AccountWord::Silent) if probe => Some(Pause {
            until: now + time_delta(pause.reason.pause(pause.step)),
            ..pause
        }),
        (current, _) => current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::verdict::fixture::time;

    fn refused(class: ErrorClass, delay: Option<u64>) -> AccountWord {
        AccountWord::Refused {
            class,
            delay: delay.map(Duration::from_secs),
        }
    }

    fn seconds(pause: Option<Pause>, now: DateTime<Utc>) -> i64 {
        (pause.unwrap().until - now).num_seconds()
    }

    #[test]
    fn probes_of_a_refused_key_come_within_five_seconds_then_ever_later_up_to_sixty() {
        let (mut pause, mut waits) = (None, Vec::new());
        for _ in 0..6 {
            pause = pause_after(
                pause,
                &refused(ErrorClass::Auth, Some(9_999)),
                true,
                time(0),
            );
            waits.push(seconds(pause, time(0)));
        }
        assert_eq!(waits, [4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn a_429_pauses_as_long_as_the_server_asks_and_else_from_five_to_sixty_seconds() {
        let asked = pause_after(
            None,
            &refused(ErrorClass::RateLimited, Some(17)),
            false,
            time(0),
        );
        assert_eq!(seconds(asked, time(0)), 17);
        let (mut pause, mut waits) = (None, Vec::new());
        for _ in 0..6 {
            pause = pause_after(
                pause,
                &refused(ErrorClass::RateLimited, None),
                true,
                time(0),
            );
            waits.push(seconds(pause, time(0)));
        }
        assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
    }

    #[test]
    fn a_server_that_says_at_once_and_refuses_again_is_asked_ever_later() {
        let (mut pause, mut waits) = (None, Vec::new());
        for _ in 0..8 {
            pause = pause_after(
                pause,
                &refused(ErrorClass::RateLimited, Some(0)),
                true,
                time(0),
            );
            waits.push(seconds(pause, time(0)));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn refusals_of_calls_already_under_way_do_not_prolong_the_pause_unless_the_server_says_so() {
        let first = pause_after(
            None,
            &refused(ErrorClass::RateLimited, None),
            false,
            time(0),
        );
        let second = pause_after(
            first,
            &refused(ErrorClass::RateLimited, None),
            false,
            time(1),
        );
        assert_eq!(second, first);
        let told = pause_after(
            second,
            &refused(ErrorClass::RateLimited, Some(30)),
            false,
            time(1),
        );
        assert_eq!(seconds(told, time(1)), 30);
    }

    #[test]
    fn only_the_probe_ends_a_pause_and_only_a_proof_ends_one_for_a_refused_key() {
        let auth = pause_after(None, &refused(ErrorClass::Auth, None), false, time(0));
        assert_eq!(pause_after(auth, &AccountWord::Works, false, time(1)), auth);
        assert_eq!(pause_after(auth, &AccountWord::Works, true, time(1)), None);
        assert_eq!(
            seconds(
                pause_after(auth, &AccountWord::Answered, true, time(9)),
                time(9)
            ),
            4
        );
        assert_eq!(
            seconds(
                pause_after(auth, &AccountWord::Silent, true, time(9)),
                time(9)
            ),
            4
        );
        let limited = pause_after(
            None,
            &refused(ErrorClass::RateLimited, None),
            false,
            time(0),
        );
        assert_eq!(
            pause_after(limited, &AccountWord::Answered, true, time(9)),
            None
        );
    }

    #[test]
    fn an_account_that_works_stays_working() {
        for word in [
            AccountWord::Works,
            AccountWord::Answered,
            AccountWord::Silent,
        ] {
            for probe in [true, false] {
                assert_eq!(pause_after(None, &word, probe, time(0)), None);
            }
        }
    }
}

//! How much of the inbox has been seen, so that looking into it does not cost what is dead in its index.

use crate::store::Look;
use crate::store::TakenIn;
use std::time::Duration;
use std::time::Instant;

/// After a look at everything, what came since is looked at for so many times as long as that took.
const EVERYTHING_HOLDS: u32 = 10;
/// After a quick one, all of it is looked at each time: nothing there is slow to walk over.
const QUICK: Duration = Duration::from_millis(2);
/// And no longer than this: a request that was committed late, behind others, waits for a look at everything.
const EVERYTHING_HOLDS_MOST: Duration = Duration::from_secs(2);

/// After a look into the inbox it is left alone for so many times as long as the look took: whatever makes looking
/// slow (a backlog, dead rows that a snapshot keeps, a producer's open transaction), claims have most of the time.
pub(super) const REST: u32 = 3;
/// And no longer than this, or a moment's trouble would keep requests waiting long after it.
const REST_MOST: Duration = Duration::from_secs(2);
/// A look that found nothing is left no longer than this, or as long again as it took: what made it slow may be a producer's
/// large transaction, and the next thing that is heard of is its end.
const REST_IN_VAIN: Duration = Duration::from_millis(500);

/// What has been seen of the inbox.
#[derive(Default)]
pub(super) struct Inbox {
    /// Before it is nothing to be had, but for what was committed late.
    from: Option<i64>,
    /// Until then looks go on from there.
    until: Option<Instant>,
}

impl Inbox {
    /// Where the next look goes on; `None`: it looks at everything.
    pub(super) fn goes_on(&self, now: Instant) -> Option<i64> {
        self.from
            .filter(|_| self.until.is_some_and(|until| until > now))
    }

    /// When the next look is at everything.
    pub(super) fn everything_in(&self, now: Instant) -> Duration {
        self.until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// What a look has found that ended `now`. While somebody's snapshot is open, looking at everything costs as much as
    /// there is dead in the indexes, so it is done for a tenth of the time; at once, where something was left behind.
    pub(super) fn note(&mut self, look: &Look<'_>, taken: &TakenIn, now: Instant, took: Duration) {
        if taken.another_was_looking() {
            return;
        }
        if look.from.is_none() {
            let holds = (took * EVERYTHING_HOLDS).min(EVERYTHING_HOLDS_MOST);
            self.until = Some(now + holds).filter(|_| took > QUICK);
            // What was committed late takes it back, and what lies between is seen once more.
            self.from = taken.next.or(self.from);
        }
        self.from = self.from.max(taken.next);
        if taken.left || !taken.passed_over.is_empty() {
            self.until = None;
        }
    }
}

/// How long the inbox is left alone after a look that took so long, and found something there or nothing.
pub(super) fn rest(took: Duration, found: bool) -> Duration {
    let rest = (took * REST).min(REST_MOST);
    if found {
        rest
    } else {
        rest.min(took.max(REST_IN_VAIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const TOOK: Duration = Duration::from_millis(20);

    fn look(from: Option<i64>) -> Look<'static> {
        Look {
            limit: 10,
            from,
            running: &[],
        }
    }

    fn found(next: i64) -> TakenIn {
        TakenIn {
            next: Some(next),
            ..TakenIn::default()
        }
    }

    #[test]
    fn looks_go_on_where_the_last_one_ended_for_ten_times_as_long_as_a_look_at_everything_took() {
        let (mut inbox, start) = (Inbox::default(), Instant::now());
        assert_eq!(inbox.goes_on(start), None);
        inbox.note(&look(None), &found(8), start, TOOK);
        assert_eq!(inbox.goes_on(start + TOOK * 9), Some(8));
        assert_eq!(inbox.everything_in(start + TOOK * 9), TOOK);
        inbox.note(&look(Some(8)), &found(12), start + TOOK, TOOK);
        inbox.note(&look(Some(12)), &TakenIn::default(), start + TOOK, TOOK);
        assert_eq!(inbox.goes_on(start + TOOK * 9), Some(12));
        assert_eq!(inbox.goes_on(start + TOOK * 11), None);
    }

    #[test]
    fn after_a_quick_look_all_of_it_is_looked_at_again() {
        let (mut inbox, start) = (Inbox::default(), Instant::now());
        inbox.note(&look(None), &found(8), start, TOOK);
        assert_eq!(inbox.goes_on(start), Some(8));
        inbox.note(&look(None), &found(9), start, QUICK);
        assert_eq!(inbox.goes_on(start), None);
    }

    #[test]
    fn what_was_committed_late_takes_the_next_look_back() {
        let (mut inbox, start) = (Inbox::default(), Instant::now());
        inbox.note(&look(None), &found(100), start, TOOK);
        inbox.note(&look(None), &found(41), start, TOOK);
        assert_eq!(inbox.goes_on(start), Some(41));
    }

    #[test]
    fn what_was_left_or_passed_over_is_looked_at_again() {
        let start = Instant::now();
        let left = TakenIn {
            left: true,
            ..found(9)
        };
        let passed_over = TakenIn {
            passed_over: vec![Uuid::nil()],
            ..found(9)
        };
        for taken in [left, passed_over] {
            let mut inbox = Inbox::default();
            inbox.note(&look(None), &taken, start, TOOK);
            assert_eq!(inbox.goes_on(start), None);
        }
    }

    #[test]
    fn a_look_while_another_replica_was_looking_has_seen_nothing() {
        let (mut inbox, start) = (Inbox::default(), Instant::now());
        let another_was_looking = TakenIn {
            left: true,
            ..TakenIn::default()
        };
        inbox.note(&look(None), &another_was_looking, start, TOOK);
        assert_eq!(inbox.goes_on(start), None);
        inbox.note(&look(None), &found(8), start, TOOK);
        inbox.note(&look(Some(8)), &another_was_looking, start, TOOK);
        assert_eq!(inbox.goes_on(start), Some(8));
    }

    #[test]
    fn an_inbox_that_takes_long_to_look_through_is_looked_through_every_two_seconds() {
        let (mut inbox, start) = (Inbox::default(), Instant::now());
        inbox.note(&look(None), &found(8), start, Duration::from_secs(3));
        assert_eq!(inbox.goes_on(start + Duration::from_millis(1_999)), Some(8));
        assert_eq!(inbox.goes_on(start + Duration::from_millis(2_001)), None);
    }

    #[test]
    fn a_slow_look_leaves_the_inbox_alone_for_longer_if_it_found_something() {
        let cases = [
            (10, 30, 30),
            (160, 480, 480),
            (300, 900, 500),
            (600, 1_800, 600),
            (5_000, 2_000, 2_000),
        ];
        for (took, found, nothing) in cases {
            let took = Duration::from_millis(took);
            assert_eq!(rest(took, true), Duration::from_millis(found), "{took:?}");
            assert_eq!(
                rest(took, false),
                Duration::from_millis(nothing),
                "{took:?}"
            );
        }
    }
}

//! A request that comes while there is nothing else to do: begun at once, by one statement instead of two.

use crate::failpoint::Point;
use crate::failpoint::reach;
use crate::store::Lone;
use crate::store::LoneRequest;
use crate::store::Look;
use crate::store::TakenIn;
use crate::worker::Again;
use crate::worker::Running;
use crate::worker::Tick;
use crate::worker::Worker;
use crate::worker::inbox;
use crate::worker::tick::WHAT;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

/// Whether requests may be begun one by one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Ease {
    /// There may be something else to do.
    #[default]
    Busy,
    /// The last whole tick left nothing to do.
    Idle,
    /// Nor did it when some have been begun since; what else there may be is looked for by then.
    Until(Instant),
}

impl Ease {
    /// Until when one more may be begun `now`, where whole ticks come so often. Those that are begun do not put it off.
    fn until(&self, now: Instant, every: Duration) -> Option<Instant> {
        match self {
            Self::Busy => None,
            Self::Idle => Some(now + every),
            Self::Until(until) => Some(*until).filter(|until| *until > now),
        }
    }
}

impl Worker {
    /// Begins the request that has woken this replica, where there is no other and the last tick left nothing to do.
    /// `None`: a whole tick has to see to it.
    pub(super) async fn begin_lone(self: &Arc<Self>, running: &mut Running) -> Option<Tick> {
        let now = self.clock.now();
        // Sooner by chance, or where requests come at a steady pace each whole tick would meet one of them.
        let every = self.settings.poll_interval;
        let every = every.mul_f64(0.75 + 0.25 * self.dice.roll());
        let until = running.ease.until(now, every)?;
        // What was committed late lies before where the looks go on.
        let looks_go_on = running.inbox.goes_on(now).is_some();
        let rests = running.inbox_rests_until.is_some_and(|until| until > now);
        let stops = running.lifecycle.stop.is_cancelled();
        if !self.heard.only_requests() || looks_go_on || rests || stops || running.unheard.is_some()
        {
            return None;
        }
        let candidates = self
            .accounts
            .iter()
            .filter(|account| account.rest(now).is_none() && self.slots.free_for(account) > 0);
        let accounts: Vec<_> = candidates
            .map(|account| (account.name.clone(), account.budget()))
            .collect();
        if accounts.is_empty() {
            return None;
        }
        reach(Point::BeforeClaim);
        self.give_sign(WHAT, Duration::ZERO);
        self.heard.forget_requests();
        let asked = LoneRequest {
            accounts: &accounts,
            lease: self.settings.lease,
            worker: &self.settings.name,
        };
        let begun = self.db.begin_lone(&asked).await;
        let answered = self.clock.now();
        let Ok(Some(Lone { job, next })) = begun else {
            self.heard.note();
            // The whole tick that follows meets the same trouble, and tells of it.
            if let Err(error) = begun {
                self.note_unheard(running, &error);
            }
            return None;
        };
        reach(Point::TakenIn);
        let account = self.accounts.iter().find(|a| a.name == job.account);
        // It is one of those, and nobody else has taken slots meanwhile; were it otherwise, the lease would run out.
        let (account, permits) =
            account.and_then(|account| Some((account, self.slots.acquire(account, 1)?)))?;
        let took = answered.saturating_duration_since(now);
        let look = Look {
            limit: 1,
            from: None,
            running: &[],
        };
        let taken = TakenIn {
            requests: 1,
            next: Some(next),
            ..TakenIn::default()
        };
        running.inbox.note(&look, &taken, answered, took);
        running.inbox_rests_until = Some(answered + inbox::rest(took, true));
        running.ease = Ease::Until(until);
        let drawn_at = account.drawn_at(now, answered);
        self.start(vec![job], account, drawn_at, permits, running);
        Some(Tick {
            taken_in: 1,
            claimed: 1,
            again: Again::After(until.saturating_duration_since(answered)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_are_begun_one_by_one_do_not_put_off_the_next_whole_tick() {
        let (every, start) = (Duration::from_secs(1), Instant::now());
        assert_eq!(Ease::Busy.until(start, every), None);
        let until = Ease::Idle.until(start, every);
        assert_eq!(until, Some(start + every));
        let ease = until.map_or(Ease::Busy, Ease::Until);
        assert_eq!(ease.until(start + every / 2, every), Some(start + every));
        assert_eq!(ease.until(start + every, every), None);
    }
}

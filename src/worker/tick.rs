//! One step of the loop: take in, claim, start.

use crate::domain::Job;
use crate::domain::Phase;
use crate::failpoint::Point;
use crate::failpoint::reach;
use crate::metrics::OfAccount;
use crate::store::Claim;
use crate::store::ClaimRequest;
use crate::store::Look;
use crate::store::StoreError;
use crate::store::TakenIn;
use crate::worker::Account;
use crate::worker::Running;
use crate::worker::Worker;
use crate::worker::inbox;
use crate::worker::inbox::REST;
use crate::worker::lone::Ease;
use crate::worker::slots::Permits;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// Requests taken in by one statement, and up to ten times as many for the same connections.
const TAKE_IN: u32 = 1_000;
/// While all slots are taken the inbox is looked into this often; claims alone come more often.
const TAKE_IN_EVERY: Duration = Duration::from_millis(50);
/// After a look that has taken in several requests, so long for each is left to those that come next, up to the above.
const GATHER: Duration = Duration::from_millis(1);
/// Once all of it has been taken in, the inbox is left alone for this part of the time between polls, unless somebody
/// says that there is something new: less than any poll's jitter, so that each poll looks.
const QUIET: f64 = 0.7;
/// When the budget is the limit, claims are gathered this long rather than made one by one.
const BUDGET_STEP: Duration = Duration::from_millis(40);
/// A paused account is looked at again this often, in case the pause was ended by hand.
const PAUSE_STEP: Duration = Duration::from_secs(5);
/// What the loop does, and trouble keeps from being done.
pub(super) const WHAT: &str = "take in and claim";
/// One claim in so many prefers polls over finalizes, so that a backlog of new work cannot keep settling
/// connections waiting for ever.
const POLL_SHARE: f64 = 0.25;

/// What one tick did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Requests taken in.
    pub taken_in: u64,
    /// Jobs claimed and started.
    pub claimed: usize,
    /// When to tick again, unless woken.
    pub again: Again,
}

/// When to tick again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Again {
    /// After this long.
    After(Duration),
    /// When a slot becomes free or a poll is due.
    Idle,
    /// After trouble: not sooner, whoever wakes us.
    NotBefore(Duration),
}

impl Worker {
    /// Takes in, claims and starts: one step of the loop.
    pub async fn tick(self: &Arc<Self>, running: &mut Running) -> Tick {
        if let Some(tick) = self.begin_lone(running).await {
            return tick;
        }
        running.ease = Ease::Busy;
        let began = self.clock.now();
        self.lock_progress().ticked_at = began;
        self.give_sign(WHAT, Duration::ZERO);
        match self.try_tick(running).await {
            Ok((tick, hindered)) => {
                if hindered.is_none() && tick.again == Again::Idle && !self.slots.are_short() {
                    running.ease = Ease::Idle;
                }
                match hindered {
                    // While what was in the way rests, nobody knows.
                    None if running.hindered_until.is_some_and(|until| until > began) => {}
                    None => self.note_success(WHAT),
                    Some(error) => self.note_trouble(WHAT, &error),
                }
                running.waits.start_over();
                running.failed = 0;
                tick
            }
            Err(error) => {
                running.failed = running.failed.saturating_add(1);
                self.heard.note_found(&TakenIn::default());
                let took = self.clock.now().saturating_duration_since(began);
                if !error.is_over_at_once(running.failed, took) {
                    self.note_trouble(WHAT, &error);
                }
                Tick {
                    taken_in: 0,
                    claimed: 0,
                    again: Again::NotBefore(running.waits.next(&self.dice)),
                }
            }
        }
    }

    /// With what keeps a part of it from being done, while the rest goes on.
    async fn try_tick(
        self: &Arc<Self>,
        running: &mut Running,
    ) -> Result<(Tick, Option<StoreError>), StoreError> {
        let mut tick = Tick {
            taken_in: 0,
            claimed: 0,
            again: Again::Idle,
        };
        self.give_back_unheard(running).await?;
        let (mut hindered, mut looked_in) = (None, None);
        let mut nothing_waits = false;
        let now = self.clock.now();
        let quiet = running.inbox_quiet_until.is_some_and(|until| until > now);
        match running.inbox_rests_until.filter(|until| *until > now) {
            _ if quiet && !self.heard.anything() => {}
            Some(until) => tick.again = Again::After(until - now),
            None => {
                running.inbox_quiet_until = None;
                self.heard.forget();
                let commits = self.commits.load(Ordering::SeqCst);
                let at_work = self.at_work();
                let look = Look {
                    limit: TAKE_IN,
                    from: running.inbox.goes_on(now),
                    running: &at_work,
                };
                let taken = match self.db.take_in(&look).await {
                    // Somebody's lock on the inbox keeps nobody from what is in the queue already.
                    Err(error) if error.is_in_the_way() => {
                        hindered = Some(error);
                        TakenIn::default()
                    }
                    taken => taken?,
                };
                let looked = self.clock.now();
                self.give_sign(WHAT, Duration::ZERO);
                let took = looked.saturating_duration_since(now);
                if hindered.is_none() {
                    running.inbox.note(&look, &taken, looked, took);
                }
                let rest = match hindered {
                    None => inbox::rest(took, taken.requests > 0 || taken.left),
                    Some(_) => (took * REST).max(BUDGET_STEP),
                };
                let gathering = gathering(taken.requests);
                let rest = rest.max(gathering);
                if hindered.is_some() {
                    running.hindered_until = Some(looked + rest);
                }
                running.inbox_rests_until = Some(looked + rest);
                looked_in = Some(looked);
                tick.taken_in = taken.requests;
                self.heard.note_found(&taken);
                for (name, lane) in &taken.lanes {
                    if let Some(account) = self.accounts.iter().find(|a| a.name == *name) {
                        account.note_lane(*lane);
                    }
                }
                if taken.requests > 0 {
                    reach(Point::TakenIn);
                }
                // What is due at once is claimed by this tick.
                if let Some(due_in) = taken.next_due_in.filter(|due_in| !due_in.is_zero()) {
                    self.note_due(due_in);
                }
                if hindered.is_some() || taken.left {
                    let rest = rest.max(TAKE_IN_EVERY);
                    running.inbox_rests_until = Some(looked + rest);
                    self.heard.note();
                    tick.again = Again::After(rest);
                } else if taken.requests >= u64::from(TAKE_IN) || !gathering.is_zero() {
                    tick.again = Again::After(rest);
                } else if look.from.is_some() {
                    // What was committed late lies before, and is waited for by nobody else.
                    tick.again = Again::After(rest.max(running.inbox.everything_in(looked)));
                } else {
                    running.inbox_quiet_until =
                        Some(looked + self.settings.poll_interval.mul_f64(QUIET));
                    nothing_waits = taken.pending == Some(false);
                }
                if hindered.is_none() {
                    if let Some(expired) = taken.expired {
                        self.note_leases(expired, looked);
                    }
                    let passed_over = !taken.passed_over.is_empty();
                    *self.lock_passed_over() = taken.passed_over.into_iter().collect();
                    // One of them may have been let go before this was known.
                    if passed_over && self.commits.load(Ordering::SeqCst) != commits {
                        self.stir();
                    }
                }
            }
        }
        if nothing_waits {
            self.slots.note_short(false);
            return Ok((tick, hindered));
        }
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut short = false;
        for index in 0..self.accounts.len() {
            let account = &self.accounts[(first + index) % self.accounts.len()];
            let asked_at = self.clock.now();
            self.give_sign(WHAT, Duration::ZERO);
            let slots = self.slots.free_for(account);
            let (claimed, again) = match self.claim(account, slots, running).await {
                Ok(done) => done,
                // Nor does a lock on one account's row keep the others from theirs.
                Err(error) if error.is_in_the_way() => {
                    let now = self.clock.now();
                    let rest = now.saturating_duration_since(asked_at) * REST;
                    let rest = rest.max(BUDGET_STEP);
                    account.rest_until(now + rest);
                    running.hindered_until = running.hindered_until.max(Some(now + rest));
                    hindered = Some(error);
                    (0, Again::After(rest))
                }
                Err(error) => {
                    self.note_unheard(running, &error);
                    return Err(error);
                }
            };
            // While an account rests, a slot more would not help it.
            short |= claimed == slots && again == Again::Idle;
            tick.claimed += claimed;
            tick.again = tick.again.min(again);
        }
        self.slots.note_short(short);
        // Counted from the look, not from now: ticks come faster than that, and would put the next look off for ever.
        if let Some(looked) = looked_in
            && self.slots.are_all_taken()
        {
            let soonest = looked + TAKE_IN_EVERY;
            running.inbox_rests_until = running.inbox_rests_until.max(Some(soonest));
        }
        Ok((tick, hindered))
    }

    async fn claim(
        self: &Arc<Self>,
        account: &Account,
        slots: usize,
        running: &Running,
    ) -> Result<(usize, Again), StoreError> {
        if let Some(left) = account.rest(self.clock.now()) {
            return Ok((0, Again::After(left)));
        }
        let Some(permits) = self.slots.acquire(account, slots) else {
            return Ok((0, Again::Idle));
        };
        if running.lifecycle.stop.is_cancelled() {
            return Ok((0, Again::Idle));
        }
        let prefer = if self.dice.roll() < POLL_SHARE {
            Phase::Settle
        } else {
            Phase::Finalize
        };
        reach(Point::BeforeClaim);
        let asked_at = self.clock.now();
        let known = account.known_lanes(asked_at);
        let everywhere = known.is_none();
        if known.as_ref().is_some_and(Vec::is_empty) {
            return Ok((0, account.everywhere_again(everywhere, asked_at)));
        }
        let refreshes = self.refreshes_for(account);
        self.slots.note_reserved(slots);
        let claim = self
            .db
            .claim(&ClaimRequest {
                account: &account.name,
                slots: u32::try_from(slots).unwrap_or(u32::MAX),
                budget: account.budget(),
                lease: self.settings.lease,
                worker: &self.settings.name,
                prefer,
                spare: self.settings.budget_share,
                refreshes,
                known: &known.unwrap_or_default(),
            })
            .await;
        self.slots.note_reserved(0);
        let now = self.clock.now();
        let took = now.saturating_duration_since(asked_at);
        let drawn_at = account.drawn_at(asked_at, now);
        Ok(match claim? {
            Claim::Nothing => {
                account.note_lanes(everywhere, Vec::new(), now, took);
                (0, account.everywhere_again(everywhere, now))
            }
            Claim::Budget(delay) => {
                let delay = delay.max(BUDGET_STEP);
                account.rest_until(now + delay);
                self.note_rate_wait(account, delay);
                (0, Again::After(delay))
            }
            Claim::Paused(delay) => {
                account.note_pause();
                account.look_everywhere();
                let delay = delay.min(PAUSE_STEP);
                account.rest_until(now + delay);
                (0, Again::After(delay))
            }
            Claim::Jobs {
                jobs,
                budget_bound,
                lanes,
            } => {
                let claimed = jobs.len();
                account.note_lanes(everywhere, lanes, now, took);
                let refreshed = jobs.iter().filter(|job| job.phase == Phase::Refresh);
                if refreshes >= 1.0 && refreshed.count() as f64 >= refreshes {
                    self.slots.note_full_of_refreshes();
                }
                self.start(jobs, account, drawn_at, permits, running);
                let again = if budget_bound {
                    self.note_rate_wait(account, BUDGET_STEP);
                    Again::After(BUDGET_STEP)
                } else if claimed < slots {
                    account.everywhere_again(everywhere, now)
                } else {
                    Again::Idle
                };
                (claimed, again)
            }
        })
    }

    /// Makes the calls of these jobs.
    pub(super) fn start(
        self: &Arc<Self>,
        jobs: Vec<Job>,
        account: &Account,
        drawn_at: Instant,
        mut permits: Permits,
        running: &Running,
    ) {
        reach(Point::Claimed);
        self.hold(&jobs);
        account.refresh_key_after_pause(jobs.iter().any(|job| job.probe));
        for job in jobs {
            // Fewer jobs than permits come back, never more.
            let Some(permit) = permits.split_one() else {
                break;
            };
            let task = self
                .clone()
                .execute(job, account.clone(), drawn_at, permit, running);
            running.tasks.spawn(task);
        }
    }

    fn note_rate_wait(&self, account: &Account, delay: Duration) {
        let account = account.name.to_string();
        self.metrics
            .rate_wait_seconds
            .get_or_create(&OfAccount { account })
            .inc_by(delay.as_secs_f64());
    }
}

/// How long requests are gathered after a look that has taken in so many, before the next look: where many ask, what the
/// next ones put in is taken in together, and found also if their wake-up was spared for that of another. A single request
/// keeps no other waiting, nor does a look that has found all it can hold.
fn gathering(requests: u64) -> Duration {
    if requests < 2 || requests >= u64::from(TAKE_IN) {
        return Duration::ZERO;
    }
    let requests = u32::try_from(requests).unwrap_or(TAKE_IN);
    (GATHER * requests).min(TAKE_IN_EVERY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_requests_a_look_finds_the_longer_the_next_ones_are_gathered() {
        let cases = [
            (0, 0),
            (1, 0),
            (2, 2),
            (30, 30),
            (200, 50),
            (999, 50),
            (1_000, 0),
            (1_250, 0),
        ];
        for (requests, ms) in cases {
            assert_eq!(gathering(requests), Duration::from_millis(ms), "{requests}");
        }
    }
}

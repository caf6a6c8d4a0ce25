//! Performs what people have asked for on all jobs that a filter matches: portion by portion, with as much time between
//! two as one takes, so that the database has the most of it for the work.

use crate::store::Begun;
use crate::store::Portion;
use crate::store::StoreError;
use crate::store::Turn;
use crate::worker::Outage;
use crate::worker::Worker;
use crate::worker::progress::LONGEST_OPERATION;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A turn is another replica's when no portion has been tried for so long: longer than one takes that is cut off, or the turn
/// would change hands each time, and nobody see how often that happens.
const LEASE: Duration = LONGEST_OPERATION;
/// How often to ask whether there is something to do, where nothing tells of it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// And where wake-ups are heard and nothing was left to do: a wake-up may be lost, or an older version give none.
const LOOK_UNTOLD: Duration = Duration::from_secs(15);
/// Between two portions, at least.
const BREATH: Duration = Duration::from_millis(20);
/// Until somebody else has done with a job.
const HELD_UP: Duration = Duration::from_millis(200);
/// After so many portions in a row that ran into their time an action fails: it would be in the way of all others for ever.
const CUT_OFFS: u32 = 5;

/// What a look has come to.
enum Looked {
    /// Something was done; more may wait behind it.
    Done,
    /// Others are at it, and one of them may die.
    Others,
    /// There was nothing to do.
    Nothing,
}

/// Portions in a row, of one action, that ran into their time.
#[derive(Default)]
struct CutOffs {
    action: i64,
    times: u32,
}

impl CutOffs {
    /// Why the action is to be given up after this error; not yet, or not for this one, where `None`.
    fn one_too_many(&mut self, action: i64, error: &StoreError) -> Option<StoreError> {
        if !matches!(error, StoreError::CutOff(_)) {
            return None;
        }
        if self.action != action {
            *self = Self { action, times: 0 };
        }
        self.times += 1;
        (self.times >= CUT_OFFS).then(|| {
            StoreError::Other(format!(
                "{CUT_OFFS} portions in a row took too long, the last: {error}. An index may be missing: `feather-sync \
                 migrate` builds those that are; then ask for it again"
            ))
        })
    }
}

impl Worker {
    pub(super) async fn act_until(self: Arc<Self>, stop: CancellationToken) {
        let mut outage = Outage::default();
        let mut cut_offs = CutOffs::default();
        while !stop.is_cancelled() {
            // Where the database is away, that is told.
            let mut pause = LOOK_EVERY;
            if self.lock_progress().trouble.is_empty() {
                match self.act_if_asked(&mut outage, &mut cut_offs, &stop).await {
                    Ok(Looked::Done) => pause = BREATH,
                    Ok(Looked::Others) => self.tell_it_works(&mut outage),
                    Ok(Looked::Nothing) => {
                        self.tell_it_works(&mut outage);
                        if self.listening.load(Ordering::Relaxed) {
                            pause = LOOK_UNTOLD;
                        }
                    }
                    Err(error) => self.tell_it_fails(&mut outage, &error),
                }
            }
            let pause = pause.mul_f64(0.75 + 0.25 * self.dice.roll());
            let told = tokio::time::timeout(pause, self.asked.notified());
            stop.run_until_cancelled(told).await;
        }
    }

    async fn act_if_asked(
        &self,
        outage: &mut Outage,
        cut_offs: &mut CutOffs,
        stop: &CancellationToken,
    ) -> Result<Looked, StoreError> {
        let mut turn = match self.db.begin_action(&self.settings.name, LEASE).await? {
            Begun::Turn(turn) => *turn,
            Begun::Others => return Ok(Looked::Others),
            Begun::Nothing => return Ok(Looked::Nothing),
        };
        while !stop.is_cancelled() {
            let began = self.clock.now();
            let pause = match self.db.act(&mut turn, LEASE).await {
                Ok(Portion::More(_)) => {
                    *cut_offs = CutOffs::default();
                    self.tell_it_works(outage);
                    self.clock
                        .now()
                        .saturating_duration_since(began)
                        .max(BREATH)
                }
                Ok(Portion::Locked) => HELD_UP,
                Ok(Portion::Over(ended, done)) => {
                    tracing::info!(
                        action = turn.id,
                        what = %turn,
                        outcome = ended.as_str(),
                        done,
                        "an action on all jobs of a filter is over"
                    );
                    return Ok(Looked::Done);
                }
                Ok(Portion::Lost) => return Ok(Looked::Others),
                Err(error) if error.is_passing() => {
                    self.tell_it_fails(outage, &error);
                    if let Some(error) = cut_offs.one_too_many(turn.id, &error) {
                        self.give_up(&turn, &error).await?;
                        return Ok(Looked::Done);
                    }
                    if error.is_in_the_way()
                        && let Err(error) = self.db.keep_action(&turn, LEASE).await
                    {
                        self.tell_it_fails(outage, &error);
                    }
                    LOOK_EVERY
                }
                Err(error) => {
                    self.give_up(&turn, &error).await?;
                    return Ok(Looked::Done);
                }
            };
            stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
        self.db.give_back_action(&turn).await?;
        Ok(Looked::Done)
    }

    /// What no waiting cures would be tried for ever.
    async fn give_up(&self, turn: &Turn, error: &StoreError) -> Result<(), StoreError> {
        tracing::error!(action = turn.id, what = %turn, %error, "an action on all jobs of a filter failed");
        self.db.fail_action(turn, &error.to_string()).await
    }

    fn tell_it_works(&self, outage: &mut Outage) {
        if outage.is_over(self.clock.now()).is_some() {
            tracing::info!("can do again what was asked for");
        }
    }

    fn tell_it_fails(&self, outage: &mut Outage, error: &StoreError) {
        self.count_error(error);
        if outage.goes_on(error.kind(), self.clock.now()) {
            tracing::warn!(%error, "cannot do what was asked for; trying again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_that_is_cut_off_again_and_again_is_given_up_with_what_helps() {
        let cut_off = StoreError::CutOff("statement timeout".to_owned());
        let mut cut_offs = CutOffs::default();
        for _ in 1..CUT_OFFS {
            assert!(cut_offs.one_too_many(1, &cut_off).is_none());
        }
        let away = StoreError::Timeout(LEASE);
        assert!(cut_offs.one_too_many(1, &away).is_none());
        let why = cut_offs.one_too_many(1, &cut_off).unwrap().to_string();
        assert!(why.contains("`feather-sync migrate`"), "{why}");
        assert!(cut_offs.one_too_many(2, &cut_off).is_none());
    }
}

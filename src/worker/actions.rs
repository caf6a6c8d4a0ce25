//! Performs what people have asked for on all jobs that a filter matches: portion by portion, with as much time between
//! two as one takes, so that the database has the most of it for the work.

use crate::store::Portion;
use crate::store::StoreError;
use crate::store::Turn;
use crate::worker::Outage;
use crate::worker::Worker;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A turn is another replica's when no portion has been done for so long.
const LEASE: Duration = Duration::from_secs(15);
/// How often to ask whether there is something to do.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two portions, at least.
const BREATH: Duration = Duration::from_millis(20);
/// Until somebody else has done with a job.
const HELD_UP: Duration = Duration::from_millis(200);

impl Worker {
    pub(super) async fn act_until(self: Arc<Self>, stop: CancellationToken) {
        let mut outage = Outage::default();
        while !stop.is_cancelled() {
            // Where the database is away, that is told.
            if self.lock_progress().trouble.is_empty() {
                match self.act_if_asked(&mut outage, &stop).await {
                    Ok(()) => self.tell_it_works(&mut outage),
                    Err(error) => self.tell_it_fails(&mut outage, &error),
                }
            }
            let pause = LOOK_EVERY.mul_f64(0.75 + 0.25 * self.dice.roll());
            stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }

    async fn act_if_asked(
        &self,
        outage: &mut Outage,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let Some(mut turn) = self.db.begin_action(&self.settings.name, LEASE).await? else {
            return Ok(());
        };
        while !stop.is_cancelled() {
            let began = self.clock.now();
            let pause = match self.db.act(&mut turn, LEASE).await {
                Ok(Portion::More(_)) => {
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
                    return Ok(());
                }
                Ok(Portion::Lost) => return Ok(()),
                Err(error) if error.is_passing() => {
                    self.tell_it_fails(outage, &error);
                    LOOK_EVERY
                }
                Err(error) => return self.give_up(&turn, &error).await,
            };
            stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
        self.db.give_back_action(&turn).await
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

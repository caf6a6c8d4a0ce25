//! Keeps tools fresh: what has become old is put into the queue, a few connections at a time.

use crate::store::RefreshStep;
use crate::store::StoreError;
use crate::worker::Account;
use crate::worker::Outage;
use crate::worker::Worker;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between steps of all replicas together, at most.
const EVERY: Duration = Duration::from_secs(5);
/// What waits to be refreshed lasts for so many steps at the most that the budget's part allows.
const STEPS_AHEAD: f64 = 2.0;

impl Worker {
    /// What fails here keeps no job from being done, and so the process as ready as it is.
    pub(super) async fn refresh_until(self: Arc<Self>, stop: CancellationToken) {
        let Some(after) = self.settings.refresh_after else {
            return stop.cancelled().await;
        };
        let every = EVERY.min(after / 12);
        let mut outages: Vec<_> = self.accounts.iter().map(|_| Outage::default()).collect();
        while !stop.is_cancelled() {
            for (account, outage) in self.accounts.iter().zip(&mut outages) {
                // Where the database is away, that is told.
                if !self.lock_progress().trouble.is_empty() {
                    continue;
                }
                let result = self.ask_for_refreshes(account, after, every).await;
                let now = self.clock.now();
                match result {
                    Ok(asked) => {
                        if asked > 0 {
                            tracing::debug!(account = %account.name, asked, "some tools have become old");
                            self.be_woken();
                        }
                        if outage.is_over(now).is_some() {
                            tracing::info!(account = %account.name, "can look for old tools again");
                        }
                    }
                    Err(error) => {
                        self.count_error(&error);
                        if outage.goes_on(error.kind(), now) {
                            tracing::warn!(account = %account.name, %error, "cannot look for old tools; trying again");
                        }
                    }
                }
            }
            let pause = every.mul_f64(0.75 + 0.25 * self.dice.roll());
            stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }

    async fn ask_for_refreshes(
        &self,
        account: &Account,
        after: Duration,
        every: Duration,
    ) -> Result<u64, StoreError> {
        let failed = &self.settings.settle.failed;
        let failed: Vec<_> = failed.iter().map(|word| word.to_lowercase()).collect();
        let per_step = account.budget().rate * self.settings.budget_share * every.as_secs_f64();
        let step = RefreshStep {
            account: &account.name,
            after,
            failed: &failed,
            most: (STEPS_AHEAD * per_step).max(1.0),
            every,
        };
        self.db.ask_for_refreshes(step).await
    }
}

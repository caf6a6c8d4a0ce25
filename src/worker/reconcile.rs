//! Keeps the tables true: now and then the API's list of each account is compared with them, by one replica at a time.

use crate::metrics::OfChange;
use crate::metrics::OfReconcile;
use crate::metrics::OfRequest;
use crate::store::Reconciled;
use crate::store::StoreError;
use crate::worker::Account;
use crate::worker::Inventory;
use crate::worker::InventoryError;
use crate::worker::Tally;
use crate::worker::Worker;
use chrono::DateTime;
use chrono::Utc;
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const WHAT: &str = "reconcile";
/// A turn is another replica's when it has not been prolonged for so long.
const LEASE: Duration = Duration::from_secs(45);
const PROLONG_EVERY: Duration = Duration::from_secs(10);
/// How often to ask whether a turn is due, at most.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The first comparison ever comes soon.
const FIRST: Duration = Duration::from_secs(60);
/// One that failed is repeated sooner than the interval, where that is long.
const AGAIN: Duration = Duration::from_secs(15 * 60);
/// One that the account did not let begin, after this.
const PUT_OFF: Duration = Duration::from_secs(60);

impl Worker {
    pub(super) async fn reconcile_until(self: Arc<Self>, stop: CancellationToken) {
        let Some(interval) = self.settings.reconcile else {
            return stop.cancelled().await;
        };
        let each = self.accounts.iter().map(|account| async {
            while !stop.is_cancelled() {
                match self.reconcile_if_due(account, interval, &stop).await {
                    Ok(()) => self.note_success(WHAT),
                    Err(error) => self.note_trouble(WHAT, &error),
                }
                let pause = LOOK_EVERY.min(interval / 4);
                let pause = pause.mul_f64(0.75 + 0.25 * self.dice.roll());
                stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            }
        });
        join_all(each).await;
    }

    async fn reconcile_if_due(
        &self,
        account: &Account,
        interval: Duration,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let name = &account.name;
        let first = FIRST.min(interval).mul_f64(self.dice.roll());
        let turn = self
            .db
            .begin_reconcile(name, &self.settings.name, first, LEASE)
            .await?;
        let Some(turn) = turn else {
            return Ok(());
        };
        tokio::select! {
            result = self.reconcile(account, turn, interval) => result,
            () = self.lose(account, turn) => {
                tracing::warn!(account = %name, "another replica has taken over the comparison with the API's list");
                Ok(())
            }
            () = stop.cancelled() => self.db.give_back_reconcile(name, turn).await,
        }
    }

    /// Prolongs the turn; returns once it is lost.
    async fn lose(&self, account: &Account, turn: Uuid) {
        loop {
            tokio::time::sleep(PROLONG_EVERY).await;
            // Database trouble is said by what else asks it.
            if let Ok(false) = self.db.keep_reconcile(&account.name, turn, LEASE).await {
                return;
            }
        }
    }

    async fn reconcile(
        &self,
        account: &Account,
        turn: Uuid,
        interval: Duration,
    ) -> Result<(), StoreError> {
        let name = &account.name;
        let held = self.db.held(name).await?;
        let mut tally = Tally::default();
        let inventory = Inventory {
            db: &self.db,
            client: &account.client,
            account: name,
            budget: account.budget(),
            settle: &self.settings.settle,
            retry: &self.settings.retry,
            only_missing: false,
            rehearse: false,
        };
        // It may be the probe of a paused account.
        account.refresh_key();
        let end = inventory.take(|found| tally.count(&found)).await;
        // Whatever shortened the list, an outage say or another organisation's key, is no proof that all those are gone.
        let is_short = tally.listed < held.div_ceil(2);
        let (outcome, absent, error) = match &end {
            Ok(_) if is_short => ("short", 0, None),
            Ok(listed_at) => {
                let deadline = self.settings.settle.deadline;
                let absent = self.db.ask_after_absent(name, *listed_at, deadline).await?;
                ("done", absent, None)
            }
            Err(error) => ("failed", 0, Some(error.to_string())),
        };
        let came = Reconciled {
            outcome,
            error: error.as_deref(),
            held,
            listed: tally.listed,
            absent,
        };
        let next = match &end {
            // What keeps it from being asked is told elsewhere, and is no failure of the list.
            Err(
                InventoryError::PausedByOperator { .. }
                | InventoryError::Paused { .. }
                | InventoryError::NoBudget { .. },
            ) => interval.min(PUT_OFF),
            Ok(_) | Err(InventoryError::Api(_) | InventoryError::Store(_)) => {
                self.tell(account, &came, &tally);
                self.count(account, &end, outcome, &tally);
                end.map_or(interval.min(AGAIN), |_| interval)
            }
        };
        let next = next.mul_f64(0.9 + 0.2 * self.dice.roll());
        self.db.end_reconcile(name, turn, next, &came).await
    }

    fn tell(&self, account: &Account, came: &Reconciled<'_>, tally: &Tally) {
        let account = account.name.as_str();
        let Reconciled {
            held,
            listed,
            absent,
            ..
        } = *came;
        if let Some(error) = came.error {
            tracing::warn!(
                account,
                listed,
                error,
                "the API's list could not be read to its end; nothing is removed"
            );
        } else if came.outcome == "short" {
            tracing::error!(
                account,
                held,
                listed,
                "the API lists less than half of the connections that are held; nothing is removed"
            );
        } else {
            tracing::info!(
                account,
                held,
                listed,
                absent,
                new = tally.new,
                changed = tally.changed,
                finalize = tally.finalize,
                follow = tally.follow,
                "compared with the API's list"
            );
        }
        if tally.missed() > 0 {
            tracing::warn!(
                account,
                unfit = tally.unfit,
                unstorable = tally.unstorable,
                other_account = tally.other_account,
                "some listed connections are not in the tables; `feather-sync backfill` names them"
            );
        }
    }

    fn count(
        &self,
        account: &Account,
        end: &Result<DateTime<Utc>, InventoryError>,
        outcome: &'static str,
        tally: &Tally,
    ) {
        let name = || account.name.to_string();
        let counter = OfReconcile {
            account: name(),
            outcome,
        };
        self.metrics.reconciles.get_or_create(&counter).inc();
        let status = match end {
            Ok(_) => Some("200".to_owned()),
            Err(InventoryError::Api(failure)) => {
                let status = failure.http_status.map(|status| status.to_string());
                Some(status.unwrap_or_else(|| "error".to_owned()))
            }
            // There was no call, or what came of it was not the trouble.
            Err(_) => None,
        };
        if let Some(status) = status {
            account.note_sent(self.clock.now());
            let request = OfRequest {
                account: name(),
                kind: "list",
                status,
            };
            self.metrics.api_requests.get_or_create(&request).inc();
        }
        for (change, number) in [
            ("added", tally.tools_added),
            ("changed", tally.tools_changed),
            ("removed", tally.tools_removed),
        ] {
            let change = OfChange {
                account: name(),
                change,
            };
            self.metrics
                .tools_changed
                .get_or_create(&change)
                .inc_by(number);
        }
    }
}

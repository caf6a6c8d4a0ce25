//! Keeps the tables true: now and then the API's list of each account is compared with them, by one replica at a time.

use crate::domain::Failure;
use crate::metrics::OfChange;
use crate::metrics::OfKind;
use crate::metrics::OfReconcile;
use crate::metrics::OfRequest;
use crate::store::Held;
use crate::store::Reconciled;
use crate::store::StoreError;
use crate::worker::Account;
use crate::worker::Asking;
use crate::worker::Inventory;
use crate::worker::InventoryError;
use crate::worker::Outage;
use crate::worker::Tally;
use crate::worker::Worker;
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A turn is another replica's when it has not been prolonged for so long.
const LEASE: Duration = Duration::from_secs(45);
const PROLONG_EVERY: Duration = Duration::from_secs(10);
/// How often to ask whether a turn is due, at most.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The first comparison ever comes soon.
const FIRST: Duration = Duration::from_secs(60);
/// One that failed is repeated sooner than the interval, where that is long.
const AGAIN: Duration = Duration::from_secs(15 * 60);
/// Parts of the interval, so that accounts do not stay in step.
const EARLIEST: f64 = 0.9;
const LATEST: f64 = 1.1;
/// One that the account did not let begin, after this.
const PUT_OFF: Duration = Duration::from_secs(60);

impl Worker {
    pub(super) async fn reconcile_until(self: Arc<Self>, stop: CancellationToken) {
        let Some(interval) = self.settings.reconcile else {
            return stop.cancelled().await;
        };
        let each = self
            .accounts
            .iter()
            .map(|account| self.reconcile_account_until(account, interval, &stop));
        join_all(each).await;
    }

    /// What fails here keeps no job from being done, and so the process as ready as it is.
    async fn reconcile_account_until(
        &self,
        account: &Account,
        interval: Duration,
        stop: &CancellationToken,
    ) {
        let mut outage = Outage::default();
        while !stop.is_cancelled() {
            // Where the database is away, that is told.
            if self.lock_progress().trouble.is_empty() {
                let result = self.reconcile_if_due(account, interval, stop).await;
                let now = self.clock.now();
                if let Err(error) = result {
                    self.count_error(&error);
                    if outage.goes_on(error.kind(), now) {
                        tracing::warn!(account = %account.name, %error, "cannot reconcile; trying again");
                    }
                } else if outage.is_over(now).is_some() {
                    tracing::info!(account = %account.name, "can reconcile again");
                }
            }
            let pause = LOOK_EVERY.min(interval / 4);
            let pause = pause.mul_f64(0.75 + 0.25 * self.dice.roll());
            stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }

    pub(super) fn count_error(&self, error: &StoreError) {
        let kind = error.kind();
        self.metrics.db_errors.get_or_create(&OfKind { kind }).inc();
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
            .begin_reconcile(
                name,
                &self.settings.name,
                first,
                interval.mul_f64(LATEST),
                LEASE,
            )
            .await?;
        let Some(turn) = turn else {
            return Ok(());
        };
        let asking = Asking::default();
        let ended = tokio::select! {
            result = self.take_turn(account, turn, interval, &asking) => return result,
            () = self.lose(account, turn) => {
                tracing::warn!(account = %name, "another replica has taken over the comparison with the API's list");
                Ok(())
            }
            () = stop.cancelled() => self.db.give_back_reconcile(name, turn).await,
        };
        if let Some(token) = asking.token() {
            self.db.let_go(name, token).await?;
        }
        ended
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

    /// Compares, and ends the turn whatever comes of it.
    async fn take_turn(
        &self,
        account: &Account,
        turn: Uuid,
        interval: Duration,
        asking: &Asking,
    ) -> Result<(), StoreError> {
        let mut tally = Tally::default();
        let mut held = Held::default();
        let end = self.compare(account, asking, &mut tally, &mut held).await;
        let error = end.as_ref().err().map(ToString::to_string);
        let came = Reconciled {
            outcome: end.as_ref().unwrap_or(&"failed"),
            error: error.as_deref(),
            held: held.all,
            listed: tally.listed,
            absent: held.absent,
        };
        let next = match &end {
            // What keeps it from being asked is told elsewhere, and is no failure of the list.
            Err(
                InventoryError::PausedByOperator { .. }
                | InventoryError::Paused { .. }
                | InventoryError::NoBudget { .. },
            ) => interval.min(PUT_OFF),
            Ok(_) | Err(InventoryError::Api(_) | InventoryError::Store(_)) => {
                if let Err(InventoryError::Store(error)) = &end {
                    self.count_error(error);
                }
                self.tell(account, &came, &tally, end.as_ref().err());
                self.count(account, came.outcome, &tally);
                end.map_or(interval.min(AGAIN), |_| interval)
            }
        };
        let next = next.mul_f64(EARLIEST + (LATEST - EARLIEST) * self.dice.roll());
        self.db
            .end_reconcile(&account.name, turn, next, &came)
            .await
    }

    /// Compares the tables with the list, and has asked after what that lacks. Returns the outcome.
    async fn compare(
        &self,
        account: &Account,
        asking: &Asking,
        tally: &mut Tally,
        held: &mut Held,
    ) -> Result<&'static str, InventoryError> {
        let name = &account.name;
        let inventory = Inventory {
            db: &self.db,
            client: &account.client,
            account: name,
            budget: account.budget(),
            settle: &self.settings.settle,
            retry: &self.settings.retry,
            only_missing: false,
            rehearse: false,
            asking,
            heard: &|failure| self.count_call(account, failure),
        };
        // It may be the probe of a paused account.
        account.refresh_key();
        let listed_at = inventory.take(|found| tally.count(&found)).await?;
        let by_organization = self.db.look_for_absent(name, listed_at).await?;
        for one in by_organization.values() {
            held.all += one.all;
            held.absent += one.absent;
        }
        // Whatever shortened the list, an outage say, is no proof that all those are gone. Nor is another organisation's
        // key, which lists as many of its own, and has them held the next time.
        if by_organization.values().any(Held::is_mostly_absent) {
            return Ok("short");
        }
        let deadline = self.settings.settle.deadline;
        self.db.ask_after_absent(name, listed_at, deadline).await?;
        Ok("done")
    }

    fn tell(
        &self,
        account: &Account,
        came: &Reconciled<'_>,
        tally: &Tally,
        end: Option<&InventoryError>,
    ) {
        let account = account.name.as_str();
        let Reconciled {
            held,
            listed,
            absent,
            ..
        } = *came;
        if let Some(InventoryError::Store(error)) = end {
            tracing::warn!(
                account,
                listed,
                %error,
                "what the API's list says was not written to its end; nothing is removed"
            );
        } else if let Some(error) = came.error {
            tracing::warn!(
                account,
                listed,
                error,
                "the API's list was not compared to its end; nothing is removed"
            );
        } else if came.outcome == "short" {
            tracing::error!(
                account,
                held,
                listed,
                absent,
                "the API's list lacks more than half of the connections that are held; nothing is removed"
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

    /// A list that has begun counts, however it ends.
    fn count_call(&self, account: &Account, failure: Option<&Failure>) {
        let status = match failure.map(|failure| failure.http_status) {
            None => "200".to_owned(),
            Some(None) => "error".to_owned(),
            Some(Some(status)) => status.to_string(),
        };
        account.note_sent(self.clock.now());
        let request = OfRequest {
            account: account.name.to_string(),
            kind: "list",
            status,
        };
        self.metrics.api_requests.get_or_create(&request).inc();
    }

    fn count(&self, account: &Account, outcome: &'static str, tally: &Tally) {
        let name = || account.name.to_string();
        let counter = OfReconcile {
            account: name(),
            outcome,
        };
        self.metrics.reconciles.get_or_create(&counter).inc();
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

//! What a look finds.

use crate::store::AccountRow;
use crate::store::Db;
use crate::store::ErrorCount;
use crate::store::HealthRow;
use crate::store::OldestDue;
use crate::store::OldestRequest;
use crate::store::ReconcileRow;
use crate::store::ReplicaRow;
use crate::store::StoreError;
use serde::Serialize;

/// What a look finds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// What the queue holds, by account.
    pub health: Vec<HealthRow>,
    /// All accounts.
    pub accounts: Vec<AccountUse>,
    /// Daemons that are alive.
    pub replicas: Vec<ReplicaRow>,
    /// One per account in which something is due.
    pub oldest_due: Vec<OldestDue>,
    /// The one that was made first, of those not yet taken in.
    pub oldest_request: Option<OldestRequest>,
    /// By account and class.
    pub errors_last_hour: Vec<ErrorCount>,
    /// One per account that is compared with the API's list.
    pub reconciles: Vec<ReconcileRow>,
}

/// An account with how much of its limit is in use.
#[derive(Clone, Debug, Serialize)]
pub struct AccountUse {
    /// The account itself.
    #[serde(flatten)]
    pub row: AccountRow,
    /// Calls of all replicas that began in the last 60 s.
    pub calls_last_minute: i64,
    /// The same as a part of `requests_per_minute`.
    pub rate_used_ratio: Option<f64>,
}

impl AccountUse {
    /// An account of which so many calls began in the last 60 s.
    pub fn new(row: AccountRow, calls: i64) -> Self {
        Self {
            calls_last_minute: calls,
            rate_used_ratio: row
                .requests_per_minute
                .map(|limit| calls as f64 / f64::from(limit.max(1))),
            row,
        }
    }
}

impl Status {
    /// Looks at everything; nothing that is read can be big.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn look(db: &Db) -> Result<Self, StoreError> {
        let calls = db.calls_last_minute().await?;
        let calls_of = |account: &str| {
            let found = calls.iter().find(|(name, _)| name == account);
            found.map_or(0, |(_, calls)| *calls)
        };
        let accounts = db.accounts().await?.into_iter().map(|row| {
            let calls = calls_of(&row.account);
            AccountUse::new(row, calls)
        });
        Ok(Self {
            accounts: accounts.collect(),
            health: db.health().await?,
            replicas: db.replicas().await?,
            oldest_due: db.oldest_due().await?,
            oldest_request: db.oldest_request().await?,
            errors_last_hour: db.recent_errors().await?,
            reconciles: db.reconciles().await?,
        })
    }
}

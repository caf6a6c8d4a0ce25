//! What tests ask for that claim without a daemon.

use feather_sync::domain::AccountName;
use feather_sync::domain::Budget;
use feather_sync::domain::Phase;
use feather_sync::store::ClaimRequest;
use std::time::Duration;

/// Asks for one job of an account, with a budget that is never the limit.
pub(crate) fn claim_of_one(account: &AccountName) -> ClaimRequest<'_> {
    ClaimRequest {
        account,
        slots: 1,
        budget: Budget::per_minute(60_000_000),
        lease: Duration::from_secs(90),
        worker: "a test",
        prefer: Phase::Finalize,
        spare: 0.2,
        refreshes: 10.0,
        known: &[],
    }
}

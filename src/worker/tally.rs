//! What taking stock has found, counted.

use crate::domain::listed::FollowUp;
use crate::store::Change;
use crate::worker::inventory::Found;

/// What was found, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Connections in the list, so far.
    pub listed: u64,
    /// Not held before.
    pub new: u64,
    /// Held as removed before.
    pub revived: u64,
    /// With another content than before, tools included.
    pub changed: u64,
    /// As they were.
    pub unchanged: u64,
    /// Left alone: checked since the list was asked for, or with an older `updated_at`.
    pub newer: u64,
    /// Left alone: held from another account.
    pub other_account: u64,
    /// Left alone: not missing.
    pub not_missing: u64,
    /// Not what the API promises.
    pub unfit: u64,
    /// Refused by Postgres.
    pub unstorable: u64,
    /// To be finalized.
    pub finalize: u64,
    /// To be polled until they have settled.
    pub follow: u64,
    /// Tools added or revived.
    pub tools_added: u64,
    /// Tools changed.
    pub tools_changed: u64,
    /// Tools marked removed.
    pub tools_removed: u64,
}

impl Tally {
    /// Counts one more.
    pub fn count(&mut self, found: &Found) {
        self.listed += 1;
        let change = match found {
            Found::Unfit(_) => {
                self.unfit += 1;
                return;
            }
            Found::Unstorable(..) => {
                self.unstorable += 1;
                return;
            }
            Found::Applied(change) => change,
        };
        *match change.change {
            Change::New => &mut self.new,
            Change::Revived => &mut self.revived,
            Change::Changed => &mut self.changed,
            Change::Unchanged => &mut self.unchanged,
            Change::Newer => &mut self.newer,
            Change::OtherAccount => &mut self.other_account,
            Change::NotMissing => &mut self.not_missing,
        } += 1;
        match change.next {
            FollowUp::Nothing => {}
            FollowUp::Finalize => self.finalize += 1,
            FollowUp::Follow => self.follow += 1,
        }
        self.tools_added += u64::from(change.tools.added.unsigned_abs());
        self.tools_changed += u64::from(change.tools.changed.unsigned_abs());
        self.tools_removed += u64::from(change.tools.removed.unsigned_abs());
    }

    /// Connections that are in the list and, for a reason that somebody has to look at, not in the tables.
    pub fn missed(&self) -> u64 {
        self.unfit + self.unstorable + self.other_account
    }
}

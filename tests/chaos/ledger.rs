//! What producers did: the part of their books that no database can lose.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Instant;
use uuid::Uuid;

#[derive(Default)]
pub(crate) struct Ledger {
    last: AtomicI64,
    fresh: AtomicUsize,
    /// Deeds whose COMMIT was answered.
    pub(crate) committed: Mutex<Vec<i64>>,
    /// Connections named in transactions that were rolled back, and nowhere else.
    pub(crate) ghosts: Mutex<Vec<Uuid>>,
    /// Cancelled or forgotten by command, whatever came of it, and when that began and ended.
    pub(crate) taken_back: Mutex<Vec<(Uuid, Instant, Instant)>>,
}

impl Ledger {
    /// A number that no other deed has.
    pub(crate) fn next(&self) -> i64 {
        self.last.fetch_add(1, Ordering::Relaxed)
    }

    /// A number for a connection that nobody has asked for.
    pub(crate) fn number(&self) -> usize {
        self.fresh.fetch_add(1, Ordering::Relaxed)
    }

    /// Deeds whose COMMIT was answered and that are not in the books.
    pub(crate) fn lost(&self, kept: &BTreeSet<i64>) -> Vec<i64> {
        let committed = self.committed.lock().unwrap();
        let lost = committed.iter().filter(|deed| !kept.contains(deed));
        lost.copied().collect()
    }
}

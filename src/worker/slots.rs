//! Slots, one for each call that is out, and the room in which results wait to be written down.
//!
//! A slot is acquired before its job is claimed, so that what is claimed starts at once. A result that fits into the
//! room frees its slot before it is written: calls need not wait for the database. One that does not keeps its slot,
//! so what is held in memory stays bounded while the database is slow or answers are large.

use crate::worker::Account;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Answers in the room, together.
const ROOM_BYTES: usize = 16 << 20;
/// Its small ones are as many as are being written at a time and may gather meanwhile.
const ROOM_BATCHES: usize = 2;
/// The room is counted in so many bytes.
const UNIT: usize = 1 << 10;
/// Slots that become free one by one are gathered this long, or until a quarter of all is free, and then filled by
/// one claim. A claim for each would cost as many statements as jobs.
const GATHER: Duration = Duration::from_millis(10);

/// The slots of this process.
pub(super) struct Slots {
    calls: Arc<Semaphore>,
    most: usize,
    room: Arc<Semaphore>,
    /// So many units of the room a result takes at least.
    least: usize,
    freed: Notify,
    /// The last claim found more work than slots.
    short: AtomicBool,
    /// Those that a claim under way has taken, to fill as many of them as it finds jobs.
    reserved: AtomicUsize,
    /// A claim took as many refreshes as may be out, and more may be due.
    full_of_refreshes: AtomicBool,
}

/// A slot of the worker and one of the account, together.
pub(super) struct Permits {
    worker: OwnedSemaphorePermit,
    account: OwnedSemaphorePermit,
}

/// What a result holds on to until it is written down: a part of the room, else its slot.
pub(super) struct Hold {
    _room: Option<OwnedSemaphorePermit>,
    _slot: Option<Permits>,
}

impl Slots {
    pub(super) fn new(most: usize, batch_size: usize) -> Self {
        let room = ROOM_BYTES / UNIT;
        Self {
            calls: Arc::new(Semaphore::new(most)),
            most,
            room: Arc::new(Semaphore::new(room)),
            least: (room / (ROOM_BATCHES * batch_size)).max(1),
            freed: Notify::new(),
            short: AtomicBool::new(false),
            reserved: AtomicUsize::new(0),
            full_of_refreshes: AtomicBool::new(false),
        }
    }

    /// Results that there can be at a time.
    pub(super) fn results(&self) -> usize {
        self.most + ROOM_BYTES / UNIT / self.least
    }

    /// How many calls of `account` may begin.
    pub(super) fn free_for(&self, account: &Account) -> usize {
        let free = self.calls.available_permits();
        free.min(account.slots.available_permits())
    }

    pub(super) fn are_all_taken(&self) -> bool {
        self.calls.available_permits() == 0
    }

    /// All of them.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Calls that are out.
    pub(super) fn taken(&self) -> usize {
        let taken = self.most - self.calls.available_permits().min(self.most);
        taken.saturating_sub(self.reserved.load(Ordering::Relaxed))
    }

    /// So many calls are out that others will end soon, and gathering them pays.
    pub(super) fn are_busy(&self) -> bool {
        let mut out = self.taken();
        if self.are_short() {
            // A claim under way will fill them.
            out += self.reserved.load(Ordering::Relaxed);
        }
        out > 1 && out >= self.most / 4
    }

    /// `n` of them, at least one.
    pub(super) fn acquire(&self, account: &Account, n: usize) -> Option<Permits> {
        let n = u32::try_from(n).ok().filter(|n| *n > 0)?;
        Some(Permits {
            worker: self.calls.clone().try_acquire_many_owned(n).ok()?,
            account: account.slots.clone().try_acquire_many_owned(n).ok()?,
        })
    }

    /// Exchanges the slot of a call that is over for room for its result, where there is enough.
    pub(super) fn make_room(&self, bytes: usize, permits: Permits) -> Hold {
        let units = (bytes / UNIT).max(self.least);
        let room = u32::try_from(units)
            .ok()
            .and_then(|units| self.room.clone().try_acquire_many_owned(units).ok());
        if room.is_none() {
            return Hold::slot(permits);
        }
        self.free(permits);
        Hold {
            _room: room,
            _slot: None,
        }
    }

    /// Gives back what was held, whatever it is.
    pub(super) fn free<T>(&self, held: T) {
        drop(held);
        self.freed.notify_one();
    }

    /// A claim is under way that could fill so many, or none is.
    pub(super) fn note_reserved(&self, slots: usize) {
        self.reserved.store(slots, Ordering::Relaxed);
    }

    /// What the claims of a tick found: more work than slots, or not.
    pub(super) fn note_short(&self, short: bool) {
        self.short.store(short, Ordering::Relaxed);
    }

    /// Whether they did.
    pub(super) fn are_short(&self) -> bool {
        self.short.load(Ordering::Relaxed)
    }

    /// As many refreshes are out as may be.
    pub(super) fn note_full_of_refreshes(&self) {
        self.full_of_refreshes.store(true, Ordering::Relaxed);
    }

    /// Whether the end of a refresh makes room for another one that may be due; told once.
    pub(super) fn were_full_of_refreshes(&self) -> bool {
        self.full_of_refreshes.swap(false, Ordering::Relaxed)
    }

    /// Waits until a claim can go on where slots were short; else for ever.
    pub(super) async fn enough(&self) {
        if !self.short.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        self.freed.notified().await;
        let quarter = async {
            while self.calls.available_permits() < self.most.div_ceil(4) {
                self.freed.notified().await;
            }
        };
        let _ = timeout(GATHER, quarter).await;
    }
}

impl Hold {
    pub(super) fn slot(permits: Permits) -> Self {
        Self {
            _room: None,
            _slot: Some(permits),
        }
    }
}

impl Permits {
    pub(super) fn split_one(&mut self) -> Option<Self> {
        Some(Self {
            worker: self.worker.split(1)?,
            account: self.account.split(1)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_claim_under_way_has_taken_makes_no_result_wait_while_slots_are_plenty() {
        let slots = Slots::new(32, 100);
        let _all_but_one = slots.calls.clone().try_acquire_many_owned(31).unwrap();
        assert!(slots.are_busy());
        slots.note_reserved(30);
        assert!(!slots.are_busy());
        slots.note_short(true);
        assert!(slots.are_busy());
    }
}

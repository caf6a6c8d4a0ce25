//! Room for large bodies: all calls of the process share it, so that memory stays bounded however many are answered
//! at once. What waits for room is held back by TCP, at the other end.

use std::sync::Arc;
use std::sync::LazyLock;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

/// What any call may hold of a body without asking: many times an ordinary answer.
pub(super) const FREE_BYTES: usize = 128 * 1024;

/// Into how many shares the largest body that is allowed is divided: a smaller one takes as many as it needs.
const WHOLE: u32 = 64;

/// How many of the largest bodies there is room for. Two: one that comes slowly does not stop the others.
const BODIES: u32 = 2;

static OF_PROCESS: LazyLock<Room> = LazyLock::new(Room::new);

/// Room for a few large bodies. Clones share it.
#[derive(Clone)]
pub(super) struct Room {
    shares: Arc<Semaphore>,
}

/// A body's part of the room, given back when dropped.
pub(super) type Held = OwnedSemaphorePermit;

impl Room {
    pub(super) fn new() -> Self {
        Self {
            shares: Arc::new(Semaphore::new((WHOLE * BODIES) as usize)),
        }
    }

    /// The one that all accounts share.
    pub(super) fn of_process() -> Self {
        OF_PROCESS.clone()
    }

    /// Waits for room for `bytes` out of the `limit` that a body may have; who asks first is served first. `None`
    /// where there is no more room to be had, ever.
    pub(super) async fn take(&self, bytes: usize, limit: usize) -> Option<Held> {
        let whole = u64::from(WHOLE);
        let shares = (bytes as u64 * whole).div_ceil(limit.max(1) as u64);
        let shares = u32::try_from(shares.clamp(1, whole)).unwrap_or(WHOLE);
        self.shares.clone().acquire_many_owned(shares).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const LIMIT: usize = 8 << 20;

    #[tokio::test]
    async fn two_of_the_largest_bodies_fit_and_many_of_the_smaller_ones() {
        let room = Room::new();
        let _one = room.take(LIMIT, LIMIT).await;
        let other = room.take(LIMIT, LIMIT).await;
        assert!(room.take(1, LIMIT).now_or_never().is_none());
        drop(other);
        let mut small = Vec::new();
        while let Some(held) = room.take(LIMIT / 16, LIMIT).now_or_never() {
            small.push(held);
        }
        assert_eq!(small.len(), 16);
    }

    #[tokio::test]
    async fn a_large_body_is_not_overtaken_for_ever() {
        let room = Room::new();
        let (one, other) = (room.take(1, LIMIT).await, room.take(LIMIT, LIMIT).await);
        let mut large = Box::pin(room.take(LIMIT, LIMIT));
        assert!(large.as_mut().now_or_never().is_none());
        assert!(room.take(1, LIMIT).now_or_never().is_none());
        drop((one, other));
        assert!(large.now_or_never().is_some());
    }
}

//! Room for bodies that are larger than usual: all calls of an account share it, so that memory stays bounded however
//! many are answered at once, and no other account waits for a slow server. What waits for room is held back by TCP, at the other end.

use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

/// What any call may hold of a body without asking: several times an ordinary answer.
pub(super) const FREE_BYTES: usize = 64 * 1024;

/// Up to here a body is of middling size, and how many of these there is room for.
const MIDDLING_BYTES: usize = 256 * 1024;
const MIDDLING: usize = 8;

/// How many of the largest bodies there is room for. Two: one that comes slowly does not stop the others.
const LARGE: u32 = 2;

/// Into how many shares the largest body that is allowed is divided: one whose length is known takes no more than it
/// needs.
const WHOLE: u32 = 64;

/// Room for a few bodies. Clones share it.
#[derive(Clone)]
pub(super) struct Room {
    middling: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// A body's part of the room, given back when dropped.
pub(super) struct Held {
    /// Length that the body may have in it.
    pub(super) bytes: usize,
    _shares: OwnedSemaphorePermit,
}

impl Room {
    pub(super) fn new() -> Self {
        Self {
            middling: Arc::new(Semaphore::new(MIDDLING)),
            large: Arc::new(Semaphore::new((WHOLE * LARGE) as usize)),
        }
    }

    /// Waits for room for a body of this length, which may be `limit` at most; who asks first is served first. Who has
    /// room for a middling body may ask for that of a large one, and keeps what it has until then: those with room for
    /// a large one wait for nobody. `None` where there will never be room.
    pub(super) async fn take(&self, bytes: usize, limit: usize) -> Option<Held> {
        if bytes <= MIDDLING_BYTES {
            return Some(Held {
                bytes: MIDDLING_BYTES,
                _shares: self.middling.clone().acquire_owned().await.ok()?,
            });
        }
        let shares = (bytes as u64 * u64::from(WHOLE)).div_ceil(limit.max(1) as u64);
        let shares = u32::try_from(shares.min(u64::from(WHOLE))).unwrap_or(WHOLE);
        Some(Held {
            bytes,
            _shares: self.large.clone().acquire_many_owned(shares).await.ok()?,
        })
    }

    /// As [`Room::take`], where no more is known of the length than that it is more than so many bytes.
    pub(super) async fn take_more(&self, than: usize, limit: usize) -> Option<Held> {
        let next = if than <= MIDDLING_BYTES {
            MIDDLING_BYTES
        } else {
            limit
        };
        self.take(next, limit).await
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
        assert!(room.take(LIMIT / 16, LIMIT).now_or_never().is_none());
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
        let one = room.take(LIMIT / 16, LIMIT).await;
        let other = room.take(LIMIT, LIMIT).await;
        let mut large = Box::pin(room.take(LIMIT, LIMIT));
        assert!(large.as_mut().now_or_never().is_none());
        assert!(room.take(LIMIT / 16, LIMIT).now_or_never().is_none());
        drop((one, other));
        assert!(large.now_or_never().is_some());
    }

    #[tokio::test]
    async fn middling_bodies_pass_while_large_ones_wait() {
        let room = Room::new();
        let mut held = Vec::new();
        while let Some(large) = room.take_more(MIDDLING_BYTES + 1, LIMIT).now_or_never() {
            held.push(large);
        }
        assert_eq!(held.len(), 2);
        while let Some(middling) = room.take_more(FREE_BYTES + 1, LIMIT).now_or_never() {
            held.push(middling);
        }
        assert_eq!(held.len(), 2 + 8);
    }
}

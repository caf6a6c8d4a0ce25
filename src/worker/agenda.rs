//! Moments at which this process knows work to become due, so that it need not poll for them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Known due moments. Forgetting some is harmless: polling finds the work.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    moments: BinaryHeap<Reverse<Instant>>,
}

/// Beyond this many, the polls come often enough anyway.
const MOST: usize = 4_096;

impl Agenda {
    /// Remembers a moment. Returns whether it is before all others.
    pub(super) fn note(&mut self, at: Instant) -> bool {
        let first = self.moments.peek().is_none_or(|Reverse(first)| at < *first);
        if self.moments.len() < MOST {
            self.moments.push(Reverse(at));
        }
        first
    }

    /// The first moment after `now`; those before are forgotten, since a tick has looked.
    pub(super) fn next_after(&mut self, now: Instant) -> Option<Instant> {
        while let Some(Reverse(first)) = self.moments.peek() {
            if *first > now {
                return Some(*first);
            }
            self.moments.pop();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_next_moment_is_the_earliest_that_is_not_past() {
        let now = Instant::now();
        let mut agenda = Agenda::default();
        for seconds in [5, 1, 3] {
            let first = agenda.note(now + Duration::from_secs(seconds));
            assert_eq!(first, seconds != 3);
        }
        assert_eq!(agenda.next_after(now), Some(now + Duration::from_secs(1)));
        let later = now + Duration::from_secs(3);
        assert_eq!(agenda.next_after(later), Some(now + Duration::from_secs(5)));
        assert_eq!(agenda.next_after(now + Duration::from_secs(9)), None);
    }

    #[test]
    fn it_does_not_grow_without_bound() {
        let mut agenda = Agenda::default();
        let now = Instant::now();
        (0..MOST * 2).for_each(|_| _ = agenda.note(now));
        assert_eq!(agenda.moments.len(), MOST);
    }
}

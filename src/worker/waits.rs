//! How long to wait before what has failed is tried again.

use crate::domain::Dice;
use std::time::Duration;

/// Waits that double from one failure to the next, jittered so that replicas spread.
#[derive(Clone, Debug)]
pub(super) struct Waits {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Waits {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// Half of it to all of it, by chance.
    pub(super) fn next(&mut self, dice: &Dice) -> Duration {
        let wait = self.next.mul_f64(0.5 + 0.5 * dice.roll());
        self.next = (self.next * 2).min(self.longest);
        wait
    }

    /// It has worked.
    pub(super) fn start_over(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_over() {
        let mut waits = Waits::new(Duration::from_millis(100), Duration::from_millis(500));
        for most in [100, 200, 400, 500, 500] {
            let wait = waits.next(&Dice::Random).as_millis();
            assert!((most / 2..=most).contains(&wait), "{wait} of {most}");
        }
        waits.start_over();
        assert!(waits.next(&Dice::Random).as_millis() <= 100);
    }
}

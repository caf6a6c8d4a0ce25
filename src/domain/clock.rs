//! Time and dice, handed in so that tests can fix them.
//!
//! Leases, schedules and windows live on the database's clock. This one is for what never leaves the process:
//! how long a call took, whether drawn tokens are still fresh.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;

/// Monotonic time.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's own.
    #[default]
    System,
    /// Stands still at the given instant.
    Fixed(Instant),
}

impl Clock {
    /// The present instant.
    pub fn now(&self) -> Instant {
        match self {
            Self::System => Instant::now(),
            Self::Fixed(at) => *at,
        }
    }
}

/// Chance, as numbers in `0.0..1.0`.
#[derive(Clone, Debug, Default)]
pub enum Dice {
    /// The thread's random numbers.
    #[default]
    Random,
    /// Always the same number.
    Fixed(f64),
    /// These numbers in turn, then the last one for ever.
    Loaded(Arc<Mutex<Vec<f64>>>),
}

impl Dice {
    /// The next number, in `0.0..1.0`.
    pub fn roll(&self) -> f64 {
        match self {
            Self::Random => rand::random::<f64>(),
            Self::Fixed(value) => *value,
            Self::Loaded(values) => {
                let mut values = values.lock().unwrap_or_else(PoisonError::into_inner);
                match values.as_slice() {
                    [] => 0.5,
                    [last] => *last,
                    [..] => values.remove(0),
                }
            }
        }
    }
}

//! The time from a request's wish to the synced row being visible, as it is counted in buckets.

use std::time::Duration;

/// Upper bounds of the buckets in seconds, inclusive; one more bucket holds what took longer. The database's
/// `feather.time_to_sync_bounds()` says the same: stored histograms are counted by these, so they must not change.
pub const BOUNDS: [f64; 14] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0,
];

/// One count per bucket.
pub type Histogram = [i64; BOUNDS.len() + 1];

/// Counts one that took so long.
pub fn count(histogram: &mut Histogram, took: Duration) {
    let seconds = took.as_secs_f64();
    let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
    if let Some(count) = histogram.get_mut(bucket) {
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket_and_what_is_beyond_the_last_to_one_more() {
        let mut histogram = Histogram::default();
        for millis in [0, 50, 51, 14_400_000, 14_400_001] {
            count(&mut histogram, Duration::from_millis(millis));
        }
        let counted: Vec<_> = histogram
            .iter()
            .enumerate()
            .filter(|(_, n)| **n > 0)
            .collect();
        assert_eq!(counted, [(0, &2), (1, &1), (13, &1), (14, &1)]);
    }
}

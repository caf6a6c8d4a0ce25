//! An account's rate budget as a token bucket, sized so that no 60 s window exceeds the limit.

/// A token bucket's rate and size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Tokens per second.
    pub rate: f64,
    /// Largest number of tokens, at least 1.
    pub burst: f64,
}

/// The promised window, widened by what may lie between drawing a token and its request reaching the API:
/// up to [`FRESH_FOR`] here, and as much again on the way.
const WINDOW_SECONDS: f64 = 60.5;

/// How long a drawn token may be used. A call that starts later gives its job back instead.
pub const FRESH_FOR: std::time::Duration = std::time::Duration::from_millis(250);

impl Budget {
    /// The bucket for `requests_per_minute` (at least 1).
    ///
    /// In any window of W seconds a bucket gives out at most `burst + rate × W` whole tokens, so with
    /// `rate = (limit + 1 − burst) / W`, less a little, at most `limit`. A small burst wastes little of the limit.
    pub fn per_minute(requests_per_minute: u32) -> Self {
        let limit = f64::from(requests_per_minute.max(1));
        let burst = (limit / 200.0).floor().max(1.0);
        Self {
            rate: (limit + 1.0 - burst) / WINDOW_SECONDS * 0.999_999,
            burst,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Draws as fast and as much as possible from a full bucket, at the given moments; returns the draws.
    fn draw_all(budget: Budget, moments: &[f64]) -> Vec<(f64, f64)> {
        let (mut tokens, mut last) = (budget.burst, 0.0);
        moments
            .iter()
            .map(|&at| {
                tokens = (tokens + budget.rate * (at - last)).min(budget.burst);
                last = at;
                let whole = tokens.floor();
                tokens -= whole;
                (at, whole)
            })
            .collect()
    }

    #[test]
    fn a_small_limit_still_works_and_most_of_a_large_one_is_used() {
        for limit in [1, 2, 10, 60, 3_000, 6_000] {
            let moments: Vec<f64> = (0..60_000).map(|tick| f64::from(tick) * 0.01).collect();
            let in_ten_minutes: f64 = draw_all(Budget::per_minute(limit), &moments)
                .iter()
                .map(|(_, n)| n)
                .sum();
            let used = in_ten_minutes / f64::from(limit * 10);
            assert!(used > 0.97, "{limit}/min used {used}");
        }
    }

    proptest! {
        #[test]
        fn no_sixty_seconds_exceed_the_limit(limit in 1u32..7_000, gaps in proptest::collection::vec(0.0f64..3.0, 1..400)) {
            let mut at = 0.0;
            let moments: Vec<f64> = gaps.iter().map(|gap| { at += gap; at }).collect();
            let draws = draw_all(Budget::per_minute(limit), &moments);
            for (start, _) in &draws {
                let window: f64 = draws
                    .iter()
                    .filter(|(at, _)| at >= start && *at <= start + 60.0)
                    .map(|(_, n)| n)
                    .sum();
                prop_assert!(window <= f64::from(limit), "{window} in the minute from {start}");
            }
        }
    }
}

//! An account's rate budget as a token bucket, sized so that no 60 s window exceeds the limit.

/// A token bucket's rate and size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Tokens per second.
    pub rate: f64,
    /// Largest number of tokens, at least 1.
    pub burst: f64,
    /// Most calls in a minute that it stands for, at least 1.
    pub limit: f64,
}

/// The promised window, widened by what may lie between drawing a token and its request reaching the API: up to
/// [`FRESH_FOR`] until its answer is here, as much again until the call begins, and as much on the way.
const WINDOW_SECONDS: f64 = 60.75;

/// How long a drawn token may be used. A call that starts later gives its job back instead.
pub const FRESH_FOR: std::time::Duration = std::time::Duration::from_millis(250);

impl Budget {
    /// The bucket for `requests_per_minute` (at least 1).
    ///
    /// In any window of W seconds a bucket gives out at most `burst + rate × W` whole tokens, so with
    /// `rate = (limit + 1 − burst) / W`, less a little, at most `limit`. A small burst wastes little of the limit; this
    /// one fills in about 0.6 s, so that a shorter stall of all replicas loses nothing.
    pub fn per_minute(requests_per_minute: u32) -> Self {
        let limit = f64::from(requests_per_minute.max(1));
        let burst = (limit / 100.0).floor().max(1.0);
        Self {
            rate: (limit + 1.0 - burst) / WINDOW_SECONDS * 0.999_999,
            burst,
            limit,
        }
    }

    /// The bucket for a part of the limit, `0.0..=1.0`, never for less than one call a minute. The claim computes the
    /// same in SQL.
    ///
    /// In any window it gives out less than `share × limit + 1`, so at most that part of the limit, rounded up: with
    /// the burst scaled by the arithmetic above; with the burst held at 1 because `rate × W` is below `share × limit`.
    /// A bucket whose share changes never holds more than the whole one would.
    #[must_use]
    pub fn at_pace(self, share: f64) -> Self {
        let share = share.max(1.0 / self.limit).min(1.0);
        Self {
            rate: self.rate * share,
            burst: (self.burst * share).max(1.0),
            limit: (self.limit * share).max(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Draws as fast and as much as possible from a full bucket, at the given moments and paces; returns the draws.
    fn draw_all(budget: Budget, moments: &[(f64, f64)]) -> Vec<(f64, f64)> {
        let (mut tokens, mut last) = (budget.burst, 0.0);
        moments
            .iter()
            .map(|&(at, pace)| {
                let budget = budget.at_pace(pace);
                tokens = (tokens + budget.rate * (at - last)).min(budget.burst);
                last = at;
                let whole = tokens.floor();
                tokens -= whole;
                (at, whole)
            })
            .collect()
    }

    /// The most that was drawn in any minute.
    fn busiest_minute(draws: &[(f64, f64)]) -> f64 {
        let windows = draws.iter().map(|(start, _)| {
            let within = draws
                .iter()
                .filter(|(at, _)| at >= start && *at <= start + 60.0);
            within.map(|(_, n)| n).sum()
        });
        windows.fold(0.0, f64::max)
    }

    #[test]
    fn a_small_limit_still_works_and_most_of_a_large_one_is_used() {
        for limit in [1, 2, 10, 60, 3_000, 6_000] {
            let moments: Vec<_> = (0..60_000)
                .map(|tick| (f64::from(tick) * 0.01, 1.0))
                .collect();
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
        fn no_sixty_seconds_exceed_the_limit_however_the_pace_changes(
            limit in 1u32..7_000,
            steps in proptest::collection::vec((0.0f64..3.0, 0.0f64..=1.0), 1..400),
        ) {
            let mut at = 0.0;
            let moments: Vec<_> = steps.iter().map(|(gap, pace)| { at += gap; (at, *pace) }).collect();
            let busiest = busiest_minute(&draw_all(Budget::per_minute(limit), &moments));
            prop_assert!(busiest <= f64::from(limit), "{busiest} in a minute");
        }

        #[test]
        fn no_sixty_seconds_exceed_the_part_of_the_limit_that_a_steady_pace_allows(
            limit in 1u32..7_000,
            pace in 0.0f64..=1.0,
            gaps in proptest::collection::vec(0.0f64..3.0, 1..400),
        ) {
            let mut at = 0.0;
            let moments: Vec<_> = gaps.iter().map(|gap| { at += gap; (at, 1.0) }).collect();
            let budget = Budget::per_minute(limit).at_pace(pace);
            let busiest = busiest_minute(&draw_all(budget, &moments));
            let allowed = (budget.limit - 1e-6).ceil();
            prop_assert!(busiest <= allowed, "{busiest} in a minute, allowed {allowed}");
        }
    }
}

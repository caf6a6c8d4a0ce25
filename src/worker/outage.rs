//! What of trouble is worth a line in the log: that it began, now and then that it lasts, and that it is over.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

/// Trouble that lasts is told of again this often.
const AGAIN: Duration = Duration::from_secs(300);
/// Trouble that comes and goes is told of no more often than this.
const COMES_AND_GOES: Duration = Duration::from_secs(10);

/// Trouble with one thing, of one kind or several, and what was told of it.
#[derive(Debug, Default)]
pub struct Outage {
    since: Option<Instant>,
    told: BTreeMap<&'static str, Instant>,
}

impl Outage {
    /// It fails in this way, once more or for the first time. Whether to tell of it.
    pub fn goes_on(&mut self, kind: &'static str, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let is_news = self.told.get(kind).is_none_or(|at| {
            let silence = if *at >= since { AGAIN } else { COMES_AND_GOES };
            now.saturating_duration_since(*at) >= silence
        });
        if is_news {
            self.told.insert(kind, now);
        }
        is_news
    }

    /// It works. How long it did not, where that was told of.
    pub fn is_over(&mut self, now: Instant) -> Option<Duration> {
        let since = self.since.take()?;
        let was_told = self.told.values().any(|at| *at >= since);
        was_told.then(|| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_of_trouble_are_told_at_their_begin_every_five_minutes_and_at_their_end() {
        let began = Instant::now();
        let mut outage = Outage::default();
        let told: Vec<u64> = (0..=1_000)
            .filter(|s| {
                let now = began + Duration::from_secs(*s);
                // Whichever loop fails, in whatever words: it is one cause.
                outage.goes_on("unavailable", now) | outage.goes_on("unavailable", now)
            })
            .collect();
        assert_eq!(told, [0, 300, 600, 900]);
        let end = began + Duration::from_secs(1_001);
        assert_eq!(outage.is_over(end), Some(Duration::from_secs(1_001)));
        assert_eq!(outage.is_over(end), None);
    }

    #[test]
    fn each_kind_of_trouble_is_told_of() {
        let now = Instant::now();
        let mut outage = Outage::default();
        assert!(outage.goes_on("unavailable", now));
        assert!(outage.goes_on("login", now));
        assert!(!outage.goes_on("login", now));
    }

    #[test]
    fn trouble_that_comes_and_goes_is_told_of_every_ten_seconds_and_only_what_was_told_is_over() {
        let began = Instant::now();
        let mut outage = Outage::default();
        let (mut told, mut over) = (0, 0);
        for ms in (0..60_000).step_by(100) {
            let now = began + Duration::from_millis(ms);
            told += u32::from(outage.goes_on("timeout", now));
            over += u32::from(outage.is_over(now).is_some());
        }
        assert_eq!((told, over), (6, 6));
    }
}

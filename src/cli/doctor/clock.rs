//! This machine's clock against another's.

use std::time::Duration;

use chrono::DateTime;
use chrono::Utc;

use crate::cli::doctor::finding::Check;
use crate::cli::doctor::finding::Finding;

/// Further apart than clocks are that somebody keeps.
const ODD: Duration = Duration::from_secs(5);
/// Far enough apart for tokens and certificates to be taken for expired, and for times in logs to mislead.
const WRONG: Duration = Duration::from_secs(60);

/// When something was asked for its time, and when it had answered, on this machine's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) from: DateTime<Utc>,
    pub(super) to: DateTime<Utc>,
}

/// How far `theirs`, a time of this precision, is from when it was asked for: nothing while it may lie within.
fn apart(theirs: DateTime<Utc>, precision: Duration, asked: Asked) -> Duration {
    let precision = chrono::TimeDelta::from_std(precision).unwrap_or_default();
    let late = theirs - asked.to;
    let early = asked.from - theirs - precision;
    late.max(early).to_std().unwrap_or_default()
}

/// The database's clock is the one that leases and schedules go by.
pub(super) fn judge_database(theirs: DateTime<Utc>, asked: Asked) -> Finding {
    let apart = apart(theirs, Duration::ZERO, asked);
    let what = format!(
        "this machine's clock and the database's are {} apart",
        words(apart)
    );
    let next = "have both machines keep their clocks by NTP (`timedatectl`, `chronyc tracking` show the state); leases \
                and schedules go by the database's, logs and certificates by this one";
    match apart {
        _ if apart > WRONG => Finding::failed(Check::Clock, what, next),
        _ if apart > ODD => Finding::warning(Check::Clock, what, next),
        _ => Finding::ok(Check::Clock, what),
    }
}

/// Nothing here goes by the API's clock, so it is never worse than a warning. Its time is in whole seconds.
pub(super) fn judge_api(theirs: DateTime<Utc>, asked: Asked) -> Finding {
    let apart = apart(theirs, Duration::from_secs(1), asked);
    let what = format!(
        "this machine's clock and the API's are {} apart",
        words(apart)
    );
    if apart > ODD {
        let next = "see whose clock is wrong: where the database's agrees with this machine's, it is the API's, or that \
                    of a proxy";
        return Finding::warning(Check::Clock, what, next);
    }
    Finding::ok(Check::Clock, what)
}

fn words(apart: Duration) -> String {
    if apart < Duration::from_secs(1) {
        return "less than a second".to_owned();
    }
    humantime::format_duration(Duration::from_secs(apart.as_secs())).to_string()
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::cli::doctor::finding::Level;

    /// Asked for two seconds, a minute after the epoch.
    fn at(ms: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::milliseconds(60_000 + ms)
    }

    fn asked() -> Asked {
        Asked {
            from: at(0),
            to: at(2_000),
        }
    }

    #[test]
    fn a_clock_is_as_far_off_as_it_is_for_sure() {
        let table = [
            (0, Level::Ok),
            (2_000, Level::Ok),
            (-5_000, Level::Ok),
            (7_000, Level::Ok),
            (7_001, Level::Warning),
            (-5_001, Level::Warning),
            (62_000, Level::Warning),
            (-60_000, Level::Warning),
            (62_001, Level::Failed),
            (-60_001, Level::Failed),
        ];
        for (ms, level) in table {
            let finding = judge_database(at(ms), asked());
            assert_eq!(finding.level, level, "{ms}: {finding:?}");
            assert_eq!(finding.next.is_some(), level > Level::Ok);
        }
    }

    #[test]
    fn the_first_and_the_last_time_there_is_are_far_off_and_nothing_worse() {
        for theirs in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            assert_eq!(judge_api(theirs, asked()).level, Level::Warning);
            assert_eq!(judge_database(theirs, asked()).level, Level::Failed);
        }
    }

    #[test]
    fn the_apis_clock_has_whole_seconds_and_is_never_worse_than_a_warning() {
        let table = [
            (-6_000, Level::Ok),
            (-6_001, Level::Warning),
            (7_001, Level::Warning),
            (9_000_000, Level::Warning),
        ];
        for (ms, level) in table {
            assert_eq!(judge_api(at(ms), asked()).level, level, "{ms}");
        }
    }

    #[test]
    fn the_distance_is_named() {
        let what = judge_database(at(95_500), asked()).what;
        assert!(what.contains("1m 33s apart"), "{what}");
        let what = judge_database(at(0), asked()).what;
        assert!(what.contains("less than a second"), "{what}");
    }
}

//! Judgement on the tables that are kept in partitions.

use crate::cli::doctor::finding::Check;
use crate::cli::doctor::finding::Finding;
use crate::config::Retention;
use crate::store::LeftBehind;
use crate::store::PartitionState;
use crate::store::Partitioned;
use std::time::Duration;

/// Partitions are made a week ahead at least, and looked at every hour.
const AHEAD: f64 = 86_400.0;
/// One is dropped every five minutes at least, where nothing is in the way.
const OVERDUE: f64 = 86_400.0;

fn kept_for(retention: &Retention, relation: &str) -> Option<Duration> {
    let mut tables = Partitioned::ALL.into_iter();
    let table = tables.find(|table| table.as_str() == relation)?;
    Some(match table {
        Partitioned::Attempts => retention.attempts,
        Partitioned::Minutes => retention.minutes,
        Partitioned::Events => retention.events,
        Partitioned::ConnectionVersions | Partitioned::ToolVersions => retention.history,
    })
}

pub(super) fn judge(
    tables: &[PartitionState],
    retention: &Retention,
    left_behind: &[LeftBehind],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for LeftBehind { what, relation } in left_behind {
        findings.push(
            Finding::warning(
                Check::Partitions,
                format!(
                    "{what} belongs to feather.{relation}_before alone, the part of feather.{relation} that was there before \
                     partitions"
                ),
                format!(
                    "create it anew on feather.{relation}; a view or a function of that part keeps it from being dropped, too"
                ),
            )
            .at(format!("feather.{relation}")),
        );
    }
    for table in tables {
        let place = format!("feather.{}", table.relation);
        if let Some(keep) = kept_for(retention, &table.relation)
            && table.oldest_ended_seconds > keep.as_secs_f64() + OVERDUE
        {
            let days = (table.oldest_ended_seconds - keep.as_secs_f64()) / 86_400.0;
            findings.push(
                Finding::warning(
                    Check::Partitions,
                    format!("{} is past its time, by {days:.0} days", table.oldest),
                    "a running daemon drops it, unless something depends on it, a view say, which its log names; a report \
                     that never ends is in its way, too: see pg_stat_activity",
                )
                .at(place.clone()),
            );
        }
        if table.ahead_seconds < AHEAD {
            findings.push(
                Finding::warning(
                    Check::Partitions,
                    format!(
                        "there are none for the time after the next {:.0} hours; rows without one go to {}_default, which \
                         no retention drops as a whole",
                        table.ahead_seconds / 3600.0,
                        table.relation
                    ),
                    "a running daemon makes them; its log says why it cannot. A report that never ends is in its way: see \
                     pg_stat_activity",
                )
                .at(place.clone()),
            );
        }
        if table.strays {
            findings.push(
                Finding::warning(
                    Check::Partitions,
                    format!(
                        "rows lie in {}_default, because there was no partition for them when they came",
                        table.relation
                    ),
                    "nothing: they are read like all others, and deleted row by row when their time is over",
                )
                .at(place),
            );
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            Check::Partitions,
            "there are some ahead for every table that is kept in them",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Level;

    #[test]
    fn none_ahead_and_rows_without_one_are_worth_a_warning() {
        let day = Duration::from_secs(86_400);
        let retention = Retention {
            attempts: 3 * day,
            minutes: 3 * day,
            events: 30 * day,
            history: 3 * day,
        };
        let state = |ahead_seconds, strays| PartitionState {
            relation: "sync_events".into(),
            ahead_seconds,
            strays,
            oldest: "sync_events_before".into(),
            oldest_ended_seconds: 30.5 * AHEAD,
        };
        let table = [
            (state(7.0 * AHEAD, false), vec![Level::Ok]),
            (state(AHEAD / 2.0, false), vec![Level::Warning]),
            (state(7.0 * AHEAD, true), vec![Level::Warning]),
            (state(0.0, true), vec![Level::Warning, Level::Warning]),
        ];
        for (state, expected) in table {
            let findings = judge(std::slice::from_ref(&state), &retention, &[]);
            let levels: Vec<_> = findings.iter().map(|finding| finding.level).collect();
            assert_eq!(levels, expected, "{state:?}: {findings:?}");
        }
        let left_behind = LeftBehind {
            what: "materialized view public.kept".into(),
            relation: "sync_attempts".into(),
        };
        let findings = judge(&[state(7.0 * AHEAD, false)], &retention, &[left_behind]);
        assert_eq!(findings.len(), 1, "{findings:?}");
        let what = &findings[0].what;
        assert!(what.starts_with(
            "materialized view public.kept belongs to feather.sync_attempts_before alone"
        ));

        let overdue = PartitionState {
            oldest_ended_seconds: 33.0 * AHEAD,
            ..state(7.0 * AHEAD, false)
        };
        let findings = judge(&[overdue], &retention, &[]);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(
            findings[0].what,
            "sync_events_before is past its time, by 3 days"
        );
    }
}

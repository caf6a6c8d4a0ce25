//! Judgement on the tables that are kept in partitions.

use crate::cli::doctor::finding::Check;
use crate::cli::doctor::finding::Finding;
use crate::store::LeftBehind;
use crate::store::PartitionState;

/// Partitions are made a week ahead at least, and looked at every hour.
const AHEAD: f64 = 86_400.0;

pub(super) fn judge(tables: &[PartitionState], left_behind: &[LeftBehind]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for LeftBehind { what, relation } in left_behind {
        findings.push(
            Finding::warning(
                Check::Partitions,
                format!(
                    "{what} sees only feather.{relation}_before, the part of feather.{relation} that was there before partitions"
                ),
                "drop it and create it anew; until then that part is not dropped either",
            )
            .at(format!("feather.{relation}")),
        );
    }
    for table in tables {
        let place = format!("feather.{}", table.relation);
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
        let state = |ahead_seconds, strays| PartitionState {
            relation: "sync_events".into(),
            ahead_seconds,
            strays,
        };
        let table = [
            (state(7.0 * AHEAD, false), vec![Level::Ok]),
            (state(AHEAD / 2.0, false), vec![Level::Warning]),
            (state(7.0 * AHEAD, true), vec![Level::Warning]),
            (state(0.0, true), vec![Level::Warning, Level::Warning]),
        ];
        for (state, expected) in table {
            let findings = judge(std::slice::from_ref(&state), &[]);
            let levels: Vec<_> = findings.iter().map(|finding| finding.level).collect();
            assert_eq!(levels, expected, "{state:?}: {findings:?}");
        }
        let left_behind = LeftBehind {
            what: "materialized view public.kept".into(),
            relation: "sync_attempts".into(),
        };
        let findings = judge(&[state(7.0 * AHEAD, false)], &[left_behind]);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(
            findings[0]
                .what
                .starts_with("materialized view public.kept sees only")
        );
    }
}

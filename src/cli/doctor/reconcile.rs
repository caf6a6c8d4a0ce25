//! Judgement on the comparisons with the API's lists, where they are configured.

use crate::cli::doctor::finding::Check;
use crate::cli::doctor::finding::Finding;
use crate::cli::output::short;
use crate::cli::output::time;
use crate::store::ReconcileRow;

/// Overdue for longer, nobody begins it.
const OVERDUE: f64 = 300.0;

/// On each configured account.
pub(super) fn judge(rows: &[ReconcileRow], configured: &[&str]) -> Vec<Finding> {
    let judged = configured.iter().map(|name| {
        let row = rows.iter().find(|row| row.account == **name);
        judge_account(row).at(format!("account {name}"))
    });
    judged.collect()
}

fn judge_account(row: Option<&ReconcileRow>) -> Finding {
    let warning = |what: String, next: &str| Finding::warning(Check::Queue, what, next);
    let Some(row) = row else {
        return Finding::ok(Check::Queue, "not compared with the API's list yet");
    };
    if row.worker.is_none() && row.overdue_seconds > OVERDUE {
        return warning(
            format!(
                "to be compared with the API's list since {}, and nobody does",
                time(row.due_at)
            ),
            "see whether a daemon runs that has this account and reconcile.interval; its log says what fails",
        );
    }
    match row.outcome.as_deref() {
        Some("short") => warning(
            format!(
                "the API's list lacks {} of the {} connections that are held; nothing was removed",
                row.absent.unwrap_or_default(),
                row.held.unwrap_or_default()
            ),
            "see whether the key is that of another organisation: docs/runbook.md#feathersynclistshort",
        ),
        Some("failed") => warning(
            format!(
                "it could not be compared with the API's list: {}",
                row.error.as_deref().map_or_else(String::new, short)
            ),
            "it is tried again by itself; mend what it says",
        ),
        _ => Finding::ok(
            Check::Queue,
            row.finished_at.map_or_else(
                || "being compared with the API's list".to_owned(),
                |at| format!("compared with the API's list at {}", time(at)),
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Level;
    use chrono::DateTime;

    fn row() -> ReconcileRow {
        ReconcileRow {
            account: "acme".into(),
            due_at: DateTime::UNIX_EPOCH,
            overdue_seconds: -60.0,
            worker: None,
            finished_at: Some(DateTime::UNIX_EPOCH),
            outcome: Some("done".into()),
            error: None,
            held: Some(20),
            listed: Some(3),
            absent: Some(17),
        }
    }

    #[test]
    fn what_is_short_failed_or_overdue_is_a_warning_and_nothing_else_is() {
        let short = ReconcileRow {
            outcome: Some("short".into()),
            ..row()
        };
        let failed = ReconcileRow {
            outcome: Some("failed".into()),
            error: Some("HTTP 500".into()),
            ..row()
        };
        let overdue = ReconcileRow {
            overdue_seconds: 301.0,
            ..row()
        };
        let at_it = ReconcileRow {
            worker: Some("w".into()),
            ..overdue.clone()
        };
        let table = [
            (Some(row()), Level::Ok, "at 1970"),
            (Some(at_it), Level::Ok, "at 1970"),
            (None, Level::Ok, "not compared"),
            (Some(short), Level::Warning, "lacks 17 of the 20"),
            (Some(failed), Level::Warning, "HTTP 500"),
            (Some(overdue), Level::Warning, "nobody does"),
        ];
        for (row, level, what) in table {
            let finding = judge_account(row.as_ref());
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.what.contains(what), "{finding:?}");
        }
    }
}

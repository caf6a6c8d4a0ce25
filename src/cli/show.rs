//! `show`

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use uuid::Uuid;

use crate::cli::arguments;
use crate::cli::failure::Failure;
use crate::cli::invocation::Invocation;
use crate::cli::output;
use crate::cli::output::fields;
use crate::cli::output::harmless;
use crate::cli::output::or_dash;
use crate::cli::output::short;
use crate::cli::output::table;
use crate::cli::output::time;
use crate::store::AttemptRow;
use crate::store::ConnectionReport;
use crate::store::StatusRow;
use crate::store::ToolRow;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  feather-sync show 3c90c3cc-0d44-4b50-8888-8dd25736052a
  feather-sync show 3c90c3cc-0d44-4b50-8888-8dd25736052a --json | jq .status")]
pub(super) struct ShowArgs {
    /// Id of the connection
    #[arg(value_name = "ID", value_parser = arguments::connection_id)]
    id: Uuid,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// How many of its last attempts to show
    #[arg(long, value_name = "N", default_value_t = 20)]
    attempts: u32,
}

pub(super) async fn run(args: ShowArgs, invocation: &Invocation) -> Result<(), Failure> {
    let db = invocation.database().await?;
    let Some(report) = db.show(args.id, args.attempts).await? else {
        return Err(Failure::Failed(format!(
            "neither the queue nor the tables know a connection {}; to have it synced: feather-sync enqueue {}",
            args.id, args.id
        )));
    };
    if args.json {
        output::print_json(&report)?;
    } else {
        output::print(&page(&report))?;
    }
    Ok(())
}

fn page(report: &ConnectionReport) -> String {
    [
        status(&report.status),
        connection(report.connection.as_deref()),
        tools(&report.tools),
        attempts(&report.attempts),
    ]
    .join("\n\n")
}

fn status(row: &StatusRow) -> String {
    let state = match &row.phase {
        Some(phase) => format!("{} ({phase})", row.state),
        None => row.state.clone(),
    };
    let text = |text: &Option<String>| or_dash(text.as_deref(), harmless);
    let at = |at| or_dash(at, time);
    let rows = [
        ("account", harmless(&row.account)),
        ("state", state),
        ("attempt", row.attempt.to_string()),
        ("next attempt", at(row.next_attempt_at)),
        (
            "priority",
            or_dash(row.priority, |priority| priority.to_string()),
        ),
        ("last attempt", at(row.last_attempt_at)),
        ("last outcome", text(&row.last_outcome)),
        ("last success", at(row.last_success_at)),
        ("last error", text(&row.last_error_class)),
        ("", text(&row.last_error)),
    ];
    // The last row goes on about the one before.
    let rows = match row.last_error {
        Some(_) => &rows[..],
        None => &rows[..rows.len() - 1],
    };
    format!("Connection {}\n{}", row.connection_id, fields(rows))
}

fn connection(row: Option<&RawValue>) -> String {
    // An object, as the query makes it; its values stay text, so that numbers keep all digits.
    let values: Option<BTreeMap<String, Box<RawValue>>> =
        row.and_then(|row| serde_json::from_str(row.get()).ok());
    let Some(values) = values else {
        return "Received\n nothing yet".to_owned();
    };
    let (ours, theirs): (Vec<_>, Vec<_>) =
        values.iter().partition(|(name, _)| name.starts_with('_'));
    let rows: Vec<_> = theirs
        .into_iter()
        .chain(ours)
        .map(|(name, value)| (name.as_str(), plain(value)))
        .collect();
    format!("Received\n{}", fields(&rows))
}

/// A JSON string without its quotes, null as a dash, all else as it is.
fn plain(value: &RawValue) -> String {
    match value.get() {
        "null" => "-".to_owned(),
        json => match serde_json::from_str::<String>(json) {
            Ok(text) => short(&text),
            Err(_) => short(json),
        },
    }
}

fn tools(tools: &[ToolRow]) -> String {
    let there = tools
        .iter()
        .filter(|tool| tool.removed_at.is_none())
        .count();
    let title = match tools.len() - there {
        0 => format!("Tools: {there}"),
        removed => format!("Tools: {there}, and {removed} removed"),
    };
    if tools.is_empty() {
        return title;
    }
    let rows = tools.iter().map(|tool| {
        let state = match (tool.removed_at, tool.is_enabled) {
            (Some(removed_at), _) => format!("removed {}", time(removed_at)),
            (None, true) => "enabled".to_owned(),
            (None, false) => "disabled".to_owned(),
        };
        vec![
            short(&tool.slug),
            short(&tool.display_name),
            state,
            time(tool.changed_at),
        ]
    });
    format!(
        "{title}\n{}",
        table(&["SLUG", "NAME", "STATE", "CHANGED"], rows)
    )
}

fn attempts(attempts: &[AttemptRow]) -> String {
    if attempts.is_empty() {
        return "Attempts: none on record".to_owned();
    }
    let rows = attempts.iter().map(|row| {
        vec![
            time(row.started_at),
            took(row),
            row.kind.clone(),
            row.attempt.to_string(),
            row.outcome.clone(),
            or_dash(row.http_status, |status| status.to_string()),
            or_dash(row.error_class.clone(), |class| class),
            format!(
                "+{} ~{} -{}",
                row.tools_added, row.tools_changed, row.tools_removed
            ),
            or_dash(row.retry_at, time),
            row.error.as_deref().map_or_else(String::new, short),
        ]
    });
    let header = [
        "STARTED", "TOOK", "KIND", "ATTEMPT", "OUTCOME", "HTTP", "CLASS", "TOOLS", "RETRY", "ERROR",
    ];
    format!("Attempts, newest first\n{}", table(&header, rows))
}

fn took(row: &AttemptRow) -> String {
    format!(
        "{} ms",
        (row.finished_at - row.started_at).num_milliseconds()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_received_row_is_shown_with_all_digits_and_ours_last() {
        let row = RawValue::from_string(
            r#"{"_synced_at": "2026-01-01T00:00:00Z", "id": "a", "metadata": {"n": 1e400}, "vendor": "x\u001b[1m", "z": null}"#
                .to_owned(),
        )
        .unwrap();
        let page = connection(Some(&row));
        let names: Vec<_> = page
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(
            names,
            ["id", "metadata", "vendor", "z", "_synced_at"],
            "{page}"
        );
        assert!(
            page.contains(r#"{"n": 1e400}"#) && page.contains("x\\u{1b}[1m"),
            "{page}"
        );
    }
}

//! `enqueue`

use std::fs;
use std::io;
use std::io::Read;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::ArgGroup;
use uuid::Uuid;

use crate::cli::arguments;
use crate::cli::arguments::When;
use crate::cli::failure::Failure;
use crate::cli::invocation::Invocation;
use crate::cli::output;
use crate::cli::output::count;
use crate::cli::progress::Progress;
use crate::store::EnqueueRequest;

/// Connections per transaction: few enough for its time limit, many enough that most calls are one transaction.
const BATCH: usize = 100_000;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  feather-sync enqueue 3c90c3cc-0d44-4b50-8888-8dd25736052a
  feather-sync enqueue --file ids.txt --priority 100
  psql -Atc 'SELECT id FROM mine' | feather-sync enqueue --file -
  feather-sync enqueue --account acme --at +10m 3c90c3cc-0d44-4b50-8888-8dd25736052a

A file has one id a line; blank lines and lines that begin with # are skipped.
A program rather inserts into feather.sync_requests, in its own transaction.")]
#[command(group(ArgGroup::new("which").args(["ids", "file"]).required(true).multiple(true)))]
pub(super) struct EnqueueArgs {
    /// Ids of connections
    #[arg(value_name = "ID", value_parser = arguments::connection_id)]
    ids: Vec<Uuid>,

    /// File with one id a line, or - for standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Account whose API key is used
    #[arg(long, default_value = "default", value_parser = arguments::account)]
    account: String,

    /// Smaller runs sooner, -32768 to 32767
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    priority: i16,

    /// Not before this time (2030-01-31T08:00:00Z), or so long from now (+10m)
    #[arg(long, value_name = "TIME")]
    at: Option<When>,
}

pub(super) async fn run(args: EnqueueArgs, invocation: &Invocation) -> Result<(), Failure> {
    let mut ids = args.ids;
    if let Some(file) = args.file {
        ids.extend(read_ids(&file)?);
    }
    let run_at = args
        .at
        .map(|when| when.resolve(SystemTime::now()))
        .transpose()
        .map_err(Failure::Usage)?;

    let db = invocation.database().await?;
    // Whoever may enqueue need not be allowed to see the accounts.
    let known = db.accounts().await.ok();
    let progress = Progress::new("enqueued", Some(ids.len()), BATCH);
    let mut enqueued = 0;
    for batch in ids.chunks(BATCH) {
        let request = EnqueueRequest {
            connection_ids: batch.to_vec(),
            account: args.account.clone(),
            priority: args.priority,
            run_at,
        };
        enqueued += db.enqueue(&request).await.map_err(|error| {
            Failure::Failed(match enqueued {
                0 => error.to_string(),
                _ => format!(
                    "{}; of {} ids the first {enqueued} were enqueued{}. Run it again when that is mended: all requests \
                     for a connection become one sync",
                    error.why,
                    ids.len(),
                    if error.may_have_happened { ", and perhaps more" } else { "" }
                ),
            })
        })?;
        progress.reached(enqueued);
    }
    progress.end();
    if known.is_some_and(|rows| !rows.iter().any(|row| row.account == args.account)) {
        output::remark(&format!(
            "feather-sync: no daemon has been configured with account {} yet; the requests wait until one is",
            output::harmless(&args.account)
        ));
    }
    output::print(&format!("enqueued {}", count(enqueued, "request")))?;
    Ok(())
}

fn read_ids(file: &PathBuf) -> Result<Vec<Uuid>, Failure> {
    let stdin = file.as_os_str() == "-";
    let name = if stdin {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    };
    let text = if stdin {
        let mut text = Vec::new();
        io::stdin().lock().read_to_end(&mut text).map(|_| text)
    } else {
        fs::read(file)
    };
    let text = text.map_err(|error| {
        Failure::Failed(format!("cannot read {name}: {error}; nothing was enqueued"))
    })?;
    ids(&name, &String::from_utf8_lossy(&text)).map_err(Failure::Failed)
}

/// One id a line; all lines are read before one is enqueued.
fn ids(name: &str, text: &str) -> Result<Vec<Uuid>, String> {
    let mut ids = Vec::new();
    let mut first_bad = None;
    let mut bad = 0_u64;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match arguments::connection_id(line) {
            Ok(id) => ids.push(id),
            Err(_) => {
                bad += 1;
                first_bad.get_or_insert((number, line));
            }
        }
    }
    let Some((number, line)) = first_bad else {
        return Ok(ids);
    };
    let more = match bad - 1 {
        0 => String::new(),
        more => format!(" (nor are {})", count(more, "further line")),
    };
    Err(format!(
        "{name}:{number}: {:?} is not a connection's id{more}; nothing was enqueued. Write one UUID a line",
        output::short(line)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3c90c3cc-0d44-4b50-8888-8dd25736052a";

    #[test]
    fn blank_lines_comments_and_foreign_line_ends_are_skipped() {
        let text = format!(
            "\u{feff}{ID}\r\n\r\n  # a comment\n\t{}  \n\n{ID}",
            ID.to_uppercase()
        );
        assert_eq!(ids("f", &text).unwrap().len(), 3);
        assert!(ids("f", "").unwrap().is_empty());
    }

    #[test]
    fn the_first_bad_line_is_named_and_the_others_are_counted() {
        let text = format!("{ID}\n\nnot-an-id\n{ID},x\n");
        let problem = ids("ids.txt", &text).unwrap_err();
        assert!(
            problem.starts_with("ids.txt:3: \"not-an-id\" is not"),
            "{problem}"
        );
        assert!(
            problem.contains("1 further line") && problem.contains("nothing was enqueued"),
            "{problem}"
        );
    }
}

//! `backfill`

use serde::Serialize;
use uuid::Uuid;

use crate::cli::arguments;
use crate::cli::failure::Failure;
use crate::cli::invocation::Invocation;
use crate::cli::output;
use crate::cli::output::count;
use crate::cli::output::harmless;
use crate::cli::output::short;
use crate::cli::progress::Progress;
use crate::config::Config;
use crate::daemon;
use crate::domain::Budget;
use crate::domain::listed::FollowUp;
use crate::store::Change;
use crate::worker::Asking;
use crate::worker::Found;
use crate::worker::Inventory;
use crate::worker::InventoryError;
use crate::worker::Tally;

/// Connections between two signs of progress.
const STEP: u64 = 1_000;

/// How many that are not in the tables are named.
const NAMED: u64 = 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  feather-sync backfill --dry-run
  feather-sync backfill
  feather-sync backfill --account acme --only-missing
  feather-sync backfill --json | jq .finalize

One call lists all connections of the account, and what the list says of each is
stored. Those that have finished OAuth and were never finalized are enqueued, and
those whose tools are still being synced are polled, behind all fresh work: a
daemon has to run for that. Nothing is removed for being absent from the list.
It can be repeated and interrupted at will, while daemons work.")]
pub(super) struct BackfillArgs {
    /// Account whose connections are listed
    #[arg(long, default_value = "default", value_parser = arguments::account)]
    account: String,

    /// Leave connections alone that the tables hold already
    #[arg(long)]
    only_missing: bool,

    /// Print what would change, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    account: &'a str,
    dry_run: bool,
    /// The list came to its end.
    complete: bool,
    error: Option<String>,
    #[serde(flatten)]
    tally: &'a Tally,
    /// Of a dry run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<Line>,
}

/// A connection that would not stay as it is.
#[derive(Debug, Serialize)]
struct Line {
    connection_id: Uuid,
    change: Change,
    next: FollowUp,
}

pub(super) async fn run(args: BackfillArgs, invocation: &Invocation) -> Result<(), Failure> {
    let config = invocation.config()?;
    let name = args.account.as_str();
    let account = config
        .account(name)?
        .ok_or_else(|| Failure::Usage(not_configured(&config, name)))?;
    let db = invocation.database().await?;
    let client = daemon::client(&config, name, &account)?;
    if !args.dry_run {
        let detail = args.only_missing.then_some("only what is missing");
        db.note(&invocation.actor(), "backfill", name, detail)
            .await?;
    }

    let mut tally = Tally::default();
    let mut changes = Vec::new();
    let progress = Progress::new("listed", None, 0);
    let inventory = Inventory {
        db: &db,
        client: &client,
        account: &name.into(),
        budget: Budget::per_minute(account.requests_per_minute),
        settle: &daemon::settle_rule(&config),
        retry: &daemon::retry_policy(&config),
        only_missing: args.only_missing,
        rehearse: args.dry_run,
        asking: &Asking::default(),
        heard: &|_| {},
    };
    let end = inventory
        .take(|found| {
            tally.count(&found);
            if let Some(why) = missed(&found)
                && tally.missed() <= NAMED
            {
                output::remark(&format!("feather-sync: {why}"));
            }
            if let Found::Applied(applied) = &found
                && args.dry_run
            {
                changes.extend(line(applied.id, applied.change, applied.next));
            }
            if tally.listed.is_multiple_of(STEP) {
                progress.reached(tally.listed);
            }
        })
        .await;
    progress.end();

    let broken_off = end.err();
    if args.json {
        output::print_json(&Report {
            account: name,
            dry_run: args.dry_run,
            complete: broken_off.is_none(),
            error: broken_off.as_ref().map(ToString::to_string),
            tally: &tally,
            changes,
        })?;
    } else {
        print(&args, &tally, &changes)?;
    }
    match broken_off {
        Some(error) => Err(Failure::Failed(ended_early(&error, &tally, args.dry_run))),
        None if tally.missed() > 0 => Err(Failure::Failed(format!(
            "{} of the list {} not in the tables",
            count(tally.missed(), "connection"),
            if tally.missed() == 1 { "is" } else { "are" }
        ))),
        None => Ok(()),
    }
}

fn not_configured(config: &Config, name: &str) -> String {
    let known: Vec<_> = config
        .declared_accounts
        .keys()
        .map(|name| harmless(name))
        .collect();
    format!(
        "no account {} is configured; there is {}",
        harmless(name),
        known.join(", ")
    )
}

/// Of a connection that is listed and not in the tables: why.
fn missed(found: &Found) -> Option<String> {
    match found {
        Found::Unfit(why) => Some(short(why)),
        Found::Unstorable(id, why) => Some(format!("{id} cannot be stored: {}", short(why))),
        Found::Applied(applied) if applied.change == Change::OtherAccount => Some(format!(
            "{} is held from another account and was left alone; `feather-sync show {}` says which",
            applied.id, applied.id
        )),
        Found::Applied(_) => None,
    }
}

fn line(connection_id: Uuid, change: Change, next: FollowUp) -> Option<Line> {
    let changes = match change {
        Change::New | Change::Revived | Change::Changed => true,
        Change::Unchanged | Change::Newer | Change::OtherAccount | Change::NotMissing => false,
    };
    (changes || next != FollowUp::Nothing).then_some(Line {
        connection_id,
        change,
        next,
    })
}

impl Line {
    fn text(&self) -> String {
        let change = match self.change {
            Change::New => "new      ",
            Change::Revived => "revived  ",
            Change::Changed => "changed  ",
            Change::Unchanged | Change::Newer | Change::OtherAccount | Change::NotMissing => {
                "unchanged"
            }
        };
        let next = match self.next {
            FollowUp::Nothing => "",
            FollowUp::Finalize => "  to be finalized",
            FollowUp::Follow => "  to be followed until its tools have settled",
        };
        format!("{change}  {}{next}", self.connection_id)
    }
}

fn print(args: &BackfillArgs, tally: &Tally, changes: &[Line]) -> Result<(), Failure> {
    let mut lines: Vec<_> = changes.iter().map(Line::text).collect();
    if args.dry_run {
        lines.push("nothing was changed; without --dry-run it would be:".to_owned());
    }
    lines.push(format!(
        "{} listed: {} new, {} revived, {} changed, {} unchanged",
        count(tally.listed, "connection"),
        tally.new,
        tally.revived,
        tally.changed,
        tally.unchanged
    ));
    lines.push(format!(
        "tools: {} added, {} changed, {} removed",
        tally.tools_added, tally.tools_changed, tally.tools_removed
    ));
    lines.push(format!(
        "next: {} to be finalized, {} to be followed until their tools have settled",
        tally.finalize, tally.follow
    ));
    for (number, why) in [
        (tally.not_missing, "not missing"),
        (tally.newer, "what is stored is newer"),
        (tally.other_account, "held from another account"),
        (tally.unfit, "not what the API promises"),
        (tally.unstorable, "refused by the database"),
    ] {
        if number > 0 {
            lines.push(format!("left alone: {number}, {why}"));
        }
    }
    output::print(&lines.join("\n"))?;
    Ok(())
}

/// Says how far it came, and that it may be repeated.
fn ended_early(error: &InventoryError, tally: &Tally, dry_run: bool) -> String {
    let is_database = matches!(error, InventoryError::Store(_));
    if tally.listed == 0 {
        let what = if is_database { "stored" } else { "listed" };
        return format!("{error}; nothing was {what}");
    }
    let what = if is_database {
        "the database failed"
    } else {
        "the list ended early"
    };
    let holds = if dry_run {
        "what is said of them holds"
    } else {
        "they are stored"
    };
    format!(
        "{what}, after {}: {error}; {holds}, and nothing was removed. Run it again",
        count(tally.listed, "connection")
    )
}

//! `verify`

use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::invocation::Invocation;
use crate::cli::output;
use crate::cli::output::count;
use crate::cli::output::harmless;
use crate::cli::output::table;
use crate::cli::progress::Progress;
use crate::store::Finding;
use crate::store::Invariant;
use crate::store::VerifySettings;
use crate::store::Violation;

/// Pages of tables below which it is over before anybody wonders: 128 MiB.
const SOON: usize = 16_384;

/// Signs of progress on the whole.
const STEPS: u64 = 100;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  feather-sync verify
  feather-sync verify --list
  feather-sync verify --json | jq '.invariants[] | select(.holds | not)'

It only reads, and locks nothing: daemons may be at work meanwhile. Large tables
are read a few pages at a time. Exit code 1 when an invariant is broken.")]
pub(super) struct VerifyArgs {
    /// Print what is promised, without asking the database
    #[arg(long)]
    list: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    holds: bool,
    invariants: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    name: &'static str,
    promise: &'static str,
    remedy: &'static str,
    #[serde(flatten)]
    found: Option<Found>,
}

#[derive(Debug, Serialize)]
struct Found {
    holds: bool,
    violations: Vec<Violation>,
    more: bool,
}

pub(super) async fn run(args: VerifyArgs, invocation: &Invocation) -> Result<(), Failure> {
    if args.list {
        return list(args.json);
    }
    let settings = VerifySettings::new(invocation.config()?.retention.attempts);
    let db = invocation.database().await?;
    let mut shown = 0;
    let mut progress = None;
    let findings = db
        .verify(&settings, |done, total| {
            let size = usize::try_from(total).unwrap_or(usize::MAX);
            let progress = progress.get_or_insert_with(|| Progress::new("pages", Some(size), SOON));
            // Plain lines are for people too: not one for every slice.
            let step = (done * STEPS).checked_div(total).unwrap_or(STEPS);
            if step > shown {
                shown = step;
                progress.reached(done);
            }
        })
        .await;
    if let Some(progress) = progress {
        progress.end();
    }
    let findings = findings?;

    let all = findings.len();
    let broken = findings.iter().filter(|finding| !finding.holds()).count();
    if args.json {
        let invariants = findings.into_iter().map(entry).collect();
        output::print_json(&Report {
            holds: broken == 0,
            invariants,
        })?;
    } else {
        let lines: Vec<_> = findings.iter().map(lines).collect();
        output::print(&lines.join("\n"))?;
    }
    match broken {
        0 => Ok(()),
        _ => Err(Failure::Failed(format!(
            "{broken} of {all} invariants are broken"
        ))),
    }
}

fn list(json: bool) -> Result<(), Failure> {
    if json {
        let entries: Vec<_> = Invariant::ALL
            .into_iter()
            .map(|invariant| describe(invariant, None))
            .collect();
        output::print_json(&entries)?;
    } else {
        let rows = Invariant::ALL
            .into_iter()
            .map(|invariant| vec![invariant.name().to_owned(), invariant.promise().to_owned()]);
        output::print(&table(&["INVARIANT", "PROMISE"], rows))?;
    }
    Ok(())
}

fn describe(invariant: Invariant, found: Option<Found>) -> Entry {
    Entry {
        name: invariant.name(),
        promise: invariant.promise(),
        remedy: invariant.remedy(),
        found,
    }
}

fn entry(finding: Finding) -> Entry {
    let found = Found {
        holds: finding.holds(),
        violations: finding.violations,
        more: finding.more,
    };
    describe(finding.invariant, Some(found))
}

/// What is said about one invariant: a line, and where it is broken the rows and what to do.
fn lines(finding: &Finding) -> String {
    let name = finding.invariant.name();
    if finding.holds() {
        return format!("ok      {name}");
    }
    let mut lines = vec![format!("broken  {name}: {}", finding.invariant.promise())];
    lines.extend(finding.violations.iter().map(|violation| {
        let mut line = "          ".to_owned();
        if let Some(id) = violation.connection_id {
            line += &format!("{id} ");
        }
        if let Some(account) = &violation.account {
            line += &format!("({}) ", harmless(account));
        }
        line + &harmless(&violation.detail)
    }));
    if finding.more {
        let shown = count(finding.violations.len() as u64, "row");
        lines.push(format!("          and more than these {shown}"));
    }
    lines.push(format!("        {}.", finding.invariant.remedy()));
    lines.join("\n")
}

//! What to think of it: whether all is well, and if not, what to do.

use serde::Serialize;

use crate::cli::output::count;
use crate::cli::output::short;
use crate::cli::output::time;
use crate::cli::status::AccountUse;
use crate::cli::status::Status;
use crate::cli::status::page::age;
use crate::cli::status::page::percent;
use crate::domain::ErrorClass;
use crate::store::HealthRow;
use crate::store::OldestDue;
use crate::store::ReconcileRow;

/// Due or waiting for longer, in seconds, it waits for more than its turn.
const OVERDUE: f64 = 300.0;
/// In use, an account's limit is used up: a bucket leaves some of it.
const USED_UP: f64 = 0.9;
/// A comparison that is overdue for longer, in seconds, is not repeated any more.
const REPEATED: f64 = 3600.0;
/// Failures of an hour that may be those of some connections alone.
const FEW: i64 = 20;

/// Something that somebody should do something about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Concern {
    /// The account that it is about; none when it is about all.
    pub(super) account: Option<String>,
    pub(super) what: String,
    pub(super) next: String,
}

impl Concern {
    fn of_all(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            account: None,
            what: what.into(),
            next: next.into(),
        }
    }

    fn of(account: &str, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            account: Some(account.to_owned()),
            ..Self::of_all(what, next)
        }
    }
}

/// The page's first line.
pub(super) fn summary(status: &Status, concerns: &[Concern]) -> String {
    let Some((worst, others)) = concerns.split_first() else {
        let daemons = count(status.replicas.len() as u64, "daemon");
        let due: i64 = status.health.iter().map(|row| row.due).sum();
        let due = count(due.unsigned_abs(), "job");
        return format!("All is well: {daemons} at work, {due} due.");
    };
    let others = match others.len() as u64 {
        0 => String::new(),
        others => format!(" (and {}, below)", count(others, "lesser thing")),
    };
    format!("{}: {}{others}.", worst.what, worst.next)
}

/// All concerns, the worst first: what keeps everything from being synced, then what keeps an account from it, then what
/// makes it slow, then what waits for somebody.
pub(super) fn concerns(status: &Status) -> Vec<Concern> {
    let mut concerns = Vec::new();
    concerns.extend(no_daemon(status));
    concerns.extend(not_taken_in(status));
    concerns.extend(status.accounts.iter().filter_map(refused_key));
    concerns.extend(
        status
            .oldest_due
            .iter()
            .filter_map(|due| stalled(status, due)),
    );
    concerns.extend(status.health.iter().filter_map(|row| failing(status, row)));
    concerns.extend(status.health.iter().filter_map(|row| unknown(status, row)));
    concerns.extend(status.accounts.iter().filter_map(paused));
    concerns.extend(status.oldest_due.iter().filter_map(|due| slow(status, due)));
    concerns.extend(status.accounts.iter().filter_map(rate_limited));
    concerns.extend(status.reconciles.iter().filter_map(not_compared));
    concerns.extend(status.health.iter().filter_map(dead));
    concerns
}

fn no_daemon(status: &Status) -> Option<Concern> {
    status.replicas.is_empty().then(|| {
        Concern::of_all(
            "No daemon is running, and nothing is synced",
            "start one with `systemctl start feather-sync`, or `feather-sync run`",
        )
    })
}

fn not_taken_in(status: &Status) -> Option<Concern> {
    let request = status.oldest_request.as_ref()?;
    let overdue = request.waiting_seconds > OVERDUE && !status.replicas.is_empty();
    overdue.then(|| {
        Concern::of_all(
            format!(
                "Requests have not been taken in for {}",
                age(request.waiting_seconds)
            ),
            "the daemons' log says why; who holds a lock is asked in docs/runbook.md#feathersyncrequestsnottakenin",
        )
    })
}

fn refused_key(account: &AccountUse) -> Option<Concern> {
    let name = &account.row.account;
    (account.row.pause_reason.as_deref() == Some("auth")).then(|| {
        Concern::of(
            name,
            format!("The API refuses the key of account {name}"),
            "put one that is accepted where the configuration looks for it, and work goes on by itself",
        )
    })
}

/// The account of an overdue job, if it is free to work.
fn hindered<'a>(status: &'a Status, due: &OldestDue) -> Option<&'a AccountUse> {
    let of_this = |account: &&AccountUse| account.row.account == due.account;
    let account = status.accounts.iter().find(of_this)?;
    let row = &account.row;
    let is_free = row.operator_paused_at.is_none()
        && row.pause_reason.is_none()
        && status
            .replicas
            .iter()
            .any(|replica| replica.accounts.contains(&due.account));
    (is_free && due.due_seconds > OVERDUE).then_some(account)
}

fn stalled(status: &Status, due: &OldestDue) -> Option<Concern> {
    let account = hindered(status, due)?;
    let name = &due.account;
    (account.calls_last_minute == 0).then(|| {
        Concern::of(
            name,
            format!(
                "Account {name} has had work due for {}, and nobody has called the API for a minute",
                age(due.due_seconds)
            ),
            "the daemons' log says why (`journalctl -u feather-sync`), and `feather-sync doctor` tries what they need",
        )
    })
}

fn failing(status: &Status, row: &HealthRow) -> Option<Concern> {
    let name = &row.account;
    let errors = status
        .errors_last_hour
        .iter()
        .filter(|error| error.account == *name)
        .filter_map(|error| Some((class_of(&error.error_class)?, error.failures)))
        // Pauses say so themselves, and an unfinished OAuth is the user's to finish.
        .filter(|(class, _)| {
            !matches!(
                class,
                ErrorClass::Auth | ErrorClass::RateLimited | ErrorClass::NotActive
            )
        });
    let failures: i64 = errors.clone().map(|(_, failures)| failures).sum();
    let (class, _) = errors.max_by_key(|(_, failures)| *failures)?;
    let many = failures > FEW && failures * 4 > failures + row.synced_last_hour;
    many.then(|| {
        Concern::of(
            name,
            format!(
                "{failures} attempts of account {name} failed in the last hour, and {} ended synced; most failures are {class}",
                row.synced_last_hour
            ),
            remedy(class),
        )
    })
}

fn class_of(word: &str) -> Option<ErrorClass> {
    ErrorClass::ALL
        .into_iter()
        .find(|class| class.as_str() == word)
}

/// The short form of docs/operating.md#error-classes.
fn remedy(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Auth => "put a key that is accepted where the configuration looks for it",
        ErrorClass::RateLimited => {
            "lower requests_per_minute, since others use the organisation's limit too"
        }
        ErrorClass::Forbidden => {
            "check what the key may do, then `feather-sync retry --dead --class forbidden`"
        }
        ErrorClass::NotFound => "see whether they are enqueued for the right account",
        ErrorClass::InvalidRequest => {
            "`feather-sync show ID` of one of them has what the API dislikes"
        }
        ErrorClass::Conflict => "wait; if it goes on, ask Feather",
        ErrorClass::Upstream => {
            "wait for Feather, then `feather-sync retry --dead --class upstream`"
        }
        ErrorClass::Timeout => {
            "see with `feather-sync doctor` how slow the API is, and raise api.request_timeout if its answers are real"
        }
        ErrorClass::Network => {
            "`feather-sync doctor` on the daemon's machine tries name resolution, connection and certificate"
        }
        ErrorClass::Protocol => {
            "`feather-sync show ID` of one of them has how the answer begins; base_url may lead elsewhere"
        }
        ErrorClass::Mismatch => {
            "report it to Feather, with upstream_request_id from feather.sync_attempts"
        }
        ErrorClass::OtherAccount => {
            "see in `feather-sync show ID` of one of them which account holds it, and enqueue them for that one"
        }
        ErrorClass::NotActive => "their users have to finish OAuth",
        ErrorClass::SettleTimeout => {
            "look at tools_status in feather.sync_status: a word that means done belongs into settle.done"
        }
        ErrorClass::ToolsFailed => {
            "see status_reason in feather.connections and mend it upstream, then `feather-sync retry --dead --class \
             tools_failed`"
        }
        ErrorClass::Storage => "`feather-sync show ID` of one of them has what Postgres refused",
        ErrorClass::LeaseLost => {
            "see why daemons die or stall: memory, a stopped machine, a database that was away for long"
        }
    }
}

fn unknown(status: &Status, row: &HealthRow) -> Option<Concern> {
    let name = &row.account;
    let waiting = (row.pending + row.requests_waiting).unsigned_abs();
    let is_unknown = row.paused_reason.as_deref() == Some("unknown_account");
    (is_unknown && waiting > 0 && !status.replicas.is_empty()).then(|| {
        let verb = if waiting == 1 { "waits" } else { "wait" };
        Concern::of(
            name,
            format!(
                "{} {verb} for account {name}, which no running daemon knows",
                count(waiting, "connection")
            ),
            format!("add [accounts.{name}] to the configuration and restart the daemons"),
        )
    })
}

fn paused(account: &AccountUse) -> Option<Concern> {
    let name = &account.row.account;
    let by = account.row.operator_paused_by.as_deref();
    account.row.operator_paused_at.map(|since| {
        Concern::of(
            name,
            format!(
                "Account {name} has been paused by {} since {}",
                by.unwrap_or("an operator"),
                time(since)
            ),
            format!("`feather-sync resume {name}` lets its work go on"),
        )
    })
}

fn slow(status: &Status, due: &OldestDue) -> Option<Concern> {
    let account = hindered(status, due).filter(|account| account.calls_last_minute > 0)?;
    let name = &due.account;
    let what = format!(
        "Account {name} is behind, with work due for {}",
        age(due.due_seconds)
    );
    let pace = account.row.pace;
    let used_up = account
        .rate_used_ratio
        .is_some_and(|used| used >= USED_UP * pace);
    let next = match (used_up, pace < 1.0) {
        (true, true) => format!(
            "the API's limit is lower than requests_per_minute, {} of which is drawn; wait, or ask Feather for more",
            percent(pace)
        ),
        (true, false) => {
            "requests_per_minute is used up; wait, or raise it if the organisation's limit has room".into()
        }
        (false, _) => {
            "calls are slow, for the rate limit has room; raise worker.concurrency, or start another replica".into()
        }
    };
    Some(Concern::of(name, what, next))
}

fn not_compared(row: &ReconcileRow) -> Option<Concern> {
    let name = &row.account;
    // Where nobody repeats it any more, reconciling has been turned off.
    let is_repeated = row.overdue_seconds < REPEATED;
    let (what, next) = match row.outcome.as_deref() {
        Some("short") => (
            format!(
                "The API's list of account {name} lacks {} of {} connections that are held, and nothing was removed",
                row.absent.unwrap_or_default(),
                row.held.unwrap_or_default()
            ),
            "see whether the key is that of another organisation, docs/runbook.md#feathersynclistshort".to_owned(),
        ),
        Some("failed") => (
            format!(
                "Account {name} could not be compared with the API's list: {}",
                row.error.as_deref().map_or_else(String::new, short)
            ),
            "it is tried again by itself".to_owned(),
        ),
        _ => return None,
    };
    is_repeated.then(|| Concern::of(name, what, next))
}

fn dead(row: &HealthRow) -> Option<Concern> {
    let name = &row.account;
    let verb = if row.dead == 1 { "is" } else { "are" };
    (row.dead > 0).then(|| {
        Concern::of(
            name,
            format!(
                "{} of account {name} {verb} dead",
                count(row.dead.unsigned_abs(), "job")
            ),
            format!(
                "mend what last_error_class in feather.sync_status says, then `feather-sync retry --dead --account {name}`"
            ),
        )
    })
}

fn rate_limited(account: &AccountUse) -> Option<Concern> {
    let row = &account.row;
    let name = &row.account;
    let until = row
        .paused_until
        .map_or_else(String::new, |until| format!(" until {}", time(until)));
    (row.pause_reason.as_deref() == Some("rate_limited")).then(|| {
        Concern::of(
            name,
            format!("The API's rate limit holds account {name} back{until}"),
            "it goes on by itself; if it keeps happening, lower requests_per_minute",
        )
    })
}

#[cfg(test)]
mod tests;

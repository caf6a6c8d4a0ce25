use chrono::DateTime;
use chrono::Utc;
use uuid::Uuid;

use super::*;
use crate::store::AccountRow;
use crate::store::ErrorCount;
use crate::store::OldestRequest;
use crate::store::ReconcileRow;
use crate::store::ReplicaRow;

const NOON: DateTime<Utc> = DateTime::UNIX_EPOCH;

/// One daemon, one account that has made 10 of 60 calls, and a job that has just become due.
fn well() -> Status {
    let row = AccountRow {
        account: "acme".into(),
        requests_per_minute: Some(60),
        pace: 1.0,
        pause_reason: None,
        paused_until: None,
        pause_error: None,
        operator_paused_at: None,
        operator_paused_by: None,
    };
    Status {
        health: vec![HealthRow {
            account: "acme".into(),
            pending: 3,
            due: 1,
            running: 0,
            settling: 0,
            dead: 0,
            requests_waiting: 0,
            oldest_due_seconds: 1.0,
            paused_reason: None,
            synced_last_hour: 60,
            failed_last_hour: 20,
            as_of: NOON,
        }],
        accounts: vec![AccountUse::new(row, 10)],
        replicas: vec![ReplicaRow {
            worker: "w".into(),
            version: "1".into(),
            accounts: vec!["acme".into()],
            started_at: NOON,
            seen_at: NOON,
        }],
        oldest_due: vec![OldestDue {
            account: "acme".into(),
            connection_id: Uuid::nil(),
            due_at: NOON,
            due_seconds: 300.0,
            phase: "finalize".into(),
            attempt: 0,
            priority: 0,
        }],
        oldest_request: Some(OldestRequest {
            account: "acme".into(),
            connection_id: Uuid::nil(),
            requested_at: NOON,
            waiting_seconds: 300.0,
        }),
        errors_last_hour: vec![
            errors("not_active", 900),
            errors("auth", 900),
            errors("upstream", 20),
        ],
        reconciles: vec![ReconcileRow {
            account: "acme".into(),
            due_at: NOON,
            overdue_seconds: -60.0,
            worker: None,
            finished_at: Some(NOON),
            outcome: Some("done".into()),
            error: None,
            held: Some(20),
            listed: Some(3),
            absent: Some(17),
        }],
    }
}

fn short_list(status: &mut Status) {
    status.reconciles[0].outcome = Some("short".into());
}

fn failed_list(status: &mut Status) {
    status.reconciles[0].outcome = Some("failed".into());
    status.reconciles[0].error = Some("HTTP 500".into());
}

fn no_list_any_more(status: &mut Status) {
    status.reconciles[0].overdue_seconds = 3_601.0;
}

fn errors(class: &str, failures: i64) -> ErrorCount {
    ErrorCount {
        account: "acme".into(),
        error_class: class.into(),
        failures,
    }
}

fn no_replica(status: &mut Status) {
    status.replicas.clear();
}

fn not_taken_in(status: &mut Status) {
    if let Some(request) = &mut status.oldest_request {
        request.waiting_seconds = 301.0;
    }
}

fn key_refused(status: &mut Status) {
    status.accounts[0].row.pause_reason = Some("auth".into());
}

fn overdue(status: &mut Status) {
    status.oldest_due[0].due_seconds = 3_661.9;
}

fn idle(status: &mut Status) {
    status.accounts[0] = AccountUse::new(status.accounts[0].row.clone(), 0);
}

fn busy(status: &mut Status) {
    status.accounts[0] = AccountUse::new(status.accounts[0].row.clone(), 54);
}

fn slowed(status: &mut Status) {
    status.accounts[0].row.pace = 0.648;
}

fn failing(status: &mut Status) {
    status.errors_last_hour = vec![errors("upstream", 15), errors("timeout", 16)];
}

fn unknown(status: &mut Status) {
    status.health[0].paused_reason = Some("unknown_account".into());
    status.replicas[0].accounts.clear();
}

fn paused(status: &mut Status) {
    status.accounts[0].row.operator_paused_at = Some(NOON);
    status.accounts[0].row.operator_paused_by = Some("ann@db".into());
}

fn limited(status: &mut Status) {
    status.accounts[0].row.pause_reason = Some("rate_limited".into());
    status.accounts[0].row.paused_until = Some(NOON);
}

fn dead(status: &mut Status) {
    status.health[0].dead = 2;
}

fn said(troubles: &[fn(&mut Status)]) -> String {
    let mut status = well();
    for trouble in troubles {
        trouble(&mut status);
    }
    summary(&status, &concerns(&status))
}

#[test]
fn the_first_line_says_that_all_is_well_or_what_to_do_about_the_worst_thing() {
    type Case<'a> = (&'a [fn(&mut Status)], &'a str);
    let table: [Case<'_>; 20] = [
        (&[], "All is well: 1 daemon at work, 1 job due."),
        (
            &[no_replica],
            "No daemon is running, and nothing is synced: start one with `systemctl start feather-sync`, or \
             `feather-sync run`.",
        ),
        // What follows from that is not worth a word.
        (
            &[no_replica, not_taken_in, overdue, idle, unknown_but_alone],
            "No daemon is running, and nothing is synced: start one with `systemctl start feather-sync`, or \
             `feather-sync run`.",
        ),
        (
            &[not_taken_in],
            "Requests have not been taken in for 5m 1s: the daemons' log says why; who holds a lock is asked in \
             docs/runbook.md#feathersyncrequestsnottakenin.",
        ),
        (
            &[key_refused],
            "The API refuses the key of account acme: put one that is accepted where the configuration looks for it, \
             and work goes on by itself.",
        ),
        // A pause is why it is overdue.
        (
            &[key_refused, overdue, idle],
            "The API refuses the key of account acme: put one that is accepted where the configuration looks for it, \
             and work goes on by itself.",
        ),
        (
            &[overdue, idle],
            "Account acme has had work due for 1h 1m 1s, and nobody has called the API for a minute: the daemons' log \
             says why (`journalctl -u feather-sync`), and `feather-sync doctor` tries what they need.",
        ),
        (
            &[failing],
            "31 attempts of account acme failed in the last hour, and 60 ended synced; most failures are timeout: see \
             with `feather-sync doctor` how slow the API is, and raise api.request_timeout if its answers are real.",
        ),
        (
            &[unknown],
            "3 connections wait for account acme, which no running daemon knows: add [accounts.acme] to the \
             configuration and restart the daemons.",
        ),
        (
            &[paused],
            "Account acme has been paused by ann@db since 1970-01-01T00:00:00Z: `feather-sync resume acme` lets its \
             work go on.",
        ),
        (
            &[overdue],
            "Account acme is behind, with work due for 1h 1m 1s: calls are slow, for the rate limit has room; raise \
             worker.concurrency, or start another replica.",
        ),
        (
            &[overdue, busy],
            "Account acme is behind, with work due for 1h 1m 1s: requests_per_minute is used up; wait, or raise it if \
             the organisation's limit has room.",
        ),
        (
            &[overdue, busy, slowed],
            "Account acme is behind, with work due for 1h 1m 1s: the API's limit is lower than requests_per_minute, \
             64 % of which is drawn; wait, or ask Feather for more.",
        ),
        (
            &[limited],
            "The API's rate limit holds account acme back until 1970-01-01T00:00:00Z: it goes on by itself; if it \
             keeps happening, lower requests_per_minute.",
        ),
        (
            &[dead],
            "2 jobs of account acme are dead: mend what last_error_class in feather.sync_status says, then \
             `feather-sync retry --dead --account acme`.",
        ),
        (
            &[short_list, dead],
            "The API's list of account acme lacks 17 of 20 connections that are held, and nothing was removed: see \
             whether the key is that of another organisation, docs/runbook.md#feathersynclistshort (and 1 lesser thing, \
             below).",
        ),
        (
            &[failed_list],
            "Account acme could not be compared with the API's list: HTTP 500: it is tried again by itself.",
        ),
        (
            &[failed_list, no_list_any_more],
            "All is well: 1 daemon at work, 1 job due.",
        ),
        // A slower pace alone keeps to the limit that there is.
        (&[slowed], "All is well: 1 daemon at work, 1 job due."),
        (
            &[dead, limited, paused],
            "Account acme has been paused by ann@db since 1970-01-01T00:00:00Z: `feather-sync resume acme` lets its \
             work go on (and 2 lesser things, below).",
        ),
    ];
    for (troubles, expected) in table {
        assert_eq!(said(troubles), expected);
    }
}

/// As [`unknown`], where there is no replica that could know.
fn unknown_but_alone(status: &mut Status) {
    status.health[0].paused_reason = Some("unknown_account".into());
}

#[test]
fn what_keeps_more_from_being_synced_comes_first() {
    // No account is overdue while it is paused.
    let free: [fn(&mut Status); 5] = [not_taken_in, failing, unknown, paused, dead];
    let held: [fn(&mut Status); 5] = [not_taken_in, key_refused, failing, limited, dead];
    let behind: [fn(&mut Status); 4] = [not_taken_in, failing, overdue, dead];
    let pairs = [free.windows(2), held.windows(2), behind.windows(2)];
    for pair in pairs.into_iter().flatten() {
        let both = said(pair);
        let first = said(&pair[..1]);
        let worst = first.trim_end_matches('.');
        assert!(both.starts_with(worst), "{both}\ninstead of\n{first}");
    }
}

#[test]
fn nothing_is_overdue_at_five_minutes_sharp_and_a_handful_of_failures_is_no_trouble() {
    let mut status = well();
    assert_eq!(concerns(&status), []);
    status.errors_last_hour = vec![errors("upstream", 21)];
    assert_eq!(
        concerns(&status).len(),
        1,
        "21 of 81 are more than a quarter"
    );
    status.health[0].synced_last_hour = 63;
    assert_eq!(concerns(&status), [], "21 of 84 are not");
    status.health[0].synced_last_hour = 0;
    status.errors_last_hour = vec![errors("upstream", 20)];
    assert_eq!(concerns(&status), [], "20 are few");
}

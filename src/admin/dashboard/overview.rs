//! The overview: whether all is well, what the queue holds, how it went, and who works.

use crate::admin::Desk;
use crate::admin::dashboard::Tab;
use crate::admin::dashboard::layout;
use crate::admin::dashboard::look::Look;
use crate::admin::dashboard::look::Page;
use crate::admin::dashboard::look::Trouble;
use crate::admin::dashboard::state;
use crate::admin::dashboard::text;
use crate::admin::dashboard::timeline;
use crate::assessment;
use crate::assessment::AccountUse;
use crate::assessment::Status;
use crate::store::HealthRow;
use crate::store::OldestDue;
use crate::store::ReplicaRow;
use axum::response::Response;
use maud::Markup;
use maud::html;

/// Signs of life come about this often, in seconds.
const FRESH: f64 = 20.0;

pub(in crate::admin) async fn page(look: Look) -> Response {
    look.show(Tab::Overview, make).await
}

async fn make(desk: Desk) -> Result<Page, Trouble> {
    let status = desk.status().await?;
    let charts = timeline::charts(&desk, None).await?;
    Ok(Page {
        title: "Overview".to_owned(),
        main: main(&status, &charts),
    })
}

fn main(status: &Status, charts: &Markup) -> Markup {
    html! {
        (verdict(status))
        section {
            h2 { "Queue" (as_of(&status.health)) }
            (queue(status))
        }
        (charts)
        section {
            h2 { "Daemons" }
            (replicas(&status.replicas))
        }
    }
}

fn verdict(status: &Status) -> Markup {
    let concerns = assessment::concerns(status);
    let is_well = concerns.is_empty();
    html! {
        section #verdict class=(if is_well { "verdict good" } else { "verdict bad" }) {
            h1 { @if let Some(worst) = concerns.first() { (worst.what) "." } @else { (assessment::summary(status, &concerns)) } }
            @for (at, concern) in concerns.iter().enumerate() {
                p {
                    @if at > 0 { b { (concern.what) ". " } }
                    "→ " (text::with_code(&concern.next)) "."
                    @match &concern.account {
                        Some(account) if concern.is_about_dead => {
                            " " a href=(state::jobs_path(account, "dead")) { "See them" }
                        }
                        Some(account) => { " " a href=(state::account_path(account)) { "See the account" } }
                        None => {}
                    }
                }
            }
        }
    }
}

fn as_of(health: &[HealthRow]) -> Markup {
    let oldest = health.iter().map(|row| row.as_of).min();
    html! { @if let Some(oldest) = oldest { small { "counted " (text::time(oldest)) } } }
}

fn queue(status: &Status) -> Markup {
    if status.health.is_empty() {
        return html! { p.card { "The queue is too long to be counted here; a daemon counts it once it runs." } };
    }
    let header = html! {
        th { "Account" } th.n { "Waiting" } th.n { "Due" } th.n { "Running" } th.n { "Settling" } th.n { "Dead" }
        th.n { "Oldest due" } th.n { "Synced/h" } th.n { "Failed/h" } th { "Limit in use" } th { "State" }
    };
    let rows = html! {
        @for row in &status.health {
            @let account = status.accounts.iter().find(|account| account.row.account == row.account);
            @let oldest = status.oldest_due.iter().find(|due| due.account == row.account);
            (queue_row(row, account, oldest))
        }
    };
    layout::table("The queue by account", &header, &rows)
}

fn queue_row(row: &HealthRow, account: Option<&AccountUse>, oldest: Option<&OldestDue>) -> Markup {
    let waiting = row.pending + row.requests_waiting;
    let name = &row.account;
    html! {
        tr id={ "queue-" (name) } {
            td { a href=(state::account_path(name)) { (name) } }
            td.n.waiting { a href=(state::jobs_path(name, "pending")) { (number(waiting)) } }
            td.n { (number(row.due)) }
            td.n { a href=(state::jobs_path(name, "running")) { (number(row.running)) } }
            td.n { (number(row.settling)) }
            td.n.bad[row.dead > 0] { a href=(state::jobs_path(name, "dead")) { (number(row.dead)) } }
            td.n { @match oldest {
                Some(due) => a href=(state::connection_path(due.connection_id)) { (text::age(due.due_seconds)) },
                None => span.zero { "–" },
            } }
            td.n.synced { (number(row.synced_last_hour)) }
            td.n { (number(row.failed_last_hour)) }
            td { @if let Some(account) = account { (state::rate(account)) } }
            td { (state::badge(row.paused_reason.as_deref(), account)) }
        }
    }
}

/// A number in a table, where none is of interest unless it is more than zero.
fn number(number: i64) -> Markup {
    html! { span.zero[number == 0] { (text::number(number)) } }
}

fn replicas(replicas: &[ReplicaRow]) -> Markup {
    if replicas.is_empty() {
        return html! { p.card { "None is running. Start one: " code { "feather-sync run" } } };
    }
    let header = html! {
        th { "Name" } th { "Version" } th { "Accounts" } th { "Started" } th.n { "Last sign of life" }
    };
    let rows = html! {
        @for row in replicas {
            tr {
                td { code { (row.worker) } }
                td { (row.version) }
                td { (row.accounts.join(", ")) }
                td { (text::time(row.started_at)) }
                td.n { @if row.unseen_seconds < FRESH { "just now" } @else { (text::age(row.unseen_seconds)) " ago" } }
            }
        }
    };
    layout::table("Daemons that are alive", &header, &rows)
}

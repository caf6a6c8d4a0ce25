//! Accounts: what keeps one from working, how much of its limit is in use, what went wrong last, and the operator's own
//! pause.

use crate::admin::Desk;
use crate::admin::dashboard::Tab;
use crate::admin::dashboard::act::Act;
use crate::admin::dashboard::layout;
use crate::admin::dashboard::look::Look;
use crate::admin::dashboard::look::Page;
use crate::admin::dashboard::look::Trouble;
use crate::admin::dashboard::state;
use crate::admin::dashboard::text;
use crate::admin::dashboard::timeline;
use crate::assessment::AccountUse;
use crate::assessment::Status;
use crate::store::LastError;
use axum::extract::Query;
use axum::response::Response;
use maud::Markup;
use maud::html;
use std::sync::Arc;
use std::time::Duration;

/// Last errors that each account shows, and how long they hold.
const ERRORS: u8 = 5;
const ERRORS_HOLD: Duration = Duration::from_secs(4);

/// `?account=`: just this one.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub(in crate::admin) struct Filter {
    account: Option<String>,
}

pub(in crate::admin) async fn page(Query(filter): Query<Filter>, look: Look) -> Response {
    let make = move |desk| make(desk, filter.clone());
    look.show(Tab::Accounts, make).await
}

async fn make(desk: Desk, filter: Filter) -> Result<Page, Trouble> {
    let status = desk.status().await?;
    let errors = desk.dashboard.errors.get(ERRORS_HOLD, async {
        desk.admin.db.last_errors(ERRORS).await.map(Arc::new)
    });
    let errors = errors.await?;
    let names = names(&status).filter(|name| {
        filter
            .account
            .as_deref()
            .is_none_or(|wanted| wanted == *name)
    });
    let names: Vec<_> = names.collect();
    if let (Some(account), true) = (&filter.account, names.is_empty()) {
        return Err(Trouble::Missing(format!("There is no account {account}.")));
    }
    let charts = match &filter.account {
        Some(account) => Some(timeline::charts(&desk, Some(account)).await?),
        None => None,
    };
    let back = match &filter.account {
        Some(account) => state::account_path(account),
        None => "/accounts".to_owned(),
    };
    Ok(Page {
        title: filter
            .account
            .clone()
            .unwrap_or_else(|| "Accounts".to_owned()),
        main: html! {
            h1 {
                "Accounts"
                @if filter.account.is_some() { small { a href="/accounts" { "show all" } } }
            }
            @for name in names { (card(name, &status, &errors, &back)) }
            @if let Some(charts) = charts { (charts) }
        },
    })
}

/// Those that are configured, and those that only jobs name.
fn names(status: &Status) -> impl Iterator<Item = &str> {
    let known = status
        .accounts
        .iter()
        .map(|account| account.row.account.as_str());
    let named = status.health.iter().map(|row| row.account.as_str());
    let is_known = |name: &str| {
        status
            .accounts
            .iter()
            .any(|account| account.row.account == name)
    };
    known.chain(named.filter(move |name| !is_known(name)))
}

fn card(name: &str, status: &Status, errors: &[LastError], back: &str) -> Markup {
    let account = status
        .accounts
        .iter()
        .find(|account| account.row.account == name);
    let health = status.health.iter().find(|row| row.account == name);
    let reason = health.and_then(|row| row.paused_reason.as_deref());
    let errors: Vec<_> = errors
        .iter()
        .filter(|error| error.account == name)
        .collect();
    html! {
        section.card id={ "account-" (name) } {
            header {
                h2 { a href=(state::account_path(name)) { (name) } }
                (state::badge(reason.or(own_reason(account)), account))
                (actions(name, account, back))
            }
            dl {
                @if let Some(account) = account {
                    (standing(account))
                    dt { "Calls in the last minute" } dd { (state::rate(account)) }
                }
                @if let Some(row) = health {
                    dt { "Queue" }
                    dd {
                        a href=(state::jobs_path(name, "pending")) { (text::number(row.pending + row.requests_waiting)) " waiting" }
                        ", " a href=(state::jobs_path(name, "running")) { (text::number(row.running)) " running" }
                        ", " a href=(state::jobs_path(name, "dead")) { (text::number(row.dead)) " dead" }
                    }
                    dt { "Last hour" }
                    dd { (text::number(row.synced_last_hour)) " synced, " (text::number(row.failed_last_hour)) " failed" }
                }
                dt { "Daemons" }
                dd { (served_by(name, status)) }
            }
            h3 { "Last errors" }
            @if errors.is_empty() { p.none { "None within a day." } } @else { (last_errors(&errors)) }
        }
    }
}

/// Counts may be too old to know of a pause.
fn own_reason(account: Option<&AccountUse>) -> Option<&str> {
    let row = &account?.row;
    let by_operator = row.operator_paused_at.map(|_| "operator");
    by_operator.or(row.pause_reason.as_deref())
}

fn standing(account: &AccountUse) -> Markup {
    let row = &account.row;
    html! {
        @if let Some(since) = row.operator_paused_at {
            dt { "Paused" }
            dd { "by " (row.operator_paused_by.as_deref().unwrap_or("an operator")) " since " (text::time(since)) }
        }
        @if let Some(reason) = &row.pause_reason {
            dt { "Held by the API" }
            dd {
                (reason) ", next try " (text::time_or_dash(row.paused_until))
                @if let Some(error) = &row.pause_error { ": " (text::long(error)) }
            }
        }
    }
}

fn actions(name: &str, account: Option<&AccountUse>, back: &str) -> Markup {
    let fields = [("account", name)];
    let is_held = account.is_some_and(|account| account.row.pause_reason.is_some());
    let is_paused = account.is_some_and(|account| account.row.operator_paused_at.is_some());
    html! {
        @if is_paused {
            (layout::button("/do/resume", "Resume", back, &fields))
        } @else if account.is_some() {
            @if is_held { (layout::button("/do/resume", "Try now", back, &fields)) }
            (layout::careful(
                &format!("pause-{name}"),
                "Pause…",
                "No daemon begins a call for this account until somebody resumes it, restarts included. Calls under way finish.",
                &layout::button("/do/pause", "Pause it", back, &fields),
            ))
        }
    }
}

fn served_by(name: &str, status: &Status) -> String {
    let serves = |accounts: &[String]| accounts.iter().any(|account| account == name);
    let daemons = status
        .replicas
        .iter()
        .filter(|row| serves(&row.accounts))
        .count();
    match daemons {
        0 => "none that is alive has it in its configuration".to_owned(),
        1 => "1 serves it".to_owned(),
        daemons => format!("{daemons} serve it"),
    }
}

fn last_errors(errors: &[&LastError]) -> Markup {
    let header = html! { th { "When" } th { "Connection" } th { "Outcome" } th { "Class" } th.n { "Status" } th { "Error" } };
    let rows = html! {
        @for error in errors {
            tr {
                td { (text::time(error.at)) }
                td { a href=(state::connection_path(error.connection_id)) { code { (error.connection_id) } } }
                td { (error.outcome) }
                td { (error.error_class) }
                td.n { @if let Some(status) = error.http_status { (status) } @else { "–" } }
                td { (text::long(error.error.as_deref().unwrap_or("–"))) }
            }
        }
    };
    layout::table("Last errors", &header, &rows)
}

pub(in crate::admin) async fn pause(act: Act) -> Response {
    let done = async {
        let account = act.field("account")?;
        let known = act.desk.admin.db.accounts().await?;
        if !known.iter().any(|row| row.account == account) {
            return Err(Trouble::Missing(format!("There is no account {account}.")));
        }
        let paused = act.desk.admin.db.pause(account, &act.actor()).await?;
        Ok(match paused {
            true => format!("Paused {account} until somebody resumes it."),
            false => format!("{account} was paused already."),
        })
    };
    let done = act.in_turn(done).await;
    act.done(done).await
}

pub(in crate::admin) async fn resume(act: Act) -> Response {
    let done = async {
        let account = act.field("account")?;
        let resumed = act.desk.admin.db.resume(account, &act.actor()).await?;
        Ok(match resumed {
            true => format!("Resumed {account}."),
            false => format!("{account} was not paused."),
        })
    };
    let done = act.in_turn(done).await;
    act.done(done).await
}

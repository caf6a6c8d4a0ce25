//! Accounts: what keeps one from working, how much of its limit is in use, and the operator's own pause.

use crate::admin::Desk;
use crate::admin::dashboard::Tab;
use crate::admin::dashboard::act::Act;
use crate::admin::dashboard::layout;
use crate::admin::dashboard::look::Look;
use crate::admin::dashboard::look::Page;
use crate::admin::dashboard::look::Trouble;
use crate::admin::dashboard::text;
use crate::store::AccountRow;
use axum::response::Response;
use maud::Markup;
use maud::html;

const PATH: &str = "/accounts";

pub(in crate::admin) async fn page(look: Look) -> Response {
    look.show(Tab::Accounts, make).await
}

async fn make(desk: Desk) -> Result<Page, Trouble> {
    let accounts = desk.admin.db.accounts().await?;
    Ok(Page {
        title: "Accounts".to_owned(),
        main: main(&accounts),
    })
}

fn main(accounts: &[AccountRow]) -> Markup {
    html! {
        h1 { "Accounts" }
        (layout::table(
            "Accounts",
            &html! { th { "Account" } th.n { "Limit a minute" } th { "State" } th {} },
            &html! { @for account in accounts { (row(account)) } },
        ))
    }
}

fn row(row: &AccountRow) -> Markup {
    let name = row.account.as_str();
    let fields = [("account", name)];
    let button = match row.operator_paused_at {
        Some(_) => layout::button("/do/resume", "Resume", PATH, &fields),
        None => layout::careful(
            &format!("pause-{name}"),
            "Pause…",
            "No call for this account begins until somebody resumes it, in no daemon. Calls under way finish.",
            &layout::button("/do/pause", "Pause", PATH, &fields),
        ),
    };
    html! {
        tr id=(format!("account-{name}")) {
            td { (name) }
            td.n { @if let Some(limit) = row.requests_per_minute { (text::number(limit.into())) } @else { "–" } }
            td { @if let Some(since) = row.operator_paused_at {
                "paused by " (row.operator_paused_by.as_deref().unwrap_or("an operator")) " since " (text::time(since))
            } @else { "works" } }
            td { (button) }
        }
    }
}

pub(in crate::admin) async fn pause(act: Act) -> Response {
    let done = async {
        let account = act.field("account")?;
        let paused = act.desk.admin.db.pause(account, &act.actor()).await?;
        Ok(match paused {
            true => format!("Paused {account} until somebody resumes it."),
            false => format!("{account} was paused already."),
        })
    };
    let done = done.await;
    act.done(done)
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
    let done = done.await;
    act.done(done)
}

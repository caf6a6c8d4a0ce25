//! The record: who did what, here or on the command line.

use crate::admin::Desk;
use crate::admin::dashboard::Tab;
use crate::admin::dashboard::layout;
use crate::admin::dashboard::look::Look;
use crate::admin::dashboard::look::Page;
use crate::admin::dashboard::look::Trouble;
use crate::admin::dashboard::state;
use crate::admin::dashboard::text;
use crate::store::AuditRow;
use axum::extract::Query;
use axum::response::Response;
use maud::Markup;
use maud::html;

/// Rows of one page.
const ROWS: u32 = 100;

/// `?before=`: what is older than this row.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
pub(in crate::admin) struct Place {
    before: Option<i64>,
}

pub(in crate::admin) async fn page(Query(place): Query<Place>, look: Look) -> Response {
    let make = move |desk| make(desk, place);
    look.show(Tab::Audit, make).await
}

async fn make(desk: Desk, place: Place) -> Result<Page, Trouble> {
    let rows = desk.admin.db.audit(place.before, ROWS + 1).await?;
    Ok(Page {
        title: "Audit".to_owned(),
        main: main(&rows, place),
    })
}

fn main(rows: &[AuditRow], place: Place) -> Markup {
    let (shown, more) = match rows.len() > ROWS as usize {
        true => (&rows[..ROWS as usize], true),
        false => (rows, false),
    };
    let header = html! {
        th { "When" } th { "Who" } th { "What" } th { "Account" } th { "Connection" } th { "Detail" }
    };
    html! {
        h1 { "Audit" small { "who did what, on these pages and on the command line" } }
        @if shown.is_empty() {
            p.card { "Nothing is on record" @if place.before.is_some() { " before that" } "." }
        } @else {
            (layout::table("Audit", &header, &html! { @for row in shown { (line(row)) } }))
        }
        nav.pages aria-label="Pages of the record" {
            @if place.before.is_some() { a href="/audit" { "Newest" } }
            @if let Some(last) = shown.last().filter(|_| more) {
                a rel="next" href={ "/audit?before=" (last.id) } { "Older" }
            }
        }
    }
}

fn line(row: &AuditRow) -> Markup {
    html! {
        tr id={ "audit-" (row.id) } {
            td { (text::time(row.at)) }
            td { (row.actor) }
            td { (row.action) }
            td { @if let Some(account) = &row.account { a href=(state::account_path(account)) { (account) } } }
            td { @if let Some(id) = row.connection_id { a href=(state::connection_path(id)) { code { (id) } } } }
            td { @if let Some(detail) = &row.detail { (text::long(detail)) } }
        }
    }
}

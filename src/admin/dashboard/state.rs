//! Pieces about accounts that several pages show, and where they lead.

use crate::admin::dashboard::chart;
use crate::admin::dashboard::text;
use crate::assessment::AccountUse;
use crate::domain::words::percent;
use maud::Markup;
use maud::html;
use url::form_urlencoded;
use uuid::Uuid;

/// A path with values from outside in its query.
pub(super) fn path(path: &str, query: &[(&str, &str)]) -> String {
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(query)
        .finish();
    format!("{path}?{query}")
}

/// Where an account is described.
pub(super) fn account_path(account: &str) -> String {
    path("/accounts", &[("account", account)])
}

/// Where the jobs of an account are listed.
pub(super) fn jobs_path(account: &str, state: &str) -> String {
    path("/jobs", &[("account", account), ("state", state)])
}

/// Where a connection is described.
pub(super) fn connection_path(id: Uuid) -> String {
    format!("/connections/{id}")
}

/// How much of the limit was used in the last minute.
pub(super) fn rate(account: &AccountUse) -> Markup {
    let calls = text::number(account.calls_last_minute);
    let Some(limit) = account.row.requests_per_minute else {
        return html! { (calls) " a minute" };
    };
    let words = format!("{calls} of {}", text::number(limit.into()));
    let used = account.rate_used_ratio.unwrap_or_default();
    html! {
        span.rate { (chart::meter(used, &format!("{words} calls a minute"))) (words) }
        @if account.row.pace < 1.0 { small { " held to " (percent(account.row.pace)) } }
    }
}

/// Whether an account works, in a word or two. `reason` is why not, as `sync_health` has it.
pub(super) fn badge(reason: Option<&str>, account: Option<&AccountUse>) -> Markup {
    let by = account.and_then(|account| account.row.operator_paused_by.as_deref());
    match reason {
        None => html! { span.badge.good { "works" } },
        Some("operator") => html! {
            span.badge.warn { "paused" } @if let Some(by) = by { " by " (by) }
        },
        Some("unknown_account") => html! { span.badge.bad { "no daemon knows it" } },
        Some("auth") => html! { span.badge.bad { "key refused" } },
        Some("rate_limited") => html! { span.badge.warn { "rate limited" } },
        Some(other) => html! { span.badge.warn { (other) } },
    }
}

//! One connection: everything known about it.

use crate::admin::Desk;
use crate::admin::dashboard::Tab;
use crate::admin::dashboard::actions;
use crate::admin::dashboard::jobs::filter::given;
use crate::admin::dashboard::jobs::too_slow;
use crate::admin::dashboard::layout;
use crate::admin::dashboard::look::Look;
use crate::admin::dashboard::look::Page;
use crate::admin::dashboard::look::Trouble;
use crate::admin::dashboard::state;
use crate::admin::dashboard::text;
use crate::admin::dashboard::tools;
use crate::store::Action;
use crate::store::AttemptRow;
use crate::store::Field;
use crate::store::StatusRow;
use crate::store::ToolDetails;
use crate::store::ToolSlug;
use axum::extract::Path;
use axum::extract::Query;
use axum::response::Response;
use maud::Markup;
use maud::html;
use uuid::Uuid;

/// What of it the page shows: the tools with some words, from one on; the attempts before one.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub(in crate::admin) struct Parts {
    q: Option<String>,
    removed: Option<String>,
    /// The slug and the id of a tool.
    after: Option<String>,
    before: Option<String>,
}

impl Parts {
    fn words(&self) -> &str {
        given(self.q.as_ref()).unwrap_or_default()
    }

    fn removed(&self) -> bool {
        given(self.removed.as_ref()).is_some()
    }

    fn path(&self, id: Uuid, more: &[(&str, &str)]) -> String {
        let removed = if self.removed() { "1" } else { "" };
        let mut pairs = vec![("q", self.words()), ("removed", removed)];
        pairs.extend(more);
        pairs.retain(|(_, value)| !value.is_empty());
        let path = state::connection_path(id);
        match pairs.is_empty() {
            true => path,
            false => state::path(&path, &pairs),
        }
    }
}

/// `?id=`: the connection that somebody looks for.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub(in crate::admin) struct Wanted {
    id: Option<String>,
}

/// Where one looks for a connection.
pub(in crate::admin) async fn find(Query(wanted): Query<Wanted>, look: Look) -> Response {
    if let Some(id) = given(wanted.id.as_ref()).and_then(|id| id.parse::<Uuid>().ok()) {
        return crate::admin::dashboard::act::go(&state::connection_path(id));
    }
    let make = move |_: Desk| {
        let wanted = wanted.clone();
        async move {
            Ok(Page {
                title: "Connection".to_owned(),
                main: html! {
                    h1 { "Connection" }
                    form.filter method="get" action="/connections" role="search" {
                        label { "Id " input name="id" size="40" value=(wanted.id.as_deref().unwrap_or_default())
                                placeholder="3c90c3cc-0d44-4b50-8888-8dd25736052a"; }
                        button { "Show" }
                    }
                    @if given(wanted.id.as_ref()).is_some() { p.fault role="alert" { "This is no id of a connection." } }
                    p { "Connections with a job are found on the page of " a href="/jobs" { "jobs" }
                        ", by the beginning of their id too; tools lead to theirs from the " a href="/tools" { "search" } "." }
                },
            })
        }
    };
    look.show(Tab::Connections, make).await
}

pub(in crate::admin) async fn page(
    Path(id): Path<String>,
    Query(parts): Query<Parts>,
    look: Look,
) -> Response {
    let make = move |desk| make(desk, id.clone(), parts.clone());
    look.show(Tab::Connections, make).await
}

async fn make(desk: Desk, id: String, parts: Parts) -> Result<Page, Trouble> {
    let missing = || Trouble::Missing(format!("No connection {id} is known here."));
    let id: Uuid = id.parse().map_err(|_| missing())?;
    let wrong = || Trouble::Wrong("This address of a page is not whole.".to_owned());
    let before = given(parts.before.as_ref());
    let before = before
        .map(|text| text.parse::<i64>().map_err(|_| wrong()))
        .transpose()?;
    let behind = given(parts.after.as_ref())
        .map(|text| {
            let (id, slug) = text.split_once('.').ok_or_else(wrong)?;
            let id = id.parse().map_err(|_| wrong())?;
            let slug = slug.to_owned();
            Ok::<_, Trouble>(ToolSlug { slug, id })
        })
        .transpose()?;
    let db = &desk.admin.db;
    let status = db.status(id).await?.ok_or_else(missing)?;
    let fields = db.connection_fields(id).await?;
    let attempts = db.attempts_of(id, before).await?;
    let removed = parts.removed();
    let tools = db
        .connection_tools(id, parts.words(), removed, behind.as_ref())
        .await
        .map_err(too_slow)?;
    let nickname = fields.iter().find(|field| field.name == "nickname");
    let nickname = nickname.and_then(|field| field.value.as_deref());
    let next_tools = tools
        .next
        .as_ref()
        .map(|tool| format!("{}.{}", tool.id, tool.slug));
    let next_attempts = attempts.next.map(|id| id.to_string());
    Ok(Page {
        title: nickname.unwrap_or("Connection").to_owned(),
        main: html! {
            h1 { (nickname.unwrap_or("Connection")) " " small { code { (id) } } }
            (standing(&status))
            (buttons(id, &status, &parts))
            section {
                h2 { "Attempts" small { "newest first" } }
                @if attempts.rows.is_empty() { p.card { "None is on record" @if before.is_some() { " before that" } "." } }
                @else { (timeline(&attempts.rows)) }
                nav.pages aria-label="Pages of attempts" {
                    @if before.is_some() { a href=(parts.path(id, &[])) { "Newest" } }
                    @if let Some(next) = &next_attempts { a rel="next" href=(parts.path(id, &[("before", next)])) { "Older" } }
                }
            }
            section {
                h2 { "Tools" @if removed { small { "removed ones" } } }
                (search(id, &parts))
                @if tools.rows.is_empty() { p.card { "None." } }
                @for tool in &tools.rows { (tool_details(id, tool)) }
                nav.pages aria-label="Pages of tools" {
                    @if behind.is_some() { a href=(parts.path(id, &[])) { "First" } }
                    @if let Some(next) = &next_tools { a rel="next" href=(parts.path(id, &[("after", next)])) { "Next" } }
                }
            }
            section {
                h2 { "Fields" small { "as last received; those with an underscore are ours" } }
                @if fields.is_empty() { p.card { "It was never received." } }
                @else { (field_list(&fields)) }
            }
        },
    })
}

/// Where it stands in the queue, and its last word.
fn standing(status: &StatusRow) -> Markup {
    html! {
        dl.standing {
            dt { "State" } dd #state {
                @match status.state.as_str() {
                    "dead" => span.badge.bad { "dead" },
                    "running" => span.badge.good { "running" },
                    other => (other),
                }
                @if let Some(phase) = &status.phase { ", " (phase) }
            }
            dt { "Account" } dd { a href=(state::account_path(&status.account)) { (status.account) } }
            dt { "Attempts so far" } dd { (status.attempt) }
            @if let Some(at) = status.next_attempt_at { dt { "Next attempt" } dd { (text::time(at)) } }
            @if let Some(priority) = status.priority { dt { "Priority" } dd { (priority) } }
            dt { "Last attempt" } dd {
                (text::time_or_dash(status.last_attempt_at))
                @if let Some(outcome) = &status.last_outcome { " " (outcome) }
            }
            dt { "Last success" } dd { (text::time_or_dash(status.last_success_at)) }
            @if let Some(class) = &status.last_error_class { dt { "Last error" } dd.fault {
                code { (class) } " " @if let Some(error) = &status.last_error { (text::long(error)) }
            } }
            @if let Some(upstream) = &status.status { dt { "Upstream" } dd {
                (upstream) @if let Some(tools) = &status.tools_status { ", tools " (tools) }
            } }
        }
    }
}

fn buttons(id: Uuid, status: &StatusRow, parts: &Parts) -> Markup {
    let back = parts.path(id, &[]);
    let id = id.to_string();
    let is_queued = status.state != "idle";
    html! {
        div.buttons {
            @for action in Action::ALL {
                @let fields = [("do", action.as_str()), ("id", id.as_str())];
                @if action == Action::Sync {
                    (layout::button("/do/jobs", "Sync again", &back, &fields))
                } @else if is_queued {
                    (layout::careful(&format!("do-{}", action.as_str()), &format!("{}…", actions::verb(action)),
                                     actions::consequence(action),
                                     &layout::button("/do/jobs", actions::verb(action), &back, &fields)))
                }
            }
        }
    }
}

fn timeline(attempts: &[AttemptRow]) -> Markup {
    let header = html! {
        th { "Began" } th.n { "Took" } th { "Call" } th { "Outcome" } th { "Tools" } th { "What it said" } th { "By" }
    };
    let rows = html! { @for attempt in attempts { (attempt_row(attempt)) } };
    layout::table("Attempts", &header, &rows)
}

fn attempt_row(attempt: &AttemptRow) -> Markup {
    let took = (attempt.finished_at - attempt.started_at).as_seconds_f64();
    let is_bad = matches!(attempt.outcome.as_str(), "dead" | "retry" | "crashed");
    let changes = [
        ("+", attempt.tools_added),
        ("~", attempt.tools_changed),
        ("−", attempt.tools_removed),
    ];
    html! {
        tr id={ "attempt-" (attempt.id) } {
            td { (text::time(attempt.started_at)) }
            td.n { (text::seconds(took)) }
            td { (attempt.kind) " " (attempt.attempt) }
            td {
                span class=(if is_bad { "badge bad" } else { "badge" }) { (attempt.outcome) }
                @if let Some(status) = attempt.http_status { " " (status) }
                @if let Some(at) = attempt.retry_at { br; small { "again " (text::time(at)) } }
            }
            td {
                @if let Some(status) = &attempt.tools_status { (status) " " }
                @for (sign, number) in changes {
                    @if number > 0 { (sign) (text::number(number.into())) " " }
                }
            }
            td {
                @if let Some(class) = &attempt.error_class { code { (class) } " " }
                @if let Some(error) = &attempt.error { (text::long(error)) }
                @if let Some(request) = &attempt.upstream_request_id { div { small { "x-request-id " code { (request) } } } }
            }
            td { small { (attempt.worker) } }
        }
    }
}

fn search(id: Uuid, parts: &Parts) -> Markup {
    html! {
        form.filter method="get" action=(state::connection_path(id)) role="search" {
            label { "With the words " input name="q" value=(parts.words()); }
            label { input type="checkbox" name="removed" value="1" checked[parts.removed()]; " removed ones" }
            button { "Search" }
        }
    }
}

fn tool_details(connection_id: Uuid, tool: &ToolDetails) -> Markup {
    html! {
        details.tool id={ "tool-" (tool.id) } {
            summary {
                code { (tool.slug) } " " (tool.display_name)
                @if !tool.is_enabled { " " span.badge.warn { "disabled" } }
                @if tool.is_stale { " " span.badge.warn { "stale fields" } }
                @if tool.removed_at.is_some() { " " span.badge.bad { "removed" } }
            }
            div {
                p {
                    a href=(tools::path(connection_id, tool.id)) { "All of it" } " · first seen " (text::time(tool.first_seen_at))
                    ", changed " (text::time(tool.changed_at))
                    @if let Some(at) = tool.removed_at { ", removed " (text::time(at)) }
                }
                @if let Some(description) = &tool.description { p { (description) } }
                @for (name, schema) in [("Input", &tool.input_schema), ("Response", &tool.response_schema)] {
                    @if let Some(schema) = schema { h3 { (name) } pre { (schema) } }
                }
            }
        }
    }
}

/// Each with its name; what is long is opened to be read.
pub(super) fn field_list(fields: &[Field]) -> Markup {
    html! {
        dl.fields {
            @for field in fields {
                dt { code { (field.name) } }
                dd id={ "field-" (field.name) } {
                    @match &field.value {
                        None => "–",
                        Some(value) if value.contains('\n') => details { summary { "JSON" } pre { (value) } },
                        Some(value) => (text::long(value)),
                    }
                    @if field.left_out > 0 { small { "and " (text::number(field.left_out.into())) " more characters" } }
                }
            }
        }
    }
}

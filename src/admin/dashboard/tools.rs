//! The search over all tools, and one tool with its schemas.

use crate::admin::Desk;
use crate::admin::dashboard::Tab;
use crate::admin::dashboard::connection;
use crate::admin::dashboard::jobs::filter::given;
use crate::admin::dashboard::jobs::filter::given_name;
use crate::admin::dashboard::jobs::too_slow;
use crate::admin::dashboard::layout;
use crate::admin::dashboard::look::Look;
use crate::admin::dashboard::look::Page;
use crate::admin::dashboard::look::Trouble;
use crate::admin::dashboard::state;
use crate::admin::dashboard::text;
use crate::store::FoundTool;
use crate::store::ToolFilter;
use crate::store::ToolKind;
use crate::store::ToolPlace;
use axum::extract::Path;
use axum::extract::Query;
use axum::response::Response;
use maud::Markup;
use maud::html;
use uuid::Uuid;

/// Where a tool is described.
pub(super) fn path(connection_id: Uuid, id: Uuid) -> String {
    format!("/connections/{connection_id}/tools/{id}")
}

/// What stands in the address, as it was typed.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub(in crate::admin) struct ToolQuery {
    slug: Option<String>,
    name: Option<String>,
    integration: Option<String>,
    kind: Option<String>,
    after: Option<String>,
}

impl ToolQuery {
    fn filter(&self) -> Result<ToolFilter, Trouble> {
        let kind = given(self.kind.as_ref())
            .map(|word| {
                ToolKind::parse(word)
                    .ok_or_else(|| Trouble::Wrong(format!("There is no kind {word} of tools.")))
            })
            .transpose()?;
        Ok(ToolFilter {
            slug: given_name(self.slug.as_ref())?,
            name: given_name(self.name.as_ref())?,
            integration: given_name(self.integration.as_ref())?,
            kind,
        })
    }

    fn place(&self) -> Result<Option<ToolPlace>, Trouble> {
        let wrong = |_| Trouble::Wrong("This address of a page is not whole.".to_owned());
        let after = given(self.after.as_ref());
        after
            .map(|text| serde_json::from_str(text).map_err(wrong))
            .transpose()
    }

    fn path(&self, more: &[(&str, &str)]) -> String {
        let all = [
            ("slug", &self.slug),
            ("name", &self.name),
            ("integration", &self.integration),
            ("kind", &self.kind),
        ];
        let pairs = all
            .into_iter()
            .filter_map(|(name, value)| Some((name, given(value.as_ref())?)));
        let pairs: Vec<_> = pairs.chain(more.iter().copied()).collect();
        match pairs.is_empty() {
            true => "/tools".to_owned(),
            false => state::path("/tools", &pairs),
        }
    }
}

pub(in crate::admin) async fn page(Query(query): Query<ToolQuery>, look: Look) -> Response {
    let make = move |desk| make(desk, query.clone());
    look.show(Tab::Tools, make).await
}

async fn make(desk: Desk, query: ToolQuery) -> Result<Page, Trouble> {
    let filter = query.filter()?;
    let place = query.place()?;
    let db = &desk.admin.db;
    let tools = db
        .search_tools(&filter, place.as_ref())
        .await
        .map_err(too_slow)?;
    let next = tools
        .next
        .as_ref()
        .and_then(|place| serde_json::to_string(place).ok());
    Ok(Page {
        title: "Tools".to_owned(),
        main: html! {
            h1 { "Tools" small { "of all connections" } }
            (form(&query))
            @if tools.rows.is_empty() {
                p.card {
                    @if next.is_some() { "None among those that were looked at; there are more." }
                    @else if place.is_some() { "No more tools match." }
                    @else { "No tool matches. Slug and name are searched by their beginning." }
                }
            } @else {
                (list(&tools.rows))
            }
            nav.pages aria-label="Pages of the list" {
                @if place.is_some() { a href=(query.path(&[])) { "First" } }
                @if let Some(next) = &next { a rel="next" href=(query.path(&[("after", next)])) { "Next" } }
            }
        },
    })
}

fn form(query: &ToolQuery) -> Markup {
    let text = |field: &Option<String>| given(field.as_ref()).unwrap_or_default().to_owned();
    let kinds = [
        (ToolKind::Stale, "stale fields"),
        (ToolKind::Disabled, "disabled"),
        (ToolKind::Added, "added in the last 7 days"),
        (ToolKind::Changed, "changed, latest first"),
        (ToolKind::Removed, "removed, latest first"),
    ];
    html! {
        form.filter method="get" action="/tools" role="search" {
            label { "Slug begins with " input name="slug" value=(text(&query.slug)); }
            label { "Name begins with " input name="name" value=(text(&query.name)); }
            label { "Integration " input name="integration" value=(text(&query.integration)) size="12"; }
            label { "Which " select name="kind" {
                option value="" { "all that exist" }
                @for (kind, words) in kinds {
                    option value=(kind.as_str()) selected[given(query.kind.as_ref()) == Some(kind.as_str())] { (words) }
                }
            } }
            button { "Search" }
        }
    }
}

fn list(tools: &[FoundTool]) -> Markup {
    let header = html! {
        th { "Tool" } th { "Integration" } th { "Connection" } th { "State" } th { "Changed" }
    };
    layout::table(
        "Tools",
        &header,
        &html! { @for tool in tools { (row(tool)) } },
    )
}

fn row(tool: &FoundTool) -> Markup {
    let stale = [&tool.stale_field_paths, &tool.stale_input_fields];
    html! {
        tr id={ "tool-" (tool.connection_id) "-" (tool.id) } {
            td {
                a href=(path(tool.connection_id, tool.id)) { code { (tool.slug) } }
                br; (text::long(&tool.display_name))
            }
            td { (tool.integration_key) }
            td { a href=(state::connection_path(tool.connection_id)) { (tool.nickname.as_deref().unwrap_or("–")) } }
            td {
                @if tool.removed_at.is_some() { span.badge.bad { "removed" } " " }
                @if !tool.is_enabled { span.badge.warn { "disabled" } " " }
                @if stale.iter().any(|fields| !fields.is_empty()) {
                    span.badge.warn { "stale" } " "
                    @for field in stale.into_iter().flatten() { code { (field.chars().take(80).collect::<String>()) } " " }
                }
            }
            td {
                (text::time(tool.changed_at))
                @if tool.first_seen_at == tool.changed_at { br; small { "when it was added" } }
            }
        }
    }
}

/// One tool.
pub(in crate::admin) async fn one(
    Path((connection_id, id)): Path<(String, String)>,
    look: Look,
) -> Response {
    let make = move |desk| make_one(desk, connection_id.clone(), id.clone());
    look.show(Tab::Tools, make).await
}

async fn make_one(desk: Desk, connection_id: String, id: String) -> Result<Page, Trouble> {
    let missing = || {
        Trouble::Missing(format!(
            "No tool {id} of connection {connection_id} is known here."
        ))
    };
    let connection: Uuid = connection_id.parse().map_err(|_| missing())?;
    let tool: Uuid = id.parse().map_err(|_| missing())?;
    let fields = desk.admin.db.tool_fields(connection, tool).await?;
    let named = |name: &str| {
        let field = fields.iter().find(|field| field.name == name)?;
        field.value.as_deref()
    };
    let slug: String = named("slug")
        .ok_or_else(missing)?
        .chars()
        .take(300)
        .collect();
    Ok(Page {
        title: slug.clone(),
        main: html! {
            h1 { code { (slug) } }
            @if named("_removed_at").is_some() { p { span.badge.bad { "removed" } } }
            p { "Of connection " a href=(state::connection_path(connection)) { code { (connection) } } "." }
            (connection::field_list(&fields))
        },
    })
}

//! Jobs: what waits, runs or is dead, by filter; and what is done to those that are ticked.

pub(super) mod filter;

use crate::admin::Desk;
use crate::admin::dashboard::Tab;
use crate::admin::dashboard::act::Act;
use crate::admin::dashboard::act::BACK;
use crate::admin::dashboard::actions;
use crate::admin::dashboard::layout;
use crate::admin::dashboard::look::Look;
use crate::admin::dashboard::look::Page;
use crate::admin::dashboard::look::Trouble;
use crate::admin::dashboard::state;
use crate::admin::dashboard::text;
use crate::domain::words::count;
use crate::store::Action;
use crate::store::ActionRow;
use crate::store::JobRow;
use crate::store::Place;
use crate::store::StoreError;
use axum::extract::Query;
use axum::response::Response;
use filter::JobQuery;
use maud::Markup;
use maud::html;
use uuid::Uuid;

/// Actions on all that a filter matches that are shown while they are under way.
const UNDER_WAY: u32 = 10;

pub(in crate::admin) async fn page(Query(query): Query<JobQuery>, look: Look) -> Response {
    let make = move |desk| make(desk, query.clone());
    look.show(Tab::Jobs, make).await
}

async fn make(desk: Desk, query: JobQuery) -> Result<Page, Trouble> {
    let filter = query.filter()?;
    let place = query.place()?;
    let db = &desk.admin.db;
    let jobs = db.jobs(&filter, place).await.map_err(too_slow)?;
    let actions = db.actions(None, UNDER_WAY).await?;
    Ok(Page {
        title: "Jobs".to_owned(),
        main: html! {
            h1 { "Jobs" }
            (filter::form(&query))
            @for action in actions.iter().filter(|action| action.outcome.is_none()) { (under_way(action)) }
            @if jobs.rows.is_empty() {
                p.card {
                    @if jobs.next.is_some() { "None among those that were looked at; there are more." }
                    @else if place.is_some() { "No more jobs match." }
                    @else { "No job matches." }
                }
            } @else {
                (list(&query, &jobs.rows))
            }
            nav.pages aria-label="Pages of the list" {
                @if place.is_some() { a href=(query.path("/jobs", &[])) { "First" } }
                @if let Some(next) = jobs.next { a rel="next" href=(next_path(&query, next)) { "Next" } }
            }
            section {
                h2 { "Everything that matches" small { "on all pages" } }
                p.pages {
                    @for action in Action::ALL {
                        a href=(query.path("/jobs/all", &[("do", action.as_str())])) { (actions::verb(action)) " all…" } " "
                    }
                    a href="/actions" { "What was done so far" }
                }
            }
        },
    })
}

/// A list that takes too long says what helps.
pub(super) fn too_slow(error: StoreError) -> Trouble {
    match error {
        StoreError::CutOff(_) => Trouble::Wrong(
            "This took longer than a page may take: too much has to be looked through for it. Narrow the filter."
                .to_owned(),
        ),
        error => error.into(),
    }
}

fn next_path(query: &JobQuery, next: Place) -> String {
    query.path("/jobs", &[("after", &next.to_string())])
}

fn under_way(action: &ActionRow) -> Markup {
    html! {
        p.card id={ "action-" (action.id) } {
            a href=(actions::path(action.id)) { (action.action) " all" } " is under way: " (actions::progress(action)) "."
        }
    }
}

fn list(query: &JobQuery, jobs: &[JobRow]) -> Markup {
    let header = html! {
        th { span.skip { "Ticked" } } th { "Connection" } th { "Account" } th { "State" } th { "Since" } th.n { "Attempt" }
        th.n { "Priority" } th { "Last error" }
    };
    let back = query.path("/jobs", &[("after", query.after())]);
    html! {
        form #ticked method="post" action="/do/jobs" {
            input type="hidden" name=(BACK) value=(back);
            (layout::table("Jobs", &header, &html! { @for job in jobs { (row(job)) } }))
            div.ticked {
                @for action in Action::ALL { (ticked_button(action)) " " }
            }
        }
    }
}

/// Asks once more; the ticked ones go along, because it is inside of their form.
fn ticked_button(action: Action) -> Markup {
    let word = action.as_str();
    html! {
        details.careful id={ "ticked-" (word) } {
            summary { (actions::verb(action)) " ticked…" }
            div {
                p { (actions::consequence(action)) }
                button name="do" value=(word) { (actions::verb(action)) " the ticked jobs" }
            }
        }
    }
}

fn row(job: &JobRow) -> Markup {
    let id = job.connection_id;
    html! {
        tr id={ "job-" (id) } {
            td { input type="checkbox" name="id" value=(id) aria-label={ "Tick " (id) }; }
            td {
                a href=(state::connection_path(id)) { code { (id) } }
                @if let Some(nickname) = &job.nickname { br; (text::long(nickname)) }
                @if let Some(integration) = &job.integration_key { small { (integration) } }
            }
            td { a href=(state::account_path(&job.account)) { (job.account) } }
            td { (state_of(job)) }
            td { (text::time(job.since)) br; small { (since(job)) } }
            td.n { (job.attempt) }
            td.n { (job.priority) }
            td {
                @if let Some(class) = &job.error_class { code { (class) } " " }
                @if let Some(error) = &job.error { (text::long(error)) }
            }
        }
    }
}

/// State and phase in a word or two.
pub(super) fn state_of(job: &JobRow) -> Markup {
    let phase = match job.phase.as_str() {
        "settle" => ", settling",
        "refresh" => ", refreshing",
        _ => "",
    };
    html! {
        @match job.state.as_str() {
            "dead" => span.badge.bad { "dead" },
            "running" => { span.badge.good { "running" } (phase) },
            other => { (other) (phase) },
        }
        @if let Some(worker) = &job.worker { br; small { "by " (worker) } }
    }
}

pub(super) fn since(job: &JobRow) -> String {
    let words = text::age(job.since_seconds.abs());
    match job.state.as_str() {
        "pending" if job.since_seconds < 0.0 => format!("due in {words}"),
        "pending" => format!("due for {words}"),
        state => format!("{state} for {words}"),
    }
}

/// Does something to the ticked jobs, or to one connection.
pub(in crate::admin) async fn act(act: Act) -> Response {
    let done = act.in_turn(act_on_ids(&act)).await;
    act.done(done).await
}

async fn act_on_ids(act: &Act) -> Result<String, Trouble> {
    let action = actions::parse(act.field("do")?)?;
    let ids: Result<Vec<Uuid>, _> = act.all("id").map(str::parse).collect();
    let ids = ids.map_err(|_| Trouble::Wrong("This is no id of a connection.".to_owned()))?;
    if ids.is_empty() {
        return Err(Trouble::Wrong(
            "No job is ticked. Tick some, and try again.".to_owned(),
        ));
    }
    let (db, actor) = (&act.desk.admin.db, act.actor());
    let done = match action {
        Action::Retry => db.retry(&ids, &actor).await?,
        Action::Cancel => db.cancel(&ids, &actor).await?,
        Action::Sync => db.sync_again(&ids, &actor).await?,
    };
    let did = match action {
        Action::Retry => "Made due",
        Action::Cancel => "Cancelled",
        Action::Sync => "Asked for a new sync of",
    };
    let of = u64::try_from(done.len()).unwrap_or(u64::MAX);
    let what = if action == Action::Sync {
        "connection"
    } else {
        "job"
    };
    let left = ids.len().saturating_sub(done.len());
    Ok(match left {
        0 => format!("{did} {}.", count(of, what)),
        left => format!(
            "{did} {}; {left} had changed meanwhile or are not known.",
            count(of, what)
        ),
    })
}

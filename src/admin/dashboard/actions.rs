//! Actions on all jobs that a filter matches: asked for once more with the count, and how far they are.

use crate::admin::Desk;
use crate::admin::dashboard::Tab;
use crate::admin::dashboard::act;
use crate::admin::dashboard::act::Act;
use crate::admin::dashboard::jobs::filter;
use crate::admin::dashboard::jobs::filter::JobQuery;
use crate::admin::dashboard::layout;
use crate::admin::dashboard::look::Look;
use crate::admin::dashboard::look::Page;
use crate::admin::dashboard::look::Trouble;
use crate::admin::dashboard::text;
use crate::store::Action;
use crate::store::ActionRow;
use crate::store::Count;
use crate::store::JobFilter;
use axum::extract::Path;
use axum::extract::Query;
use axum::response::Response;
use maud::Markup;
use maud::html;

/// The field that says that no filter is meant: one that got lost on the way does not make everything of something.
const EVERYTHING: &str = "everything";
/// Rows of one page.
const ROWS: u32 = 50;

/// Where an action is described.
pub(super) fn path(id: i64) -> String {
    format!("/actions/{id}")
}

/// The action that a word of a form names.
pub(super) fn parse(word: &str) -> Result<Action, Trouble> {
    Action::parse(word).ok_or_else(|| Trouble::Wrong(format!("There is no action {word}.")))
}

/// What a button says.
pub(super) fn verb(action: Action) -> &'static str {
    match action {
        Action::Retry => "Retry",
        Action::Cancel => "Cancel",
        Action::Sync => "Sync again",
    }
}

/// What comes of it.
pub(super) fn consequence(action: Action) -> &'static str {
    match action {
        Action::Retry => {
            "Dead jobs start afresh, waiting ones become due as far as the API's own delays allow. Running ones are left \
             alone."
        }
        Action::Cancel => {
            "The jobs leave the queue, on record. What a call under way still answers is not written. Only a new request \
             brings a connection back."
        }
        Action::Sync => {
            "Each connection is finalized and synced once more: dead ones start afresh, those that are running once they \
             are done."
        }
    }
}

/// `1 234 of 5 000`.
pub(super) fn progress(action: &ActionRow) -> String {
    match action.expected {
        Some(expected) => format!(
            "{} of {}",
            text::number(action.done),
            text::number(expected)
        ),
        None => text::number(action.done),
    }
}

/// Asks once more, with the count.
pub(in crate::admin) async fn confirm(Query(query): Query<JobQuery>, look: Look) -> Response {
    let make = move |desk| make_confirm(desk, query.clone());
    look.show(Tab::Jobs, make).await
}

async fn make_confirm(desk: Desk, query: JobQuery) -> Result<Page, Trouble> {
    let action = parse(query.action.as_deref().unwrap_or_default())?;
    let job_filter = query.filter()?;
    let count = desk.admin.db.count_jobs(&job_filter).await?;
    let (how_many, expected) = match count {
        Count::Exactly(count) => (text::number(signed(count)), Some(count)),
        Count::MoreThan(count) => (format!("more than {}", text::number(signed(count))), None),
        Count::Unknown => ("too many to count in a moment".to_owned(), None),
    };
    let back = query.path("/jobs", &[]);
    let expected = expected.map(|count| count.to_string()).unwrap_or_default();
    let mut fields = query.pairs();
    fields.extend([("do", action.as_str()), ("expected", expected.as_str())]);
    if job_filter == JobFilter::default() {
        fields.push((EVERYTHING, "yes"));
    }
    Ok(Page {
        title: format!("{} all", verb(action)),
        main: html! {
            h1 { (verb(action)) " all" }
            p { "The filter: " b { (job_filter.to_string()) } "." }
            p { "It matches " b #count { (how_many) } " just now. " (consequence(action)) }
            p {
                "What comes to match from now on is left alone, except jobs that are planned for later: when those came \
                 does not show. It is done in the background, in portions, and can be stopped; what is done by then stays \
                 done."
            }
            @if count == Count::Exactly(0) {
                p.card { "There is nothing to do." }
            } @else {
                (layout::button("/do/all", &format!("{} {how_many}", verb(action)), &back, &fields))
            }
            p { a href=(back) { "Back, and do nothing" } }
        },
    })
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Begins an action on all that a filter matches.
pub(in crate::admin) async fn begin(act: Act) -> Response {
    match act.in_turn(request(&act)).await {
        Ok(id) => act::go(&path(id)),
        Err(trouble) => act.done(Err(trouble)).await,
    }
}

async fn request(act: &Act) -> Result<i64, Trouble> {
    let action = parse(act.field("do")?)?;
    let query = JobQuery::from_fields(|name| act.all(name).next().map(str::to_owned));
    let filter = query.filter()?;
    if filter == JobFilter::default() && act.field(EVERYTHING).ok() != Some("yes") {
        let words = "There is no filter in this. Where every job is meant, send everything=yes.";
        return Err(Trouble::Wrong(words.to_owned()));
    }
    // Empty where they were too many to count.
    let expected = act.all("expected").next().filter(|text| !text.is_empty());
    let expected = expected.map(count_of).transpose()?;
    let db = &act.desk.admin.db;
    Ok(db
        .request_action(action, &filter, expected, &act.actor())
        .await?)
}

fn count_of(text: &str) -> Result<u64, Trouble> {
    let count = text.parse::<i64>().ok();
    let count = count.and_then(|count| u64::try_from(count).ok());
    let wrong = || Trouble::Wrong("What is expected is no number of jobs.".to_owned());
    count.ok_or_else(wrong)
}

/// Stops an action.
pub(in crate::admin) async fn stop(act: Act) -> Response {
    let done = async {
        let id = act.field("id")?;
        let id = id
            .parse()
            .map_err(|_| Trouble::Wrong("This is no number of an action.".to_owned()))?;
        let stopped = act.desk.admin.db.stop_action(id, &act.actor()).await?;
        Ok(match stopped {
            true => "It is being stopped.".to_owned(),
            false => "It was over already, or is being stopped.".to_owned(),
        })
    };
    let done = act.in_turn(done).await;
    act.done(done).await
}

/// One action, and how far it is.
pub(in crate::admin) async fn one(Path(id): Path<String>, look: Look) -> Response {
    let make = move |desk| make_one(desk, id.clone());
    look.show(Tab::Jobs, make).await
}

async fn make_one(desk: Desk, id: String) -> Result<Page, Trouble> {
    let missing = || Trouble::Missing(format!("There is no action {id}."));
    let number = id.parse().map_err(|_| missing())?;
    let action = desk.admin.db.action(number).await?.ok_or_else(missing)?;
    let path = path(action.id);
    Ok(Page {
        title: format!("Action {}", action.id),
        main: html! {
            h1 { "Action " (action.id) small { (action.action) " all: " (filter::in_words(&action.filter)) } }
            @if let (None, Some(expected)) = (&action.outcome, action.expected) {
                p { progress max=(expected.max(1)) value=(action.done) aria-label="Done so far" { (progress(&action)) } }
            }
            dl {
                dt { "State" } dd #state { (state_of(&action)) }
                dt { "Jobs acted on" } dd #done { (progress(&action)) }
                dt { "Asked for by" } dd { (action.requested_by) " at " (text::time(action.requested_at)) }
                @if let Some(by) = &action.stopped_by { dt { "Stopped by" } dd { (by) } }
                @if let Some(at) = action.finished_at { dt { "Over" } dd { (text::time(at)) } }
                @if let Some(error) = &action.error { dt { "Error" } dd.fault { (text::long(error)) } }
            }
            @if action.outcome.is_none() && action.stopped_by.is_none() {
                (layout::careful("stop", "Stop…", "No more is done. What is done already stays.",
                                 &layout::button("/do/stop", "Stop", &path, &[("id", &action.id.to_string())])))
            }
            p { a href="/jobs" { "To the jobs" } " · " a href="/actions" { "All actions" } }
        },
    })
}

fn state_of(action: &ActionRow) -> Markup {
    html! {
        @match (action.outcome.as_deref(), &action.worker) {
            (Some("done"), _) => span.badge.good { "done" },
            (Some("failed"), _) => span.badge.bad { "failed" },
            (Some(outcome), _) => span.badge.warn { (outcome) },
            (None, Some(worker)) => { "under way, by " code { (worker) } },
            (None, None) => "waits for a daemon to take it up",
        }
    }
}

/// `?before=`: what is older than this one.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub(in crate::admin) struct Older {
    before: Option<String>,
}

/// All actions, newest first.
pub(in crate::admin) async fn page(Query(older): Query<Older>, look: Look) -> Response {
    let make = move |desk| make(desk, older.clone());
    look.show(Tab::Jobs, make).await
}

async fn make(desk: Desk, older: Older) -> Result<Page, Trouble> {
    let before = older.before.as_deref().filter(|text| !text.is_empty());
    let before = before
        .map(|text| text.parse::<i64>())
        .transpose()
        .map_err(|_| Trouble::Wrong("This address of a page is not whole.".to_owned()))?;
    let mut actions = desk.admin.db.actions(before, ROWS + 1).await?;
    let more = actions.len() > ROWS as usize;
    actions.truncate(ROWS as usize);
    let header = html! {
        th { "Action" } th { "Filter" } th { "Asked for by" } th { "When" } th.n { "Jobs" } th { "State" }
    };
    let rows = html! {
        @for action in &actions {
            tr id={ "action-" (action.id) } {
                td { a href=(path(action.id)) { (action.id) " " (action.action) } }
                td { (text::long(&filter::in_words(&action.filter))) }
                td { (action.requested_by) }
                td { (text::time(action.requested_at)) }
                td.n { (progress(action)) }
                td { (state_of(action)) }
            }
        }
    };
    Ok(Page {
        title: "Actions".to_owned(),
        main: html! {
            h1 { "Actions" small { "on all jobs that a filter matched" } }
            @if actions.is_empty() { p.card { "None" @if before.is_some() { " before that" } "." } }
            @else { (layout::table("Actions", &header, &rows)) }
            nav.pages aria-label="Pages of the list" {
                @if before.is_some() { a href="/actions" { "Newest" } }
                @if let Some(last) = actions.last().filter(|_| more) {
                    a rel="next" href={ "/actions?before=" (last.id) } { "Older" }
                }
            }
            p { a href="/jobs" { "To the jobs" } }
        },
    })
}

//! From a request to a page.

use crate::admin::Desk;
use crate::admin::connections::Visit;
use crate::admin::dashboard::Tab;
use crate::admin::dashboard::entrance::Visitor;
use crate::admin::dashboard::layout;
use crate::admin::dashboard::stream;
use crate::admin::door;
use crate::metrics::OfKind;
use crate::store::StoreError;
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::http::request::Parts;
use axum::response::Html;
use axum::response::IntoResponse;
use axum::response::Response;
use maud::Markup;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::timeout;

/// For one's turn at the database, and then for all that a page asks of it.
const TURN: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(10);

/// Scripts and styles are ours, from our own files; no page of ours leads or sends elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// What a page shows, apart from what all pages have.
pub(super) struct Page {
    /// In the browser's title bar: what this page is about.
    pub(super) title: String,
    /// All that stands between navigation and foot.
    pub(super) main: Markup,
}

/// Why there is no page, or nothing was done.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The database fails.
    Database(StoreError),
    /// Too many ask at the same time, or the database takes too long.
    Busy,
    /// There is no such thing; the words say what.
    Missing(String),
    /// It is asked wrongly; the words say how.
    Wrong(String),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Database(error)
    }
}

impl Trouble {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Database(StoreError::Data(_)) => StatusCode::BAD_REQUEST,
            Self::Database(_) | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Missing(_) => StatusCode::NOT_FOUND,
            Self::Wrong(_) => StatusCode::BAD_REQUEST,
        }
    }

    pub(super) fn words(&self) -> String {
        match self {
            Self::Database(StoreError::Data(why)) => {
                format!("There is a value in this that the database does not take: {why}.")
            }
            Self::Database(error) => format!("The database gives no answer: {error}"),
            Self::Busy => "The database is busy. Try again in a moment.".to_owned(),
            Self::Missing(words) | Self::Wrong(words) => words.clone(),
        }
    }
}

/// Somebody looks at a page, once or for as long as a browser listens.
pub(super) struct Look {
    desk: Desk,
    visitor: Visitor,
    visit: Option<Visit>,
    wants_stream: bool,
    said: Option<String>,
}

impl FromRequestParts<Desk> for Look {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, Infallible> {
        let accepts = parts.headers.get(header::ACCEPT);
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self {
            visitor: Visitor::of(parts),
            visit: parts.extensions.get::<Visit>().cloned(),
            wants_stream: accepts.is_some_and(|kind| kind.as_bytes() == b"text/event-stream"),
            said: desk.dashboard.said.take(query),
            desk: desk.clone(),
        })
    }
}

impl Look {
    /// Answers with the page that `make` makes.
    pub(super) async fn show<M, F>(self, tab: Tab, make: M) -> Response
    where
        M: Fn(Desk) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Page, Trouble>> + Send + 'static,
    {
        let desk = self.desk.clone();
        if self.wants_stream {
            return stream::answer(desk, self.visitor, self.visit, make);
        }
        let made = within_turn(&desk, make(desk.clone())).await;
        let said = self.said.as_deref();
        match made {
            Ok(page) => {
                let document = layout::document(Some(tab), &page, &self.visitor, said);
                answer(StatusCode::OK, document)
            }
            Err(trouble) => trouble_page(&trouble, Some(tab), &self.visitor),
        }
    }
}

/// There is no such page.
pub(super) async fn nothing(headers: HeaderMap, look: Look) -> Response {
    let why = "there is nothing at this address";
    if !wants_page(&headers) {
        return door::refuse(StatusCode::NOT_FOUND, why);
    }
    let trouble = Trouble::Missing(why.to_owned());
    trouble_page(&trouble, None, &look.visitor)
}

/// Whether it is a person's browser that asks, rather than a program.
pub(super) fn wants_page(headers: &HeaderMap) -> bool {
    let accepts = headers.get(header::ACCEPT);
    accepts.is_some_and(|kinds| kinds.as_bytes().starts_with(b"text/html"))
}

/// Makes one page, of which only some are made at the same time.
pub(super) async fn within_turn(
    desk: &Desk,
    making: impl Future<Output = Result<Page, Trouble>>,
) -> Result<Page, Trouble> {
    let Ok(Ok(_turn)) = timeout(TURN, desk.dashboard.looks.acquire()).await else {
        return Err(Trouble::Busy);
    };
    let made = timeout(WHOLE, making).await.unwrap_or(Err(Trouble::Busy));
    if let Err(Trouble::Database(error)) = &made {
        let kind = error.kind();
        let failed = &desk.admin.metrics.db_errors;
        failed.get_or_create(&OfKind { kind }).inc();
    }
    made
}

/// A page that says what is wrong.
pub(super) fn trouble_page(trouble: &Trouble, tab: Option<Tab>, visitor: &Visitor) -> Response {
    let page = Page {
        title: "Not found".to_owned(),
        main: layout::trouble(&trouble.words()),
    };
    let page = match trouble {
        Trouble::Missing(_) => page,
        _ => Page {
            title: "Trouble".to_owned(),
            ..page
        },
    };
    answer(
        trouble.status(),
        layout::document(tab, &page, visitor, None),
    )
}

/// A document with the rules of a page.
pub(super) fn answer(status: StatusCode, document: Markup) -> Response {
    let mut response = (status, Html(document.into_string())).into_response();
    let headers = response.headers_mut();
    let rules = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        // Under no-referrer, browsers send the pages' own forms with `Origin: null`.
        (header::REFERRER_POLICY, "same-origin"),
        (header::VARY, "accept, cookie"),
    ];
    for (name, rule) in rules {
        headers.insert(name, HeaderValue::from_static(rule));
    }
    response
}

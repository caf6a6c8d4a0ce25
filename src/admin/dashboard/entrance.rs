//! Who may come in: everybody where no token is wanted, else who brings the token or has a session.

use crate::admin::Desk;
use crate::admin::connections::Visit;
use crate::admin::dashboard::act;
use crate::admin::dashboard::act::Act;
use crate::admin::dashboard::layout;
use crate::admin::dashboard::look;
use crate::admin::dashboard::look::Page;
use crate::admin::dashboard::sessions::Key;
use crate::admin::door;
use axum::Extension;
use axum::extract::Query;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::header;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use maud::html;
use std::fmt;
use std::net::IpAddr;
use url::form_urlencoded;

pub(super) const LOGIN: &str = "/login";
/// The field of a name, and its longest.
const NAME: &str = "name";
const LONGEST_NAME: usize = 60;
/// The field of the page to go to.
const NEXT: &str = "next";

/// Somebody who was let in, or not yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Visitor {
    name: Option<String>,
    from: Option<IpAddr>,
    session: Option<Key>,
}

/// As it goes on record: `alice (dashboard) from 10.0.0.7`.
impl fmt::Display for Visitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} (dashboard)")?,
            None => f.write_str("dashboard")?,
        }
        match self.from {
            Some(from) => write!(f, " from {from}"),
            None => Ok(()),
        }
    }
}

impl Visitor {
    /// Whoever makes the request.
    pub(super) fn of(parts: &Parts) -> Self {
        let known = parts.extensions.get::<Self>().cloned();
        known.unwrap_or_else(|| Self {
            from: parts.extensions.get::<Visit>().map(|visit| visit.from),
            ..Self::default()
        })
    }

    /// Whether there is something to log out of.
    pub(super) fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// Whether the session, if there is one, goes on.
    pub(super) fn is_still_in(&self, desk: &Desk) -> bool {
        let sessions = &desk.dashboard.sessions;
        self.session.is_none_or(|key| sessions.is_open(&key))
    }
}

/// Lets in who may come in, and leads all others to the login.
pub(super) async fn admit(
    State(desk): State<Desk>,
    Extension(visit): Extension<Visit>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let mut visitor = Visitor::of(&parts);
    if let Some((key, name)) = desk.dashboard.sessions.find(&parts.headers) {
        visitor.session = Some(key);
        visitor.name = Some(name).filter(|name| !name.is_empty());
    } else {
        match desk.door.admits(&parts.headers, visit.from).await {
            Some(true) => {}
            Some(false) => return turn_away(&parts),
            None => return door::too_many_guesses(),
        }
    }
    parts.extensions.insert(visitor);
    next.run(Request::from_parts(parts, body)).await
}

fn turn_away(parts: &Parts) -> Response {
    if door::credential(&parts.headers).is_some() {
        return door::refuse(StatusCode::UNAUTHORIZED, "this is not the token");
    }
    if !look::wants_page(&parts.headers) {
        let why = "log in, or send the token of admin.token_file as Authorization: Bearer";
        let refusal = door::refuse(StatusCode::UNAUTHORIZED, why);
        return ([(header::WWW_AUTHENTICATE, "Bearer")], refusal).into_response();
    }
    let wanted = parts
        .uri
        .path_and_query()
        .map_or("/", |wanted| wanted.as_str());
    let wanted = if parts.method == Method::GET {
        wanted
    } else {
        "/"
    };
    let query: String = form_urlencoded::Serializer::new(String::new())
        .append_pair(NEXT, wanted)
        .finish();
    act::go(&format!("{LOGIN}?{query}"))
}

/// The page that asks for the token.
pub(super) async fn page(
    State(desk): State<Desk>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    if !desk.door.is_locked() {
        return act::go("/");
    }
    let next = query.iter().find(|(name, _)| name == NEXT);
    form(StatusCode::OK, next.map_or("/", |(_, next)| next), None)
}

fn form(status: StatusCode, next: &str, fault: Option<&str>) -> Response {
    let main = html! {
        form.login method="post" action="/do/login" {
            h1 { "Log in" }
            @if let Some(fault) = fault { p.fault role="alert" { (fault) } }
            label for="name" { "Your name, for the record" }
            input #name name=(NAME) maxlength=(LONGEST_NAME) autocomplete="username";
            label for="token" { "Token" }
            input #token name="token" type="password" required autofocus autocomplete="current-password"
                aria-describedby="which";
            p.hint #which { "What stands in the file that " code { "admin.token_file" } " names." }
            input type="hidden" name=(NEXT) value=(next);
            button { "Log in" }
        }
    };
    let title = "Log in".to_owned();
    let page = Page { title, main };
    look::answer(
        status,
        layout::document(None, &page, &Visitor::default(), None),
    )
}

/// Begins a session for whoever knows the token.
pub(super) async fn login(
    Extension(visit): Extension<Visit>,
    headers: HeaderMap,
    act: Act,
) -> Response {
    let desk = &act.desk;
    if !desk.door.is_locked() {
        return act::go("/");
    }
    let next = act.field(NEXT).unwrap_or_default();
    let next = if act::is_local(next) { next } else { "/" };
    let given = act.field("token").unwrap_or_default().trim();
    match desk.door.judge(given, visit.from).await {
        Some(true) => {}
        Some(false) => {
            tracing::warn!(visitor = %act.visitor, "a wrong token was given at the dashboard's login");
            let fault = "This is not the token.";
            return form(StatusCode::UNAUTHORIZED, next, Some(fault));
        }
        None => {
            let fault = "Too many wrong tokens came from this address. Wait a little.";
            return form(StatusCode::TOO_MANY_REQUESTS, next, Some(fault));
        }
    }
    let name = act.field(NAME).unwrap_or_default().trim();
    let name = name.chars().filter(|c| !c.is_control());
    let name: String = name.take(LONGEST_NAME).collect();
    let cookie = desk.dashboard.sessions.begin(name, is_https(&headers));
    ([(header::SET_COOKIE, cookie)], act::go(next)).into_response()
}

/// Ends the session.
pub(super) async fn logout(headers: HeaderMap, act: Act) -> Response {
    let Some(key) = act.visitor.session else {
        return act::go("/");
    };
    let cookie = act.desk.dashboard.sessions.end(&key, is_https(&headers));
    ([(header::SET_COOKIE, cookie)], act::go(LOGIN)).into_response()
}

/// Whether a proxy says that the browser came by https. Who lies about it only keeps his own cookie from himself.
fn is_https(headers: &HeaderMap) -> bool {
    let told = |name: &'static str| door::only(headers, &HeaderName::from_static(name));
    told("x-forwarded-proto").is_some_and(|proto| proto.eq_ignore_ascii_case("https"))
        || told("forwarded")
            .is_some_and(|forwarded| forwarded.to_ascii_lowercase().contains("proto=https"))
        || door::only(headers, &header::ORIGIN).is_some_and(|origin| origin.starts_with("https://"))
}

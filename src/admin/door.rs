//! Who may come in: by the name that was asked for, the page that asks, the method and the token.

mod guesses;

use crate::admin::connections::Visit;
use axum::Extension;
use axum::Json;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use guesses::Guesses;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde_json::json;
use sha2::Digest;
use sha2::Sha256;
use std::net::IpAddr;
use std::net::SocketAddr;
use tokio::time::Instant;

/// What is done, is done at this path and at those below [`DO`], by POST and nothing else. All others are only looked at.
pub(super) const ENQUEUE: &str = "/api/v1/enqueue";
/// The dashboard's actions, which only its own pages ask for, and who brings the token.
pub(super) const DO: &str = "/do/";
/// Whether the process is alive.
pub(super) const HEALTH: &str = "/healthz";
/// Whether it can do its work.
pub(super) const READINESS: &str = "/readyz";

/// What the checks go by.
#[derive(Clone)]
pub(super) struct Door {
    token: Option<SecretString>,
    loopback: bool,
    guesses: Guesses,
}

impl Door {
    pub(super) fn new(address: SocketAddr, token: Option<SecretString>) -> Self {
        Self {
            token,
            loopback: address.ip().to_canonical().is_loopback(),
            guesses: Guesses::default(),
        }
    }

    /// Whether a token is wanted at all.
    pub(super) fn is_locked(&self) -> bool {
        self.token.is_some()
    }

    /// Whether this is the token; none is where none is wanted. Guesses are not counted: that is for [`Door::judge`].
    fn is_token(&self, given: &str) -> bool {
        // Hashes are compared, so that the time it takes tells nothing about the token.
        self.token
            .as_ref()
            .is_some_and(|token| Sha256::digest(given) == Sha256::digest(token.expose_secret()))
    }

    /// Whether this is the token, told when it may be told; of many that come at once, most are never (`None`).
    pub(super) async fn judge(&self, given: &str, from: IpAddr) -> Option<bool> {
        let is_right = self.is_token(given);
        let told_at = self.guesses.told_at(from, Instant::now(), is_right)?;
        tokio::time::sleep_until(told_at).await;
        Some(is_right)
    }

    /// Whether the request brings the token, or none is wanted. Like [`Door::judge`].
    pub(super) async fn admits(&self, headers: &HeaderMap, from: IpAddr) -> Option<bool> {
        match credential(headers) {
            _ if self.token.is_none() => Some(true),
            None => Some(false),
            Some(given) => self.judge(given, from).await,
        }
    }
}

/// Turns away what no page and no tool of ours sends.
pub(super) async fn check(State(door): State<Door>, request: Request, next: Next) -> Response {
    // A page elsewhere can make a browser resolve its own name to 127.0.0.1; such a request names that host.
    let host = only(request.headers(), &header::HOST);
    // Load balancers that speak HTTP/1.0 name none when they ask for health; a browser always does.
    let is_health_check = matches!(request.uri().path(), HEALTH | READINESS)
        && !request.headers().contains_key(header::HOST);
    if door.loopback && !is_health_check && !host.is_some_and(is_loopback_host) {
        let why = "this listener is on a loopback address and answers to localhost only";
        return refuse(StatusCode::FORBIDDEN, why);
    }
    if is_from_another_site(request.method(), request.headers()) {
        let why = "requests that another site's page makes are not answered";
        return refuse(StatusCode::FORBIDDEN, why);
    }
    let method = request.method();
    let path = request.uri().path();
    let (is_right, allowed) = if path == ENQUEUE || path.starts_with(DO) {
        (*method == Method::POST, "POST")
    } else {
        (matches!(*method, Method::GET | Method::HEAD), "GET, HEAD")
    };
    if !is_right {
        let why = format!("this path takes {allowed} only");
        let refusal = refuse(StatusCode::METHOD_NOT_ALLOWED, &why);
        return ([(header::ALLOW, allowed)], refusal).into_response();
    }
    // Browsers tell the page's origin with every POST, and it was found to be ours.
    let is_known = |headers: &HeaderMap| {
        headers.contains_key(header::ORIGIN) || headers.contains_key(header::AUTHORIZATION)
    };
    if path.starts_with(DO) && !is_known(request.headers()) {
        let why =
            "say which page asks, as Origin: http://HOST:PORT of this listener, or send the token";
        return refuse(StatusCode::FORBIDDEN, why);
    }
    next.run(request).await
}

/// Answers 401 to whoever does not know the token.
pub(super) async fn demand_token(
    State(door): State<Door>,
    Extension(visit): Extension<Visit>,
    request: Request,
    next: Next,
) -> Response {
    match door.admits(request.headers(), visit.from).await {
        Some(true) => next.run(request).await,
        Some(false) => {
            let why = "send the token of admin.token_file as Authorization: Bearer";
            let refusal = refuse(StatusCode::UNAUTHORIZED, why);
            ([(header::WWW_AUTHENTICATE, "Bearer")], refusal).into_response()
        }
        None => too_many_guesses(),
    }
}

/// Answers 429: whether this one is right is not even told.
pub(super) fn too_many_guesses() -> Response {
    let why = "too many wrong tokens came from this address; wait a little";
    refuse(StatusCode::TOO_MANY_REQUESTS, why)
}

/// How everything is refused.
pub(super) fn refuse(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({"error": why}))).into_response()
}

/// No answer is kept, guessed at, framed, or read by other sites. A page that needs more says so itself.
pub(super) async fn forbid_embedding(mut response: Response) -> Response {
    let rules: [(HeaderName, &str); 5] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, rule) in rules {
        let headers = response.headers_mut();
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(rule));
    }
    response
}

/// The header's text where it stands there once: of two, who knows which a proxy went by.
pub(super) fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// The token that the request brings, right or wrong.
pub(super) fn credential(headers: &HeaderMap) -> Option<&str> {
    only(headers, &header::AUTHORIZATION).and_then(bearer)
}

/// What stands after `Bearer `, whose case does not matter.
fn bearer(credentials: &str) -> Option<&str> {
    let (scheme, token) = credentials.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty()).then_some(token)
}

/// Whether a browser says that another site's page makes this request. What is no browser says nothing.
fn is_from_another_site(method: &Method, headers: &HeaderMap) -> bool {
    if headers.contains_key(header::ORIGIN) {
        let page = only(headers, &header::ORIGIN)
            .and_then(|origin| origin.split_once("://"))
            .map(|(_, host)| host);
        // An origin that cannot be read, `null` too, is somebody else's.
        if page.is_none() || page != only(headers, &header::HOST) {
            return true;
        }
    }
    let told = |name: &'static str| only(headers, &HeaderName::from_static(name));
    match told("sec-fetch-site") {
        None | Some("same-origin" | "none") => false,
        // A link that somebody follows shows a page and changes nothing. A form that is sent navigates, too.
        Some(_) => {
            !matches!(*method, Method::GET | Method::HEAD)
                || told("sec-fetch-mode") != Some("navigate")
        }
    }
}

fn is_loopback_host(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.trim_end_matches(']'),
        None => host
            .rsplit_once(':')
            .filter(|(_, port)| port.parse::<u16>().is_ok())
            .map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests;

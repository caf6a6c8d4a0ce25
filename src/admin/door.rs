//! Who may come in: by the name that was asked for, the page that asks, the method and the token.

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
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde_json::json;
use sha2::Digest;
use sha2::Sha256;
use std::net::IpAddr;
use std::net::SocketAddr;

/// The paths at which something is done, by POST and nothing else. All others are only looked at.
pub(super) const ENQUEUE: &str = "/api/v1/enqueue";
const ACTIONS: [&str; 1] = [ENQUEUE];

/// What the checks go by.
#[derive(Clone)]
pub(super) struct Door {
    token: Option<SecretString>,
    loopback: bool,
}

impl Door {
    pub(super) fn new(address: SocketAddr, token: Option<SecretString>) -> Self {
        Self {
            token,
            loopback: address.ip().to_canonical().is_loopback(),
        }
    }

    /// Whether the request brings the token, or none is wanted.
    pub(super) fn knows_token(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        let given = only(headers, &header::AUTHORIZATION).and_then(bearer);
        // Hashes are compared, so that the time it takes tells nothing about the token.
        given.is_some_and(|given| Sha256::digest(given) == Sha256::digest(token.expose_secret()))
    }
}

/// Turns away what no page and no tool of ours sends.
pub(super) async fn check(State(door): State<Door>, request: Request, next: Next) -> Response {
    // A page elsewhere can make a browser resolve its own name to 127.0.0.1; such a request names that host.
    let host = only(request.headers(), &header::HOST);
    if door.loopback && !host.is_some_and(is_loopback_host) {
        let why = "this listener is on a loopback address and answers to localhost only";
        return refuse(StatusCode::FORBIDDEN, why);
    }
    if is_from_another_site(request.method(), request.headers()) {
        let why = "requests that another site's page makes are not answered";
        return refuse(StatusCode::FORBIDDEN, why);
    }
    let method = request.method();
    let (is_right, allowed) = if ACTIONS.contains(&request.uri().path()) {
        (*method == Method::POST, "POST")
    } else {
        (matches!(*method, Method::GET | Method::HEAD), "GET, HEAD")
    };
    if !is_right {
        let why = format!("this path takes {allowed} only");
        let refusal = refuse(StatusCode::METHOD_NOT_ALLOWED, &why);
        return ([(header::ALLOW, allowed)], refusal).into_response();
    }
    next.run(request).await
}

/// Answers 401 to whoever does not know the token.
pub(super) async fn demand_token(
    State(door): State<Door>,
    request: Request,
    next: Next,
) -> Response {
    if door.knows_token(request.headers()) {
        return next.run(request).await;
    }
    let why = "send the token of admin.token_file as Authorization: Bearer";
    let refusal = refuse(StatusCode::UNAUTHORIZED, why);
    ([(header::WWW_AUTHENTICATE, "Bearer")], refusal).into_response()
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
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_loopback_names_are_loopback_hosts() {
        for host in [
            "localhost",
            "LOCALHOST:9464",
            "127.0.0.1",
            "127.0.0.1:1",
            "127.9.9.9:80",
            "[::1]",
            "[::1]:9464",
        ] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:9464",
            "localhost.",
            "localhost:",
            "localhost:9464:9464",
            "localhost@evil.example",
            "evil.example#localhost",
            "127.0.0.1 ",
            "10.0.0.1",
            "0.0.0.0:9464",
            "[::2]:1",
            "[::1]evil.example",
            "::",
            "0x7f.1",
            "2130706433",
        ] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }

    #[test]
    fn a_page_of_another_site_is_told_by_origin_and_fetch_metadata() {
        let host = ("host", "localhost:9464");
        for lines in [
            &[host][..],
            &[host, ("origin", "http://localhost:9464")],
            &[host, ("sec-fetch-site", "same-origin")],
            &[host, ("sec-fetch-site", "none")],
            &[
                host,
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
            ],
        ] {
            assert!(
                !is_from_another_site(&Method::GET, &headers(lines)),
                "{lines:?}"
            );
        }
        for lines in [
            &[host, ("origin", "null")][..],
            &[host, ("origin", "http://evil.example")],
            &[host, ("origin", "http://localhost:9465")],
            &[host, ("origin", "http://localhost:9464.evil.example")],
            &[
                host,
                ("origin", "http://localhost:9464"),
                ("origin", "http://evil.example"),
            ],
            &[host, ("sec-fetch-site", "cross-site")],
            &[host, ("sec-fetch-site", "same-site")],
            &[
                host,
                ("origin", "http://localhost:9464"),
                ("sec-fetch-site", "cross-site"),
            ],
            &[
                host,
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "cors"),
            ],
            &[("origin", "http://localhost:9464")],
        ] {
            assert!(
                is_from_another_site(&Method::GET, &headers(lines)),
                "{lines:?}"
            );
        }
        let followed = headers(&[
            host,
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
        ]);
        assert!(is_from_another_site(&Method::POST, &followed));
    }

    #[test]
    fn a_token_counts_only_as_the_one_bearer_credential() {
        let door = |token: Option<&str>| {
            Door::new(([10, 0, 0, 1], 1).into(), token.map(SecretString::from))
        };
        for credentials in [
            "Bearer open-sesame",
            "bearer open-sesame",
            "BEARER  open-sesame ",
        ] {
            let headers = headers(&[("authorization", credentials)]);
            assert!(
                door(Some("open-sesame")).knows_token(&headers),
                "{credentials:?}"
            );
        }
        for credentials in [
            "",
            "Bearer",
            "Bearer ",
            "Beareropen-sesame",
            "Bearer\topen-sesame",
            "Bearer open-sesam",
            "Bearer open-sesame1",
            "Bearer Open-Sesame",
            "Bearer open -sesame",
            "Bearer open-sesame, x",
            "Basic open-sesame",
            "open-sesame",
        ] {
            let headers = headers(&[("authorization", credentials)]);
            assert!(
                !door(Some("open-sesame")).knows_token(&headers),
                "{credentials:?}"
            );
        }
        let twice = headers(&[
            ("authorization", "Bearer open-sesame"),
            ("authorization", "Bearer open-sesame"),
        ]);
        assert!(!door(Some("open-sesame")).knows_token(&twice));
        assert!(!door(Some("open-sesame")).knows_token(&headers(&[])));
        assert!(door(None).knows_token(&headers(&[])));
    }

    #[test]
    fn an_address_that_maps_to_loopback_is_loopback() {
        for (address, loopback) in [
            ("127.0.0.1:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("10.0.0.1:1", false),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
        ] {
            assert_eq!(
                Door::new(address.parse().unwrap(), None).loopback,
                loopback,
                "{address}"
            );
        }
    }
}

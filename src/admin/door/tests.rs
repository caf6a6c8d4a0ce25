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
    let door =
        |token: Option<&str>| Door::new(([10, 0, 0, 1], 1).into(), token.map(SecretString::from));
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

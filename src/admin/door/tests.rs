use super::*;
use std::time::Duration;

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

#[tokio::test(start_paused = true)]
async fn a_token_counts_only_as_the_one_bearer_credential() {
    let from = IpAddr::from([192, 0, 2, 7]);
    let door =
        |token: Option<&str>| Door::new(([10, 0, 0, 1], 1).into(), token.map(SecretString::from));
    for credentials in [
        "Bearer open-sesame",
        "bearer open-sesame",
        "BEARER  open-sesame ",
    ] {
        let headers = headers(&[("authorization", credentials)]);
        let verdict = door(Some("open-sesame")).admits(&headers, from).await;
        assert_eq!(verdict, Some(true), "{credentials:?}");
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
        let verdict = door(Some("open-sesame")).admits(&headers, from).await;
        assert_eq!(verdict, Some(false), "{credentials:?}");
    }
    let twice = headers(&[
        ("authorization", "Bearer open-sesame"),
        ("authorization", "Bearer open-sesame"),
    ]);
    let locked = door(Some("open-sesame"));
    assert_eq!(locked.admits(&twice, from).await, Some(false));
    assert_eq!(locked.admits(&headers(&[]), from).await, Some(false));
    assert_eq!(door(None).admits(&headers(&[]), from).await, Some(true));
}

#[tokio::test(start_paused = true)]
async fn a_guess_that_nobody_waits_for_holds_up_the_right_token_all_the_same() {
    let door = Door::new(([10, 0, 0, 1], 1).into(), Some("open-sesame".into()));
    let from = IpAddr::from([192, 0, 2, 7]);
    let begun = Instant::now();
    let wrong = tokio::time::timeout(Duration::from_millis(80), door.judge("wrong", from)).await;
    assert!(wrong.is_err(), "a wrong token is answered at once");
    assert_eq!(door.judge("open-sesame", from).await, Some(true));
    assert_eq!(begun.elapsed().as_millis(), 500);
    let elsewhere = IpAddr::from([192, 0, 2, 8]);
    assert_eq!(door.judge("open-sesame", elsewhere).await, Some(true));
    assert_eq!(begun.elapsed().as_millis(), 500);
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

use super::*;
use chrono::DateTime;

const ID: &str = "3c90c3cc-0d44-4b50-8888-8dd25736052a";

#[track_caller]
fn ordered(body: &str) -> EnqueueRequest {
    order(body.as_bytes()).unwrap()
}

#[test]
fn what_is_left_out_or_null_is_the_default() {
    for body in [
        format!(r#"{{"connection_ids": ["{ID}"]}}"#),
        format!(
            r#"{{"run_at": null, "priority": null, "account": null, "connection_ids": ["{ID}"]}}"#
        ),
    ] {
        let ordered = ordered(&body);
        assert_eq!(ordered.connection_ids, [Uuid::parse_str(ID).unwrap()]);
        assert_eq!((&*ordered.account, ordered.priority), ("default", 0));
        assert_eq!(ordered.run_at, None);
    }
}

#[test]
fn what_is_given_holds_and_an_id_may_stand_there_twice() {
    let ordered = ordered(&format!(
        r#" {{"account": "acm\u0065", "priority": -32768, "run_at": "2030-01-31T08:00:00+02:00",
             "connection_ids": ["{ID}", "{}"]}} "#,
        ID.to_uppercase()
    ));
    assert_eq!(
        ordered.connection_ids,
        [Uuid::parse_str(ID).unwrap(), Uuid::parse_str(ID).unwrap()]
    );
    assert_eq!((&*ordered.account, ordered.priority), ("acme", -32768));
    let expected = DateTime::parse_from_rfc3339("2030-01-31T06:00:00Z").unwrap();
    assert_eq!(ordered.run_at, Some(expected.to_utc()));
}

#[test]
fn the_first_thing_that_is_wrong_is_named() {
    let with = |more: &str| format!(r#"{{"connection_ids": ["{ID}"], {more}}}"#);
    let ids = |ids: &str| format!(r#"{{"connection_ids": {ids}}}"#);
    let long = "9".repeat(10_000);
    for (body, why) in [
        (String::new(), "the body is not JSON: EOF"),
        ("connection_ids=x".to_owned(), "the body is not JSON: "),
        ("[1]".to_owned(), "the body is no object such as "),
        ("null".to_owned(), "the body is no object such as "),
        ("[".repeat(100_000), "the body is no object such as "),
        (format!("{} x", ids("[]")), "the body is not JSON: trailing"),
        ("{}".to_owned(), "connection_ids is missing"),
        (ids("null"), "connection_ids: not a list: null"),
        (ids("\"x\""), "connection_ids: not a list: \"x\""),
        (ids("{}"), "connection_ids: not a list: an object"),
        (ids("[]"), "connection_ids: the list is empty"),
        (
            ids(&format!("[\"{ID}\", \"x\", \"y\"]")),
            "connection_ids[1]: not a UUID such as 3c90c3cc-0d44-4b50-8888-8dd25736052a: \"x\"",
        ),
        (ids("[null]"), "connection_ids[0]: not a string: null"),
        (ids(&"[".repeat(100_000)), "the body is not JSON: "),
        (ids("[[[]]]"), "connection_ids[0]: not a string: a list"),
        (ids("[7]"), "connection_ids[0]: not a string: 7"),
        (
            ids(r#"["\u001b[31m\u202e\n"]"#),
            "connection_ids[0]: not a UUID such as 3c90c3cc-0d44-4b50-8888-8dd25736052a: \"\\u{1b}[31m\\u{202e}\\n\"",
        ),
        (
            ids(r#"["\ud800"]"#),
            "connection_ids[0]: not a string: no text",
        ),
        (
            with(r#""acount": "x""#),
            "\"acount\" is not a field; there are connection_ids, account, priority, run_at",
        ),
        (
            with(r#""priority": 1, "priority": 1"#),
            "priority stands there twice",
        ),
        (
            with(r#""account": """#),
            "account: an account's name has 1 to 200 characters",
        ),
        (
            with(r#""account": "a\u0000""#),
            "account: an account's name has",
        ),
        (with(r#""account": 1"#), "account: not a string: 1"),
        (
            with(r#""priority": 32768"#),
            "priority: not a whole number from -32768 to 32767: 32768",
        ),
        (
            with(r#""priority": -32769"#),
            "priority: not a whole number",
        ),
        (with(r#""priority": 1.0"#), "priority: not a whole number"),
        (with(r#""priority": "1""#), "priority: not a whole number"),
        (with(r#""priority": true"#), "priority: not a whole number"),
        (
            with(&format!(r#""priority": {long}"#)),
            "priority: not a whole number",
        ),
        (
            with(r#""run_at": "infinity""#),
            "run_at: not a time in the years 1 to 9999 such as ",
        ),
        (with(r#""run_at": "2030-01-31""#), "run_at: not a time"),
        (with(r#""run_at": "+10m""#), "run_at: not a time"),
        (
            with(r#""run_at": 1893456000"#),
            "run_at: not a string: 1893456000",
        ),
    ] {
        let fault = order(body.as_bytes()).unwrap_err();
        assert!(fault.starts_with(why), "{body:.200}: {fault}");
        assert!(fault.len() < 400, "{fault}");
    }
    assert_eq!(order(b"\xff").unwrap_err(), "the body is not UTF-8");
}

#[test]
fn long_and_hostile_text_is_cut_and_escaped_wherever_it_stands() {
    let long = "é\u{202e}\u{9b}".repeat(10_000);
    for body in [
        format!(r#"{{"{long}": 1}}"#),
        format!(r#"{{"connection_ids": ["{long}"]}}"#),
        format!(r#"{{"connection_ids": "{long}"}}"#),
        format!(r#"{{"connection_ids": ["{ID}"], "account": "{long}"}}"#),
        format!(r#"{{"connection_ids": ["{ID}"], "run_at": "{long}"}}"#),
        format!(r#"{{"connection_ids": ["{ID}"], "priority": "{long}"}}"#),
    ] {
        let fault = order(body.as_bytes()).unwrap_err();
        assert!(fault.contains('…') && fault.len() < 2_000, "{fault}");
        assert!(!fault.contains(['\u{202e}', '\u{9b}']), "{fault}");
    }
}

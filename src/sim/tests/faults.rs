//! Every fault, as it looks on the wire.

use std::io;
use std::io::Read as _;
use std::time::Duration;
use std::time::Instant;

use flate2::read::GzDecoder;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use super::client::Answer;
use super::client::ID;
use super::client::finalize;
use super::client::path_of;
use super::client::poll;
use super::client::send;
use super::client::try_finalize;
use super::client::try_poll;
use crate::sim::Fault;
use crate::sim::RetryAfter;
use crate::sim::Scenario;
use crate::sim::Sim;
use crate::sim::StatusFault;

fn plain() -> Sim {
    Sim::start(Scenario::default()).unwrap()
}

/// What the call says that is hit by the fault, after a finalize that is not.
async fn hit(fault: Fault) -> (Sim, io::Result<Answer>) {
    let sim = plain();
    finalize(&sim, ID).await;
    let kind = fault.kind();
    sim.script(ID, [fault]);
    let answer = try_poll(&sim, ID).await;
    let calls = sim.calls_for(ID);
    let status = answer.as_ref().ok().map(|answer| answer.status);
    assert_eq!(calls[1].fault, Some(kind));
    assert!(status.is_none() || calls[1].status == status);
    assert_eq!(poll(&sim, ID).await, sim.truth(ID));
    (sim, answer)
}

async fn told(fault: Fault) -> (Sim, Answer) {
    let (sim, answer) = hit(fault).await;
    (sim, answer.unwrap())
}

/// The well-formed but wrong answer, and the truth.
async fn said(fault: Fault) -> (Value, Value) {
    let (sim, answer) = told(fault).await;
    assert_eq!(answer.status, 200);
    (answer.json(), sim.truth(ID))
}

fn tools(answer: &Value) -> &[Value] {
    answer["tools"].as_array().unwrap()
}

#[tokio::test]
async fn a_status_says_what_it_is_told_to_say() {
    let (_, bare) = told(Fault::status(503)).await;
    assert_eq!(
        (bare.status, &bare.json()["error"]),
        (503, &"service_unavailable".into())
    );
    assert!(bare.json().get("retryable").is_none() && bare.header("retry-after").is_none());
    let (_, full) = told(Fault::Status(StatusFault {
        code: 409,
        retryable: Some(false),
        retry_after: Some(7),
        retry_after_header: Some(RetryAfter::Seconds(3)),
        echo_key: true,
        ..StatusFault::default()
    }))
    .await;
    assert_eq!(
        (&full.json()["retryable"], &full.json()["retry_after"]),
        (&false.into(), &7.into())
    );
    assert_eq!(full.header("retry-after"), Some("3"));
    assert!(
        full.json()["message"]
            .as_str()
            .unwrap()
            .contains("fth_live_test")
    );
    let (_, dated) = told(Fault::Status(StatusFault {
        code: 502,
        retry_after_header: Some(RetryAfter::Text("+1h".into())),
        body: Some("<h1>Bad gateway</h1>".into()),
        ..StatusFault::default()
    }))
    .await;
    assert_eq!(
        (dated.text().as_str(), dated.header("content-type")),
        ("<h1>Bad gateway</h1>", Some("text/html; charset=utf-8"))
    );
    assert!(dated.header("retry-after").unwrap().ends_with(" GMT"));
}

#[tokio::test]
async fn refusals_have_no_effect_and_say_who_refuses() {
    for (fault, status, needle) in [
        (Fault::Plain404, 404, "<html>"),
        (Fault::Fastapi404, 404, r#"{"detail":"Not Found"}"#),
        (Fault::NotFound, 404, r#""error":"not_found""#),
        (Fault::Json422, 422, r#""detail":[{"#),
        (Fault::status(500), 500, "internal_error"),
        (Fault::NotActive, 200, "pending_oauth"),
        (
            Fault::Redirect {
                location: "https://elsewhere.invalid/x".into(),
                code: 308,
            },
            308,
            "",
        ),
    ] {
        let sim = plain();
        let before = sim.truth_text(ID);
        sim.script(ID, [fault]);
        let answer = try_finalize(&sim, ID).await.unwrap();
        assert_eq!(answer.status, status);
        assert!(answer.text().contains(needle));
        assert!(status != 308 || answer.header("location") == Some("https://elsewhere.invalid/x"));
        assert_eq!(sim.truth_text(ID), before);
    }
}

#[tokio::test]
async fn a_reset_is_a_reset_and_a_close_a_close_that_took_effect() {
    let (_, answer) = hit(Fault::Reset).await;
    assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let (sim, answer) = hit(Fault::Close).await;
    assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let before = sim.truth(ID);
    for (fault, moves) in [(Fault::Close, true), (Fault::Reset, false)] {
        let before = sim.truth(ID);
        sim.script(ID, [fault]);
        try_finalize(&sim, ID).await.unwrap_err();
        assert_eq!(sim.truth(ID) != before, moves);
    }
    assert_ne!(sim.truth(ID), before);
    let last = sim.calls_for(ID).pop().unwrap();
    assert_eq!((last.status, last.fault), (None, Some("reset")));
}

#[tokio::test]
async fn a_hang_ends_with_the_client_or_after_its_duration() {
    let sim = plain();
    sim.script(ID, [Fault::Hang { duration: None }]);
    let stream = send(&sim, "GET", &path_of(ID), "k", "").await;
    sim.wait_for_calls(1).await;
    assert_eq!(sim.stats().in_flight, 1);
    drop(stream);
    let ended = async {
        while sim.stats().in_flight > 0 {
            tokio::task::yield_now().await;
        }
    };
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, ended).await.unwrap();
    assert_eq!(sim.calls()[0].status, None);
    let began = Instant::now();
    sim.script(
        ID,
        [Fault::Hang {
            duration: Some(Duration::from_millis(40)),
        }],
    );
    assert_eq!(poll(&sim, ID).await, sim.truth(ID));
    assert!(began.elapsed() >= Duration::from_millis(40));
}

#[tokio::test]
async fn a_slow_body_drips_and_stays_in_flight() {
    let sim = plain();
    sim.script(
        ID,
        [Fault::Slow {
            duration: Duration::from_secs(1),
        }],
    );
    let began = Instant::now();
    let mut stream = send(&sim, "GET", &path_of(ID), "k", "").await;
    let mut some = [0; 64];
    stream.read_exact(&mut some).await.unwrap();
    assert_eq!(sim.stats().in_flight, 1);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    let text = String::from_utf8([&some[..], &rest].concat()).unwrap();
    assert!(text.ends_with(&sim.truth_text(ID)));
    assert_eq!(sim.calls()[0].status, Some(200));
}

#[tokio::test]
async fn bodies_are_short_cut_foreign_or_empty() {
    let (_, answer) = hit(Fault::ShortBody).await;
    assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let (_, cut) = told(Fault::TruncatedJson).await;
    assert!(cut.text().starts_with('{') && serde_json::from_slice::<Value>(&cut.body).is_err());
    let (_, page) = told(Fault::NotJson).await;
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    assert!(page.text().starts_with("<!doctype html>"));
    let (_, empty) = told(Fault::Empty).await;
    assert_eq!((empty.status, empty.body.len()), (200, 0));
}

#[tokio::test]
async fn large_bodies_are_as_large_as_asked_and_valid() {
    for announced in [true, false] {
        let (_, answer) = told(Fault::TooLarge {
            bytes: 300_001,
            announced,
        })
        .await;
        assert_eq!(answer.body.len(), 300_001);
        assert_eq!(answer.header("content-length").is_some(), announced);
        assert_eq!(answer.json()["id"], ID.to_string());
    }
    let expand = |body: &[u8]| {
        let mut text = String::new();
        GzDecoder::new(body).read_to_string(&mut text).unwrap();
        text
    };
    let (_, bomb) = told(Fault::GzipBomb { bytes: 20_000_000 }).await;
    assert_eq!(bomb.header("content-encoding"), Some("gzip"));
    assert!(bomb.body.len() < 100_000);
    let text = expand(&bomb.body);
    assert_eq!(text.len(), 20_000_000);
    assert!(serde_json::from_str::<Value>(&text).is_ok());
    let (sim, packed) = told(Fault::Gzip).await;
    assert_eq!(expand(&packed.body), sim.truth_text(ID));
}

#[tokio::test]
async fn fields_are_missing_null_or_of_another_type() {
    let (answer, truth) = said(Fault::MissingField {
        name: "nickname".into(),
    })
    .await;
    assert!(answer.get("nickname").is_none() && answer["tools"] == truth["tools"]);
    let (answer, _) = said(Fault::MissingField {
        name: "tools[].slug".into(),
    })
    .await;
    assert!(tools(&answer).iter().all(|tool| tool.get("slug").is_none()));
    let (answer, _) = said(Fault::NullField {
        name: "updated_at".into(),
    })
    .await;
    assert_eq!(answer["updated_at"], Value::Null);
    for (name, other) in [
        ("nickname", json!(42)),
        ("metadata", json!("not what it should be")),
        ("tools", json!({"not": "a list"})),
    ] {
        let (answer, _) = said(Fault::WrongType { name: name.into() }).await;
        assert_eq!(answer[name], other);
    }
    let (answer, _) = said(Fault::WrongType {
        name: "tools[].is_enabled".into(),
    })
    .await;
    assert!(tools(&answer)[0]["is_enabled"].is_string());
}

#[tokio::test]
async fn ids_are_wrong_foreign_or_doubled() {
    let (answer, truth) = said(Fault::WrongId).await;
    assert_ne!(answer["id"], truth["id"]);
    assert_eq!(tools(&answer)[0]["connection_id"], answer["id"]);
    let (answer, truth) = said(Fault::ForeignTool).await;
    let foreign = tools(&answer)
        .iter()
        .filter(|tool| tool["connection_id"] != truth["id"]);
    assert_eq!(foreign.count(), 1);
    for differs in [false, true] {
        let (answer, _) = said(Fault::DuplicateTool { differs }).await;
        let tools = tools(&answer);
        assert_eq!((tools.len(), &tools[5]["id"]), (6, &tools[0]["id"]));
        assert_eq!(tools[5] != tools[0], differs);
    }
}

#[tokio::test]
async fn tools_fail_never_settle_or_are_not_there() {
    let (answer, _) = said(Fault::ToolsFailed).await;
    assert_eq!(
        (&answer["tools_status"], tools(&answer).len()),
        (&"failed".into(), 4)
    );
    let (answer, _) = said(Fault::NeverSettles).await;
    assert_eq!(answer["tools_status"], "syncing");
    assert!(tools(&answer).len() < 5);
    let (answer, _) = said(Fault::OddStatus {
        word: "baking".into(),
    })
    .await;
    assert_eq!(
        (&answer["tools_status"], tools(&answer).len()),
        (&"baking".into(), 5)
    );
    let (answer, _) = said(Fault::NoTools { missing: false }).await;
    assert_eq!(answer.get("tools"), Some(&Value::Null));
    let (answer, _) = said(Fault::NoTools { missing: true }).await;
    assert_eq!(answer.get("tools"), None);
    let (answer, _) = said(Fault::EmptyTools).await;
    assert_eq!(
        (&answer["tools_status"], tools(&answer).len()),
        (&"synced".into(), 0)
    );
}

#[tokio::test]
async fn odd_contents_are_sent_as_written() {
    let (_, nul) = told(Fault::Nul).await;
    for needle in [
        r"nul \u0000 and half \ud800 a pair",
        r#""nul":"a\u0000b""#,
        r#""description":"\u0000\udfff""#,
        r#""key\u0000with nul""#,
    ] {
        assert!(nul.text().contains(needle), "{needle}");
    }
    let (_, unknown) = told(Fault::UnknownFields).await;
    assert!(
        unknown
            .text()
            .contains("12345678901234567890.123456789,1e400]")
    );
    assert_eq!(unknown.text().matches("\"cost_estimate\"").count(), 5);
    assert!(
        told(Fault::HugeNumber)
            .await
            .1
            .text()
            .contains("\"huge\":1e400")
    );
    assert!(
        told(Fault::Unstorable)
            .await
            .1
            .text()
            .contains("\"unstorable\":1e200000")
    );
    let (answer, truth) = said(Fault::Stale {
        age: Duration::from_secs(60),
    })
    .await;
    assert_ne!(answer["nickname"], truth["nickname"]);
    let time = |value: &Value| {
        crate::sim::clock::parse_rfc3339(value["updated_at"].as_str().unwrap()).unwrap()
    };
    assert_eq!(time(&truth) - time(&answer), 60_000_000);
}

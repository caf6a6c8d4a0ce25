//! Answers that are not what the API promises: four in a row end the job, and what they were is kept.

use crate::outcomes::answer;
use crate::outcomes::standing;
use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Fault;
use feather_sync::sim::StatusFault;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn the_fourth_malformed_answer_in_a_row_ends_the_job_and_any_other_failure_ends_the_row() {
    let world = World::new().await;
    let table = [
        (
            vec![
                Fault::Empty,
                Fault::WrongId,
                Fault::NotJson,
                Fault::Plain404,
            ],
            vec![
                "retry/protocol",
                "retry/mismatch",
                "retry/protocol",
                "dead/protocol",
            ],
        ),
        (
            vec![Fault::ForeignTool; 4],
            vec![
                "retry/mismatch",
                "retry/mismatch",
                "retry/mismatch",
                "dead/mismatch",
            ],
        ),
        (
            vec![
                Fault::Empty,
                Fault::Empty,
                Fault::Empty,
                Fault::Reset,
                Fault::Empty,
                Fault::Empty,
                Fault::Empty,
            ],
            vec![
                "retry/protocol",
                "retry/protocol",
                "retry/protocol",
                "retry/network",
                "retry/protocol",
                "retry/protocol",
                "retry/protocol",
                "synced",
            ],
        ),
    ];
    let ids = ids(table.len() as u128);
    for (id, (faults, _)) in ids.iter().zip(&table) {
        world.sim.script(*id, faults.clone());
    }
    world.sync(&ids).await;
    for (id, (_, story)) in ids.iter().zip(&table) {
        let told = world.story(*id).await;
        if story.last() == Some(&"synced") {
            assert_eq!(told[..story.len() - 1], story[..story.len() - 1]);
            assert_eq!(told.last().unwrap(), "synced");
        } else {
            assert_eq!(told, *story);
        }
    }
    let foreign: i64 = world
        .value(&format!(
            "SELECT count(*) FROM feather.integration_connections WHERE id <> '{}'",
            ids[2]
        ))
        .await;
    assert_eq!(foreign, 0, "a mismatch stores nothing, under no id");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed_and_the_key_goes_nowhere_else() {
    let world = World::new().await;
    let elsewhere = World::new().await;
    let ids = ids(5);
    for (id, code) in ids.iter().zip([301, 302, 303, 307, 308]) {
        let location = format!("{}/v1/integrations/connections/{id}", elsewhere.sim.url());
        world
            .sim
            .script(*id, vec![Fault::Redirect { location, code }; 4]);
    }
    world.sync(&ids).await;
    for id in &ids {
        assert_eq!(standing(&world, *id).await.2.as_deref(), Some("protocol"));
        let error: String = world
            .value(&format!(
                "SELECT last_error FROM feather.sync_status WHERE connection_id = '{id}'"
            ))
            .await;
        assert!(error.contains(&elsewhere.sim.url()), "{error}");
    }
    assert_eq!(elsewhere.sim.calls(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_kibibyte_of_a_malformed_body_is_kept_and_the_key_is_blanked() {
    let mut world = World::new().await;
    let key = "fth_live_0123456789abcdef0123456789abcdef";
    world
        .set("FEATHER_API_KEY", key)
        .set("FEATHER_SYNC__API__MAX_BODY_BYTES", "8KiB");
    let long = format!("<html>{}", "x".repeat(1_018));
    let many_keys = key.repeat(60);
    let json_with_key = format!(r#"{{"id": "{key}", "nickname": "{key}"}}"#);
    let bad_id = format!(r#"{{"id": 7, "padding": "{}"}}"#, "y".repeat(9_000));
    let echo = |code| StatusFault {
        code,
        echo_key: true,
        ..StatusFault::default()
    };
    let table = [
        (answer(format!("{long}never shown")), vec![long.as_str()]),
        (answer("<html>short"), vec!["<html>short"]),
        (answer(many_keys), vec!["******"]),
        (answer(json_with_key), vec![r#""nickname": "***""#]),
        (
            Fault::Status(StatusFault {
                body: Some("<p>your key: ".into()),
                ..echo(200)
            }),
            vec!["<p>your key: ***"],
        ),
        (
            Fault::Status(StatusFault {
                body: Some("<p>your key: ".into()),
                ..echo(404)
            }),
            vec!["<p>your key: ***"],
        ),
        (
            answer(bad_id),
            vec!["max_body_bytes", r#"{"id": 7, "padding": "yyyy"#],
        ),
        (
            Fault::TooLarge {
                bytes: 100_000,
                announced: true,
            },
            vec!["max_body_bytes", r#"{"id":""#],
        ),
        (
            Fault::TooLarge {
                bytes: 100_000,
                announced: false,
            },
            vec!["max_body_bytes", r#"{"id":""#],
        ),
        (
            Fault::GzipBomb { bytes: 100_000 },
            vec!["max_body_bytes", r#"{"id":""#],
        ),
        (
            Fault::Redirect {
                location: format!("/{key}"),
                code: 307,
            },
            vec![" to /***"],
        ),
    ];
    let ids = ids(table.len() as u128);
    for (id, (fault, _)) in ids.iter().zip(&table) {
        world.sim.script(*id, vec![fault.clone(); 4]);
    }
    world.sync(&ids).await;
    for (id, (fault, kept)) in ids.iter().zip(&table) {
        assert_eq!(
            standing(&world, *id).await.2.as_deref(),
            Some("protocol"),
            "{fault:?}"
        );
        let errors: Vec<(String,)> = world
            .rows(&format!(
                "SELECT error FROM feather.sync_attempts WHERE connection_id = '{id}'"
            ))
            .await;
        assert_eq!(errors.len(), 4);
        for (error,) in errors {
            for part in kept {
                assert!(error.contains(part), "{fault:?}: {error}");
            }
            assert!(!error.contains("never shown"), "{error}");
            assert!(!error.contains("fth_live"), "{error}");
            assert!(error.len() < 2_300, "{} bytes", error.len());
        }
    }
    // Nor is the key anywhere else, an honest answer's words and other errors included.
    for code in [503, 400] {
        world.sim.script(ids[0], [Fault::Status(echo(code))]);
        world.sync(&ids[..1]).await;
    }
    let leaks: i64 = world
        .value("SELECT count(*) FROM feather.sync_attempts a WHERE to_jsonb(a)::text LIKE '%fth_live%'")
        .await;
    assert_eq!(leaks, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_as_large_as_is_allowed_is_stored_and_one_byte_more_is_refused() {
    let mut world = World::new().await;
    world
        .set("FEATHER_SYNC__API__MAX_BODY_BYTES", "65536")
        .set("FEATHER_SYNC__RETRY__MAX_ATTEMPTS", "1");
    let ids = ids(4);
    for (id, (bytes, announced)) in ids.iter().zip([
        (65_536, true),
        (65_536, false),
        (65_537, true),
        (65_537, false),
    ]) {
        world
            .sim
            .script(*id, [Fault::TooLarge { bytes, announced }]);
    }
    world.sync(&ids).await;
    for id in &ids[..2] {
        assert_eq!(world.story(*id).await, ["synced"]);
    }
    for id in &ids[2..] {
        assert_eq!(world.story(*id).await, ["dead/protocol"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gzip_bomb_is_refused_at_once_and_takes_no_memory() {
    let mut world = World::new().await;
    world.set("FEATHER_SYNC__RETRY__MAX_ATTEMPTS", "1");
    let ids = ids(4);
    for id in &ids[1..] {
        world.sim.script(*id, [Fault::GzipBomb { bytes: 4 << 30 }]);
    }
    let began = std::time::Instant::now();
    world.sync(&ids).await;
    assert!(began.elapsed() < Duration::from_secs(60));
    assert_eq!(world.story(ids[0]).await, ["synced"]);
    for id in &ids[1..] {
        assert_eq!(world.story(*id).await, ["dead/protocol"]);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| {
        line.strip_prefix("VmHWM:")?
            .trim()
            .strip_suffix(" kB")?
            .parse::<u64>()
            .ok()
    });
    assert!(peak.unwrap_or_default() < 1 << 20, "{peak:?} kB");
}

//! When tools have settled, and when they have not.

use crate::outcomes::answer;
use crate::outcomes::standing;
use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Call;
use feather_sync::sim::Fault;
use feather_sync::sim::FaultRule;
use feather_sync::sim::On;
use feather_sync::sim::Scenario;
use serde_json::Value;
use serde_json::json;
use uuid::Uuid;

fn is_finalized_once_then_polled(calls: &[Call]) -> bool {
    calls[0].method == "POST" && calls[1..].iter().all(|call| call.method == "GET")
}

fn odd(word: &str) -> Fault {
    Fault::OddStatus { word: word.into() }
}

/// The truth about a connection, edited, as an answer.
fn told(world: &World, id: Uuid, edit: impl FnOnce(&mut Value)) -> Fault {
    let mut truth = world.sim.truth(id);
    edit(&mut truth);
    answer(truth.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_poll_begun_after_the_deadline_gives_up_and_what_it_received_is_stored() {
    let mut world = World::new().await;
    world.set("FEATHER_SYNC__SETTLE__DEADLINE", "5s");
    let (stuck, neighbour) = (ids(2)[0], ids(2)[1]);
    world.sim.set_faults(vec![FaultRule {
        ids: vec![stuck],
        ..FaultRule::new(Fault::NeverSettles)
    }]);
    world.sync(&[stuck, neighbour]).await;
    let story = world.story(stuck).await;
    assert!(story.len() >= 3, "{story:?}");
    assert!(
        story[..story.len() - 1]
            .iter()
            .all(|word| word == "settling")
    );
    assert_eq!(story.last().unwrap(), "dead/settle_timeout");
    assert!(is_finalized_once_then_polled(&world.sim.calls_for(stuck)));
    let late: Vec<(bool,)> = world
        .rows(&format!(
            "SELECT a.started_at >= j.settle_deadline FROM feather.sync_attempts a JOIN feather.sync_jobs j USING (connection_id)
             WHERE connection_id = '{stuck}' ORDER BY a.id"
        ))
        .await;
    assert_eq!(late.iter().filter(|(late,)| *late).count(), 1);
    assert_eq!(late.last(), Some(&(true,)));
    let (tools_status, finalized): (String, bool) = world
        .row(&format!(
            "SELECT tools_status, _finalized_at IS NOT NULL FROM feather.connections WHERE id = '{stuck}'"
        ))
        .await;
    assert_eq!((tools_status.as_str(), finalized), ("syncing", true));
    assert_eq!(world.story(neighbour).await, ["synced"]);

    // The daemon was away while the deadline passed: the tools have settled meanwhile, and that counts.
    world.sim.script(stuck, [Fault::NeverSettles]);
    world
        .set("FEATHER_SYNC__SETTLE__DEADLINE", "1h")
        .set("FEATHER_SYNC__SETTLE__INITIAL", "1s")
        .set("FEATHER_SYNC__SETTLE__MAX", "1s");
    world.enqueue(&[stuck]).await;
    let replica = world.start();
    world
        .until("SELECT count(*) = 1 FROM feather.sync_jobs WHERE state = 'pending' AND phase = 'settle'")
        .await;
    replica.stop().await;
    world.sim.set_faults(vec![]);
    world
        .execute("UPDATE feather.sync_jobs SET settle_deadline = now() - interval '1 hour'")
        .await;
    world.drain().await;
    assert_eq!(
        standing(&world, stuck).await,
        ("idle".into(), "synced".into(), None)
    );
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_that_settle_as_failed_are_stored_remove_nothing_and_end_the_job() {
    let world = World::new().await;
    let ids = ids(3);
    world.sync(&ids[1..]).await;
    // At once, in a poll, and at once again with nothing known before.
    world.sim.script(ids[1], [Fault::ToolsFailed]);
    world
        .sim
        .script(ids[2], [Fault::NeverSettles, Fault::ToolsFailed]);
    world.sim.script(ids[0], [Fault::ToolsFailed]);
    world.sync(&ids).await;
    for (id, story) in ids.iter().zip([
        vec!["dead/tools_failed"],
        vec!["synced", "dead/tools_failed"],
        vec!["synced", "settling", "dead/tools_failed"],
    ]) {
        assert_eq!(world.story(*id).await, story);
        let (status, finalized): (String, bool) = world
            .row(&format!(
                "SELECT tools_status, _finalized_at IS NOT NULL FROM feather.connections WHERE id = '{id}'"
            ))
            .await;
        assert_eq!((status.as_str(), finalized), ("failed", true));
    }
    let tools: Vec<(i64,)> = world
        .rows("SELECT count(*) FROM feather.tools GROUP BY connection_id ORDER BY connection_id")
        .await;
    assert_eq!(
        tools,
        [(4,), (5,), (5,)],
        "the answers lacked the last tool"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_word_settles_once_two_answers_far_enough_apart_agree() {
    let mut world = World::new().await;
    world.set("FEATHER_SYNC__SETTLE__INITIAL", "200ms");
    let ids = ids(4);
    let [steady, wavering, growing, dateless] = [ids[0], ids[1], ids[2], ids[3]];
    world.sim.set_faults(vec![FaultRule {
        ids: vec![steady],
        ..FaultRule::new(odd("warming_up"))
    }]);
    world
        .sim
        .script(wavering, [odd("a"), odd("b"), odd("a"), odd("a")]);
    let partial = |n| {
        told(&world, growing, |truth| {
            truth["tools_status"] = json!("who knows");
            truth["tools"].as_array_mut().unwrap().truncate(n);
        })
    };
    world
        .sim
        .script(growing, [partial(1), partial(2), partial(2)]);
    // A word that means done, but no sync has ever landed.
    let never_synced = || {
        told(&world, dateless, |truth| {
            truth["tools_synced_at"] = Value::Null;
        })
    };
    world.sim.script(dateless, [never_synced(), never_synced()]);
    world.sync(&ids).await;
    let settling = |polls: usize| {
        let mut story = vec!["settling"; polls];
        story.push("synced");
        story
    };
    for (id, polls) in [(steady, 1), (wavering, 3), (growing, 2), (dateless, 1)] {
        assert_eq!(world.story(id).await, settling(polls), "{id}");
        let calls = world.sim.calls_for(id);
        assert!(is_finalized_once_then_polled(&calls));
        let last_two = calls[calls.len() - 1].at_ms - calls[calls.len() - 2].at_ms;
        assert!(last_two >= 200, "{last_two} ms apart");
    }
    let tools: i64 = world
        .value(&format!(
            "SELECT count(*) FROM feather.tools WHERE connection_id = '{growing}'"
        ))
        .await;
    assert_eq!(tools, 2);
    let word: String = world
        .value(&format!(
            "SELECT tools_status FROM feather.connections WHERE id = '{steady}'"
        ))
        .await;
    assert_eq!(word, "warming_up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_fails_between_two_answers_that_agree_changes_nothing() {
    let world = World::new().await;
    let id = ids(1)[0];
    world
        .sim
        .script(id, [odd("x"), Fault::status(503), odd("x")]);
    world.sync(&[id]).await;
    assert_eq!(
        world.story(id).await,
        ["settling", "retry/upstream", "synced"]
    );
    assert!(is_finalized_once_then_polled(&world.sim.calls_for(id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finalize_that_shows_the_sync_already_stored_is_decided_by_the_next_poll() {
    let world = World::with(Scenario::from_toml("tools_synced_at = \"frozen\"").unwrap()).await;
    let ids = ids(3);
    world.sync(&ids).await;
    // Even as failed: that may be the failure of the sync before.
    world.sim.script(ids[1], [Fault::ToolsFailed]);
    world.sim.script(ids[2], [Fault::None, Fault::ToolsFailed]);
    world.sync(&ids).await;
    assert_eq!(world.story(ids[0]).await, ["synced", "settling", "synced"]);
    assert_eq!(world.story(ids[1]).await, ["synced", "settling", "synced"]);
    assert_eq!(
        world.story(ids[2]).await,
        ["synced", "settling", "dead/tools_failed"]
    );
    for id in &ids {
        assert!(is_finalized_once_then_polled(
            &world.sim.calls_for(*id)[1..]
        ));
    }
    for id in &ids[..2] {
        world.equals_truth(*id).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn words_are_compared_whatever_their_case_and_the_lists_are_configurable() {
    let mut world = World::new().await;
    world
        .set("FEATHER_SYNC__SETTLE__DONE", r#"["fertig"]"#)
        .set("FEATHER_SYNC__SETTLE__IN_PROGRESS", r#"["synced"]"#)
        .set("FEATHER_SYNC__SETTLE__FAILED", r#"["kaputt"]"#)
        .set("FEATHER_SYNC__SETTLE__NOT_ACTIVE", r#"["wartend"]"#)
        .set("FEATHER_SYNC__RETRY__MAX_ATTEMPTS", "1");
    let ids = ids(4);
    world.sim.script(ids[0], [odd("Fertig")]);
    world.sim.script(ids[1], [odd("SYNCED"), odd("FERTIG")]);
    world.sim.script(ids[2], [odd("Kaputt")]);
    world.sim.script(
        ids[3],
        [told(&world, ids[3], |truth| {
            truth["status"] = json!("Wartend");
        })],
    );
    world.sync(&ids).await;
    assert_eq!(world.story(ids[0]).await, ["synced"]);
    assert_eq!(world.story(ids[1]).await, ["settling", "synced"]);
    assert_eq!(world.story(ids[2]).await, ["dead/tools_failed"]);
    assert_eq!(world.story(ids[3]).await, ["dead/not_active"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_polls_are_polls_again_and_an_inactive_connection_is_finalized_again() {
    let world = World::new().await;
    let ids = ids(3);
    let polls_fail = |id, fault| FaultRule {
        ids: vec![id],
        on: On::Poll,
        times: Some(2),
        ..FaultRule::new(fault)
    };
    for id in &ids {
        world.sim.script(*id, [Fault::NeverSettles]);
    }
    world.sim.set_faults(vec![
        polls_fail(ids[0], Fault::status(500)),
        polls_fail(ids[1], Fault::NotJson),
        polls_fail(ids[2], Fault::NotActive),
    ]);
    world.sync(&ids).await;
    let methods = |id| {
        let calls = world.sim.calls_for(id);
        calls
            .iter()
            .map(|call| call.method.clone())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(methods(ids[0]), "POST GET GET GET");
    assert_eq!(methods(ids[1]), "POST GET GET GET");
    assert!(
        methods(ids[2]).starts_with("POST GET POST"),
        "{}",
        methods(ids[2])
    );
    for id in &ids {
        assert_eq!(world.story(*id).await.last().unwrap(), "synced");
    }
}

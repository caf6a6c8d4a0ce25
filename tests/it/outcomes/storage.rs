//! Rows that Postgres refuses: dead alone, whatever their batch.

use crate::outcomes::answer;
use crate::outcomes::standing;
use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Fault;

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_postgres_refuses_is_dead_alone_and_its_batch_goes_on() {
    let mut world = World::new().await;
    world.set("FEATHER_SYNC__WORKER__CONCURRENCY", "32");
    let ids = ids(30);
    world.sync(&ids[..1]).await;
    let before: String = world
        .value("SELECT to_jsonb(c)::text FROM feather.connections c")
        .await;
    let text = |id| world.sim.truth_text(id);
    let with = |id, field: &str| answer(text(id).replacen('{', &format!("{{{field},"), 1));
    let deep = format!("\"deep\":{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let in_tool = text(ids[9]).replacen("\"tool_path\":", "\"new\":-1e200000,\"tool_path\":", 1);
    let count = text(ids[14]).replacen(
        "\"metadata\":{",
        "\"metadata\":{\"n\":{\"m\":[1e-200000]},",
        1,
    );
    let poison = [
        (ids[0], Fault::Unstorable),
        (ids[4], with(ids[4], "\"new\":1e200000")),
        (ids[9], answer(in_tool)),
        (ids[14], answer(count)),
        (ids[19], with(ids[19], &deep)),
    ];
    for (id, fault) in &poison {
        world.sim.script(*id, [fault.clone()]);
    }
    // All are under way together, so that they are written together.
    let gate = world.sim.hold();
    world.enqueue(&ids).await;
    let replica = world.start();
    world.called(31).await;
    gate.release();
    world
        .until("SELECT count(*) >= 31 FROM feather.sync_attempts")
        .await;
    world
        .until("SELECT count(*) = 5 FROM feather.sync_jobs WHERE state = 'dead'")
        .await;
    world
        .until("SELECT bool_and(state = 'dead') FROM feather.sync_jobs")
        .await;
    replica.stop().await;
    world.check().await;
    for id in &ids {
        let story = world.story(*id).await;
        if poison.iter().any(|(poisoned, _)| poisoned == id) {
            assert_eq!(story.last().unwrap(), "dead/storage");
            assert_eq!(standing(&world, *id).await.0, "dead");
        } else {
            assert_eq!(story, ["synced"], "{id}");
            world.equals_truth(*id).await.unwrap();
        }
    }
    let after: Vec<(String,)> = world
        .rows(&format!(
            "SELECT to_jsonb(c)::text FROM feather.connections c WHERE id IN ('{}', '{}', '{}', '{}', '{}')",
            ids[0], ids[4], ids[9], ids[14], ids[19]
        ))
        .await;
    assert_eq!(
        after,
        [(before,)],
        "what was stored stays, and nothing else is"
    );
    // Once the answer can be stored, a request is all it takes.
    world.sync(&ids).await;
    for id in &ids {
        world.equals_truth(*id).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_postgres_cannot_cope_with_is_dead_alone_too_and_its_neighbours_do_not_wait_for_it()
 {
    let mut world = World::new().await;
    world.set("FEATHER_SYNC__WORKER__CONCURRENCY", "32");
    let ids = ids(32);
    // As if the statement ran into its time limit, Postgres into a fault of its own, or a value were quoted in full.
    let poison = [
        (ids[3], "57014"),
        (ids[11], "XX000"),
        (ids[12], "XX000"),
        (ids[29], "22003"),
    ];
    let cases: String = poison
        .iter()
        .map(|(id, code)| format!("WHEN '{id}' THEN '{code}' "))
        .collect();
    world
        .execute(&format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
             DECLARE code text := CASE NEW.id {cases} END;
             BEGIN
                 IF code IS NOT NULL THEN
                     RAISE EXCEPTION USING ERRCODE = code, MESSAGE = repeat('no ', 500000);
                 END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON feather.integration_connections FOR EACH ROW EXECUTE FUNCTION refuse()"
        ))
        .await;
    let gate = world.sim.hold();
    world.enqueue(&ids).await;
    let replica = world.start();
    world.called(32).await;
    gate.release();
    world
        .until("SELECT count(*) = 4 AND bool_and(state = 'dead') FROM feather.sync_jobs")
        .await;
    replica.stop().await;
    world.check().await;
    for id in &ids {
        let story = world.story(*id).await;
        if poison.iter().any(|(poisoned, _)| poisoned == id) {
            assert_eq!(story, ["dead/storage"]);
        } else {
            assert_eq!(story.last().unwrap(), "synced", "{id}");
            world.equals_truth(*id).await.unwrap();
        }
    }
    let longest: i32 = world
        .value("SELECT max(octet_length(error)) FROM feather.sync_attempts")
        .await;
    assert!(longest < 2_000, "{longest} bytes of error");
}

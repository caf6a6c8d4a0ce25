//! Connections that upstream no longer has.

use crate::outcomes::standing;
use crate::world::World;
use crate::world::ids;
use chrono::DateTime;
use chrono::Utc;
use feather_sync::sim::Fault;

type Times = (Option<DateTime<Utc>>, DateTime<Utc>, DateTime<Utc>);

async fn times(world: &World, id: uuid::Uuid) -> Times {
    world
        .row(&format!(
            "SELECT _removed_at, _changed_at, _first_seen_at FROM feather.integration_connections WHERE id = '{id}'"
        ))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_connection_is_marked_removed_and_a_later_200_brings_it_back() {
    let world = World::new().await;
    let ids = ids(3);
    let (gone, stays) = (ids[0], ids[1]);
    world.sync(&ids[..2]).await;
    let known = times(&world, gone).await;
    world.sim.delete(gone);
    world.sim.delete(ids[2]);
    world.sync(&ids).await;
    let removed = times(&world, gone).await;
    assert!(removed.0.is_some() && removed.1 > known.1 && removed.2 == known.2);
    assert_eq!(
        standing(&world, gone).await,
        ("dead".into(), "dead".into(), Some("not_found".into()))
    );
    assert_eq!(standing(&world, ids[2]).await.0, "dead");
    let held: Vec<(uuid::Uuid,)> = world
        .rows("SELECT id FROM feather.integration_connections ORDER BY id")
        .await;
    assert_eq!(
        held,
        [(gone,), (stays,)],
        "one that was never received gets no row"
    );
    let seen: Vec<(uuid::Uuid,)> = world
        .rows("SELECT id FROM feather.connections UNION SELECT connection_id FROM feather.tools")
        .await;
    assert_eq!(seen, [(stays,)]);
    // Found gone once more, nothing moves.
    world.sync(&[gone]).await;
    assert_eq!(times(&world, gone).await, removed);

    world.sim.restore(gone);
    world.sync(&[gone]).await;
    let back = times(&world, gone).await;
    assert!(back.0.is_none() && back.1 > removed.1 && back.2 == known.2);
    world.equals_truth(gone).await.unwrap();
    let tools: i64 = world
        .value(&format!(
            "SELECT count(*) FROM feather.tools WHERE connection_id = '{gone}'"
        ))
        .await;
    assert_eq!(tools, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_apis_own_404_from_the_account_that_we_hold_it_from_marks_a_connection_removed() {
    let mut world = World::new().await;
    world.set("FEATHER_SYNC__RETRY__MAX_ATTEMPTS", "1");
    let ids = ids(4);
    world.sync(&ids).await;
    world.sim.script(ids[0], [Fault::Plain404]);
    world.sim.script(ids[1], [Fault::Fastapi404]);
    world.sim.script(ids[2], [Fault::NotFound]);
    world
        .sim
        .script(ids[3], [Fault::NeverSettles, Fault::NotFound]);
    world
        .execute(&format!(
            "UPDATE feather.integration_connections SET _account = 'other' WHERE id = '{}'",
            ids[2]
        ))
        .await;
    world.sync(&ids).await;
    for (id, class) in ids
        .iter()
        .zip(["protocol", "protocol", "not_found", "not_found"])
    {
        assert_eq!(standing(&world, *id).await.2.as_deref(), Some(class));
        assert_eq!(times(&world, *id).await.0.is_some(), *id == ids[3], "{id}");
    }
}

//! Nothing is removed for being absent, nor by an answer that has not settled.

use super::*;

async fn backfilled() -> World {
    let world = World::with(scenario("connections = 20\ntools = 4")).await;
    backfill(&world).await;
    assert_eq!(held(&world).await, (20, 80));
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_removed_by_an_empty_truncated_failing_or_half_length_list() {
    let world = backfilled().await;
    for (fault, listed) in [
        (Fault::ShortList { keep: 0.0 }, Some(0)),
        (Fault::ShortList { keep: 0.5 }, Some(10)),
        (Fault::TruncatedJson, None),
        (Fault::ShortBody, None),
        (Fault::status(500), None),
        (Fault::NotJson, None),
        (Fault::Empty, None),
        (Fault::Reset, None),
    ] {
        let kind = fault.kind();
        lists_fail(&world, fault);
        let (tally, end) = take(&world, Options::default()).await;
        match listed {
            Some(listed) => {
                end.expect(kind);
                assert_eq!(tally.listed, listed, "{kind}");
            }
            None => assert!(
                matches!(end, Err(InventoryError::Api(_))),
                "{kind}: {end:?}"
            ),
        }
        assert_eq!(held(&world).await, (20, 80), "{kind}");
    }
    assert_equals_list(&world, &world.sim.ids()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_a_list_broke_off_is_stored_and_the_next_list_brings_the_rest() {
    let world = World::with(scenario("connections = 20\ntools = 4")).await;
    lists_fail(&world, Fault::TruncatedJson);
    let (tally, end) = take(&world, Options::default()).await;
    assert!(end.unwrap_err().to_string().starts_with("protocol: "));
    assert!((1..20).contains(&tally.new), "{tally:?}");
    assert_eq!(held(&world).await.0.unsigned_abs(), tally.new);
    world.sim.set_faults(Vec::new());
    let rest = backfill(&world).await;
    assert_eq!((rest.new, rest.unchanged), (20 - tally.new, tally.new));
    assert_equals_list(&world, &world.sim.ids()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_settled_item_removes_tools() {
    let world = backfilled().await;
    for fault in [
        Fault::NeverSettles,
        Fault::ToolsFailed,
        Fault::NoTools { missing: false },
        Fault::NoTools { missing: true },
    ] {
        let kind = fault.kind();
        lists_fail(&world, fault);
        assert_eq!(backfill(&world).await.tools_removed, 0, "{kind}");
        assert_eq!(held(&world).await, (20, 80), "{kind}");
    }
    lists_fail(&world, Fault::EmptyTools);
    assert_eq!(backfill(&world).await.tools_removed, 80);
    world.sim.set_faults(Vec::new());
    assert_eq!(backfill(&world).await.tools_added, 80);
    assert_equals_list(&world, &world.sim.ids()).await;
}

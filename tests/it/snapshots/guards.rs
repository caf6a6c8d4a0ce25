//! Stored content never goes back in time.

use super::column;
use super::counts;
use super::settled;
use super::sync;
use super::told;
use super::tool_column;
use feather_sync::sim::Fault;
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_an_older_time_is_not_applied_but_the_check_counts_and_says_so() {
    let (world, id) = settled().await;
    let (changed, synced) = (
        column(&world, id, "_changed_at").await,
        column(&world, id, "_synced_at").await,
    );
    for age in [Duration::from_micros(1), Duration::from_secs(86_400 * 400)] {
        sync(&world, id, Fault::Stale { age }).await;
        world.equals_truth(id).await.unwrap();
        assert_eq!(counts(&world, id).await, (0, 0, 0));
    }
    let emptied = told(&world, id, |truth| {
        truth["updated_at"] = json!("2020-01-01T00:00:00Z");
        truth["tools_synced_at"] = json!("2020-01-01T00:00:00Z");
        truth["tools"] = json!([]);
        truth["last_used_at"] = json!("2020-01-01T00:00:00Z");
        truth["unknown"] = json!(1);
    });
    world.sim.script(id, [emptied]);
    world.sync(&[id]).await;
    world.equals_truth(id).await.unwrap();
    assert_eq!(column(&world, id, "_extra").await.as_deref(), Some("{}"));
    assert_eq!(column(&world, id, "_changed_at").await, changed);
    assert_ne!(column(&world, id, "_synced_at").await, synced);
    let warning = column(&world, id, "_warnings -> 0 ->> 'field'").await;
    assert_eq!(warning.as_deref(), Some("updated_at"));
    let served: bool = world
        .value("SELECT last_outcome = 'synced' AND state = 'idle' FROM feather.sync_status")
        .await;
    assert!(served);
    // The next answer that is not older clears it.
    world.sync(&[id]).await;
    assert_eq!(column(&world, id, "_warnings").await, None);
    assert_eq!(column(&world, id, "_changed_at").await, changed);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_equal_times_the_newer_answer_is_kept() {
    let (world, id) = settled().await;
    // Numbers as wide as a double, as the answers below have them.
    sync(&world, id, told(&world, id, |_| {})).await;
    for name in ["first", "second", "first"] {
        let renamed = told(&world, id, |truth| {
            truth["nickname"] = json!(name);
            truth["tools"][0]["display_name"] = json!(name);
        });
        sync(&world, id, renamed).await;
        assert_eq!(column(&world, id, "nickname").await.as_deref(), Some(name));
        assert!(
            tool_column(&world, id, "display_name")
                .await
                .contains(&Some(name.into()))
        );
        assert_eq!(counts(&world, id).await, (0, 1, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_time_in_the_far_future_guards_nothing_and_one_in_the_near_future_does() {
    let (world, id) = settled().await;
    let ahead = |by: chrono::TimeDelta| {
        let at = chrono::Utc::now() + by;
        told(&world, id, |truth| {
            truth["updated_at"] = json!(at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true));
            truth["nickname"] = json!("from the future");
        })
    };
    sync(&world, id, ahead(chrono::TimeDelta::hours(23))).await;
    world.sync(&[id]).await;
    assert_eq!(
        column(&world, id, "nickname").await.as_deref(),
        Some("from the future")
    );
    sync(&world, id, ahead(chrono::TimeDelta::hours(25))).await;
    world.sync(&[id]).await;
    world.equals_truth(id).await.unwrap();
    assert_eq!(column(&world, id, "_warnings").await, None);
}

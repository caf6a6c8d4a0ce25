//! The record, page by page.

use super::Browser;
use crate::admin::listening;
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn the_record_is_read_from_the_newest_to_the_oldest_and_each_row_is_shown_once() {
    let mut world = World::new().await;
    world
        .execute(
            "INSERT INTO feather.sync_audit (actor, action, account) SELECT 'alice@db-1', 'retry', 'default' FROM generate_series(1, 250)",
        )
        .await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let browser = Browser::at(port);
    let mut seen = Vec::new();
    let mut next = Some("/audit".to_owned());
    while let Some(path) = next {
        let page = browser.get(&path).await.body;
        let rows = page.split("id=\"audit-").skip(1);
        seen.extend(rows.map(|row| row.split('"').next().unwrap().parse::<i64>().unwrap()));
        next = page
            .split("rel=\"next\" href=\"")
            .nth(1)
            .map(|rest| rest.split('"').next().unwrap().to_owned());
        // What is added meanwhile moves nothing.
        world
            .execute("INSERT INTO feather.sync_audit (actor, action) VALUES ('bob', 'pause')")
            .await;
    }
    let all: Vec<(i64,)> = world
        .rows("SELECT id FROM feather.sync_audit WHERE actor <> 'bob' ORDER BY id DESC")
        .await;
    let all: Vec<i64> = all.into_iter().map(|(id,)| id).collect();
    assert_eq!(seen, all);
    for nonsense in ["/audit?before=x", "/audit?before=99999999999999999999"] {
        assert_eq!(browser.get(nonsense).await.status, 400, "{nonsense}");
    }
    let empty = browser.get("/audit?before=-5").await;
    assert!(
        empty.body.contains("Nothing is on record before that."),
        "{}",
        empty.body
    );
    replica.stop().await;
}

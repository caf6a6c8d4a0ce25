//! Requests that come over HTTP meanwhile.

use super::PATIENCE;
use super::Scene;
use crate::admin::until_status;
use crate::ports::free_port;
use crate::posting::JSON;
use crate::posting::LATE;
use crate::posting::asking_for;
use crate::posting::is_refused;
use crate::posting::list;
use crate::posting::post;
use crate::proxy::COMMIT;
use crate::proxy::Moment;
use crate::proxy::Traffic;
use crate::world::World;
use crate::world::ids;
use sqlx::Acquire;
use std::time::Duration;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_it_says_why_and_that_nothing_was_enqueued() {
    let mut world = World::new().await;
    let port = free_port();
    world.set("FEATHER_SYNC__ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    world.set("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing");
    let replica = world.start();
    until_status(port, "/healthz", 200).await;
    let refused = post(port, JSON, &asking_for(&ids(1))).await;
    is_refused(&refused, 503, "the database cannot be used: ");
    is_refused(&refused, 503, "; nothing was enqueued");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_after_a_commit_without_an_answer_it_is_not_known_whether_anything_was_enqueued() {
    let scene = Scene::new(&[]).await;
    let replica = scene.start().await;
    let account = |account: &str| {
        format!(
            "{{\"account\": \"{account}\", \"run_at\": \"{LATE}\", \"connection_ids\": {}}}",
            list(&ids(2))
        )
    };
    let jobs = |account: &str| {
        format!("SELECT count(*) FROM feather.sync_jobs WHERE account = '{account}'")
    };

    // The statement never arrives: that it did not happen is certain.
    scene
        .proxy
        .set_trap(b"\0\0\0\x07postbox", Moment::BeforeServer, 1);
    let refused = post(scene.port, JSON, &account("postbox")).await;
    is_refused(&refused, 503, "; nothing was enqueued");
    assert!(
        scene
            .metric("feather_sync_db_errors_total{kind=\"unavailable\"")
            .await
            >= 1.0
    );

    for (moment, name) in [
        (Moment::BeforeServer, "lost"),
        (Moment::BeforeAnswer, "unheard"),
    ] {
        let began = Instant::now();
        let refused = loop {
            assert!(began.elapsed() < PATIENCE, "the trap did not spring");
            // The upkeep commits, too, and may fall into the trap first.
            scene.proxy.set_trap(COMMIT, moment, 1);
            let answer = post(scene.port, JSON, &account(name)).await;
            if answer.0 != 202 {
                break answer;
            }
        };
        is_refused(&refused, 503, "whether anything was enqueued is not known");
    }
    scene
        .world
        .until(&format!("({}) = 2", jobs("unheard")))
        .await;
    scene.proxy.clear_traps();
    let (status, _, body) = post(scene.port, JSON, &account("postbox")).await;
    assert_eq!((status, &*body), (202, "{\"enqueued\":2}"));
    scene
        .world
        .until(&format!("({}) = 2", jobs("postbox")))
        .await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_that_is_locked_or_a_database_that_is_silent_is_waited_for_within_bounds() {
    let scene = Scene::new(&[]).await;
    let replica = scene.start().await;
    let body = asking_for(&ids(2));
    {
        let mut other = scene.world.pool.acquire().await.unwrap();
        let mut other = other.begin().await.unwrap();
        sqlx::raw_sql("LOCK TABLE feather.sync_requests IN SHARE MODE")
            .execute(&mut *other)
            .await
            .unwrap();
        // One waits for the lock, the other for its turn.
        let (one, two) = tokio::join!(post(scene.port, JSON, &body), post(scene.port, JSON, &body));
        let (locked, turned) = if one.2.contains("turned away") {
            (one, two)
        } else {
            (two, one)
        };
        is_refused(&locked, 503, "the transaction was turned away: ");
        is_refused(&locked, 503, "; nothing was enqueued");
        is_refused(
            &turned,
            503,
            "too many ask at the same time; nothing was enqueued",
        );
        other.rollback().await.unwrap();
    }
    scene.proxy.set(Traffic::Silent);
    let began = Instant::now();
    let refused = post(scene.port, JSON, &body).await;
    is_refused(&refused, 503, "; nothing was enqueued");
    assert!(began.elapsed() < Duration::from_secs(50));
    scene.proxy.set(Traffic::Pass);
    scene.is_ready().await;
    scene
        .world
        .until("SELECT NOT EXISTS (SELECT FROM feather.sync_requests)")
        .await;
    let came: i64 = scene
        .world
        .value("SELECT count(*) FROM feather.sync_status")
        .await;
    assert_eq!(came, 0);
    assert_eq!(post(scene.port, JSON, &body).await.0, 202);
    replica.stop().await;
}

//! What pages show, and what their buttons do.

use super::Browser;
use super::PAGES;
use crate::admin::listening;
use crate::world::World;
use crate::world::ids;

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_paused_and_resumed_on_its_page_and_that_is_on_record() {
    let mut world = World::new().await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let browser = Browser::at(port);
    let page = browser.get("/accounts").await;
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(page.body.contains(r#"action="/do/pause""#), "{}", page.body);
    let form = "account=default&back=%2Faccounts";
    let done = browser.post("/do/pause", form).await;
    assert_eq!(done.status, 303, "{}", done.body);
    let back = done.header("location").unwrap().to_owned();
    let page = browser.get(&back).await.body;
    assert!(page.contains("Paused default until"), "{page}");
    assert!(page.contains("by dashboard from 127.0.0.1 since"), "{page}");
    assert!(page.contains(r#"action="/do/resume""#), "{page}");
    let again = browser.get(&back).await.body;
    assert!(
        !again.contains("Paused default until"),
        "told twice: {again}"
    );
    assert_eq!(browser.post("/do/resume", form).await.status, 303);
    let actions: Vec<String> = sqlx::query_scalar(
        "SELECT action || ' ' || account || ': ' || actor FROM feather.sync_audit ORDER BY id",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    let by = "dashboard from 127.0.0.1";
    assert_eq!(
        actions,
        [
            format!("pause default: {by}"),
            format!("resume default: {by}")
        ]
    );
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_tells_what_the_queue_holds_and_what_to_do() {
    let mut world = World::new().await;
    world.sync(&ids(3)).await;
    world
        .execute(
            "INSERT INTO feather.sync_jobs (connection_id, account, state, priority, run_at, wanted_at, attempt, error_class)
             SELECT gen_random_uuid(), 'default', 'dead', 0, now(), now(), 1, 'forbidden' FROM generate_series(1, 1234)",
        )
        .await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let browser = Browser::at(port);
    world
        .until("SELECT sum(dead_finalize) = 1234 FROM feather.sync_counts")
        .await;
    let page = browser.get("/").await.body;
    for told in [
        "1234 jobs of account default are dead.",
        "<code>feather-sync retry --dead --account default</code>",
        r#"<a href="/jobs?account=default&amp;state=dead">"#,
        "1\u{202f}234",
        r#"aria-label="Attempts: 3 synced, 0 failed""#,
        env!("CARGO_PKG_VERSION"),
    ] {
        assert!(page.contains(told), "{told}: {page}");
    }
    // The dead have no history.
    world.leave_broken();
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_forbid_what_they_do_not_need_and_keep_no_secret() {
    let mut world = World::new().await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let browser = Browser::at(port);
    for path in PAGES {
        let page = browser.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        let policy = page.header("content-security-policy").unwrap();
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(rule), "{rule}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            // Under no-referrer, browsers send forms with `Origin: null`, which is somebody else's.
            ("referrer-policy", "same-origin"),
            ("content-type", "text/html; charset=utf-8"),
        ] {
            assert_eq!(page.header(name), Some(value), "{path}");
        }
        for forbidden in [
            " style=",
            " onclick",
            "<style",
            "javascript:",
            "http://",
            "https://",
            "fth_live_test",
        ] {
            assert!(
                !page.body.contains(forbidden),
                "{path} has {forbidden}: {}",
                page.body
            );
        }
    }
    let page = browser.get("/").await.body;
    let mut assets = 0;
    for asset in page.split('"').filter(|text| text.starts_with("/assets/")) {
        let answer = browser.get(asset).await;
        assert_eq!(answer.status, 200, "{asset}");
        let kept = answer.header("cache-control");
        assert_eq!(kept, Some("public, max-age=31536000, immutable"), "{asset}");
        assets += 1;
    }
    assert!(assets >= 3, "{page}");
    for missing in [
        "/assets/x.css",
        "/assets/..%2f..%2fetc%2fpasswd",
        "/nothing",
        "/accounts?account=nobody",
    ] {
        assert_eq!(browser.get(missing).await.status, 404, "{missing}");
    }
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_pages_say_so() {
    let mut world = World::new().await;
    let port = crate::ports::free_port();
    world.set("FEATHER_SYNC__ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    world.set(
        "DATABASE_URL",
        "postgresql://nobody:hush-hush@127.0.0.1:1/nothing",
    );
    let replica = world.start();
    crate::admin::until_status(port, "/healthz", 200).await;
    let browser = Browser::at(port);
    for path in PAGES {
        let page = browser.get(path).await;
        assert_eq!(page.status, 503, "{path}");
        assert!(page.body.contains("The database"), "{}", page.body);
        assert!(!page.body.contains("hush-hush"), "{}", page.body);
    }
    let done = browser.post("/do/pause", "account=default").await;
    assert_eq!(done.status, 503, "{}", done.body);
    replica.stop().await;
}

//! Names and messages come from outside. On the pages they are text, whatever they would like to be.

use crate::pages::PAGES;
use crate::scene::Scene;

const MARKUP: &str = r#"<img src=x onerror=alert(1)><script>window.hacked=1</script>"'><svg onload=window.hacked=1>{{7*7}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn hostile_strings_stay_text() {
    let scene = Scene::quiet().await;
    let text = MARKUP.replace('\'', "''");
    scene
        .world
        .execute(&format!(
            "INSERT INTO feather.sync_audit (actor, action, account, detail) VALUES ('{text}', '{text}', '{text}', '{text}');
             INSERT INTO feather.sync_audit (actor, action, detail) VALUES ('a', 'b', repeat('{text}', 50));
             INSERT INTO feather.sync_accounts (account, pause_reason, paused_until, pause_error, operator_paused_at, operator_paused_by)
             VALUES ('{text}', 'auth', now() + interval '1 hour', '{text}', now(), '{text}');
             INSERT INTO feather.sync_replicas (worker, version, accounts, seen_at)
             VALUES ('{text}', '{text}', ARRAY['{text}'], now() + interval '1 hour');
             INSERT INTO feather.sync_attempts (account, connection_id, kind, attempt, worker, started_at, finished_at, outcome, error_class, error)
             VALUES ('{text}', gen_random_uuid(), 'finalize', 1, '{text}', now(), now(), 'dead', 'protocol', '{text}');
             INSERT INTO feather.sync_throughput (account, minute, worker, synced, failed, failed_by_class)
             VALUES ('{text}', date_trunc('minute', now()), '{text}', 0, 30, jsonb_build_object('{text}', 30))"
        ))
        .await;
    let browser = scene.browser().await;
    for path in PAGES {
        browser.open(path).await;
        browser
            .until("document.querySelector('#live').dataset.state === 'live'")
            .await;
        browser.until_text("<script>window.hacked=1</script>").await;
        assert!(!browser.has_dialog().await, "{path}");
        assert!(browser.value("window.hacked").await.is_null(), "{path}");
        let planted = "document.querySelectorAll('main img, main script, main [onerror], main [onload]').length";
        assert_eq!(browser.value(planted).await, 0, "{path}");
        browser.assert_calm().await;
    }
    // It is a name like any other: it leads to its page, and its buttons act on it.
    browser.open("/").await;
    browser.click("#verdict a").await;
    browser
        .until("document.querySelectorAll('section.card').length === 1")
        .await;
    browser.click("form[action='/do/resume'] button").await;
    browser.until_text("Resumed <img src=x").await;
    assert!(browser.value("window.hacked").await.is_null());
    browser.assert_calm().await;
    scene.world.execute("DELETE FROM feather.sync_attempts; DELETE FROM feather.sync_replicas WHERE worker LIKE '<%'").await;
    scene.end().await;
}

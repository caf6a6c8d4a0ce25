//! Names and messages come from outside; on pages and in streams they are text.

use super::Browser;
use super::PAGES;
use super::live::listen;
use super::live::next;
use crate::admin::listening;
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_from_outside_is_escaped_in_text_attributes_addresses_and_pictures() {
    let mut world = World::new().await;
    let hostile = "<script>alert(1)</script>\"'' onload=x &amp; \r\ndata: x\r\n\r\nevent: page\r\ndata: javascript:alert(1)";
    world
        .execute(&format!(
            "INSERT INTO feather.sync_audit (actor, action, account, detail) VALUES ('{hostile}', '{hostile}', '{hostile}', '{hostile}');
             INSERT INTO feather.sync_accounts (account, pause_reason, paused_until, pause_error, operator_paused_at, operator_paused_by)
             VALUES ('{hostile}', 'auth', now() + interval '1 hour', '{hostile}', now(), '{hostile}');
             INSERT INTO feather.sync_replicas (worker, version, accounts, seen_at)
             VALUES ('{hostile}', '{hostile}', ARRAY['{hostile}'], now() + interval '1 hour');
             INSERT INTO feather.sync_attempts (account, connection_id, kind, attempt, worker, started_at, finished_at, outcome, error_class, error)
             VALUES ('{hostile}', gen_random_uuid(), 'finalize', 1, 'w', now(), now(), 'dead', 'protocol', '{hostile}');
             INSERT INTO feather.sync_throughput (account, minute, worker, synced, failed, failed_by_class)
             VALUES ('{hostile}', date_trunc('minute', now()), 'w', 0, 30, jsonb_build_object('{hostile}', 30))"
        ))
        .await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let browser = Browser::at(port);
    for path in PAGES {
        let page = browser.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(
            page.body
                .contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;"),
            "{path}: {}",
            page.body
        );
        for active in ["<script>", "\" onload", "\"' onload", "href=\"javascript:"] {
            assert!(
                !page.body.contains(active),
                "{path} has {active}: {}",
                page.body
            );
        }
        let (_, mut events) = listen(port, path, "").await;
        let sent = next(&mut events, "page").await;
        assert!(sent.contains("\r\ndata: x"), "{path}: {sent}");
        assert!(!sent.contains("<script>"), "{path}: {sent}");
    }
    world.leave_broken();
    replica.stop().await;
}

//! What pages show, and what their buttons do.

use super::Browser;
use crate::admin::listening;
use crate::world::World;

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
    assert!(
        page.contains("paused by dashboard from 127.0.0.1 since"),
        "{page}"
    );
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

//! Lists, filters, and what is done to jobs: to those that are ticked, and to everything that matches.

use crate::browser::Browser;
use crate::scene::Scene;

const LIVE: &str = "document.querySelector('#live').dataset.state === 'live'";
const ROWS: &str = "document.querySelectorAll('main tbody tr').length";

/// Jobs that are dead of a bad request; both accounts rest, so that whatever is done to them can be seen.
async fn with_dead_jobs() -> (Scene, Browser, i64) {
    let scene = Scene::busy().await;
    let db = scene.world.db();
    for account in ["default", "acme"] {
        db.pause(account, "test").await.unwrap();
    }
    let dead: i64 = scene
        .world
        .value("SELECT count(*) FROM feather.sync_jobs WHERE state = 'dead' AND error_class = 'invalid_request'")
        .await;
    assert!((2..50).contains(&dead), "{dead}");
    let browser = scene.browser().await;
    (scene, browser, dead)
}

async fn count(scene: &Scene, what: &str) -> i64 {
    scene
        .world
        .value(&format!(
            "SELECT count(*) FROM feather.sync_jobs WHERE {what}"
        ))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_filtered_ticked_and_retried_while_the_list_stays_live() {
    let (scene, browser, dead) = with_dead_jobs().await;
    browser.open("/jobs").await;
    browser.until(LIVE).await;
    browser.type_into("select[name=state]", "dead").await;
    browser
        .type_into("select[name=class]", "invalid_request")
        .await;
    browser.click("form.filter button").await;
    browser
        .until("location.search.includes('class=invalid_request')")
        .await;
    browser.until(&format!("{ROWS} === {dead}")).await;
    browser.until(LIVE).await;
    browser
        .click("main tbody tr:first-child input[name=id]")
        .await;
    let ticked = "document.querySelectorAll('main input:checked').length";
    assert_eq!(browser.value(ticked).await, 1);
    browser.value("window.stays = 'the same page'").await;
    scene
        .world
        .execute(
            "INSERT INTO feather.sync_jobs (connection_id, account, state, priority, run_at, wanted_at, attempt, error_class)
             VALUES ('ffffffff-0000-4000-8000-000000000000', 'default', 'dead', 0, now() - interval '1 day', now() - interval '1 day', 4, 'invalid_request')",
        )
        .await;
    browser.until(&format!("{ROWS} === {}", dead + 1)).await;
    assert_eq!(browser.value("window.stays").await, "the same page");
    assert_eq!(browser.value(ticked).await, 1);
    browser.click("#ticked-retry summary").await;
    browser.click("#ticked-retry button").await;
    browser.until_text("Made due 1 job.").await;
    browser.until(&format!("{ROWS} === {dead}")).await;
    assert_eq!(count(&scene, "state = 'pending'").await, 1);
    browser.assert_calm().await;
    scene
        .world
        .execute("DELETE FROM feather.sync_jobs WHERE connection_id = 'ffffffff-0000-4000-8000-000000000000'")
        .await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_matches_is_cancelled_after_it_was_asked_once_more() {
    let (scene, browser, dead) = with_dead_jobs().await;
    let others = count(&scene, "error_class <> 'invalid_request'").await;
    browser.open("/jobs?state=dead&class=invalid_request").await;
    browser.click("a[href*='do=cancel']").await;
    browser.until("location.pathname === '/jobs/all'").await;
    browser
        .until(&format!(
            "document.querySelector('#count').innerText === '{dead}'"
        ))
        .await;
    assert_eq!(count(&scene, "error_class = 'invalid_request'").await, dead);
    browser.click("form[action='/do/all'] button").await;
    browser
        .until("location.pathname.startsWith('/actions/')")
        .await;
    // Seen without a reload.
    browser
        .until("document.querySelector('#state').innerText === 'done'")
        .await;
    browser.until_text(&format!("{dead} of {dead}")).await;
    assert_eq!(count(&scene, "error_class = 'invalid_request'").await, 0);
    assert_eq!(count(&scene, "state = 'dead'").await, others);
    browser.open("/audit").await;
    browser
        .until_text(&format!(
            "ends after {dead} jobs: dead, class invalid_request"
        ))
        .await;
    browser.assert_calm().await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_leads_to_its_schemas_and_to_its_connection_which_is_synced_again() {
    let (scene, browser, _) = with_dead_jobs().await;
    for account in ["default", "acme"] {
        scene.world.db().resume(account, "test").await.unwrap();
    }
    browser.open("/tools").await;
    browser.until(LIVE).await;
    browser.until(&format!("{ROWS} === 50")).await;
    browser.click("a[rel=next]").await;
    browser.until("location.search.includes('after=')").await;
    browser.until(&format!("{ROWS} === 50")).await;
    browser
        .click("main tbody tr:first-child td:first-child a")
        .await;
    browser.until("location.pathname.includes('/tools/')").await;
    browser.click("#field-input_schema summary").await;
    browser
        .until("document.querySelector('#field-input_schema pre').innerText.includes('\"type\"')")
        .await;
    browser.click("main p a").await;
    browser
        .until("document.querySelectorAll('details.tool').length > 0")
        .await;
    browser.click("details.tool summary").await;
    browser
        .until("document.querySelector('details.tool pre').innerText.includes('\"type\"')")
        .await;
    let attempts = "document.querySelectorAll('tr[id^=attempt]').length";
    let before = browser.value(attempts).await.as_i64().unwrap();
    browser.click(".buttons > form button").await;
    browser
        .until_text("Asked for a new sync of 1 connection.")
        .await;
    browser.until(&format!("{attempts} > {before}")).await;
    browser.assert_calm().await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_stay_text_in_lists_and_on_the_pages_of_their_connection() {
    let (scene, browser, _) = with_dead_jobs().await;
    let markup = r#"<img src=x onerror=alert(1)><script>window.hacked=1</script>"''><svg onload=window.hacked=1>"#;
    let id = scene.ids[100];
    scene
        .world
        .execute(&format!(
            "UPDATE feather.integration_connections SET nickname = '{markup}', metadata = jsonb_build_object('{markup}', '{markup}');
             UPDATE feather.integration_connection_tools SET display_name = '{markup}', description = '{markup}',
                 stale_field_paths = ARRAY['{markup}'], input_schema = jsonb_build_object('{markup}', '{markup}');
             UPDATE feather.sync_results SET last_error = '{markup}' WHERE last_error IS NOT NULL;
             UPDATE feather.sync_attempts SET error = '{markup}' WHERE error IS NOT NULL;
             INSERT INTO feather.sync_actions (action, filter, requested_by, error, outcome, finished_at)
             VALUES ('sync', jsonb_build_object('{markup}', 1), '{markup}', '{markup}', 'failed', now())"
        ))
        .await;
    let tool: uuid::Uuid = scene
        .world
        .value("SELECT id FROM feather.tools ORDER BY id LIMIT 1")
        .await;
    let owner: uuid::Uuid = scene
        .world
        .value("SELECT connection_id FROM feather.tools ORDER BY id LIMIT 1")
        .await;
    for path in [
        "/jobs?state=dead".to_owned(),
        "/actions".to_owned(),
        "/tools".to_owned(),
        "/tools?kind=stale".to_owned(),
        format!("/connections/{id}"),
        format!("/connections/{owner}/tools/{tool}"),
    ] {
        browser.open(&path).await;
        browser.until(LIVE).await;
        browser
            .until("document.body.textContent.includes('<script>window.hacked=1</script>')")
            .await;
        assert!(!browser.has_dialog().await, "{path}");
        assert!(browser.value("window.hacked").await.is_null(), "{path}");
        let planted = "document.querySelectorAll('main img, main script, main [onerror], main [onload]').length";
        assert_eq!(browser.value(planted).await, 0, "{path}");
        browser.assert_calm().await;
    }
    scene
        .world
        .execute("UPDATE feather.sync_results SET last_error = 'x' WHERE last_error IS NOT NULL; UPDATE feather.sync_attempts SET error = 'x' WHERE error IS NOT NULL")
        .await;
    scene.end().await;
}

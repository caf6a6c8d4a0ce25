//! What pages show, what becomes of them while they are open, and what their buttons do.

use crate::scene::Scene;
use crate::world::World;
use crate::world::ids;

/// Pages that need nothing in their address.
pub(crate) const PAGES: [&str; 3] = ["/", "/accounts", "/audit"];

/// What the browser shows in a cell of the overview's queue.
fn cell(class: &str) -> String {
    format!("document.querySelector('#queue-default .{class}').innerText")
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_show_what_the_daemon_has_done() {
    let scene = Scene::busy().await;
    let browser = scene.browser().await;
    for path in PAGES {
        browser.open(path).await;
        browser
            .until("document.querySelector('#live').dataset.state === 'live'")
            .await;
        browser.assert_calm().await;
    }
    browser.open("/").await;
    // Counts are refreshed every so often.
    browser
        .until(&format!("parseInt({}) > 200", cell("synced")))
        .await;
    browser
        .until("document.querySelector('#verdict').innerText.includes('dead')")
        .await;
    browser
        .until("document.querySelectorAll('figure.chart svg path.bar.good').length > 0")
        .await;
    browser
        .until("document.querySelectorAll('figure.chart svg path.line[d^=M]').length > 0")
        .await;
    browser.open("/accounts?account=acme").await;
    browser.until_text("serves it").await;
    browser.until_text("forbidden").await;
    browser
        .until("document.querySelectorAll('figure.chart').length === 6")
        .await;
    browser.assert_calm().await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_enqueued_while_the_page_is_open_appears_on_it() {
    let scene = Scene::quiet().await;
    let browser = scene.browser().await;
    browser.open("/").await;
    browser.until(&format!("{} === '0'", cell("synced"))).await;
    browser.value("window.stays = 'the same page'").await;
    scene.world.enqueue(&ids(7)).await;
    browser.until(&format!("{} === '7'", cell("synced"))).await;
    assert_eq!(browser.value("window.stays").await, "the same page");
    browser.assert_calm().await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_leaves_alone_what_the_reader_has_opened_and_focused() {
    let scene = Scene::quiet().await;
    let browser = scene.browser().await;
    browser.open("/accounts").await;
    browser
        .until("document.querySelector('#live').dataset.state === 'live'")
        .await;
    browser.click("#pause-default summary").await;
    browser
        .value("document.querySelector('#pause-default button').focus()")
        .await;
    scene
        .world
        .execute("INSERT INTO feather.sync_accounts (account) VALUES ('zeta')")
        .await;
    browser.until_text("zeta").await;
    assert_eq!(
        browser
            .value("document.querySelector('#pause-default').open")
            .await,
        true
    );
    let focused = browser.value("document.activeElement.innerText").await;
    assert_eq!(focused, "Pause it");
    browser.assert_calm().await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_paused_and_resumed_by_mouse_and_by_keyboard() {
    let scene = Scene::quiet().await;
    let browser = scene.browser().await;
    browser.open("/accounts").await;
    browser.click("#pause-default summary").await;
    browser.click("#pause-default button").await;
    browser
        .until_text("Paused default until somebody resumes it.")
        .await;
    browser.until("!location.search.includes('said')").await;
    assert_eq!(
        scene
            .world
            .value::<String>(
                "SELECT operator_paused_by FROM feather.sync_accounts WHERE account = 'default'"
            )
            .await,
        "dashboard from 127.0.0.1"
    );
    browser
        .value("document.querySelector('form[action=\"/do/resume\"] button').focus()")
        .await;
    // Enter.
    browser.press("\u{e007}").await;
    browser.until_text("Resumed default.").await;
    browser.open("/audit").await;
    browser
        .until("document.querySelectorAll('main tbody tr').length === 2")
        .await;
    browser.assert_calm().await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_knows_the_token_logs_in_and_out() {
    let mut world = World::new().await;
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "open-sesame\n").unwrap();
    world.set(
        "FEATHER_SYNC__ADMIN__TOKEN_FILE",
        token.path().to_str().unwrap(),
    );
    let scene = Scene::with(world).await;
    let browser = scene.browser().await;
    browser.open("/accounts").await;
    browser.until_text("Your name, for the record").await;
    browser.type_into("#name", "alice").await;
    browser.type_into("#token", "open-sesame").await;
    browser.click("form.login button").await;
    browser.until("location.pathname === '/accounts'").await;
    browser
        .until("document.querySelector('#live').dataset.state === 'live'")
        .await;
    browser.assert_calm().await;
    assert_eq!(browser.value("document.cookie").await, "");
    browser.click("#pause-default summary").await;
    browser.click("#pause-default button").await;
    browser
        .until_text("by alice (dashboard) from 127.0.0.1")
        .await;
    browser.click("form[action='/do/logout'] button").await;
    browser.until("location.pathname === '/login'").await;
    browser.open("/accounts").await;
    browser.until("location.pathname === '/login'").await;
    browser.assert_calm().await;
    scene.end().await;
}

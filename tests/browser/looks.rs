//! Light and dark, wide and narrow, with and without scripts.

use crate::pages::PAGES;
use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_dark_where_the_system_is_and_fit_a_phone() {
    let scene = Scene::busy().await;
    let browser = scene.browser().await;
    let brightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number).reduce((a, b) => a + b)";
    for path in PAGES {
        browser.open(path).await;
        browser.prefer("light").await;
        browser.until(&format!("{brightness} > 600")).await;
        browser.prefer("dark").await;
        browser.until(&format!("{brightness} < 150")).await;
        browser.resize(360, 740, true).await;
        // Tables scroll inside themselves; the page does not.
        browser
            .until("document.documentElement.scrollWidth <= 360")
            .await;
        browser.resize(1280, 900, false).await;
        browser.assert_calm().await;
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_scripts_pages_can_be_read_and_buttons_work() {
    let scene = Scene::quiet().await;
    let browser = scene.browser().await;
    let off = serde_json::json!({"value": true});
    browser
        .devtools("Emulation.setScriptExecutionDisabled", off)
        .await;
    browser.open("/accounts").await;
    assert!(browser.text().await.contains("Calls in the last minute"));
    browser.click("#pause-default summary").await;
    browser.click("#pause-default button").await;
    browser
        .until_text("Paused default until somebody resumes it.")
        .await;
    browser.assert_calm().await;
    scene.end().await;
}

/// The other tests rely on what they would see, if it happened.
#[tokio::test(flavor = "multi_thread")]
async fn scripts_of_the_page_itself_and_requests_to_elsewhere_are_seen_and_forbidden() {
    let scene = Scene::quiet().await;
    let browser = scene.browser().await;
    browser.open("/audit").await;
    browser.assert_calm().await;
    browser
        .value("document.getElementById('main').insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked=1\">')")
        .await;
    browser
        .until("[...document.images].every((image) => image.complete)")
        .await;
    assert!(browser.value("window.hacked").await.is_null());
    let complaints = browser.complaints().await.join("\n");
    assert!(
        complaints.contains("Content Security Policy"),
        "{complaints}"
    );
    let address = "'http://' + 'elsewhere.example/'";
    browser
        .value(&format!("fetch({address}).catch(() => 0), 0"))
        .await;
    browser
        .value(&format!("location.assign({address}), 0"))
        .await;
    browser.until("location.protocol === 'chrome-error:'").await;
    let complaints = browser.complaints().await.join("\n");
    assert!(
        complaints.contains("http://elsewhere.example/"),
        "{complaints}"
    );
    scene.end().await;
}

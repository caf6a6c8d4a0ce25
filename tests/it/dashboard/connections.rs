//! The pages of a connection, of a tool, and the search over all tools, over HTTP.

use super::Browser;
use crate::admin::listening;
use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Fault;
use feather_sync::sim::Scenario;
use uuid::Uuid;

const HOSTILE: &str = r#"<script>alert(1)</script><img src=x onerror=alert(2)>"'&\u{202e}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_shows_everything_known_about_it() {
    let mut world = World::with(Scenario::from_toml("tools = 3\n").unwrap()).await;
    let ids = ids(3);
    world
        .sim
        .script(ids[1], [Fault::status(503), Fault::NotFound]);
    world.sync(&ids).await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let browser = Browser::at(port);
    let id = ids[0];
    let page = browser.get(&format!("/connections/{id}")).await;
    assert_eq!(page.status, 200);
    let (nickname, slug): (String, String) = world
        .row(&format!(
            "SELECT connection_nickname, slug FROM feather.tools WHERE connection_id = '{id}' ORDER BY slug LIMIT 1"
        ))
        .await;
    for words in [
        nickname.as_str(),
        slug.as_str(),
        "synced",
        "id=\"field-vendor\"",
        "id=\"field-_extra\"",
        "id=\"field-_warnings\"",
        "\"type\"".replace('"', "&quot;").as_str(),
        "id=\"attempt-",
        "Sync again",
    ] {
        assert!(page.body.contains(words), "{words}: {}", page.body);
    }
    assert_eq!(page.body.matches("<details class=\"tool\"").count(), 3);
    let found = browser
        .get(&format!("/connections/{id}?q={}", slug.to_uppercase()))
        .await
        .body;
    assert!(found.contains(&format!("<code>{slug}</code>")), "{found}");
    let none = browser
        .get(&format!("/connections/{id}?q=nothing+of+this"))
        .await
        .body;
    assert_eq!(none.matches("<details class=\"tool\"").count(), 0);

    let dead = browser.get(&format!("/connections/{}", ids[1])).await.body;
    for words in [
        ">dead<",
        "not_found",
        "upstream",
        "never received",
        "do-cancel",
    ] {
        assert!(dead.contains(words), "{words}: {dead}");
    }

    let unknown = Uuid::from_u128(1);
    for path in [
        format!("/connections/{unknown}"),
        "/connections/x".to_owned(),
        format!("/connections/{id}/tools/{unknown}"),
        format!("/connections/{id}/tools/x"),
        format!("/connections/{unknown}/tools/{unknown}"),
    ] {
        let answer = browser.get(&path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.body.contains("is known here"), "{path}");
    }
    let asked = browser.get(&format!("/connections?id=+{id}+")).await;
    assert_eq!(
        asked.header("location"),
        Some(format!("/connections/{id}").as_str())
    );
    assert!(
        browser
            .get("/connections?id=x")
            .await
            .body
            .contains("no id")
    );
    assert_eq!(browser.get("/connections").await.status, 200);
    let answer = browser.get(&format!("/connections/{id}?after=x")).await;
    assert_eq!(answer.status, 400);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_synced_again_from_its_page() {
    let mut world = World::with(Scenario::from_toml("tools = 1\n").unwrap()).await;
    let id = ids(1)[0];
    world.sync(&[id]).await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let browser = Browser::at(port);
    let form = format!("do=sync&id={id}&back=%2Fconnections%2F{id}");
    let done = browser.post("/do/jobs", &form).await;
    let page = browser.get(done.header("location").unwrap()).await.body;
    assert!(
        page.contains("Asked for a new sync of 1 connection."),
        "{page}"
    );
    world
        .until("SELECT count(*) = 2 FROM feather.sync_attempts WHERE outcome = 'synced' AND kind = 'finalize'")
        .await;
    let unknown = format!("do=sync&id={}", Uuid::from_u128(1));
    let done = browser.post("/do/jobs", &unknown).await;
    let page = browser.get(done.header("location").unwrap()).await.body;
    assert!(
        page.contains("0 connections; 1 had changed meanwhile or are not known"),
        "{page}"
    );
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_upstream_sends_stays_text_and_of_a_bounded_length() {
    let mut world = World::with(Scenario::from_toml("tools = 2\n").unwrap()).await;
    world.leave_broken();
    let id = ids(1)[0];
    world.sync(&[id]).await;
    let hostile = HOSTILE.replace('\'', "''");
    world
        .execute(&format!(
            "UPDATE feather.integration_connections SET nickname = '{hostile}', vendor = '{hostile}', status_reason = repeat('{hostile}', 5000),
                 metadata = jsonb_build_object('{hostile}', '{hostile}'), _extra = jsonb_build_object('x', '{hostile}');
             UPDATE feather.integration_connection_tools SET slug = nickname_slug || '_{hostile}', display_name = '{hostile}',
                 description = repeat('{hostile}', 5000), integration_key = '{hostile}', stale_field_paths = ARRAY['{hostile}'],
                 input_schema = jsonb_build_object('{hostile}', repeat('{hostile}', 20000));
             UPDATE feather.sync_attempts SET error = '{hostile}', upstream_request_id = '{hostile}';
             UPDATE feather.sync_results SET last_error_class = 'upstream', last_error = '{hostile}';
             INSERT INTO feather.sync_jobs (connection_id, account, state, priority, run_at, wanted_at, attempt, error_class)
             VALUES ('{id}', '{hostile}', 'dead', 0, now(), now(), 20, '{hostile}')"
        ))
        .await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let browser = Browser::at(port);
    let tool: Uuid = world
        .value("SELECT id FROM feather.integration_connection_tools ORDER BY id LIMIT 1")
        .await;
    for path in [
        "/jobs".to_owned(),
        "/jobs?state=dead".to_owned(),
        "/jobs?account=%3Cscript%3Ealert(1)%3C%2Fscript%3E".to_owned(),
        "/jobs/all?do=retry&account=%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E".to_owned(),
        "/tools".to_owned(),
        "/tools?kind=stale".to_owned(),
        "/tools?slug=%22%3E%3Cscript%3Ealert(1)&kind=changed".to_owned(),
        "/tools?kind=%3Cscript%3Ealert(1)%3C%2Fscript%3E".to_owned(),
        format!("/connections/{id}"),
        format!("/connections/{id}?q=%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E"),
        "/connections?id=%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E".to_owned(),
        format!("/connections/{id}/tools/{tool}"),
        format!("/connections/%3Cscript%3Ealert(1)%3C%2Fscript%3E/tools/{tool}"),
        "/actions/%3Cscript%3Ealert(1)%3C%2Fscript%3E".to_owned(),
    ] {
        let page = browser.get(&path).await.body;
        assert!(page.contains("alert(1)"), "{path}: {page}");
        assert!(
            !page.contains("<script>alert") && !page.contains("<img src=x"),
            "{path}: {page}"
        );
        assert!(page.len() < 700_000, "{path}: {}", page.len());
    }
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_are_searched_by_what_the_address_asks_for_and_lead_to_their_page() {
    let mut world = World::with(Scenario::from_toml("tools = 8\n").unwrap()).await;
    world.sync(&ids(20)).await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let browser = Browser::at(port);
    let (mut path, mut seen) = ("/tools".to_owned(), 0);
    loop {
        let page = browser.get(&path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        seen += page.body.matches("<tr id=\"tool-").count();
        let Some((_, next)) = page.body.split_once("rel=\"next\" href=\"") else {
            break;
        };
        path = next.split('"').next().unwrap().replace("&amp;", "&");
    }
    assert_eq!(seen, 160);
    let (connection, tool, slug): (Uuid, Uuid, String) = world
        .row("SELECT connection_id, id, slug FROM feather.tools ORDER BY id LIMIT 1")
        .await;
    let found = browser
        .get(&format!("/tools?slug={slug}&name=&integration=&kind="))
        .await
        .body;
    let link = format!("/connections/{connection}/tools/{tool}");
    assert!(found.contains(&link), "{found}");
    let page = browser.get(&link).await;
    assert_eq!(page.status, 200);
    for words in [
        slug.as_str(),
        "id=\"field-input_schema\"",
        "id=\"field-merged_input_preview\"",
    ] {
        assert!(page.body.contains(words), "{words}: {}", page.body);
    }
    let none = browser.get("/tools?kind=removed").await.body;
    assert!(none.contains("No tool matches"), "{none}");
    assert_eq!(browser.get("/tools?kind=x").await.status, 400);
    assert_eq!(browser.get("/tools?after=x").await.status, 400);
    replica.stop().await;
}

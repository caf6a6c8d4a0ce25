//! The pages of jobs and of actions on all of them, over HTTP.

use super::Browser;
use crate::admin::listening;
use crate::world::Replica;
use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Fault;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use uuid::Uuid;

/// Twelve dead jobs, four of them of another class, in an account that is paused from then on.
async fn with_dead_jobs() -> (World, Replica, Browser, Vec<Uuid>) {
    let mut world = World::new().await;
    let ids = ids(12);
    for (nth, id) in ids.iter().enumerate() {
        let fault = match nth % 3 {
            0 => Fault::status(400),
            _ => Fault::NotFound,
        };
        world.sim.script(*id, [fault]);
    }
    world.sync(&ids).await;
    world.db().pause("default", "test").await.unwrap();
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    (world, replica, Browser::at(port), ids)
}

async fn state(world: &World, id: Uuid) -> String {
    world
        .value(&format!(
            "SELECT COALESCE((SELECT state FROM feather.sync_jobs WHERE connection_id = '{id}'), 'gone')"
        ))
        .await
}

async fn requests(world: &World) -> i64 {
    world
        .value(
            "SELECT count(*) FROM feather.sync_requests WHERE requested_by LIKE 'dashboard from %'",
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_listed_by_what_the_address_asks_for() {
    let (world, replica, browser, ids) = with_dead_jobs().await;
    let page = browser.get("/jobs").await;
    assert_eq!(page.status, 200, "{}", page.body);
    for id in &ids {
        assert!(page.body.contains(&format!("id=\"job-{id}\"")), "{id}");
    }
    let bad = browser
        .get("/jobs?state=dead&class=invalid_request&account=default&for=&id=")
        .await;
    for (nth, id) in ids.iter().enumerate() {
        let listed = bad.body.contains(&format!("id=\"job-{id}\""));
        assert_eq!(listed, nth % 3 == 0, "{id}");
    }
    assert!(
        bad.body.contains(r#"<option value="dead" selected>"#),
        "{}",
        bad.body
    );
    let one = browser.get(&format!("/jobs?id={}", ids[4])).await.body;
    assert_eq!(one.matches("id=\"job-").count(), 1);
    let none = browser.get("/jobs?state=dead&for=1h").await.body;
    assert!(none.contains("No job matches"), "{none}");
    for (path, words) in [
        ("/jobs?state=asleep", "no state asleep"),
        ("/jobs?class=x", "no error class x"),
        ("/jobs?id=xyz", "xyz is not"),
        ("/jobs?for=soon", "soon is no time"),
        ("/jobs?for=5M", "5M is no time"),
        (
            "/jobs?for=18446744073709551615s%201000ms",
            "1000ms is no time",
        ),
        ("/jobs?after=1_2", "not whole"),
        ("/jobs/all?do=explode", "no action explode"),
        ("/jobs/all", "no action"),
        ("/actions?before=x", "not whole"),
        ("/jobs?account=%00", "the character NUL"),
        ("/jobs/all?do=cancel&account=%00", "the character NUL"),
        ("/tools?name=%00", "the character NUL"),
        ("/tools?slug=a%00b", "the character NUL"),
        ("/tools?integration=%00", "the character NUL"),
        (
            "/tools?after=%7B%22text%22:%22%5Cu0000%22,%22connection%22:%2200000000-0000-0000-0000-000000000000%22,\
             %22id%22:%2200000000-0000-0000-0000-000000000000%22%7D&slug=a",
            "the database does not take",
        ),
    ] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.body.contains(words), "{path}: {}", answer.body);
    }
    assert_eq!(browser.get("/actions/1").await.status, 404);
    assert_eq!(browser.get("/actions/x").await.status, 404);
    drop(world);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_jobs_follow_each_other() {
    let mut world = World::new().await;
    world.leave_broken();
    world
        .execute(
            "INSERT INTO feather.sync_jobs (connection_id, account, state, priority, run_at, wanted_at, attempt, error_class)
             SELECT gen_random_uuid(), 'a&b', 'dead', 0, now() - n * interval '1 second', now(), 20, 'upstream'
             FROM generate_series(1, 120) AS n",
        )
        .await;
    let (replica, port) = listening(&mut world, "127.0.0.1").await;
    let browser = Browser::at(port);
    let (mut path, mut seen) = ("/jobs?account=a%26b&state=dead".to_owned(), Vec::new());
    loop {
        let page = browser.get(&path).await.body;
        let rows = page.split("<tr id=\"job-").skip(1);
        seen.extend(rows.map(|row| row[..36].to_owned()));
        let Some((_, next)) = page.split_once("rel=\"next\" href=\"") else {
            break;
        };
        path = next.split('"').next().unwrap().replace("&amp;", "&");
    }
    assert_eq!(seen.len(), 120);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 120);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ticked_jobs_are_retried_cancelled_or_synced_again_on_record() {
    let (world, replica, browser, ids) = with_dead_jobs().await;
    let form = |action: &str, ids: &[Uuid]| {
        let ids: Vec<_> = ids.iter().map(|id| format!("&id={id}")).collect();
        format!("do={action}&back=%2Fjobs%3Fstate%3Ddead{}", ids.concat())
    };
    let done = browser.post("/do/jobs", &form("retry", &ids[..2])).await;
    assert_eq!(done.status, 303, "{}", done.body);
    let back = done.header("location").unwrap();
    assert!(back.starts_with("/jobs?state=dead&said="), "{back}");
    let page = browser.get(back).await.body;
    assert!(page.contains("Made due 2 jobs."), "{page}");
    let done = browser.post("/do/jobs", &form("cancel", &ids[2..4])).await;
    let page = browser.get(done.header("location").unwrap()).await.body;
    assert!(page.contains("Cancelled 2 jobs."), "{page}");
    let again = browser.post("/do/jobs", &form("cancel", &ids[2..5])).await;
    let page = browser.get(again.header("location").unwrap()).await.body;
    assert!(page.contains("Cancelled 1 job; 2 had changed"), "{page}");
    for (nth, expected) in [
        (0, "pending"),
        (1, "pending"),
        (2, "gone"),
        (3, "gone"),
        (4, "gone"),
        (5, "dead"),
    ] {
        assert_eq!(state(&world, ids[nth]).await, expected, "{nth}");
    }
    browser.post("/do/jobs", &form("sync", &ids[6..9])).await;
    world
        .until(&format!(
            "SELECT state = 'pending' FROM feather.sync_jobs WHERE connection_id = '{}'",
            ids[8]
        ))
        .await;
    let record: Vec<(String, i64)> = world
        .rows("SELECT action, count(DISTINCT connection_id) FROM feather.sync_audit WHERE actor = 'dashboard from 127.0.0.1'
               GROUP BY action ORDER BY action")
        .await;
    let expected = [("cancel", 3), ("retry", 2), ("sync", 3)];
    assert_eq!(
        record,
        expected.map(|(action, count)| (action.to_owned(), count))
    );
    for (form, words) in [
        (form("retry", &[]), "No job is ticked"),
        (form("explode", &ids[..1]), "no action explode"),
        ("do=retry&id=x".to_owned(), "no id"),
    ] {
        let answer = browser.post("/do/jobs", &form).await;
        assert_eq!(answer.status, 400, "{form}");
        assert!(answer.body.contains(words), "{form}: {}", answer.body);
    }
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_matches_is_acted_on_after_the_count_was_shown() {
    let (world, replica, browser, ids) = with_dead_jobs().await;
    let asked = browser
        .get("/jobs/all?do=retry&class=not_found&account=default")
        .await
        .body;
    assert!(asked.contains("<b id=\"count\">8</b>"), "{asked}");
    assert!(
        asked.contains("dead, class not_found, account default"),
        "{asked}"
    );
    assert!(asked.contains(r#"name="expected" value="8""#), "{asked}");
    let done = browser
        .post(
            "/do/all",
            "do=retry&class=not_found&account=default&expected=8&back=%2Fjobs",
        )
        .await;
    assert_eq!(done.status, 303, "{}", done.body);
    let path = done.header("location").unwrap();
    assert!(path.starts_with("/actions/"), "{path}");
    world
        .until("SELECT outcome = 'done' AND done = 8 FROM feather.sync_actions")
        .await;
    let page = browser.get(path).await.body;
    assert!(page.contains("8 of 8") && page.contains(">done<"), "{page}");
    assert!(page.contains("dashboard from 127.0.0.1"), "{page}");
    assert!(!page.contains("/do/stop"), "{page}");
    let list = browser.get("/actions").await.body;
    assert!(list.contains(&format!("href=\"{path}\"")), "{list}");
    for (nth, id) in ids.iter().enumerate() {
        let expected = if nth % 3 == 0 { "dead" } else { "pending" };
        assert_eq!(state(&world, *id).await, expected, "{nth}");
    }
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_begins_for_all_jobs_by_a_form_that_says_something_else() {
    let (world, replica, browser, _) = with_dead_jobs().await;
    for (form, words) in [
        ("do=cancel", "everything=yes"),
        ("do=cancel&account=&expected=12", "everything=yes"),
        ("do=cancel&everything=no", "everything=yes"),
        ("do=cancel&everything=yes&expected=-1", "no number of jobs"),
        (
            "do=cancel&everything=yes&expected=twelve",
            "no number of jobs",
        ),
        (
            "do=sync&account=default&expected=99999999999999999999",
            "no number of jobs",
        ),
        (
            "do=sync&account=default&expected=9223372036854775808",
            "no number of jobs",
        ),
        ("do=cancel&account=%00&expected=1", "the character NUL"),
    ] {
        let answer = browser.post("/do/all", form).await;
        assert_eq!(answer.status, 400, "{form}: {}", answer.body);
        assert!(answer.body.contains(words), "{form}: {}", answer.body);
    }
    let count = "SELECT count(*) FROM feather.sync_actions";
    assert_eq!(world.value::<i64>(count).await, 0);
    let said = r#"name="everything" value="yes""#;
    let page = browser.get("/jobs/all?do=cancel&account=default").await;
    assert!(!page.body.contains(said), "{}", page.body);
    let page = browser.get("/jobs/all?do=cancel").await;
    assert!(page.body.contains(said), "{}", page.body);
    let form = "do=cancel&expected=12&everything=yes";
    let begun = browser.post("/do/all", form).await;
    assert_eq!(begun.status, 303, "{}", begun.body);
    world
        .until("SELECT count(*) = 0 FROM feather.sync_jobs")
        .await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_under_way_is_shown_and_can_be_stopped_from_its_page() {
    let (world, replica, browser, _) = with_dead_jobs().await;
    // Its turn is held elsewhere, so nothing of it is done here.
    let filter = feather_sync::store::JobFilter {
        state: Some(feather_sync::store::JobState::Pending),
        ..feather_sync::store::JobFilter::default()
    };
    world
        .execute(
            "INSERT INTO feather.sync_actions (action, filter, requested_by, expected, worker, lease_token, lease_until)
             VALUES ('cancel', '{\"state\": \"pending\"}', '<b>alice</b>', 5000, 'elsewhere', gen_random_uuid(), now() + interval '14 seconds')",
        )
        .await;
    let goes_on = async |time: &str| {
        world
            .execute(&format!(
                "UPDATE feather.sync_actions SET lease_until = now() + interval '{time}'"
            ))
            .await;
    };
    let id: i64 = world.value("SELECT id FROM feather.sync_actions").await;
    goes_on("14 seconds").await;
    let page = browser.get(&format!("/actions/{id}")).await.body;
    for words in [
        "under way, by",
        "elsewhere",
        "0 of 5\u{202f}000",
        "/do/stop",
        "&lt;b&gt;alice",
        filter.to_string().as_str(),
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    goes_on("14 seconds").await;
    let jobs = browser.get("/jobs").await.body;
    assert!(jobs.contains("is under way: 0 of"), "{jobs}");
    goes_on("14 seconds").await;
    let done = browser
        .post("/do/stop", &format!("id={id}&back=%2Factions%2F{id}"))
        .await;
    let page = browser.get(done.header("location").unwrap()).await.body;
    assert!(
        page.contains("It is being stopped") && page.contains("Stopped by"),
        "{page}"
    );
    goes_on("0").await;
    world
        .until("SELECT outcome = 'stopped' FROM feather.sync_actions")
        .await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_done_by_a_get_nor_for_another_sites_page() {
    let (world, replica, browser, ids) = with_dead_jobs().await;
    let before: Vec<(Uuid, String)> = world
        .rows("SELECT connection_id, state FROM feather.sync_jobs ORDER BY connection_id")
        .await;
    let id = ids[0];
    for path in [
        format!("/do/jobs?do=cancel&id={id}"),
        "/do/all?do=cancel".to_owned(),
        "/do/stop?id=1".to_owned(),
    ] {
        assert_eq!(browser.get(&path).await.status, 405, "{path}");
    }
    // Looking at what would be done does nothing.
    assert_eq!(browser.get("/jobs/all?do=cancel").await.status, 200);
    let port = browser.port;
    for origin in [
        "http://evil.example",
        "null",
        &format!("http://localhost:{}", port + 1),
    ] {
        for (path, form) in [
            ("/do/jobs", format!("do=cancel&id={id}")),
            ("/do/all", "do=cancel".to_owned()),
            ("/do/stop", "id=1".to_owned()),
        ] {
            let headers = format!(
                "Origin: {origin}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
                form.len()
            );
            let answer = browser.send(&format!("POST {path}"), &headers, &form).await;
            assert_eq!(answer.status, 403, "{path} from {origin}");
        }
    }
    let after: Vec<(Uuid, String)> = world
        .rows("SELECT connection_id, state FROM feather.sync_jobs ORDER BY connection_id")
        .await;
    assert_eq!(before, after);
    assert_eq!(requests(&world).await, 0);
    assert_eq!(
        world
            .value::<i64>("SELECT count(*) FROM feather.sync_actions")
            .await,
        0
    );
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_waits_holds_up_what_is_done_and_nothing_else() {
    let (world, replica, browser, ids) = with_dead_jobs().await;
    let mut inbox = world.pool.begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock(7305801, 2)")
        .execute(&mut *inbox)
        .await
        .unwrap();
    let cancel = |id: Uuid| format!("do=cancel&id={id}");
    // Nothing to take out: there is nothing to wait for.
    let unknown = browser.post("/do/jobs", &cancel(Uuid::new_v4())).await;
    assert_eq!(unknown.status, 303, "{}", unknown.body);
    let form = cancel(ids[0]);
    let waits = browser.post("/do/jobs", &form);
    let others = async {
        world
            .until("SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 2 AND NOT granted
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
            .await;
        let mut others: FuturesUnordered<_> = ids[1..9]
            .iter()
            .map(async |id| (*id, browser.post("/do/jobs", &cancel(*id)).await))
            .collect();
        let (page, first) = tokio::join!(browser.get("/jobs"), others.next());
        assert_eq!(page.status, 200);
        // Before the patience of the one that waits is over, too.
        inbox.rollback().await.unwrap();
        let (id, refused) = first.unwrap();
        assert_eq!(refused.status, 503);
        assert!(refused.body.contains("busy"), "{}", refused.body);
        assert_eq!(state(&world, id).await, "dead");
        // Those that were slower have their turn now.
        while let Some((id, other)) = others.next().await {
            let expected = if other.status == 503 { "dead" } else { "gone" };
            assert_eq!(state(&world, id).await, expected, "{}", other.body);
        }
    };
    let (done, ()) = tokio::join!(waits, others);
    assert_eq!(done.status, 303, "{}", done.body);
    assert_eq!(state(&world, ids[0]).await, "gone");
    replica.stop().await;
}

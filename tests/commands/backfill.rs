//! `backfill`, by what it prints and leaves, against a simulator in a process of its own.

use std::process::Child;
use std::process::Command;

use crate::database::Database;
use crate::program::Outcome;
use crate::program::program;
use crate::program::run;
use crate::program::start;
use crate::sim::sim;

/// A simulator that ends with the test.
struct Api {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Api {
    fn new(scenario: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("scenario.toml");
        std::fs::write(&file, scenario).unwrap();
        let (child, address) = sim(&["--scenario", file.to_str().unwrap()]);
        Self {
            child,
            address,
            _folder: folder,
        }
    }

    fn program(&self, db: &Database, arguments: &[&str]) -> Command {
        let mut command = program(arguments);
        command
            .env("DATABASE_URL", db.url())
            .env("FEATHER_BASE_URL", format!("http://{}", self.address))
            .env("FEATHER_API_KEY", "fth_live_backfill_0123456789");
        command
    }

    fn backfill(&self, db: &Database, arguments: &[&str]) -> Outcome {
        run(&mut self.program(db, &[&["backfill"], arguments].concat()))
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const MIXED: &str = "connections = 30\ntools = 2\nauthorized = 0.2\npending = 0.2";

#[test]
fn what_is_listed_is_stored_enqueued_and_said_and_the_command_is_on_record() {
    let (db, api) = (Database::migrated(), Api::new(MIXED));
    let out = api.backfill(&db, &[]).done();
    assert!(
        out.starts_with("30 connections listed: 30 new, 0 revived, 0 changed, 0 unchanged\n"),
        "{out}"
    );
    let waiting = db.value("SELECT count(*) FROM feather.sync_requests WHERE priority = 1000");
    assert!(
        waiting != "0" && out.contains(&format!("next: {waiting} to be finalized, 0 to")),
        "{out}"
    );
    assert_eq!(db.value("SELECT count(*) FROM feather.connections"), "30");
    let audit = "SELECT action, account, actor LIKE '_%@_%' FROM feather.sync_audit";
    assert_eq!(db.rows(audit), [["backfill", "default", "t"]]);

    let out = api.backfill(&db, &["--only-missing"]).done();
    assert!(out.contains("left alone: 30, not missing"), "{out}");
    assert_eq!(db.rows(audit).len(), 2);
}

#[test]
fn a_dry_run_names_what_would_change_and_leaves_no_trace() {
    let (db, api) = (Database::migrated(), Api::new(MIXED));
    let out = api.backfill(&db, &["--dry-run"]).done();
    assert_eq!(out.matches("\nnew ").count() + 1, 30, "{out}");
    assert!(out.contains("  to be finalized\n"), "{out}");
    assert!(out.contains("nothing was changed"), "{out}");
    for table in [
        "connections",
        "sync_requests",
        "sync_jobs",
        "sync_audit",
        "sync_attempts",
    ] {
        assert_eq!(
            db.value(&format!("SELECT count(*) FROM feather.{table}")),
            "0",
            "{table}"
        );
    }
}

#[test]
fn programs_get_one_object_of_json() {
    let (db, api) = (Database::migrated(), Api::new(MIXED));
    let report = |arguments: &[&str]| -> serde_json::Value {
        let out = api.backfill(&db, arguments).done();
        assert_eq!(out.lines().count(), 1, "{out}");
        serde_json::from_str(&out).unwrap()
    };
    let rehearsed = report(&["--json", "--dry-run"]);
    assert_eq!(rehearsed["changes"].as_array().unwrap().len(), 30);
    assert_eq!(rehearsed["changes"][0]["change"], "new");
    let done = report(&["--json"]);
    assert_eq!(done["complete"], true);
    assert_eq!(done["error"], serde_json::Value::Null);
    for key in [
        "account",
        "listed",
        "new",
        "finalize",
        "follow",
        "tools_added",
    ] {
        assert_eq!(done[key], rehearsed[key], "{key}");
    }
    assert!(done.get("changes").is_none());
}

#[test]
fn a_list_that_breaks_off_fails_the_command_and_what_came_is_stored() {
    let truncated = "connections = 30\n[[fault]]\nkind = \"truncated_json\"\non = \"list\"\n";
    let (db, api) = (Database::migrated(), Api::new(truncated));
    let outcome = api.backfill(&db, &["--json"]);
    let report: serde_json::Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!(report["complete"], false);
    let error = outcome.failed(1);
    let stored = db.value("SELECT count(*) FROM feather.connections");
    assert!(stored != "0" && stored != "30", "{stored}");
    for part in [
        &format!("ended early, after {stored} connections: protocol: "),
        "they are stored, and nothing was removed",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

/// From now on these new connections fail to be written like this; the first is 1.
fn trip(db: &Database, which: &str, code: &str) {
    db.run(&format!(
        "CREATE SEQUENCE public.trips; GRANT ALL ON SEQUENCE public.trips TO PUBLIC;
         CREATE FUNCTION public.trip() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF nextval('public.trips') {which} THEN RAISE EXCEPTION 'tripped' USING ERRCODE = '{code}'; END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER trip BEFORE INSERT ON feather.integration_connections FOR EACH ROW EXECUTE FUNCTION public.trip()"
    ));
}

#[test]
fn a_database_that_fails_for_a_while_costs_no_list() {
    for code in ["57P01", "57014", "XX000"] {
        let (db, api) = (Database::migrated(), Api::new("connections = 1"));
        trip(&db, "<= 3", code);
        let out = api.backfill(&db, &[]).done();
        assert!(
            out.starts_with("1 connection listed: 1 new"),
            "{code}: {out}"
        );
        assert_eq!(db.value("SELECT last_value FROM public.trips"), "4");
    }
}

#[test]
fn where_the_database_is_what_fails_the_list_is_not_blamed() {
    for (which, expected) in [
        ("> 0", "feather_worker; nothing was stored"),
        (
            "> 100",
            "the database failed, after 100 connections: tripped; grant the user the role feather_worker; they are stored",
        ),
    ] {
        let (db, api) = (Database::migrated(), Api::new("connections = 150"));
        trip(&db, which, "42501");
        let error = api.backfill(&db, &[]).failed(1);
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("list"), "{error}");
    }
}

#[test]
fn what_is_no_connection_is_named_and_fails_the_command_at_its_end() {
    let spoilt =
        "connections = 30\n[[fault]]\nkind = \"null_field\"\nname = \"nickname\"\non = \"list\"\n";
    let (db, api) = (Database::migrated(), Api::new(spoilt));
    let error = api.backfill(&db, &[]).failed(1);
    assert_eq!(
        error.matches("not what the API promises").count(),
        20,
        "{error}"
    );
    assert!(
        error.contains("nickname") && error.contains("30 connections of the list are not in"),
        "{error}"
    );
}

#[test]
fn a_refused_call_and_a_paused_account_are_said_with_what_to_do() {
    let refused = "connections = 3\napi_keys = []";
    let (db, api) = (Database::migrated(), Api::new(refused));
    let error = api.backfill(&db, &[]).failed(1);
    assert!(
        error.contains("auth: HTTP 401") && error.contains("nothing was listed"),
        "{error}"
    );
    let error = api.backfill(&db, &[]).failed(1);
    assert!(
        error.contains("paused by the API (auth)") && error.contains("doctor"),
        "{error}"
    );
    db.feather_sync(&["pause", "default"]).done();
    let error = api.backfill(&db, &[]).failed(1);
    assert!(error.contains("feather-sync resume default"), "{error}");
    assert!(!error.contains("fth_live"), "{error}");
}

#[test]
fn a_key_that_the_api_gives_back_is_not_said() {
    let echoing = "[[fault]]\nkind = \"status\"\ncode = 500\necho_key = true\non = \"list\"\n";
    let (db, api) = (Database::migrated(), Api::new(echoing));
    let outcome = api.backfill(&db, &["--json"]);
    assert!(!outcome.out.contains("backfill_0123456789"), "{outcome:?}");
    let error = outcome.failed(1);
    assert!(
        error.contains("upstream: HTTP 500") && !error.contains("backfill_0123456789"),
        "{error}"
    );
}

#[test]
fn an_account_that_is_not_configured_is_wrong_usage_and_one_without_a_key_a_wrong_configuration() {
    let (db, api) = (Database::migrated(), Api::new(""));
    let error = api.backfill(&db, &["--account", "acme"]).failed(2);
    assert!(
        error.contains("acme") && error.contains("default"),
        "{error}"
    );
    let error = run(&mut db.program(&["backfill"])).failed(78);
    assert!(error.contains("FEATHER_BASE_URL"), "{error}");
}

#[test]
fn a_worker_may_backfill() {
    let (db, api) = (
        Database::migrated(),
        Api::new("connections = 3\nauthorized = 0.5"),
    );
    let user = db.user(Some("feather_worker"));
    let mut command = api.program(&db, &["backfill"]);
    command.env("DATABASE_URL", db.url_as(&user));
    run(&mut command).done();
}

#[test]
fn one_that_is_killed_leaves_whole_connections_and_the_next_one_does_the_rest() {
    let slow = "connections = 400\ntools = 2\n[[fault]]\nkind = \"slow\"\nduration = \"20s\"\non = \"list\"\ntimes = 1\n";
    let (db, api) = (Database::migrated(), Api::new(slow));
    let mut killed = start(&mut api.program(&db, &["backfill"]));
    db.until("SELECT count(*) > 0 FROM feather.connections");
    killed.kill().unwrap();
    killed.wait().unwrap();
    let rows = db.rows(
        "SELECT (SELECT count(*) FROM feather.connections), (SELECT count(*) FROM feather.tools)",
    );
    let (connections, tools): (u64, u64) =
        (rows[0][0].parse().unwrap(), rows[0][1].parse().unwrap());
    assert!(connections < 400 && tools == 2 * connections, "{rows:?}");

    let out = api.backfill(&db, &[]).done();
    let rest = 400 - connections;
    assert!(
        out.starts_with(&format!(
            "400 connections listed: {rest} new, 0 revived, 0 changed, {connections} unchanged\n"
        )),
        "{out}"
    );
}

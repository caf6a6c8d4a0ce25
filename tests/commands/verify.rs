//! `verify`

use feather_sync::store::Invariant;
use serde_json::Value;

use crate::database::Database;
use crate::program::ID;
use crate::program::program;
use crate::program::run;

/// A dead job without a last word, and a last word without a job whose account has a name that speaks to terminals.
fn with_two_faults() -> Database {
    let db = Database::migrated();
    db.run(&format!(
        "INSERT INTO feather.sync_jobs (connection_id, account, state, priority, run_at, wanted_at, started_at, attempt, error_class)
         VALUES ('{ID}', 'default', 'dead', 3, now(), now() - interval '1 year', now(), 1, 'upstream');
         INSERT INTO feather.sync_results (connection_id, account, last_attempt_at, last_outcome, last_error_class)
         SELECT gen_random_uuid(), E'\\x1b[31mred', now(), 'retry', 'upstream' FROM generate_series(1, 21)"
    ));
    db
}

#[test]
fn a_fresh_schema_is_verified_line_by_line() {
    let db = Database::migrated();
    let page = db.feather_sync(&["verify"]).done();
    let lines: Vec<_> = page.lines().collect();
    let expected: Vec<_> = Invariant::ALL
        .map(|invariant| format!("ok      {}", invariant.name()))
        .into();
    assert_eq!(lines, expected);
    let report: Value =
        serde_json::from_str(&db.feather_sync(&["verify", "--json"]).done()).unwrap();
    assert_eq!(report["holds"], true);
    assert_eq!(
        report["invariants"].as_array().unwrap().len(),
        Invariant::ALL.len()
    );
    assert_eq!(report["invariants"][0]["violations"], Value::Array(vec![]));
}

#[test]
fn what_is_broken_is_shown_with_its_rows_and_what_to_do_and_the_exit_code_is_1() {
    let db = with_two_faults();
    let outcome = db.feather_sync(&["verify"]);
    let page = outcome.out.clone();
    let error = outcome.failed(1);
    assert_eq!(
        error,
        format!(
            "feather-sync: 2 of {} invariants are broken\n",
            Invariant::ALL.len()
        )
    );
    let shown = |invariant: Invariant| {
        let head = format!("broken  {}: {}\n", invariant.name(), invariant.promise());
        let (_, rest) = page.split_once(&head).unwrap_or_else(|| panic!("{page}"));
        let (rows, _) = rest
            .split_once(&format!("        {}.", invariant.remedy()))
            .unwrap_or_else(|| panic!("{page}"));
        rows.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        shown(Invariant::DeadJobsSayWhy),
        [format!(
            "          {ID} (default) dead of upstream, but the last word is missing"
        )]
    );
    let lost = shown(Invariant::NothingIsLost);
    assert_eq!(lost.len(), 21);
    assert!(
        lost[0].contains("(\\u{1b}[31mred) the last word is retry of "),
        "{page}"
    );
    assert_eq!(lost[20], "          and more than these 20 rows");
    assert_eq!(
        page.matches("\nok      ").count() + 1,
        Invariant::ALL.len() - 2
    );
}

#[test]
fn json_is_alone_on_stdout_and_says_the_same() {
    let db = with_two_faults();
    let outcome = db.feather_sync(&["verify", "--json"]);
    let report: Value = serde_json::from_str(&outcome.out).unwrap();
    outcome.failed(1);
    assert_eq!(report["holds"], false);
    let broken: Vec<_> = report["invariants"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["holds"] == false)
        .collect();
    assert_eq!(broken.len(), 2);
    assert_eq!(broken[0]["name"], "dead_jobs_say_why");
    assert_eq!(broken[0]["violations"][0]["connection_id"], ID);
    assert_eq!(broken[0]["violations"][0]["account"], "default");
    assert_eq!(broken[0]["more"], false);
    assert_eq!(broken[1]["violations"].as_array().unwrap().len(), 20);
    assert_eq!(broken[1]["more"], true);
    assert!(broken[1]["remedy"].as_str().unwrap().contains("enqueue"));
}

#[test]
fn the_list_needs_no_database() {
    let page = run(&mut program(&["verify", "--list"])).done();
    assert_eq!(page.lines().count(), Invariant::ALL.len() + 1);
    for invariant in Invariant::ALL {
        assert!(page.contains(invariant.name()) && page.contains(invariant.promise()));
    }
    let list: Value =
        serde_json::from_str(&run(&mut program(&["verify", "--list", "--json"])).done()).unwrap();
    assert_eq!(list[0]["name"], "schema_is_whole");
    assert_eq!(list[0]["holds"], Value::Null);
}

#[test]
fn a_database_that_cannot_be_asked_is_said_so() {
    let error = Database::empty().feather_sync(&["verify"]).failed(1);
    assert!(error.contains("feather-sync migrate"), "{error}");
    let db = Database::migrated();
    db.run("DELETE FROM feather._sqlx_migrations WHERE version = (SELECT max(version) FROM feather._sqlx_migrations)");
    let error = db.feather_sync(&["verify"]).failed(1);
    assert!(error.contains("1 migrations are missing"), "{error}");
    let reporter = Database::migrated();
    let user = reporter.user(Some("feather_reporter"));
    let error = reporter.feather_sync_as(&user, &["verify"]).failed(1);
    assert!(
        error.contains("permission denied") && error.contains("feather_worker"),
        "{error}"
    );
    let mut nowhere = program(&["verify"]);
    nowhere.env("DATABASE_URL", "postgres://127.0.0.1:1/none");
    let error = run(&mut nowhere).failed(1);
    assert!(error.contains("database.url"), "{error}");
}

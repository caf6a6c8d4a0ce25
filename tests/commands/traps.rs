//! Names that somebody else has put first in the search_path mean nothing to us.

use crate::database::Database;
use crate::program::ID;
use crate::program::finish;
use crate::program::program;
use crate::program::run;
use crate::program::signal;
use crate::program::start;
use crate::sim::sim;

/// A schema that whoever made it would like others to stumble into: what is called often, under the same names.
const TRAPS: &str = "
    CREATE SCHEMA traps; GRANT USAGE, CREATE ON SCHEMA traps TO PUBLIC;
    CREATE TABLE traps.caught (what text); GRANT INSERT ON traps.caught TO PUBLIC;
    CREATE FUNCTION traps.now() RETURNS timestamptz LANGUAGE sql AS
        $$ INSERT INTO traps.caught VALUES ('now'); SELECT pg_catalog.now() $$;
    CREATE FUNCTION traps.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS
        $$ INSERT INTO traps.caught VALUES ('clock_timestamp'); SELECT pg_catalog.clock_timestamp() $$;
    CREATE FUNCTION traps.gen_random_uuid() RETURNS uuid LANGUAGE sql AS
        $$ INSERT INTO traps.caught VALUES ('gen_random_uuid'); SELECT pg_catalog.gen_random_uuid() $$;
    CREATE FUNCTION traps.unnest(uuid[]) RETURNS SETOF uuid LANGUAGE sql AS
        $$ INSERT INTO traps.caught VALUES ('unnest'); SELECT pg_catalog.unnest($1) $$;
    CREATE FUNCTION traps.pg_notify(text, text) RETURNS void LANGUAGE sql AS
        $$ INSERT INTO traps.caught VALUES ('pg_notify') $$;
    CREATE FUNCTION traps.less(integer, integer) RETURNS boolean LANGUAGE sql AS
        $$ INSERT INTO traps.caught VALUES ('<'); SELECT $1 OPERATOR(pg_catalog.<) $2 $$;
    CREATE OPERATOR traps.< (FUNCTION = traps.less, LEFTARG = integer, RIGHTARG = integer);
    CREATE OPERATOR traps.>= (FUNCTION = traps.less, LEFTARG = integer, RIGHTARG = integer);
    CREATE TABLE traps.sync_requests (connection_id uuid); GRANT ALL ON traps.sync_requests TO PUBLIC;";

#[test]
fn our_functions_step_into_no_trap_that_stands_first_in_the_callers_search_path() {
    let db = Database::migrated();
    db.run(TRAPS);
    let user = db.user(Some("feather_enqueuer"));
    db.as_user(
        &user,
        &format!(
            "SET search_path = traps, pg_temp, pg_catalog;
             CREATE TEMP TABLE sync_requests (connection_id uuid);
             SELECT feather.enqueue('{ID}');
             SELECT feather.enqueue('{ID}', priority => 3, run_at => pg_catalog.now());
             SELECT feather.enqueue_many(ARRAY['{ID}']::uuid[])"
        ),
    )
    .unwrap();
    assert_eq!(db.value("SELECT count(*) FROM feather.sync_requests"), "3");
    assert_eq!(db.rows("SELECT what FROM traps.caught"), [[""; 0]; 0]);
    let unpinned = db.rows(
        "SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'feather'::regnamespace
           -- A body that is no text was bound to what it names when it was made; an aggregate has none.
           AND prosqlbody IS NULL AND prokind <> 'a'
           AND NOT 'search_path=pg_catalog, pg_temp' = ANY (COALESCE(proconfig, '{}'))",
    );
    assert!(unpinned.is_empty(), "{unpinned:?}");
    let definers = "SELECT string_agg(proname, ' ') FROM pg_proc WHERE pronamespace = 'feather'::regnamespace AND prosecdef";
    assert_eq!(db.value(definers), "keep_partitions");
}

#[test]
fn what_runs_as_the_owner_steps_into_no_trap_of_a_worker_and_does_what_it_is_for_alone() {
    let db = Database::migrated();
    db.run(TRAPS);
    let user = db.user(Some("feather_worker"));
    let keep = |what: &str| {
        db.as_user(
            &user,
            &format!(
                "SET search_path = traps, pg_temp, pg_catalog;
                 CREATE TEMP TABLE pg_inherits (inhrelid oid, inhparent oid);
                 CREATE TEMP TABLE sync_events_default (at timestamptz);
                 SELECT made FROM feather.keep_partitions({what})"
            ),
        )
    };
    // Months instead of days: there is something to make.
    assert_ne!(keep("'sync_events', '500 days'").unwrap(), [["0"]]);
    assert_eq!(db.rows("SELECT what FROM traps.caught"), [[""; 0]; 0]);
    for other in [
        "'sync_jobs', '0'",
        "'sync_results', '0'",
        "'sync_events; DROP TABLE feather.sync_jobs', '0'",
        "NULL, '0'",
    ] {
        let refused = keep(other).unwrap_err();
        assert!(refused.contains("not kept in partitions"), "{refused}");
    }
}

#[test]
fn the_daemon_works_wholly_as_a_mere_worker_and_steps_into_no_trap() {
    let db = Database::migrated();
    db.run(TRAPS);
    let user = db.user(Some("feather_worker"));
    db.run(&format!(
        "ALTER ROLE {user} SET search_path = traps, pg_temp, pg_catalog"
    ));
    let (sim, address) = sim(&[]);
    let daemon = |arguments: &[&str]| {
        let mut daemon = program(&[&["run"], arguments].concat());
        for (name, value) in [
            ("DATABASE_URL", &*db.url_as(&user)),
            ("FEATHER_BASE_URL", &format!("http://{address}")),
            ("FEATHER_API_KEY", "fth_test"),
            ("FEATHER_SYNC__ADMIN__LISTEN", "off"),
            ("FEATHER_SYNC__LOG__FILTER", "debug"),
            ("FEATHER_SYNC__SETTLE__INITIAL", "20ms"),
        ] {
            daemon.env(name, value);
        }
        daemon
    };
    // Registration, listening, taking in, claiming, committing, settling, counts.
    db.run(&format!("SELECT feather.enqueue('{ID}')"));
    let synced = run(&mut daemon(&["--until-empty", "--timeout", "60s"]));
    assert_eq!(db.value("SELECT count(*) FROM feather.connections"), "1");
    // And the end of history, which is looked at on start.
    db.run("UPDATE feather.sync_attempts SET started_at = started_at - interval '1 year', finished_at = finished_at - interval '1 year'");
    let child = start(&mut daemon(&[]));
    db.until("SELECT NOT EXISTS (SELECT FROM feather.sync_attempts)");
    db.until("SELECT EXISTS (SELECT FROM feather.sync_counts) AND EXISTS (SELECT FROM feather.sync_replicas)");
    signal(&child, "TERM");
    for log in [synced, finish(child)] {
        assert_eq!(log.code, Some(0), "{log:?}");
        let refused = ["permission denied", "cannot "];
        assert!(
            !refused.iter().any(|word| log.err.contains(word)),
            "{log:?}"
        );
    }
    signal(&sim, "TERM");
    finish(sim).done();

    for arguments in [
        &["migrate", "--check"][..],
        &["enqueue", ID],
        &["status"],
        &["status", "--json"],
        &["verify"],
        &["show", ID],
        &["pause", "default"],
        &["resume", "default"],
        &["retry", "--dead"],
        &["cancel", ID],
        &["forget", "--yes", ID],
    ] {
        db.feather_sync_as(&user, arguments).done();
    }
    assert_eq!(db.rows("SELECT what FROM traps.caught"), [[""; 0]; 0]);
}

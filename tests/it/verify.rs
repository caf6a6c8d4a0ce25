//! Verify: silent on what is right, loud on what is wrong.

mod at_work;
mod clock;
mod plantings;

use crate::world::World;
use feather_sync::store::Finding;
use feather_sync::store::Invariant;
use feather_sync::store::VerifySettings;
use std::time::Duration;

/// One connection in every state, as the daemon would leave them.
const ONE_OF_EACH: &str = include_str!("verify/one_of_each.sql");

async fn one_of_each() -> World {
    let mut world = World::new().await;
    world.execute(ONE_OF_EACH).await;
    world.leave_broken();
    world
}

fn broken(findings: &[Finding]) -> Vec<Invariant> {
    findings
        .iter()
        .filter(|finding| !finding.holds())
        .map(|finding| finding.invariant)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_invariant_holds_on_an_empty_schema_and_with_one_connection_in_every_state() {
    World::new().await.assert_invariants().await;
    one_of_each().await.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_constraint_or_index_is_named_whichever_it_is() {
    let mut world = World::new().await;
    world.leave_broken();
    let (constraints, indexes): (i64, i64) = world
        .row(
            "SELECT (SELECT count(*) FROM pg_constraint
                     WHERE connamespace = 'feather'::regnamespace AND contype IN ('p', 'c', 'u', 'f', 'x')
                       AND conrelid <> 'feather._sqlx_migrations'::regclass
                       AND conrelid NOT IN (SELECT inhrelid FROM pg_inherits)),
                    (SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                     WHERE c.relnamespace = 'feather'::regnamespace AND NOT c.relispartition
                       AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid))",
        )
        .await;
    world
        .execute(
            "DO $$ DECLARE name record; BEGIN
                FOR name IN SELECT i.indexrelid::regclass AS index FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                            WHERE c.relnamespace = 'feather'::regnamespace AND NOT c.relispartition
                              AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
                LOOP EXECUTE format('DROP INDEX %s', name.index); END LOOP;
                FOR name IN SELECT conrelid::regclass AS relation, conname FROM pg_constraint
                            WHERE connamespace = 'feather'::regnamespace AND contype IN ('p', 'c', 'u', 'f', 'x')
                              AND conrelid <> 'feather._sqlx_migrations'::regclass
                              AND conrelid NOT IN (SELECT inhrelid FROM pg_inherits)
                LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', name.relation, name.conname); END LOOP;
            END $$",
        )
        .await;
    let findings = world.verify(&world.scrutiny()).await;
    assert_eq!(broken(&findings), [Invariant::SchemaIsWhole]);
    let missing = |what: &str| {
        let rows = &findings[0].violations;
        rows.iter()
            .filter(|row| row.detail.starts_with(what) && row.detail.ends_with(" is missing"))
            .count() as i64
    };
    // A new constraint or index has to be added to the lists in src/store/verify/surroundings.rs.
    assert_eq!(
        (missing("constraint"), missing("index")),
        (constraints, indexes)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_rows_are_shown_than_asked_for_and_that_there_are_more_is_said() {
    let world = one_of_each().await;
    world
        .execute(
            "INSERT INTO feather.sync_results (connection_id, account, last_attempt_at, last_outcome, last_error_class)
             SELECT gen_random_uuid(), 'default', now(), 'retry', 'upstream' FROM generate_series(1, 2000)",
        )
        .await;
    for (rows, shown, more) in [
        (1, 1, true),
        (1999, 1999, true),
        (2000, 2000, false),
        (usize::MAX, 2000, false),
    ] {
        // A page at a time, so that what is found adds up over many statements.
        let scrutiny = VerifySettings {
            rows,
            pages: 1,
            ..world.scrutiny()
        };
        let findings = world.verify(&scrutiny).await;
        assert_eq!(broken(&findings), [Invariant::NothingIsLost]);
        let lost = findings.iter().find(|finding| !finding.holds()).unwrap();
        assert_eq!((lost.violations.len(), lost.more), (shown, more));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_a_new_replica_has_not_come_to_yet_is_no_violation() {
    let world = one_of_each().await;
    world
        .execute(
            "UPDATE feather.sync_jobs SET lease_until = now() - interval '10 minutes', started_at = now() - interval '1 hour'
             WHERE state = 'running'",
        )
        .await;
    let scrutiny = VerifySettings {
        patience: Duration::from_millis(500),
        ..world.scrutiny()
    };
    world
        .until("SELECT pg_postmaster_start_time() < now() - interval '1 second'")
        .await;
    assert_eq!(
        broken(&world.verify(&scrutiny).await),
        [Invariant::LeasesEnd]
    );
    let replica = |started: &str| {
        format!(
            "INSERT INTO feather.sync_replicas (worker, version, accounts, started_at)
             VALUES ('{started}', '1', '{{default}}', now() - interval '{started}')"
        )
    };
    world.execute(&replica("0 s")).await;
    let long = VerifySettings {
        patience: Duration::from_secs(300),
        ..world.scrutiny()
    };
    assert_eq!(broken(&world.verify(&long).await), []);
    world.execute(&replica("1 hour")).await;
    assert_eq!(
        broken(&world.verify(&scrutiny).await),
        [Invariant::LeasesEnd]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_retention_has_taken_are_not_missed() {
    let world = one_of_each().await;
    let verdict = async |sql: &str, history: u64| {
        world.execute(sql).await;
        let scrutiny = VerifySettings {
            history: Duration::from_secs(history),
            ..world.scrutiny()
        };
        broken(&world.verify(&scrutiny).await)
    };
    // The job wants to be run since half an hour.
    let cut = "DELETE FROM feather.sync_attempts WHERE outcome = 'retry'";
    assert_eq!(verdict(cut, 3_600).await, [Invariant::AttemptsAreRecorded]);
    assert_eq!(verdict("", 60).await, []);
    // A replica with a shorter retention: the history begins after the job, and not just now.
    let old = "UPDATE feather.sync_jobs SET wanted_at = now() - interval '10 hours';
               UPDATE feather.sync_attempts SET started_at = started_at - interval '9 hours', finished_at = finished_at - interval '9 hours';
               UPDATE feather.sync_results r SET last_attempt_at = (SELECT max(finished_at) FROM feather.sync_attempts a WHERE a.connection_id = r.connection_id)";
    assert_eq!(verdict(old, 864_000).await, []);
    let older = "INSERT INTO feather.sync_attempts (account, connection_id, kind, attempt, worker, started_at, finished_at, outcome, error)
                 VALUES ('default', gen_random_uuid(), 'finalize', 0, 'me', now() - interval '1 day', now() - interval '1 day', 'cancelled', 'me')";
    assert_eq!(
        verdict(older, 864_000).await,
        [Invariant::AttemptsAreRecorded]
    );
}

//! What is wrong is planted, one wrong at a time: exactly the invariant that is about it is broken.

use crate::verify::broken;
use crate::verify::one_of_each;
use crate::world::World;
use feather_sync::store::Invariant;
use feather_sync::store::VerifySettings;
use sqlx::AssertSqlSafe;
use sqlx::Connection;
use sqlx::PgConnection;
use std::time::Duration;

/// Puts a constraint of the same name in the place of one that prevents the planting.
macro_rules! instead_of {
    ($table:literal, $constraint:literal, $sql:literal) => {
        concat!(
            "ALTER TABLE feather.",
            $table,
            " DROP CONSTRAINT ",
            $constraint,
            ", ADD CONSTRAINT ",
            $constraint,
            " CHECK (true); ",
            $sql
        )
    };
}

enum Planting {
    Rows(&'static str),
    /// What a session did that stays open, and a condition for when it has sat there for long enough.
    Session(&'static str, &'static str),
}

use Planting::Rows;
use Planting::Session;

const IDLE: &str = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
    AND state LIKE 'idle in transaction%' AND xact_start < clock_timestamp() - interval '3 seconds'
    AND state_change < clock_timestamp() - interval '2 seconds')";

fn plantings(invariant: Invariant) -> Vec<Planting> {
    match invariant {
        Invariant::SchemaIsWhole => vec![
            Rows("ALTER TABLE feather.sync_jobs DROP CONSTRAINT dead_has_a_class"),
            Rows("ALTER TABLE feather.sync_jobs DROP CONSTRAINT dead_has_a_class, ADD CONSTRAINT dead_has_a_class CHECK (true) NOT VALID"),
            Rows("ALTER TABLE feather.sync_results DROP CONSTRAINT sync_results_pkey"),
            Rows("DROP INDEX feather.sync_jobs_claim"),
            Rows("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'feather.sync_jobs_lease'::regclass"),
            Rows("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'feather.sync_jobs_pkey'::regclass"),
        ],
        Invariant::JobsAreCoherent => vec![
            Rows(instead_of!("sync_jobs", "state_is_known", "UPDATE feather.sync_jobs SET state = 'asleep' WHERE connection_id = id(2)")),
            Rows(instead_of!("sync_jobs", "phase_is_known", "UPDATE feather.sync_jobs SET phase = 'rest' WHERE connection_id = id(2)")),
            Rows("UPDATE feather.sync_jobs SET account = '' WHERE connection_id = id(2)"),
            Rows(instead_of!("sync_jobs", "running_means_leased", "UPDATE feather.sync_jobs SET lease_token = NULL WHERE connection_id = id(5)")),
            Rows(instead_of!("sync_jobs", "running_means_leased", "UPDATE feather.sync_jobs SET lease_until = NULL WHERE connection_id = id(5)")),
            Rows(instead_of!("sync_jobs", "running_means_leased", "UPDATE feather.sync_jobs SET worker = NULL WHERE connection_id = id(5)")),
            Rows(instead_of!("sync_jobs", "running_means_leased", "UPDATE feather.sync_jobs SET state = 'pending', attempt = 0 WHERE connection_id = id(5)")),
            Rows(instead_of!("sync_jobs", "running_means_leased", "UPDATE feather.sync_jobs SET started_at = NULL WHERE connection_id = id(5)")),
            Rows(instead_of!("sync_jobs", "running_means_leased", "UPDATE feather.sync_jobs SET attempt = 0 WHERE connection_id = id(5)")),
            Rows("UPDATE feather.sync_jobs SET lease_until = now() + interval '1 s', started_at = now() + interval '2 s' WHERE connection_id = id(5)"),
            Rows(instead_of!("sync_jobs", "settling_has_a_deadline", "UPDATE feather.sync_jobs SET settle_deadline = NULL WHERE connection_id = id(4)")),
            Rows(instead_of!("sync_jobs", "settling_has_a_deadline", "UPDATE feather.sync_jobs SET settle_deadline = now() WHERE connection_id = id(2)")),
            Rows("UPDATE feather.sync_jobs SET settle_polls = 1 WHERE connection_id = id(2)"),
            Rows(instead_of!("sync_jobs", "sighting_is_whole", "UPDATE feather.sync_jobs SET seen_at = NULL WHERE connection_id = id(4)")),
            Rows(instead_of!("sync_jobs", "dead_has_a_class", "UPDATE feather.sync_jobs SET error_class = NULL WHERE connection_id = id(3)")),
            Rows(instead_of!("sync_jobs", "dead_has_a_class", "UPDATE feather.sync_jobs SET error_class = 'upstream' WHERE connection_id = id(2)")),
            Rows("UPDATE feather.sync_jobs SET malformed = 3 WHERE connection_id = id(2)"),
            Rows(instead_of!("sync_jobs", "counts_are_natural", "UPDATE feather.sync_jobs SET attempt = -1 WHERE connection_id = id(4)")),
            Rows("UPDATE feather.sync_jobs SET not_before = run_at + interval '1 s' WHERE connection_id = id(2)"),
            Rows("UPDATE feather.sync_jobs SET run_at = 'infinity' WHERE connection_id = id(2)"),
            Rows("UPDATE feather.sync_jobs SET started_at = now() + interval '1 day' WHERE connection_id = id(2)"),
        ],
        Invariant::LeasesEnd => vec![Rows(
            "UPDATE feather.sync_jobs SET lease_until = now() - interval '10 s' WHERE connection_id = id(5)",
        )],
        Invariant::TokensAreUnique => vec![Rows(
            "UPDATE feather.sync_jobs SET lease_token = id(0) WHERE state = 'running'",
        )],
        Invariant::AttemptsAreRecorded => vec![
            Rows("DELETE FROM feather.sync_attempts WHERE connection_id = id(2) AND attempt = 1"),
            Rows("DELETE FROM feather.sync_attempts WHERE connection_id = id(2) AND attempt = 2"),
            Rows("DELETE FROM feather.sync_attempts WHERE connection_id = id(3)"),
            Rows("DELETE FROM feather.sync_attempts WHERE connection_id = id(6) AND attempt = 1"),
            Rows("UPDATE feather.sync_jobs SET attempt = 2 WHERE connection_id = id(5)"),
            Rows("UPDATE feather.sync_attempts SET outcome = 'deferred' WHERE connection_id = id(2) AND attempt = 1"),
        ],
        Invariant::DeadJobsSayWhy => vec![
            Rows("DELETE FROM feather.sync_results WHERE connection_id = id(3)"),
            Rows("UPDATE feather.sync_jobs SET error_class = 'upstream' WHERE connection_id = id(3)"),
        ],
        Invariant::SettlingJobsAreStored => vec![
            Rows("DELETE FROM feather.integration_connections WHERE id = id(4)"),
            Rows("UPDATE feather.integration_connections SET _finalized_at = NULL WHERE id = id(4)"),
        ],
        Invariant::NothingIsLost => ["2", "3", "4", "6", "8"]
            .map(|n| Rows(format!("DELETE FROM feather.sync_jobs WHERE connection_id = id({n})").leak()))
            .into(),
        Invariant::LastWordsAreCoherent => vec![
            Rows("UPDATE feather.sync_results SET last_success_started_at = NULL WHERE connection_id = id(1)"),
            Rows("UPDATE feather.sync_results SET last_success_started_at = NULL, last_success_at = NULL WHERE connection_id = id(1)"),
            Rows("UPDATE feather.sync_results SET last_success_started_at = last_success_at + interval '1 s' WHERE connection_id = id(1)"),
            Rows("UPDATE feather.sync_results SET last_success_at = now() + interval '1 day' WHERE connection_id = id(1)"),
            Rows("UPDATE feather.sync_results SET last_error_class = NULL WHERE connection_id = id(6);
                  DELETE FROM feather.sync_attempts WHERE connection_id = id(6); UPDATE feather.sync_jobs SET attempt = 1 WHERE connection_id = id(6)"),
            Rows("UPDATE feather.sync_results SET last_error_class = 'upstream' WHERE connection_id = id(1);
                  DELETE FROM feather.sync_attempts WHERE connection_id = id(1)"),
        ],
        Invariant::HistoryEndsWithTheLastWord => vec![
            Rows("DELETE FROM feather.sync_attempts WHERE connection_id = id(2) AND outcome = 'deferred'"),
            Rows("UPDATE feather.sync_results SET last_outcome = 'cancelled' WHERE connection_id = id(1)"),
            Rows("UPDATE feather.sync_results SET last_error_class = NULL WHERE connection_id = id(2)"),
            Rows("UPDATE feather.sync_results SET last_attempt_at = last_attempt_at - interval '1 s' WHERE connection_id = id(1)"),
        ],
        Invariant::SuccessesAreStored => vec![Rows(
            "DELETE FROM feather.integration_connections WHERE id = id(9)",
        )],
        Invariant::AttemptsAreCoherent => vec![
            Rows("UPDATE feather.sync_attempts SET retry_at = NULL WHERE connection_id = id(4)"),
            Rows("UPDATE feather.sync_attempts SET retry_at = now() WHERE connection_id = id(3)"),
            Rows("UPDATE feather.sync_attempts SET error_class = NULL WHERE connection_id = id(2) AND outcome = 'retry'"),
            Rows("UPDATE feather.sync_attempts SET error_class = 'upstream' WHERE connection_id = id(1) AND outcome = 'settling'"),
            Rows("UPDATE feather.sync_attempts SET error_class = 'upstream' WHERE connection_id = id(2) AND outcome = 'crashed'"),
            Rows("UPDATE feather.sync_attempts SET error = NULL WHERE connection_id = id(7)"),
            Rows("UPDATE feather.sync_attempts SET http_status = NULL WHERE connection_id = id(4)"),
            Rows("UPDATE feather.sync_attempts SET tools_status = NULL WHERE connection_id = id(1)"),
            Rows("UPDATE feather.sync_attempts SET attempt = 0 WHERE connection_id = id(1)"),
            Rows("UPDATE feather.sync_attempts SET tools_removed = -1 WHERE connection_id = id(1)"),
            Rows(instead_of!("sync_attempts", "finished_after_start", "UPDATE feather.sync_attempts SET started_at = finished_at + interval '1 s' WHERE connection_id = id(1)")),
            Rows("UPDATE feather.sync_attempts SET finished_at = now() + interval '1 day' WHERE connection_id = id(2) AND outcome = 'retry'"),
        ],
        Invariant::FinalizedConnectionsAreRecorded => vec![Rows(
            "DELETE FROM feather.sync_results WHERE connection_id = id(1)",
        )],
        Invariant::ConnectionTimesAreOrdered => vec![
            Rows("UPDATE feather.integration_connections SET _first_seen_at = _changed_at + interval '1 s', _synced_at = now(), _finalized_at = now() WHERE id = id(1)"),
            Rows("UPDATE feather.integration_connections SET _finalized_at = _first_seen_at - interval '1 s' WHERE id = id(1)"),
            Rows("UPDATE feather.integration_connections SET _finalized_at = _synced_at + interval '1 s' WHERE id = id(1)"),
            Rows("UPDATE feather.integration_connections SET _removed_at = _first_seen_at - interval '1 s' WHERE id = id(1)"),
            Rows("UPDATE feather.integration_connections SET _removed_at = _changed_at + interval '1 s' WHERE id = id(1)"),
            Rows("UPDATE feather.integration_connections SET _synced_at = now() + interval '1 day' WHERE id = id(1)"),
            Rows("UPDATE feather.integration_connections SET _changed_at = now() + interval '1 day' WHERE id = id(1)"),
        ],
        Invariant::EventsHaveConnections => vec![Rows(
            "INSERT INTO feather.sync_events (at, account, connection_id, kind)
             VALUES (now(), 'default', gen_random_uuid(), 'connection_changed')",
        )],
        Invariant::ToolsHaveConnections => vec![Rows(
            "UPDATE feather.integration_connection_tools SET connection_id = id(99) WHERE id = id(10)",
        )],
        Invariant::ToolTimesAreOrdered => vec![
            Rows("UPDATE feather.integration_connection_tools SET _first_seen_at = _changed_at + interval '1 s' WHERE id = id(10)"),
            Rows("UPDATE feather.integration_connection_tools SET _removed_at = _first_seen_at - interval '1 s' WHERE id = id(11)"),
            Rows("UPDATE feather.integration_connection_tools SET _removed_at = _changed_at + interval '1 s' WHERE id = id(11)"),
            Rows("UPDATE feather.integration_connection_tools SET _changed_at = now() + interval '1 day' WHERE id = id(11)"),
        ],
        Invariant::AccountsAreCoherent => vec![
            Rows("DELETE FROM feather.sync_accounts"),
            Rows(instead_of!("sync_accounts", "account_is_named", "INSERT INTO feather.sync_accounts (account) VALUES ('')")),
            Rows(instead_of!("sync_accounts", "pause_is_whole", "UPDATE feather.sync_accounts SET pause_reason = 'auth'")),
            Rows(instead_of!("sync_accounts", "operator_pause_is_whole", "UPDATE feather.sync_accounts SET operator_paused_at = now()")),
            Rows("UPDATE feather.sync_accounts SET pause_step = 1"),
            Rows("UPDATE feather.sync_accounts SET pause_error = 'refused'"),
            Rows("UPDATE feather.sync_accounts SET pause_reason = 'auth', paused_until = now(), pause_step = -1"),
            Rows("UPDATE feather.sync_accounts SET requests_per_minute = 0"),
            Rows("UPDATE feather.sync_accounts SET tokens = 'NaN'"),
            Rows("UPDATE feather.sync_accounts SET tokens_at = now() + interval '1 hour'"),
        ],
        Invariant::SessionsAreBrief => vec![Session(
            "SET application_name = 'feather-sync'; BEGIN; SELECT 1",
            IDLE,
        )],
        Invariant::LocksAreBrief => vec![
            Session("BEGIN; SELECT pg_advisory_xact_lock(7305801, 2)", IDLE),
            Session("BEGIN; SELECT pg_advisory_xact_lock(7305801, 3)", IDLE),
            Session("BEGIN; SELECT pg_advisory_xact_lock(7305801, 7)", IDLE),
        ],
    }
}

/// A second is long enough for those that wait for a violation.
fn impatient(world: &World) -> VerifySettings {
    VerifySettings {
        patience: Duration::from_secs(1),
        ..world.scrutiny()
    }
}

/// What broke, if it was not just this.
async fn fault(invariant: Invariant, planting: Planting) -> Option<String> {
    let world = one_of_each().await;
    let (what, session) = match planting {
        Rows(sql) => {
            world
                .until("SELECT pg_postmaster_start_time() < now() - interval '2 seconds'")
                .await;
            world.execute(sql).await;
            (sql, None)
        }
        Session(sql, waited) => {
            let options = (*world.pool.connect_options()).clone();
            let mut session = PgConnection::connect_with(&options).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(&mut session)
                .await
                .unwrap();
            world.until(waited).await;
            (sql, Some(session))
        }
    };
    let findings = world.verify(&impatient(&world)).await;
    if let Some(session) = session {
        session.close().await.unwrap();
        assert_eq!(broken(&world.verify(&impatient(&world)).await), []);
    }
    let broken = broken(&findings);
    (broken != [invariant]).then(|| format!("{invariant:?} by {what}: {broken:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_planted_violation_breaks_exactly_the_invariant_that_is_about_it() {
    // A few at a time: each has a world of its own.
    let lane = async |lane: usize| {
        let mut faults = Vec::new();
        for invariant in Invariant::ALL.into_iter().skip(lane).step_by(4) {
            let plantings = plantings(invariant);
            assert!(!plantings.is_empty(), "{invariant:?}");
            for planting in plantings {
                faults.extend(fault(invariant, planting).await);
            }
        }
        faults
    };
    let (one, two, three, four) = tokio::join!(lane(0), lane(1), lane(2), lane(3));
    let faults = [one, two, three, four].concat();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producers_open_transaction_and_other_programs_are_none_of_our_business() {
    let world = one_of_each().await;
    for sql in [
        "BEGIN; SELECT pg_advisory_xact_lock(7305801, 1)",
        "SET application_name = 'billing'; BEGIN; SELECT feather.enqueue(gen_random_uuid())",
    ] {
        let options = (*world.pool.connect_options()).clone();
        let mut session = PgConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut session)
            .await
            .unwrap();
        world.until(IDLE).await;
        assert_eq!(broken(&world.verify(&impatient(&world)).await), []);
        session.close().await.unwrap();
    }
}

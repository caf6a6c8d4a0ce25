//! A request that comes while there is nothing else to do is begun by one statement; whatever is not plain is not.

use crate::claiming::claim_of_one;
use crate::world::World;
use crate::world::ids;
use feather_sync::domain::AccountName;
use feather_sync::domain::Budget;
use feather_sync::domain::Job;
use feather_sync::sim::Fault;
use feather_sync::store::Claim;
use feather_sync::store::Db;
use feather_sync::store::Lone;
use feather_sync::store::LoneRequest;
use feather_sync::store::Look;
use std::time::Duration;
use std::time::Instant;

async fn begin(db: &Db, account: &str, budget: Budget) -> Option<Lone> {
    let accounts = [
        (AccountName::from("another"), Budget::per_minute(60)),
        (AccountName::from(account), budget),
    ];
    let asked = LoneRequest {
        accounts: &accounts,
        lease: Duration::from_secs(90),
        worker: "a test",
    };
    db.begin_lone(&asked).await.unwrap()
}

fn plenty() -> Budget {
    Budget::per_minute(60_000_000)
}

/// The rows that beginning a request changes.
const ROWS: &str = "SELECT concat((SELECT jsonb_agg(r ORDER BY id) FROM feather.sync_requests r),
                                  (SELECT jsonb_agg(j ORDER BY connection_id) FROM feather.sync_jobs j),
                                  (SELECT jsonb_agg(a ORDER BY account) FROM feather.sync_accounts a))";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_alone_is_leased_as_it_is_taken_in() {
    let mut world = World::new().await;
    // A poll that comes before the wake-up is heard takes in and claims.
    world.set("FEATHER_SYNC__WORKER__POLL_INTERVAL", "5s");
    world
        .execute(
            "CREATE TABLE public.made (state text);
             GRANT ALL ON TABLE public.made TO PUBLIC;
             CREATE FUNCTION public.note_state() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 INSERT INTO public.made VALUES (NEW.state);
                 RETURN NULL;
             END $$;
             CREATE TRIGGER note_state AFTER INSERT ON feather.sync_jobs FOR EACH ROW EXECUTE FUNCTION public.note_state()",
        )
        .await;
    let replica = world.start();
    let ids = ids(20);
    let mut asked = 0_u32;
    while !world
        .value::<bool>("SELECT EXISTS (SELECT FROM public.made WHERE state = 'running')")
        .await
    {
        // A look holds ten times as long as it took.
        tokio::time::sleep(Duration::from_millis(150) * asked).await;
        let Some(&id) = ids.get(asked as usize) else {
            panic!("none of {asked} requests was leased as it was taken in");
        };
        world.enqueue(&[id]).await;
        asked += 1;
        world
            .until(&format!(
                "SELECT EXISTS (SELECT FROM feather.connections WHERE id = '{id}')"
            ))
            .await;
    }
    replica.stop().await;
    for id in &ids[..asked as usize] {
        assert_eq!(world.story(*id).await, ["synced"]);
    }
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_what_a_take_in_and_a_claim_make_of_it() {
    let mut world = World::new().await;
    world.leave_broken();
    let db = world.db();
    let name = AccountName::from("default");
    world
        .execute("UPDATE feather.sync_accounts SET requests_per_minute = 60000000, tokens = 100")
        .await;
    let request = "INSERT INTO feather.sync_requests (connection_id, priority, run_at, requested_at)
                   VALUES (gen_random_uuid(), -7, now() - interval '1 minute', now() - interval '2 minutes')";
    let row = "SELECT (to_jsonb(j) - ARRAY['connection_id', 'lease_token', 'run_at', 'wanted_at', 'lease_until', 'started_at', 'finalize_started_at']
                       || jsonb_build_object('run_at', floor(EXTRACT(epoch FROM now() - run_at) / 20), 'wanted_at', floor(EXTRACT(epoch FROM now() - wanted_at) / 20),
                                             'lease', EXTRACT(epoch FROM lease_until - started_at), 'finalize', finalize_started_at = started_at))::text
               FROM feather.sync_jobs j";
    world.execute(request).await;
    let look = Look {
        limit: 10,
        from: None,
        running: &[],
    };
    assert_eq!(db.take_in(&look).await.unwrap().requests, 1);
    let Claim::Jobs { mut jobs, .. } = db.claim(&claim_of_one(&name)).await.unwrap() else {
        panic!("nothing is due")
    };
    let claimed = jobs.remove(0);
    let claimed_row: String = world.value(row).await;
    world.execute("DELETE FROM feather.sync_jobs").await;

    world.execute(request).await;
    let tokens =
        "UPDATE feather.sync_accounts SET tokens = 5, tokens_at = clock_timestamp() RETURNING 1";
    let _: i32 = world.value(tokens).await;
    let three = Budget {
        rate: 0.0,
        burst: 3.0,
        limit: 60_000_000.0,
    };
    let Some(Lone { job: begun, next }) = begin(&db, "default", three).await else {
        panic!("nothing was begun")
    };
    assert_eq!(world.value::<String>(row).await, claimed_row);
    assert_eq!(same(&begun), same(&claimed));
    let (left, first_unseen): (f64, i64) = world
        .row("SELECT tokens, (SELECT nextval(pg_get_serial_sequence('feather.sync_requests', 'id'))) FROM feather.sync_accounts")
        .await;
    assert_eq!((left, next), (2.0, first_unseen));
    let requests: i64 = world
        .value("SELECT count(*) FROM feather.sync_requests")
        .await;
    assert_eq!(requests, 0);
    db.close().await;
}

/// What two jobs have in common that were begun alike.
fn same(job: &Job) -> String {
    let mut job = job.clone();
    assert_eq!(job.finalize_started_at, job.started_at);
    assert!(job.wanted_at < job.started_at);
    job.connection_id = uuid::Uuid::nil();
    job.lease_token = uuid::Uuid::nil();
    job.started_at = chrono::DateTime::UNIX_EPOCH;
    job.finalize_started_at = chrono::DateTime::UNIX_EPOCH;
    job.wanted_at = chrono::DateTime::UNIX_EPOCH;
    format!("{job:?}")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_plain_is_left_as_it_is() {
    let mut world = World::new().await;
    world.leave_broken();
    let db = world.db();
    let cases = [
        ("another request", "INSERT INTO feather.sync_requests (connection_id) VALUES (gen_random_uuid())"),
        ("nothing", "TRUNCATE feather.sync_requests"),
        ("not due", "UPDATE feather.sync_requests SET run_at = now() + interval '1 minute'"),
        ("somebody else's", "UPDATE feather.sync_requests SET account = 'nobody'"),
        ("an account that is not known", "DELETE FROM feather.sync_accounts"),
        ("a job that waits", "INSERT INTO feather.sync_jobs (connection_id, account, priority, run_at, wanted_at)
                              SELECT connection_id, account, 0, now(), now() FROM feather.sync_requests"),
        ("a job that is worked on", "INSERT INTO feather.sync_jobs (connection_id, account, priority, run_at, wanted_at, state, attempt,
                                                                    worker, lease_token, lease_until, started_at)
                                     SELECT connection_id, account, 0, now(), now(), 'running', 1, 'another', gen_random_uuid(), now(), now()
                                     FROM feather.sync_requests"),
        ("a dead job", "INSERT INTO feather.sync_jobs (connection_id, account, priority, run_at, wanted_at, state, error_class)
                        SELECT connection_id, account, 0, now(), now(), 'dead', 'not_found' FROM feather.sync_requests"),
        ("paused by an operator", "UPDATE feather.sync_accounts SET operator_paused_at = now(), operator_paused_by = 'alice'"),
        ("refused", "UPDATE feather.sync_accounts SET pause_reason = 'auth', paused_until = now() - interval '1 minute'"),
        ("asked to wait", "UPDATE feather.sync_accounts SET pause_reason = 'rate_limited', paused_until = now() + interval '1 minute'"),
        ("no token", "UPDATE feather.sync_accounts SET tokens = 0.9, tokens_at = clock_timestamp() + interval '1 minute'"),
    ];
    for (what, sql) in cases {
        world
            .execute(
                "TRUNCATE feather.sync_requests, feather.sync_jobs, feather.sync_accounts;
                 INSERT INTO feather.sync_accounts (account, requests_per_minute, tokens, tokens_at) VALUES ('default', 60000000, 5, now());
                 INSERT INTO feather.sync_requests (connection_id) VALUES (gen_random_uuid())",
            )
            .await;
        world.execute(sql).await;
        let before: String = world.value(ROWS).await;
        let lone = begin(&db, "default", plenty()).await;
        assert!(lone.is_none(), "{what}: {lone:?}");
        assert_eq!(world.value::<String>(ROWS).await, before, "{what}");
    }
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_ask_each_request_is_begun_once_and_the_bucket_gives_what_it_holds() {
    let mut world = World::new().await;
    world.leave_broken();
    let db = world.db();
    world
        .execute("UPDATE feather.sync_accounts SET requests_per_minute = 60000000, tokens = 4")
        .await;
    let four = Budget {
        rate: 0.0,
        burst: 4.0,
        limit: 60_000_000.0,
    };
    let mut begun = Vec::new();
    for id in ids(7) {
        world.execute("TRUNCATE feather.sync_requests").await;
        world.enqueue(&[id]).await;
        let all = (0..4).map(|_| begin(&db, "default", four));
        let lone = futures_util::future::join_all(all).await;
        begun.extend(
            lone.into_iter()
                .flatten()
                .map(|lone| lone.job.connection_id),
        );
    }
    assert_eq!(begun, ids(7)[..4]);
    let tokens: f64 = world
        .value("SELECT tokens FROM feather.sync_accounts")
        .await;
    assert_eq!(tokens, 0.0);
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_waited_for() {
    let mut world = World::new().await;
    world.leave_broken();
    let db = world.db();
    world.enqueue(&ids(1)).await;
    for (who, sql) in [
        (
            "who takes in, cancels or forgets",
            "SELECT pg_advisory_xact_lock(7305801, 2)",
        ),
        ("who claims", "SELECT FROM feather.sync_accounts FOR UPDATE"),
        (
            "who holds the request",
            "SELECT FROM feather.sync_requests FOR UPDATE",
        ),
        (
            "who stores what a list says",
            "INSERT INTO feather.sync_jobs (connection_id, account, priority, run_at, wanted_at)
             SELECT connection_id, account, 0, now(), now() FROM feather.sync_requests",
        ),
    ] {
        let mut somebody = world.pool.begin().await.unwrap();
        sqlx::query(sql).execute(&mut *somebody).await.unwrap();
        let asking = begin(&db, "default", plenty());
        let lone = tokio::time::timeout(Duration::from_secs(5), asking).await;
        assert!(matches!(lone, Ok(None)), "{who}: {lone:?}");
        somebody.rollback().await.unwrap();
    }
    assert!(begin(&db, "default", plenty()).await.is_some());
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_retried_is_done_at_once_by_a_replica_at_rest() {
    let mut world = World::new().await;
    world.set("FEATHER_SYNC__WORKER__POLL_INTERVAL", "60s");
    let ids = ids(2);
    world.sim.script(ids[1], [Fault::status(404)]);
    let replica = world.start();
    for id in &ids {
        world.enqueue(&[*id]).await;
        world
            .until(&format!(
                "SELECT last_outcome IN ('synced', 'dead') FROM feather.sync_status WHERE connection_id = '{id}'"
            ))
            .await;
    }
    let db = world.db();
    let asked = Instant::now();
    assert_eq!(db.retry(&ids[1..2], "alice").await.unwrap(), ids[1..2]);
    world
        .until(&format!(
            "SELECT last_outcome = 'synced' FROM feather.sync_status WHERE connection_id = '{}'",
            ids[1]
        ))
        .await;
    assert!(asked.elapsed() < Duration::from_secs(40));
    replica.stop().await;
    assert_eq!(world.story(ids[1]).await, ["dead/not_found", "synced"]);
    world.check().await;
}

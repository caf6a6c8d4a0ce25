//! SIGTERM at failpoints, with an API that hangs, and with a database that is gone.

use crate::killed::Process;
use crate::killed::books::Books;
use crate::killed::books::Overlap;
use crate::killed::short_leases;
use crate::proxy::Proxy;
use crate::proxy::Target;
use crate::proxy::Traffic;
use crate::world::World;
use crate::world::ids;
use feather_sync::failpoint::Point;
use feather_sync::local_postgres::LocalPostgres;
use std::time::Duration;
use std::time::Instant;

/// The grace is four seconds, and a process takes a moment to end, too. What would hold it up takes longer.
const AT_MOST: Duration = Duration::from_secs(15);

macro_rules! terminated {
    ($($name:ident: $point:ident,)+) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                tokio::join!(nothing_is_burned(Point::$point, 1), nothing_is_burned(Point::$point, 3));
            }
        )+
    };
}

terminated! {
    sigterm_after_a_take_in_burns_nothing: TakenIn,
    sigterm_before_a_claim_burns_nothing: BeforeClaim,
    sigterm_after_a_claim_burns_nothing: Claimed,
    sigterm_before_a_call_is_sent_burns_nothing: BeforeSend,
    sigterm_with_the_head_of_an_answer_burns_nothing: Head,
    sigterm_with_a_whole_answer_burns_nothing: Answered,
    sigterm_with_a_gathered_batch_burns_nothing: Gathered,
    sigterm_between_connections_and_tools_burns_nothing: ConnectionsWritten,
    sigterm_before_commit_burns_nothing: BeforeCommit,
    sigterm_after_commit_burns_nothing: Committed,
}

/// No lease is held, and what the jobs count are attempts that failed by themselves.
const BURNED: &str = "SELECT count(*) FROM feather.sync_jobs j
    WHERE state = 'running' OR attempt > (SELECT count(*) FROM feather.sync_attempts a
                                          WHERE a.connection_id = j.connection_id AND outcome IN ('retry', 'dead'))";

async fn nothing_is_burned(point: Point, nth: usize) {
    let mut books = Books::open().await;
    books
        .world
        .set("FEATHER_SYNC__WORKER__SHUTDOWN_GRACE", "4s")
        .set("FEATHER_SYNC__WORKER__LEASE", "60s");
    let world = &books.world;
    let mut process = Process::armed(world, &format!("{}:{nth}:term", point.as_str()));
    let words = format!("failpoint {}: term", point.as_str());
    books.while_asking(process.until_log(&words)).await;
    ends_in_time(&mut process).await;
    assert_eq!(world.value::<i64>(BURNED).await, 0);

    let restarted = Process::start(world);
    let asked_last = books.ask_again(&restarted).await;
    books.done().await;
    restarted.terminate().await;
    books.check(&asked_last, Overlap::Never).await;
    // Nobody was killed, so each call is recorded, once.
    world.check().await;
    let crashed: i64 = world
        .value("SELECT count(*) FROM feather.sync_attempts WHERE outcome = 'crashed'")
        .await;
    assert_eq!(crashed, 0);
}

/// With exit code 0 within the grace.
async fn ends_in_time(process: &mut Process) {
    let began = Instant::now();
    let status = process.ended().await;
    let took = began.elapsed();
    assert_eq!(status.code(), Some(0), "{status}\n{}", process.log());
    assert!(took < AT_MOST, "{took:?}\n{}", process.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_while_the_api_hangs_ends_within_the_grace_and_puts_the_calls_on_record() {
    let mut world = World::new().await;
    world
        .set("FEATHER_SYNC__WORKER__SHUTDOWN_GRACE", "4s")
        .set("FEATHER_SYNC__WORKER__LEASE", "120s")
        .set("FEATHER_SYNC__API__REQUEST_TIMEOUT", "80s");
    let gate = world.sim.hold();
    world.enqueue(&ids(8)).await;
    let mut process = Process::start(&world);
    world.called(8).await;
    let stopped: String = world.value("SELECT clock_timestamp()::text").await;
    process.signal("TERM");
    ends_in_time(&mut process).await;
    assert_eq!(world.value::<i64>(BURNED).await, 0);
    let deferred: (i64, i64) = world
        .row("SELECT count(*) FILTER (WHERE outcome = 'deferred'), count(*) FROM feather.sync_attempts")
        .await;
    assert_eq!(deferred, (8, 8));
    // Not at once: they had half of the grace, on a clock that is off by what their claim took.
    let early: i64 = world
        .value(&format!(
            "SELECT count(*) FROM feather.sync_attempts WHERE finished_at < '{stopped}'::timestamptz + interval '1 second'"
        ))
        .await;
    assert_eq!(early, 0);
    gate.release();
    world.drain().await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_abandons_the_calls_at_once() {
    let mut world = World::new().await;
    world.set("FEATHER_SYNC__WORKER__SHUTDOWN_GRACE", "10m");
    world.set("FEATHER_SYNC__API__REQUEST_TIMEOUT", "80s");
    let gate = world.sim.hold();
    world.enqueue(&ids(3)).await;
    let mut process = Process::start(&world);
    world.called(3).await;
    process.signal("TERM");
    process.until_log("stopping: no new work is begun").await;
    process.signal("TERM");
    ends_in_time(&mut process).await;
    assert_eq!(world.value::<i64>(BURNED).await, 0);
    drop(gate);
    world.drain().await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_while_the_database_is_gone_ends_within_the_grace_and_leaves_the_rest_to_leases() {
    without_a_database(Traffic::Refuse).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_while_the_database_is_silent_ends_within_the_grace_and_leaves_the_rest_to_leases()
{
    without_a_database(Traffic::Silent).await;
}

async fn without_a_database(trouble: Traffic) {
    let mut books = Books::open().await;
    let cluster = LocalPostgres::shared().unwrap();
    let socket = cluster.socket_dir().join(".s.PGSQL.5432");
    let proxy = Proxy::start(Target::Unix(socket)).await.unwrap();
    let direct = books.world.env()["DATABASE_URL"].clone();
    let database: String = books.world.value("SELECT current_database()::text").await;
    let url = format!(
        "postgres://postgres@{}/{database}?sslmode=disable",
        proxy.address()
    );
    books.world.set("DATABASE_URL", &url);
    books
        .world
        .set("FEATHER_SYNC__WORKER__SHUTDOWN_GRACE", "4s");
    let gate = books.world.sim.hold();
    let mut process = Process::start(&books.world);
    books.world.called(12).await;
    proxy.set(trouble);
    if trouble == Traffic::Refuse {
        proxy.cut();
    }
    gate.release();
    process.signal("TERM");
    ends_in_time(&mut process).await;

    // What was held back never arrives.
    proxy.cut();
    books.world.set("DATABASE_URL", &direct);
    short_leases(&mut books.world);
    let world = &books.world;
    let restarted = Process::start(world);
    let asked_last = books.ask_again(&restarted).await;
    books.done().await;
    restarted.terminate().await;
    books.check(&asked_last, Overlap::Never).await;
}

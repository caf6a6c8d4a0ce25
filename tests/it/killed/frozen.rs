//! SIGSTOP at a failpoint until the lease is over and another replica has done the work, then SIGCONT.

use crate::killed::Process;
use crate::killed::books::Books;
use crate::killed::books::Overlap;
use crate::killed::short_leases;
use crate::world::World;
use crate::world::ids;
use feather_sync::failpoint::Point;
use feather_sync::sim::Fault;
use feather_sync::sim::FaultRule;
use feather_sync::sim::StatusFault;

/// All that is stored of connections and of what was done, in one word.
const STORED: &str = "SELECT md5(concat(
    (SELECT string_agg(c::text, '' ORDER BY id) FROM feather.integration_connections c),
    (SELECT string_agg(t::text, '' ORDER BY connection_id, id) FROM feather.integration_connection_tools t),
    (SELECT string_agg(a::text, '' ORDER BY id) FROM feather.sync_attempts a),
    (SELECT string_agg(r::text, '' ORDER BY connection_id) FROM feather.sync_results r),
    (SELECT string_agg(t::text, '' ORDER BY t) FROM feather.sync_throughput t),
    (SELECT string_agg(j::text, '' ORDER BY connection_id) FROM feather.sync_jobs j)))";

#[tokio::test(flavor = "multi_thread")]
async fn frozen_after_a_claim_it_makes_no_call_and_gives_back_what_is_no_longer_its_own() {
    fenced(Point::Claimed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_before_a_call_is_sent_it_does_not_write_the_late_answer() {
    fenced(Point::BeforeSend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_with_the_head_of_an_answer_it_does_not_write_the_answer() {
    fenced(Point::Head).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_with_a_whole_answer_it_does_not_write_it() {
    fenced(Point::Answered).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_with_its_jobs_locked_it_blocks_nobody_for_long_and_writes_nothing() {
    fenced(Point::Locked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_between_connections_and_tools_it_blocks_nobody_for_long_and_writes_neither() {
    fenced(Point::ConnectionsWritten).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_before_commit_it_blocks_nobody_for_long_and_commits_nothing() {
    fenced(Point::BeforeCommit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_after_commit_it_records_nothing_twice() {
    fenced(Point::Committed).await;
}

async fn fenced(point: Point) {
    let mut books = Books::open().await;
    let frozen = Process::armed(&books.world, &format!("{}:2:stop", point.as_str()));
    books.while_asking(frozen.stopped_at(point)).await;
    books
        .world
        .set("FEATHER_SYNC__WORKER__LEASE", "60s")
        .set("FEATHER_SYNC__API__REQUEST_TIMEOUT", "50s");
    let world = &books.world;
    let other = Process::start(world);
    let asked_last = books.ask_again(&other).await;
    books.done().await;
    let taken_over: i64 = world
        .value("SELECT count(*) FROM feather.sync_attempts WHERE outcome = 'crashed'")
        .await;
    // The same connections again, under leases of the other: they must not be ended by the late one.
    let gate = world.sim.hold();
    world.enqueue(&books.ids[1..]).await;
    world
        .until("SELECT count(*) = 11 FROM feather.sync_jobs WHERE state = 'running'")
        .await;
    let before: String = world.value(STORED).await;
    frozen.signal("CONT");
    match point {
        Point::BeforeSend
        | Point::Head
        | Point::Answered
        | Point::Gathered
        | Point::Locked
        | Point::ConnectionsWritten
        | Point::ChangesWritten
        | Point::BeforeCommit => {
            assert!(taken_over > 0);
            frozen
                .until_log("was lost; its answer is not written")
                .await;
        }
        Point::Claimed => assert!(taken_over > 0),
        // All is written down, or nobody is frozen there.
        Point::Committed
        | Point::TakenIn
        | Point::BeforeClaim
        | Point::Releasing
        | Point::Released
        | Point::Expiring
        | Point::Expired
        | Point::Stopping
        | Point::Drained => {}
    }
    frozen.terminate().await;
    assert_eq!(world.value::<String>(STORED).await, before);

    gate.release();
    books.done().await;
    other.terminate().await;
    books.check(&asked_last, Overlap::AcrossALostLease).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_frozen_with_an_accounts_probe_does_not_hand_back_the_probe_of_another()
{
    let mut world = World::new().await;
    short_leases(&mut world);
    let refused = Fault::Status(StatusFault {
        code: 429,
        retry_after: Some(1),
        ..StatusFault::default()
    });
    world.sim.set_faults(vec![FaultRule {
        times: Some(1),
        ids: vec![ids(1)[0]],
        ..FaultRule::new(refused)
    }]);
    world.enqueue(&ids(1)).await;
    let frozen = Process::armed(&world, "claimed:2:stop");
    frozen.stopped_at(Point::Claimed).await;
    world.enqueue(&ids(5)).await;
    let gate = world.sim.hold();
    world.set("FEATHER_SYNC__WORKER__LEASE", "60s");
    world.set("FEATHER_SYNC__API__REQUEST_TIMEOUT", "50s");
    let other = Process::start(&world);
    // The refused call, then the other replica's probe.
    world.called(2).await;
    let probe =
        "SELECT paused_until::text FROM feather.sync_accounts WHERE pause_reason = 'rate_limited'";
    let before: String = world.value(probe).await;
    frozen.signal("CONT");
    frozen.terminate().await;
    assert_eq!(world.value::<String>(probe).await, before);
    assert_eq!(world.sim.calls().len(), 2, "one probe at a time");
    gate.release();
    world
        .until("SELECT count(*) = 5 FROM feather.connections")
        .await;
    other.terminate().await;
}

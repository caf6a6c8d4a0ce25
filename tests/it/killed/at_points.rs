//! SIGKILL at every failpoint, of the only replica and of one of two.

use crate::killed::Process;
use crate::killed::books::Books;
use crate::killed::books::Overlap;
use feather_sync::failpoint::Point;
use std::time::Duration;

macro_rules! killed {
    ($($name:ident: $point:ident,)+) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                tokio::join!(nothing_is_lost(Point::$point, 1), nothing_is_lost(Point::$point, 2));
            }
        )+

        #[test]
        fn a_process_is_killed_at_every_point() {
            assert_eq!([$(Point::$point),+], Point::ALL);
        }
    };
}

killed! {
    killed_after_a_take_in: TakenIn,
    killed_before_a_claim: BeforeClaim,
    killed_after_a_claim_which_commits_the_attempt: Claimed,
    killed_before_a_call_is_sent: BeforeSend,
    killed_with_the_head_of_an_answer: Head,
    killed_with_a_whole_answer: Answered,
    killed_with_a_gathered_batch: Gathered,
    killed_with_its_jobs_locked: Locked,
    killed_between_connections_and_tools: ConnectionsWritten,
    killed_between_changes_and_the_history: ChangesWritten,
    killed_before_commit: BeforeCommit,
    killed_after_commit: Committed,
    killed_before_leases_are_given_back: Releasing,
    killed_after_leases_were_given_back: Released,
    killed_before_lost_leases_are_recorded: Expiring,
    killed_after_lost_leases_were_recorded: Expired,
    killed_while_a_stop_drains: Stopping,
    killed_after_a_stop_has_drained: Drained,
}

/// What leads a process to the point and has it killed there.
fn order(point: Point, nth: usize) -> String {
    let name = point.as_str();
    match point {
        // A stalled process gives its leases back.
        Point::Releasing | Point::Released => format!("claimed:{nth}:stop,{name}:1:kill"),
        Point::Stopping | Point::Drained => format!("answered:{nth}:term,{name}:1:kill"),
        Point::TakenIn
        | Point::BeforeClaim
        | Point::Claimed
        | Point::BeforeSend
        | Point::Head
        | Point::Answered
        | Point::Gathered
        | Point::Locked
        | Point::ConnectionsWritten
        | Point::ChangesWritten
        | Point::BeforeCommit
        | Point::Committed => format!("{name}:{nth}:kill"),
        Point::Expiring | Point::Expired => format!("{name}:1:kill"),
    }
}

async fn nothing_is_lost(point: Point, replicas: usize) {
    let books = Books::open().await;
    let world = &books.world;
    let mut overlap = Overlap::Never;
    let orphans = matches!(point, Point::Expiring | Point::Expired);
    if orphans {
        let lost = Process::start(world);
        world
            .until("SELECT count(*) > 0 FROM feather.sync_jobs WHERE state = 'running'")
            .await;
        drop(lost);
    }
    let healthy = (replicas > 1).then(|| Process::start(world));
    if healthy.is_some() {
        world
            .until("SELECT count(*) > 0 FROM feather.sync_replicas")
            .await;
    }
    let mut armed = Process::armed(world, &order(point, 2 * replicas - 1));
    if matches!(point, Point::Releasing | Point::Released) {
        books.while_asking(armed.stopped_at(Point::Claimed)).await;
        // A claim that is older than this is not acted upon.
        world
            .until(&format!(
                "SELECT NOT EXISTS (SELECT FROM feather.sync_jobs WHERE {} AND started_at > now() - interval '300 ms')",
                armed.holds()
            ))
            .await;
        armed.signal("CONT");
    }
    let killed = armed.killed_at(point);
    if orphans && replicas > 1 {
        // Whoever looks first finds them, so there are always some.
        overlap = Overlap::AcrossALostLease;
        let aging = async {
            loop {
                world
                    .execute("UPDATE feather.sync_jobs SET lease_until = now() - interval '1 s' WHERE state = 'running'")
                    .await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = books.while_asking(killed) => {}
            () = aging => unreachable!("it ages for ever"),
        }
    } else {
        books.while_asking(killed).await;
    }

    if replicas == 1 && is_in_a_commit(point) {
        // All or nothing: of what is still leased nothing is written.
        let half: i64 = world
            .value(
                "SELECT count(*) FROM feather.sync_jobs j
                 JOIN feather.integration_connections c ON c.id = j.connection_id
                 WHERE j.state = 'running' AND c._synced_at > j.started_at",
            )
            .await;
        assert_eq!(half, 0);
    }
    let restarted = Process::start(world);
    let asked_last = books.ask_again(&restarted).await;
    books.done().await;
    for process in [Some(restarted), healthy].into_iter().flatten() {
        process.terminate().await;
    }
    books.check(&asked_last, overlap).await;
    let crashed: i64 = world
        .value("SELECT count(*) FROM feather.sync_attempts WHERE outcome = 'crashed'")
        .await;
    assert!(crashed > 0 || !leaves_orphans(point));
}

fn is_in_a_commit(point: Point) -> bool {
    matches!(
        point,
        Point::Gathered
            | Point::Locked
            | Point::ConnectionsWritten
            | Point::ChangesWritten
            | Point::BeforeCommit
    )
}

/// Whether jobs are leased whenever a process dies there.
fn leaves_orphans(point: Point) -> bool {
    !matches!(
        point,
        Point::TakenIn
            | Point::BeforeClaim
            | Point::Committed
            | Point::Released
            | Point::Stopping
            | Point::Drained
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_cannot_be_understood_ends_the_process_with_what_would_be_one() {
    let books = Books::open().await;
    let mut process = Process::armed(&books.world, "claimed:3:kil");
    assert_eq!(process.ended().await.code(), Some(2));
    let log = process.log();
    assert!(
        log.contains("`claimed:3:kil` is not POINT:NTH:ACTION"),
        "{log}"
    );
}

//! A part of the program that fails, which nothing expects.

use crate::killed::Process;
use crate::killed::books::Books;
use crate::killed::books::Overlap;
use feather_sync::failpoint::Point;

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_task_panics_is_made_again_after_its_lease_and_its_slot_is_free() {
    let mut books = Books::open().await;
    books.world.set("FEATHER_SYNC__WORKER__CONCURRENCY", "1");
    let world = &books.world;
    let process = Process::armed(world, "before-send:2:panic");
    let asked_last = books.ask_again(&process).await;
    process.until_log("failpoint before-send: panic").await;
    books.done().await;
    process.terminate().await;
    books.check(&asked_last, Overlap::Never).await;
    let crashed: i64 = world
        .value("SELECT count(*) FROM feather.sync_attempts WHERE outcome = 'crashed'")
        .await;
    assert!(crashed > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_that_panics_ends_the_process_which_starts_anew() {
    tokio::join!(
        starts_anew(Point::TakenIn, 1),
        starts_anew(Point::Claimed, 2),
        starts_anew(Point::Gathered, 2),
        starts_anew(Point::BeforeCommit, 2),
        starts_anew(Point::Committed, 2),
    );
}

async fn starts_anew(point: Point, nth: usize) {
    let books = Books::open().await;
    let world = &books.world;
    let mut process = Process::armed(world, &format!("{}:{nth}:panic", point.as_str()));
    let status = books.while_asking(process.ended()).await;
    assert_eq!(status.code(), Some(1), "{}", process.log());
    let restarted = Process::start(world);
    let asked_last = books.ask_again(&restarted).await;
    books.done().await;
    restarted.terminate().await;
    books.check(&asked_last, Overlap::Never).await;
}

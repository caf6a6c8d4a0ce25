//! Killed amid a refresh: it is made again, and nobody finalizes for it.

use crate::killed::Process;
use crate::killed::short_leases;
use crate::refreshing::NOTHING_LEFT;
use crate::refreshing::synced_a_day_ago;
use feather_sync::failpoint::Point;

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_survives_the_death_of_its_process_wherever_that_is() {
    for point in [
        Point::Claimed,
        Point::Answered,
        Point::ChangesWritten,
        Point::Committed,
    ] {
        let (mut world, ids) = synced_a_day_ago(2).await;
        short_leases(&mut world);
        let mut killed = Process::armed(&world, &format!("{}:1:kill", point.as_str()));
        killed.killed_at(point).await;
        let other = Process::start(&world);
        // It may have nothing to do, and only then heeds a signal.
        other.until_log("is working").await;
        world
            .until("(SELECT count(DISTINCT connection_id) FROM feather.sync_attempts WHERE kind = 'reconcile' AND outcome <> 'crashed') = 2")
            .await;
        world.until(NOTHING_LEFT).await;
        other.terminate().await;
        for id in ids {
            assert_eq!(world.finalizes(id), 1, "{point:?}");
            world.equals_truth(id).await.unwrap();
            let unrecorded: i64 = world
                .value(&format!(
                    "SELECT {} - count(*) FROM feather.sync_attempts WHERE connection_id = '{id}'",
                    world.sim.calls_for(id).len()
                ))
                .await;
            assert!(unrecorded <= 0, "{point:?}: {unrecorded} calls");
        }
    }
}

//! Lets a lane of the schedule go wrong.

use crate::producer;
use crate::producer::Deed;
use crate::proxy::COMMIT;
use crate::proxy::Moment;
use crate::proxy::Proxy;
use crate::proxy::Traffic;
use crate::replica;
use crate::schedule::ACCOUNTS;
use crate::schedule::Event;
use crate::schedule::Fault;
use crate::schedule::Lane;
use crate::schedule::Net;
use crate::schedule::dice;
use crate::stage::Stage;
use crate::stage::connection;
use feather_sync::local_postgres::Shutdown;
use serde_json::json;
use sqlx::Connection;
use sqlx::Executor;
use sqlx::PgConnection;
use std::fs;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::sleep_until;

/// One in so many connections that are deleted upstream is not brought back.
const GONE: usize = 4;

pub(crate) async fn play(stage: Arc<Stage>, lane: Lane, started: Instant) {
    for event in lane {
        sleep_until(started + event.at).await;
        if matches!(event.fault, Fault::DiskFull) && stage.disk.is_none() {
            stage.report.skip("disk full");
            continue;
        }
        if let Fault::ClockStepped { replica, .. } = event.fault
            && stage.replicas[replica].clock.is_none()
        {
            stage.report.skip("clock stepped");
            continue;
        }
        stage.report.fault(event.fault.kind());
        stage.report.say(&event.fault);
        inflict(&stage, &event).await;
    }
}

async fn inflict(stage: &Arc<Stage>, event: &Event) {
    let lasts = event.lasts;
    match &event.fault {
        Fault::Killed { replica } => {
            stage.replicas[*replica].kill();
            sleep(lasts).await;
            stage.replicas[*replica].start();
        }
        Fault::Frozen { replica } => {
            stage.replicas[*replica].signal("STOP");
            sleep(lasts).await;
            stage.replicas[*replica].signal("CONT");
        }
        Fault::Terminated { replica } => {
            if let Err(what) = stage.replicas[*replica].terminate().await {
                stage.report.wrong(what);
            }
            sleep(lasts).await;
            stage.replicas[*replica].start();
        }
        Fault::ClockStepped { replica, seconds } => {
            let clock = stage.replicas[*replica].clock.as_ref().unwrap();
            fs::write(clock, format!("{seconds:+}")).unwrap();
            sleep(lasts).await;
            fs::write(clock, "+0").unwrap();
        }
        Fault::PostgresKilled => restart(stage, Shutdown::Immediate, Duration::ZERO).await,
        Fault::PostgresRestarted => restart(stage, Shutdown::Fast, Duration::ZERO).await,
        Fault::PostgresDown => restart(stage, Shutdown::Fast, lasts).await,
        Fault::BackendKilled => kill_backend(stage).await,
        Fault::BackendsTerminated => {
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                       WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND random() < 0.8";
            let _ = stage.pool.execute(sql).await;
        }
        Fault::DiskFull => {
            let filler = stage.disk.as_ref().unwrap().join("filler");
            let filled = fill(&filler);
            stage.report.say(format!("  {} MiB filled", filled >> 20));
            sleep(lasts).await;
            fs::remove_file(filler).unwrap();
            stage.revive_postgres().await;
        }
        Fault::SnapshotHeld => {
            let _ = hold_snapshot(stage, lasts).await;
        }
        Fault::ProducerStalled => {
            let mut dice = dice(stage.seed, u64::from(event.at.subsec_nanos()));
            let deed = Deed::stalled(&mut dice, stage, lasts);
            let _ = producer::act(stage, &mut None, &deed).await;
        }
        Fault::DatabaseNet { replica, how } => {
            let proxy = &stage.replicas[*replica].database;
            net(proxy, *how, lasts).await;
            // What was held back arrives late, as after a partition.
            proxy.set(Traffic::Pass);
        }
        Fault::CommitLost { replica, times } => {
            trap(
                &stage.replicas[*replica].database,
                Moment::BeforeServer,
                *times,
                lasts,
            )
            .await;
        }
        Fault::CommitUnknown { replica, times } => {
            trap(
                &stage.replicas[*replica].database,
                Moment::BeforeAnswer,
                *times,
                lasts,
            )
            .await;
        }
        Fault::ApiNet {
            replica,
            account,
            how,
        } => {
            let proxy = &stage.replicas[*replica].apis[*account];
            net(proxy, *how, lasts).await;
            if *how == Net::Silent {
                // What was held back is lost: calls that arrive long after they were sent are in no budget.
                proxy.cut();
            }
            proxy.set(Traffic::Pass);
        }
        Fault::ApiAnswers { account, rules } => {
            stage.sims[*account].set_faults(rules.clone());
            sleep(lasts).await;
            stage.sims[*account].set_faults(Vec::new());
        }
        Fault::KeyRevoked { account } => {
            stage.sims[*account].set_keys(Some(Vec::new()));
            sleep(lasts).await;
            stage.write_key(*account);
        }
        Fault::KeyRotated { account } => {
            let key = format!(
                "fth_live_chaos_{}_{}",
                ACCOUNTS[*account],
                event.at.as_millis()
            );
            stage.sims[*account].set_keys(Some(vec![key.clone()]));
            stage.secrets.lock().unwrap().push(key.clone());
            *stage.keys[*account].lock().unwrap() = key;
            sleep(lasts).await;
            stage.write_key(*account);
        }
        Fault::Edited { account, place } => {
            let id = connection(*account, *place);
            if stage.sims[*account].truth(id).is_null() {
                return;
            }
            let word = format!("edited at {} ms", event.at.as_millis());
            stage.sims[*account].edit(id, |truth| {
                truth["nickname"] = json!(word);
                if let Some(tool) = truth["tools"].get_mut(0) {
                    tool["description"] = json!(word);
                }
            });
            stage.touch(id);
        }
        Fault::Deleted { account, place } => {
            let id = connection(*account, *place);
            stage.sims[*account].delete(id);
            stage.touch(id);
            sleep(lasts).await;
            if place % GONE != 0 {
                stage.sims[*account].restore(id);
                stage.touch(id);
            }
        }
    }
}

async fn restart(stage: &Arc<Stage>, how: Shutdown, down: Duration) {
    stage
        .with_postgres(move |postgres| postgres.shut_down(how))
        .await;
    sleep(down).await;
    stage
        .with_postgres(|postgres| postgres.start_again().unwrap())
        .await;
}

/// SIGKILL to one of its processes: the server ends all sessions and recovers.
async fn kill_backend(stage: &Stage) {
    let pid: Result<i32, _> = sqlx::query_scalar(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
         ORDER BY random() LIMIT 1",
    )
    .fetch_one(&stage.pool)
    .await;
    if let Ok(pid) = pid {
        replica::signal(pid.unsigned_abs(), "KILL");
    }
}

async fn net(proxy: &Proxy, how: Net, lasts: Duration) {
    match how {
        Net::Cut => proxy.cut(),
        Net::Silent => proxy.set(Traffic::Silent),
        Net::Slow => proxy.set(Traffic::Delay(Duration::from_millis(60))),
        Net::Refused => {
            proxy.set(Traffic::Refuse);
            proxy.cut();
        }
    }
    sleep(lasts).await;
}

async fn trap(proxy: &Proxy, moment: Moment, times: u32, lasts: Duration) {
    proxy.set_trap(COMMIT, moment, times);
    sleep(lasts).await;
    proxy.clear_traps();
}

/// Writes until the disk is full; how many bytes that took.
fn fill(filler: &Path) -> u64 {
    let mut file = File::create(filler).unwrap();
    let mut filled = 0;
    for size in [1 << 20, 1 << 12, 1] {
        let piece = vec![0_u8; size];
        while let Ok(written @ 1..) = file.write(&piece) {
            filled += written as u64;
        }
    }
    filled
}

async fn hold_snapshot(stage: &Stage, lasts: Duration) -> Result<(), sqlx::Error> {
    let mut conn = PgConnection::connect(&stage.postgres.url("feather")).await?;
    conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        .await?;
    conn.execute("SELECT count(*) FROM feather.sync_jobs")
        .await?;
    sleep(lasts).await;
    conn.execute("COMMIT").await?;
    conn.close().await
}

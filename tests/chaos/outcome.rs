//! One run from beginning to end.

use crate::calls;
use crate::check;
use crate::inflict;
use crate::operator;
use crate::options::Options;
use crate::producer;
use crate::refresher;
use crate::schedule;
use crate::schedule::Lane;
use crate::stage::Stage;
use std::process::Command;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The backlog that producers leave behind, through a budget that binds, on a machine that is busy; and as long again
/// as the run, in which the backlog grew.
const DRAIN: Duration = Duration::from_secs(240);

pub(crate) fn of_run(options: &Options, seed: u64) -> ExitCode {
    let lanes = schedule::make(
        seed,
        options.lasts(),
        options.replicas(),
        options.connections(),
    );
    schedule::print(&lanes);
    if options.schedule {
        return ExitCode::SUCCESS;
    }
    feather_sync::feather::install_tls();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let well = runtime.block_on(async {
        tokio::select! {
            well = run(options, seed, lanes) => well,
            _ = tokio::signal::ctrl_c() => false,
        }
    });
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn run(options: &Options, seed: u64, lanes: Vec<Lane>) -> bool {
    let stage = Stage::build(options, seed).await;
    stage
        .report
        .say("everything is set up; producers, daemons and faults begin");
    stage.start_replicas();
    go_wrong(&stage, lanes, options.lasts()).await;
    stage.heal().await;
    stage.report.say("nothing goes wrong from here on");
    let deadline = DRAIN + options.lasts();
    if let Some(drained) = check::drain(&stage, check::ASKED_FOR, deadline).await {
        stage
            .report
            .seconds("time to drain after the last fault", drained);
        stage.report.say("drained");
        check::figures(&stage).await;
        check::nothing_lost(&stage).await;
        check::equal_so_far(&stage).await;
        check::refreshed(&stage).await;
        check::verify(&stage).await;
        stage.stop_refreshing().await;
        check::ask_for_all(&stage).await;
        if let Some(drained) = check::drain(&stage, check::ANYTHING, deadline).await {
            stage
                .report
                .seconds("time to sync everything once more", drained);
            check::equal(&stage).await;
        }
    }
    check::calm(&stage).await;
    for replica in &stage.replicas {
        let ended = replica.terminate().await;
        stage.report.check(
            "replicas stopped on SIGTERM",
            1,
            ended.err().into_iter().collect(),
        );
    }
    calls::check(&stage).await;
    check::hygiene(&stage).await;
    check::verify(&stage).await;
    stage.report.print(seed);
    let well = stage.report.well();
    if !well {
        for replica in &stage.replicas {
            println!("replica {}, at the end of its log", replica.number);
            println!("{}", replica.end_of_log());
        }
    }
    if !well || options.keep {
        keep(&stage);
    }
    well
}

/// Producers, operator, refreshes and faults, side by side.
async fn go_wrong(stage: &Arc<Stage>, lanes: Vec<Lane>, lasts: Duration) {
    let (stop, stopped) = watch::channel(false);
    let mut working = JoinSet::new();
    for number in 0..producer::PRODUCERS {
        working.spawn(producer::run(Arc::clone(stage), number, stopped.clone()));
    }
    working.spawn(operator::run(Arc::clone(stage), stopped.clone()));
    working.spawn(refresher::run(Arc::clone(stage), stopped.clone()));
    working.spawn(watch(Arc::clone(stage), stopped));
    let started = Instant::now();
    let mut faults = JoinSet::new();
    for lane in lanes {
        faults.spawn(inflict::play(Arc::clone(stage), lane, started));
    }
    // The last faults may be late.
    tokio::time::sleep_until(started + lasts).await;
    faults.join_all().await;
    stop.send_replace(true);
    working.join_all().await;
}

async fn watch(stage: Arc<Stage>, stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        for replica in &stage.replicas {
            replica.watch(&stage.report);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The database's folder outlives the disk that it is on.
fn keep(stage: &Stage) {
    stage
        .postgres
        .shut_down(feather_sync::local_postgres::Shutdown::Fast);
    let _ = Command::new("cp")
        .arg("-a")
        .arg(stage.postgres.socket_dir())
        .arg(stage.folder.join("postgres"))
        .status();
}

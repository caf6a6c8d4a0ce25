//! One request now and then, to a program that has nothing else to do: from its commit to the row that readers see.
//! And what a job costs the daemon then, when nothing can be done together.

use crate::drain;
use crate::report::Report;
use crate::report::Target;
use crate::report::median;
use crate::report::quantile;
use crate::stage::Api;
use crate::stage::Stage;
use crate::stage::run;
use sqlx::PgConnection;
use std::io::Write;
use std::process::ChildStdin;
use std::time::Duration;
use std::time::Instant;
use uuid::Uuid;

const REQUESTS: usize = 200;
const EVERY: Duration = Duration::from_millis(50);
/// Without a wake-up each waits for the next poll; so they are spread over some polls.
const UNHEARD: usize = 40;
const UNHEARD_EVERY: Duration = Duration::from_millis(250);
/// Before anything is counted: connections are made, statements prepared.
const WARM_UP: usize = 20;
const FULL_LOAD: usize = 4_000;
/// Between two looks for the row. Without a rest the looking would take one of few cores.
const REST: Duration = Duration::from_micros(200);

/// Whom a request is put to.
enum Asked {
    Daemon,
    Floor(ChildStdin),
}

/// Of one round, in ms.
struct Waits(Vec<f64>);

/// The median of the rounds.
fn p50(rounds: &[Waits]) -> f64 {
    let each: Vec<_> = rounds.iter().map(|waits| quantile(&waits.0, 0.5)).collect();
    median(&each)
}

/// Of all rounds together: of one alone it is the second or third slowest, which is chance.
fn p99(rounds: &[Waits]) -> f64 {
    let all: Vec<_> = rounds.iter().flat_map(|waits| &waits.0).copied().collect();
    quantile(&all, 0.99)
}

pub async fn measure(stage: &Stage) -> Report {
    let api = stage.api("tools = 8").await;
    let (mut floor, mut ours, mut unheard) = (Vec::new(), Vec::new(), Vec::new());
    let (mut full, mut trickle) = (Vec::new(), Vec::new());
    for _ in 0..stage.rounds {
        floor.push(of_floor(stage, &api).await);
        let (waits, cpu_ms) = of_daemon(stage, &api, "on", REQUESTS, EVERY).await;
        ours.push(waits);
        trickle.push(cpu_ms);
        let (waits, _) = of_daemon(stage, &api, "off", UNHEARD, UNHEARD_EVERY).await;
        unheard.push(waits);
        let cost = drain::drain(stage, &api, stage.size(FULL_LOAD)).await;
        full.push(cost.cpu_ms);
    }
    let mut report = Report::new("latency");
    for (what, waits, target) in [
        ("request to row", &ours, Some(Target::AtMost(1.5, 1.2))),
        ("request to row, no NOTIFY", &unheard, None),
    ] {
        report.ratio(format!("p50 ms, {what}"), p50(&floor), p50(waits), target);
        report.ratio(format!("p99 ms, {what}"), p99(&floor), p99(waits), target);
    }
    report.ratio(
        "CPU ms a job, 20 a second; floor: at full load",
        median(&full),
        median(&trickle),
        Target::AtMost(10.0, 5.0),
    );
    report
}

async fn of_floor(stage: &Stage, api: &Api) -> Waits {
    let mut conn = stage.fresh_database().await;
    let mut floor = stage.floor(api, 1, 1);
    let mut asked = Asked::Floor(floor.input());
    ask_all(&mut conn, &mut asked, WARM_UP, EVERY).await;
    let waits = ask_all(&mut conn, &mut asked, stage.size(REQUESTS), EVERY).await;
    drop(asked);
    floor.wait().await;
    waits
}

/// And the CPU of the daemon, ms a job.
async fn of_daemon(
    stage: &Stage,
    api: &Api,
    wake_up: &str,
    requests: usize,
    every: Duration,
) -> (Waits, f64) {
    let mut conn = stage.fresh_database().await;
    let daemon = stage.daemon(api, &[], &[]);
    stage.listening(&mut conn).await;
    ask_all(&mut conn, &mut Asked::Daemon, WARM_UP, EVERY).await;
    run(&mut conn, &format!("SET feather.wake_up = {wake_up}")).await;
    let before = daemon.cpu();
    let waits = ask_all(&mut conn, &mut Asked::Daemon, stage.size(requests), every).await;
    let cpu_ms = (daemon.cpu() - before) * 1e3 / waits.0.len() as f64;
    daemon.stop().await;
    stage.print_statements(&mut conn).await;
    (waits, cpu_ms)
}

/// Puts requests at a steady pace, whatever becomes of them, and looks for their rows meanwhile.
async fn ask_all(
    conn: &mut PgConnection,
    asked: &mut Asked,
    requests: usize,
    every: Duration,
) -> Waits {
    let mut waits = Vec::new();
    let mut open: Vec<(Uuid, Instant)> = Vec::new();
    let mut due = Instant::now();
    let mut left = requests;
    while left > 0 || !open.is_empty() {
        if left > 0 && Instant::now() >= due {
            let id = Uuid::new_v4();
            ask(conn, asked, id).await;
            open.push((id, Instant::now()));
            left -= 1;
            due += every;
        }
        let ids: Vec<Uuid> = open.iter().map(|(id, _)| *id).collect();
        if ids.is_empty() {
            // This thread has nothing else to do, and Tokio's own sleep counts in whole ms.
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            continue;
        }
        let visible: Vec<Uuid> = sqlx::query_scalar(
            "SELECT id FROM feather.integration_connections WHERE id = ANY ($1)",
        )
        .bind(ids)
        .fetch_all(&mut *conn)
        .await
        .unwrap();
        open.retain(|(id, since)| {
            let waited = since.elapsed();
            assert!(waited < Duration::from_secs(60), "{id} does not come");
            let found = visible.contains(id);
            if found {
                waits.push(waited.as_secs_f64() * 1e3);
            }
            !found
        });
        std::thread::sleep(REST);
    }
    Waits(waits)
}

async fn ask(conn: &mut PgConnection, asked: &mut Asked, id: Uuid) {
    match asked {
        Asked::Daemon => {
            sqlx::query("INSERT INTO feather.sync_requests (connection_id) VALUES ($1)")
                .bind(id)
                .execute(conn)
                .await
                .unwrap();
        }
        Asked::Floor(input) => input.write_all(format!("{id}\n").as_bytes()).unwrap(),
    }
}

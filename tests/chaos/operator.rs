//! Somebody at the command line, now and then: cancel, forget, retry, enqueue, and looking around.

use crate::schedule::ACCOUNTS;
use crate::schedule::dice;
use crate::stage::Stage;
use crate::stage::connection;
use chrono::DateTime;
use chrono::Utc;
use rand::RngExt;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::watch;

/// One connection in so many is cancelled and forgotten now and then; the others never are.
pub(crate) const EVERY: usize = 10;

pub(crate) async fn run(stage: Arc<Stage>, stop: watch::Receiver<bool>) {
    let mut dice = dice(stage.seed, 2000);
    while !*stop.borrow() {
        tokio::time::sleep(Duration::from_millis(dice.random_range(500..2500))).await;
        let account = dice.random_range(0..ACCOUNTS.len());
        let id = connection(
            account,
            dice.random_range(0..stage.connections / EVERY) * EVERY,
        );
        let text = id.to_string();
        match dice.random_range(0..8) {
            0 | 1 => take_back(&stage, id, &["cancel", &text]).await,
            2 | 3 => take_back(&stage, id, &["forget", "--yes", &text]).await,
            4 => enqueue(&stage, id, account).await,
            5 => drop(command(&stage, &["retry", "--dead"]).await),
            6 => drop(command(&stage, &["show", &text]).await),
            _ => drop(command(&stage, &["status", "--json"]).await),
        }
    }
}

async fn take_back(stage: &Stage, id: uuid::Uuid, arguments: &[&str]) {
    let began = Instant::now();
    if command(stage, arguments).await {
        stage.report.count("cancelled or forgotten by command", 1);
    }
    let deed = (id, began, Instant::now());
    stage.ledger.taken_back.lock().unwrap().push(deed);
}

async fn enqueue(stage: &Stage, id: uuid::Uuid, account: usize) {
    let now: Result<DateTime<Utc>, _> = sqlx::query_scalar("SELECT clock_timestamp()")
        .fetch_one(&stage.pool)
        .await;
    let text = id.to_string();
    let arguments = ["enqueue", "--account", ACCOUNTS[account], &text];
    let Ok(now) = now else { return };
    if command(stage, &arguments).await {
        // Not later than its commit.
        let booked = sqlx::query("INSERT INTO chaos.wanted VALUES ($1, $2, NULL, $3)")
            .bind(stage.ledger.next())
            .bind(id)
            .bind(now);
        if booked.execute(&stage.pool).await.is_ok() {
            stage.report.count("requests committed", 1);
        }
    }
}

/// Runs a command; whether it succeeded. It may fail where the database does, but never by a panic.
async fn command(stage: &Stage, arguments: &[&str]) -> bool {
    let output = stage.command(arguments).await;
    let said = String::from_utf8_lossy(&output.stderr);
    stage.report.count("commands", 1);
    if said.contains("panicked") || !matches!(output.status.code(), Some(0 | 1)) {
        let line = arguments.join(" ");
        stage.report.wrong(format!(
            "`feather-sync {line}` ended with {}: {said}",
            output.status
        ));
    }
    output.status.success()
}

//! Checks over what is stored.

use crate::operator;
use crate::schedule::ACCOUNTS;
use crate::stage::PASSWORD;
use crate::stage::Stage;
use crate::stage::connection;
use crate::truth;
use chrono::DateTime;
use chrono::Utc;
use feather_sync::sim::Kind;
use feather_sync::sim::Sim;
use sqlx::AssertSqlSafe;
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;
use std::time::Instant;
use uuid::Uuid;

/// Idle daemons hold no lock and no transaction for longer than a statement.
const MOMENT: Duration = Duration::from_secs(30);

/// What a job may die of while the API answers as it did. All of them are brought back later on.
const DEADLY: [&str; 8] = [
    "not_found",
    "invalid_request",
    "protocol",
    "mismatch",
    "storage",
    "settle_timeout",
    "tools_failed",
    "upstream",
];

async fn texts(stage: &Stage, sql: &str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_all(&stage.pool)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn number(stage: &Stage, sql: &str) -> u64 {
    let number: i64 = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(&stage.pool)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    number.unsigned_abs()
}

/// Jobs that are left to do, dead ones aside: any.
pub(crate) const ANYTHING: &str = "state <> 'dead'";
/// And those only to which a request led.
pub(crate) const ASKED_FOR: &str =
    "state <> 'dead' AND (phase = 'finalize' OR finalize_started_at <> wanted_at)";

/// Waits until no request and no such job is left; how long that took.
pub(crate) async fn drain(stage: &Stage, jobs: &str, deadline: Duration) -> Option<Duration> {
    let left = format!(
        "SELECT (SELECT count(*) FROM feather.sync_requests) + (SELECT count(*) FROM feather.sync_jobs WHERE {jobs})"
    );
    let began = Instant::now();
    loop {
        let left = number(stage, &left).await;
        if left == 0 {
            return Some(began.elapsed());
        }
        if began.elapsed() > deadline {
            let rows = "SELECT to_jsonb(j)::text FROM feather.sync_jobs j WHERE state <> 'dead'
                        UNION ALL SELECT to_jsonb(r)::text FROM feather.sync_requests r
                        UNION ALL SELECT to_jsonb(a)::text FROM feather.sync_accounts a";
            let rows = texts(stage, rows).await;
            stage.report.check("drained", left, rows);
            return None;
        }
        for replica in &stage.replicas {
            replica.watch(&stage.report);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Nothing was lost: every committed request has been served since, or its job is dead of something deadly that came
/// later, or somebody took it back. Looked at before anything is asked for again.
pub(crate) async fn nothing_lost(stage: &Stage) {
    let deeds: Vec<i64> = sqlx::query_scalar("SELECT DISTINCT deed FROM chaos.wanted")
        .fetch_all(&stage.pool)
        .await
        .unwrap();
    let kept: BTreeSet<i64> = deeds.into_iter().collect();
    let lost = stage.ledger.lost(&kept);
    let lost = lost.iter().map(|deed| format!("deed {deed}")).collect();
    stage
        .report
        .check("commits that the database kept", kept.len() as u64, lost);

    let classes = DEADLY.join("','");
    let sql = format!(
        "SELECT jsonb_build_object('wanted', w, 'status', s, 'taken_back', t, 'results', r)::text
         FROM chaos.last_wanted w
         LEFT JOIN feather.sync_status s USING (connection_id)
         LEFT JOIN feather.sync_results r USING (connection_id)
         LEFT JOIN chaos.taken_back t USING (connection_id)
         WHERE NOT COALESCE(s.last_success_started_at > w.at, false)
           AND NOT COALESCE(t.at >= w.at, false)
           AND NOT EXISTS (SELECT FROM feather.sync_jobs j JOIN feather.sync_attempts a USING (connection_id)
                           WHERE j.connection_id = w.connection_id AND j.state = 'dead' AND j.error_class IN ('{classes}')
                             AND a.outcome = 'dead' AND a.error_class = j.error_class AND a.started_at > w.at)"
    );
    let wanted = number(stage, "SELECT count(*) FROM chaos.wanted").await;
    let found = texts(stage, &sql).await;
    stage.report.check(
        "requests served, dead with a reason or taken back",
        wanted,
        found,
    );

    let sql = "SELECT to_jsonb(t)::text FROM chaos.taken_back t LEFT JOIN chaos.last_wanted w USING (connection_id)
               WHERE forgotten_at = t.at AND NOT COALESCE(w.at >= forgotten_at, false)
                 AND (EXISTS (SELECT FROM feather.integration_connections c WHERE c.id = t.connection_id)
                   OR EXISTS (SELECT FROM feather.integration_connection_tools c WHERE c.connection_id = t.connection_id)
                   OR EXISTS (SELECT FROM feather.sync_attempts a WHERE a.connection_id = t.connection_id AND a.finished_at < forgotten_at)
                   OR EXISTS (SELECT FROM feather.sync_results r WHERE r.connection_id = t.connection_id)
                   OR EXISTS (SELECT FROM feather.sync_jobs j WHERE j.connection_id = t.connection_id))";
    let forgotten = "SELECT count(*) FROM chaos.taken_back WHERE forgotten_at = at";
    let (forgotten, found) = (number(stage, forgotten).await, texts(stage, sql).await);
    stage
        .report
        .check_those_there_are("connections forgotten and left so", forgotten, found);

    let tried = stage.ledger.taken_back.lock().unwrap().clone();
    let tried: BTreeSet<Uuid> = tried.into_iter().map(|(id, ..)| id).collect();
    let recorded: Vec<Uuid> = sqlx::query_scalar("SELECT connection_id FROM chaos.taken_back")
        .fetch_all(&stage.pool)
        .await
        .unwrap();
    let odd = recorded.iter().filter(|id| !tried.contains(id));
    let odd = odd
        .map(|id| format!("{id} was taken back by nobody"))
        .collect();
    stage
        .report
        .check_those_there_are("taken back by somebody", recorded.len() as u64, odd);
}

/// What is stored is the truth where the last thing that happened to a connection was a sync without a fault.
pub(crate) async fn equal_so_far(stage: &Stage) {
    let rows: Vec<(Uuid, DateTime<Utc>, DateTime<Utc>)> = sqlx::query_as(
        "SELECT connection_id, last_success_started_at, last_success_at FROM feather.sync_results
         WHERE last_outcome = 'synced'",
    )
    .fetch_all(&stage.pool)
    .await
    .unwrap();
    let (mut looked_at, mut refreshed, mut found) = (0, 0, Vec::new());
    for (id, began, ended) in rows {
        let sim = sim_of(stage, id);
        let calls = sim.calls_for(id);
        let during = |call: &feather_sync::sim::Call| call.at >= began && call.at <= ended;
        let plain = calls
            .last()
            .is_some_and(|call| during(call) && call.fault.is_none());
        let touched = stage.touched.lock().unwrap().get(&id).copied();
        let edited = touched.is_some_and(|at| DateTime::<Utc>::from(at) >= began);
        if !plain || edited || sim.truth(id).is_null() {
            continue;
        }
        let compared = truth::compare(&stage.pool, &sim.truth_text(id)).await;
        if sim.calls_for(id).len() > calls.len() {
            // Refreshed meanwhile, and so another.
            continue;
        }
        looked_at += 1;
        refreshed += u64::from(
            calls
                .iter()
                .rev()
                .find(|call| call.kind != Kind::Poll)
                .is_some_and(|call| call.kind == Kind::Refresh),
        );
        if let Err(difference) = compared {
            found.push(format!("{id}: {difference}"));
        }
    }
    stage
        .report
        .check("connections equal to the truth at once", looked_at, found);
    stage
        .report
        .check("of them by a refresh", refreshed, Vec::new());
}

/// What nobody has asked for ends as a refresh may: recorded, and without a dead job but of what is gone upstream.
pub(crate) async fn refreshed(stage: &Stage) {
    let sql = "SELECT to_jsonb(j)::text FROM feather.sync_jobs j
               WHERE state = 'dead' AND phase = 'refresh' AND error_class <> 'not_found'";
    let refreshes = "SELECT count(*) FROM feather.sync_attempts WHERE kind = 'reconcile'";
    let (refreshes, found) = (number(stage, refreshes).await, texts(stage, sql).await);
    stage
        .report
        .check("refreshes, and no dead job of them", refreshes, found);
    let ended = "SELECT outcome || COALESCE('/' || error_class, '') || '|' || count(*) FROM feather.sync_attempts
                 WHERE kind = 'reconcile' GROUP BY outcome, error_class ORDER BY 1";
    for row in texts(stage, ended).await {
        let (outcome, number) = row.split_once('|').unwrap();
        stage.report.figure(format!("refreshes {outcome}"), number);
    }
}

/// Asks for every connection that there is once more, now that nothing goes wrong.
pub(crate) async fn ask_for_all(stage: &Stage) {
    for (account, name) in ACCOUNTS.iter().enumerate() {
        let ids: Vec<Uuid> = all(stage)
            .await
            .into_iter()
            .filter(|id| account_of(*id) == account)
            .collect();
        sqlx::query("SELECT feather.enqueue_many($1, $2)")
            .bind(ids)
            .bind(name)
            .execute(&stage.pool)
            .await
            .unwrap();
    }
}

async fn all(stage: &Stage) -> BTreeSet<Uuid> {
    let asked: Vec<Uuid> = sqlx::query_scalar("SELECT DISTINCT connection_id FROM chaos.wanted")
        .fetch_all(&stage.pool)
        .await
        .unwrap();
    let known = (0..ACCOUNTS.len())
        .flat_map(|account| (0..stage.connections).map(move |place| connection(account, place)));
    known.chain(asked).collect()
}

fn account_of(id: Uuid) -> usize {
    (0..ACCOUNTS.len())
        .rev()
        .find(|account| id >= connection(*account, 0))
        .unwrap_or(0)
}

fn sim_of(stage: &Stage, id: Uuid) -> &Sim {
    &stage.sims[account_of(id)]
}

/// Both tables are as the upstreams say, for every connection; those deleted there are dead and marked.
pub(crate) async fn equal(stage: &Stage) {
    let (mut found, mut deleted) = (Vec::new(), 0);
    let all = all(stage).await;
    for id in &all {
        let sim = sim_of(stage, *id);
        let row: Option<(String, Option<String>, bool)> = sqlx::query_as(
            "SELECT s.state, j.error_class, EXISTS (SELECT FROM feather.connections c WHERE c.id = s.connection_id)
             FROM feather.sync_status s LEFT JOIN feather.sync_jobs j USING (connection_id) WHERE s.connection_id = $1",
        )
        .bind(id)
        .fetch_optional(&stage.pool)
        .await
        .unwrap();
        if sim.truth(*id).is_null() {
            deleted += 1;
            if row != Some(("dead".into(), Some("not_found".into()), false)) {
                found.push(format!("{id} was deleted upstream, and here: {row:?}"));
            }
            continue;
        }
        if row != Some(("idle".into(), None, true)) {
            found.push(format!("{id} is not synced: {row:?}"));
        }
        if let Err(difference) = truth::compare(&stage.pool, &sim.truth_text(*id)).await {
            found.push(format!("{id}: {difference}"));
        }
    }
    stage
        .report
        .figure("connections deleted upstream at the end", deleted);
    stage
        .report
        .check("connections equal to the truth", all.len() as u64, found);
}

/// Nobody holds a lock or a transaction, every replica is ready.
pub(crate) async fn calm(stage: &Stage) {
    let sql =
        "SELECT to_jsonb(a)::text FROM pg_stat_activity a WHERE state LIKE 'idle in transaction%'
               UNION ALL SELECT to_jsonb(l)::text FROM pg_locks l WHERE locktype = 'advisory'";
    let began = Instant::now();
    let mut left = texts(stage, sql).await;
    while !left.is_empty() && began.elapsed() < MOMENT {
        tokio::time::sleep(Duration::from_millis(100)).await;
        left = texts(stage, sql).await;
    }
    stage
        .report
        .check("no session in a transaction, no advisory lock", 1, left);
    let mut unready = Vec::new();
    for replica in &stage.replicas {
        let began = Instant::now();
        loop {
            let answer = match replica.readiness().await {
                Ok(answer) if answer.starts_with("HTTP/1.1 200") => break,
                other => other,
            };
            if began.elapsed() > MOMENT {
                unready.push(format!("replica {}: {answer:?}", replica.number));
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    stage
        .report
        .check("replicas ready", stage.replicas.len() as u64, unready);
}

/// Keys and password are in no log and no table, and no log tells of a panic.
pub(crate) async fn hygiene(stage: &Stage) {
    let mut secrets = stage.secrets.lock().unwrap().clone();
    secrets.push(PASSWORD.to_owned());
    let (mut found, mut panics, mut lines, mut lost) = (Vec::new(), Vec::new(), 0, 0);
    for entry in fs::read_dir(stage.folder.join("logs")).unwrap() {
        let path = entry.unwrap().path();
        let log = fs::read_to_string(&path).unwrap();
        for line in log.lines() {
            lines += 1;
            if secrets.iter().any(|secret| line.contains(secret)) {
                found.push(format!("{}: {line}", path.display()));
            }
            if line.contains("panicked") {
                panics.push(format!("{}: {line}", path.display()));
            }
            lost += u64::from(line.contains("was lost; its answer is not written"));
        }
    }
    stage
        .report
        .figure("leases found lost by their workers", lost);
    stage
        .report
        .check("lines of log without a panic", lines, panics);
    stage
        .report
        .check("lines of log without a secret", lines, found);
    let tables = texts(stage, "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'feather'::regnamespace AND relkind = 'r'").await;
    let (mut found, mut rows) = (Vec::new(), 0);
    for table in tables {
        rows += number(stage, &format!("SELECT count(*) FROM {table}")).await;
        for secret in &secrets {
            let sql = format!(
                "SELECT '{table}: ' || t::text FROM {table} t WHERE strpos(t::text, '{secret}') > 0 LIMIT 3"
            );
            found.extend(texts(stage, &sql).await);
        }
    }
    stage.report.check("rows without a secret", rows, found);
}

/// The product's own check of its state.
pub(crate) async fn verify(stage: &Stage) {
    let output = stage.command(&["verify"]).await;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let wrong = if output.status.success() {
        Vec::new()
    } else {
        vec![said]
    };
    stage.report.check("feather-sync verify", 1, wrong);
}

/// Figures of the queue and its history.
pub(crate) async fn figures(stage: &Stage) {
    for row in texts(stage, "SELECT outcome || COALESCE('/' || error_class, '') || '|' || count(*) FROM feather.sync_attempts GROUP BY outcome, error_class ORDER BY 1").await {
        let (outcome, number) = row.split_once('|').unwrap();
        stage.report.figure(format!("attempts {outcome}"), number);
    }
    let victims = ACCOUNTS.len() * stage.connections.div_ceil(operator::EVERY);
    stage
        .report
        .figure("connections that are taken back now and then", victims);
}

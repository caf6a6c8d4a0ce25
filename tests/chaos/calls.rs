//! Checks over the calls that the upstreams got.

use crate::schedule::ACCOUNTS;
use crate::stage::REFRESH_PERCENT;
use crate::stage::REQUESTS_PER_MINUTE;
use crate::stage::Stage;
use chrono::DateTime;
use chrono::Utc;
use feather_sync::sim::Call;
use feather_sync::sim::Kind;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use uuid::Uuid;

/// A call whose client is gone may last a little longer at the server, and a job may come back that soon; whoever calls
/// again within this time of the first call's arrival did not wait for the call's deadline or its lease.
const DEADLINE_MS: u64 = 1_700;

/// What a reset needs to reach a busy server.
const LATE_MS: u64 = 300;

fn calls(stage: &Stage) -> BTreeMap<Uuid, Vec<Call>> {
    let mut by_connection: BTreeMap<Uuid, Vec<Call>> = BTreeMap::new();
    for call in stage.sims.iter().flat_map(feather_sync::sim::Sim::calls) {
        if let Some(id) = call.connection_id {
            by_connection.entry(id).or_default().push(call);
        }
    }
    by_connection
}

pub(crate) async fn check(stage: &Stage) {
    let calls = calls(stage);
    budget(stage);
    refreshes(stage);
    overlaps(stage, &calls);
    ghosts(stage, &calls);
    recorded(stage, &calls).await;
    early(stage, &calls).await;
}

fn budget(stage: &Stage) {
    let mut found = Vec::new();
    let mut number = 0;
    for (sim, account) in stage.sims.iter().zip(ACCOUNTS) {
        let stats = sim.stats();
        number += stats.calls;
        if stats.max_calls_in_60s > u64::from(REQUESTS_PER_MINUTE) {
            found.push(format!(
                "{} calls within 60 s for account {account}, allowed are {REQUESTS_PER_MINUTE}",
                stats.max_calls_in_60s
            ));
        }
        stage.report.figure(
            format!("calls, account {account}"),
            format!("{}", stats.calls),
        );
        stage.report.figure(
            format!("most calls in 60 s, account {account}"),
            format!("{} of {REQUESTS_PER_MINUTE}", stats.max_calls_in_60s),
        );
        stage.report.figure(
            format!("calls hit by a fault, account {account}"),
            stats.by_fault.values().sum::<u64>(),
        );
    }
    stage.report.check("calls within the budget", number, found);
}

/// Refreshes begin within their part of the budget. (Their polls are drawn from it as well, and do not wait for it.)
fn refreshes(stage: &Stage) {
    let (mut number, mut found) = (0, Vec::new());
    // One more is saved up before the first second than the part allows in a minute.
    let allowed = (REQUESTS_PER_MINUTE * REFRESH_PERCENT).div_ceil(100) as usize + 1;
    for (sim, account) in stage.sims.iter().zip(ACCOUNTS) {
        let mut at: Vec<u64> = sim
            .calls()
            .iter()
            .filter(|call| call.kind == Kind::Refresh)
            .map(|call| call.at_ms)
            .collect();
        at.sort_unstable();
        number += at.len() as u64;
        let most = (0..at.len())
            .map(|first| at[first..].partition_point(|later| later - at[first] < 60_000))
            .max()
            .unwrap_or(0);
        if most > allowed {
            found.push(format!(
                "{most} within 60 s for account {account}, allowed are {allowed}"
            ));
        }
        stage.report.figure(
            format!("most refreshes in 60 s, account {account}"),
            format!("{most} of {allowed}"),
        );
    }
    stage
        .report
        .check("refreshes within their part of the budget", number, found);
}

/// Two calls for one connection at once, although the first one's client was neither gone nor out of time.
fn overlaps(stage: &Stage, calls: &BTreeMap<Uuid, Vec<Call>>) {
    let taken_back = stage.ledger.taken_back.lock().unwrap().clone();
    let mut found = Vec::new();
    let mut pairs = 0;
    for (id, calls) in calls {
        for (place, later) in calls.iter().enumerate() {
            for earlier in &calls[..place] {
                pairs += 1;
                let ended = earlier.ended_at_ms.unwrap_or(u64::MAX);
                let gap = later.at_ms - earlier.at_ms;
                if ended <= later.at_ms + LATE_MS || gap >= DEADLINE_MS {
                    continue;
                }
                // A call under way when its job is cancelled goes on, and the connection may be asked for again.
                if !taken_back.iter().any(|(taken_back, ..)| taken_back == id) {
                    found.push(format!(
                        "{id}: a call {gap} ms after one that was under way: {earlier:?} {later:?}"
                    ));
                }
            }
        }
    }
    stage
        .report
        .check("pairs of calls that do not overlap", pairs, found);
}

fn ghosts(stage: &Stage, calls: &BTreeMap<Uuid, Vec<Call>>) {
    let ghosts = stage.ledger.ghosts.lock().unwrap();
    let called = ghosts.iter().filter(|id| calls.contains_key(id));
    let found = called.map(|id| format!("{id} was called")).collect();
    let number = ghosts.len() as u64;
    stage
        .report
        .check("connections rolled back and never called", number, found);
}

/// No call that is not on record. (There may be more on record than calls: the attempt is committed before the call.)
async fn recorded(stage: &Stage, calls: &BTreeMap<Uuid, Vec<Call>>) {
    let rows: Vec<(Uuid, String, i64)> = sqlx::query_as(
        "SELECT connection_id, kind, count(*) FROM feather.sync_attempts GROUP BY 1, 2",
    )
    .fetch_all(&stage.pool)
    .await
    .unwrap();
    let attempts: BTreeMap<(Uuid, String), i64> = rows
        .into_iter()
        .map(|(id, kind, number)| ((id, kind), number))
        .collect();
    let forgotten: Vec<Uuid> = sqlx::query_scalar(
        "SELECT connection_id FROM chaos.taken_back WHERE forgotten_at IS NOT NULL",
    )
    .fetch_all(&stage.pool)
    .await
    .unwrap();
    let forgotten: BTreeSet<Uuid> = forgotten.into_iter().collect();
    let (mut looked_at, mut found) = (0, Vec::new());
    for (id, calls) in calls.iter().filter(|(id, _)| !forgotten.contains(id)) {
        for (kind, name) in [
            (Kind::Finalize, "finalize"),
            (Kind::Poll, "poll"),
            (Kind::Refresh, "reconcile"),
        ] {
            let calls = calls.iter().filter(|call| call.kind == kind).count();
            let key = (*id, name.to_owned());
            let attempts = attempts.get(&key).copied().unwrap_or(0);
            looked_at += 1;
            if calls as i64 > attempts {
                found.push(format!("{id}: {calls} {name} calls, {attempts} attempts"));
            }
        }
    }
    stage
        .report
        .check("calls on record, per connection and kind", looked_at, found);
}

/// Nothing that was asked for at a later time was called before.
async fn early(stage: &Stage, calls: &BTreeMap<Uuid, Vec<Call>>) {
    let rows: Vec<(Uuid, DateTime<Utc>)> = sqlx::query_as(
        "SELECT connection_id, min(run_at) FROM chaos.wanted GROUP BY 1 HAVING min(run_at) IS NOT NULL",
    )
    .fetch_all(&stage.pool)
    .await
    .unwrap();
    let first = |id| {
        calls
            .get(id)
            .and_then(|calls| calls.iter().map(|call| call.at).min())
    };
    let found = rows
        .iter()
        .filter_map(|(id, run_at)| {
            let at = first(id)?;
            (at < *run_at).then(|| format!("{id} was called at {at}, before {run_at}"))
        })
        .collect();
    stage
        .report
        .check("calls not before run_at", rows.len() as u64, found);
}

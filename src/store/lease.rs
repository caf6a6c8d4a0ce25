//! Leases that end without a write-back: given back unstarted, or run out.

use crate::domain::ErrorClass;
use crate::domain::Job;
use crate::domain::Outcome;
use crate::domain::Phase;
use crate::failpoint::Point;
use crate::failpoint::reach;
use crate::store::account;
use crate::store::attempt::AttemptRecord;
use crate::store::attempt::ToolChanges;
use crate::store::closing::Closing;
use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use crate::store::event::Event;
use crate::store::job;
use crate::store::job::JobUpdate;
use sqlx::Connection;
use sqlx::PgConnection;
use uuid::Uuid;

/// One lease that ran out.
#[derive(Clone, Debug)]
pub struct Expired {
    /// The connection.
    pub connection_id: Uuid,
    /// Its account.
    pub account: String,
    /// The call that may have been made.
    pub phase: Phase,
    /// The replica that never answered.
    pub worker: String,
    /// Whether its attempts are spent.
    pub dead: bool,
}

impl Db {
    /// Gives back leases whose call was never begun: due again at once, the attempt not counted, no history, and their
    /// tokens to the budget.
    ///
    /// # Errors
    /// When the database fails. Safe to repeat; else the leases run out.
    pub async fn release(&self, jobs: &[Job]) -> Result<(), StoreError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = jobs.iter().map(|job| job.connection_id).collect();
        let tokens: Vec<_> = jobs.iter().map(|job| job.lease_token).collect();
        let mut session = self.session().await?;
        let result = within(async {
            let mut tx = session.begin().await?;
            let (_, held) = job::lock(&mut tx, &ids, &tokens).await?;
            let held: Vec<_> = held.iter().map(|job| job.connection_id).collect();
            end_unsent(&mut tx, &held).await?;
            reach(Point::Releasing);
            tx.commit().await?;
            reach(Point::Released);
            Ok(())
        })
        .await;
        session.settle(result)
    }

    /// Gives back what `worker` has leased under other tokens than those it holds: an answer to its claim was lost.
    /// Returns how many.
    ///
    /// # Errors
    /// When the database fails; nothing has happened then, or all of it.
    pub async fn release_others(&self, worker: &str, held: &[Uuid]) -> Result<usize, StoreError> {
        let mut session = self.session().await?;
        let result = within(async {
            let mut tx = session.begin().await?;
            let unheard = sqlx::query_scalar!(
                "SELECT connection_id FROM feather.sync_jobs
                 WHERE state = 'running' AND worker = $1 AND lease_token <> ALL($2)
                 ORDER BY connection_id FOR UPDATE",
                worker,
                held
            )
            .fetch_all(&mut *tx)
            .await?;
            end_unsent(&mut tx, &unheard).await?;
            tx.commit().await?;
            Ok(unheard.len())
        })
        .await;
        session.settle(result)
    }

    /// Which of these tokens still hold a lease, be it over or not.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn leases_among(&self, tokens: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_scalar!(
            r#"SELECT lease_token AS "token!" FROM feather.sync_jobs
               WHERE state = 'running' AND lease_token = ANY($1)"#,
            tokens
        );
        let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
        session.settle(result)
    }

    /// Ends up to `limit` attempts whose lease has run out: recorded as crashed, then due again at once, or dead
    /// when `max_attempts` are spent. Needs no permit, so a paused or backlogged account leaves no orphans.
    ///
    /// # Errors
    /// When the database fails; nothing has happened then.
    pub async fn expire(&self, max_attempts: u32, limit: u32) -> Result<Vec<Expired>, StoreError> {
        let mut session = self.session().await?;
        let result = within(async {
            // Mostly there are none, and one statement is cheaper than a transaction.
            let any = sqlx::query_scalar!(
                r#"SELECT EXISTS (SELECT FROM feather.sync_jobs
                                  WHERE state = 'running' AND lease_until < clock_timestamp()) AS "any!""#
            )
            .fetch_one(&mut *session)
            .await?;
            if !any {
                return Ok(Vec::new());
            }
            let mut tx = session.begin().await?;
            let rows = sqlx::query!(
                r#"
                SELECT connection_id, account, phase, attempt, malformed, worker AS "worker!", started_at AS "started_at!",
                       settle_deadline, settle_polls, seen_fingerprint, seen_at, clock_timestamp() AS "now!"
                FROM feather.sync_jobs
                WHERE state = 'running' AND lease_until < clock_timestamp()
                ORDER BY connection_id
                LIMIT $1
                FOR UPDATE SKIP LOCKED
                "#,
                i64::from(limit)
            )
            .fetch_all(&mut *tx)
            .await?;
            if rows.is_empty() {
                // Another replica was quicker.
                tx.rollback().await?;
                return Ok(Vec::new());
            }
            let is_dead = |attempt: i32| attempt.unsigned_abs() >= max_attempts;
            let updates: Vec<_> = rows
                .iter()
                .map(|row| JobUpdate {
                    connection_id: row.connection_id,
                    dead: is_dead(row.attempt).then_some(ErrorClass::LeaseLost.as_str()),
                    phase: Phase::parse(&row.phase).unwrap_or(Phase::Finalize).as_str(),
                    behind: false,
                    run_at: row.now,
                    not_before: None,
                    attempt: row.attempt,
                    malformed: row.malformed,
                    settle_deadline: row.settle_deadline,
                    settle_polls: row.settle_polls,
                    seen: row.seen_fingerprint.clone().zip(row.seen_at),
                })
                .collect();
            let errors: Vec<_> = rows
                .iter()
                .map(|row| format!("the lease ran out with no word from worker {}", row.worker))
                .collect();
            let records: Vec<_> = rows
                .iter()
                .zip(&updates)
                .zip(&errors)
                .map(|((row, update), error)| AttemptRecord {
                    account: &row.account,
                    connection_id: row.connection_id,
                    kind: Phase::parse(&row.phase).unwrap_or(Phase::Finalize).call().as_str(),
                    attempt: row.attempt,
                    worker: &row.worker,
                    started_at: row.started_at,
                    finished_at: row.now,
                    outcome: Outcome::Crashed.as_str(),
                    http_status: None,
                    error_class: Some(ErrorClass::LeaseLost.as_str()),
                    error: Some(error.into()),
                    retry_at: update.dead.is_none().then_some(update.run_at),
                    tools_status: None,
                    tools: ToolChanges::default(),
                    upstream_request_id: None,
                    finalize_started_at: None,
                    time_to_sync: None,
                })
                .collect();
            let class = ErrorClass::LeaseLost.as_str();
            let events: Vec<_> = rows
                .iter()
                .filter(|row| is_dead(row.attempt))
                .map(|row| Event::dead(&row.account, row.connection_id, class))
                .collect();
            let closing = Closing {
                attempts: &records,
                updates: &updates,
                events: &events,
                notify: self.recording().notify,
                ..Closing::default()
            };
            closing.write(&mut tx).await?;
            reach(Point::Expiring);
            tx.commit().await?;
            reach(Point::Expired);
            Ok(rows
                .iter()
                .map(|row| Expired {
                    connection_id: row.connection_id,
                    account: row.account.clone(),
                    phase: Phase::parse(&row.phase).unwrap_or(Phase::Finalize),
                    worker: row.worker.clone(),
                    dead: is_dead(row.attempt),
                })
                .collect())
        })
        .await;
        session.settle(result)
    }
}

/// Ends the leases of locked jobs whose calls were never begun.
async fn end_unsent(conn: &mut PgConnection, ids: &[Uuid]) -> Result<(), sqlx::Error> {
    if ids.is_empty() {
        return Ok(());
    }
    account::give_back(conn, ids).await?;
    sqlx::query!(
        "UPDATE feather.sync_jobs
         SET state = 'pending', worker = NULL, lease_token = NULL, lease_until = NULL, attempt = attempt - 1
         WHERE connection_id = ANY($1)",
        ids
    )
    .execute(conn)
    .await?;
    Ok(())
}

//! Accounts as all replicas see them: pauses by the API and by operators.

use crate::domain::AccountName;
use crate::domain::AccountWord;
use crate::domain::ErrorClass;
use crate::domain::Finished;
use crate::domain::Next;
use crate::domain::Pace;
use crate::domain::Pause;
use crate::domain::PauseReason;
use crate::domain::pause::pause_after;
use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use crate::store::listen::WORK;
use chrono::DateTime;
use chrono::Utc;
use sqlx::PgConnection;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::HashMap;
use uuid::Uuid;

/// An account with its pauses.
#[derive(Clone, Debug, serde::Serialize)]
pub struct AccountRow {
    /// Name.
    pub account: String,
    /// Limit as last configured.
    pub requests_per_minute: Option<i32>,
    /// The part of the limit that is drawn, in `0.0..=1.0`; below 1 after refusals, until it has climbed back.
    pub pace: f64,
    /// `auth` or `rate_limited` while the API keeps it from working.
    pub pause_reason: Option<String>,
    /// When the next probe may go out.
    pub paused_until: Option<DateTime<Utc>>,
    /// What the API said.
    pub pause_error: Option<String>,
    /// Paused by an operator since.
    pub operator_paused_at: Option<DateTime<Utc>>,
    /// The operator.
    pub operator_paused_by: Option<String>,
}

/// An account that the API keeps from working, or an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PausedAccount {
    /// Name.
    pub account: String,
    /// `operator`, `auth`, `rate_limited` or `unknown_account`.
    pub reason: String,
}

impl Db {
    /// Makes the accounts of this replica's configuration known.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn register_accounts(
        &self,
        accounts: &[(AccountName, u32)],
    ) -> Result<(), StoreError> {
        let names: Vec<_> = accounts.iter().map(|(name, _)| name.as_str()).collect();
        let limits: Vec<_> = accounts
            .iter()
            .map(|(_, limit)| super::signed(*limit))
            .collect();
        let mut session = self.session().await?;
        let query = sqlx::query!(
            r#"
            INSERT INTO feather.sync_accounts AS a (account, requests_per_minute, configured_at)
            SELECT account, requests_per_minute, now()
            FROM unnest($1::text[], $2::int[]) AS v (account, requests_per_minute)
            ORDER BY account
            ON CONFLICT (account) DO UPDATE
            SET requests_per_minute = excluded.requests_per_minute, configured_at = excluded.configured_at,
                -- What was learned is a part of the old limit.
                pace = CASE WHEN a.requests_per_minute = excluded.requests_per_minute THEN a.pace ELSE 1 END
            "#,
            &names as _,
            &limits
        );
        let result = within(async { Ok(query.execute(&mut *session).await?) }).await;
        session.settle(result).map(|_| ())
    }

    /// All accounts.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn accounts(&self) -> Result<Vec<AccountRow>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query!(
            r#"SELECT account, requests_per_minute, pace, pace_at, now() AS "now!", pause_reason, paused_until,
                      pause_error, operator_paused_at, operator_paused_by
               FROM feather.sync_accounts ORDER BY account"#
        );
        let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
        let rows = session.settle(result)?;
        Ok(rows
            .into_iter()
            .map(|row| AccountRow {
                pace: Pace {
                    share: row.pace,
                    since: row.pace_at,
                }
                .share_at(row.now),
                account: row.account,
                requests_per_minute: row.requests_per_minute,
                pause_reason: row.pause_reason,
                paused_until: row.paused_until,
                pause_error: row.pause_error,
                operator_paused_at: row.operator_paused_at,
                operator_paused_by: row.operator_paused_by,
            })
            .collect())
    }

    /// Pauses an account until it is resumed, restarts included. Calls under way finish. Returns whether it was
    /// not paused before.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn pause(&self, account: &str, actor: &str) -> Result<bool, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_scalar!(
            r#"
            WITH paused AS (
                INSERT INTO feather.sync_accounts AS a (account, operator_paused_at, operator_paused_by)
                VALUES ($1, now(), $2)
                ON CONFLICT (account) DO UPDATE
                SET operator_paused_at = excluded.operator_paused_at, operator_paused_by = excluded.operator_paused_by
                WHERE a.operator_paused_at IS NULL
                RETURNING account
            ), audit AS (
                INSERT INTO feather.sync_audit (actor, action, account) SELECT $2, 'pause', account FROM paused
            )
            SELECT EXISTS (SELECT FROM paused) AS "paused!"
            "#,
            account,
            actor
        );
        let result = within(async { Ok(query.fetch_one(&mut *session).await?) }).await;
        session.settle(result)
    }

    /// Ends an operator's pause, and lets the next call find out whether one by the API still stands. Returns
    /// whether the account was paused at all.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn resume(&self, account: &str, actor: &str) -> Result<bool, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_scalar!(
            r#"
            WITH resumed AS (
                UPDATE feather.sync_accounts
                SET operator_paused_at = NULL, operator_paused_by = NULL,
                    paused_until = CASE WHEN pause_reason IS NULL THEN NULL ELSE LEAST(paused_until, now()) END
                WHERE account = $1 AND (operator_paused_at IS NOT NULL OR pause_reason IS NOT NULL)
                RETURNING account
            ), audit AS (
                INSERT INTO feather.sync_audit (actor, action, account) SELECT $2, 'resume', account FROM resumed
            ), woken AS (
                SELECT pg_notify('feather_sync', $3) FROM resumed
            )
            SELECT EXISTS (SELECT FROM resumed) AND (SELECT count(*) >= 0 FROM woken) AS "resumed!"
            "#,
            account,
            actor,
            WORK
        );
        let result = within(async { Ok(query.fetch_one(&mut *session).await?) }).await;
        session.settle(result)
    }
}

/// What one call said about its account.
pub(super) struct Said<'a> {
    pub(super) account: &'a AccountName,
    pub(super) word: &'a AccountWord,
    pub(super) class: Option<ErrorClass>,
    pub(super) error: Option<Cow<'a, str>>,
    /// When the call was claimed.
    pub(super) started_at: DateTime<Utc>,
    /// It was the single call that tests a paused account.
    pub(super) probe: bool,
    /// A stop came before its answer.
    pub(super) interrupted: bool,
}

impl<'a> From<&'a Finished> for Said<'a> {
    fn from(Finished { job, verdict, .. }: &'a Finished) -> Self {
        Self {
            account: &job.account,
            word: &verdict.account,
            class: verdict.class,
            error: verdict.error_on_record(),
            started_at: job.started_at,
            probe: job.probe,
            interrupted: verdict.next == Next::Defer && verdict.class.is_none(),
        }
    }
}

/// Draws the consequences of what calls said about their accounts. Returns until when the jobs of each account that was
/// refused have to wait.
pub(super) async fn apply_words<'a>(
    conn: &mut PgConnection,
    said: impl IntoIterator<Item = Said<'a>>,
    now: DateTime<Utc>,
) -> Result<HashMap<AccountName, DateTime<Utc>>, sqlx::Error> {
    let is_refused = |word: &AccountWord| matches!(word, AccountWord::Refused { .. });
    let mut telling: BTreeMap<&AccountName, Vec<Said>> = BTreeMap::new();
    for said in said {
        if is_refused(said.word) || said.probe {
            telling.entry(said.account).or_default().push(said);
        }
    }
    let mut paused_until = HashMap::new();
    for (account, words) in telling {
        let row = sqlx::query!(
            "SELECT pause_reason, paused_until, pause_step, pace, pace_at FROM feather.sync_accounts
             WHERE account = $1 FOR UPDATE",
            account.as_str()
        )
        .fetch_optional(&mut *conn)
        .await?;
        let Some(row) = row else { continue };
        let before = row
            .pause_reason
            .as_deref()
            .and_then(PauseReason::parse)
            .zip(row.paused_until)
            .map(|(reason, until)| Pause {
                reason,
                until,
                step: row.pause_step.unsigned_abs(),
            });
        let after = words.iter().fold(before, |pause, said| match pause {
            // A probe that a stop interrupted is another replica's to repeat, at once.
            Some(pause) if said.interrupted => Some(Pause {
                until: now,
                ..pause
            }),
            _ => pause_after(pause, said.word, said.probe, now),
        });
        let pace = Pace {
            share: row.pace,
            since: row.pace_at,
        };
        let pace = words
            .iter()
            .filter(|said| said.class == Some(ErrorClass::RateLimited) && !said.probe)
            .fold(pace, |pace, said| pace.refused(said.started_at, now))
            .held(before, after, now);
        let error = words
            .iter()
            .rev()
            .find(|said| is_refused(said.word))
            .and_then(|said| said.error.as_deref());
        sqlx::query!(
            "UPDATE feather.sync_accounts
             SET pause_reason = $2, paused_until = $3, pause_step = $4, pace = $6, pace_at = $7,
                 pause_error = CASE WHEN $2::text IS NULL THEN NULL ELSE COALESCE($5, pause_error) END
             WHERE account = $1",
            account.as_str(),
            after.map(|pause| pause.reason.as_str()),
            after.map(|pause| pause.until),
            after.map_or(0, |pause| super::signed(pause.step)),
            error,
            pace.share,
            pace.since
        )
        .execute(&mut *conn)
        .await?;
        if let Some(pause) = after {
            paused_until.insert(account.clone(), pause.until);
        }
    }
    Ok(paused_until)
}

/// Hands the tokens of calls back that were never sent, of jobs whose leases are still to be ended, and the probe, if it
/// was one of them. What the bucket has been refilled with since is not handed back once more: it may have been drawn
/// again. A probe holds its account just as long as its own lease: any other time is another replica's probe, or
/// another pause.
pub(super) async fn give_back(
    conn: &mut PgConnection,
    connection_ids: &[Uuid],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "WITH locked AS MATERIALIZED (
             -- In the order in which all others lock them that need several.
             SELECT account FROM feather.sync_accounts
             WHERE account IN (SELECT account FROM feather.sync_jobs WHERE connection_id = ANY($1))
             ORDER BY account
             FOR UPDATE
         )
         UPDATE feather.sync_accounts a
         SET tokens = a.tokens + GREATEST(0, unsent.calls - a.requests_per_minute / 60.0
                                             * EXTRACT(epoch FROM clock_timestamp() - unsent.started_at))::float8,
             paused_until = CASE WHEN a.pause_reason IS NOT NULL AND a.paused_until = unsent.lease_until THEN now()
                                 ELSE a.paused_until END
         FROM (SELECT account, count(*) AS calls, max(lease_until) AS lease_until, min(started_at) AS started_at
               FROM feather.sync_jobs
               WHERE connection_id = ANY($1) GROUP BY account) AS unsent
         WHERE a.account = unsent.account AND a.account = ANY (ARRAY(SELECT account FROM locked))",
        connection_ids
    )
    .execute(conn)
    .await?;
    Ok(())
}

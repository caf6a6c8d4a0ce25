//! Actions on everything that a filter matches: asked for by people, performed by whichever replica has the turn, in
//! portions, each in a transaction of its own that also says how far it is.

mod portion;

pub use portion::Portion;

use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use crate::store::jobs::JobFilter;
use crate::store::listen::ACTION;
use chrono::DateTime;
use chrono::Utc;
use sqlx::Connection;
use sqlx::PgConnection;
use std::fmt;
use std::time::Duration;
use uuid::Uuid;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Makes them due now, as `retry` does.
    Retry,
    /// Takes them out of the queue, as `cancel` does.
    Cancel,
    /// Has their connections synced once more, from the finalize on; dead ones start afresh.
    Sync,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 3] = [Self::Retry, Self::Cancel, Self::Sync];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Cancel => "cancel",
            Self::Sync => "sync",
        }
    }

    /// The action that a word names.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == word)
    }
}

/// An action, as people see it.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the table's comments say it")]
pub struct ActionRow {
    pub id: i64,
    pub action: String,
    pub filter: serde_json::Value,
    pub requested_by: String,
    pub requested_at: DateTime<Utc>,
    pub expected: Option<i64>,
    pub done: i64,
    pub stopped_by: Option<String>,
    pub finished_at: Option<DateTime<Utc>>,
    pub outcome: Option<String>,
    pub error: Option<String>,
    pub worker: Option<String>,
}

/// An action whose turn is this replica's.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Number of the action.
    pub id: i64,
    /// Fencing token of the turn.
    pub token: Uuid,
    pub(super) action: Action,
    pub(super) filter: JobFilter,
    pub(super) requested_by: String,
    pub(super) requested_at: DateTime<Utc>,
    /// No job that died before is left, as far as this replica has come.
    pub(super) dead_from: Option<DateTime<Utc>>,
}

/// In words, for the log: `retry dead, class upstream`.
impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.action.as_str(), self.filter)
    }
}

/// What there was to do.
#[derive(Clone, Debug)]
pub enum Begun {
    /// This, and the turn at it is ours.
    Turn(Box<Turn>),
    /// Others are at it, or somebody holds it just now, or it is not known to this version.
    Others,
    /// Nothing.
    Nothing,
}

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All that matched has been acted on.
    Done,
    /// Somebody stopped it.
    Stopped,
    /// It cannot be done.
    Failed,
}

impl Ended {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

impl Db {
    /// Asks for an action on everything that the filter matches by now. Returns its number.
    ///
    /// # Errors
    /// When the database fails; nothing has been asked for then.
    pub async fn request_action(
        &self,
        action: Action,
        filter: &JobFilter,
        expected: Option<u64>,
        actor: &str,
    ) -> Result<i64, StoreError> {
        let words = filter.to_string();
        let filter_json = serde_json::to_value(filter)
            .map_err(|error| StoreError::Other(format!("a filter cannot be kept: {error}")))?;
        let expected = expected.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
        let mut session = self.session().await?;
        let query = sqlx::query_scalar!(
            r#"
            WITH asked AS (
                INSERT INTO feather.sync_actions (action, filter, requested_by, expected) VALUES ($1, $2, $3, $4)
                RETURNING id
            ), audit AS (
                INSERT INTO feather.sync_audit (actor, action, account, detail)
                SELECT $3, $1, $5, format('action %s begins: %s', id, $6::text) FROM asked
            ), woken AS (
                SELECT pg_notify('feather_sync', $7) FROM asked
            )
            SELECT id FROM asked, woken
            "#,
            action.as_str(),
            filter_json,
            actor,
            expected,
            filter.account,
            words,
            ACTION
        );
        let result = within(async { Ok(query.fetch_one(&mut *session).await?) }).await;
        session.settle(result)
    }

    /// Wants no more of an action done. What has been done stays. Returns whether it was under way.
    ///
    /// # Errors
    /// When the database fails; it goes on then.
    pub async fn stop_action(&self, id: i64, actor: &str) -> Result<bool, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query!(
            "UPDATE feather.sync_actions SET stopped_by = $2 WHERE id = $1 AND finished_at IS NULL AND stopped_by IS NULL",
            id,
            actor
        );
        let result = within(async { Ok(query.execute(&mut *session).await?) }).await;
        session.settle(result).map(|done| done.rows_affected() > 0)
    }

    /// The actions before this number, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn actions(
        &self,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<ActionRow>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_as!(
            ActionRow,
            "SELECT id, action, filter, requested_by, requested_at, expected, done, stopped_by, finished_at, outcome, error, worker
             FROM feather.sync_actions WHERE id < COALESCE($1, 9223372036854775807) ORDER BY id DESC LIMIT $2",
            before,
            i64::from(limit)
        );
        let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
        session.settle(result)
    }

    /// One action.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn action(&self, id: i64) -> Result<Option<ActionRow>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_as!(
            ActionRow,
            "SELECT id, action, filter, requested_by, requested_at, expected, done, stopped_by, finished_at, outcome, error, worker
             FROM feather.sync_actions WHERE id = $1",
            id
        );
        let result = within(async { Ok(query.fetch_optional(&mut *session).await?) }).await;
        session.settle(result)
    }

    /// Takes the turn at the oldest action that is not over and nobody's; then it is nobody else's until the lease has run
    /// out. One that this version does not know all of is left to others.
    ///
    /// # Errors
    /// When the database fails; a turn that was taken then is over with its lease.
    pub async fn begin_action(&self, worker: &str, lease: Duration) -> Result<Begun, StoreError> {
        let mut session = self.session().await?;
        let result = within(async {
            // Most of the time there is none, and to find that takes one question.
            let is_any = sqlx::query_scalar!(
                r#"SELECT EXISTS (SELECT FROM feather.sync_actions WHERE finished_at IS NULL) AS "any!""#
            )
            .fetch_one(&mut *session)
            .await?;
            if !is_any {
                return Ok(Begun::Nothing);
            }
            let mut tx = session.begin().await?;
            let known = first_known(&mut tx, lease).await?;
            if let Some(turn) = &known {
                sqlx::query!(
                    "UPDATE feather.sync_actions SET worker = $2, lease_token = $3,
                            lease_until = clock_timestamp() + $4 * interval '1 second'
                     WHERE id = $1",
                    turn.id,
                    worker,
                    turn.token,
                    lease.as_secs_f64()
                )
                .execute(&mut *tx)
                .await?;
            }
            tx.commit().await?;
            Ok(known.map_or(Begun::Others, |turn| Begun::Turn(Box::new(turn))))
        })
        .await;
        session.settle(result)
    }

    /// Prolongs a turn without a portion that is done. One that has been lost stays lost.
    ///
    /// # Errors
    /// When the database fails; the turn is over with its lease.
    pub async fn keep_action(&self, turn: &Turn, lease: Duration) -> Result<(), StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query!(
            "UPDATE feather.sync_actions SET lease_until = clock_timestamp() + $3 * interval '1 second'
             WHERE id = $1 AND lease_token = $2",
            turn.id,
            turn.token,
            lease.as_secs_f64()
        );
        let result = within(async { Ok(query.execute(&mut *session).await?) }).await;
        session.settle(result).map(|_| ())
    }

    /// Gives a turn back that a stop has interrupted: another replica may go on at once.
    ///
    /// # Errors
    /// When the database fails; the turn is over with its lease.
    pub async fn give_back_action(&self, turn: &Turn) -> Result<(), StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query!(
            "WITH given_back AS (
                 UPDATE feather.sync_actions SET worker = NULL, lease_token = NULL, lease_until = NULL
                 WHERE id = $1 AND lease_token = $2
                 RETURNING id
             )
             SELECT pg_notify('feather_sync', $3) FROM given_back",
            turn.id,
            turn.token,
            ACTION
        );
        let result = within(async { Ok(query.execute(&mut *session).await?) }).await;
        session.settle(result).map(|_| ())
    }

    /// Ends an action that cannot be done.
    ///
    /// # Errors
    /// When the database fails; the turn is over with its lease.
    pub async fn fail_action(&self, turn: &Turn, why: &str) -> Result<(), StoreError> {
        let mut session = self.session().await?;
        let result = within(async {
            let mut tx = session.begin().await?;
            portion::end(&mut tx, turn, Ended::Failed, Some(why)).await?;
            tx.commit().await?;
            Ok(())
        })
        .await;
        session.settle(result)
    }
}

/// The oldest action that is not over, nobody's, and known to this version; locked, as those that it passed over.
async fn first_known(
    conn: &mut PgConnection,
    lease: Duration,
) -> Result<Option<Turn>, sqlx::Error> {
    let mut behind = i64::MIN;
    loop {
        let open = sqlx::query!(
            "SELECT id, action, filter, requested_by, requested_at FROM feather.sync_actions
             WHERE finished_at IS NULL AND id > $2
               -- What is leased for longer than anybody does it was leased before the database's clock went back.
               AND (lease_until BETWEEN clock_timestamp() AND clock_timestamp() + $1 * interval '1 second') IS NOT TRUE
             ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED",
            lease.as_secs_f64(),
            behind
        )
        .fetch_all(&mut *conn)
        .await?;
        let Some(last) = open.last().map(|row| row.id) else {
            return Ok(None);
        };
        behind = last;
        let known = open.into_iter().find_map(|row| {
            Some(Turn {
                id: row.id,
                token: Uuid::new_v4(),
                action: Action::parse(&row.action)?,
                filter: serde_json::from_value(row.filter).ok()?,
                requested_by: row.requested_by,
                requested_at: row.requested_at,
                dead_from: None,
            })
        });
        if known.is_some() {
            return Ok(known);
        }
    }
}

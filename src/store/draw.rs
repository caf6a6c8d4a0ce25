//! A single call outside of the queue: its token from the account's budget, and what its answer says of the account.

use crate::domain::AccountName;
use crate::domain::AccountWord;
use crate::domain::Budget;
use crate::domain::Failure;
use crate::domain::pace::CLIMB_PER_SECOND;
use crate::store::account;
use crate::store::account::Said;
use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use chrono::DateTime;
use chrono::Utc;
use sqlx::Connection;
use std::time::Duration;

/// What came of asking for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Draw {
    /// The call may begin at once.
    Granted(Token),
    /// The budget allows it after this long.
    Wait(Duration),
    /// The API keeps the account from working for this long.
    Paused {
        /// `auth` or `rate_limited`.
        reason: String,
        /// Until a probe may go out.
        left: Duration,
    },
    /// An operator has paused it.
    PausedByOperator(String),
}

/// Leave to make one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// When it was drawn, on the database's clock: before the call.
    pub drawn_at: DateTime<Utc>,
    /// It is the single call that tests whether a paused account works again.
    pub probe: bool,
    /// Until when nobody else calls for its sake, while it is a probe.
    held_until: DateTime<Utc>,
}

impl Db {
    /// Draws a token for one call from the account's bucket, as a claim does. Where it is a probe, nobody else calls for
    /// `patience`, or until [`hear`](Self::hear).
    ///
    /// # Errors
    /// When the database fails; a token may have been drawn then.
    pub async fn draw(
        &self,
        account: &AccountName,
        budget: Budget,
        patience: Duration,
    ) -> Result<Draw, StoreError> {
        let mut session = self.session().await?;
        let result = within(async {
            // One that no daemon has made known has its whole budget.
            sqlx::query!(
                "INSERT INTO feather.sync_accounts (account) VALUES ($1) ON CONFLICT DO NOTHING",
                account.as_str()
            )
            .execute(&mut *session)
            .await?;
            let row = sqlx::query!(
                r#"
                WITH account AS MATERIALIZED (
                    SELECT * FROM feather.sync_accounts WHERE account = $1 FOR UPDATE
                ), locked AS MATERIALIZED (
                    SELECT account.*, clock_timestamp() AS at FROM account
                ), paced AS (
                    SELECT *, GREATEST(EXTRACT(epoch FROM paused_until - at), 0)::float8 AS paused_for,
                           GREATEST(1 / $4::float8,
                                    LEAST(1, pace + $5::float8 * GREATEST(EXTRACT(epoch FROM at - pace_at)::float8, 0))
                                    * LEAST(1, requests_per_minute / $4::float8)) AS share
                    FROM locked
                ), bucket AS MATERIALIZED (
                    SELECT *, $3::float8 * share AS rate,
                           LEAST(GREATEST($2::float8 * share, 1),
                                 tokens + $3::float8 * share * GREATEST(EXTRACT(epoch FROM at - tokens_at)::float8, 0)) AS saved
                    FROM paced
                ), judged AS MATERIALIZED (
                    SELECT *, operator_paused_at IS NULL AND paused_for <= 0 AND saved >= 1 AS granted FROM bucket
                ), drawn AS (
                    -- Where the clock went back nothing is saved up until the bucket's time begins anew, token or not.
                    UPDATE feather.sync_accounts a
                    SET tokens = j.saved - j.granted::int, tokens_at = j.at, pace_at = LEAST(a.pace_at, j.at),
                        paused_until = CASE WHEN a.pause_reason IS NULL OR NOT j.granted THEN a.paused_until
                                            ELSE j.at + $6 * interval '1 second' END
                    FROM judged j
                    WHERE a.account = j.account AND (j.granted OR j.tokens_at > j.at)
                )
                SELECT at AS "at!", at + $6 * interval '1 second' AS "held_until!", saved AS "saved!", rate AS "rate!", paused_for AS "paused_for!", pause_reason, operator_paused_by,
                       granted AS "granted!"
                FROM judged
                "#,
                account.as_str(),
                budget.burst,
                budget.rate,
                budget.limit,
                CLIMB_PER_SECOND,
                patience.as_secs_f64()
            )
            .fetch_one(&mut *session)
            .await?;
            Ok(row)
        })
        .await;
        let row = session.settle(result)?;
        if row.granted {
            return Ok(Draw::Granted(Token {
                drawn_at: row.at,
                probe: row.pause_reason.is_some(),
                held_until: row.held_until,
            }));
        }
        Ok(match (row.operator_paused_by, row.pause_reason) {
            (Some(operator), _) => Draw::PausedByOperator(operator),
            (None, Some(reason)) if row.paused_for > 0.0 => Draw::Paused {
                reason,
                left: super::seconds(row.paused_for),
            },
            (None, _) => Draw::Wait(super::seconds((1.0 - row.saved) / row.rate)),
        })
    }

    /// Hands back a token whose call was abandoned: another may be the probe, at once.
    ///
    /// # Errors
    /// When the database fails; the account is held until the probe's time is over then.
    pub async fn let_go(&self, account: &AccountName, token: Token) -> Result<(), StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query!(
            "UPDATE feather.sync_accounts SET paused_until = now()
             WHERE account = $1 AND pause_reason IS NOT NULL AND paused_until = $2",
            account.as_str(),
            token.held_until
        );
        let result = within(async { Ok(query.execute(&mut *session).await?) }).await;
        session.settle(result).map(|_| ())
    }

    /// Takes to heart what a call, made with this token, said about its account: 401 and 429 pause it for everybody.
    ///
    /// # Errors
    /// When the database fails; nothing has happened then.
    pub async fn hear(
        &self,
        account: &AccountName,
        token: Token,
        word: &AccountWord,
        failure: Option<&Failure>,
    ) -> Result<(), StoreError> {
        if !token.probe && !matches!(word, AccountWord::Refused { .. }) {
            return Ok(());
        }
        let mut session = self.session().await?;
        let result = within(async {
            let mut tx = session.begin().await?;
            let now = sqlx::query_scalar!(r#"SELECT now() AS "now!""#)
                .fetch_one(&mut *tx)
                .await?;
            let said = Said {
                account,
                word,
                class: failure.map(|failure| failure.class),
                error: failure.map(|failure| failure.message.as_str().into()),
                started_at: token.drawn_at,
                probe: token.probe,
                interrupted: false,
            };
            account::apply_words(&mut tx, [said], now).await?;
            tx.commit().await?;
            Ok(())
        })
        .await;
        session.settle(result)
    }
}

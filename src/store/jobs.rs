//! Lists of jobs for people, page by page, and how many there are. No page reads more of the queue than a bounded part:
//! what is dead, running or waits has its index; everything else is looked through in the order of ids, so far at a time.

mod filter;
pub(super) mod keys;

pub use filter::IdPrefix;
pub use filter::JobFilter;
pub use filter::JobState;

use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use chrono::DateTime;
use chrono::Utc;
use keys::Keys;
use sqlx::Connection;
use sqlx::PgConnection;
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// Rows of a page.
pub const PAGE: usize = 50;
/// Up to so many are counted.
pub(crate) const COUNTED: i64 = 10_000;

/// A job, as lists show it.
#[derive(Clone, Debug)]
pub struct JobRow {
    /// The connection.
    pub connection_id: Uuid,
    /// Its account.
    pub account: String,
    /// `pending`, `running` or `dead`.
    pub state: String,
    /// `finalize`, `settle` or `refresh`.
    pub phase: String,
    /// Smaller runs sooner.
    pub priority: i16,
    /// Since when it is dead or running; when it is or was due.
    pub since: DateTime<Utc>,
    /// For how many seconds that is; less than zero while it is not due.
    pub since_seconds: f64,
    /// Attempts counted so far.
    pub attempt: i32,
    /// The replica that runs it.
    pub worker: Option<String>,
    /// Why it is dead, or why its last attempt failed.
    pub error_class: Option<String>,
    /// The same in words.
    pub error: Option<String>,
    /// Nickname of the connection, if it was ever received.
    pub nickname: Option<String>,
    /// Its integration.
    pub integration_key: Option<String>,
}

/// Where a page begins: behind this row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its time, where the list is in order of that.
    pub at: DateTime<Utc>,
    /// Its id.
    pub id: Uuid,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.at.timestamp_micros(), self.id)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, id) = text.split_once('_').ok_or(())?;
        let at = at.parse().ok().and_then(DateTime::from_timestamp_micros);
        Ok(Self {
            at: at.ok_or(())?,
            id: id.parse().map_err(|_| ())?,
        })
    }
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page<T, P = Place> {
    /// Its rows.
    pub rows: Vec<T>,
    /// Where the next page begins; `None` at the end. It may be that nothing more comes.
    pub next: Option<P>,
}

/// How many jobs a filter matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// So many.
    Exactly(u64),
    /// More than so many.
    MoreThan(u64),
    /// It would have taken too long to count.
    Unknown,
}

impl Db {
    /// A page of the jobs that the filter matches: dead ones from the latest death on, running and waiting ones from the
    /// one that began or is due first; in the order of ids where any state or the beginning of an id is asked for.
    ///
    /// A job that does not change meanwhile is on exactly one page.
    ///
    /// # Errors
    /// When the database fails, or the page takes longer than somebody waits for it.
    pub async fn jobs(
        &self,
        filter: &JobFilter,
        behind: Option<Place>,
    ) -> Result<Page<JobRow>, StoreError> {
        let mut session = self.session().await?;
        let result = within(async {
            let mut tx = session.begin().await?;
            keys::hurry(&mut tx).await?;
            let keys = keys::page(&mut tx, filter, behind).await?;
            let rows = rows(&mut tx, &keys).await?;
            tx.commit().await?;
            Ok(Page {
                rows,
                next: keys.next,
            })
        })
        .await;
        session.settle(result)
    }

    /// How many jobs the filter matches.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_jobs(&self, filter: &JobFilter) -> Result<Count, StoreError> {
        let mut session = self.session().await?;
        let result = within(async {
            let mut tx = session.begin().await?;
            keys::hurry(&mut tx).await?;
            let count = keys::count(&mut tx, filter).await?;
            tx.commit().await?;
            Ok(count)
        })
        .await;
        match session.settle(result) {
            Ok(Some(count)) if count > COUNTED => Ok(Count::MoreThan(COUNTED.unsigned_abs())),
            Ok(Some(count)) => Ok(Count::Exactly(count.unsigned_abs())),
            Ok(None) | Err(StoreError::CutOff(_)) => Ok(Count::Unknown),
            Err(error) => Err(error),
        }
    }
}

async fn rows(conn: &mut PgConnection, keys: &Keys) -> Result<Vec<JobRow>, sqlx::Error> {
    sqlx::query_as!(
        JobRow,
        r#"
        SELECT j.connection_id, j.account, j.state, j.phase, j.priority, t.since AS "since!",
               EXTRACT(epoch FROM now() - t.since)::float8 AS "since_seconds!", j.attempt, j.worker,
               COALESCE(j.error_class, r.last_error_class) AS error_class, r.last_error AS error,
               c.nickname AS "nickname?", c.integration_key AS "integration_key?"
        FROM unnest($1::uuid[]) WITH ORDINALITY AS k (id, place)
        CROSS JOIN LATERAL (SELECT * FROM feather.sync_jobs WHERE connection_id = k.id LIMIT 1) AS j
        CROSS JOIN LATERAL (SELECT CASE j.state WHEN 'running' THEN j.started_at ELSE j.run_at END AS since) AS t
        LEFT JOIN LATERAL (SELECT last_error_class, last_error FROM feather.sync_results
                           WHERE connection_id = j.connection_id LIMIT 1) AS r ON true
        LEFT JOIN LATERAL (SELECT nickname, integration_key FROM feather.integration_connections
                           WHERE id = j.connection_id LIMIT 1) AS c ON true
        ORDER BY k.place
        "#,
        &keys.ids
    )
    .fetch_all(conn)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_goes_into_an_address_and_back() {
        let place = Place {
            at: DateTime::from_timestamp_micros(1_764_123_456_789_012).unwrap(),
            id: Uuid::from_u128(7),
        };
        assert_eq!(place.to_string().parse(), Ok(place));
        for wrong in [
            "",
            "_",
            "1_",
            "x_00000000-0000-0000-0000-000000000007",
            "9999999999999999999_00000000-0000-0000-0000-000000000007",
        ] {
            assert_eq!(wrong.parse::<Place>(), Err(()), "{wrong}");
        }
    }
}

//! The invariants of the stored state: questions whose right answer is no row.
//!
//! Each is one statement, and so sees one snapshot: since connections, tools, history and jobs change in one
//! transaction, a daemon at work breaks none of them, not for a moment. Nothing is written and no row is locked.
//!
//! Tables are walked by physical pages rather than by key: a slice is read in order of the disk, costs the same
//! whatever the distribution of the ids, and its snapshot is let go after a fraction of a second. A row that is rewritten
//! between two slices may be looked at twice or, that time, not at all.

mod invariant;
mod jobs;
mod surroundings;
mod tables;
mod words;

pub use invariant::Invariant;

use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use invariant::Source;
use sqlx::PgConnection;
use std::time::Duration;
use uuid::Uuid;

/// How to look.
#[derive(Clone, Debug)]
pub struct VerifySettings {
    /// For how long the history is kept (`retention.attempts`).
    pub history: Duration,
    /// Most rows shown per invariant, at least 1.
    pub rows: usize,
    /// How late a lease may be ended, how long a session of ours may sit in a transaction (a lock twice as long), and
    /// how far clocks may differ. Replicas look every 5 s, the server ends idle transactions after 5 s.
    pub patience: Duration,
    /// Pages of a table per statement, at least 1.
    pub pages: u32,
}

impl VerifySettings {
    /// As `verify` uses them, for a history of this length.
    pub fn new(history: Duration) -> Self {
        Self {
            history,
            rows: 20,
            patience: Duration::from_secs(60),
            pages: 512,
        }
    }
}

/// A row that breaks an invariant.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// The connection that it is about, if it is about one.
    pub connection_id: Option<Uuid>,
    /// Its account.
    pub account: Option<String>,
    /// What is wrong.
    pub detail: String,
}

/// What was found about one invariant.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The invariant.
    pub invariant: Invariant,
    /// The rows that break it; none when it holds.
    pub violations: Vec<Violation>,
    /// There are more than are shown.
    pub more: bool,
}

impl Finding {
    /// Whether the invariant holds.
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }
}

/// No table has a page of this number.
const NO_PAGE: i64 = 0xFFFF_FFFF;

/// About as many rows of the change feed as a page of it has.
const EVENTS_PER_PAGE: i64 = 64;

/// How many pages a table has in all its parts, and how many the longest of these.
struct Size {
    source: Source,
    pages: i64,
    longest: i64,
}

impl Size {
    /// A page of the longest part: what is before it in every part is this many pages, where they are about as long.
    fn of_longest(&self, page: i64) -> i64 {
        page.saturating_mul(self.longest) / self.pages.max(1)
    }
}

/// One statement's share.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// First page.
    first: i64,
    /// The page after the last.
    end: i64,
    /// Most rows.
    limit: i64,
    /// Seconds.
    patience: f64,
    /// Seconds.
    history: f64,
}

impl Db {
    /// Checks the stored state against every invariant, in the order of [`Invariant::ALL`]. `progress` hears how
    /// many pages are done, and of how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn verify(
        &self,
        settings: &VerifySettings,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Vec<Finding>, StoreError> {
        let mut findings = Invariant::ALL.map(|invariant| Finding {
            invariant,
            violations: Vec::new(),
            more: false,
        });
        let look = Look {
            first: 0,
            end: NO_PAGE,
            limit: i64::try_from(settings.rows).map_or(i64::MAX, |rows| rows.saturating_add(1)),
            patience: settings.patience.as_secs_f64(),
            history: settings.history.as_secs_f64(),
        };
        self.look(&mut findings, Source::Once, look, settings.rows)
            .await?;

        let step = i64::from(settings.pages.max(1));
        let sizes = self.pages().await?;
        let total: i64 = sizes.iter().map(|size| size.pages).sum();
        let mut done = 0;
        for size in sizes {
            let pages = size.pages;
            let mut first = 0;
            while first < pages.max(1) {
                // The last look goes to the end, wherever that is by then.
                let last = first + step >= pages;
                let share = Look {
                    first: size.of_longest(first),
                    end: if last {
                        NO_PAGE
                    } else {
                        size.of_longest(first + step)
                    },
                    ..look
                };
                self.look(&mut findings, size.source, share, settings.rows)
                    .await?;
                first += step;
                progress(
                    (done + first.min(pages)).unsigned_abs(),
                    total.unsigned_abs(),
                );
            }
            done += pages;
        }
        Ok(findings.into())
    }

    async fn look(
        &self,
        findings: &mut [Finding],
        source: Source,
        look: Look,
        rows: usize,
    ) -> Result<(), StoreError> {
        for finding in findings.iter_mut() {
            if finding.invariant.source() != source || finding.more {
                continue;
            }
            let mut session = self.session().await?;
            let result =
                within(async { Ok(ask(&mut session, finding.invariant, look).await?) }).await;
            finding.violations.extend(session.settle(result)?);
            finding.more = finding.violations.len() > rows;
            finding.violations.truncate(rows);
        }
        Ok(())
    }

    /// The tables that are walked, with their sizes as of now.
    async fn pages(&self) -> Result<Vec<Size>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query!(
            r#"SELECT pg_relation_size('feather.sync_jobs') / size AS "jobs!",
                      pg_relation_size('feather.sync_results') / size AS "results!",
                      a.pages AS "attempts!", a.longest AS "longest!",
                      pg_relation_size('feather.integration_connections') / size AS "connections!",
                      pg_relation_size('feather.integration_connection_tools') / size AS "tools!",
                      -- In the order of their numbers, so many to a page.
                      (SELECT COALESCE(max(e.id), 0) FROM feather.sync_events e) / $1 AS "events!"
               FROM (SELECT current_setting('block_size')::bigint AS size) AS block
               CROSS JOIN LATERAL (
                   SELECT COALESCE(sum(pg_relation_size(t.relid) / size), 0)::bigint AS pages,
                          COALESCE(max(pg_relation_size(t.relid) / size), 0) AS longest
                   FROM pg_partition_tree('feather.sync_attempts') AS t WHERE t.isleaf
               ) AS a"#,
            EVENTS_PER_PAGE
        );
        let result = within(async { Ok(query.fetch_one(&mut *session).await?) }).await;
        let row = session.settle(result)?;
        let whole = |source, pages| Size {
            source,
            pages,
            longest: pages,
        };
        Ok(vec![
            whole(Source::Jobs, row.jobs),
            whole(Source::Results, row.results),
            Size {
                source: Source::Attempts,
                pages: row.attempts,
                longest: row.longest,
            },
            whole(Source::Connections, row.connections),
            whole(Source::Tools, row.tools),
            whole(Source::Events, row.events),
        ])
    }
}

async fn ask(
    conn: &mut PgConnection,
    invariant: Invariant,
    look: Look,
) -> Result<Vec<Violation>, sqlx::Error> {
    match invariant {
        Invariant::SchemaIsWhole => surroundings::schema_is_whole(conn, look).await,
        Invariant::JobsAreCoherent => jobs::jobs_are_coherent(conn, look).await,
        Invariant::LeasesEnd => jobs::leases_end(conn, look).await,
        Invariant::TokensAreUnique => jobs::tokens_are_unique(conn, look).await,
        Invariant::AttemptsAreRecorded => jobs::attempts_are_recorded(conn, look).await,
        Invariant::DeadJobsSayWhy => jobs::dead_jobs_say_why(conn, look).await,
        Invariant::SettlingJobsAreStored => jobs::settling_jobs_are_stored(conn, look).await,
        Invariant::NothingIsLost => words::nothing_is_lost(conn, look).await,
        Invariant::LastWordsAreCoherent => words::last_words_are_coherent(conn, look).await,
        Invariant::HistoryEndsWithTheLastWord => {
            words::history_ends_with_the_last_word(conn, look).await
        }
        Invariant::SuccessesAreStored => words::successes_are_stored(conn, look).await,
        Invariant::AttemptsAreCoherent => words::attempts_are_coherent(conn, look).await,
        Invariant::FinalizedConnectionsAreRecorded => {
            tables::finalized_connections_are_recorded(conn, look).await
        }
        Invariant::ConnectionTimesAreOrdered => {
            tables::connection_times_are_ordered(conn, look).await
        }
        Invariant::ToolsHaveConnections => tables::tools_have_connections(conn, look).await,
        Invariant::ToolTimesAreOrdered => tables::tool_times_are_ordered(conn, look).await,
        Invariant::EventsHaveConnections => tables::events_have_connections(conn, look).await,
        Invariant::AccountsAreCoherent => surroundings::accounts_are_coherent(conn, look).await,
        Invariant::SessionsAreBrief => surroundings::sessions_are_brief(conn, look).await,
        Invariant::LocksAreBrief => surroundings::locks_are_brief(conn, look).await,
    }
}

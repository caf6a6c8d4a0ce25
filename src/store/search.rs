//! The search over the tools of all connections. Each list is in the order of an index, and reads a bounded part of it for
//! a page, so that it is as fast with ten million tools as with ten.

mod keys;

use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use crate::store::jobs::PAGE;
use crate::store::jobs::Page;
use crate::store::jobs::keys::hurry;
use chrono::DateTime;
use chrono::Utc;
use keys::Found;
use keys::Key;
use keys::Search;
use serde::Deserialize;
use serde::Serialize;
use sqlx::Connection;
use sqlx::PgConnection;
use uuid::Uuid;

/// Which tools. What is `None` matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolFilter {
    /// Only those whose slug begins so, in letters of any case.
    pub slug: Option<String>,
    /// Only those whose name begins so, in letters of any case.
    pub name: Option<String>,
    /// Only those of this integration.
    pub integration: Option<String>,
    /// Only those that are so.
    pub kind: Option<ToolKind>,
}

/// What one looks for among tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolKind {
    /// With saved paths or configured fields that are no longer there.
    Stale,
    /// May not be used.
    Disabled,
    /// First received in the last seven days.
    Added,
    /// Changed since they were first received, the latest change first.
    Changed,
    /// Removed, the latest first.
    Removed,
}

impl ToolKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Stale,
        Self::Disabled,
        Self::Added,
        Self::Changed,
        Self::Removed,
    ];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Disabled => "disabled",
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }

    /// The kind that a word names.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A tool of some connection. Texts are cut to 300 characters.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the table's comments say it")]
pub struct FoundTool {
    pub connection_id: Uuid,
    pub id: Uuid,
    pub integration_key: String,
    pub slug: String,
    pub display_name: String,
    pub is_enabled: bool,
    pub stale_field_paths: Vec<String>,
    pub stale_input_fields: Vec<String>,
    pub first_seen_at: DateTime<Utc>,
    pub changed_at: DateTime<Utc>,
    pub removed_at: Option<DateTime<Utc>>,
    /// Nickname of the connection.
    pub nickname: Option<String>,
}

/// Where a page begins: behind this tool, by what its list is in the order of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolPlace {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    connection: Uuid,
    id: Uuid,
}

impl Db {
    /// A page of the tools that the filter matches, in the order of the latest change where the kind says so, else by
    /// connection. But for those that are looked for as removed, they exist.
    ///
    /// # Errors
    /// When the database fails, or the page takes longer than somebody waits for it.
    pub async fn search_tools(
        &self,
        filter: &ToolFilter,
        behind: Option<&ToolPlace>,
    ) -> Result<Page<FoundTool, ToolPlace>, StoreError> {
        let mut session = self.session().await?;
        let result = within(async {
            let mut tx = session.begin().await?;
            hurry(&mut tx).await?;
            let search = Search::new(filter, behind);
            let (keys, next) = page(search.found(&mut tx).await?);
            let rows = rows(&mut tx, &keys).await?;
            tx.commit().await?;
            Ok(Page { rows, next })
        })
        .await;
        session.settle(result)
    }
}

/// The first of them that fit, and where to go on.
fn page(found: Found) -> (Vec<Key>, Option<ToolPlace>) {
    let last = found.keys.last().map(place);
    let mut fitting: Vec<Key> = found.keys.into_iter().filter(|key| key.fits).collect();
    let is_full = fitting.len() > PAGE;
    fitting.truncate(PAGE);
    let next = match fitting.last() {
        Some(key) if is_full => Some(place(key)),
        _ => last.filter(|_| !found.is_all),
    };
    (fitting, next)
}

fn place(key: &Key) -> ToolPlace {
    ToolPlace {
        at: key.at,
        text: key.text.clone(),
        connection: key.connection_id,
        id: key.id,
    }
}

async fn rows(conn: &mut PgConnection, keys: &[Key]) -> Result<Vec<FoundTool>, sqlx::Error> {
    let connections: Vec<_> = keys.iter().map(|key| key.connection_id).collect();
    let ids: Vec<_> = keys.iter().map(|key| key.id).collect();
    sqlx::query_as!(
        FoundTool,
        r#"
        SELECT t.connection_id, t.id, left(t.integration_key, 300) AS "integration_key!", left(t.slug, 300) AS "slug!",
               left(t.display_name, 300) AS "display_name!", t.is_enabled, t.stale_field_paths[1:20] AS "stale_field_paths!",
               t.stale_input_fields[1:20] AS "stale_input_fields!", t._first_seen_at AS first_seen_at,
               t._changed_at AS changed_at, t._removed_at AS removed_at, c.nickname AS "nickname?"
        FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS k (connection_id, id, place)
        CROSS JOIN LATERAL (SELECT * FROM feather.integration_connection_tools
                            WHERE connection_id = k.connection_id AND id = k.id LIMIT 1) AS t
        LEFT JOIN LATERAL (SELECT left(nickname, 300) AS nickname FROM feather.integration_connections
                           WHERE id = k.connection_id LIMIT 1) AS c ON true
        ORDER BY k.place
        "#,
        &connections,
        &ids
    )
    .fetch_all(conn)
    .await
}

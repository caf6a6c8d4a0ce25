//! The search over the tools of all connections. Each list is in the order of an index, and reads a bounded part of it for
//! a page, so that it is as fast with ten million tools as with ten.

use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use crate::store::jobs::PAGE;
use crate::store::jobs::Page;
use crate::store::jobs::keys::hurry;
use chrono::DateTime;
use chrono::Utc;
use serde::Deserialize;
use serde::Serialize;
use sqlx::Connection;
use sqlx::PgConnection;
use uuid::Uuid;

/// Tools that are looked at before a page ends, whatever it has found. As in the queries.
const LOOKED_AT: usize = 2_000;
/// Characters of a slug or a name that the indexes hold.
const INDEXED: usize = 60;

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
    at: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    integration: Option<String>,
    connection: Uuid,
    id: Uuid,
}

struct Key {
    connection_id: Uuid,
    id: Uuid,
    at: Option<DateTime<Utc>>,
    text: Option<String>,
    integration: Option<String>,
    /// Not only come by, but looked for.
    fits: bool,
}

impl Db {
    /// A page of the tools that the filter matches: by kind as that says, else in the order of what is searched by, which
    /// is the slug or the name. Tools that are not looked for by kind exist.
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
            let (keys, next) = page(search.keys(&mut tx).await?);
            let rows = rows(&mut tx, &keys).await?;
            tx.commit().await?;
            Ok(Page { rows, next })
        })
        .await;
        session.settle(result)
    }
}

/// The first of them that fit, and where to go on.
fn page(keys: Vec<Key>) -> (Vec<Key>, Option<ToolPlace>) {
    let was_all = keys.len() < LOOKED_AT;
    let last = keys.last().map(place);
    let mut fitting: Vec<Key> = keys.into_iter().filter(|key| key.fits).collect();
    let is_full = fitting.len() > PAGE;
    fitting.truncate(PAGE);
    let next = match fitting.last() {
        Some(key) if is_full => Some(place(key)),
        _ => last.filter(|_| !was_all),
    };
    (fitting, next)
}

fn place(key: &Key) -> ToolPlace {
    ToolPlace {
        at: key.at,
        text: key.text.clone(),
        integration: key.integration.clone(),
        connection: key.connection_id,
        id: key.id,
    }
}

/// What the queries are asked with.
struct Search<'a> {
    kind: Option<ToolKind>,
    integration: Option<&'a str>,
    slug: Option<String>,
    name: Option<String>,
    behind: Option<&'a ToolPlace>,
}

impl<'a> Search<'a> {
    fn new(filter: &'a ToolFilter, behind: Option<&'a ToolPlace>) -> Self {
        // As the indexes have them.
        let cut = |text: &String| -> String {
            let text = text.chars().take(INDEXED);
            text.collect::<String>().to_ascii_lowercase()
        };
        Self {
            kind: filter.kind,
            integration: filter.integration.as_deref(),
            slug: filter.slug.as_ref().map(cut),
            name: filter.name.as_ref().map(cut),
            behind,
        }
    }

    async fn keys(&self, conn: &mut PgConnection) -> Result<Vec<Key>, sqlx::Error> {
        match self.kind {
            Some(ToolKind::Added | ToolKind::Changed | ToolKind::Removed) => {
                self.by_change(conn).await
            }
            Some(ToolKind::Stale) => self.stale(conn).await,
            Some(ToolKind::Disabled) => self.disabled(conn).await,
            None if self.slug.is_some() => self.by_slug(conn).await,
            None => self.by_name(conn).await,
        }
    }

    async fn by_change(&self, conn: &mut PgConnection) -> Result<Vec<Key>, sqlx::Error> {
        sqlx::query_as!(
            Key,
            r#"
            SELECT connection_id, id, _changed_at AS "at?", NULL::text AS text, NULL::text AS integration,
                   (CASE $4 WHEN 'removed' THEN _removed_at IS NOT NULL
                            WHEN 'added' THEN _removed_at IS NULL AND _first_seen_at >= now() - interval '7 days'
                            ELSE _removed_at IS NULL AND _first_seen_at < _changed_at END
                    AND ($5::text IS NULL OR integration_key = $5)
                    AND ($6::text IS NULL OR starts_with(lower(left(slug, 60) COLLATE "C"), $6))
                    AND ($7::text IS NULL OR starts_with(lower(left(display_name, 60) COLLATE "C"), $7))) AS "fits!"
            FROM feather.integration_connection_tools
            WHERE (_changed_at, connection_id, id)
                  < (COALESCE($1, 'infinity'::timestamptz), COALESCE($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid),
                     COALESCE($3, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
              AND _changed_at >= CASE WHEN $4 = 'added' THEN now() - interval '7 days' ELSE '-infinity' END
            ORDER BY _changed_at DESC, connection_id DESC, id DESC
            LIMIT 2000
            "#,
            self.behind.and_then(|place| place.at),
            self.behind.map(|place| place.connection),
            self.behind.map(|place| place.id),
            self.kind.map(ToolKind::as_str),
            self.integration,
            self.slug,
            self.name
        )
        .fetch_all(conn)
        .await
    }

    async fn stale(&self, conn: &mut PgConnection) -> Result<Vec<Key>, sqlx::Error> {
        sqlx::query_as!(
            Key,
            r#"
            SELECT connection_id, id, NULL::timestamptz AS at, NULL::text AS text, NULL::text AS integration,
                   (($3::text IS NULL OR integration_key = $3)
                    AND ($4::text IS NULL OR starts_with(lower(left(slug, 60) COLLATE "C"), $4))
                    AND ($5::text IS NULL OR starts_with(lower(left(display_name, 60) COLLATE "C"), $5))) AS "fits!"
            FROM feather.integration_connection_tools
            WHERE _removed_at IS NULL AND (stale_field_paths <> '{}' OR stale_input_fields <> '{}')
              AND (connection_id, id) > ($1, $2)
            ORDER BY connection_id, id
            LIMIT 2000
            "#,
            self.behind.map_or(Uuid::nil(), |place| place.connection),
            self.behind.map_or(Uuid::nil(), |place| place.id),
            self.integration,
            self.slug,
            self.name
        )
        .fetch_all(conn)
        .await
    }

    async fn disabled(&self, conn: &mut PgConnection) -> Result<Vec<Key>, sqlx::Error> {
        sqlx::query_as!(
            Key,
            r#"
            SELECT connection_id, id, NULL::timestamptz AS at, NULL::text AS text, NULL::text AS integration,
                   (($3::text IS NULL OR integration_key = $3)
                    AND ($4::text IS NULL OR starts_with(lower(left(slug, 60) COLLATE "C"), $4))
                    AND ($5::text IS NULL OR starts_with(lower(left(display_name, 60) COLLATE "C"), $5))) AS "fits!"
            FROM feather.integration_connection_tools
            WHERE _removed_at IS NULL AND NOT is_enabled AND (connection_id, id) > ($1, $2)
            ORDER BY connection_id, id
            LIMIT 2000
            "#,
            self.behind.map_or(Uuid::nil(), |place| place.connection),
            self.behind.map_or(Uuid::nil(), |place| place.id),
            self.integration,
            self.slug,
            self.name
        )
        .fetch_all(conn)
        .await
    }

    async fn by_slug(&self, conn: &mut PgConnection) -> Result<Vec<Key>, sqlx::Error> {
        let slug = self.slug.as_deref().unwrap_or_default();
        sqlx::query_as!(
            Key,
            r#"
            SELECT connection_id, id, NULL::timestamptz AS at, lower(left(slug, 60) COLLATE "C") AS text, NULL::text AS integration,
                   (($5::text IS NULL OR integration_key = $5)
                    AND ($6::text IS NULL OR starts_with(lower(left(display_name, 60) COLLATE "C"), $6))) AS "fits!"
            FROM feather.integration_connection_tools
            WHERE _removed_at IS NULL
              AND (lower(left(slug, 60) COLLATE "C"), connection_id, id) > ($1, $3, $4)
              AND lower(left(slug, 60) COLLATE "C") < $2
            ORDER BY lower(left(slug, 60) COLLATE "C"), connection_id, id
            LIMIT 2000
            "#,
            self.text_behind().unwrap_or(slug),
            end_of(slug),
            self.behind.map_or(Uuid::nil(), |place| place.connection),
            self.behind.map_or(Uuid::nil(), |place| place.id),
            self.integration,
            self.name
        )
        .fetch_all(conn)
        .await
    }

    /// From each of the integrations in use, unless one is asked for, each of which one probe of the index finds.
    async fn by_name(&self, conn: &mut PgConnection) -> Result<Vec<Key>, sqlx::Error> {
        let name = self.name.as_deref().unwrap_or_default();
        let mut keys = sqlx::query_as!(
            Key,
            r#"
            WITH RECURSIVE integrations AS (
                (SELECT left($1::text, 60) AS key WHERE $1 IS NOT NULL
                 UNION ALL
                 (SELECT left(integration_key, 60) FROM feather.integration_connection_tools
                  WHERE _removed_at IS NULL AND $1 IS NULL
                  ORDER BY left(integration_key, 60) LIMIT 1))
                UNION ALL
                SELECT next.key
                FROM integrations i
                CROSS JOIN LATERAL (
                    SELECT left(t.integration_key, 60) AS key FROM feather.integration_connection_tools t
                    WHERE t._removed_at IS NULL AND left(t.integration_key, 60) > i.key AND $1::text IS NULL
                    ORDER BY left(t.integration_key, 60) LIMIT 1
                ) AS next
            ), lanes AS (
                -- Of those with the same name, the place is behind those of integrations that come before its own.
                SELECT key, CASE WHEN $4::text IS NULL OR key > $4 THEN '00000000-0000-0000-0000-000000000000'::uuid
                                 WHEN key = $4 THEN $5 ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid END AS connection_id,
                       CASE WHEN $4 IS NULL OR key > $4 THEN '00000000-0000-0000-0000-000000000000'::uuid
                            WHEN key = $4 THEN $6 ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid END AS id
                FROM integrations
            )
            SELECT t.connection_id AS "connection_id!", t.id AS "id!", NULL::timestamptz AS at, t.name AS text, l.key AS integration,
                   true AS "fits!"
            FROM lanes l
            CROSS JOIN LATERAL (
                SELECT connection_id, id, lower(left(display_name, 60) COLLATE "C") AS name
                FROM feather.integration_connection_tools
                WHERE _removed_at IS NULL AND left(integration_key, 60) = l.key
                  AND (lower(left(display_name, 60) COLLATE "C"), connection_id, id) > ($2, l.connection_id, l.id)
                  AND lower(left(display_name, 60) COLLATE "C") < $3
                ORDER BY left(integration_key, 60), lower(left(display_name, 60) COLLATE "C"), connection_id, id
                LIMIT 51
            ) AS t
            ORDER BY t.name, l.key, t.connection_id, t.id
            LIMIT 51
            "#,
            self.integration,
            self.text_behind().unwrap_or(name),
            end_of(name),
            self.behind.and_then(|place| place.integration.as_deref()),
            self.behind.map_or(Uuid::nil(), |place| place.connection),
            self.behind.map_or(Uuid::nil(), |place| place.id)
        )
        .fetch_all(&mut *conn)
        .await?;
        keys.truncate(PAGE + 1);
        Ok(keys)
    }

    fn text_behind(&self) -> Option<&str> {
        self.behind.and_then(|place| place.text.as_deref())
    }
}

/// Behind all that begins so. (In front of all that does is the beginning itself, with ids that nothing has.)
fn end_of(beginning: &str) -> String {
    format!("{beginning}{}", char::MAX)
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

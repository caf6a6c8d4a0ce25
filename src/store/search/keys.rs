//! Tools in the order of some index: those that are come by, each with whether it is looked for.

use crate::store::search::ToolFilter;
use crate::store::search::ToolKind;
use crate::store::search::ToolPlace;
use chrono::DateTime;
use chrono::Utc;
use sqlx::PgConnection;
use uuid::Uuid;

/// Tools that are looked at before a page ends, whatever it has found, and connections. As in the queries.
const LOOKED_AT: usize = 2_000;
const CONNECTIONS: usize = 200;
/// Characters of a slug or a name that are compared, which is what indexes hold.
const COMPARED: usize = 60;

/// A tool that was come by.
pub(super) struct Key {
    pub(super) connection_id: Uuid,
    pub(super) id: Uuid,
    pub(super) at: Option<DateTime<Utc>>,
    pub(super) text: Option<String>,
    /// Not only come by, but looked for.
    pub(super) fits: bool,
}

/// What was looked at for a page.
pub(super) struct Found {
    pub(super) keys: Vec<Key>,
    /// Nothing is left behind it.
    pub(super) is_all: bool,
}

/// A connection whose tools are looked at.
struct Spot {
    nickname: Option<String>,
    id: Uuid,
}

/// What the queries are asked with.
pub(super) struct Search<'a> {
    kind: Option<ToolKind>,
    integration: Option<&'a str>,
    slug: Option<String>,
    name: Option<String>,
    behind: Option<&'a ToolPlace>,
}

impl<'a> Search<'a> {
    pub(super) fn new(filter: &'a ToolFilter, behind: Option<&'a ToolPlace>) -> Self {
        // As the indexes have them.
        let cut = |text: &String| -> String {
            let text = text.chars().take(COMPARED);
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

    pub(super) async fn found(&self, conn: &mut PgConnection) -> Result<Found, sqlx::Error> {
        let keys = match self.kind {
            Some(ToolKind::Added | ToolKind::Changed | ToolKind::Removed) => {
                self.by_change(conn).await?
            }
            Some(ToolKind::Stale) => self.stale(conn).await?,
            Some(ToolKind::Disabled) => self.disabled(conn).await?,
            None => return self.by_connection(conn).await,
        };
        Ok(Found {
            is_all: keys.len() < LOOKED_AT,
            keys,
        })
    }

    async fn by_change(&self, conn: &mut PgConnection) -> Result<Vec<Key>, sqlx::Error> {
        sqlx::query_as!(
            Key,
            r#"
            SELECT connection_id, id, _changed_at AS "at?", NULL::text AS text,
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
            SELECT connection_id, id, NULL::timestamptz AS at, NULL::text AS text,
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
            SELECT connection_id, id, NULL::timestamptz AS at, NULL::text AS text,
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

    /// By way of the connections: of all that are listed, or of some, tools are a few each, and connections have indexes that
    /// no sync has to keep up.
    async fn by_connection(&self, conn: &mut PgConnection) -> Result<Found, sqlx::Error> {
        let connections = match (&self.slug, self.integration) {
            (Some(slug), _) => self.connections_by_nickname(conn, slug).await?,
            (None, Some(key)) => self.connections_of_integration(conn, key).await?,
            (None, None) => self.all_connections(conn).await?,
        };
        let ids: Vec<_> = connections.iter().map(|connection| connection.id).collect();
        let nicknames: Vec<_> = connections
            .iter()
            .map(|connection| connection.nickname.as_deref())
            .collect();
        let keys = sqlx::query_as!(
            Key,
            r#"
            SELECT k.id AS "connection_id!", COALESCE(t.id, 'ffffffff-ffff-ffff-ffff-ffffffffffff') AS "id!",
                   NULL::timestamptz AS at, k.nickname AS text,
                   (($5::text IS NULL OR t.integration_key = $5)
                    AND ($6::text IS NULL OR starts_with(lower(left(t.slug, 60) COLLATE "C"), $6))
                    AND ($7::text IS NULL OR starts_with(lower(left(t.display_name, 60) COLLATE "C"), $7))) IS TRUE
                   AND t.id IS NOT NULL AS "fits!"
            FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS k (id, nickname, place)
            LEFT JOIN LATERAL (
                SELECT id, integration_key, slug, display_name FROM feather.integration_connection_tools
                WHERE connection_id = k.id AND _removed_at IS NULL AND (k.id <> $3 OR id > $4)
                ORDER BY id LIMIT 2000
            ) AS t ON true
            ORDER BY k.place, t.id
            LIMIT 2000
            "#,
            &ids,
            &nicknames as _,
            self.behind.map_or(Uuid::nil(), |place| place.connection),
            self.behind.map_or(Uuid::nil(), |place| place.id),
            self.integration,
            self.slug,
            self.name
        )
        .fetch_all(conn)
        .await?;
        Ok(Found {
            is_all: keys.len() < LOOKED_AT && connections.len() < CONNECTIONS,
            keys,
        })
    }

    /// Slugs of tools begin with their connection's: so either does what is looked for, or that begins with it.
    async fn connections_by_nickname(
        &self,
        conn: &mut PgConnection,
        slug: &str,
    ) -> Result<Vec<Spot>, sqlx::Error> {
        let ends = slug.match_indices('_').map(|(at, _)| &slug[..at]);
        let beginnings: Vec<&str> = ends.collect();
        sqlx::query_as!(
            Spot,
            r#"
            SELECT nickname AS "nickname?", id AS "id!"
            FROM (
                SELECT b.beginning COLLATE "C" AS nickname, c.id
                FROM unnest($1::text[]) AS b (beginning)
                CROSS JOIN LATERAL (
                    SELECT id FROM feather.integration_connections
                    WHERE _removed_at IS NULL AND lower(left(nickname_slug, 60) COLLATE "C") = b.beginning
                      AND b.beginning COLLATE "C" >= $4
                      AND id >= CASE WHEN b.beginning = $4 THEN $5 ELSE '00000000-0000-0000-0000-000000000000'::uuid END
                    ORDER BY lower(left(nickname_slug, 60) COLLATE "C"), id LIMIT 200
                ) AS c
                UNION ALL
                (SELECT lower(left(nickname_slug, 60) COLLATE "C"), id FROM feather.integration_connections
                 WHERE _removed_at IS NULL
                   AND (lower(left(nickname_slug, 60) COLLATE "C"), id)
                       >= (GREATEST($2::text COLLATE "C", $4), CASE WHEN $4 >= $2 COLLATE "C" THEN $5 ELSE '00000000-0000-0000-0000-000000000000'::uuid END)
                   AND lower(left(nickname_slug, 60) COLLATE "C") < $3
                 ORDER BY lower(left(nickname_slug, 60) COLLATE "C"), id LIMIT 200)
            ) AS found
            ORDER BY nickname COLLATE "C", id
            LIMIT 200
            "#,
            &beginnings as _,
            slug,
            format!("{slug}{}", char::MAX),
            self.text_behind().unwrap_or_default(),
            self.behind.map_or(Uuid::nil(), |place| place.connection)
        )
        .fetch_all(conn)
        .await
    }

    async fn connections_of_integration(
        &self,
        conn: &mut PgConnection,
        key: &str,
    ) -> Result<Vec<Spot>, sqlx::Error> {
        sqlx::query_as!(
            Spot,
            r#"
            SELECT NULL::text AS nickname, id FROM feather.integration_connections
            WHERE _removed_at IS NULL AND left(integration_key, 60) = left($1, 60) AND id >= $2
            ORDER BY left(integration_key, 60), id
            LIMIT 200
            "#,
            key,
            self.behind.map_or(Uuid::nil(), |place| place.connection)
        )
        .fetch_all(conn)
        .await
    }

    async fn all_connections(&self, conn: &mut PgConnection) -> Result<Vec<Spot>, sqlx::Error> {
        sqlx::query_as!(
            Spot,
            "SELECT NULL::text AS nickname, id FROM feather.integration_connections
             WHERE _removed_at IS NULL AND id >= $1 ORDER BY id LIMIT 200",
            self.behind.map_or(Uuid::nil(), |place| place.connection)
        )
        .fetch_all(conn)
        .await
    }

    fn text_behind(&self) -> Option<&str> {
        self.behind.and_then(|place| place.text.as_deref())
    }
}

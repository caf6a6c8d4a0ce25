//! Everything known about one connection or one tool, in parts that fit a page, whatever upstream sends.

use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use crate::store::inspect::AttemptRow;
use crate::store::jobs::Page;
use sqlx::Connection;
use uuid::Uuid;

/// A field by its name, as text that may be cut off.
#[derive(Clone, Debug)]
pub struct Field {
    /// The column.
    pub name: String,
    /// Its value; JSON is laid out for reading. `None` is null.
    pub value: Option<String>,
    /// Characters that are not in `value`.
    pub left_out: i32,
}

/// A tool, with its schemas cut to what a list shows.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the table's comments say it")]
pub struct ToolDetails {
    pub id: Uuid,
    pub slug: String,
    pub display_name: String,
    pub description: Option<String>,
    pub is_enabled: bool,
    pub is_stale: bool,
    pub first_seen_at: chrono::DateTime<chrono::Utc>,
    pub changed_at: chrono::DateTime<chrono::Utc>,
    pub removed_at: Option<chrono::DateTime<chrono::Utc>>,
    pub input_schema: Option<String>,
    pub response_schema: Option<String>,
}

/// Where a page of a connection's tools begins: behind this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolSlug {
    /// Beginning of its slug.
    pub slug: String,
    /// Its id.
    pub id: Uuid,
}

/// Tools that a connection's page shows.
const TOOLS: usize = 25;
/// Attempts that it shows.
const ATTEMPTS: usize = 25;

impl Db {
    /// The fields of a connection in the order of the columns, each cut to 4,000 characters; none when it was never
    /// received.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn connection_fields(&self, connection_id: Uuid) -> Result<Vec<Field>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_as!(
            Field,
            r#"
            SELECT f.name AS "name!", left(t.value, 4000) AS value, GREATEST(length(t.value) - 4000, 0) AS "left_out!"
            FROM feather.integration_connections c
            CROSS JOIN LATERAL json_each(row_to_json(c)) WITH ORDINALITY AS f (name, value, place)
            CROSS JOIN LATERAL (
                SELECT CASE json_typeof(f.value) WHEN 'object' THEN jsonb_pretty(f.value::jsonb)
                                                 WHEN 'array' THEN jsonb_pretty(f.value::jsonb)
                                                 ELSE f.value #>> '{}' END AS value
            ) AS t
            WHERE c.id = $1 AND f.name <> '_hash'
            ORDER BY f.place
            "#,
            connection_id
        );
        let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
        session.settle(result)
    }

    /// The fields of a tool in the order of the columns, each cut to 100,000 characters; none when there is no such tool.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tool_fields(
        &self,
        connection_id: Uuid,
        id: Uuid,
    ) -> Result<Vec<Field>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_as!(
            Field,
            r#"
            SELECT f.name AS "name!", left(t.value, 100000) AS value, GREATEST(length(t.value) - 100000, 0) AS "left_out!"
            FROM feather.integration_connection_tools c
            CROSS JOIN LATERAL json_each(row_to_json(c)) WITH ORDINALITY AS f (name, value, place)
            CROSS JOIN LATERAL (
                SELECT CASE json_typeof(f.value) WHEN 'object' THEN jsonb_pretty(f.value::jsonb)
                                                 WHEN 'array' THEN jsonb_pretty(f.value::jsonb)
                                                 ELSE f.value #>> '{}' END AS value
            ) AS t
            WHERE c.connection_id = $1 AND c.id = $2 AND f.name <> '_hash'
            ORDER BY f.place
            "#,
            connection_id,
            id
        );
        let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
        session.settle(result)
    }

    /// The attempts of a connection before this one, newest first. They outlive the connection's other rows.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn attempts_of(
        &self,
        connection_id: Uuid,
        before: Option<i64>,
    ) -> Result<Page<AttemptRow, i64>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_as!(
            AttemptRow,
            "SELECT id, kind, attempt, worker, started_at, finished_at, outcome, http_status, error_class, error,
                    retry_at, tools_status, tools_added, tools_changed, tools_removed, upstream_request_id
             FROM feather.sync_attempts WHERE connection_id = $1 AND id < COALESCE($2, 9223372036854775807)
             ORDER BY id DESC LIMIT 26",
            connection_id,
            before
        );
        let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
        let mut rows = session.settle(result)?;
        let next = rows
            .get(ATTEMPTS - 1)
            .filter(|_| rows.len() > ATTEMPTS)
            .map(|row| row.id);
        rows.truncate(ATTEMPTS);
        Ok(Page { rows, next })
    }

    /// The tools of a connection that have these words in slug, name or description, in the order of their slugs; those
    /// that exist, or removed ones.
    ///
    /// # Errors
    /// When the database fails, or the page takes longer than somebody waits for it.
    pub async fn connection_tools(
        &self,
        connection_id: Uuid,
        words: &str,
        removed: bool,
        behind: Option<&ToolSlug>,
    ) -> Result<Page<ToolDetails, ToolSlug>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_as!(
            ToolDetails,
            r#"
            WITH page AS MATERIALIZED (
                SELECT id, left(slug, 300) AS slug FROM feather.integration_connection_tools
                WHERE connection_id = $1 AND (_removed_at IS NOT NULL) = $3
                  AND ($2 = '' OR strpos(lower(concat_ws(' ', slug, display_name, description)), lower($2)) > 0)
                  AND (left(slug, 300) COLLATE "C", id) > ($4, $5)
                ORDER BY left(slug, 300) COLLATE "C", id
                LIMIT 26
            )
            SELECT t.id, p.slug AS "slug!", left(t.display_name, 300) AS "display_name!", left(t.description, 2000) AS description,
                   t.is_enabled, t.stale_field_paths <> '{}' OR t.stale_input_fields <> '{}' AS "is_stale!",
                   t._first_seen_at AS first_seen_at, t._changed_at AS changed_at, t._removed_at AS removed_at,
                   left(jsonb_pretty(t.input_schema), 4000) AS input_schema,
                   left(jsonb_pretty(t.response_schema), 4000) AS response_schema
            FROM page p
            CROSS JOIN LATERAL (SELECT * FROM feather.integration_connection_tools
                                WHERE connection_id = $1 AND id = p.id LIMIT 1) AS t
            ORDER BY p.slug COLLATE "C", t.id
            "#,
            connection_id,
            words,
            removed,
            behind.map_or("", |tool| tool.slug.as_str()),
            behind.map_or(Uuid::nil(), |tool| tool.id)
        );
        let result = within(async {
            let mut tx = session.begin().await?;
            super::jobs::keys::hurry(&mut tx).await?;
            let rows = query.fetch_all(&mut *tx).await?;
            tx.commit().await?;
            Ok(rows)
        })
        .await;
        let mut rows = session.settle(result)?;
        let last = rows.get(TOOLS - 1).filter(|_| rows.len() > TOOLS);
        let next = last.map(|tool| ToolSlug {
            slug: tool.slug.clone(),
            id: tool.id,
        });
        rows.truncate(TOOLS);
        Ok(Page { rows, next })
    }
}

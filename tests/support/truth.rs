//! Compares what is stored with what the simulated API holds to be true.
//!
//! Included where it is needed by `#[path = "../support/truth.rs"] mod truth;`.

use sqlx::AssertSqlSafe;
use sqlx::PgPool;

/// Whether both tables hold exactly what `truth`, a ConnectionResponse as JSON, says: every column of every row.
pub(crate) async fn compare(pool: &PgPool, truth: &str) -> Result<(), String> {
    let upstream = |row: &str| {
        format!(
            "(SELECT jsonb_object_agg(key, value) FROM jsonb_each(to_jsonb({row})) WHERE left(key, 1) <> '_')"
        )
    };
    let (stored, told) = (upstream("c"), upstream("t"));
    let connection = format!(
        "SELECT {told}::text, (SELECT {stored}::text FROM feather.connections c WHERE c.id = t.id)
         FROM jsonb_populate_record(NULL::feather.integration_connections, $1::jsonb) t"
    );
    let tools = format!(
        "SELECT COALESCE((SELECT jsonb_agg({told} ORDER BY t.id) FROM jsonb_populate_recordset(
                    NULL::feather.integration_connection_tools, $1::jsonb -> 'tools') t), '[]')::text,
                (SELECT COALESCE(jsonb_agg({stored} ORDER BY c.id), '[]')::text FROM feather.integration_connection_tools c
                 WHERE c.connection_id = ($1::jsonb ->> 'id')::uuid AND c._removed_at IS NULL)"
    );
    for sql in [connection, tools] {
        let (told, stored): (String, Option<String>) = sqlx::query_as(AssertSqlSafe(sql))
            .bind(truth)
            .fetch_one(pool)
            .await
            .map_err(|error| error.to_string())?;
        if Some(&told) != stored.as_ref() {
            return Err(format!("told   {told}\nstored {stored:?}"));
        }
    }
    Ok(())
}

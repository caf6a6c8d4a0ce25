//! The floor: the same HTTP calls and the same batched row writes, with nothing around them: no queue, no lease, no
//! retry, no history, no validation, no comparison with what is stored. A program of its own, so that what it costs
//! can be told from what the measuring costs.
//!
//! Ids come in on standard input, one a line; it ends once the last one is written.

use chrono::DateTime;
use chrono::Utc;
use serde::Deserialize;
use serde_json::value::RawValue;
use sqlx::Connection;
use sqlx::PgConnection;
use std::borrow::Cow;
use std::sync::Arc;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use uuid::Uuid;

/// What the floor goes by.
#[derive(Clone, Debug, clap::Args)]
pub struct Floor {
    #[arg(long)]
    database_url: String,
    #[arg(long)]
    api: String,
    /// Calls at a time.
    #[arg(long)]
    concurrency: usize,
    /// Connections written together at most.
    #[arg(long)]
    batch: usize,
}

/// Runs it to the end of its input.
pub async fn run(floor: Floor) {
    feather_sync::feather::install_tls();
    let (answered, answers) = mpsc::channel(floor.batch);
    let writing = tokio::spawn(write_all(answers, floor.database_url, floor.batch));
    let http = reqwest::Client::new();
    let slots = Arc::new(Semaphore::new(floor.concurrency));
    let mut ids = BufReader::new(tokio::io::stdin()).lines();
    while let Some(id) = ids.next_line().await.unwrap() {
        let slot = slots.clone().acquire_owned().await.unwrap();
        let url = format!("{}/v1/integrations/connections/{id}/finalize", floor.api);
        let (http, answered) = (http.clone(), answered.clone());
        tokio::spawn(async move {
            let call = http
                .post(url)
                .header("x-api-key", "key")
                .header("content-length", 0);
            let answer = call
                .send()
                .await
                .unwrap()
                .error_for_status()
                .unwrap()
                .bytes()
                .await
                .unwrap();
            drop(slot);
            answered.send(answer.to_vec()).await.unwrap();
        });
    }
    drop(answered);
    writing.await.unwrap();
}

async fn write_all(mut answers: mpsc::Receiver<Vec<u8>>, url: String, most: usize) {
    let mut conn = PgConnection::connect(&url).await.unwrap();
    let mut batch = Vec::new();
    while answers.recv_many(&mut batch, most).await > 0 {
        let read: Vec<Answer<'_>> = batch
            .iter()
            .map(|answer| serde_json::from_slice(answer).unwrap())
            .collect();
        write(&mut conn, &read).await;
        batch.clear();
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    id: Uuid,
    organization_id: Uuid,
    #[serde(borrow)]
    integration_key: Cow<'a, str>,
    #[serde(borrow)]
    nickname_slug: Cow<'a, str>,
    #[serde(borrow)]
    nickname: Cow<'a, str>,
    #[serde(borrow)]
    vendor: Cow<'a, str>,
    #[serde(borrow)]
    vendor_connection_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow)]
    tools_status: Cow<'a, str>,
    tools_synced_at: Option<DateTime<Utc>>,
    #[serde(borrow)]
    status_reason: Option<Cow<'a, str>>,
    connected_at: Option<DateTime<Utc>>,
    last_refreshed_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
    #[serde(borrow)]
    metadata: &'a RawValue,
    #[serde(borrow)]
    voice_account_cps: Option<&'a RawValue>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    #[serde(borrow)]
    tools: Vec<Tool<'a>>,
}

#[derive(Deserialize)]
struct Tool<'a> {
    connection_id: Uuid,
    id: Uuid,
    organization_id: Uuid,
    #[serde(borrow)]
    integration_key: Cow<'a, str>,
    #[serde(borrow)]
    nickname_slug: Cow<'a, str>,
    #[serde(borrow)]
    tool_path: Cow<'a, str>,
    #[serde(borrow)]
    slug: Cow<'a, str>,
    #[serde(borrow)]
    display_name: Cow<'a, str>,
    #[serde(borrow)]
    description: Option<Cow<'a, str>>,
    #[serde(borrow)]
    input_schema: &'a RawValue,
    #[serde(borrow)]
    response_schema: Option<&'a RawValue>,
    #[serde(borrow)]
    response_field_map: Option<&'a RawValue>,
    #[serde(borrow)]
    input_defaults: Option<&'a RawValue>,
    is_enabled: bool,
    last_seen_at: DateTime<Utc>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    #[serde(borrow)]
    stale_field_paths: Vec<Cow<'a, str>>,
    default_count: i64,
    pinned_count: i64,
    #[serde(borrow)]
    stale_input_fields: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    merged_input_preview: &'a RawValue,
}

fn json(value: Option<&RawValue>) -> Option<&str> {
    value.map(RawValue::get)
}

fn text_array(items: &[Cow<'_, str>]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
    format!("{{{}}}", quoted.join(","))
}

/// The rows of these answers, in one transaction.
async fn write(conn: &mut PgConnection, answers: &[Answer<'_>]) {
    macro_rules! column {
        ($rows:expr, $row:ident => $value:expr) => {
            $rows.iter().map(|$row| $value).collect::<Vec<_>>()
        };
    }
    let mut tx = conn.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO feather.integration_connections
             (id, organization_id, integration_key, nickname_slug, nickname, vendor, vendor_connection_id, status,
              tools_status, tools_synced_at, status_reason, connected_at, last_refreshed_at, last_used_at, metadata,
              voice_account_cps, created_at, updated_at, _account, _first_seen_at, _synced_at, _changed_at, _hash)
         SELECT id, organization_id, integration_key, nickname_slug, nickname, vendor, vendor_connection_id, status,
                tools_status, tools_synced_at, status_reason, connected_at, last_refreshed_at, last_used_at,
                metadata::jsonb, cps::numeric, created_at, updated_at, 'default', now(), now(), now(), ''
         FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                     $9::text[], $10::timestamptz[], $11::text[], $12::timestamptz[], $13::timestamptz[],
                     $14::timestamptz[], $15::text[], $16::text[], $17::timestamptz[], $18::timestamptz[])
              AS v (id, organization_id, integration_key, nickname_slug, nickname, vendor, vendor_connection_id, status,
                    tools_status, tools_synced_at, status_reason, connected_at, last_refreshed_at, last_used_at,
                    metadata, cps, created_at, updated_at)",
    )
    .bind(column!(answers, a => a.id))
    .bind(column!(answers, a => a.organization_id))
    .bind(column!(answers, a => &*a.integration_key))
    .bind(column!(answers, a => &*a.nickname_slug))
    .bind(column!(answers, a => &*a.nickname))
    .bind(column!(answers, a => &*a.vendor))
    .bind(column!(answers, a => a.vendor_connection_id.as_deref()))
    .bind(column!(answers, a => &*a.status))
    .bind(column!(answers, a => &*a.tools_status))
    .bind(column!(answers, a => a.tools_synced_at))
    .bind(column!(answers, a => a.status_reason.as_deref()))
    .bind(column!(answers, a => a.connected_at))
    .bind(column!(answers, a => a.last_refreshed_at))
    .bind(column!(answers, a => a.last_used_at))
    .bind(column!(answers, a => a.metadata.get()))
    .bind(column!(answers, a => json(a.voice_account_cps)))
    .bind(column!(answers, a => a.created_at))
    .bind(column!(answers, a => a.updated_at))
    .execute(&mut *tx)
    .await
    .unwrap();
    let tools: Vec<&Tool<'_>> = answers.iter().flat_map(|a| &a.tools).collect();
    sqlx::query(
        "INSERT INTO feather.integration_connection_tools
             (connection_id, id, organization_id, integration_key, nickname_slug, tool_path, slug, display_name,
              description, input_schema, response_schema, response_field_map, input_defaults, is_enabled, last_seen_at,
              created_at, updated_at, stale_field_paths, default_count, pinned_count, stale_input_fields,
              merged_input_preview, _first_seen_at, _changed_at, _hash)
         SELECT connection_id, id, organization_id, integration_key, nickname_slug, tool_path, slug, display_name,
                description, input_schema::jsonb, response_schema::jsonb, response_field_map::jsonb,
                input_defaults::jsonb, is_enabled, last_seen_at, created_at, updated_at, stale_field_paths::text[],
                default_count, pinned_count, stale_input_fields::text[], merged_input_preview::jsonb, now(), now(), ''
         FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                     $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::bool[], $15::timestamptz[],
                     $16::timestamptz[], $17::timestamptz[], $18::text[], $19::bigint[], $20::bigint[], $21::text[],
                     $22::text[])
              AS v (connection_id, id, organization_id, integration_key, nickname_slug, tool_path, slug, display_name,
                    description, input_schema, response_schema, response_field_map, input_defaults, is_enabled,
                    last_seen_at, created_at, updated_at, stale_field_paths, default_count, pinned_count,
                    stale_input_fields, merged_input_preview)",
    )
    .bind(column!(tools, t => t.connection_id))
    .bind(column!(tools, t => t.id))
    .bind(column!(tools, t => t.organization_id))
    .bind(column!(tools, t => &*t.integration_key))
    .bind(column!(tools, t => &*t.nickname_slug))
    .bind(column!(tools, t => &*t.tool_path))
    .bind(column!(tools, t => &*t.slug))
    .bind(column!(tools, t => &*t.display_name))
    .bind(column!(tools, t => t.description.as_deref()))
    .bind(column!(tools, t => t.input_schema.get()))
    .bind(column!(tools, t => json(t.response_schema)))
    .bind(column!(tools, t => json(t.response_field_map)))
    .bind(column!(tools, t => json(t.input_defaults)))
    .bind(column!(tools, t => t.is_enabled))
    .bind(column!(tools, t => t.last_seen_at))
    .bind(column!(tools, t => t.created_at))
    .bind(column!(tools, t => t.updated_at))
    .bind(column!(tools, t => text_array(&t.stale_field_paths)))
    .bind(column!(tools, t => t.default_count))
    .bind(column!(tools, t => t.pinned_count))
    .bind(column!(tools, t => text_array(&t.stale_input_fields)))
    .bind(column!(tools, t => t.merged_input_preview.get()))
    .execute(&mut *tx)
    .await
    .unwrap();
    tx.commit().await.unwrap();
}

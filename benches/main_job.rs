//! The main job against a floor measured in the same run: the same HTTP calls and the same rows, with nothing around
//! them (no queue, lease, history, validation of what is stored). `cargo bench` prints the table; ratios travel,
//! absolute figures do not.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark prints figures and fails by panicking"
)]

use feather_sync::config::Config;
use feather_sync::config::Env;
use feather_sync::daemon;
use feather_sync::domain::CallKind;
use feather_sync::feather::ApiClient;
use feather_sync::feather::ClientSettings;
use feather_sync::feather::Redactor;
use feather_sync::lifecycle::Lifecycle;
use feather_sync::local_postgres::LocalPostgres;
use feather_sync::local_postgres::Options;
use feather_sync::sim::Scenario;
use feather_sync::sim::Sim;
use feather_sync::store;
use feather_sync::store::Roles;
use sqlx::Connection;
use sqlx::PgConnection;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use uuid::Uuid;

const ROUNDS: usize = 5;
const SINGLE: usize = 60;
const DRAIN: usize = 2_000;
const CONCURRENCY: usize = 16;

struct Bench {
    postgres: LocalPostgres,
    sim: Sim,
    client: Arc<ApiClient>,
}

#[tokio::main]
async fn main() {
    feather_sync::feather::install_tls();
    let postgres = LocalPostgres::start(Options {
        durable: true,
        ..Options::default()
    })
    .unwrap();
    let sim = Sim::start(Scenario::from_toml("tools = 8").unwrap()).unwrap();
    let settings = ClientSettings {
        base_url: sim.url(),
        request_timeout: Duration::from_secs(30),
        connect_timeout: Duration::from_secs(5),
        max_body_bytes: 8 << 20,
    };
    let client =
        ApiClient::new(settings, Arc::new(|| Ok("key".into())), Redactor::default()).unwrap();
    let bench = Bench {
        postgres,
        sim,
        client: Arc::new(client),
    };
    let (mut floor_single, mut ours_single, mut floor_drain, mut ours_drain) =
        (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let mut conn = bench.fresh_database().await;
        floor_single.extend(bench.floor_one_by_one(&mut conn).await);
        floor_drain.push(bench.floor_drain().await);
        let mut conn = bench.fresh_database().await;
        ours_single.extend(bench.ours_one_by_one(&mut conn).await);
        ours_drain.push(bench.ours_drain(&mut conn).await);
    }
    println!(
        "{:<44}{:>10}{:>10}{:>10}",
        "median of 5 rounds (idle: of all requests)", "floor", "ours", "ratio"
    );
    for (name, q) in [
        ("idle, request committed -> row visible, p50 ms", 0.5),
        ("… p99 ms", 0.99),
    ] {
        line(
            name,
            quantile(&mut floor_single, q),
            quantile(&mut ours_single, q),
        );
    }
    line(
        "drain, jobs/s",
        quantile(&mut floor_drain, 0.5),
        quantile(&mut ours_drain, 0.5),
    );
}

fn line(name: &str, floor: f64, ours: f64) {
    println!("{name:<44}{floor:>10.2}{ours:>10.2}{:>10.2}", ours / floor);
}

fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * q).round() as usize]
}

fn ids(count: usize) -> Vec<Uuid> {
    (0..count).map(|_| Uuid::new_v4()).collect()
}

impl Bench {
    async fn fresh_database(&self) -> PgConnection {
        self.postgres
            .query("postgres", "DROP DATABASE IF EXISTS bench WITH (FORCE)")
            .await
            .unwrap();
        self.postgres
            .query("postgres", "CREATE DATABASE bench")
            .await
            .unwrap();
        store::migrate(
            &daemon::database_settings(&self.config()).unwrap(),
            Roles::Required,
        )
        .await
        .unwrap();
        self.connect().await
    }

    async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.postgres.url("bench"))
            .await
            .unwrap()
    }

    fn config(&self) -> Config {
        let env: Env = [
            ("DATABASE_URL", self.postgres.url("bench")),
            ("FEATHER_BASE_URL", self.sim.url()),
            ("FEATHER_API_KEY", "key".to_owned()),
            ("FEATHER_SYNC__ADMIN__LISTEN", "off".to_owned()),
            ("FEATHER_SYNC__WORKER__CONCURRENCY", CONCURRENCY.to_string()),
            (
                "FEATHER_SYNC__ACCOUNTS__DEFAULT__REQUESTS_PER_MINUTE",
                "1000000".to_owned(),
            ),
        ]
        .into_iter()
        .collect();
        Config::load(Some("/dev/null".as_ref()), &env).unwrap()
    }

    /// One call, and its rows in one transaction.
    async fn floor_job(&self, conn: &mut PgConnection, id: Uuid) {
        self.client.call(CallKind::Finalize, id).await.unwrap();
        write(conn, vec![self.sim.truth_text(id)]).await;
    }

    async fn floor_one_by_one(&self, conn: &mut PgConnection) -> Vec<f64> {
        let mut millis = Vec::new();
        for id in ids(SINGLE) {
            let began = Instant::now();
            self.floor_job(conn, id).await;
            millis.push(began.elapsed().as_secs_f64() * 1e3);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        millis
    }

    /// As many calls at a time as the daemon makes, and rows written by the batch.
    async fn floor_drain(&self) -> f64 {
        let mut conn = self.connect().await;
        let began = Instant::now();
        for batch in ids(DRAIN).chunks(CONCURRENCY) {
            let calls = batch
                .iter()
                .map(|id| self.client.call(CallKind::Finalize, *id));
            futures_util::future::join_all(calls).await;
            write(
                &mut conn,
                batch.iter().map(|id| self.sim.truth_text(*id)).collect(),
            )
            .await;
        }
        DRAIN as f64 / began.elapsed().as_secs_f64()
    }

    async fn ours_one_by_one(&self, conn: &mut PgConnection) -> Vec<f64> {
        let lifecycle = Lifecycle::default();
        let running = tokio::spawn(daemon::run_until(self.config(), None, lifecycle.clone()));
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut millis = Vec::new();
        for id in ids(SINGLE) {
            sqlx::query("INSERT INTO feather.sync_requests (connection_id) VALUES ($1)")
                .bind(id)
                .execute(&mut *conn)
                .await
                .unwrap();
            let began = Instant::now();
            let seen = "SELECT EXISTS (SELECT FROM feather.integration_connections WHERE id = $1)";
            while !sqlx::query_scalar::<_, bool>(seen)
                .bind(id)
                .fetch_one(&mut *conn)
                .await
                .unwrap()
            {}
            millis.push(began.elapsed().as_secs_f64() * 1e3);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        lifecycle.stop.cancel();
        running.await.unwrap().unwrap();
        millis
    }

    async fn ours_drain(&self, conn: &mut PgConnection) -> f64 {
        sqlx::query("SELECT feather.enqueue_many($1)")
            .bind(ids(DRAIN))
            .execute(&mut *conn)
            .await
            .unwrap();
        let lifecycle = Lifecycle::default();
        let began = Instant::now();
        let running = tokio::spawn(daemon::run_until(self.config(), None, lifecycle.clone()));
        let left = "SELECT EXISTS (SELECT FROM feather.sync_requests) OR EXISTS (SELECT FROM feather.sync_jobs)";
        while sqlx::query_scalar::<_, bool>(left)
            .fetch_one(&mut *conn)
            .await
            .unwrap()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let rate = DRAIN as f64 / began.elapsed().as_secs_f64();
        lifecycle.stop.cancel();
        running.await.unwrap().unwrap();
        rate
    }
}

/// The rows of these answers, in one transaction.
async fn write(conn: &mut PgConnection, answers: Vec<String>) {
    let mut tx = conn.begin().await.unwrap();
    for sql in [
        "INSERT INTO feather.integration_connections
         SELECT r.* FROM unnest($1::text[]) a, jsonb_build_object('_account', 'default', '_extra', '{}'::jsonb,
              '_first_seen_at', now(), '_synced_at', now(), '_changed_at', now(), '_hash', '') own,
              jsonb_populate_record(NULL::feather.integration_connections, a::jsonb || own) r",
        "INSERT INTO feather.integration_connection_tools
         SELECT r.* FROM unnest($1::text[]) a, jsonb_array_elements(a::jsonb -> 'tools') t, jsonb_build_object('_extra',
              '{}'::jsonb, '_first_seen_at', now(), '_changed_at', now(), '_hash', '') own,
              jsonb_populate_record(NULL::feather.integration_connection_tools, t || own) r",
    ] {
        sqlx::query(sql).bind(&answers).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
}

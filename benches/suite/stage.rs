//! What a measure plays on: a Postgres, an API, fresh databases, and the programs that are compared.

use crate::ports::free_port;
use crate::process;
use crate::process::Process;
use feather_sync::local_postgres::LocalPostgres;
use feather_sync::local_postgres::Options;
use sqlx::AssertSqlSafe;
use sqlx::Connection;
use sqlx::PgConnection;
use sqlx::Row;
use std::fmt::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use uuid::Uuid;

/// Calls at a time, of the daemon and of the floor.
pub const CONCURRENCY: usize = 32;
/// Connections written together at most, by either.
pub const BATCH: usize = 50;
/// So many that no measure is bound by it.
pub const UNLIMITED: u32 = 1_000_000;

const DATABASE: &str = "feather_sync_bench";

/// Where everything runs.
#[derive(Clone)]
pub struct Stage {
    program: PathBuf,
    /// Ours, unless another was given.
    postgres: Option<Arc<LocalPostgres>>,
    /// With the name of the database to be replaced.
    server: url::Url,
    database: String,
    given_api: Option<String>,
    pub rounds: usize,
    /// Smaller, to see that it works.
    pub quick: bool,
    /// Larger than most machines and patiences are.
    pub huge: bool,
}

/// The simulator or another API.
pub struct Api {
    pub url: String,
    _sim: Option<Process>,
}

/// What the server did between two moments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Seconds; none of a server that is not ours.
    pub cpu: f64,
    pub wal_bytes: f64,
    pub statements: f64,
}

impl Stage {
    pub fn new(
        program: PathBuf,
        database_url: Option<&str>,
        given_api: Option<String>,
        rounds: usize,
        quick: bool,
        huge: bool,
    ) -> Self {
        let (postgres, server) = match database_url {
            Some(given) => (None, given.parse().unwrap()),
            None => {
                let settings = [
                    // As a small production server has them; the durability too.
                    ("shared_buffers", "1GB"),
                    ("max_wal_size", "4GB"),
                    ("max_connections", "100"),
                    ("shared_preload_libraries", "pg_stat_statements"),
                    ("pg_stat_statements.track_planning", "on"),
                ];
                let options = Options {
                    durable: true,
                    settings: settings.map(|(k, v)| (k.into(), v.into())).into(),
                    ..Options::default()
                };
                let postgres = LocalPostgres::start(options).unwrap();
                let url = postgres.url("postgres").parse().unwrap();
                (Some(Arc::new(postgres)), url)
            }
        };
        Self {
            program,
            postgres,
            server,
            database: DATABASE.to_owned(),
            given_api,
            rounds,
            quick,
            huge,
        }
    }

    /// The same with another database, for what is measured in turns.
    pub fn beside(&self, name: &str) -> Self {
        Self {
            database: format!("{DATABASE}_{name}"),
            ..self.clone()
        }
    }

    /// Whether the API is ours, and does what a scenario says.
    pub fn is_simulated(&self) -> bool {
        self.given_api.is_none()
    }

    /// `full`, or a small part of it to see that it works.
    pub fn size(&self, full: usize) -> usize {
        if self.quick { full.div_ceil(20) } else { full }
    }

    pub fn url(&self) -> String {
        let mut url = self.server.clone();
        url.set_path(&self.database);
        url.to_string()
    }

    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.unwrap()
    }

    /// An empty database with the schema of the program.
    pub async fn fresh_database(&self) -> PgConnection {
        self.drop_database().await;
        let mut server = PgConnection::connect(self.server.as_str()).await.unwrap();
        for sql in [
            format!("CREATE DATABASE {}", self.database),
            // What the last round left must not be paid for in this one.
            "CHECKPOINT".to_owned(),
        ] {
            run(&mut server, &sql).await;
        }
        self.tell(&["migrate"]);
        let mut conn = self.connect().await;
        run(
            &mut conn,
            "CREATE EXTENSION IF NOT EXISTS pg_stat_statements",
        )
        .await;
        conn
    }

    /// Leaves nothing for autovacuum to do.
    pub async fn drop_database(&self) {
        let mut server = PgConnection::connect(self.server.as_str()).await.unwrap();
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.database);
        run(&mut server, &sql).await;
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FEATHER_")) {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .env("DATABASE_URL", self.url())
            .env("FEATHER_SYNC_CONFIG", "/dev/null")
            .env("FEATHER_SYNC__ADMIN__LISTEN", "off")
            .env("FEATHER_API_KEY", "key");
        command
    }

    /// The daemon with settings of its environment.
    pub fn daemon(&self, api: &Api, arguments: &[&str], settings: &[(&str, String)]) -> Process {
        let mut command = self.command(&["run"]);
        command
            .args(arguments)
            .env("FEATHER_BASE_URL", &api.url)
            .env("FEATHER_SYNC__WORKER__CONCURRENCY", CONCURRENCY.to_string())
            .env("FEATHER_SYNC__WORKER__BATCH_SIZE", BATCH.to_string())
            .env(
                "FEATHER_SYNC__ACCOUNTS__DEFAULT__REQUESTS_PER_MINUTE",
                UNLIMITED.to_string(),
            )
            .envs(settings.iter().map(|(name, value)| (name, value)));
        Process::start(&mut command)
    }

    /// The floor, for one call and one connection at a time or as many as the daemon.
    pub fn floor(&self, api: &Api, concurrency: usize, batch: usize) -> Process {
        Process::start(
            Command::new(std::env::current_exe().unwrap())
                .arg("floor")
                .args(["--database-url", &self.url(), "--api", &api.url])
                .args(["--concurrency", &concurrency.to_string()])
                .args(["--batch", &batch.to_string()]),
        )
    }

    /// The API that was given, else a simulator of its own.
    pub async fn api(&self, scenario: &str) -> Api {
        if let Some(url) = &self.given_api {
            return Api {
                url: url.clone(),
                _sim: None,
            };
        }
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), scenario).unwrap();
        let mut command = self.command(&["sim", "--listen", &address, "--scenario"]);
        let sim = Process::start(command.arg(file.path()));
        let patience = Instant::now();
        while TcpStream::connect(&address).is_err() {
            assert!(
                patience.elapsed() < Duration::from_secs(10),
                "no simulator at {address}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Api {
            url: format!("http://{address}"),
            _sim: Some(sim),
        }
    }

    /// Runs a command of the program to its end.
    pub fn tell(&self, arguments: &[&str]) {
        let told = self.command(arguments).output().unwrap();
        assert!(told.status.success(), "{arguments:?}: {told:?}");
    }

    /// Waits until a daemon listens for wake-ups: it has started and looked for work then.
    pub async fn listening(&self, conn: &mut PgConnection) {
        let patience = Instant::now();
        let sql = "SELECT count(*)::float8 FROM pg_stat_activity
                   WHERE datname = current_database() AND query ILIKE 'LISTEN %'";
        while number(conn, sql).await == 0.0 {
            assert!(
                patience.elapsed() < Duration::from_secs(30),
                "the daemon does not listen"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until no daemon has a session any more, so that what they did shows in the server's statistics.
    pub async fn counted(&self, conn: &mut PgConnection) {
        let sql = "SELECT count(*)::float8 FROM pg_stat_activity
                   WHERE datname = current_database() AND application_name = 'feather-sync'";
        while number(conn, sql).await > 0.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Seconds of CPU that the server has used so far; none of a server that is not ours.
    pub fn server_cpu(&self) -> f64 {
        self.postgres
            .as_ref()
            .and_then(|postgres| postgres.pid())
            .map_or(0.0, process::tree_cpu)
    }

    /// What the server has done so far in the database of the bench, the bench's own looking at it aside.
    pub async fn work(&self, conn: &mut PgConnection) -> Work {
        let row = sqlx::query(
            "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8, sum(calls)::float8
             FROM pg_stat_statements
             WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
               AND query NOT LIKE '%pg_stat_%'",
        )
        .fetch_one(conn)
        .await
        .unwrap();
        Work {
            cpu: self.server_cpu(),
            wal_bytes: row.get(0),
            statements: row.get::<Option<f64>, _>(1).unwrap_or_default(),
        }
    }

    /// The costliest statements of a run, where the environment has BENCH_STATEMENTS.
    pub async fn print_statements(&self, conn: &mut PgConnection) {
        if std::env::var_os("BENCH_STATEMENTS").is_none() {
            return;
        }
        let rows = sqlx::query(
            "SELECT calls, total_plan_time::float8, total_exec_time::float8, left(regexp_replace(query, '\\s+', ' ', 'g'), 90)
             FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
             ORDER BY total_plan_time + total_exec_time DESC LIMIT 14",
        )
        .fetch_all(conn)
        .await
        .unwrap();
        let mut text = String::from("    calls   plan ms   exec ms\n");
        for row in rows {
            writeln!(
                text,
                "{:>9}{:>10.0}{:>10.0}  {}",
                row.get::<i64, _>(0),
                row.get::<f64, _>(1),
                row.get::<f64, _>(2),
                row.get::<String, _>(3)
            )
            .unwrap();
        }
        println!("{text}");
    }
}

impl Api {
    /// What the simulator has counted since it started.
    pub async fn counts(&self) -> serde_json::Value {
        let answer = reqwest::get(format!("{}/_sim/stats", self.url)).await;
        let body = answer.unwrap().bytes().await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }
}

impl std::ops::Sub for Work {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            cpu: self.cpu - before.cpu,
            wal_bytes: self.wal_bytes - before.wal_bytes,
            statements: self.statements - before.statements,
        }
    }
}

/// Runs SQL whose rows do not matter.
pub async fn run(conn: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(conn)
        .await
        .unwrap();
}

/// The one number that a query answers with, as a `float8`.
pub async fn number(conn: &mut PgConnection, sql: &str) -> f64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(conn)
        .await
        .unwrap()
}

/// Ids that no other round uses.
pub fn ids(count: usize) -> Vec<Uuid> {
    (0..count).map(|_| Uuid::new_v4()).collect()
}

/// Ids, one a line.
pub fn lines(ids: &[Uuid]) -> String {
    ids.iter().fold(String::new(), |mut text, id| {
        writeln!(text, "{id}").unwrap();
        text
    })
}

/// Puts connections into the inbox.
pub async fn enqueue(conn: &mut PgConnection, ids: &[Uuid]) {
    for chunk in ids.chunks(10_000) {
        sqlx::query("SELECT feather.enqueue_many($1)")
            .bind(chunk)
            .execute(&mut *conn)
            .await
            .unwrap();
    }
}

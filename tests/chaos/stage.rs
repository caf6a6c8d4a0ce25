//! The parts of a run: a Postgres, an upstream per account, daemons, and a proxy on every way between them.

use crate::ledger::Ledger;
use crate::options::Options;
use crate::proxy::Proxy;
use crate::proxy::Target;
use crate::proxy::Traffic;
use crate::replica::Replica;
use crate::report::Report;
use crate::schedule::ACCOUNTS;
use feather_sync::local_postgres::LocalPostgres;
use feather_sync::local_postgres::Options as PostgresOptions;
use feather_sync::local_postgres::Shutdown;
use feather_sync::sim::Scenario;
use feather_sync::sim::Sim;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::SystemTime;
use uuid::Uuid;

pub(crate) const LEASE: Duration = Duration::from_secs(3);

/// Of each account; low enough that it binds.
pub(crate) const REQUESTS_PER_MINUTE: u32 = 900;

/// The percentage of it that refreshes may take.
pub(crate) const REFRESH_PERCENT: u32 = 40;

/// Planted, and looked for in everything that is written.
pub(crate) const PASSWORD: &str = "chaos-database-password";

const FAKETIME: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];

pub(crate) struct Stage {
    pub(crate) seed: u64,
    /// How many of each account are asked for again and again.
    pub(crate) connections: usize,
    pub(crate) folder: PathBuf,
    /// The database's disk, where it is one of its own.
    pub(crate) disk: Option<PathBuf>,
    pub(crate) postgres: LocalPostgres,
    /// Straight to the server.
    pub(crate) pool: PgPool,
    pub(crate) sims: Vec<Sim>,
    pub(crate) replicas: Vec<Replica>,
    /// The key that each upstream accepts unless it is revoked.
    pub(crate) keys: Vec<Mutex<String>>,
    /// All keys that ever were.
    pub(crate) secrets: Mutex<Vec<String>>,
    pub(crate) ledger: Ledger,
    /// When each connection was last edited, deleted or brought back upstream.
    pub(crate) touched: Mutex<BTreeMap<Uuid, SystemTime>>,
    pub(crate) report: Report,
    _ports: TcpListener,
}

impl Stage {
    pub(crate) async fn build(options: &Options, seed: u64) -> Arc<Self> {
        let folder = options.stage.clone().unwrap();
        let report = Report::default();
        let disk = Some(folder.join("disk")).filter(|disk| is_mounted(disk));
        if disk.is_none() {
            report.skip("disk full (needs root, unshare and mount)");
        }
        let postgres = start_postgres().await;
        if let Some(disk) = &disk {
            assert_eq!(
                device(&postgres.data_dir()),
                device(disk),
                "the server's data is not on the small disk: nothing would fill it"
            );
        }
        let pool = PgPoolOptions::new()
            .max_connections(6)
            .acquire_timeout(Duration::from_secs(120))
            .connect_lazy(&postgres.url("feather"))
            .unwrap();
        let sims: Vec<Sim> = (0..ACCOUNTS.len())
            .map(|account| Sim::start(scenario(seed, account)).unwrap())
            .collect();
        let faketime = FAKETIME.iter().find(|file| Path::new(file).exists());
        if faketime.is_none() {
            report.skip("clock stepped (needs libfaketime: apt-get install libfaketime)");
        }
        let socket = postgres.socket_dir().join(".s.PGSQL.5432");
        let ports = take_ports();
        let mut replicas = Vec::new();
        for number in 0..options.replicas() {
            let database = Proxy::start(Target::Unix(socket.clone())).await.unwrap();
            let mut apis = Vec::new();
            for sim in &sims {
                apis.push(Proxy::start(Target::Tcp(sim.address())).await.unwrap());
            }
            let mut admin = ports.local_addr().unwrap();
            admin.set_port(admin.port() + 1 + u16::try_from(number).unwrap());
            let log = folder.join(format!("logs/replica-{number}.log"));
            let mut replica = Replica::new(number, database, apis, admin, log);
            replica.env = environment(&folder, &replica);
            if let Some(library) = faketime {
                step_clocks(&mut replica, library, &folder);
            }
            replicas.push(replica);
        }
        let keys: Vec<String> = (0..ACCOUNTS.len()).map(first_key).collect();
        let stage = Self {
            seed,
            connections: options.connections(),
            folder,
            disk,
            postgres,
            pool,
            sims,
            replicas,
            secrets: Mutex::new(keys.clone()),
            keys: keys.into_iter().map(Mutex::new).collect(),
            ledger: Ledger::default(),
            touched: Mutex::default(),
            report,
            _ports: ports,
        };
        for account in 0..ACCOUNTS.len() {
            stage.write_key(account);
        }
        // The shortest that may be configured. In a run's time that is only once: see `refresher`.
        stage.configure_refreshes("1m");
        stage.migrate().await;
        Arc::new(stage)
    }

    async fn migrate(&self) {
        let output = self.command(&["migrate"]).await;
        assert!(output.status.success(), "{output:?}");
        sqlx::raw_sql(include_str!("ledger.sql"))
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// Runs the command line straight to the database.
    pub(crate) async fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_feather-sync"));
        command
            .args(arguments)
            .env_clear()
            .envs(self.replicas.first().map(|replica| &replica.env).unwrap())
            .env_remove("LD_PRELOAD")
            .env("DATABASE_URL", self.postgres.url("feather"));
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }

    /// Accepts the account's key at its upstream, and writes it to its file as an operator would: in one step.
    pub(crate) fn write_key(&self, account: usize) {
        let key = self.keys[account].lock().unwrap().clone();
        let file = key_file(&self.folder, account);
        let new = file.with_extension("new");
        fs::write(&new, &key).unwrap();
        fs::rename(new, file).unwrap();
        self.sims[account].set_keys(Some(vec![key]));
    }

    fn configure_refreshes(&self, after: &str) {
        let share = f64::from(REFRESH_PERCENT) / 100.0;
        let config = format!("[reconcile]\nrefresh_after = \"{after}\"\nbudget_share = {share}\n");
        fs::write(config_file(&self.folder), config).unwrap();
    }

    /// Has daemons that refresh nothing take the place of those that do: the truth moves with each refresh.
    pub(crate) async fn stop_refreshing(&self) {
        self.configure_refreshes("off");
        for replica in &self.replicas {
            if let Err(what) = replica.terminate().await {
                self.report.wrong(what);
            }
            replica.start();
        }
    }

    pub(crate) fn start_replicas(&self) {
        for replica in &self.replicas {
            replica.start();
        }
    }

    /// Notes that a connection was changed upstream.
    pub(crate) fn touch(&self, id: Uuid) {
        self.touched.lock().unwrap().insert(id, SystemTime::now());
    }

    /// Takes back all that can have gone wrong.
    pub(crate) async fn heal(self: &Arc<Self>) {
        for (account, sim) in self.sims.iter().enumerate() {
            sim.set_faults(Vec::new());
            self.write_key(account);
        }
        for proxy in self.replicas.iter().flat_map(Replica::proxies) {
            proxy.clear_traps();
            // What was held back is lost, as it is after a silence: see `inflict`.
            proxy.cut();
            proxy.set(Traffic::Pass);
        }
        self.revive_postgres().await;
        self.hurry().await;
    }

    /// Faults made the accounts slow, and they become faster by a hundredth a minute: too slow to wait for.
    async fn hurry(&self) {
        let paces: Vec<(String, f64)> =
            sqlx::query_as("SELECT account, pace FROM feather.sync_accounts ORDER BY account")
                .fetch_all(&self.pool)
                .await
                .unwrap();
        for (account, pace) in paces {
            self.report.figure(
                format!("pace after the last fault, account {account}"),
                format!("{:.0} %", pace * 100.0),
            );
        }
        sqlx::query("UPDATE feather.sync_accounts SET pace = 1, pace_at = now()")
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// A server that is not there, or does not take connections, is started anew.
    pub(crate) async fn revive_postgres(self: &Arc<Self>) {
        for _ in 0..50 {
            if sqlx::query("SELECT 1").execute(&self.pool).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.with_postgres(|postgres| postgres.restart(Shutdown::Immediate).unwrap())
            .await;
    }

    pub(crate) async fn with_postgres(
        self: &Arc<Self>,
        act: impl FnOnce(&LocalPostgres) + Send + 'static,
    ) {
        let stage = Arc::clone(self);
        tokio::task::spawn_blocking(move || act(&stage.postgres))
            .await
            .unwrap();
    }
}

/// The connections of an account that producers ask for.
pub(crate) fn connection(account: usize, place: usize) -> Uuid {
    let number = (account * 1_000_000 + place) as u128;
    Uuid::from_u128(0xfea7_c405_0000_4000_8000_0000_0000_0000 + number)
}

fn first_key(account: usize) -> String {
    format!("fth_live_chaos_{}_first", ACCOUNTS[account])
}

fn key_file(folder: &Path, account: usize) -> PathBuf {
    folder.join("keys").join(ACCOUNTS[account])
}

fn config_file(folder: &Path) -> PathBuf {
    folder.join("feather-sync.toml")
}

fn is_mounted(folder: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(1) == folder.to_str())
}

fn device(folder: &Path) -> u64 {
    fs::metadata(folder).unwrap().dev()
}

async fn start_postgres() -> LocalPostgres {
    let settings = [
        // The moment of every commit, for the ledger.
        ("track_commit_timestamp", "on"),
        ("max_connections", "60"),
        ("max_wal_size", "48MB"),
        ("min_wal_size", "8MB"),
        ("log_lock_waits", "on"),
    ];
    let postgres = LocalPostgres::start(PostgresOptions {
        durable: true,
        settings: settings.map(|(k, v)| (k.into(), v.into())).into(),
        ..PostgresOptions::default()
    })
    .unwrap();
    postgres
        .query("postgres", "CREATE DATABASE feather")
        .await
        .unwrap();
    postgres
}

fn scenario(seed: u64, account: usize) -> Scenario {
    let window = ["sliding", "fixed", "sliding"][account];
    // Content differs between the accounts, since every id is a connection in each.
    let seed = seed.wrapping_add(account as u64);
    Scenario::from_toml(&format!(
        "seed = {seed}\ntools = \"0..6\"\nlatency = \"5ms..60ms\"\nsettle = \"0s..1500ms\"\nchurn = 0.2\nkeep_calls = 1000000\n\
         [limit]\nrequests_per_minute = {REQUESTS_PER_MINUTE}\nwindow = \"{window}\"\n"
    ))
    .unwrap()
}

/// Takes ten ports for admin listeners, below those that systems hand out: while the first of them is listened on, no
/// other run takes the others.
fn take_ports() -> TcpListener {
    (20_000..32_000_u16)
        .step_by(10)
        .find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .unwrap()
}

fn environment(folder: &Path, replica: &Replica) -> BTreeMap<String, String> {
    let url = |address| format!("http://{address}");
    let database = format!(
        "postgresql://postgres:{PASSWORD}@{}/feather?sslmode=disable",
        replica.database.address()
    );
    let key = |account| key_file(folder, account).display().to_string();
    let per_minute = REQUESTS_PER_MINUTE.to_string();
    let lease = format!("{}s", LEASE.as_secs());
    [
        ("DATABASE_URL", database.as_str()),
        ("FEATHER_BASE_URL", &url(replica.apis[0].address())),
        ("FEATHER_API_KEY_FILE", &key(0)),
        (
            "FEATHER_SYNC__ACCOUNTS__DEFAULT__REQUESTS_PER_MINUTE",
            &per_minute,
        ),
        (
            "FEATHER_SYNC__ACCOUNTS__SECOND__BASE_URL",
            &url(replica.apis[1].address()),
        ),
        ("FEATHER_SYNC__ACCOUNTS__SECOND__API_KEY_FILE", &key(1)),
        (
            "FEATHER_SYNC__ACCOUNTS__SECOND__REQUESTS_PER_MINUTE",
            &per_minute,
        ),
        (
            "FEATHER_SYNC__ACCOUNTS__QUIET__BASE_URL",
            &url(replica.apis[2].address()),
        ),
        ("FEATHER_SYNC__ACCOUNTS__QUIET__API_KEY_FILE", &key(2)),
        (
            "FEATHER_SYNC__ACCOUNTS__QUIET__REQUESTS_PER_MINUTE",
            &per_minute,
        ),
        ("FEATHER_SYNC__ADMIN__LISTEN", &replica.admin.to_string()),
        (
            "FEATHER_SYNC_CONFIG",
            &config_file(folder).display().to_string(),
        ),
        ("FEATHER_SYNC__API__REQUEST_TIMEOUT", "2s"),
        ("FEATHER_SYNC__API__CONNECT_TIMEOUT", "1s"),
        ("FEATHER_SYNC__LOG__FILTER", "info,feather_sync=debug"),
        ("FEATHER_SYNC__LOG__FORMAT", "text"),
        ("FEATHER_SYNC__RETRY__INITIAL", "100ms"),
        ("FEATHER_SYNC__RETRY__MAX", "2s"),
        ("FEATHER_SYNC__RETRY__MAX_SERVER_DELAY", "3s"),
        ("FEATHER_SYNC__SETTLE__INITIAL", "200ms"),
        ("FEATHER_SYNC__SETTLE__MAX", "1s"),
        ("FEATHER_SYNC__SETTLE__DEADLINE", "30s"),
        ("FEATHER_SYNC__WORKER__LEASE", &lease),
        ("FEATHER_SYNC__WORKER__POLL_INTERVAL", "200ms"),
        ("FEATHER_SYNC__WORKER__SHUTDOWN_GRACE", "3s"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

fn step_clocks(replica: &mut Replica, library: &str, folder: &Path) {
    let file = folder.join(format!("clocks/{}", replica.number));
    fs::write(&file, "+0").unwrap();
    let set = [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_CACHE_DURATION", "1"),
    ];
    replica.env.extend(set.map(|(k, v)| (k.into(), v.into())));
    replica.clock = Some(file);
}

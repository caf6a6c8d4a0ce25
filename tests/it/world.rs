//! One world per test: a database of its own, a simulated API, and a daemon configured for both.

// The tests in a browser have this world, too, from another place.
#[path = "world/books.rs"]
mod books;

use crate::truth;
use feather_sync::config::Config;
use feather_sync::config::Env;
use feather_sync::daemon;
use feather_sync::daemon::DaemonError;
use feather_sync::daemon::UntilEmpty;
use feather_sync::lifecycle::Lifecycle;
use feather_sync::local_postgres::LocalPostgres;
use feather_sync::sim::Kind;
use feather_sync::sim::Scenario;
use feather_sync::sim::Sim;
use feather_sync::store;
use feather_sync::store::Db;
use feather_sync::store::DbSettings;
use feather_sync::store::Finding;
use feather_sync::store::Roles;
use feather_sync::store::VerifySettings;
use sqlx::AssertSqlSafe;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use sqlx::postgres::PgRow;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use uuid::Uuid;

static TEMPLATE: OnceCell<()> = OnceCell::const_new();
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Nothing here takes so long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) struct World {
    pub(crate) pool: PgPool,
    pub(crate) sim: Sim,
    env: BTreeMap<String, String>,
    url: String,
    reconcile: Option<Duration>,
    broken: bool,
}

/// A daemon that runs until it is stopped.
pub(crate) struct Replica {
    pub(crate) lifecycle: Lifecycle,
    running: JoinHandle<Result<(), DaemonError>>,
}

impl Replica {
    pub(crate) async fn stop(self) {
        self.lifecycle.stop.cancel();
        self.running.await.unwrap().unwrap();
    }
}

fn cluster() -> &'static LocalPostgres {
    LocalPostgres::shared().unwrap_or_else(|error| panic!("{error}"))
}

async fn pool(url: &str) -> PgPool {
    let options = PgPoolOptions::new().max_connections(4);
    options.connect(url).await.unwrap()
}

async fn create_database(postgres: &LocalPostgres, statement: String) {
    let admin = pool(&postgres.url("postgres")).await;
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(&admin)
        .await
        .unwrap();
    admin.close().await;
}

async fn migrate(url: &str) {
    store::migrate(&settings(url), Roles::Required)
        .await
        .unwrap();
}

fn settings(url: &str) -> DbSettings {
    DbSettings {
        url: url.into(),
        listen_url: None,
        max_connections: 2,
        prepared_statements: true,
    }
}

fn db(url: &str) -> Db {
    Db::new(&settings(url)).unwrap()
}

async fn verify(url: &str, scrutiny: &VerifySettings) -> Vec<Finding> {
    let db = db(url);
    let findings = db.verify(scrutiny, |_, _| {}).await.unwrap();
    db.close().await;
    findings
}

async fn make_template() {
    feather_sync::feather::install_tls();
    create_database(cluster(), "CREATE DATABASE template_feather".into()).await;
    migrate(&cluster().url("template_feather")).await;
}

impl World {
    /// A world in which nothing goes wrong.
    pub(crate) async fn new() -> Self {
        Self::with(Scenario::default()).await
    }

    pub(crate) async fn with(scenario: Scenario) -> Self {
        Self::from_template("template_feather", scenario).await
    }

    /// In a copy of this database; `template0` is an empty one. The roles are there in any case.
    pub(crate) async fn from_template(template: &str, scenario: Scenario) -> Self {
        TEMPLATE.get_or_init(make_template).await;
        let database = format!("world_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let create = format!("CREATE DATABASE {database} TEMPLATE {template}");
        create_database(cluster(), create).await;
        Self::around(&cluster().url(&database), scenario).await
    }

    /// A world on a server of its own, which may be hurt.
    pub(crate) async fn on(postgres: &LocalPostgres, scenario: Scenario) -> Self {
        feather_sync::feather::install_tls();
        create_database(postgres, "CREATE DATABASE app".into()).await;
        migrate(&postgres.url("app")).await;
        Self::around(&postgres.url("app"), scenario).await
    }

    async fn around(url: &str, scenario: Scenario) -> Self {
        let sim = Sim::start(scenario).unwrap();
        let env = [
            ("DATABASE_URL", url),
            ("FEATHER_BASE_URL", &sim.url()),
            ("FEATHER_API_KEY", "fth_live_test"),
            ("FEATHER_SYNC__ADMIN__LISTEN", "off"),
            ("FEATHER_SYNC__RETRY__INITIAL", "10ms"),
            ("FEATHER_SYNC__RETRY__MAX", "50ms"),
            ("FEATHER_SYNC__SETTLE__INITIAL", "50ms"),
            ("FEATHER_SYNC__SETTLE__MAX", "200ms"),
            ("FEATHER_SYNC__WORKER__POLL_INTERVAL", "100ms"),
            (
                "FEATHER_SYNC__ACCOUNTS__DEFAULT__REQUESTS_PER_MINUTE",
                "60000",
            ),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self {
            pool: pool(url).await,
            sim,
            env: env.into(),
            url: url.to_owned(),
            reconcile: None,
            broken: false,
        }
    }

    /// From now on the tests ask this server: another one has the database.
    pub(crate) async fn moved_to(&mut self, url: &str) {
        self.pool = pool(url).await;
        self.url = url.to_owned();
    }

    /// Sets a variable of the daemon's environment.
    pub(crate) fn set(&mut self, key: &str, value: &str) -> &mut Self {
        self.env.insert(key.into(), value.into());
        self
    }

    /// Takes a variable out of the daemon's environment.
    pub(crate) fn unset(&mut self, key: &str) -> &mut Self {
        self.env.remove(key);
        self
    }

    pub(crate) fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    pub(crate) fn config(&self) -> Config {
        let env: Env = self.env.clone().into_iter().collect();
        let mut config = Config::load(None, &env).unwrap();
        config.reconcile.interval = self.reconcile;
        config
    }

    /// Sets `reconcile.interval`, which may be shorter than operators may have it.
    pub(crate) fn reconcile_every(&mut self, interval: Duration) {
        self.reconcile = Some(interval);
    }

    pub(crate) async fn enqueue(&self, ids: &[Uuid]) {
        sqlx::query("INSERT INTO feather.sync_requests (connection_id) SELECT unnest($1::uuid[])")
            .bind(ids)
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// Runs a daemon until nothing is left to do.
    pub(crate) async fn drain(&self) {
        self.try_drain(PATIENCE).await.unwrap();
    }

    pub(crate) async fn try_drain(&self, timeout: Duration) -> Result<(), DaemonError> {
        let until = UntilEmpty {
            timeout: Some(timeout),
        };
        daemon::run_until(self.config(), Some(until), Lifecycle::default()).await
    }

    /// Enqueues, drains, and checks that the books are straight.
    pub(crate) async fn sync(&self, ids: &[Uuid]) {
        self.enqueue(ids).await;
        self.drain().await;
        self.check().await;
    }

    /// Starts a daemon that runs until it is stopped.
    pub(crate) fn start(&self) -> Replica {
        let lifecycle = Lifecycle::default();
        let running = tokio::spawn(daemon::run_until(self.config(), None, lifecycle.clone()));
        Replica { lifecycle, running }
    }

    pub(crate) async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&self.pool)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// As the daemon and the commands ask the database.
    pub(crate) fn db(&self) -> Db {
        db(&self.url)
    }

    /// Asks the database every invariant.
    pub(crate) async fn verify(&self, scrutiny: &VerifySettings) -> Vec<Finding> {
        verify(&self.url, scrutiny).await
    }

    /// As operators look, but at every row.
    pub(crate) fn scrutiny(&self) -> VerifySettings {
        let history = self.config().retention.attempts;
        VerifySettings {
            rows: usize::MAX,
            ..VerifySettings::new(history)
        }
    }

    pub(crate) async fn assert_hold(&self, scrutiny: &VerifySettings) {
        assert_hold(self.verify(scrutiny).await);
    }

    pub(crate) async fn assert_invariants(&self) {
        self.assert_hold(&self.scrutiny()).await;
    }

    /// This world is meant to end with broken invariants.
    pub(crate) fn leave_broken(&mut self) {
        self.broken = true;
    }

    /// The one row of a query.
    pub(crate) async fn row<T>(&self, sql: &str) -> T
    where
        T: for<'r> sqlx::FromRow<'r, PgRow> + Send + Unpin,
    {
        sqlx::query_as(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&self.pool)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The one value of a query.
    pub(crate) async fn value<T>(&self, sql: &str) -> T
    where
        (T,): for<'r> sqlx::FromRow<'r, PgRow>,
        T: Send + Unpin,
    {
        self.row::<(T,)>(sql).await.0
    }

    pub(crate) async fn rows<T>(&self, sql: &str) -> Vec<T>
    where
        T: for<'r> sqlx::FromRow<'r, PgRow> + Send + Unpin,
    {
        sqlx::query_as(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&self.pool)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Waits until a condition in SQL is true.
    pub(crate) async fn until(&self, condition: &str) {
        let sql = format!("SELECT COALESCE(({condition}), false)");
        let waiting = async {
            while !self.value::<bool>(&sql).await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            panic!("still not: {condition}");
        }
    }

    /// Waits until the API has received so many calls, answered or not.
    pub(crate) async fn called(&self, calls: u64) {
        let waiting = self.sim.wait_for_calls(calls);
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            let came = self.sim.calls().len();
            panic!("still not {calls} calls, only {came}");
        }
    }

    /// Outcomes of a connection's attempts in order, each with its class: `retry/upstream`, `synced`.
    pub(crate) async fn story(&self, id: Uuid) -> Vec<String> {
        let sql = format!(
            "SELECT outcome || COALESCE('/' || error_class, '') FROM feather.sync_attempts
             WHERE connection_id = '{id}' ORDER BY id"
        );
        self.rows::<(String,)>(&sql)
            .await
            .into_iter()
            .map(|(word,)| word)
            .collect()
    }

    /// How often finalize was called for a connection.
    pub(crate) fn finalizes(&self, id: Uuid) -> usize {
        self.sim
            .calls_for(id)
            .iter()
            .filter(|call| call.kind == Kind::Finalize)
            .count()
    }

    /// Whether both tables hold exactly what the API says of a connection: every column of every row.
    pub(crate) async fn equals_truth(&self, id: Uuid) -> Result<(), String> {
        self.equals(&self.sim.truth_text(id)).await
    }

    /// The same of a text that the API is said to have told.
    pub(crate) async fn equals(&self, truth: &str) -> Result<(), String> {
        truth::compare(&self.pool, truth).await
    }
}

impl Drop for World {
    /// Whatever a test is about: at its end every invariant holds, with daemons still at work or not.
    fn drop(&mut self) {
        if self.broken || std::thread::panicking() {
            return;
        }
        let (url, scrutiny) = (self.url.clone(), self.scrutiny());
        // On a thread of its own: this one is inside of the test's runtime.
        let verified = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(verify(&url, &scrutiny))
        });
        assert_hold(verified.join().unwrap());
    }
}

#[track_caller]
fn assert_hold(findings: Vec<Finding>) {
    let broken: Vec<_> = findings.iter().filter(|f| !f.holds()).collect();
    assert!(broken.is_empty(), "broken: {broken:#?}");
}

/// Distinct connection ids.
pub(crate) fn ids(count: u128) -> Vec<Uuid> {
    (1..=count)
        .map(|n| Uuid::from_u128(0xfea7_0000_0000_4000_8000_0000_0000_0000 + n))
        .collect()
}

//! A database per test, in the private Postgres that this test binary shares.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use feather_sync::local_postgres::LocalPostgres;
use sqlx::Connection;
use sqlx::PgConnection;
use sqlx::Row;

use crate::program::Outcome;
use crate::program::program;
use crate::program::run;

const MIGRATED: &str = "migrated";

/// A database of its own.
pub(crate) struct Database {
    postgres: &'static LocalPostgres,
    name: String,
}

impl Database {
    /// Without a schema.
    pub(crate) fn empty() -> Self {
        Self::from_template("template0")
    }

    /// As `migrate` leaves it.
    pub(crate) fn migrated() -> Self {
        static TEMPLATE: OnceLock<()> = OnceLock::new();
        TEMPLATE.get_or_init(|| {
            let template = Self {
                postgres: shared(),
                name: MIGRATED.to_owned(),
            };
            template.create("template0");
            template.feather_sync(&["migrate"]).done();
        });
        Self::from_template(MIGRATED)
    }

    fn from_template(template: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let database = Self {
            postgres: shared(),
            name: format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed)),
        };
        database.create(template);
        database
    }

    fn create(&self, template: &str) {
        let statement = format!("CREATE DATABASE {} TEMPLATE {template}", self.name);
        sql(&self.postgres.url("postgres"), &statement).expect("a new database");
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn socket_dir(&self) -> &Path {
        self.postgres.socket_dir()
    }

    /// As superuser.
    pub(crate) fn url(&self) -> String {
        self.postgres.url(&self.name)
    }

    /// As another user.
    pub(crate) fn url_as(&self, user: &str) -> String {
        self.url().replace("user=postgres", &format!("user={user}"))
    }

    /// A login of this name's own, member of `role` if one is named. Roles are the whole server's, so the
    /// database's name is part of it.
    pub(crate) fn user(&self, role: Option<&str>) -> String {
        let user = format!("{}_{}", self.name, role.unwrap_or("nobody"));
        self.run(&format!("CREATE ROLE {user} LOGIN"));
        if let Some(role) = role {
            self.run(&format!("GRANT {role} TO {user}"));
        }
        user
    }

    /// The rows of a query, as text; null is the empty text.
    #[track_caller]
    pub(crate) fn rows(&self, query: &str) -> Vec<Vec<String>> {
        match sql(&self.url(), query) {
            Ok(rows) => rows,
            Err(error) => panic!("{query}: {error}"),
        }
    }

    #[track_caller]
    pub(crate) fn run(&self, statements: &str) {
        self.rows(statements);
    }

    /// The one value of a query.
    #[track_caller]
    pub(crate) fn value(&self, query: &str) -> String {
        let mut rows = self.rows(query);
        assert_eq!(rows.len(), 1, "{query}: {rows:?}");
        rows.remove(0).remove(0)
    }

    /// Waits until a query's one value is true.
    #[track_caller]
    pub(crate) fn until(&self, query: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.value(query) != "t" {
            assert!(Instant::now() < deadline, "still not: {query}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What Postgres says when it refuses these statements.
    #[track_caller]
    pub(crate) fn refusal(&self, statements: &str) -> String {
        self.as_user("postgres", statements).expect_err("a refusal")
    }

    /// Tries statements as another user.
    pub(crate) fn as_user(&self, user: &str, statements: &str) -> Result<Vec<Vec<String>>, String> {
        sql(&self.url_as(user), statements)
    }

    pub(crate) fn program(&self, arguments: &[&str]) -> Command {
        let mut command = program(arguments);
        command.env("DATABASE_URL", self.url());
        command
    }

    pub(crate) fn feather_sync(&self, arguments: &[&str]) -> Outcome {
        run(&mut self.program(arguments))
    }

    pub(crate) fn feather_sync_as(&self, user: &str, arguments: &[&str]) -> Outcome {
        run(program(arguments).env("DATABASE_URL", self.url_as(user)))
    }
}

fn shared() -> &'static LocalPostgres {
    LocalPostgres::shared().expect("a private Postgres")
}

/// Runs statements on a connection of their own; returns the rows of all of them, as text.
pub(crate) fn sql(url: &str, statements: &str) -> Result<Vec<Vec<String>>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut conn = PgConnection::connect(url)
            .await
            .map_err(|e| e.to_string())?;
        let statements = sqlx::AssertSqlSafe(statements.to_owned());
        let rows = sqlx::raw_sql(statements).fetch_all(&mut conn).await;
        let _ = conn.close().await;
        let text = |row: &sqlx::postgres::PgRow, column| {
            let value: Option<String> = row.try_get_unchecked(column).expect("text");
            value.unwrap_or_default()
        };
        Ok(rows
            .map_err(|e| e.to_string())?
            .iter()
            .map(|row| (0..row.len()).map(|column| text(row, column)).collect())
            .collect())
    })
}

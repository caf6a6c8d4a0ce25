//! What `doctor` asks of the server: what it is, what this user may do there, who holds its rows, and what stands in
//! between. Nothing here needs the schema.

use crate::store::connection::Db;
use crate::store::connection::within;
use crate::store::error::StoreError;
use crate::store::migrate::OLDEST_SERVER;
use crate::store::migrate::ROLES;
use chrono::DateTime;
use chrono::Utc;
use sqlx::Connection;
use sqlx::PgConnection;
use sqlx::Row;

/// How often two sessions are compared: a pooler may have more than one server process to choose from.
const LOOKS: u32 = 4;

/// How many of the oldest holders of rows are named.
const HOLDERS: i64 = 5;

/// The server as this user finds it.
#[derive(Clone, Debug)]
pub struct Server {
    /// Version in words.
    pub version: String,
    /// Version as `server_version_num`.
    pub version_num: i32,
    /// It follows another server.
    pub standby: bool,
    /// Transactions begin read-only.
    pub read_only: bool,
    /// Whether commits are flushed at all.
    pub fsync: bool,
    /// When a commit counts as done.
    pub synchronous_commit: String,
    /// How much is written to the log.
    pub wal_level: String,
    /// This session is encrypted, up to the server or a pooler.
    pub encrypted: bool,
    /// The session comes from another machine.
    pub distant: bool,
    /// Connections that this user may still open.
    pub connections_left: i64,
    /// The schema `feather` is there, in whatever state.
    pub schema_is_there: bool,
}

impl Server {
    /// Whether the server is recent enough.
    pub fn is_supported(&self) -> bool {
        self.version_num >= OLDEST_SERVER
    }
}

/// What this user may do.
#[derive(Clone, Debug)]
pub struct Rights {
    /// Its name.
    pub user: String,
    /// Roles of ours that do not exist.
    pub roles_missing: Vec<String>,
    /// It may enter the schema.
    pub may_enter: bool,
    /// What a worker does and it may not: `DELETE, UPDATE on sync_jobs`.
    pub lacking: Vec<String>,
    /// It sees what other users' sessions do.
    pub sees_sessions: bool,
}

/// What keeps vacuum from removing rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Holder {
    /// In words.
    pub what: String,
    /// For how long; of a replication slot nobody knows.
    pub seconds: Option<f64>,
}

impl Db {
    /// The server as this user finds it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn server(&self) -> Result<Server, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_as!(
            Server,
            r#"
            SELECT current_setting('server_version') AS "version!",
                   current_setting('server_version_num')::int AS "version_num!",
                   pg_is_in_recovery() AS "standby!",
                   current_setting('transaction_read_only') = 'on' AS "read_only!",
                   current_setting('fsync') = 'on' AS "fsync!",
                   current_setting('synchronous_commit') AS "synchronous_commit!",
                   current_setting('wal_level') AS "wal_level!",
                   COALESCE((SELECT s.ssl FROM pg_catalog.pg_stat_ssl s WHERE s.pid = pg_backend_pid()), false) AS "encrypted!",
                   COALESCE(NOT (inet_client_addr() <<= inet '127.0.0.0/8' OR inet_client_addr() = inet '::1'
                                 OR inet_client_addr() = inet_server_addr()), false) AS "distant!",
                   LEAST(current_setting('max_connections')::bigint
                             - current_setting('superuser_reserved_connections')::bigint
                             - COALESCE(current_setting('reserved_connections', true)::bigint, 0)
                             - (SELECT COALESCE(sum(s.numbackends), 0) FROM pg_catalog.pg_stat_database s)::bigint,
                         CASE WHEN d.datconnlimit >= 0
                              THEN d.datconnlimit - (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid) END,
                         CASE WHEN r.rolconnlimit >= 0
                              THEN r.rolconnlimit - (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.usesysid = r.oid) END
                        ) AS "connections_left!",
                   EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'feather') AS "schema_is_there!"
            FROM pg_catalog.pg_database d
            JOIN pg_catalog.pg_roles r ON r.rolname = session_user
            WHERE d.datname = current_database()
            "#
        );
        let result = within(async { Ok(query.fetch_one(&mut *session).await?) }).await;
        session.settle(result)
    }

    /// The database's clock.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn clock(&self) -> Result<DateTime<Utc>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "now!""#);
        let result = within(async { Ok(query.fetch_one(&mut *session).await?) }).await;
        session.settle(result)
    }

    /// What this user may do. Whatever the schema's tables are, a worker writes all but the migrations' own and reads
    /// all views, as `migrate` grants it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn rights(&self) -> Result<Rights, StoreError> {
        let roles = ROLES.to_vec();
        let mut session = self.session().await?;
        let query = sqlx::query_as!(
            Rights,
            r#"
            SELECT current_user::text AS "user!",
                   ARRAY(SELECT ours FROM unnest($1::text[]) AS ours
                         WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = ours)) AS "roles_missing!",
                   COALESCE((SELECT has_schema_privilege(n.oid, 'USAGE') FROM pg_catalog.pg_namespace n
                             WHERE n.nspname = 'feather'), false) AS "may_enter!",
                   ARRAY(SELECT format('%s on %s', string_agg(p.word, ', ' ORDER BY p.word), c.relname)
                         FROM pg_catalog.pg_class c
                         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                         CROSS JOIN unnest(ARRAY['DELETE', 'INSERT', 'SELECT', 'UPDATE']) AS p (word)
                         WHERE n.nspname = 'feather' AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
                           AND (p.word = 'SELECT' OR c.relkind <> 'v' AND c.relname <> '_sqlx_migrations')
                           AND NOT has_table_privilege(c.oid, p.word)
                         GROUP BY c.relname ORDER BY c.relname) AS "lacking!",
                   pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS "sees_sessions!"
            "#,
            &roles as _
        );
        let result = within(async { Ok(query.fetch_one(&mut *session).await?) }).await;
        session.settle(result)
    }

    /// Users who may read reports and not work, and whose statements may last for ever.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn unlimited_readers(&self) -> Result<Vec<String>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_scalar!(
            r#"
            WITH RECURSIVE reader (oid) AS (
                SELECT oid FROM pg_catalog.pg_roles WHERE rolname = 'feather_reporter'
                UNION
                SELECT m.member FROM pg_catalog.pg_auth_members m JOIN reader r ON r.oid = m.roleid
            )
            SELECT u.rolname::text AS "name!"
            FROM reader r JOIN pg_catalog.pg_roles u ON u.oid = r.oid
            WHERE u.rolcanlogin AND NOT u.rolsuper
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles w
                              WHERE w.rolname = 'feather_worker' AND pg_has_role(u.oid, w.oid, 'MEMBER'))
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_db_role_setting s CROSS JOIN unnest(s.setconfig) AS c (setting)
                              WHERE s.setrole IN (u.oid, 0) AND c.setting LIKE 'statement_timeout=%'
                                AND c.setting <> 'statement_timeout=0'
                                AND s.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database d
                                                          WHERE d.datname = current_database())))
              AND has_database_privilege(u.oid, current_database(), 'CONNECT')
            ORDER BY u.rolname
            "#
        );
        let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
        session.settle(result)
    }

    /// What keeps vacuum from removing rows of this database, the oldest first. Replication slots in use are left out:
    /// theirs come and go. What other users' sessions do is hidden from most users; these are left out then.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn holders(&self) -> Result<Vec<Holder>, StoreError> {
        let mut session = self.session().await?;
        let query = sqlx::query_as!(
            Holder,
            r#"
            SELECT h.what AS "what!", h.seconds AS "seconds?"
            FROM (
                SELECT format('session %s of user %s (%s)', a.pid, a.usename, a.state) AS what,
                       EXTRACT(epoch FROM clock_timestamp() - a.xact_start)::float8 AS seconds
                FROM pg_catalog.pg_stat_activity a
                WHERE a.datname = current_database() AND a.backend_type = 'client backend'
                  AND a.backend_xmin IS NOT NULL AND a.xact_start IS NOT NULL AND a.pid <> pg_backend_pid()
                UNION ALL
                SELECT format('the prepared transaction %L of user %s', x.gid, x.owner),
                       EXTRACT(epoch FROM clock_timestamp() - x.prepared)::float8
                FROM pg_catalog.pg_prepared_xacts x WHERE x.database = current_database()
                UNION ALL
                SELECT format('the replication slot %s, which nobody reads', s.slot_name), NULL
                FROM pg_catalog.pg_replication_slots s WHERE s.xmin IS NOT NULL AND NOT s.active
            ) AS h
            ORDER BY h.seconds DESC NULLS FIRST
            LIMIT $1
            "#,
            HOLDERS
        );
        let result = within(async { Ok(query.fetch_all(&mut *session).await?) }).await;
        session.settle(result)
    }

    /// Whether a pooler in transaction mode stands between: two sessions that are open at once share a server process.
    /// It needs two sessions at a time.
    ///
    /// # Errors
    /// When the database fails, or has no room for the second.
    pub async fn is_pooled(&self) -> Result<bool, StoreError> {
        let mut one = self.session().await?;
        let mut other = self.session().await?;
        let result = within(share_a_process(&mut one, &mut other)).await;
        other.settle(one.settle(result))
    }

    /// [`is_pooled`](Self::is_pooled), of the connections that serve LISTEN and migrations.
    ///
    /// # Errors
    /// As [`is_pooled`](Self::is_pooled).
    pub async fn is_pooled_directly(&self) -> Result<bool, StoreError> {
        let mut one = self.direct().connect().await?;
        let mut other = self.direct().connect().await?;
        let result = within(share_a_process(&mut one, &mut other)).await;
        for conn in [one, other] {
            // Leaving politely; the answer is known.
            let _ = conn.close().await;
        }
        result
    }
}

/// A pooler hands out the process that was given back last, so the one that has just served the other.
async fn share_a_process(
    one: &mut PgConnection,
    other: &mut PgConnection,
) -> Result<bool, StoreError> {
    for _ in 0..LOOKS {
        if process(one).await? == process(other).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Without a prepared statement, which a pooler may send to another process than the one that knows it.
async fn process(conn: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::raw_sql("SELECT pg_backend_pid()")
        .fetch_one(conn)
        .await?
        .try_get(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DbSettings;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering;
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::net::TcpStream;

    const INT4: u8 = 23;
    const TEXT: u8 = 25;

    /// Which process serves a statement, by the number of its connection and of the statement among all.
    type Processes = fn(u32, u32) -> u32;

    fn message(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len() + 4).unwrap();
        [&[kind], &length.to_be_bytes()[..], content].concat()
    }

    /// One row of one column, and ready for more.
    fn row(kind: u8, value: &str) -> Vec<u8> {
        let column = [
            &[0, 1, b'c', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, kind][..],
            &[0, 4, 255, 255, 255, 255, 0, 0],
        ];
        let length = u32::try_from(value.len()).unwrap().to_be_bytes();
        let data = [&[0, 1][..], &length, value.as_bytes()];
        [
            message(b'T', &column.concat()),
            message(b'D', &data.concat()),
            message(b'C', b"SELECT 1\0"),
            message(b'Z', b"I"),
        ]
        .concat()
    }

    /// Just enough of Postgres.
    async fn serve(
        mut stream: TcpStream,
        number: u32,
        statements: Arc<AtomicU32>,
        processes: Processes,
    ) -> std::io::Result<()> {
        let length = stream.read_u32().await?;
        let mut startup = vec![0; length as usize - 4];
        stream.read_exact(&mut startup).await?;
        let welcome = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
        stream.write_all(&welcome).await?;
        while stream.read_u8().await? == b'Q' {
            let length = stream.read_u32().await?;
            let mut statement = vec![0; length as usize - 4];
            stream.read_exact(&mut statement).await?;
            let answer = if String::from_utf8_lossy(&statement).contains("pg_backend_pid") {
                let nth = statements.fetch_add(1, Ordering::Relaxed);
                row(INT4, &processes(number, nth).to_string())
            } else {
                row(TEXT, "off")
            };
            stream.write_all(&answer).await?;
        }
        Ok(())
    }

    async fn is_pooled(processes: Processes) -> (bool, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "postgres://u@{}/d?sslmode=disable",
            listener.local_addr().unwrap()
        );
        let statements = Arc::new(AtomicU32::new(0));
        tokio::spawn(async move {
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                tokio::spawn(serve(stream, number, statements.clone(), processes));
            }
        });
        let db = Db::new(&DbSettings {
            url: url.into(),
            listen_url: None,
            max_connections: 2,
            prepared_statements: false,
        })
        .unwrap();
        (
            db.is_pooled().await.unwrap(),
            db.is_pooled_directly().await.unwrap(),
        )
    }

    #[tokio::test]
    async fn two_open_sessions_that_share_a_process_are_behind_a_pooler() {
        assert_eq!(is_pooled(|connection, _| connection).await, (false, false));
        assert_eq!(is_pooled(|_, _| 7).await, (true, true));
        let at_second_look = |connection, nth| if nth < 2 { connection } else { 7 };
        assert!(is_pooled(at_second_look).await.0);
    }
}

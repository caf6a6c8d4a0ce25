//! The way to a server that will do: the hosts in turn, one connection at a time, at a pace that hammers nothing.

use crate::domain::Dice;
use crate::store::error::StoreError;
use crate::store::hosts;
use crate::store::hosts::Target;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use sqlx::ConnectOptions;
use sqlx::Connection;
use sqlx::PgConnection;
use sqlx::Row;
use sqlx::postgres::PgConnectOptions;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::Mutex;

/// How long one host may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// After all hosts were tried in vain, how long nobody tries again: at first, and at most.
const FIRST_REST: Duration = Duration::from_millis(200);
const LONGEST_REST: Duration = Duration::from_secs(2);

/// Limits on the server's side, so that no lock or snapshot of ours outlives a lost worker for long: one that is lost
/// in the middle of a commit keeps its jobs locked, and nobody can expire them before the server has ended its session.
/// That and the round of the upkeep have to be over within 15 s. Each statement sees what is committed when it begins,
/// whatever the database's default. No plan that was made and kept while a table was empty may read the whole table
/// later, nor gather all that is due and sort it to take the first few: every query here has its index, and that index has
/// the order it asks for. Compiling queries that take a millisecond takes hundreds, and planning anew whatever is asked of
/// a few rows as long as answering it. Names mean what the catalogue says, whatever somebody has put into a schema that
/// everybody may write to.
///
/// The text that is made and thrown away at the end tells the server's malloc (glibc's) that blocks of 2 MB come and go in
/// this process. It keeps what a statement frees from then on: given back to the system and faulted in anew each time,
/// that is more than half of what a small statement costs.
const WORKING: &str = "SET statement_timeout = '30s'; SET lock_timeout = '10s'; \
     SET idle_in_transaction_session_timeout = '5s'; SET default_transaction_isolation = 'read committed'; \
     SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off; SET plan_cache_mode = force_generic_plan; \
     SET search_path = pg_catalog, pg_temp; \
     SELECT current_setting('transaction_read_only'), length(repeat('x', 2097152))";
const PLAIN: &str = "SHOW transaction_read_only";

/// The hosts of one URL, and what is known about them. Whoever connects goes through here, so a server in trouble
/// meets one attempt at a time from this process, and rests between them.
pub(super) struct Route {
    hosts: Vec<Host>,
    target: Target,
    prepare: &'static str,
    state: Mutex<State>,
}

struct Host {
    name: String,
    options: PgConnectOptions,
}

#[derive(Default)]
struct State {
    /// The host that served last.
    current: usize,
    failed: Option<Failed>,
}

struct Failed {
    error: StoreError,
    times: u32,
    rest_until: Instant,
}

impl Route {
    /// For work: each session is prepared for it.
    ///
    /// # Errors
    /// When the URL cannot be read.
    pub(super) fn working(
        url: &SecretString,
        prepared_statements: bool,
    ) -> Result<Arc<Self>, StoreError> {
        let mut route = Self::read(url, WORKING)?;
        if !prepared_statements {
            for host in &mut route.hosts {
                // With room for none the driver would give each a name all the same, and never close it.
                host.options = host.options.clone().statement_cache_capacity(1);
            }
        }
        Ok(Arc::new(route))
    }

    /// For LISTEN and migrations: sessions as the server makes them.
    ///
    /// # Errors
    /// When the URL cannot be read.
    pub(super) fn plain(url: &SecretString) -> Result<Arc<Self>, StoreError> {
        Self::read(url, PLAIN).map(Arc::new)
    }

    fn read(url: &SecretString, prepare: &'static str) -> Result<Self, StoreError> {
        let hosts = hosts::take_apart(url.expose_secret()).map_err(StoreError::Url)?;
        Ok(Self {
            hosts: hosts
                .urls
                .into_iter()
                .map(|host| {
                    Ok(Host {
                        name: host.name,
                        options: connect_options(&host.url)?,
                    })
                })
                .collect::<Result<_, StoreError>>()?,
            target: hosts.target,
            prepare,
            state: Mutex::default(),
        })
    }

    /// A connection to the first host that will do, beginning with the one that served last. Shortly after all have
    /// failed it fails at once, for the same reason.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn connect(self: &Arc<Self>) -> Result<PgConnection, StoreError> {
        let route = self.clone();
        // A task of its own: what it finds out is kept, also when the caller does not wait for it.
        match tokio::spawn(async move { route.find().await }).await {
            Ok(found) => found.map(|(conn, _)| conn),
            Err(error) => Err(StoreError::Other(error.to_string())),
        }
    }

    /// The driver's options for a host that will do just now.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn options(&self) -> Result<PgConnectOptions, StoreError> {
        let (conn, index) = self.find().await?;
        // It was reached; how it is left changes nothing about that.
        let _ = conn.close().await;
        Ok(self.hosts[index].options.clone())
    }

    /// With the host's place in the list.
    async fn find(&self) -> Result<(PgConnection, usize), StoreError> {
        let mut state = self.state.lock().await;
        if let Some(failed) = &state.failed
            && Instant::now() < failed.rest_until
        {
            return Err(failed.error.clone());
        }
        let mut errors = Vec::new();
        for turn in 0..self.hosts.len() {
            let index = (state.current + turn) % self.hosts.len();
            let host = &self.hosts[index];
            match self.try_host(host).await {
                Ok(conn) => {
                    if index != state.current {
                        let error = errors.first().map(|(name, error): &(&str, StoreError)| {
                            format!("{name}: {}", error.reason())
                        });
                        tracing::info!(
                            host = host.name,
                            error,
                            "working with another database server"
                        );
                    }
                    state.current = index;
                    state.failed = None;
                    return Ok((conn, index));
                }
                Err(error) => errors.push((host.name.as_str(), error)),
            }
        }
        let times = state.failed.as_ref().map_or(0, |failed| failed.times + 1);
        let rest = (FIRST_REST * 2_u32.saturating_pow(times)).min(LONGEST_REST);
        let error = together(errors);
        state.failed = Some(Failed {
            error: error.clone(),
            times: times.min(8),
            // By chance, so that replicas spread.
            rest_until: Instant::now() + rest.mul_f64(0.5 + 0.5 * Dice::Random.roll()),
        });
        Err(error)
    }

    async fn try_host(&self, host: &Host) -> Result<PgConnection, StoreError> {
        let attempt = async {
            let mut conn = PgConnection::connect_with(&host.options).await?;
            let row = sqlx::raw_sql(self.prepare).fetch_one(&mut conn).await?;
            if self.target == Target::ReadWrite && row.try_get::<String, _>(0)? != "off" {
                let _ = conn.close().await;
                return Err(StoreError::ReadOnly(
                    "the server is a standby or takes no writes".into(),
                ));
            }
            Ok(conn)
        };
        match tokio::time::timeout(PATIENCE, attempt).await {
            Ok(conn) => conn,
            Err(_) => Err(StoreError::Timeout(PATIENCE)),
        }
    }
}

/// One reason out of every host's. Where waiting may cure one of them, it may cure all.
fn together(mut errors: Vec<(&str, StoreError)>) -> StoreError {
    if errors.len() == 1 || errors.iter().all(|(_, error)| !error.is_passing()) {
        return errors.swap_remove(0).1;
    }
    let reasons: Vec<_> = errors
        .iter()
        .map(|(name, error)| format!("{name}: {}", error.reason()))
        .collect();
    let reasons = reasons.join("; ");
    if errors
        .iter()
        .all(|(_, error)| matches!(error, StoreError::ReadOnly(_)))
    {
        return StoreError::ReadOnly(reasons);
    }
    StoreError::Unavailable(reasons)
}

fn connect_options(url: &str) -> Result<PgConnectOptions, StoreError> {
    // What an operation came to is logged where it is handled; the driver's own log would repeat whole queries.
    let options = PgConnectOptions::from_str(url)?
        .application_name("feather-sync")
        .disable_statement_logging();
    // The driver may fall back to the user "anonymous"; libpq's rule is the operating system's user.
    let names_user = url.split_once("://").is_some_and(|(_, rest)| {
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        authority.contains('@') || rest.contains("?user=") || rest.contains("&user=")
    });
    if names_user || std::env::var_os("PGUSER").is_some() {
        return Ok(options);
    }
    Ok(match std::env::var("USER") {
        Ok(user) if !user.is_empty() => options.username(&user),
        _ => options,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn however_many_want_a_connection_a_server_in_trouble_is_asked_once_and_then_left_alone()
    {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, count) = tokio::sync::watch::channel(0);
        let server = tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                asked.send_modify(|number| *number += 1);
            }
        });
        let url = format!("postgres://u@127.0.0.1:{port}/d?sslmode=disable");
        let route = Route::plain(&url.into()).unwrap();
        let all = (0..50).map(|_| route.connect());
        for result in futures_util::future::join_all(all).await {
            assert_eq!(result.err().unwrap().kind(), "unavailable");
        }
        assert!(*count.borrow() <= 2, "{} times", *count.borrow());
        server.abort();
    }

    #[test]
    fn one_reason_is_made_of_every_hosts_and_waiting_is_given_up_only_where_it_helps_nowhere() {
        let login = || StoreError::Login("no such user".into());
        let read_only = || StoreError::ReadOnly("a standby".into());
        let gone = || StoreError::Unavailable("connection refused".into());
        let kind = |errors: Vec<_>| together(errors).kind();
        assert_eq!(kind(vec![("a", login())]), "login");
        assert_eq!(kind(vec![("a", login()), ("b", login())]), "login");
        assert_eq!(kind(vec![("a", login()), ("b", gone())]), "unavailable");
        assert_eq!(
            kind(vec![("a", read_only()), ("b", read_only())]),
            "read_only"
        );
        assert_eq!(
            together(vec![("a:1", gone()), ("b:2", read_only())]).to_string(),
            "the database cannot be used: a:1: connection refused; b:2: it is read-only: a standby"
        );
    }
}

//! What can go wrong with the database, by what one does about it.

use sqlx::postgres::PgDatabaseError;
use std::time::Duration;

/// A turned-away transaction is tried again at once so often.
const QUICK_TRIES: u32 = 3;
/// Longer than it takes to find a deadlock.
const WAITED: Duration = Duration::from_secs(3);
/// How much of the server's words is kept: they may quote a value, and a value may be of any size.
const MESSAGE_BYTES: usize = 1024;

/// SQLSTATE `lock_not_available`.
const LOCK_TIMEOUT: &str = "55P03";

/// A failed database operation.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Not there, restarting, out of connections or disk: wait and try again.
    #[error("the database cannot be used: {0}")]
    Unavailable(String),
    /// It answers, and takes no writes: a standby, or switched so.
    #[error("the database is read-only: {0}")]
    ReadOnly(String),
    /// No answer in time.
    #[error("the database gave no answer within {0:?}")]
    Timeout(Duration),
    /// The login is refused.
    #[error("the database refuses the login: {0}; check the user and password of database.url")]
    Login(String),
    /// There is no such database.
    #[error("{0}; create it, or correct database.url")]
    NoDatabase(String),
    /// The schema is missing or lacks something.
    #[error("the schema is missing or too old ({0}); run `feather-sync migrate`")]
    Schema(String),
    /// The user may not do this.
    #[error("{0}; grant the user the role feather_worker")]
    Privilege(String),
    /// Serialization failure, deadlock, lock timeout: the transaction may be tried again.
    #[error("the transaction was turned away: {0}")]
    Conflict(String),
    /// Somebody held a row of it for longer than is waited for.
    #[error("the transaction was turned away: {0}")]
    RowLocked(String),
    /// The statement was cut off: it took longer than it may, or somebody cancelled it. A smaller one may get through.
    #[error("the statement was cut off: {0}")]
    CutOff(String),
    /// Postgres refuses the values.
    #[error("the database refuses the values: {0}")]
    Data(String),
    /// The configuration of the connection cannot be read.
    #[error("database.url cannot be used: {0}")]
    Url(String),
    /// Anything else.
    #[error("unexpected database error: {0}")]
    Other(String),
}

impl StoreError {
    /// The word used as the metric's label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::ReadOnly(_) => "read_only",
            Self::Timeout(_) => "timeout",
            Self::Login(_) => "login",
            Self::NoDatabase(_) => "no_database",
            Self::Schema(_) => "schema",
            Self::Privilege(_) => "privilege",
            Self::Conflict(_) | Self::RowLocked(_) | Self::CutOff(_) => "conflict",
            Self::Data(_) => "data",
            Self::Url(_) => "url",
            Self::Other(_) => "other",
        }
    }

    /// Every word of [`kind`](Self::kind).
    pub const KINDS: [&'static str; 11] = [
        "unavailable",
        "read_only",
        "timeout",
        "login",
        "no_database",
        "schema",
        "privilege",
        "conflict",
        "data",
        "url",
        "other",
    ];

    /// Whether waiting can cure it. What cannot be cured by waiting ends the start of the daemon.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_)
                | Self::ReadOnly(_)
                | Self::Timeout(_)
                | Self::Conflict(_)
                | Self::RowLocked(_)
                | Self::CutOff(_)
        )
    }

    /// Whether it is a matter of this one operation, turned away or cut off, while others may get through.
    pub fn is_in_the_way(&self) -> bool {
        matches!(
            self,
            Self::Conflict(_) | Self::RowLocked(_) | Self::CutOff(_)
        )
    }

    /// Whether to try again at once, after a conflict that is likely over: one of the first few, and not one that
    /// was waited for, such as a lock that somebody holds. `failed` counts tries, this one included; `took` is how
    /// long the failed one lasted.
    pub fn is_over_at_once(&self, failed: u32, took: Duration) -> bool {
        matches!(self, Self::Conflict(_)) && failed <= QUICK_TRIES && took < WAITED
    }

    /// Why, as one of several hosts' reasons.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Unavailable(why) => why.clone(),
            Self::ReadOnly(why) => format!("it is read-only: {why}"),
            error => error.to_string(),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => {
                let message = error.message();
                let message = message[..message.floor_char_boundary(MESSAGE_BYTES)].to_owned();
                // Postgres names the row that it waited for; of a lock on a whole table it says nothing more.
                let row = error
                    .try_downcast_ref::<PgDatabaseError>()
                    .and_then(PgDatabaseError::r#where)
                    .is_some_and(names_a_row);
                match of_code(error.code().as_deref().unwrap_or_default(), message) {
                    StoreError::Conflict(message)
                        if row && error.code().as_deref() == Some(LOCK_TIMEOUT) =>
                    {
                        Self::RowLocked(message)
                    }
                    other => other,
                }
            }
            sqlx::Error::Configuration(error) => Self::Url(error.to_string()),
            sqlx::Error::Io(error) => Self::Unavailable(of_io(&error)),
            sqlx::Error::Tls(error) => Self::Unavailable(format!(
                "TLS: {error}; turn `ssl` on in the server, or see database.require_tls"
            )),
            sqlx::Error::PoolTimedOut => {
                Self::Unavailable("no connection became free in time".into())
            }
            sqlx::Error::PoolClosed => Self::Unavailable("the pool is closed".into()),
            sqlx::Error::Protocol(message) => Self::Unavailable(message),
            sqlx::Error::Encode(error) => Self::Data(error.to_string()),
            error => Self::Other(error.to_string()),
        }
    }
}

/// What the connection says, and what to do about a certificate that is not accepted.
fn of_io(error: &std::io::Error) -> String {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(rustls::Error::InvalidCertificate(why)) => format!(
            "TLS: the server's certificate is not accepted ({why}); correct the host's name in database.url, or name the \
             file of the server's CA there: sslrootcert=FILE"
        ),
        _ => error.to_string(),
    }
}

/// Whether a context tells of a row by its place, `(block,line)`, in whatever language.
fn names_a_row(context: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    context.split('(').skip(1).any(|rest| {
        let place = rest.split(')').next().unwrap_or_default();
        place
            .split_once(',')
            .is_some_and(|(block, line)| is_number(block) && is_number(line))
    })
}

/// Classifies an SQLSTATE (PostgreSQL, appendix A).
fn of_code(code: &str, message: String) -> StoreError {
    match code {
        "28P01" | "28000" => StoreError::Login(message),
        "3D000" => StoreError::NoDatabase(message),
        "42P01" | "42703" | "42883" | "3F000" => StoreError::Schema(message),
        "42501" => StoreError::Privilege(message),
        "25006" => StoreError::ReadOnly(message),
        LOCK_TIMEOUT => StoreError::Conflict(message),
        "57014" => StoreError::CutOff(message),
        _ => match code.get(..2) {
            Some("40") => StoreError::Conflict(message),
            // Connection, transaction state (a session that the server has ended), a statement that a new session
            // does not know, insufficient resources, wrong state, operator intervention, system error.
            Some("08" | "25" | "26" | "53" | "55" | "57" | "58") => {
                StoreError::Unavailable(message)
            }
            Some("21" | "22" | "23" | "54") => StoreError::Data(message),
            _ => StoreError::Other(format!("{message} (SQLSTATE {code})")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_was_waited_for_is_told_from_a_table() {
        for context in [
            "while updating tuple (0,1) in relation \"sync_jobs\"",
            "beim Sperren von Tupel (17,3) in Relation »x«",
        ] {
            assert!(names_a_row(context), "{context}");
        }
        for context in [
            "",
            "PL/pgSQL function trip(a,b) line 3 at RAISE",
            "SQL function f(1)",
        ] {
            assert!(!names_a_row(context), "{context}");
        }
    }

    #[test]
    fn every_sqlstate_leads_to_what_one_does_about_it() {
        let table = [
            ("28P01", "login"),
            ("3D000", "no_database"),
            ("42P01", "schema"),
            ("42501", "privilege"),
            ("40P01", "conflict"),
            ("57014", "conflict"),
            ("57P01", "unavailable"),
            ("53300", "unavailable"),
            ("53100", "unavailable"),
            ("25006", "read_only"),
            ("40001", "conflict"),
            ("40003", "conflict"),
            ("25P03", "unavailable"),
            ("55000", "unavailable"),
            ("26000", "unavailable"),
            ("21000", "data"),
            ("22P05", "data"),
            ("22003", "data"),
            ("54001", "data"),
            ("23505", "data"),
            ("XX000", "other"),
            ("", "other"),
        ];
        for (code, kind) in table {
            let error = of_code(code, String::new());
            assert_eq!(error.kind(), kind, "{code}");
            assert!(StoreError::KINDS.contains(&kind));
        }
    }
}

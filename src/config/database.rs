//! The database's URL as it is handed on: without parameters that nobody reads, and encrypted on its way.

use std::net::IpAddr;

use crate::config::Env;

/// Parameters that somebody reads: the driver, or our own choice among several hosts. Of any other, the driver would
/// log the value, which may be a password under another name (`sslpassword`).
const PARAMETERS: [&str; 19] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
    "user",
];

/// How a connection is encrypted, as libpq names it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SslMode {
    /// `disable`, `allow`, `prefer`: perhaps not at all.
    Perhaps,
    /// `require`, `verify-ca`, `verify-full`: always.
    Always,
}

/// A Postgres URL that leads to its host encrypted, if the host is another machine and `require_tls` says so.
///
/// # Errors
/// A URL whose `sslmode`, or the environment's, lets the connection go unencrypted; what to do completes the sentence.
pub(super) fn prepared(url: &str, require_tls: bool, env: &Env) -> Result<String, String> {
    let url = Parts::of(url);
    let written = url
        .values(&["sslmode", "ssl-mode"])
        .pop()
        .map(|mode| ("sslmode", mode))
        // What the driver cannot read here it takes for `prefer`.
        .or_else(|| Some(("PGSSLMODE", env.get("PGSSLMODE")?.to_owned())));
    let mode = match &written {
        None => None,
        Some((place, word)) => Some(ssl_mode(word).ok_or_else(|| {
            format!(
                "comes with {place}={}, which is none of disable, allow, prefer, require, verify-ca and verify-full",
                word.escape_debug()
            )
        })?),
    };
    let distant = url.hosts(env).into_iter().find(|host| !is_local(host));
    let (Some(host), true) = (distant, require_tls) else {
        return Ok(url.with(None));
    };
    match (mode, written) {
        (Some(SslMode::Always), Some((_, word))) => Ok(url.with(Some(&word))),
        (Some(SslMode::Perhaps), Some((place, word))) => Err(format!(
            "leads to {}, and {place}={word} lets the connection go unencrypted: leave it out or write \
             sslmode=verify-full, with sslrootcert=FILE where the certificate comes from a CA of your own; on a private \
             network that you trust, set require_tls = false under [database]",
            host.escape_debug()
        )),
        _ => Ok(url.with(Some("verify-full"))),
    }
}

fn ssl_mode(word: &str) -> Option<SslMode> {
    match word.to_ascii_lowercase().as_str() {
        "disable" | "allow" | "prefer" => Some(SslMode::Perhaps),
        "require" | "verify-ca" | "verify-full" => Some(SslMode::Always),
        _ => None,
    }
}

/// Whether what is sent there stays on this machine.
fn is_local(host: &str) -> bool {
    host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// A URL cut at its own marks and otherwise as written, since parsing and writing it anew changes its spelling.
struct Parts<'a> {
    /// Up to the `?`.
    base: &'a str,
    /// What is read of the query.
    query: Vec<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Self {
        let url = url.split('#').next().unwrap_or_default();
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let is_read = |pair: &&str| {
            let name = decoded(pair.split('=').next().unwrap_or_default());
            PARAMETERS.contains(&name.as_str()) || name.starts_with("options[")
        };
        Self {
            base,
            query: query.split('&').filter(is_read).collect(),
        }
    }

    /// The values of parameters by these names, in order; the last one counts.
    fn values(&self, names: &[&str]) -> Vec<String> {
        let pairs = self
            .query
            .iter()
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs
            .filter(|(name, _)| names.contains(&decoded(name).as_str()))
            .map(|(_, value)| decoded(value))
            .collect()
    }

    /// Every host that is named, whichever will be connected to; socket folders begin with a slash. Where none is
    /// named, the driver takes the environment's, else this machine.
    fn hosts(&self, env: &Env) -> Vec<String> {
        let authority = self.base.split_once("://").map_or("", |(_, rest)| rest);
        let authority = authority.split('/').next().unwrap_or_default();
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let in_authority = authority
            .split(',')
            .map(|host| decoded(without_port(host)))
            .filter(|_| !authority.is_empty());
        let in_query = self.values(&["host", "hostaddr"]);
        let in_query = in_query.iter().filter(|list| !list.is_empty());
        let in_query = in_query.flat_map(|list| list.split(',')).map(str::to_owned);
        let named: Vec<String> = in_authority.chain(in_query).collect();
        if named.is_empty() {
            let host = env.get("PGHOSTADDR").or_else(|| env.get("PGHOST"));
            return host.map(str::to_owned).into_iter().collect();
        }
        named
    }

    fn with(&self, ssl_mode: Option<&str>) -> String {
        let is_mode = |pair: &&&str| {
            let name = decoded(pair.split('=').next().unwrap_or_default());
            ssl_mode.is_some() && matches!(name.as_str(), "sslmode" | "ssl-mode")
        };
        let kept = self.query.iter().filter(|pair| !is_mode(pair));
        let mut query: Vec<String> = kept.map(|pair| (*pair).to_owned()).collect();
        query.extend(ssl_mode.map(|mode| format!("sslmode={mode}")));
        if query.is_empty() {
            self.base.to_owned()
        } else {
            format!("{}?{}", self.base, query.join("&"))
        }
    }
}

/// `[::1]:5432` and `db:5432` without the port and the brackets.
fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

fn decoded(text: &str) -> String {
    url::form_urlencoded::parse(text.replace('=', "%3D").replace('&', "%26").as_bytes())
        .next()
        .map(|(text, _)| text.into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn handed_on(url: &str) -> Result<String, String> {
        prepared(url, true, &Env::default())
    }

    #[test]
    fn on_this_machine_nothing_is_demanded() {
        for url in [
            "postgres://u@localhost/d",
            "postgres://u@LOCALHOST:5433/d?sslmode=disable",
            "postgres://u:p@127.0.0.1/d",
            "postgres://127.8.8.8:1/d?sslmode=prefer",
            "postgres://[::1]:5432/d",
            "postgres://[::ffff:127.0.0.1]/d",
            "postgresql:///d",
            "postgresql:///d?host=/run/pg",
            "postgresql:///d?host=%2Frun%2Fpg&sslmode=disable",
            "postgres://u@%2Frun%2Fpg/d",
            "postgres://localhost,127.0.0.1:5433/d",
        ] {
            assert_eq!(handed_on(url).as_deref(), Ok(url));
        }
    }

    #[test]
    fn any_other_host_is_verified_unless_the_url_says_how() {
        for host in [
            "db.example.com",
            "10.0.0.1",
            "192.0.2.2:5433",
            "[fd00::2]:5432",
            "0.0.0.0",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "127.1",
            "localhost,db.example.com",
            "127.0.0.1:5432,10.0.0.1:5433",
            "u:p@db",
            "u@localhost@db",
        ] {
            let url = format!("postgres://{host}/d");
            let verified = format!("{url}?sslmode=verify-full");
            assert_eq!(handed_on(&url), Ok(verified), "{host}");
            for mode in ["disable", "allow", "prefer", "Prefer"] {
                let why = handed_on(&format!("{url}?sslmode={mode}")).expect_err(host);
                assert!(
                    why.contains("verify-full") && why.contains("require_tls = false"),
                    "{why}"
                );
                assert!(handed_on(&format!("{url}?sslmode=require&ssl-mode={mode}")).is_err());
            }
            for mode in ["require", "verify-ca", "verify-full"] {
                let explicit = format!("{url}?sslmode={mode}");
                assert_eq!(handed_on(&explicit), Ok(explicit.clone()));
            }
        }
    }

    #[test]
    fn hosts_in_the_query_and_the_environment_count_too() {
        for url in [
            "postgres:///d?host=db",
            "postgres:///d?host=%64b",
            "postgres:///d?%68ost=db",
            "postgres:///d?hostaddr=10.0.0.1",
            "postgres://localhost/d?host=/run/pg,db",
            "postgres://localhost/d?host=db&host=localhost",
        ] {
            let prepared = handed_on(url).unwrap();
            assert_eq!(prepared, format!("{url}&sslmode=verify-full"));
        }
        for (variable, host) in [("PGHOST", "db"), ("PGHOSTADDR", "10.0.0.1")] {
            let env: Env = [(variable, host)].into_iter().collect();
            let distant = prepared("postgres:///d", true, &env);
            assert_eq!(
                distant.as_deref(),
                Ok("postgres:///d?sslmode=verify-full"),
                "{variable}"
            );
            let local = prepared("postgres://localhost/d", true, &env);
            assert_eq!(local.as_deref(), Ok("postgres://localhost/d"));
        }
    }

    #[test]
    fn the_environments_mode_counts_where_the_url_has_none() {
        let with = |mode: &str, url: &str| {
            prepared(url, true, &[("PGSSLMODE", mode)].into_iter().collect())
        };
        assert_eq!(
            with("require", "postgres://db/d").as_deref(),
            Ok("postgres://db/d?sslmode=require")
        );
        let why = with("prefer", "postgres://db/d").unwrap_err();
        assert!(why.contains("PGSSLMODE=prefer"), "{why}");
        let why = with("verify_full", "postgres://db/d").unwrap_err();
        assert!(why.contains("PGSSLMODE=verify_full"), "{why}");
        assert!(with("prefer", "postgres://db/d?sslmode=verify-ca").is_ok());
    }

    #[test]
    fn a_private_network_can_be_exempted() {
        for url in [
            "postgres://db/d",
            "postgres://db/d?sslmode=disable",
            "postgres://db/d?sslmode=verify-full",
        ] {
            let prepared = prepared(url, false, &Env::default());
            assert_eq!(prepared.as_deref(), Ok(url));
        }
        let misspelled = prepared("postgres://db/d?sslmode=on", false, &Env::default());
        assert!(misspelled.is_err());
    }

    #[test]
    fn parameters_that_nobody_reads_are_left_out() {
        assert_eq!(
            handed_on("postgres://h/d?sslpassword=hunter2&user=u&passwrd=hunter2&options[a]=b")
                .as_deref(),
            Ok("postgres://h/d?user=u&options[a]=b&sslmode=verify-full")
        );
        assert_eq!(
            handed_on("postgres://localhost/d?schema=public").as_deref(),
            Ok("postgres://localhost/d")
        );
    }

    #[test]
    fn every_parameter_that_the_driver_reads_is_kept() {
        use sqlx::postgres::PgConnectOptions;
        let url = "postgres://h/d?user=u&password=p&port=1&dbname=e&application_name=a&options=-c%20a%3Db&sslmode=require";
        let url = handed_on(url).unwrap();
        let options: PgConnectOptions = url.parse().unwrap();
        assert_eq!(options.get_username(), "u");
        assert_eq!(options.get_port(), 1);
        assert_eq!(options.get_database(), Some("e"));
        assert_eq!(options.get_application_name(), Some("a"));
        assert_eq!(options.get_options(), Some("-c a=b"));
    }

    proptest! {
        #[test]
        fn no_text_is_handed_on_to_another_machine_without_encryption(
            rest in "\\PC{0,40}|[a-z0-9@:/?&=,.%#]{0,40}|(u:p@)?[a-c]{1,3}(,/x)?(:1)?/d\\?(ssl-?mode|host)=[a-z]{1,7}"
        ) {
            use sqlx::postgres::PgConnectOptions;
            use sqlx::postgres::PgSslMode;
            let url = format!("postgres://{rest}");
            if let Ok(url) = handed_on(&url)
                && let Ok(options) = url.parse::<PgConnectOptions>()
            {
                let encrypted = matches!(
                    options.get_ssl_mode(),
                    PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull
                );
                let local = options.get_socket().is_some() || is_local(options.get_host().trim_matches(['[', ']']));
                prop_assert!(local || encrypted, "{url}");
            }
        }
    }
}

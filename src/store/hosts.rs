//! Several hosts in one URL, as libpq reads them; the driver knows only one.

/// Which of the servers will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Any that answers.
    Any,
    /// One that takes writes.
    ReadWrite,
}

/// One host, with a URL that the driver can read.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct HostUrl {
    /// For people: without user and password.
    pub(super) name: String,
    /// Holds the password.
    pub(super) url: String,
}

/// A database URL, taken apart: at least one host, in the order of preference.
pub(super) struct Hosts {
    pub(super) urls: Vec<HostUrl>,
    pub(super) target: Target,
}

/// Takes a URL apart: `postgres://user@h1:5432,h2:5433/db?target_session_attrs=read-write`, or
/// `postgres:///db?host=h1,h2&port=5432,5433`, sockets included. One host is left to the driver as it is. Where there
/// are several, one that takes writes is wanted unless the URL says otherwise.
///
/// # Errors
/// What is wrong, without repeating the URL.
pub(super) fn take_apart(url: &str) -> Result<Hosts, String> {
    let (scheme, rest) = url
        .split_once("://")
        .filter(|(scheme, _)| matches!(*scheme, "postgres" | "postgresql"))
        .ok_or("it must begin with postgres:// or postgresql://")?;
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
    let (user, written) = match authority.rsplit_once('@') {
        Some((user, written)) => (format!("{user}@"), written),
        None => (String::new(), authority),
    };
    let Query {
        hosts: queried,
        ports,
        target,
        others,
    } = Query::read(query)?;
    let several = queried.as_deref().unwrap_or(written).contains(',');
    let end = match others.as_str() {
        "" => String::new(),
        others => format!("?{others}"),
    };
    if !several {
        // `host` and `port` stay where they are.
        let kept: Vec<_> = pairs(query)
            .filter(|(_, key, _)| key != "target_session_attrs")
            .map(|(pair, _, _)| pair)
            .collect();
        let question = if kept.is_empty() { "" } else { "?" };
        return Ok(Hosts {
            urls: vec![HostUrl {
                name: "the server".into(),
                url: format!("{scheme}://{authority}{path}{question}{}", kept.join("&")),
            }],
            target: target.unwrap_or(Target::Any),
        });
    }
    let hosts: Vec<(String, Option<String>)> = match &queried {
        Some(list) => list.split(',').map(|h| (in_authority(h), None)).collect(),
        None => written.split(',').map(host_and_port).collect(),
    };
    if hosts.iter().any(|(host, _)| host.is_empty()) {
        return Err("one of its hosts is empty".into());
    }
    let ports = match ports {
        None => hosts.iter().map(|(_, port)| port.clone()).collect(),
        Some(list) => match list.split(',').collect::<Vec<_>>()[..] {
            [port] => vec![Some(port.to_owned()); hosts.len()],
            ref each if each.len() == hosts.len() => {
                each.iter().map(|port| Some((*port).to_owned())).collect()
            }
            ref each => {
                return Err(format!(
                    "it names {} hosts and {} ports",
                    hosts.len(),
                    each.len()
                ));
            }
        },
    };
    let urls = hosts
        .into_iter()
        .zip(ports)
        .map(|((host, _), port)| {
            let port = match port.filter(|port| !port.is_empty()) {
                None => String::new(),
                Some(port) if port.parse::<u16>().is_ok_and(|port| port > 0) => format!(":{port}"),
                Some(_) => return Err("one of its ports is not a number from 1 to 65535"),
            };
            Ok(HostUrl {
                name: format!("{}{port}", host.replace("%2F", "/")),
                url: format!("{scheme}://{user}{host}{port}{path}{end}"),
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(Hosts {
        urls,
        target: target.unwrap_or(Target::ReadWrite),
    })
}

/// What the query says that the driver cannot read, and the rest of it as written.
struct Query {
    hosts: Option<String>,
    ports: Option<String>,
    target: Option<Target>,
    others: String,
}

impl Query {
    fn read(query: &str) -> Result<Self, String> {
        let (mut hosts, mut ports, mut target, mut others) = (None, None, None, Vec::new());
        for (pair, key, value) in pairs(query) {
            match key.as_str() {
                "host" => hosts = Some(value),
                "port" => ports = Some(value),
                "target_session_attrs" => target = Some(of_word(&value)?),
                "hostaddr" if value.contains(',') => {
                    return Err("hostaddr takes one address: list several in host".into());
                }
                _ => others.push(pair),
            }
        }
        Ok(Self {
            hosts,
            ports,
            target,
            others: others.join("&"),
        })
    }
}

/// As written, and key and value decoded.
fn pairs(query: &str) -> impl Iterator<Item = (&str, String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = url::form_urlencoded::parse(pair.as_bytes())
                .next()
                .unwrap_or_default();
            (pair, key.into_owned(), value.into_owned())
        })
}

fn of_word(word: &str) -> Result<Target, String> {
    match word {
        "any" => Ok(Target::Any),
        "read-write" | "primary" => Ok(Target::ReadWrite),
        _ => Err(
            "its target_session_attrs must be read-write, primary or any: feather-sync writes"
                .into(),
        ),
    }
}

fn host_and_port(written: &str) -> (String, Option<String>) {
    let after_address = written.rfind(']').map_or(0, |at| at + 1);
    match written[after_address..].rfind(':') {
        Some(colon) => {
            let (host, port) = written.split_at(after_address + colon);
            (host.to_owned(), Some(port[1..].to_owned()))
        }
        None => (written.to_owned(), None),
    }
}

/// A host of the query as it stands before the path.
fn in_authority(host: &str) -> String {
    if host.starts_with('/') {
        return host.bytes().fold(String::new(), |mut out, byte| {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'~' => {
                    out.push(char::from(byte));
                }
                _ => out.push_str(&format!("%{byte:02X}")),
            }
            out
        });
    }
    if host.contains(':') && !host.starts_with('[') {
        return format!("[{host}]");
    }
    host.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::postgres::PgConnectOptions;
    use std::path::Path;
    use std::str::FromStr;

    fn urls(url: &str) -> (Vec<String>, Target) {
        let hosts = take_apart(url).unwrap();
        (
            hosts.urls.into_iter().map(|host| host.url).collect(),
            hosts.target,
        )
    }

    #[test]
    fn several_hosts_become_as_many_urls() {
        let table: [(&str, &[&str]); 7] = [
            (
                "postgres://u:p@h1:5432,h2:5433/db?sslmode=require",
                &[
                    "postgres://u:p@h1:5432/db?sslmode=require",
                    "postgres://u:p@h2:5433/db?sslmode=require",
                ],
            ),
            (
                "postgresql://h1,h2",
                &["postgresql://h1", "postgresql://h2"],
            ),
            (
                "postgres://[::1]:5432,[fe80::1],127.0.0.1:1/d",
                &[
                    "postgres://[::1]:5432/d",
                    "postgres://[fe80::1]/d",
                    "postgres://127.0.0.1:1/d",
                ],
            ),
            (
                "postgres:///db?host=h1,%2Frun%2Fpg&port=1,2&user=u",
                &[
                    "postgres://h1:1/db?user=u",
                    "postgres://%2Frun%2Fpg:2/db?user=u",
                ],
            ),
            (
                "postgres://u@ignored/db?host=h1,::1&port=6432",
                &["postgres://u@h1:6432/db", "postgres://u@[::1]:6432/db"],
            ),
            (
                "postgres://h1:1,h2:2/db?port=,9",
                &["postgres://h1/db", "postgres://h2:9/db"],
            ),
            (
                "postgres://%2Frun%2Fa,%2Frun%2Fb:5433/db",
                &["postgres://%2Frun%2Fa/db", "postgres://%2Frun%2Fb:5433/db"],
            ),
        ];
        for (url, wanted) in table {
            let (urls, target) = urls(url);
            assert_eq!(urls, wanted, "{url}");
            assert_eq!(target, Target::ReadWrite, "{url}");
            for url in urls {
                PgConnectOptions::from_str(&url).unwrap();
            }
        }
    }

    #[test]
    fn one_host_is_left_as_it_is() {
        for url in [
            "postgres://u:p@h:5432/db?sslmode=require",
            "postgresql:///db?host=/run/a%20b&port=5433&user=u",
            "postgres://u@%2Frun%2Fpg/d",
            "postgres://h",
        ] {
            assert_eq!(urls(url), (vec![url.to_owned()], Target::Any));
        }
        assert_eq!(
            urls("postgres://h/d?target_session_attrs=primary&sslmode=disable"),
            (
                vec!["postgres://h/d?sslmode=disable".to_owned()],
                Target::ReadWrite
            )
        );
    }

    #[test]
    fn the_wanted_kind_of_server_can_be_named() {
        let target = |word: &str| urls(&format!("postgres://a,b/d?target_session_attrs={word}")).1;
        assert_eq!(target("any"), Target::Any);
        assert_eq!(target("read-write"), Target::ReadWrite);
        assert_eq!(target("primary"), Target::ReadWrite);
    }

    #[test]
    fn a_socket_reaches_the_driver_as_a_folder() {
        let (urls, _) = urls("postgres:///db?host=/run/a%20b,/run/c&port=5433");
        let options = PgConnectOptions::from_str(&urls[0]).unwrap();
        assert_eq!(
            options.get_socket().map(|s| s.as_path()),
            Some(Path::new("/run/a b"))
        );
        assert_eq!(options.get_port(), 5433);
        assert_eq!(
            take_apart("postgres:///d?host=/run/a,h").unwrap().urls[0].name,
            "/run/a"
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_showing_it() {
        for bad in [
            "mysql://u:hunter2@h/d",
            "postgres://u:hunter2@a,,b/d",
            "postgres://u:hunter2@a,/d",
            "postgres://u:hunter2@a:1,b:x/d",
            "postgres://u:hunter2@a:0,b/d",
            "postgres://u:hunter2@a,b/d?port=1,2,3",
            "postgres://u:hunter2@a,b/d?target_session_attrs=standby",
            "postgres://u:hunter2@h/d?target_session_attrs=hunter2",
            "postgres://u:hunter2@h/d?hostaddr=1.2.3.4,1.2.3.5",
        ] {
            let why = take_apart(bad).err().unwrap();
            assert!(!why.contains("hunter2"), "{why}");
        }
    }
}

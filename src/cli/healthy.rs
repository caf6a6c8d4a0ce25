//! `healthy`

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::time::Duration;

use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::cli::failure::Failure;
use crate::cli::invocation::Invocation;
use crate::cli::output;
use crate::cli::output::short;

/// The daemon asks its database for 2 s at most before it answers.
const PATIENCE: Duration = Duration::from_secs(3);

/// Far more than the listener ever says.
const ANSWER_BYTES: u64 = 64 * 1024;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  feather-sync healthy
  HEALTHCHECK CMD [\"feather-sync\", \"healthy\"]          in a Dockerfile

Give it the configuration and environment of the daemon. A paused account or a
full queue does not make a daemon unhealthy.")]
pub(super) struct HealthyArgs {}

pub(super) async fn run(_args: HealthyArgs, invocation: &Invocation) -> Result<(), Failure> {
    let admin = invocation.config()?.admin;
    let failed = |why: String| Err(Failure::Failed(why));
    let Some(listen) = admin.listen else {
        return failed(
            "admin.listen is off, so the daemon cannot be asked; set it, to 127.0.0.1:9464 for example".to_owned(),
        );
    };
    if listen.port() == 0 {
        return failed(
            "admin.listen has port 0, so nobody knows where the daemon listens; give it a port"
                .to_owned(),
        );
    }
    let address = to_connect_to(listen);
    // It answers without the token too, and keeps the reason to itself then.
    let token = admin.read_token().ok().flatten();
    let answer = match tokio::time::timeout(PATIENCE, ask(address, token.as_ref())).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            return failed(format!(
                "{address} (admin.listen): {error}; is the daemon running, with this configuration?"
            ));
        }
        Err(_) => {
            return failed(format!(
                "{address} (admin.listen) gave no answer within {PATIENCE:?}; see the daemon's log"
            ));
        }
    };
    match judge(&answer) {
        Ok(()) => output::print("ready").map(drop),
        Err(why) => failed(format!("{address} (admin.listen): {why}")),
    }
}

/// A daemon that listens on every address is asked on this machine's own.
fn to_connect_to(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        _ => return listen,
    };
    SocketAddr::new(ip, listen.port())
}

/// The answer as it stands on the wire.
async fn ask(address: SocketAddr, token: Option<&SecretString>) -> io::Result<Vec<u8>> {
    let authorization = token.map_or_else(String::new, |token| {
        format!("Authorization: Bearer {}\r\n", token.expose_secret())
    });
    // On loopback it answers to this name only, elsewhere to any.
    let request = format!(
        "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{authorization}\r\n"
    );
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Whether this is `/readyz` saying yes, or why not.
fn judge(answer: &[u8]) -> Result<(), String> {
    let answer = String::from_utf8_lossy(answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .strip_prefix("HTTP/1.")
        .and_then(|line| line.split_whitespace().nth(1));
    let told: Value = serde_json::from_str(body).unwrap_or_default();
    match status {
        Some("200") => Ok(()),
        Some("503") => Err(match told["reason"].as_str() {
            Some(reason) => format!("not ready: {}", short(reason)),
            None => "not ready; the reason is told to who knows the token of admin.token_file"
                .to_owned(),
        }),
        Some(other) => Err(format!(
            "what listens there is not this daemon: /readyz answers {}",
            short(other)
        )),
        None => Err("what listens there does not speak HTTP".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_on_every_address_is_asked_on_loopback() {
        let table = [
            ("127.0.0.1:9464", "127.0.0.1:9464"),
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:1", "[::1]:1"),
            ("[::1]:1", "[::1]:1"),
            ("[::ffff:0.0.0.0]:2", "127.0.0.1:2"),
            ("10.0.0.5:80", "10.0.0.5:80"),
            ("[fd00::5]:80", "[fd00::5]:80"),
        ];
        for (listen, expected) in table {
            let address = to_connect_to(listen.parse().unwrap());
            assert_eq!(address.to_string(), expected, "{listen}");
        }
    }

    #[test]
    fn only_a_200_is_healthy_and_everything_else_is_named() {
        assert_eq!(
            judge(b"HTTP/1.1 200 OK\r\n\r\n{\"status\":\"ready\"}"),
            Ok(())
        );
        assert_eq!(judge(b"HTTP/1.0 200 OK"), Ok(()));
        let table: [(&[u8], &str); 7] = [
            (
                b"HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\n{\"status\":\"not ready\",\"reason\":\"the \\u001b database\"}",
                "not ready: the \\u{1b} database",
            ),
            (
                b"HTTP/1.1 503 Service Unavailable\r\n\r\n{\"status\":\"not ready\"}",
                "admin.token_file",
            ),
            (b"HTTP/1.1 404 Not Found\r\n\r\n", "answers 404"),
            (b"HTTP/1.1 2000 OK\r\n\r\n", "answers 2000"),
            (b"220 mail ESMTP\r\n", "does not speak HTTP"),
            (b"HTTP/1.1 \xff\xff", "answers"),
            (b"", "does not speak HTTP"),
        ];
        for (answer, why) in table {
            let error = judge(answer).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}

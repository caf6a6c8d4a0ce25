//! TLS to the API and to the database, against real servers with certificates good and bad.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::IpAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use feather_sync::local_postgres::LocalPostgres;
use feather_sync::local_postgres::Options;
use rustls::ServerConfig;
use rustls::ServerConnection;
use rustls::StreamOwned;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use crate::certificates::Authority;
use crate::certificates::Identity;
use crate::certificates::Validity;
use crate::database::Database;
use crate::database::sql;
use crate::program::ID;
use crate::program::Outcome;
use crate::program::finish;
use crate::program::program;
use crate::program::run;
use crate::program::signal;
use crate::program::start;
use crate::sim::sim;

const KEY: &str = "fth_live_over_tls_only";

/// A simulated API behind TLS, and all that it was sent in the clear or decrypted.
struct Api {
    port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
    handshakes: Arc<Mutex<usize>>,
    sim: Child,
}

impl Api {
    fn start(identity: &Identity) -> Self {
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap(),
                )
                .unwrap();
        let config = Arc::new(config);
        let (sim, inner) = sim(&[]);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let handshakes = Arc::new(Mutex::new(0));
        let (record, count) = (heard.clone(), handshakes.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                *count.lock().unwrap() += 1;
                let connection = ServerConnection::new(config.clone()).unwrap();
                let (inner, record) = (inner.clone(), record.clone());
                thread::spawn(move || relay(StreamOwned::new(connection, stream), &inner, &record));
            }
        });
        Self {
            port,
            heard,
            handshakes,
            sim,
        }
    }

    fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.sim.kill();
        let _ = self.sim.wait();
    }
}

/// Passes one request on, and its answer back. `None`: the client does not like the certificate.
fn relay(
    mut client: StreamOwned<ServerConnection, TcpStream>,
    inner: &str,
    record: &Mutex<Vec<u8>>,
) -> Option<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).ok()?;
        request.push(byte[0]);
        record.lock().unwrap().push(byte[0]);
    }
    request.truncate(request.len() - 2);
    request.extend_from_slice(b"connection: close\r\n\r\n");
    let mut server = TcpStream::connect(inner).ok()?;
    server.write_all(&request).ok()?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).ok()?;
    client.write_all(&answer).ok()?;
    client.conn.send_close_notify();
    client.flush().ok()
}

fn daemon(db: &Database, api: &Api, trusted: &str, arguments: &[&str]) -> std::process::Command {
    let mut command = db.program(&[&["run"], arguments].concat());
    for (name, value) in [
        (
            "FEATHER_BASE_URL",
            &*format!("https://localhost:{}", api.port),
        ),
        ("FEATHER_API_KEY", KEY),
        ("SSL_CERT_FILE", trusted),
        ("FEATHER_SYNC__ADMIN__LISTEN", "off"),
        ("FEATHER_SYNC__LOG__FILTER", "trace"),
        ("FEATHER_SYNC__RETRY__MAX", "50ms"),
        ("FEATHER_SYNC__RETRY__INITIAL", "10ms"),
    ] {
        command.env(name, value);
    }
    command
}

#[test]
fn an_api_with_a_certificate_of_a_trusted_authority_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let api = Api::start(&authority.certify(&["localhost"], Validity::Now));
    let trusted = authority.write(folder.path(), "ca.pem");
    let db = Database::migrated();
    db.feather_sync(&["enqueue", ID]).done();
    let arguments = ["--until-empty", "--timeout", "60s"];
    run(&mut daemon(&db, &api, &trusted, &arguments)).done();
    assert!(api.heard().contains(KEY), "the server sees the key");
    assert_eq!(
        db.value("SELECT string_agg(DISTINCT outcome, ' ' ORDER BY outcome) FROM feather.sync_attempts WHERE outcome = 'synced'"),
        "synced"
    );
}

#[test]
fn an_api_whose_certificate_is_not_accepted_is_tried_again_and_never_sees_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let trusted = authority.write(folder.path(), "ca.pem");
    let stranger = Authority::new("a stranger");
    for (what, identity) in [
        ("expired", authority.certify(&["localhost"], Validity::Over)),
        (
            "not valid for",
            authority.certify(&["other.example"], Validity::Now),
        ),
        (
            "UnknownIssuer",
            stranger.certify(&["localhost"], Validity::Now),
        ),
    ] {
        let api = Api::start(&identity);
        let db = Database::migrated();
        db.feather_sync(&["enqueue", ID]).done();
        let child = start(&mut daemon(&db, &api, &trusted, &[]));
        db.until("SELECT count(*) >= 2 FROM feather.sync_attempts");
        signal(&child, "TERM");
        let log = finish(child);
        assert_eq!(
            db.rows("SELECT DISTINCT outcome, error_class, http_status FROM feather.sync_attempts WHERE outcome <> 'deferred'"),
            [["retry", "network", ""]],
            "{what}"
        );
        let error = db.value("SELECT error FROM feather.sync_attempts ORDER BY id LIMIT 1");
        assert!(
            error.contains("certificate") && error.contains(what),
            "{error}"
        );
        assert!(*api.handshakes.lock().unwrap() >= 2);
        assert_eq!(api.heard(), "", "{what}");
        assert!(!log.err.contains(KEY), "{what}");
    }
}

/// A Postgres that speaks TLS on `host`, and takes unencrypted connections to the database `plain` alone.
struct Server {
    postgres: LocalPostgres,
    host: IpAddr,
    port: u16,
}

impl Server {
    fn start(host: IpAddr, identity: &Identity) -> Self {
        let port = TcpListener::bind((host, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        // The port is part of the socket's name, too.
        let settings = [
            ("listen_addresses", "*".to_owned()),
            ("port", port.to_string()),
        ];
        let postgres = LocalPostgres::start(Options {
            settings: settings
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            ..Options::default()
        })
        .unwrap();
        let server = Self {
            postgres,
            host,
            port,
        };
        let data = server.postgres.data_dir();
        server.write(&data.join("server.pem"), &identity.certificate);
        server.write(&data.join("server.key"), &identity.key);
        let rules =
            "local all all trust\nhostssl all all all trust\nhostnossl plain all all trust\n";
        server.write(&data.join("pg_hba.conf"), rules);
        for statement in [
            "ALTER SYSTEM SET ssl_cert_file = 'server.pem'",
            "ALTER SYSTEM SET ssl_key_file = 'server.key'",
            "CREATE DATABASE plain",
        ] {
            server.run(statement);
        }
        server.speak_tls(true);
        server
    }

    fn write(&self, file: &Path, text: &str) {
        fs::write(file, text).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
        let owner =
            std::os::unix::fs::MetadataExt::uid(&fs::metadata(self.postgres.data_dir()).unwrap());
        chown(file, Some(owner), None).unwrap();
    }

    fn run(&self, statement: &str) -> Vec<Vec<String>> {
        let url = self
            .postgres
            .url("postgres")
            .replace("port=5432", &format!("port={}", self.port));
        sql(&url, statement).unwrap()
    }

    fn speak_tls(&self, on: bool) {
        self.run(&format!("ALTER SYSTEM SET ssl = {on}"));
        self.run("SELECT pg_reload_conf()");
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        let wanted = if on { "on" } else { "off" };
        while self.run("SHOW ssl") != [[wanted]] {
            assert!(std::time::Instant::now() < deadline, "ssl is not {wanted}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn url(&self, database: &str, parameters: &str) -> String {
        format!(
            "postgres://postgres@{}:{}/{database}?{parameters}",
            self.host, self.port
        )
    }
}

/// An address of this machine that is not loopback, if it has one. Nothing is sent.
fn distant() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

fn command(url: &str, arguments: &[&str]) -> Outcome {
    run(program(arguments).env("DATABASE_URL", url))
}

#[test]
fn a_database_elsewhere_is_spoken_to_over_verified_tls_or_not_at_all() {
    // Where there is no such address, the rule itself is still tried, in `config::database`.
    let Some(host) = distant() else { return };
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let trusted = authority.write(folder.path(), "ca.pem");
    let stranger = Authority::new("a stranger").write(folder.path(), "stranger.pem");
    let server = Server::start(
        host,
        &authority.certify(&[&host.to_string()], Validity::Now),
    );

    // Without a word about TLS it is verified: by the right authority it works, in every command and for LISTEN.
    let verified = server.url("postgres", &format!("sslrootcert={trusted}"));
    command(&verified, &["migrate"]).done();
    command(&verified, &["status"]).done();
    let (sim, address) = sim(&[]);
    command(&verified, &["enqueue", ID]).done();
    let mut daemon = program(&["run", "--until-empty", "--timeout", "60s"]);
    daemon
        .env("DATABASE_URL", &verified)
        .env("FEATHER_BASE_URL", format!("http://{address}"))
        .env("FEATHER_API_KEY", KEY)
        .env("FEATHER_SYNC__ADMIN__LISTEN", "off");
    run(&mut daemon).done();
    signal(&sim, "TERM");
    finish(sim).done();

    for parameters in ["", &format!("sslrootcert={stranger}")] {
        let error = command(&server.url("postgres", parameters), &["status"]).failed(1);
        assert!(
            error.contains("certificate is not accepted") && error.contains("sslrootcert"),
            "{error}"
        );
    }

    // What is said explicitly is taken at its word.
    command(&server.url("postgres", "sslmode=require"), &["status"]).done();

    // Unencrypted is refused before anything is sent, by every command that opens the database.
    let plain = server.url("plain", "sslmode=disable");
    for arguments in [
        &["migrate"][..],
        &["migrate", "--check"],
        &["status"],
        &["show", ID],
        &["enqueue", ID],
        &["retry", "--dead"],
        &["cancel", ID],
        &["forget", "--yes", ID],
        &["pause", "default"],
        &["resume", "default"],
        &["run"],
        &["config", "check"],
    ] {
        let error = command(&plain, arguments).failed(78);
        assert!(
            error.contains("sslmode=verify-full") && error.contains("require_tls"),
            "{arguments:?}: {error}"
        );
    }
    let mut trusting = program(&["migrate"]);
    trusting.env("DATABASE_URL", &plain);
    trusting.env("FEATHER_SYNC__DATABASE__REQUIRE_TLS", "false");
    run(&mut trusting).done();

    server.speak_tls(false);
    let error = command(&verified, &["status"]).failed(1);
    assert!(
        error.contains("TLS") && error.contains("turn `ssl` on"),
        "{error}"
    );
}

#[test]
fn a_certificate_for_another_name_is_accepted_by_verify_ca_alone() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let trusted = authority.write(folder.path(), "ca.pem");
    let stranger = Authority::new("a stranger").write(folder.path(), "stranger.pem");
    let server = Server::start(
        IpAddr::from([127, 0, 0, 1]),
        &authority.certify(&["db.example.com"], Validity::Now),
    );
    let with = |mode: &str, ca: &str| {
        let url = server.url("postgres", &format!("sslmode={mode}&sslrootcert={ca}"));
        command(&url, &["migrate"])
    };
    let error = with("verify-full", &trusted).failed(1);
    assert!(
        error.contains("certificate is not accepted") && error.contains("the host's name"),
        "{error}"
    );
    with("verify-ca", &stranger).failed(1);
    with("verify-ca", &trusted).done();
}

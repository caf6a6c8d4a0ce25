//! Between a daemon and its database: passes everything on, falls silent, or is gone.

use feather_sync::local_postgres::LocalPostgres;
use std::net::Ipv4Addr;
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::UnixStream;
use tokio::sync::watch;

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Open,
    /// They stay, and nothing comes through.
    Silent,
    /// They are closed, and so is each new one.
    Gone,
}

pub(super) struct Relay {
    line: watch::Sender<Line>,
    port: u16,
}

impl Relay {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (line, state) = watch::channel(Line::Open);
        tokio::spawn(async move {
            // Ends with the sender.
            let mut end = state.clone();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        tokio::spawn(pass(accepted.unwrap().0, state.clone()));
                    }
                    gone = end.wait_for(|_| false) => {
                        assert!(gone.is_err());
                        return;
                    }
                }
            }
        });
        Self { line, port }
    }

    /// Leads to the same database as this URL of the tests' cluster.
    pub(super) fn url(&self, url: &str) -> String {
        let database = url.strip_prefix("postgresql:///").unwrap();
        let database = database.split('?').next().unwrap();
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    pub(super) fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

async fn pass(mut client: TcpStream, mut line: watch::Receiver<Line>) {
    let socket = LocalPostgres::shared()
        .unwrap()
        .socket_dir()
        .join(".s.PGSQL.5432");
    let mut server = UnixStream::connect(socket).await.unwrap();
    loop {
        let now = *line.borrow_and_update();
        match now {
            Line::Gone => return,
            Line::Silent => {
                if line.changed().await.is_err() {
                    return;
                }
            }
            Line::Open => {
                tokio::select! {
                    _ = copy_bidirectional(&mut client, &mut server) => return,
                    changed = line.changed() => if changed.is_err() { return },
                }
            }
        }
    }
}

//! A small TCP proxy that makes a network go wrong on demand. It stands between a client and a TCP address or a Unix
//! socket, and looks at nothing but bytes.
//!
//! Included where it is needed by `#[path = "../support/proxy.rs"] mod proxy;`.

use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;

mod trap;

pub(crate) use trap::Moment;
use trap::Traps;

/// COMMIT as a simple query of Postgres' protocol, as sqlx and psql send it.
pub(crate) const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

/// How long a trap waits for the answer that it keeps back; a server that is gone gives none.
const ANSWER: Duration = Duration::from_secs(30);

/// Where a proxy leads to.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What becomes of bytes, from now on and for connections that are already open too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// As though the proxy were not there.
    Pass,
    /// Connections are accepted and stay open, and nothing goes through; what came goes on once the silence ends.
    Silent,
    /// Every piece of what is sent is late by this much, in either direction.
    Delay(Duration),
    /// New connections are refused; open ones go on.
    Refuse,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    /// Connections accepted.
    pub(crate) accepted: u64,
    /// Connections open now.
    pub(crate) open: u64,
    /// Connections ended by [`Proxy::cut`] or a trap.
    pub(crate) cut: u64,
    /// Those of them that a trap ended.
    pub(crate) trapped: u64,
    /// Bytes handed to the server.
    pub(crate) to_server: u64,
    /// Bytes handed to clients.
    pub(crate) to_client: u64,
}

/// A running proxy. Dropping it closes the port and all connections.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
    /// Bound but not listening: keeps the port while connections are refused.
    _port: TcpSocket,
}

struct Shared {
    target: Target,
    traffic: watch::Sender<Traffic>,
    /// Moves with every cut.
    cuts: watch::Sender<u64>,
    traps: Mutex<Traps>,
    stats: Mutex<Stats>,
}

/// Why a connection is over.
enum End {
    /// One side closed it.
    Closed,
    /// One side reset it, or is gone.
    Broken,
    Cut,
    Trapped,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// Starts on a free port of 127.0.0.1. The target is connected to anew for each connection.
    pub(crate) async fn start(target: Target) -> io::Result<Self> {
        let port = socket(0)?;
        let address = port.local_addr()?;
        let listener = socket(address.port())?.listen(1024)?;
        let shared = Arc::new(Shared {
            target,
            traffic: watch::Sender::new(Traffic::Pass),
            cuts: watch::Sender::new(0),
            traps: Mutex::default(),
            stats: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(Arc::clone(&shared), address, listener));
        Ok(Self {
            address,
            shared,
            accepting,
            _port: port,
        })
    }

    /// Where it listens, for as long as it lives.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what becomes of bytes.
    pub(crate) fn set(&self, traffic: Traffic) {
        self.shared.traffic.send_replace(traffic);
    }

    /// Ends all connections with a reset, silent ones too.
    pub(crate) fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Sets a trap, beside those that are set; the oldest that fits springs.
    pub(crate) fn set_trap(&self, pattern: &[u8], moment: Moment, times: u32) {
        lock(&self.shared.traps).set(pattern, moment, times);
    }

    /// Takes all traps away.
    pub(crate) fn clear_traps(&self) {
        lock(&self.shared.traps).clear();
    }

    pub(crate) fn stats(&self) -> Stats {
        *lock(&self.shared.stats)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Bound to the port; several may be, and the one that listens gets the connections.
fn socket(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    Ok(socket)
}

async fn accept(shared: Arc<Shared>, address: SocketAddr, listener: TcpListener) {
    let mut listener = Some(listener);
    let mut traffic = shared.traffic.subscribe();
    let mut connections = JoinSet::new();
    loop {
        if *traffic.borrow_and_update() == Traffic::Refuse {
            listener = None;
        } else if listener.is_none() {
            listener = socket(address.port())
                .and_then(|socket| socket.listen(1024))
                .ok();
        }
        let arrival = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = traffic.changed() => {}
            Some(_) = connections.join_next() => {}
            arrived = arrival => if let Ok((client, _)) = arrived {
                let cuts = shared.cuts.subscribe();
                connections.spawn(Arc::clone(&shared).serve(client, cuts));
            },
        }
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, client: TcpStream, mut cuts: watch::Receiver<u64>) {
        self.count(|stats| {
            stats.accepted += 1;
            stats.open += 1;
        });
        let open = Open(Arc::clone(&self));
        let mut client = client;
        let end = tokio::select! {
            _ = cuts.changed() => End::Cut,
            end = self.carry(&mut client) => end,
        };
        match end {
            End::Closed => {}
            End::Broken => reset(&client),
            End::Cut => {
                self.count(|stats| stats.cut += 1);
                reset(&client);
            }
            End::Trapped => {
                self.count(|stats| {
                    stats.cut += 1;
                    stats.trapped += 1;
                });
                reset(&client);
            }
        }
        // Whoever waits for the count to fall finds the socket closed.
        drop(client);
        drop(open);
    }

    async fn carry(&self, client: &mut TcpStream) -> End {
        let _ = client.set_nodelay(true);
        self.pass().await;
        let (from_client, to_client) = client.split();
        match &self.target {
            Target::Tcp(address) => {
                let Ok(mut server) = TcpStream::connect(address).await else {
                    return End::Broken;
                };
                let _ = server.set_nodelay(true);
                let end = {
                    let (from_server, to_server) = server.split();
                    self.exchange(from_client, to_client, from_server, to_server)
                        .await
                };
                if !matches!(end, End::Closed) {
                    reset(&server);
                }
                end
            }
            Target::Unix(path) => {
                let Ok(mut server) = UnixStream::connect(path).await else {
                    return End::Broken;
                };
                let (from_server, to_server) = server.split();
                self.exchange(from_client, to_client, from_server, to_server)
                    .await
            }
        }
    }

    async fn exchange(
        &self,
        from_client: impl AsyncRead + Unpin,
        to_client: impl AsyncWrite + Unpin,
        from_server: impl AsyncRead + Unpin,
        to_server: impl AsyncWrite + Unpin,
    ) -> End {
        let kept_back = watch::Sender::new(false);
        tokio::select! {
            end = self.upward(from_client, to_server, &kept_back) => end,
            end = self.downward(from_server, to_client, kept_back.subscribe()) => end,
        }
    }

    async fn upward(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        keep_back: &watch::Sender<bool>,
    ) -> End {
        let mut buffer = vec![0; 16 * 1024];
        // The end of what went through before, so that a pattern in two pieces is seen.
        let mut seen = Vec::new();
        loop {
            let read = from.read(&mut buffer).await;
            self.pass().await;
            let piece = match read {
                Ok(0) => return End::Closed,
                Ok(length) => &buffer[..length],
                Err(_) => return End::Broken,
            };
            seen.extend_from_slice(piece);
            let moment = lock(&self.traps).spring(&mut seen);
            if moment == Some(Moment::BeforeServer) {
                return End::Trapped;
            }
            keep_back.send_replace(moment.is_some());
            if to.write_all(piece).await.is_err() {
                return End::Broken;
            }
            self.count(|stats| stats.to_server += piece.len() as u64);
            if moment.is_some() {
                tokio::time::sleep(ANSWER).await;
                return End::Trapped;
            }
        }
    }

    async fn downward(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        kept_back: watch::Receiver<bool>,
    ) -> End {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = from.read(&mut buffer).await;
            if *kept_back.borrow() {
                return End::Trapped;
            }
            self.pass().await;
            let piece = match read {
                Ok(0) => return End::Closed,
                Ok(length) => &buffer[..length],
                Err(_) => return End::Broken,
            };
            if to.write_all(piece).await.is_err() {
                return End::Broken;
            }
            self.count(|stats| stats.to_client += piece.len() as u64);
        }
    }

    /// Returns when the next piece may go on.
    async fn pass(&self) {
        let mut traffic = self.traffic.subscribe();
        loop {
            let now = *traffic.borrow_and_update();
            match now {
                Traffic::Pass | Traffic::Refuse => return,
                Traffic::Delay(by) => return tokio::time::sleep(by).await,
                // The sender is a part of this very object.
                Traffic::Silent => drop(traffic.changed().await),
            }
        }
    }

    fn count(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut lock(&self.stats));
    }
}

/// Counted as open until dropped, also where the proxy ends first.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.count(|stats| stats.open -= 1);
    }
}

/// Closing it will send a reset instead of an orderly end.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

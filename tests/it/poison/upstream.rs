//! An API that answers with the very bytes it is given; what it has no bytes for is answered by the simulator.

use crate::world::World;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use tokio::io;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

pub(crate) struct Upstream {
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

struct State {
    simulator: SocketAddr,
    replies: Mutex<HashMap<Uuid, Vec<u8>>>,
    /// Calls that have come, by connection.
    calls: Mutex<HashMap<Uuid, usize>>,
    arrived: watch::Sender<usize>,
    held: watch::Sender<bool>,
}

impl Upstream {
    /// Stands between the world's daemon and its simulator.
    pub(crate) async fn before(world: &mut World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        world.set("FEATHER_BASE_URL", &format!("http://{address}"));
        let state = Arc::new(State {
            simulator: world.sim.address(),
            replies: Mutex::default(),
            calls: Mutex::default(),
            arrived: watch::Sender::new(0),
            held: watch::Sender::new(false),
        });
        let shared = state.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that goes away is no trouble of ours.
                let state = shared.clone();
                tokio::spawn(async move { state.serve(stream).await.ok() });
            }
        });
        Self { state, accepting }
    }

    /// Answers every call about this connection so, from now on.
    pub(crate) fn answer(&self, id: Uuid, bytes: Vec<u8>) {
        self.state.replies.lock().unwrap().insert(id, bytes);
    }

    /// Lets the simulator answer again.
    pub(crate) fn heal(&self) {
        self.state.replies.lock().unwrap().clear();
    }

    /// How many calls about this connection have come.
    pub(crate) fn calls(&self, id: Uuid) -> usize {
        let calls = self.state.calls.lock().unwrap();
        calls.get(&id).copied().unwrap_or_default()
    }

    /// Lets no call be answered until `number` have come, so that their answers come together.
    pub(crate) fn together(&self, number: usize) -> impl Future<Output = ()> + 'static {
        self.state.held.send_replace(true);
        let state = self.state.clone();
        let mut arrived = state.arrived.subscribe();
        let number = number + *arrived.borrow();
        async move {
            arrived.wait_for(|calls| *calls >= number).await.unwrap();
            state.held.send_replace(false);
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl State {
    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            if client.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        let head = String::from_utf8_lossy(&request).into_owned();
        let id = head
            .split(['/', ' '])
            .find_map(|part| Uuid::parse_str(part).ok());
        let id = id.unwrap_or_default();
        *self.calls.lock().unwrap().entry(id).or_default() += 1;
        self.arrived.send_modify(|calls| *calls += 1);
        let mut held = self.held.subscribe();
        held.wait_for(|held| !held)
            .await
            .map_err(io::Error::other)?;
        let reply = self.replies.lock().unwrap().get(&id).cloned();
        if let Some(reply) = reply {
            client.write_all(&reply).await?;
        } else {
            let mut simulator = TcpStream::connect(self.simulator).await?;
            let once = head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
            simulator.write_all(once.as_bytes()).await?;
            io::copy(&mut simulator, &mut client).await?;
        }
        client.shutdown().await
    }
}

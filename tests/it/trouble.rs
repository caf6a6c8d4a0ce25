//! A database in trouble: the process stays up, says so, burns no attempt, hammers nothing, and goes on by itself.

mod codes;
mod failover;
mod locks;
mod posting;
mod restart;
mod room;
mod unknown;

use crate::admin::get;
use crate::admin::until_status;
use crate::ports::free_port;
use crate::proxy::Proxy;
use crate::proxy::Target;
use crate::world::Replica;
use crate::world::World;
use feather_sync::local_postgres::LocalPostgres;
use feather_sync::local_postgres::Options;
use feather_sync::sim::Gate;
use feather_sync::sim::Scenario;
use std::time::Duration;
use std::time::Instant;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(120);
/// Connections that one replica may ask for, each second of trouble.
const MOST_CONNECTS: f64 = 10.0;

/// A world on a server of its own, which the daemon reaches through a proxy.
struct Scene {
    world: World,
    postgres: LocalPostgres,
    proxy: Proxy,
    port: u16,
}

impl Scene {
    async fn new(settings: &[(&str, &str)]) -> Self {
        Self::with(settings, "tools = 2\nlatency = \"5ms..30ms\"").await
    }

    async fn with(settings: &[(&str, &str)], scenario: &str) -> Self {
        let settings = settings.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        let options = Options {
            settings: settings.collect(),
            ..Options::default()
        };
        let postgres = LocalPostgres::start(options).unwrap();
        let mut world = World::on(&postgres, Scenario::from_toml(scenario).unwrap()).await;
        let proxy = proxy_to(&postgres).await;
        let port = free_port();
        let url = format!(
            "postgres://postgres@{}/app?sslmode=disable",
            proxy.address()
        );
        world.set("DATABASE_URL", &url);
        world.set("FEATHER_SYNC__ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
        Self {
            world,
            postgres,
            proxy,
            port,
        }
    }

    async fn start(&self) -> Replica {
        let replica = self.world.start();
        self.is_ready().await;
        replica
    }

    /// Asks for all of these, and returns when some are synced and others can be only once the gate is released, which
    /// has to be before their calls time out.
    async fn under_load(&self, ids: &[Uuid]) -> Gate {
        let (first, rest) = ids.split_at(ids.len() / 2);
        self.world.enqueue(first).await;
        let first: Vec<_> = first.iter().map(Uuid::to_string).collect();
        self.world
            .until(&format!(
                "SELECT count(*) >= {} FROM feather.connections WHERE id = ANY ('{{{}}}')",
                first.len() / 2,
                first.join(",")
            ))
            .await;
        let gate = self.world.sim.hold();
        self.world.enqueue(rest).await;
        gate
    }

    async fn is_ready(&self) {
        until_status(self.port, "/readyz", 200).await;
    }

    /// Waits until `/readyz` says no, for this reason.
    async fn is_not_ready(&self, reason: &str) {
        let began = Instant::now();
        loop {
            let (status, body) = get(self.port, "/readyz", "Host: localhost\r\n").await;
            if status == 503 && body.contains(reason) {
                return;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "not {reason:?}: {status} {body}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Watches trouble last: the process is alive, and asks for no more connections than is good.
    async fn stays_calm(&self) {
        let (before, began) = (self.proxy.stats().accepted, Instant::now());
        tokio::time::sleep(Duration::from_secs(3)).await;
        let connects = self.proxy.stats().accepted - before;
        let rate = connects as f64 / began.elapsed().as_secs_f64();
        assert!(rate <= MOST_CONNECTS, "{rate} connects a second");
        assert_eq!(
            get(self.port, "/healthz", "Host: localhost\r\n").await.0,
            200
        );
    }

    async fn metric(&self, series: &str) -> f64 {
        let metrics = get(self.port, "/metrics", "Host: localhost\r\n").await.1;
        let line = metrics.lines().find(|line| line.starts_with(series));
        line.and_then(|line| line.rsplit_once(' '))
            .map_or(0.0, |(_, value)| value.parse().unwrap())
    }

    /// Waits until all are synced, then checks that each took one call and one row, and that the tables are equal to
    /// the truth.
    async fn synced_at_once(&self, ids: &[Uuid]) {
        synced_at_once(&self.world, ids).await;
    }
}

async fn synced_at_once(world: &World, ids: &[Uuid]) {
    world
        .until(&format!(
            "SELECT count(*) = {} FROM feather.sync_status WHERE last_outcome = 'synced' AND state = 'idle'",
            ids.len()
        ))
        .await;
    world.check().await;
    for id in ids {
        assert_eq!(world.story(*id).await, ["synced"], "{id}");
        world.equals_truth(*id).await.unwrap();
    }
}

async fn proxy_to(postgres: &LocalPostgres) -> Proxy {
    let socket = postgres.socket_dir().join(".s.PGSQL.5432");
    Proxy::start(Target::Unix(socket)).await.unwrap()
}

//! A daemon at work, with something of everything that pages show.

use crate::browser::Browser;
use crate::browser::PATIENCE;
use crate::ports::free_port;
use crate::world::Replica;
use crate::world::World;
use feather_sync::sim::Fault;
use feather_sync::sim::FaultRule;
use feather_sync::sim::Scenario;
use feather_sync::sim::StatusFault;
use std::net::TcpStream;
use std::time::Duration;
use std::time::Instant;
use uuid::Uuid;

pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) port: u16,
    pub(crate) ids: Vec<Uuid>,
    replica: Replica,
}

impl Scene {
    /// One daemon with an empty queue.
    pub(crate) async fn quiet() -> Self {
        Self::with(World::new().await).await
    }

    /// One daemon in this world, with an empty queue.
    pub(crate) async fn with(mut world: World) -> Self {
        let port = free_port();
        world.set("FEATHER_SYNC__ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
        let replica = world.start();
        world
            .until("SELECT count(*) > 0 FROM feather.sync_replicas")
            .await;
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < PATIENCE, "nobody listens on port {port}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Self {
            world,
            port,
            ids: Vec::new(),
            replica,
        }
    }

    /// Two accounts, some hundred connections, most of them synced, some dead for one reason or another.
    pub(crate) async fn busy() -> Self {
        let faults = [(400, 0.02), (403, 0.01), (503, 0.08)];
        let faults = faults.map(|(code, rate)| FaultRule {
            rate,
            times: Some(if code == 503 { 2 } else { u32::MAX }),
            ..FaultRule::new(Fault::Status(StatusFault {
                code,
                ..StatusFault::default()
            }))
        });
        let scenario = Scenario {
            seed: 7,
            connections: 300,
            tools: "3..12".parse().unwrap(),
            faults: faults.into(),
            ..Scenario::default()
        };
        let mut world = World::with(scenario).await;
        let url = world.sim.url();
        for (key, value) in [
            ("ACCOUNTS__ACME__BASE_URL", url.as_str()),
            ("ACCOUNTS__ACME__API_KEY_ENV", "ACME_KEY"),
            ("ACCOUNTS__ACME__REQUESTS_PER_MINUTE", "600"),
            ("RETRY__MAX_ATTEMPTS", "4"),
        ] {
            world.set(&format!("FEATHER_SYNC__{key}"), value);
        }
        world.set("ACME_KEY", "fth_live_acme");
        let mut scene = Self::with(world).await;
        scene.ids = scene.world.sim.ids();
        let (acme, others) = scene.ids.split_at(60);
        scene.world.enqueue(others).await;
        for id in acme {
            scene
                .world
                .execute(&format!("SELECT feather.enqueue('{id}', 'acme')"))
                .await;
        }
        scene
            .world
            .until(
                "SELECT NOT EXISTS (SELECT FROM feather.sync_requests)
                    AND NOT EXISTS (SELECT FROM feather.sync_jobs WHERE state <> 'dead')",
            )
            .await;
        // What pages show is counted now and then.
        scene
            .world
            .until("SELECT sum(dead_finalize) > 0 FROM feather.sync_counts")
            .await;
        scene
    }

    pub(crate) async fn browser(&self) -> Browser {
        Browser::start(&format!("http://localhost:{}", self.port)).await
    }

    pub(crate) async fn end(self) {
        self.replica.stop().await;
    }
}

//! Many clients that ask at once: what waking the daemon costs them. It listens and takes in, and calls nobody.

use crate::report::Report;
use crate::report::Target;
use crate::report::median;
use crate::stage::Stage;
use crate::stage::run;
use sqlx::PgConnection;
use std::time::Duration;
use std::time::Instant;
use uuid::Uuid;

const CLIENTS: usize = 32;
/// Of a turn with the trigger, or without it. Turns are short and many, since a machine's speed drifts.
const MILLISECONDS: usize = 500;
const TURNS: usize = 20;

pub async fn measure(stage: &Stage) -> Report {
    let api = stage.api("").await;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..stage.rounds {
        let mut conn = stage.fresh_database().await;
        stage.tell(&["pause", "default"]);
        let daemon = stage.daemon(&api, &[], &[]);
        stage.listening(&mut conn).await;
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(stage.connect().await);
        }
        // The daemon is at it by then.
        requests_a_second(stage, &mut clients).await;
        for turn in 0..TURNS {
            let waking = turn % 2 == 1;
            let switch = if waking { "ENABLE" } else { "DISABLE" };
            let switch = format!("ALTER TABLE feather.sync_requests {switch} TRIGGER wake_worker");
            run(&mut conn, &switch).await;
            let rate = requests_a_second(stage, &mut clients).await;
            let rates = if waking { &mut with } else { &mut without };
            rates.push(rate);
        }
        daemon.stop().await;
        stage.print_statements(&mut conn).await;
    }
    let mut report = Report::new("producers");
    report.ratio(
        "requests/s of 32 clients; floor: no wake-up trigger",
        median(&without),
        median(&with),
        Target::AtLeast(0.90, 1.0),
    );
    report
}

async fn requests_a_second(stage: &Stage, clients: &mut Vec<PgConnection>) -> f64 {
    let began = Instant::now();
    let end = began + Duration::from_millis(stage.size(MILLISECONDS) as u64);
    let asking = clients.drain(..).map(|mut client| {
        tokio::spawn(async move {
            let mut asked = 0;
            while Instant::now() < end {
                sqlx::query("INSERT INTO feather.sync_requests (connection_id) VALUES ($1)")
                    .bind(Uuid::new_v4())
                    .execute(&mut client)
                    .await
                    .unwrap();
                asked += 1;
            }
            (client, asked)
        })
    });
    let mut asked = 0;
    for client in asking.collect::<Vec<_>>() {
        let (client, of_client) = client.await.unwrap();
        clients.push(client);
        asked += of_client;
    }
    f64::from(asked) / began.elapsed().as_secs_f64()
}

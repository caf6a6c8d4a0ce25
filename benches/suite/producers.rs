//! Many clients that ask at once: what waking the daemon costs them. It listens and takes in, and calls nobody.

use crate::report::Report;
use crate::report::Target;
use crate::report::median;
use crate::stage::Api;
use crate::stage::Stage;
use crate::stage::run;
use std::time::Duration;
use std::time::Instant;
use uuid::Uuid;

const CLIENTS: usize = 32;
const MILLISECONDS: usize = 5_000;

pub async fn measure(stage: &Stage) -> Report {
    let api = stage.api("").await;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..stage.rounds {
        without.push(requests_a_second(stage, &api, false).await);
        with.push(requests_a_second(stage, &api, true).await);
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

async fn requests_a_second(stage: &Stage, api: &Api, waking: bool) -> f64 {
    let mut conn = stage.fresh_database().await;
    stage.tell(&["pause", "default"]);
    if !waking {
        run(
            &mut conn,
            "ALTER TABLE feather.sync_requests DISABLE TRIGGER wake_worker",
        )
        .await;
    }
    let daemon = stage.daemon(api, &[], &[]);
    stage.listening(&mut conn).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(stage.connect().await);
    }
    let began = Instant::now();
    let end = began + Duration::from_millis(stage.size(MILLISECONDS) as u64);
    let asking = clients.into_iter().map(|mut client| {
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
            asked
        })
    });
    let mut asked = 0;
    for client in asking.collect::<Vec<_>>() {
        asked += client.await.unwrap();
    }
    let rate = f64::from(asked) / began.elapsed().as_secs_f64();
    daemon.stop().await;
    stage.print_statements(&mut conn).await;
    rate
}

//! Has tools refreshed that are a few seconds old. Daemons ask for that as well, but by configuration the tools are a minute
//! old at the least, which is longer than most runs: so somebody asks with the daemons' own statement and a shorter time.

use crate::producer;
use crate::producer::Deed;
use crate::schedule::ACCOUNTS;
use crate::schedule::QUIET;
use crate::stage::Stage;
use feather_sync::domain::AccountName;
use feather_sync::store::Db;
use feather_sync::store::DbSettings;
use feather_sync::store::RefreshStep;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const EVERY: Duration = Duration::from_millis(500);
/// Tools get no older than this, while the budget allows.
const AFTER: Duration = Duration::from_secs(3);
/// Most of an account that wait.
const MOST: f64 = 10.0;

pub(crate) async fn run(stage: Arc<Stage>, stop: watch::Receiver<bool>) {
    let db = Db::new(&DbSettings {
        url: stage.postgres.url("feather").into(),
        listen_url: None,
        max_connections: 1,
        prepared_statements: true,
    })
    .unwrap();
    let _ = producer::act(&stage, &mut None, &Deed::first(&stage, QUIET)).await;
    let accounts = ACCOUNTS.map(AccountName::from);
    while !*stop.borrow() {
        for account in &accounts {
            let step = RefreshStep {
                account,
                after: AFTER,
                failed: &["failed".into(), "error".into()],
                most: MOST,
                every: EVERY,
            };
            // Where the database is away, so are all the others.
            if let Ok(asked) = db.ask_for_refreshes(step).await {
                stage.report.count("refreshes asked for", asked);
            }
        }
        tokio::time::sleep(EVERY).await;
    }
    db.close().await;
}

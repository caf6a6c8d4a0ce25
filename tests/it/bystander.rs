//! How long nobody on this machine got anything done: what is promised in time is not promised of that.

use chrono::DateTime;
use chrono::TimeDelta;
use chrono::Utc;
use sqlx::PgPool;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long a bystander may wait for the database before this machine counts as stalled.
const STALL: TimeDelta = TimeDelta::milliseconds(150);

/// Watches, until it is dropped, for how long nobody on this machine gets anything done.
pub(crate) struct Bystander(JoinHandle<()>, Arc<Mutex<Vec<Stall>>>);

type Stall = (DateTime<Utc>, DateTime<Utc>);

impl Bystander {
    pub(crate) fn watch(pool: PgPool) -> Self {
        let stalls = Arc::new(Mutex::new(Vec::new()));
        let seen = stalls.clone();
        let watching = tokio::spawn(async move {
            loop {
                let from = Utc::now();
                tokio::time::sleep(Duration::from_millis(20)).await;
                sqlx::query("SELECT 1").execute(&pool).await.unwrap();
                let to = Utc::now();
                if to - from > STALL {
                    seen.lock().unwrap().push((from, to));
                }
            }
        });
        Self(watching, stalls)
    }

    /// Seconds of that time in which the machine stalled.
    pub(crate) fn stalled(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
        let stalls = self.1.lock().unwrap();
        let within = stalls
            .iter()
            .map(|(a, b)| (*b.min(&to) - *a.max(&from)).as_seconds_f64());
        within.map(|seconds| seconds.max(0.0)).sum()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.0.abort();
    }
}

//! Services that ask for syncs, each in its own way, and keep books of it in the same transaction.

use crate::schedule::ACCOUNTS;
use crate::schedule::QUIET;
use crate::schedule::dice;
use crate::stage::Stage;
use crate::stage::connection;
use rand::RngExt;
use rand::rngs::StdRng;
use sqlx::Connection;
use sqlx::PgConnection;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use uuid::Uuid;

pub(crate) const PRODUCERS: usize = 4;

/// Connections that are asked for once, by a request for a later time.
const LATER: usize = 100_000;
/// Connections that are named in transactions that are rolled back, and nowhere else.
const GHOSTS: usize = 500_000;

/// The part of all deeds that ask for the quiet account.
const ASKED_QUIETLY: f64 = 0.05;

/// How a producer asks.
enum Way {
    Insert,
    /// `feather.enqueue`, once per connection.
    Call,
    /// `feather.enqueue_many`.
    CallMany,
}

pub(crate) struct Deed {
    pub(crate) account: usize,
    pub(crate) ids: Vec<Uuid>,
    way: Way,
    priority: i32,
    later: Option<Duration>,
    rolled_back: bool,
    /// How long the transaction stays open.
    pub(crate) open_for: Duration,
}

/// Asks until told to stop.
pub(crate) async fn run(stage: Arc<Stage>, number: usize, stop: watch::Receiver<bool>) {
    let mut dice = dice(stage.seed, 1000 + number as u64);
    let mut conn = None;
    while !*stop.borrow() {
        let deed = Deed::choose(&mut dice, &stage);
        if let Err(error) = act(&stage, &mut conn, &deed).await {
            // What became of it, the books will tell.
            conn = None;
            stage.report.count("producers' transactions that failed", 1);
            if !is_expected(&error) {
                stage.report.wrong(format!("a producer got {error}"));
            }
        }
        tokio::time::sleep(Duration::from_millis(dice.random_range(50..500))).await;
    }
}

/// Carries out a deed in one transaction.
pub(crate) async fn act(
    stage: &Stage,
    conn: &mut Option<PgConnection>,
    deed: &Deed,
) -> Result<(), sqlx::Error> {
    if conn.is_none() {
        *conn = Some(PgConnection::connect(&stage.postgres.url("feather")).await?);
    }
    let number = stage.ledger.next();
    let mut tx = conn.as_mut().unwrap().begin().await?;
    let later = deed.later.map(|later| later.as_millis() as f64);
    if deed.rolled_back {
        stage.ledger.ghosts.lock().unwrap().extend(&deed.ids);
    }
    sqlx::query(
        "INSERT INTO chaos.wanted SELECT $1, unnest($2::uuid[]), now() + $3 * interval '1 ms'",
    )
    .bind(number)
    .bind(&deed.ids)
    .bind(later)
    .execute(&mut *tx)
    .await?;
    let account = ACCOUNTS[deed.account];
    let later = later.unwrap_or(0.0);
    let sql = match deed.way {
        Way::Insert => {
            "INSERT INTO feather.sync_requests (connection_id, account, priority, run_at)
             SELECT unnest($1::uuid[]), $2, $3::int, now() + $4 * interval '1 ms'"
        }
        Way::Call => {
            "SELECT feather.enqueue(id, $2, $3, now() + $4 * interval '1 ms') FROM unnest($1::uuid[]) AS id"
        }
        Way::CallMany => "SELECT feather.enqueue_many($1, $2, $3, now() + $4 * interval '1 ms')",
    };
    sqlx::query(sql)
        .bind(&deed.ids)
        .bind(account)
        .bind(deed.priority)
        .bind(later)
        .execute(&mut *tx)
        .await?;
    tokio::time::sleep(deed.open_for).await;
    let requests = deed.ids.len() as u64;
    if deed.rolled_back {
        tx.rollback().await?;
        stage.report.count("requests rolled back", requests);
    } else {
        tx.commit().await?;
        stage.ledger.committed.lock().unwrap().push(number);
        stage.report.count("requests committed", requests);
    }
    Ok(())
}

/// The server was away, ended the session or had no room: the faults that are played.
fn is_expected(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            ["57P", "53", "08", "58", "XX000"]
                .iter()
                .any(|class| code.starts_with(class))
        }),
        _ => false,
    }
}

impl Deed {
    fn choose(dice: &mut StdRng, stage: &Stage) -> Self {
        let account = if dice.random_bool(ASKED_QUIETLY) {
            QUIET
        } else {
            dice.random_range(0..QUIET)
        };
        let mut deed = Self {
            account,
            ids: Vec::new(),
            way: match dice.random_range(0..3) {
                0 => Way::Insert,
                1 => Way::Call,
                _ => Way::CallMany,
            },
            priority: *[0, 0, 0, -5, 100].get(dice.random_range(0..5)).unwrap(),
            later: None,
            rolled_back: dice.random_bool(0.15),
            open_for: Duration::ZERO,
        };
        let many = dice.random_range(1..12);
        if deed.rolled_back {
            deed.ids = fresh(stage, account, GHOSTS, many);
        } else if dice.random_bool(0.1) {
            deed.later = Some(Duration::from_millis(dice.random_range(200..6000)));
            deed.ids = fresh(stage, account, LATER, 2);
        } else {
            deed.ids = any(dice, stage, account, many);
            if dice.random_bool(0.2) {
                // The same ones again in the same transaction.
                deed.ids.extend(deed.ids.clone());
            }
        }
        deed
    }

    /// Some connections of an account, all that there is to be refreshed for the time being.
    pub(crate) fn first(stage: &Stage, account: usize) -> Self {
        Self {
            account,
            ids: (0..stage.connections / 3)
                .map(|place| connection(account, place))
                .collect(),
            way: Way::CallMany,
            priority: 0,
            later: None,
            rolled_back: false,
            open_for: Duration::ZERO,
        }
    }

    /// A transaction that stays open.
    pub(crate) fn stalled(dice: &mut StdRng, stage: &Stage, open_for: Duration) -> Self {
        let account = dice.random_range(0..QUIET);
        Self {
            account,
            ids: any(dice, stage, account, 10),
            way: Way::Insert,
            priority: 0,
            later: None,
            rolled_back: false,
            open_for,
        }
    }
}

fn any(dice: &mut StdRng, stage: &Stage, account: usize, number: usize) -> Vec<Uuid> {
    (0..number)
        .map(|_| connection(account, dice.random_range(0..stage.connections)))
        .collect()
}

fn fresh(stage: &Stage, account: usize, from: usize, number: usize) -> Vec<Uuid> {
    (0..number)
        .map(|_| connection(account, from + stage.ledger.number()))
        .collect()
}

//! The whole thing at work, with nothing set up: a private Postgres, a simulated API with a few faults, the daemon.

use crate::cli::output;
use crate::cli::output::table;
use crate::cli::progress::Progress;
use crate::config::Config;
use crate::config::Env;
use crate::daemon;
use crate::lifecycle::Lifecycle;
use crate::local_postgres::LocalPostgres;
use crate::local_postgres::Options;
use crate::sim::Fault;
use crate::sim::Scenario;
use crate::sim::Sim;
use crate::sim::StatusFault;
use crate::store;
use crate::store::Roles;
use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use std::net::TcpListener;
use std::time::Duration;
use std::time::Instant;

/// Examples of `demo`.
pub(super) const AFTER_HELP: &str = "\
Examples:
  feather-sync demo                     until Ctrl-C
  feather-sync demo --exit              until all is synced
  feather-sync demo --connections 2000  with more to do";

/// What `demo` is given.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// End once all connections are synced
    #[arg(long)]
    pub exit: bool,
    /// How many connections to sync
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: u32,
}

const DATABASE: &str = "feather_demo";
/// Longer than this nothing takes here unless it is broken.
const PATIENCE: Duration = Duration::from_secs(300);

/// An API as one meets it: mostly well, now and then not.
const SCENARIO: &str = r#"
seed = 7
tools = "3..12"
latency = "20ms..90ms"
settle = "0ms..2500ms"

[[fault]]   # some answers are 503
kind = "status"
code = 503
rate = 0.08
times = 2

[[fault]]   # some are slow
kind = "slow"
duration = "1500ms"
rate = 0.03
times = 1
"#;

/// `id` of the connection that upstream does not know, and of one that is met with a 429.
const UNKNOWN: usize = 16;
const LIMITED: usize = 40;

const RESULT: &str = "
SELECT last_outcome AS outcome, COALESCE(last_error_class, '') AS class, count(*) AS connections,
       sum(attempts) AS attempts, sum(retries) AS retries, sum(tools) AS tools,
       to_char(percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds), 'FM990.00 \"s\"') AS median,
       to_char(max(seconds), 'FM990.00 \"s\"') AS slowest
FROM feather.sync_status s
JOIN LATERAL (SELECT count(*) AS attempts, count(*) FILTER (WHERE outcome IN ('retry', 'deferred')) AS retries,
                     extract(epoch FROM max(finished_at) - min(started_at)) AS seconds
              FROM feather.sync_attempts a WHERE a.connection_id = s.connection_id) h ON true
JOIN LATERAL (SELECT count(*) AS tools FROM feather.tools t WHERE t.connection_id = s.connection_id) t ON true
GROUP BY 1, 2 ORDER BY 3 DESC";

const REPORTS: [(&str, &str); 3] = [
    (
        "Tools by integration, and how fresh they are",
        "SELECT integration_key, count(DISTINCT connection_id) AS connections, count(*) AS tools,
       count(*) FILTER (WHERE NOT is_enabled) AS disabled, max(connection_synced_at)::timestamp(0) AS last_checked
FROM feather.tools GROUP BY integration_key ORDER BY tools DESC",
    ),
    (
        "Connections that are not in order, and why",
        "SELECT connection_id, state, last_error_class, left(last_error, 60) AS last_error
FROM feather.sync_status WHERE state <> 'idle' ORDER BY last_attempt_at",
    ),
    (
        "What was tried, by kind and outcome",
        "SELECT kind, outcome, COALESCE(error_class, '') AS error_class, count(*) AS attempts,
       round(avg(extract(epoch FROM finished_at - started_at)) * 1000) AS average_ms
FROM feather.sync_attempts GROUP BY 1, 2, 3 ORDER BY 1, 4 DESC",
    ),
];

/// Runs the demo. Nothing is left behind, also when it is interrupted.
///
/// # Errors
/// When a part cannot be started, or the work does not get done.
pub async fn run(args: DemoArgs) -> Result<()> {
    let lifecycle = Lifecycle::default();
    lifecycle
        .follow_signals()
        .context("signals cannot be listened to")?;
    match lifecycle
        .stop
        .clone()
        .run_until_cancelled(show(&args, &lifecycle))
        .await
    {
        Some(result) => result,
        // Interrupted: what was started goes with its owner.
        None => Ok(()),
    }
}

async fn show(args: &DemoArgs, lifecycle: &Lifecycle) -> Result<()> {
    say("Starting a private Postgres …");
    let postgres = tokio::task::spawn_blocking(|| {
        LocalPostgres::start(Options {
            traceless: true,
            ..Options::default()
        })
    })
    .await??;
    postgres
        .query("postgres", &format!("CREATE DATABASE {DATABASE}"))
        .await?;
    say(
        "Starting a simulated Feather API: some 503, a 429, slow answers, one 404, tools that settle late …",
    );
    let (sim, ids) = start_api(args)?;
    let admin = free_port()?;
    let config = config(&postgres, &sim, admin)?;
    say("feather-sync migrate");
    store::migrate(&daemon::database_settings(&config)?, Roles::Required).await?;
    say("feather-sync run");
    // Not the demo's own lifecycle: the daemon works until the tables are printed.
    let daemon = Lifecycle::default();
    let running = tokio::spawn(daemon::run_until(config, None, daemon.clone()));
    let _stop = daemon.stop.clone().drop_guard();

    let values = ids
        .iter()
        .map(|id| format!("('{id}')"))
        .collect::<Vec<_>>()
        .join(",");
    say(&format!(
        "INSERT INTO feather.sync_requests (connection_id) VALUES ('{}'), …",
        ids[0]
    ));
    let began = Instant::now();
    postgres
        .query(
            DATABASE,
            &format!("INSERT INTO feather.sync_requests (connection_id) VALUES {values}"),
        )
        .await?;
    watch(&postgres, ids.len(), began).await?;
    if running.is_finished() {
        running.await??;
        bail!("the daemon ended early");
    }

    say(&format!(
        "\nDone in {:.1} s.\n",
        began.elapsed().as_secs_f64()
    ));
    print(&postgres, RESULT).await?;
    for (title, sql) in REPORTS {
        say(&format!("\n{title}:\n\n{sql};\n"));
        print(&postgres, sql).await?;
    }
    if !args.exit {
        say(&format!(
            "\nLook around until Ctrl-C:\n  dashboard    http://127.0.0.1:{admin}/\n  metrics      http://127.0.0.1:{admin}/metrics\n  readiness    http://127.0.0.1:{admin}/readyz\n  \
             API's calls  {}/_sim/calls\n  database     {}\n\
             Enqueue more there: SELECT feather.enqueue(gen_random_uuid());",
            sim.url(),
            postgres.psql_command(DATABASE)
        ));
        lifecycle.stop.cancelled().await;
    }
    daemon.stop.cancel();
    running.await??;
    Ok(())
}

fn start_api(args: &DemoArgs) -> Result<(Sim, Vec<uuid::Uuid>)> {
    let mut scenario = Scenario::from_toml(SCENARIO)?;
    scenario.connections = u64::from(args.connections);
    let sim = Sim::start(scenario).context("the simulated API cannot be started")?;
    let ids = sim.ids();
    if let Some(id) = ids.get(UNKNOWN) {
        sim.delete(*id);
    }
    if let Some(id) = ids.get(LIMITED) {
        let limited = StatusFault {
            code: 429,
            retry_after: Some(1),
            ..StatusFault::default()
        };
        sim.script(*id, [Fault::Status(limited)]);
    }
    Ok((sim, ids))
}

fn config(postgres: &LocalPostgres, sim: &Sim, admin: u16) -> Result<Config> {
    let env: Env = [
        ("DATABASE_URL", postgres.url(DATABASE)),
        ("FEATHER_BASE_URL", sim.url()),
        ("FEATHER_API_KEY", "fth_live_demo".to_owned()),
        ("FEATHER_SYNC__ADMIN__LISTEN", format!("127.0.0.1:{admin}")),
        (
            "FEATHER_SYNC__ACCOUNTS__DEFAULT__REQUESTS_PER_MINUTE",
            "6000".to_owned(),
        ),
    ]
    .into_iter()
    .collect();
    // An empty file rather than whatever this machine has in /etc.
    Ok(Config::load(Some("/dev/null".as_ref()), &env)?)
}

/// Shows how far it is until every connection is synced or given up.
async fn watch(postgres: &LocalPostgres, total: usize, began: Instant) -> Result<()> {
    let progress = Progress::new("synced", Some(total), 0);
    let mut shown = None;
    loop {
        let settled = postgres
            .query(
                DATABASE,
                "SELECT count(*) FROM feather.sync_status WHERE state IN ('idle', 'dead')",
            )
            .await?;
        let settled: usize = cell(&settled.rows)?.parse()?;
        if shown.replace(settled) != Some(settled) {
            progress.reached(settled as u64);
        }
        if settled >= total {
            progress.end();
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(anyhow!(
                "only {settled} of {total} connections were synced within {PATIENCE:?}"
            ));
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn cell(rows: &[Vec<String>]) -> Result<&str> {
    rows.first()
        .and_then(|row| row.first())
        .map(String::as_str)
        .context("a count is one row")
}

async fn print(postgres: &LocalPostgres, sql: &str) -> Result<()> {
    let result = postgres.query(DATABASE, sql).await?;
    let header: Vec<&str> = result.header.iter().map(String::as_str).collect();
    say(&table(&header, result.rows));
    Ok(())
}

fn say(text: &str) {
    // Whoever closes the pipe has seen enough; the demo still cleans up.
    let _ = output::print(text);
}

/// Free now; the daemon takes it moments later.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

//! Everything once more: what an answer costs that says little or nothing new.

use crate::drain::Cost;
use crate::report::Report;
use crate::report::Target;
use crate::report::median;
use crate::stage::Api;
use crate::stage::Stage;
use crate::stage::enqueue;
use crate::stage::ids;
use crate::stage::run;
use sqlx::PgConnection;
use sqlx::Row;
use uuid::Uuid;

const CONNECTIONS: usize = 2_000;

struct Case {
    name: &'static str,
    scenario: &'static str,
    unchanged: bool,
}

/// Where `tools_synced_at` moves, a finalize's own answer has settled, and a job is one call. Where it does not, the
/// answer may be one from before the sync, and a poll follows: two calls that say nothing new.
const CASES: [Case; 4] = [
    Case {
        name: "unchanged",
        scenario: "last_seen_at = \"fixed\"",
        unchanged: true,
    },
    Case {
        name: "unchanged, and polled",
        scenario: "last_seen_at = \"fixed\"\ntools_synced_at = \"frozen\"",
        unchanged: true,
    },
    Case {
        name: "last_seen_at moves",
        scenario: "",
        unchanged: false,
    },
    Case {
        name: "a tool new, gone or changed",
        scenario: "last_seen_at = \"fixed\"\nchurn = 1.0",
        unchanged: false,
    },
];

/// What one pass over all connections came to, per job.
struct Pass {
    cost: Cost,
    written: Written,
}

/// What the server has counted of the tools' table and of its TOAST.
struct Written {
    tool_rows: f64,
    toast_rows: f64,
    toast_kib: f64,
}

pub async fn measure(stage: &Stage) -> Report {
    let mut report = Report::new("resync");
    let jobs = stage.size(CONNECTIONS);
    for case in CASES {
        let (mut first, mut again, mut cold) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..stage.rounds {
            // Its own each time: a simulator remembers, and a repeated finalize is what is measured.
            let scenario = format!("tools = 8\n{}", case.scenario);
            let api = stage.api(&scenario).await;
            let mut conn = stage.fresh_database().await;
            let ids = ids(jobs);
            first.push(pass(stage, &api, &mut conn, &ids).await);
            again.push(pass(stage, &api, &mut conn, &ids).await);
            // Each page that is written first after a checkpoint costs a whole page of WAL: more, the more often the
            // server makes one.
            run(&mut conn, "CHECKPOINT").await;
            cold.push(pass(stage, &api, &mut conn, &ids).await);
        }
        let of = |passes: &[Pass], part: fn(&Pass) -> f64| {
            median(&passes.iter().map(part).collect::<Vec<_>>())
        };
        let mut both =
            |what: &str, passes: &[Pass], part: fn(&Pass) -> f64, target: Option<Target>| {
                report.ratio(
                    format!("{what}, {}", case.name),
                    of(&first, part),
                    of(passes, part),
                    target.filter(|_| case.unchanged),
                );
            };
        both(
            "WAL KiB a job",
            &again,
            |p| p.cost.wal_kib,
            Some(Target::AtMost(0.10, 0.05)),
        );
        both(
            "… right after a checkpoint",
            &cold,
            |p| p.cost.wal_kib,
            None,
        );
        both(
            "wide rows written a job",
            &again,
            |p| p.written.tool_rows,
            Some(Target::AtMost(0.0, 0.0)),
        );
        for (what, part) in [
            (
                "TOAST rows written a job",
                (|p| p.written.toast_rows) as fn(&Pass) -> f64,
            ),
            ("TOAST KiB a job", |p| p.written.toast_kib),
            ("CPU ms a job, the program", |p| p.cost.cpu_ms),
            ("CPU ms a job, Postgres", |p| p.cost.server_ms),
        ] {
            both(what, &again, part, None);
        }
    }
    report
}

async fn pass(stage: &Stage, api: &Api, conn: &mut PgConnection, ids: &[Uuid]) -> Pass {
    // Polls come as soon as they may; waiting for them is not what is measured.
    let at_once = [
        ("FEATHER_SYNC__SETTLE__INITIAL", "1ms".to_owned()),
        ("FEATHER_SYNC__SETTLE__MAX", "1ms".to_owned()),
    ];
    enqueue(conn, ids).await;
    let written_before = written(conn).await;
    let before = stage.work(conn).await;
    let daemon = stage.daemon(api, &["--until-empty"], &at_once);
    let used = daemon.wait().await;
    let work = stage.work(conn).await - before;
    stage.counted(conn).await;
    let written = written(conn).await;
    let a_job =
        |part: fn(&Written) -> f64| (part(&written) - part(&written_before)) / ids.len() as f64;
    Pass {
        cost: Cost::of(ids.len(), used, work),
        written: Written {
            tool_rows: a_job(|w| w.tool_rows),
            toast_rows: a_job(|w| w.toast_rows),
            toast_kib: a_job(|w| w.toast_kib),
        },
    }
}

async fn written(conn: &mut PgConnection) -> Written {
    let row = sqlx::query(
        "SELECT (t.n_tup_ins + t.n_tup_upd)::float8, (o.n_tup_ins + o.n_tup_upd)::float8,
                pg_relation_size(c.reltoastrelid) / 1024.0::float8
         FROM pg_class c
         JOIN pg_stat_user_tables t ON t.relid = c.oid
         JOIN pg_stat_all_tables o ON o.relid = c.reltoastrelid
         WHERE c.oid = 'feather.integration_connection_tools'::regclass",
    )
    .fetch_one(conn)
    .await
    .unwrap();
    Written {
        tool_rows: row.get(0),
        toast_rows: row.get(1),
        toast_kib: row.get(2),
    }
}

//! What makes a large table ready to become the first partition of one of its name, which the migration that swaps them
//! then does in a moment. It is done beside those who write, takes as long as reading the table does, can be in no
//! transaction, and is no migration for that reason: every `migrate` does what is left to do.

use crate::store::error::StoreError;
use chrono::DateTime;
use chrono::Utc;
use sqlx::PgConnection;
use std::time::Duration;

/// A table that is swapped.
struct Table {
    name: &'static str,
    /// What its partitions are by.
    key: &'static str,
    /// The index that is to be its primary key, where the key is not in the one that it has: name, and columns.
    index: Option<(&'static str, &'static str)>,
}

static TABLES: [Table; 2] = [
    Table {
        name: "sync_attempts",
        key: "finished_at",
        index: Some((
            "sync_attempts_before_pkey",
            "connection_id, id, finished_at",
        )),
    },
    Table {
        name: "sync_throughput",
        key: "minute",
        index: None,
    },
];

/// A smaller table is read while it is swapped, which takes no longer than a blink; the migration itself refuses one of
/// 32 MB that is not prepared.
const SMALL: i64 = 8 << 20;

/// How often a table is asked for, to prepare it, and to take that back.
const TRIES: u32 = 60;
const TRIES_BACK: u32 = 10;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(300);

/// Between two looks whether somebody else is done.
const AGAIN: Duration = Duration::from_millis(100);

/// What a table lacks.
struct Lack {
    table: &'static Table,
    /// Something by the name of the index is there: it is being built, or was left half built.
    broken: bool,
    index: bool,
    bound: bool,
}

/// A table that is prepared and not swapped yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The table.
    pub relation: String,
    /// It takes no rows from then on.
    pub until: DateTime<Utc>,
    /// That is now.
    pub is_past: bool,
}

/// Finds, before anything is done, what no migration can leave as it is: the key changes, and what leans on it keeps it
/// from being dropped.
pub(super) async fn refuse_dependents(conn: &mut PgConnection) -> Result<(), StoreError> {
    for (Table { name, .. }, (_, columns)) in TABLES
        .iter()
        .filter_map(|table| Some((table, table.index?)))
    {
        let leaning = sqlx::query_scalar!(
            r#"
            SELECT DISTINCT COALESCE(pg_describe_object('pg_catalog.pg_class'::regclass, r.ev_class, 0),
                                     pg_describe_object(d.classid, d.objid, 0)) AS "what!"
            FROM pg_catalog.pg_constraint k
            JOIN pg_catalog.pg_class c ON c.oid = k.conrelid AND c.relkind = 'r'
            JOIN pg_catalog.pg_depend d
                ON d.deptype = 'n' AND (d.refclassid = 'pg_catalog.pg_constraint'::regclass AND d.refobjid = k.oid
                                        OR d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = k.conindid)
            LEFT JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND r.oid = d.objid
            WHERE k.conrelid = to_regclass('feather.' || $1) AND k.contype = 'p'
            ORDER BY 1
            "#,
            *name
        )
        .fetch_all(&mut *conn)
        .await?;
        if !leaning.is_empty() {
            return Err(StoreError::Other(format!(
                "feather.{name} is to be kept in partitions, and its primary key to be ({columns}); what leans on the key \
                 that it has is in the way: {}. Drop it, run `feather-sync migrate` again, and create it anew for the new \
                 key. Nothing was changed",
                leaning.join(", ")
            )));
        }
    }
    Ok(())
}

/// Prepares the tables that are large and not swapped yet. To be called with no lock held that others wait for: the build
/// of an index waits for every transaction that began before it, and so for theirs.
pub(super) async fn prepare(conn: &mut PgConnection) -> Result<(), StoreError> {
    if lacks(conn).await?.is_empty() {
        return Ok(());
    }
    // Of the indexes that are built after the migrations, too.
    while !sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock(7305801, 6) AS "mine!""#)
        .fetch_one(&mut *conn)
        .await?
    {
        tokio::time::sleep(AGAIN).await;
    }
    for lack in lacks(conn).await? {
        let name = lack.table.name;
        let wrong = |error| told(name, error);
        tracing::info!("feather.{name} is read once, to be kept in partitions from then on");
        if let Some((index, columns)) = lack.table.index.filter(|_| lack.index) {
            if lack.broken {
                let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS feather.{index}");
                run(conn, drop).await.map_err(wrong)?;
            }
            let create =
                format!("CREATE UNIQUE INDEX CONCURRENTLY {index} ON feather.{name} ({columns})");
            run(conn, create).await.map_err(wrong)?;
        }
        if lack.bound {
            alone(conn, lack.table, TRIES, &bound(lack.table)).await?;
            let validate =
                format!("ALTER TABLE feather.{name} VALIDATE CONSTRAINT before_partitions");
            run(conn, validate).await.map_err(wrong)?;
        }
    }
    sqlx::query!(r#"SELECT pg_advisory_unlock(7305801, 6) AS "unlocked!""#)
        .fetch_one(&mut *conn)
        .await?;
    Ok(())
}

/// Whether nothing is left to prepare.
pub(super) async fn is_prepared(conn: &mut PgConnection) -> Result<bool, StoreError> {
    Ok(lacks(conn).await?.is_empty())
}

/// What is prepared and not swapped yet.
pub(super) async fn bounds(conn: &mut PgConnection) -> Result<Vec<Bound>, sqlx::Error> {
    sqlx::query_as!(
        Bound,
        r#"
        SELECT b.relation AS "relation!", b.until AS "until!", b.until <= clock_timestamp() AS "is_past!"
        FROM (SELECT c.relname::text AS relation,
                     (regexp_match(pg_get_constraintdef(k.oid), '< ''(.+)''::'))[1]::timestamptz AS until
              FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
              WHERE k.conname = 'before_partitions' AND c.relkind = 'r' AND NOT c.relispartition
                AND c.relnamespace = to_regnamespace('feather')) AS b
        ORDER BY b.relation
        "#
    )
    .fetch_all(conn)
    .await
}

/// Takes back what would make a table refuse rows one day, as far as nobody is in the way. An index stays where it was
/// built. To be called by whoever has the turn: another one that has it later looks whether all is prepared still.
pub(super) async fn take_back(conn: &mut PgConnection) -> Result<(), StoreError> {
    let bounds = bounds(conn).await?;
    let of = |table: &&Table| bounds.iter().any(|bound| bound.relation == table.name);
    let mut done = Ok(());
    for table in TABLES.iter().filter(of) {
        let name = table.name;
        let drop =
            format!("ALTER TABLE feather.{name} DROP CONSTRAINT IF EXISTS before_partitions");
        // Who is in the way of one is not in the way of the other.
        done = done.and(alone(conn, table, TRIES_BACK, &drop).await);
    }
    done
}

/// Says that all rows are from before a day, so that nobody has to read them to know it. The day is a month off: who is
/// interrupted before the swap and forgets about it has made a table that takes no rows from then on. Until a week before,
/// another `migrate` leaves it; after that, it names another day.
fn bound(Table { name, key, .. }: &Table) -> String {
    format!(
        "EXECUTE (
             SELECT format('ALTER TABLE feather.{name} DROP CONSTRAINT IF EXISTS before_partitions,
                            ADD CONSTRAINT before_partitions CHECK ({key} < %L) NOT VALID',
                           date_trunc('day', GREATEST(clock_timestamp() + interval '31 days',
                                                      max({key}) + interval '1 day')))
             FROM feather.{name})"
    )
}

/// Does something to a table while nobody else is at it, unless it has been swapped meanwhile. The lock is asked for as the
/// migration does, but from here: the server tries no more once nobody waits for what it does.
async fn alone(
    conn: &mut PgConnection,
    Table { name, .. }: &Table,
    tries: u32,
    statement: &str,
) -> Result<(), StoreError> {
    for attempt in 1.. {
        let patience = if attempt % 5 == 0 { "1500ms" } else { "100ms" };
        let once = format!(
            "DO $$
             BEGIN
                 PERFORM set_config('client_min_messages', 'warning', true);
                 PERFORM set_config('lock_timeout', '{patience}', true);
                 LOCK TABLE feather.{name} IN ACCESS EXCLUSIVE MODE;
                 IF EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('feather.{name}') AND relkind = 'r') THEN
                     {statement};
                 END IF;
             END $$"
        );
        match run(conn, once).await {
            Err(StoreError::Conflict(_) | StoreError::RowLocked(_)) if attempt < tries => {
                tokio::time::sleep(PAUSE).await;
            }
            done => return done.map_err(|error| told(name, error)),
        }
    }
    Ok(())
}

async fn lacks(conn: &mut PgConnection) -> Result<Vec<Lack>, sqlx::Error> {
    let names: Vec<_> = TABLES.iter().map(|table| table.name).collect();
    let rows = sqlx::query!(
        r#"
        SELECT n.name AS "name!", i.indisvalid AS valid,
               COALESCE(k.convalidated AND (regexp_match(pg_get_constraintdef(k.oid), '< ''(.+)''::'))[1]::timestamptz
                                           > now() + interval '8 days', false) AS "bounded!"
        FROM unnest($1::text[]) AS n (name)
        JOIN pg_catalog.pg_class c ON c.oid = to_regclass('feather.' || n.name)
        LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = to_regclass('feather.' || n.name || '_before_pkey')
        LEFT JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid AND k.conname = 'before_partitions'
        WHERE c.relkind = 'r' AND pg_relation_size(c.oid) >= $2
        "#,
        &names as _,
        SMALL
    )
    .fetch_all(conn)
    .await?;
    let of = |table: &'static Table| {
        let row = rows.iter().find(|row| row.name == table.name)?;
        let lack = Lack {
            table,
            broken: row.valid == Some(false),
            index: table.index.is_some() && row.valid != Some(true),
            bound: !row.bounded,
        };
        (lack.index || lack.bound).then_some(lack)
    };
    Ok(TABLES.iter().filter_map(of).collect())
}

async fn run(conn: &mut PgConnection, statement: String) -> Result<(), StoreError> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
        .execute(conn)
        .await?;
    Ok(())
}

fn told(name: &str, error: StoreError) -> StoreError {
    match error {
        StoreError::Conflict(error) | StoreError::RowLocked(error) => StoreError::Other(format!(
            "feather.{name} was not prepared for being kept in partitions: {error}. A transaction that stays open is in \
             the way (pg_stat_activity names it); run `feather-sync migrate` again, which goes on from here"
        )),
        error => error,
    }
}

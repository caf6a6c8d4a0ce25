//! The three roles, by trying what they may and may not: every kind of statement on everything that the schema has.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::database::Database;
use crate::program::ID;
use crate::program::program;
use crate::program::run;

const ROLES: [Option<&str>; 4] = [
    Some("feather_worker"),
    Some("feather_enqueuer"),
    Some("feather_reporter"),
    None,
];

/// What reporting reads.
const REPORTS: [&str; 13] = [
    "integration_connections",
    "integration_connection_tools",
    "sync_attempts",
    "connections",
    "tools",
    "sync_status",
    "sync_health",
    "sync_minutes",
    "sync_events",
    "connection_history",
    "tool_history",
    "connection_versions",
    "tool_versions",
];

/// Functions for those who report, and for the daemon that counts with them.
const SUMS: [&str; 9] = [
    "counts_add",
    "counts_sum",
    "histogram_add",
    "histogram_sum",
    "time_to_sync_bounds",
    "time_to_sync_percentile",
    "connections_as_of",
    "tools_as_of",
    "partition_bounds",
];

/// Whether it is a part of a table by its name: of a day, of what was before, or the one for the rest. They are reached through their tables.
fn is_part(relation: &str) -> bool {
    let last = relation.rsplit('_').next().unwrap_or_default();
    ["before", "default"].contains(&last)
        || last.len() == 8 && last.bytes().all(|byte| byte.is_ascii_digit())
}

/// What a role is for. Whatever is added to the schema later falls under it, too.
fn intended(role: Option<&str>, relation: &str, is_table: bool) -> &'static [&'static str] {
    match role {
        Some("feather_worker") if relation.ends_with("_default") => &["SELECT"],
        _ if is_part(relation) => &[],
        Some("feather_worker") if is_table && relation != "_sqlx_migrations" => {
            &["DELETE", "INSERT", "SELECT", "UPDATE"]
        }
        Some("feather_worker") => &["SELECT"],
        Some("feather_enqueuer") if relation == "sync_requests" => &["INSERT"],
        Some("feather_enqueuer") if relation == "sync_status" => &["SELECT"],
        Some("feather_reporter") if REPORTS.contains(&relation) => &["SELECT"],
        _ => &[],
    }
}

/// Tries each statement as this user and undoes it. Those that were allowed are returned; one that fails for another
/// reason than the data or the privilege is a mistake in the test.
#[track_caller]
fn allowed(db: &Database, user: &str, statements: &[String]) -> BTreeSet<String> {
    let list: Vec<String> = statements
        .iter()
        .map(|statement| format!("$statement${statement}$statement$"))
        .collect();
    let tried = db
        .as_user(
            user,
            &format!(
                "CREATE FUNCTION pg_temp.tried(statement text) RETURNS text LANGUAGE plpgsql AS $$
                 BEGIN
                     EXECUTE statement;
                     RAISE EXCEPTION USING ERRCODE = 'DONE1';
                 EXCEPTION WHEN OTHERS THEN
                     RETURN SQLSTATE;
                 END $$;
                 SELECT s, pg_temp.tried(s) FROM unnest(ARRAY[{}]::text[]) AS s",
                list.join(", ")
            ),
        )
        .unwrap();
    assert_eq!(tried.len(), statements.len());
    let was_allowed = |row: &Vec<String>| match row[1].as_str() {
        "42501" => false,
        // Not null, a check, a foreign key: past the privileges.
        "DONE1" | "23502" | "23503" | "23514" => true,
        other => panic!("{user}: {}: {other}", row[0]),
    };
    tried
        .into_iter()
        .filter(was_allowed)
        .map(|row| row[0].clone())
        .collect()
}

/// Each relation, whether it is a table, and its columns.
fn relations(db: &Database) -> BTreeMap<String, (bool, Vec<String>)> {
    let rows = db.rows(
        "SELECT relname, relkind IN ('r', 'p'), string_agg(attname, ',' ORDER BY attnum)
         FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
         WHERE relnamespace = 'feather'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f') GROUP BY 1, 2",
    );
    let relations: BTreeMap<_, _> = rows
        .into_iter()
        .map(|row| {
            let columns = row[2].split(',').map(str::to_owned).collect();
            (row[0].clone(), (row[1] == "t", columns))
        })
        .collect();
    assert!(relations.len() > 15, "{relations:?}");
    relations
}

#[test]
fn each_role_may_do_exactly_what_it_is_for_to_every_relation() {
    let db = Database::migrated();
    for role in ROLES {
        let user = db.user(role);
        for (relation, (is_table, columns)) in relations(&db) {
            let mut statements = BTreeMap::from([(
                "SELECT",
                format!("SELECT * FROM feather.{relation} LIMIT 1"),
            )]);
            if is_table {
                // An identity cannot be set at all, which is said before the privilege is looked at.
                let column = columns.iter().find(|name| *name != "id").unwrap();
                statements.extend([
                    (
                        "INSERT",
                        format!("INSERT INTO feather.{relation} DEFAULT VALUES"),
                    ),
                    (
                        "UPDATE",
                        format!("UPDATE feather.{relation} SET {column} = {column}"),
                    ),
                    ("DELETE", format!("DELETE FROM feather.{relation}")),
                    ("TRUNCATE", format!("TRUNCATE feather.{relation}")),
                ]);
            }
            let list: Vec<String> = statements.values().cloned().collect();
            let allowed = allowed(&db, &user, &list);
            let done: Vec<&str> = statements
                .iter()
                .filter(|(_, statement)| allowed.contains(*statement))
                .map(|(what, _)| *what)
                .collect();
            let intended = intended(role, &relation, is_table);
            assert_eq!(done, intended, "{role:?} {relation}");

            // What cannot be tried on a view, the catalogue knows.
            let rights = db.value(&format!(
                "SELECT coalesce(string_agg(p, ' ' ORDER BY p), '') FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE',
                        'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p WHERE has_table_privilege('{user}', 'feather.{relation}', p)"
            ));
            assert_eq!(rights, intended.join(" "), "{role:?} {relation}");
        }
    }
}

#[test]
fn of_single_columns_only_an_enqueuer_sees_one_the_id_for_returning() {
    let db = Database::migrated();
    for role in ROLES {
        let user = db.user(role);
        let single = db.rows(&format!(
            "SELECT p || ' ' || relname || '.' || attname
             FROM pg_class c JOIN pg_attribute ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped,
                  unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) AS p
             WHERE relnamespace = 'feather'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
               AND has_column_privilege('{user}', c.oid, attnum, p) AND NOT has_table_privilege('{user}', c.oid, p)"
        ));
        let columns = relations(&db).remove("sync_requests").unwrap().1;
        let statements: Vec<String> = columns
            .iter()
            .map(|column| format!("SELECT {column} FROM feather.sync_requests"))
            .collect();
        let seen = allowed(&db, &user, &statements);
        match role {
            Some("feather_worker") => {
                assert!(single.is_empty(), "{single:?}");
                assert_eq!(seen.len(), columns.len());
            }
            Some("feather_enqueuer") => {
                assert_eq!(single, [["SELECT sync_requests.id"]]);
                assert_eq!(
                    Vec::from_iter(seen),
                    ["SELECT id FROM feather.sync_requests"]
                );
            }
            _ => assert!(
                single.is_empty() && seen.is_empty(),
                "{role:?}: {single:?} {seen:?}"
            ),
        }
    }
}

#[test]
fn functions_are_for_those_who_need_them_and_sequences_for_nobody() {
    let db = Database::migrated();
    let functions = db.rows(
        "SELECT p.oid::regprocedure, proname FROM pg_proc p
         WHERE pronamespace = 'feather'::regnamespace ORDER BY 1",
    );
    assert!(functions.len() >= 3, "{functions:?}");
    let sequences = db.rows(
        "SELECT oid::regclass FROM pg_class WHERE relnamespace = 'feather'::regnamespace AND relkind = 'S'",
    );
    assert!(!sequences.is_empty());
    let calls = [
        format!("SELECT feather.enqueue('{ID}')"),
        format!("SELECT feather.enqueue_many(ARRAY['{ID}']::uuid[])"),
    ];
    for role in ROLES {
        let user = db.user(role);
        let enqueues = matches!(role, Some("feather_worker" | "feather_enqueuer"));
        for function in &functions {
            let right = format!(
                "SELECT has_function_privilege('{user}', '{}', 'EXECUTE')",
                function[0]
            );
            let name = function[1].as_str();
            let reports = matches!(role, Some("feather_worker" | "feather_reporter"));
            let expected = enqueues && name.starts_with("enqueue")
                || reports && SUMS.contains(&name)
                || role == Some("feather_worker") && name == "keep_partitions";
            let expected = if expected { "t" } else { "f" };
            assert_eq!(db.value(&right), expected, "{role:?} {function:?}");
        }
        let called = allowed(&db, &user, &calls);
        assert_eq!(called.len(), if enqueues { 2 } else { 0 }, "{role:?}");
        let statements: Vec<String> = sequences
            .concat()
            .iter()
            .flat_map(|sequence| {
                [
                    format!("SELECT nextval('{sequence}')"),
                    format!("SELECT setval('{sequence}', 1)"),
                    format!("SELECT * FROM {sequence}"),
                ]
            })
            .collect();
        assert!(allowed(&db, &user, &statements).is_empty(), "{role:?}");
    }
}

#[test]
fn no_role_changes_the_schema_or_becomes_another() {
    let db = Database::migrated();
    for role in ROLES {
        let user = db.user(role);
        let mut statements = vec![
            "CREATE TABLE feather.mine (a integer)".to_owned(),
            "CREATE VIEW feather.mine AS SELECT 1".to_owned(),
            "CREATE FUNCTION feather.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'".to_owned(),
            "CREATE OR REPLACE FUNCTION feather.wake_worker() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
                .to_owned(),
            "ALTER SCHEMA feather RENAME TO other".to_owned(),
            "DROP SCHEMA feather CASCADE".to_owned(),
            "ALTER FUNCTION feather.wake_worker() RESET ALL".to_owned(),
            "DROP FUNCTION feather.wake_worker() CASCADE".to_owned(),
            "GRANT feather_worker TO CURRENT_USER WITH ADMIN OPTION".to_owned(),
            "CREATE ROLE another".to_owned(),
            "SET SESSION AUTHORIZATION postgres".to_owned(),
            "SET ROLE postgres".to_owned(),
            "COPY feather.connections TO PROGRAM 'cat'".to_owned(),
            "SELECT pg_read_file('/etc/passwd')".to_owned(),
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'"
                .to_owned(),
        ];
        for relation in relations(&db).into_keys() {
            statements.push(format!(
                "ALTER TABLE feather.{relation} OWNER TO CURRENT_USER"
            ));
            statements.push(format!("COMMENT ON TABLE feather.{relation} IS 'mine'"));
            statements.push(format!(
                "CREATE TRIGGER mine AFTER INSERT ON feather.{relation} EXECUTE FUNCTION feather.wake_worker()"
            ));
        }
        for other in ROLES
            .into_iter()
            .flatten()
            .filter(|other| role != Some(other))
        {
            statements.push(format!("SET ROLE {other}"));
        }
        // Views are no tables to some of these statements, which is said first.
        let statements: Vec<String> = statements
            .into_iter()
            .filter(|statement| {
                !statement.starts_with("COMMENT") || statement.contains("sync_requests")
            })
            .collect();
        assert_eq!(
            allowed(&db, &user, &statements),
            BTreeSet::new(),
            "{role:?}"
        );
    }
    let roles = db.rows(
        "SELECT rolname, rolcanlogin OR rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication
         FROM pg_roles WHERE rolname IN ('feather_worker', 'feather_enqueuer', 'feather_reporter') ORDER BY 1",
    );
    let more_than_roles: Vec<_> = roles.iter().filter(|row| row[1] == "t").collect();
    assert!(roles.len() == 3 && more_than_roles.is_empty(), "{roles:?}");
}

#[test]
fn public_has_nothing_in_the_schema() {
    let db = Database::migrated();
    let granted = db.rows(
        "SELECT 'schema ' || nspname, privilege_type FROM pg_namespace, aclexplode(nspacl)
         WHERE nspname = 'feather' AND grantee = 0
         UNION ALL SELECT relname, privilege_type FROM pg_class, aclexplode(relacl)
         WHERE relnamespace = 'feather'::regnamespace AND grantee = 0
         UNION ALL SELECT attrelid::regclass || '.' || attname, privilege_type FROM pg_attribute JOIN pg_class c ON attrelid = c.oid,
                          aclexplode(attacl) WHERE relnamespace = 'feather'::regnamespace AND grantee = 0
         UNION ALL SELECT p.oid::regprocedure::text, 'EXECUTE' FROM pg_proc p
         WHERE pronamespace = 'feather'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE')",
    );
    assert!(granted.is_empty(), "{granted:?}");
}

#[test]
fn an_enqueuer_enqueues_in_every_documented_way() {
    let db = Database::migrated();
    let user = db.user(Some("feather_enqueuer"));
    for statement in [
        format!("INSERT INTO feather.sync_requests (connection_id) VALUES ('{ID}') RETURNING id"),
        format!(
            "INSERT INTO feather.sync_requests (connection_id, account, priority, run_at, requested_by)
             VALUES ('{ID}', 'acme', -1, now(), 'an app')"
        ),
        format!("SELECT feather.enqueue('{ID}')"),
        format!("SELECT feather.enqueue_many(ARRAY['{ID}']::uuid[])"),
    ] {
        db.as_user(&user, &statement).expect(&statement);
    }
    let status = db
        .as_user(
            &user,
            "SELECT connection_id, state FROM feather.sync_status",
        )
        .unwrap();
    assert_eq!(status, [[ID, "requested"]]);
    let signed = db.rows("SELECT requested_by FROM feather.sync_requests ORDER BY id");
    assert_eq!(signed.concat(), [&*user, "an app", &user, &user]);
}

#[test]
fn commands_work_for_whoever_may_do_what_they_do() {
    let db = Database::migrated();
    let enqueuer = db.user(Some("feather_enqueuer"));
    let reporter = db.user(Some("feather_reporter"));
    run(program(&["enqueue", ID]).env("DATABASE_URL", db.url_as(&enqueuer))).done();
    db.feather_sync_as(&reporter, &["show", ID]).done();
    for (user, arguments) in [
        (&enqueuer, &["retry", ID][..]),
        (&reporter, &["enqueue", ID]),
        (&reporter, &["pause", "default"]),
    ] {
        let error = db.feather_sync_as(user, arguments).failed(1);
        assert!(
            error.contains("permission denied") && error.contains("grant"),
            "{error}"
        );
    }
}

//! What the schema says about itself.

use crate::database::Database;

#[test]
fn everything_in_the_schema_carries_a_comment() {
    let db = Database::migrated();
    let bare = db.rows(
        "SELECT 'relation', c.relname, ''
         FROM pg_class c
         WHERE c.relnamespace = 'feather'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
           AND obj_description(c.oid, 'pg_class') IS NULL
         UNION ALL
         SELECT 'column', c.relname, a.attname
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         WHERE c.relnamespace = 'feather'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
           AND col_description(c.oid, a.attnum) IS NULL
         UNION ALL
         SELECT 'function', p.proname, pg_get_function_identity_arguments(p.oid)
         FROM pg_proc p
         WHERE p.pronamespace = 'feather'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL
         UNION ALL
         SELECT 'role', r.rolname, '' FROM pg_roles r
         WHERE r.rolname IN ('feather_worker', 'feather_enqueuer', 'feather_reporter') AND shobj_description(r.oid, 'pg_authid') IS NULL
         UNION ALL
         SELECT 'schema', 'feather', '' WHERE obj_description('feather'::regnamespace, 'pg_namespace') IS NULL
         ORDER BY 1, 2, 3",
    );
    assert!(bare.is_empty(), "without a comment: {bare:#?}");
    let relations = db.value("SELECT count(*) FROM pg_class WHERE relnamespace = 'feather'::regnamespace AND relkind IN ('r', 'v')");
    assert!(relations.parse::<u32>().unwrap() >= 15, "{relations}");
}

#[test]
fn every_time_has_a_zone() {
    let db = Database::migrated();
    let zoneless = db.rows(
        "SELECT table_name, column_name FROM information_schema.columns
         WHERE table_schema = 'feather' AND data_type IN ('timestamp without time zone', 'date', 'time without time zone')",
    );
    assert!(zoneless.is_empty(), "{zoneless:?}");
}

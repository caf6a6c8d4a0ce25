//! What Postgres knows of the schema, as text that can be compared.

use crate::world::World;
use std::collections::BTreeMap;

/// Kind and name of a part of the schema, and its definition.
pub(crate) type Catalog = BTreeMap<(String, String), String>;

const PARTS: &str = "
WITH relation AS (
    SELECT c.*, c.relname::text AS name FROM pg_class c
    WHERE c.relnamespace = 'feather'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
      -- Which periods have partitions depends on the time, and on the rows that were there.
      AND NOT (c.relispartition AND c.relname ~ '_\\d{8}$')
), columns AS (
    SELECT r.name || '.' || a.attname AS name, r.oid, a.*, pg_get_expr(d.adbin, d.adrelid) AS preset
    FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
    WHERE r.relkind <> 'S'
), functions AS (
    SELECT p.*, format('%s(%s)', p.proname, pg_get_function_identity_arguments(p.oid)) AS name
    FROM pg_proc p WHERE p.pronamespace = 'feather'::regnamespace
)
SELECT 'relation', name, concat_ws(' ', relkind::text, reloptions::text) FROM relation
UNION ALL SELECT 'type', name, format_type(atttypid, atttypmod) FROM columns
UNION ALL SELECT 'position', name, attnum::text FROM columns
UNION ALL SELECT 'null', name, CASE WHEN attnotnull THEN 'never' ELSE 'allowed' END FROM columns
UNION ALL SELECT 'preset', name, concat(preset, attidentity, attgenerated) FROM columns
UNION ALL SELECT 'constraint', r.name || '.' || k.conname, pg_get_constraintdef(k.oid)
          FROM pg_constraint k JOIN relation r ON r.oid = k.conrelid WHERE k.contype <> 'n'
UNION ALL SELECT 'index', r.name || '.' || i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
          FROM pg_index i JOIN relation r ON r.oid = i.indrelid
UNION ALL SELECT 'trigger', r.name || '.' || t.tgname, pg_get_triggerdef(t.oid)
          FROM pg_trigger t JOIN relation r ON r.oid = t.tgrelid WHERE NOT t.tgisinternal
UNION ALL SELECT 'view', name, pg_get_viewdef(oid) FROM relation WHERE relkind = 'v'
UNION ALL SELECT 'function', name, CASE WHEN prokind = 'a' THEN (SELECT to_jsonb(a) - 'aggfnoid' FROM pg_aggregate a WHERE aggfnoid = oid)::text
                                        ELSE pg_get_functiondef(oid) END FROM functions
UNION ALL SELECT 'signature', name, pg_get_function_arguments(oid) || ' -> ' || pg_get_function_result(oid) FROM functions
UNION ALL SELECT 'comment', o.type || ' ' || o.identity, d.description
          FROM pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) o WHERE o.identity ~ '\\mfeather\\M' AND o.identity !~ '_\\d{8}'
-- A part is reached through its table.
UNION ALL SELECT 'grant', format('%s to %s', what, COALESCE(g.rolname, 'public')), string_agg(privilege_type, ' ' ORDER BY privilege_type)
          FROM (SELECT name, relacl FROM relation WHERE NOT relispartition UNION ALL SELECT name, attacl FROM columns
                UNION ALL SELECT name, proacl FROM functions
                UNION ALL SELECT 'schema', nspacl FROM pg_namespace WHERE nspname = 'feather') AS l (what, acl)
          CROSS JOIN LATERAL aclexplode(l.acl) AS e LEFT JOIN pg_roles g ON g.oid = e.grantee
          WHERE g.rolname IS DISTINCT FROM 'postgres' GROUP BY what, g.rolname";

pub(crate) async fn catalog(world: &World) -> Catalog {
    let rows: Vec<(String, String, String)> = world.rows(PARTS).await;
    let count = rows.len();
    let catalog: Catalog = rows
        .into_iter()
        .map(|(kind, name, definition)| ((kind, name), definition))
        .collect();
    assert_eq!(catalog.len(), count, "every part has a name of its own");
    catalog
}

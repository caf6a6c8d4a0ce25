//! The columns that services and reports are built on.

use crate::world::World;

/// `relation column type`, one a line: never a line less, never another type.
const PROMISED: &str = include_str!("contract.txt");

#[tokio::test(flavor = "multi_thread")]
async fn every_promised_column_is_there_with_its_type() {
    let world = World::new().await;
    let columns: Vec<(String,)> = world
        .rows(
            "SELECT concat_ws(' ', c.relname, a.attname, format_type(a.atttypid, a.atttypmod)) FROM pg_class c
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             WHERE c.relnamespace = 'feather'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')",
        )
        .await;
    let promised: Vec<&str> = PROMISED.lines().skip(1).collect();
    assert!(promised.len() > 150, "{}", promised.len());
    for line in promised {
        let there = columns.iter().any(|(column,)| column == line);
        assert!(there, "promised: {line}");
    }
}

//! The search over the tools of all connections, and everything about one.

use crate::world::World;
use crate::world::ids;
use feather_sync::sim::Scenario;
use feather_sync::store::Db;
use feather_sync::store::ToolFilter;
use feather_sync::store::ToolKind;
use std::collections::BTreeSet;
use uuid::Uuid;

/// All that a filter finds, page by page, each by connection and id.
async fn all(db: &Db, filter: &ToolFilter) -> Vec<(Uuid, Uuid)> {
    let (mut found, mut behind) = (Vec::new(), None);
    loop {
        let page = db.search_tools(filter, behind.as_ref()).await.unwrap();
        assert!(page.rows.len() <= 50);
        found.extend(page.rows.iter().map(|tool| (tool.connection_id, tool.id)));
        // As it goes through an address.
        behind = page.next.map(|next| {
            let text = serde_json::to_string(&next).unwrap();
            serde_json::from_str(&text).unwrap()
        });
        if behind.is_none() {
            return found;
        }
    }
}

/// What a query finds.
async fn told(world: &World, condition: &str) -> BTreeSet<(Uuid, Uuid)> {
    let rows: Vec<(Uuid, Uuid)> = world
        .rows(&format!(
            "SELECT t.connection_id, t.id FROM feather.integration_connection_tools t
             JOIN feather.integration_connections c ON c.id = t.connection_id WHERE c._removed_at IS NULL AND ({condition})"
        ))
        .await;
    rows.into_iter().collect()
}

async fn with_tools() -> World {
    let scenario = Scenario::from_toml("tools = 12\n").unwrap();
    let world = World::with(scenario).await;
    world.sync(&ids(25)).await;
    for (set, nth) in [
        ("is_enabled = false", 7),
        ("stale_field_paths = '{a.b,<b>}'", 11),
        ("stale_input_fields = '{q}'", 13),
        ("_removed_at = now(), _changed_at = now()", 17),
        (
            "_changed_at = _changed_at + interval '1 millisecond', display_name = 'Übung ' || display_name",
            19,
        ),
        (
            "_first_seen_at = now() - interval '30 days', _changed_at = now() - interval '20 days'",
            23,
        ),
    ] {
        world
            .execute(&format!(
                "UPDATE feather.integration_connection_tools t SET {set}
                 FROM (SELECT connection_id, id, row_number() OVER (ORDER BY connection_id, id) AS n
                       FROM feather.integration_connection_tools) AS o
                 WHERE o.connection_id = t.connection_id AND o.id = t.id AND o.n % {nth} = 0"
            ))
            .await;
    }
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn each_search_finds_what_it_says_each_tool_once() {
    let mut world = with_tools().await;
    world.leave_broken();
    let db = world.db();
    let (slug, nickname, integration, name): (String, String, String, String) = world
        .row("SELECT slug, nickname_slug, integration_key, display_name FROM feather.tools ORDER BY id LIMIT 1")
        .await;
    let kind = |kind| ToolFilter {
        kind: Some(kind),
        ..ToolFilter::default()
    };
    let slug_begins = |text: &str| ToolFilter {
        slug: Some(text.to_owned()),
        ..ToolFilter::default()
    };
    let name_begins = |text: &str| ToolFilter {
        name: Some(text.to_owned()),
        ..ToolFilter::default()
    };
    let of_integration = |key: &str| ToolFilter {
        integration: Some(key.to_owned()),
        ..ToolFilter::default()
    };
    let exist = "t._removed_at IS NULL";
    let quoted = |text: &str| text.replace('\'', "''");
    let begins = |column: &str, text: &str| {
        format!(
            "{exist} AND starts_with(lower({column}), lower('{}'))",
            quoted(text)
        )
    };
    for (filter, condition) in [
        (ToolFilter::default(), exist.to_owned()),
        (
            kind(ToolKind::Disabled),
            format!("{exist} AND NOT t.is_enabled"),
        ),
        (
            kind(ToolKind::Stale),
            format!(
                "{exist} AND (t.stale_field_paths <> '{{}}' OR t.stale_input_fields <> '{{}}')"
            ),
        ),
        (
            kind(ToolKind::Removed),
            "t._removed_at IS NOT NULL".to_owned(),
        ),
        (
            kind(ToolKind::Changed),
            format!("{exist} AND t._first_seen_at < t._changed_at"),
        ),
        (
            kind(ToolKind::Added),
            format!("{exist} AND t._first_seen_at > now() - interval '7 days'"),
        ),
        (slug_begins(&slug), begins("t.slug", &slug)),
        (slug_begins(&slug.to_uppercase()), begins("t.slug", &slug)),
        (slug_begins(&nickname), begins("t.slug", &nickname)),
        (
            slug_begins(&nickname[..2]),
            begins("t.slug", &nickname[..2]),
        ),
        (
            slug_begins(&format!("{nickname}_")),
            begins("t.slug", &format!("{nickname}_")),
        ),
        (
            of_integration(&integration),
            format!("{exist} AND t.integration_key = '{}'", quoted(&integration)),
        ),
        (
            name_begins(&name[..3]),
            begins("t.display_name", &name[..3]),
        ),
        (
            name_begins("Übung"),
            format!("{exist} AND starts_with(t.display_name, 'Übung')"),
        ),
        (slug_begins("%"), "false".to_owned()),
        (slug_begins("\u{10ffff}"), "false".to_owned()),
        (name_begins("'; DROP TABLE x; --"), "false".to_owned()),
        (of_integration("no such"), "false".to_owned()),
    ] {
        let found = all(&db, &filter).await;
        let once: BTreeSet<_> = found.iter().copied().collect();
        assert_eq!(once.len(), found.len(), "some were found twice: {filter:?}");
        assert_eq!(once, told(&world, &condition).await, "{filter:?}");
    }
    assert!(told(&world, exist).await.len() > 250);
    let both = ToolFilter {
        kind: Some(ToolKind::Disabled),
        integration: Some(integration.clone()),
        ..ToolFilter::default()
    };
    let condition = format!(
        "{exist} AND NOT t.is_enabled AND t.integration_key = '{}'",
        quoted(&integration)
    );
    let found: BTreeSet<_> = all(&db, &both).await.into_iter().collect();
    assert_eq!(found, told(&world, &condition).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_tool_that_stays_is_found_once_while_others_come_and_go() {
    let mut world = with_tools().await;
    world.leave_broken();
    let db = world.db();
    for kind in [None, Some(ToolKind::Added)] {
        let filter = ToolFilter {
            kind,
            ..ToolFilter::default()
        };
        let began: String = world.value("SELECT clock_timestamp()::text").await;
        let (mut found, mut behind) = (Vec::new(), None);
        loop {
            let page = db.search_tools(&filter, behind.as_ref()).await.unwrap();
            found.extend(page.rows.iter().map(|tool| (tool.connection_id, tool.id)));
            world
                .execute(
                    "UPDATE feather.integration_connection_tools SET _removed_at = now(), _changed_at = now()
                     WHERE (connection_id, id) IN (SELECT connection_id, id FROM feather.tools ORDER BY random() LIMIT 3);
                     UPDATE feather.integration_connection_tools SET _removed_at = NULL, _changed_at = now()
                     WHERE (connection_id, id) IN (SELECT connection_id, id FROM feather.integration_connection_tools
                                                   WHERE _removed_at IS NOT NULL ORDER BY random() LIMIT 2)",
                )
                .await;
            behind = page.next;
            if behind.is_none() {
                break;
            }
        }
        let once: BTreeSet<_> = found.iter().copied().collect();
        assert_eq!(once.len(), found.len(), "some were found twice");
        let stayed = format!(
            "t._removed_at IS NULL AND t._changed_at < '{began}' AND t._first_seen_at > now() - interval '7 days'"
        );
        for tool in told(&world, &stayed).await {
            assert!(once.contains(&tool), "{tool:?} was not found");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_tells_its_fields_attempts_and_tools_page_by_page() {
    let world = World::with(Scenario::from_toml("tools = 60\n").unwrap()).await;
    let id = ids(1)[0];
    for _ in 0..30 {
        world.sync(&[id]).await;
    }
    let db = world.db();
    let fields = db.connection_fields(id).await.unwrap();
    let names: Vec<_> = fields.iter().map(|field| field.name.as_str()).collect();
    let columns: Vec<(String,)> = world
        .rows("SELECT attname::text FROM pg_attribute WHERE attrelid = 'feather.integration_connections'::regclass AND attnum > 0
               AND NOT attisdropped AND attname <> '_hash' ORDER BY attnum")
        .await;
    let columns: Vec<_> = columns.iter().map(|(name,)| name.as_str()).collect();
    assert_eq!(names, columns);
    assert!(fields.iter().all(|field| field.left_out == 0));

    let (mut attempts, mut before) = (Vec::new(), None);
    loop {
        let page = db.attempts_of(id, before).await.unwrap();
        attempts.extend(page.rows.iter().map(|attempt| attempt.id));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    let recorded: i64 = world
        .value("SELECT count(*) FROM feather.sync_attempts")
        .await;
    assert!(
        recorded > 25 && attempts.len() as i64 == recorded,
        "{recorded}"
    );
    assert!(attempts.is_sorted_by(|a, b| a > b));

    let (mut tools, mut behind) = (Vec::new(), None);
    loop {
        let page = db
            .connection_tools(id, "", false, behind.as_ref())
            .await
            .unwrap();
        tools.extend(page.rows.iter().map(|tool| tool.slug.clone()));
        assert!(page.rows.iter().all(|tool| tool.input_schema.is_some()));
        behind = page.next;
        if behind.is_none() {
            break;
        }
    }
    assert_eq!(tools.len(), 60);
    assert!(tools.is_sorted());
    let one = tools[7].to_uppercase();
    let page = db.connection_tools(id, &one, false, None).await.unwrap();
    assert!(
        page.rows.iter().any(|tool| tool.slug == tools[7]),
        "{page:?}"
    );
    assert!(
        db.connection_tools(id, "no such words", false, None)
            .await
            .unwrap()
            .rows
            .is_empty()
    );
    assert!(
        db.connection_tools(id, "", true, None)
            .await
            .unwrap()
            .rows
            .is_empty()
    );
    assert!(db.connection_fields(Uuid::nil()).await.unwrap().is_empty());
}

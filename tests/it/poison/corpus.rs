//! The corpus of the fuzz targets, as a plain test: each file is a response as it is on the wire. The last part of
//! its name says how its connection ends: `.synced`, or the class of a dead job. What fuzzing found has no such part.

use crate::poison::impatient_world;
use crate::poison::pairs;
use crate::poison::reading;
use crate::poison::sync;
use crate::world::World;
use std::path::Path;
use std::path::PathBuf;
use uuid::Uuid;

fn files() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/answer");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            (path, bytes)
        })
        .collect();
    files.sort();
    files
}

/// How the file's connection is to end, in the words of its story.
fn expected(path: &Path) -> Option<String> {
    match path.extension()?.to_str()? {
        "synced" => Some("synced".into()),
        class => Some(format!("dead/{class}")),
    }
}

/// The file as the answer about another connection.
fn about(bytes: &[u8], id: Uuid) -> Vec<u8> {
    let (old, new) = (reading::CONNECTION.to_string(), id.to_string());
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while at + old.len() <= bytes.len() {
        if bytes[at..].starts_with(old.as_bytes()) {
            bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
        }
        at += 1;
    }
    bytes
}

/// What is stored of a connection, but when it was checked.
async fn stored(world: &World, id: Uuid) -> Option<String> {
    world
        .value(&format!(
            "SELECT (SELECT (to_jsonb(c) - '{{_synced_at,_finalized_at,_hash}}'::text[])::text
                     FROM feather.integration_connections c WHERE id = '{id}')
                 || (SELECT COALESCE(jsonb_agg(to_jsonb(t) || jsonb_build_object('place', t.ctid::text) ORDER BY t.id), '[]')::text
                     FROM feather.integration_connection_tools t WHERE connection_id = '{id}')"
        ))
        .await
}

#[test]
fn every_file_of_the_corpus_is_read_and_judged_without_a_panic_and_as_its_name_says() {
    let files = files();
    assert!(files.len() >= 100, "{}", files.len());
    let size: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(files.len() <= 200 && size <= 200 * 1024, "{size} bytes");
    let mut wrong = Vec::new();
    for (path, bytes) in &files {
        let Some(received) = reading::received(bytes) else {
            panic!("{}: not a response", path.display());
        };
        let Ok(verdict) = std::panic::catch_unwind(|| reading::check(received)) else {
            wrong.push(format!("{}: see above", path.display()));
            continue;
        };
        let class = verdict.class.map(|class| class.as_str());
        if let Some(expected) = expected(path) {
            // Whether Postgres takes it and what comes of polling is not known here.
            match expected.trim_start_matches("dead/") {
                "synced" | "storage" | "settle_timeout" if class.is_none() => {}
                named if class == Some(named) => {}
                _ => wrong.push(format!("{}: {class:?}", path.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_of_the_corpus_disturbs_its_neighbours_and_each_ends_as_its_name_says() {
    let (world, upstream) = impatient_world().await;
    // What pauses the account is told elsewhere.
    let files: Vec<_> = files()
        .into_iter()
        .filter(|(path, _)| {
            !matches!(
                expected(path).as_deref(),
                Some("dead/auth" | "dead/rate_limited")
            )
        })
        .collect();
    let pairs = pairs(files.len());
    for ((path, bytes), (ill, _)) in files.iter().zip(&pairs) {
        let pauses = matches!(reading::received(bytes), Some(r) if matches!(r.status, 401 | 429));
        assert!(
            !pauses,
            "{}: name it .auth or .rate_limited",
            path.display()
        );
        upstream.answer(*ill, about(bytes, *ill));
    }
    sync(&world, &upstream, &pairs).await;
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for ((path, _), (ill, _)) in files.iter().zip(&pairs) {
        let story = world.story(*ill).await;
        let end = story.last().unwrap();
        let right = match expected(path) {
            Some(expected) => *end == expected,
            None => end == "synced" || end.starts_with("dead/"),
        };
        if !right {
            wrong.push(format!("{}: {story:?}", path.display()));
        }
        rows.push(stored(&world, *ill).await);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // The same once more: what could be stored is the same to the last row, and nothing is written again.
    sync(&world, &upstream, &pairs).await;
    for (((path, _), (ill, _)), before) in files.iter().zip(&pairs).zip(&rows) {
        if stored(&world, *ill).await != *before {
            wrong.push(format!("{}: {before:?}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // And when upstream is itself again, a request is all it takes.
    upstream.heal();
    let ill: Vec<Uuid> = pairs.iter().map(|(ill, _)| *ill).collect();
    world.enqueue(&ill).await;
    world.drain().await;
    for (ill, _) in &pairs {
        assert_eq!(world.story(*ill).await.last().unwrap(), "synced");
    }
}

//! The pictures of the README. They are written into `docs/images` when FEATHER_SYNC_SCREENSHOTS is set.

use crate::scene::Scene;
use std::path::Path;

/// Page, name of the file, height of the screen.
const PICTURES: [(&str, &str, u32); 2] = [
    ("/", "overview", 860),
    ("/accounts?account=acme", "account", 520),
];

/// Longest file: a README is read over slow lines, too.
const LONGEST: usize = 150 * 1024;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes into the repository; `make screenshots` runs it"]
async fn the_readme_gets_its_pictures() {
    let scene = Scene::busy().await;
    scene.world.execute(DAY).await;
    let browser = scene.browser().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
    std::fs::create_dir_all(&folder).unwrap();
    browser.prefer("light").await;
    for (path, name, height) in PICTURES {
        browser.resize(1180, height, false).await;
        browser.open(path).await;
        browser
            .until("document.querySelector('#live').dataset.state === 'live'")
            .await;
        let picture = decode(&browser.picture().await);
        assert!(picture.len() <= LONGEST, "{name}: {} bytes", picture.len());
        std::fs::write(folder.join(name).with_extension("png"), picture).unwrap();
    }
    scene.end().await;
}

/// A day of work, as its statistics would be.
const DAY: &str = "
INSERT INTO feather.sync_throughput (account, minute, worker, synced, failed, calls, failed_by_class, time_to_sync)
SELECT 'default', date_trunc('minute', now()) - m * interval '1 minute', 'a-day', n, f, n + f,
       jsonb_strip_nulls(jsonb_build_object('upstream', NULLIF(f - f / 3, 0), 'timeout', NULLIF(f / 3, 0))),
       ARRAY[0, 0, n / 8, n / 3, n / 3, n / 8, n / 16, f, f / 4, 0, 0, 0, 0, 0, 0]
FROM (SELECT m, (140 + 90 * sin(m / 210.0) + 25 * sin(m / 7.0) + 20 * random())::bigint AS n,
             (2 + 2 * random() + CASE WHEN m BETWEEN 25 AND 38 OR m BETWEEN 500 AND 560 THEN 38 * random() ELSE 0 END)::bigint AS f
      FROM generate_series(1, 1439) AS m) AS day;
INSERT INTO feather.sync_replicas (worker, version, accounts, started_at, seen_at)
SELECT 'sync-' || n || ':1:5f3a9c0d' || n || '7e1b24', version, accounts, now() - n * interval '7 hours', now() + interval '1 hour'
FROM feather.sync_replicas, generate_series(2, 3) AS n";

/// Base64, as the browser gives pictures.
fn decode(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0);
    for c in text.bytes().filter(|c| *c != b'=') {
        bits = bits << 6 | u32::from(digit(c));
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xFF).unwrap());
        }
    }
    bytes
}

//! Pictures: those of the README, and for developers those of all pages in every look.

use crate::browser::Browser;
use crate::pages::PAGES;
use crate::scene::Scene;
use std::path::Path;

/// Page, name of the file, height of the screen.
const PICTURES: [(&str, &str, u32); 2] = [
    ("/", "overview", 860),
    ("/accounts?account=default", "account", 700),
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
    browser.prefer("light").await;
    for (path, name, height) in PICTURES {
        browser.resize(1180, height, false).await;
        let bytes = take(&browser, path, &folder.join(name)).await;
        assert!(bytes <= LONGEST, "{name}: {bytes} bytes");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "for eyes; `make screenshots` runs it"]
async fn every_page_in_every_look() {
    let scene = Scene::busy().await;
    scene.world.execute(DAY).await;
    scene.world.execute(MISERY).await;
    let browser = scene.browser().await;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("looks");
    for (scheme, width, height) in [
        ("light", 1280, 1100),
        ("dark", 1280, 1100),
        ("light", 390, 1400),
    ] {
        browser.prefer(scheme).await;
        browser.resize(width, height, width < 500).await;
        for path in PAGES {
            let name = format!("{}-{scheme}-{width}", path.replace('/', ""));
            take(&browser, path, &folder.join(name)).await;
        }
    }
    println!("{}", folder.display());
    scene.end().await;
}

/// Writes a picture of a page once it is up to date. Returns its size in bytes.
async fn take(browser: &Browser, path: &str, file: &Path) -> usize {
    browser.open(path).await;
    browser
        .until("document.querySelector('#live').dataset.state === 'live'")
        .await;
    let picture = decode(&browser.picture().await);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file.with_extension("png"), &picture).unwrap();
    picture.len()
}

/// Much that is wrong at once.
const MISERY: &str = "
SELECT feather.enqueue(gen_random_uuid(), 'nobody');
SELECT feather.enqueue(gen_random_uuid(), run_at => now() + interval '1 hour') FROM generate_series(1, 40);
UPDATE feather.sync_accounts SET pause_reason = 'auth', paused_until = now() + interval '1 hour',
       pause_error = 'HTTP 401: unauthorized: the key was revoked' WHERE account = 'acme';
INSERT INTO feather.sync_audit (at, actor, action, account, connection_id, detail)
SELECT now() - n * interval '17 minutes', (ARRAY['alice@db-1', 'bob (dashboard) from 10.0.0.7'])[1 + n % 2],
       (ARRAY['retry', 'pause', 'resume', 'cancel'])[1 + n % 4], 'default', CASE WHEN n % 4 = 3 THEN gen_random_uuid() END,
       CASE WHEN n % 4 = 0 THEN n * 31 || ' dead jobs, class upstream' END
FROM generate_series(1, 14) AS n";

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

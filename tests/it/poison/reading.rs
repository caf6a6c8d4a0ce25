//! What must hold of any bytes, without a database: the tests and the fuzz targets both go by it.

use feather_sync::domain::Answer;
use feather_sync::domain::ConnectionSnapshot;
use feather_sync::domain::Dice;
use feather_sync::domain::Failure;
use feather_sync::domain::Job;
use feather_sync::domain::Next;
use feather_sync::domain::Outcome;
use feather_sync::domain::Phase;
use feather_sync::domain::RetryPolicy;
use feather_sync::domain::SettleRule;
use feather_sync::domain::Sighting;
use feather_sync::domain::StoredSync;
use feather_sync::domain::Verdict;
use feather_sync::domain::verdict::judge;
use feather_sync::feather::Received;
use feather_sync::feather::Redactor;
use feather_sync::feather::read_answer;
use std::time::Duration;
use uuid::Uuid;

/// The connection that the files of the corpus are about.
pub const CONNECTION: Uuid = Uuid::from_u128(0x3c90_c3cc_0d44_4b50_8888_8dd2_5736_052a);

/// The API key of the calls, which files of the corpus name: long enough to be blanked in what is stored.
pub const KEY: &str = "fth_live_0123456789abcdef";

/// Status line, headers and body of an HTTP response as it is on the wire; `None` where the head is not one.
pub fn received(bytes: &[u8]) -> Option<Received> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    let headers = lines
        .map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.parse().ok()?, value.trim().parse().ok()?))
        })
        .collect::<Option<_>>()?;
    Some(Received {
        status: status.parse().ok().filter(|status| *status >= 100)?,
        headers,
        body: bytes[end + 4..].to_vec(),
    })
}

pub fn read(received: Received) -> Result<Answer, Failure> {
    let redactor = Redactor::default();
    redactor.learn(&KEY.into());
    read_answer(received, CONNECTION, &redactor, Some(KEY))
}

pub fn retry_policy() -> RetryPolicy {
    RetryPolicy {
        initial: Duration::from_secs(1),
        multiplier: 2.0,
        max: Duration::from_secs(900),
        max_attempts: 20,
        max_server_delay: Duration::from_secs(3600),
    }
}

pub fn settle_rule() -> SettleRule {
    let words = |list: &str| list.split(' ').map(String::from).collect();
    SettleRule {
        done: words("synced ready"),
        in_progress: words("pending syncing"),
        failed: words("failed error"),
        not_active: words("pending_oauth"),
        initial: Duration::from_secs(1),
        max: Duration::from_secs(30),
        deadline: Duration::from_secs(3600),
    }
}

/// A job whose first call is about to be answered.
pub fn job(connection_id: Uuid, phase: Phase) -> Job {
    let at = |seconds: i64| {
        chrono::DateTime::from_timestamp(1_790_000_000 + seconds, 0).unwrap_or_default()
    };
    Job {
        connection_id,
        account: "default".into(),
        phase,
        attempt: 1,
        malformed: 0,
        lease_token: Uuid::from_u128(connection_id.as_u128() ^ 1),
        started_at: at(10),
        finalize_started_at: at(0),
        wanted_at: at(0),
        settle_deadline: (phase == Phase::Settle).then(|| at(3600)),
        settle_polls: 0,
        seen: None,
        stored: None,
        held_by: None,
        takes_over: None,
        probe: false,
    }
}

pub fn judged(job: &Job, result: Result<Answer, Failure>) -> Verdict {
    judge(job, result, &retry_policy(), &settle_rule(), &Dice::Random)
}

/// Reads and judges an answer in every way that it may come, and checks what must always hold.
///
/// # Panics
/// When it does not.
pub fn check(received: Received) -> Verdict {
    let length = received.body.len();
    let result = read(received.clone());
    assert_eq!(
        format!("{result:?}"),
        format!("{:?}", read(received)),
        "the same bytes read differently"
    );
    match &result {
        Ok(answer) => check_snapshot(&answer.snapshot, length),
        Err(failure) => check_text(&failure.message),
    }
    let finalize = job(CONNECTION, Phase::Finalize);
    let mut again = finalize.clone();
    let mut poll = job(CONNECTION, Phase::Settle);
    if let Ok(answer) = &result {
        again.stored = Some(StoredSync {
            tools_synced_at: answer.snapshot.tools_synced_at,
        });
        poll.seen = Some(Sighting {
            fingerprint: answer.snapshot.fingerprint().to_vec(),
            at: poll.finalize_started_at,
        });
    }
    let mut last = finalize.clone();
    (last.attempt, last.malformed) = (u32::MAX, 3);
    for job in [&again, &poll, &last] {
        check_verdict(job, &judged(job, result.clone()));
    }
    let verdict = judged(&finalize, result);
    check_verdict(&finalize, &verdict);
    verdict
}

/// Of what Postgres will hold, nothing is longer than it came, nothing is beyond what its types hold, and nothing is
/// the key.
fn check_snapshot(snapshot: &ConnectionSnapshot, length: usize) {
    assert_eq!(snapshot.id, CONNECTION);
    let mut texts = vec![
        &snapshot.integration_key,
        &snapshot.nickname_slug,
        &snapshot.nickname,
        &snapshot.vendor,
        &snapshot.status,
        &snapshot.tools_status,
        &snapshot.metadata,
        &snapshot.extra,
    ];
    texts.extend(&snapshot.vendor_connection_id);
    texts.extend(&snapshot.status_reason);
    let mut times = vec![snapshot.created_at, snapshot.updated_at];
    times.extend(snapshot.tools_synced_at);
    times.extend(snapshot.connected_at);
    times.extend(snapshot.last_refreshed_at);
    times.extend(snapshot.last_used_at);
    let mut warnings: Vec<_> = snapshot.warnings.iter().collect();
    for tool in snapshot.tools.iter().flatten() {
        texts.extend([
            &tool.integration_key,
            &tool.nickname_slug,
            &tool.tool_path,
            &tool.slug,
            &tool.display_name,
            &tool.input_schema,
            &tool.merged_input_preview,
            &tool.extra,
        ]);
        texts.extend(&tool.description);
        texts.extend(&tool.stale_field_paths);
        texts.extend(&tool.stale_input_fields);
        times.extend([tool.last_seen_at, tool.created_at, tool.updated_at]);
        warnings.extend(&tool.warnings);
        assert!(tool.warnings.len() <= 33, "{}", tool.warnings.len());
    }
    for text in texts {
        assert!(!text.contains('\0'), "a NUL gets through: {text:?}");
        assert!(!text.contains(KEY), "the key gets through: {text:?}");
        assert!(text.len() <= length);
    }
    for time in times {
        let micros = time.timestamp_micros();
        assert_eq!(
            Some(time),
            chrono::DateTime::from_timestamp_micros(micros),
            "stored as another time than was judged"
        );
    }
    assert!(snapshot.warnings.len() <= 33, "{}", snapshot.warnings.len());
    for warning in warnings {
        assert!(warning.field.len() <= 300 && !warning.field.contains('\0'));
        assert!(!warning.field.contains(KEY), "the key is in a warning");
    }
    let tools = snapshot.tools.as_deref().unwrap_or_default();
    assert!(tools.windows(2).all(|pair| pair[0].id < pair[1].id));
}

fn check_text(text: &str) {
    assert!(text.len() <= 4_000, "{} bytes of error", text.len());
    assert!(!text.contains('\0'), "a NUL in an error: {text:?}");
    assert!(!text.contains(KEY), "a key in an error: {text:?}");
}

fn check_verdict(job: &Job, verdict: &Verdict) {
    if let Some(error) = &verdict.error {
        check_text(error);
    }
    if let Some(id) = &verdict.upstream_request_id {
        check_text(id);
    }
    let longest = Duration::from_secs(3600 + 900);
    match (&verdict.outcome, &verdict.next) {
        (Outcome::Synced, Next::Done)
        | (Outcome::Dead, Next::Bury)
        | (Outcome::Deferred, Next::Defer) => {}
        (Outcome::Settling, Next::Poll { delay, .. })
        | (Outcome::Retry, Next::Retry { delay, .. }) => assert!(*delay <= longest, "{delay:?}"),
        (outcome, next) => panic!("{outcome:?} and {next:?}"),
    }
    assert_eq!(verdict.class.is_some(), verdict.error.is_some());
    let failed = verdict.outcome != Outcome::Synced && verdict.outcome != Outcome::Settling;
    assert_eq!(failed, verdict.class.is_some(), "{job:?}: {verdict:?}");
    assert!(!(verdict.gone && verdict.stored.is_some()));
}

//! Jobs and answers for the tests of the domain.

use super::*;
use crate::domain::snapshot::Optional;
use chrono::DateTime;
use chrono::TimeZone;
use chrono::Utc;
use uuid::Uuid;

pub(crate) fn time(seconds: i64) -> DateTime<Utc> {
    Utc.timestamp_opt(1_700_000_000 + seconds, 0).unwrap()
}

pub(crate) fn settle_rule() -> SettleRule {
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

pub(crate) fn retry_policy() -> RetryPolicy {
    RetryPolicy {
        initial: Duration::from_secs(1),
        multiplier: 2.0,
        max: Duration::from_secs(900),
        max_attempts: 20,
        max_server_delay: Duration::from_secs(3600),
    }
}

pub(crate) fn job(phase: Phase) -> Job {
    Job {
        connection_id: Uuid::nil(),
        account: "default".into(),
        phase,
        attempt: 1,
        malformed: 0,
        lease_token: Uuid::nil(),
        started_at: time(10),
        finalize_started_at: time(0),
        wanted_at: time(-1),
        settle_deadline: (phase == Phase::Settle).then(|| time(3600)),
        settle_polls: 0,
        seen: None,
        stored: None,
        held_by: None,
        takes_over: None,
        probe: false,
    }
}

pub(crate) fn snapshot() -> ConnectionSnapshot {
    ConnectionSnapshot {
        id: Uuid::nil(),
        organization_id: Uuid::nil(),
        integration_key: "slack".into(),
        nickname_slug: "ops".into(),
        nickname: "Ops".into(),
        vendor: "nango".into(),
        vendor_connection_id: None,
        status: "active".into(),
        tools_status: "synced".into(),
        tools_synced_at: Some(time(5)),
        status_reason: None,
        connected_at: None,
        last_refreshed_at: None,
        last_used_at: None,
        metadata: "{}".into(),
        voice_account_cps: Optional::Absent,
        created_at: time(0),
        updated_at: time(5),
        extra: "{}".into(),
        warnings: vec![],
        hash: ContentHash::default(),
        tools: None,
        bytes: 0,
    }
}

//! What to do about a connection that an account's list names, as a pure function.

use crate::domain::job::Sighting;
use crate::domain::settle::SettleRule;
use crate::domain::settle::Settling;
use crate::domain::snapshot::ConnectionSnapshot;
use chrono::DateTime;
use chrono::Utc;

/// Priority of the work that a list leads to: behind all fresh work, which has 0 unless its requester says otherwise.
pub const PRIORITY: i16 = 1_000;

/// The `status` of a connection that somebody has finalized.
const ACTIVE: &str = "active";

/// What is known of a listed connection.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The tables hold it, and not as removed.
    pub held: bool,
    /// They hold it from another account.
    pub foreign: bool,
    /// It was checked, found removed or forgotten since the list was asked for, or a call is under way.
    pub newer: bool,
    /// A finalize of ours has succeeded.
    pub finalized: bool,
    /// There is a job for it, dead or not, or a request; or it was taken out of the queue since.
    pub queued: bool,
    /// All that its job says is that it is gone, and no request had asked for it.
    pub refuted: bool,
    /// How it looked when it was last checked, where that is known.
    pub seen: Option<Sighting>,
}

/// What becomes of a listed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Nothing of it is written.
    Leave(Reason),
    /// It is stored.
    Store {
        /// The `tools` array is complete: what it lacks is removed.
        complete: bool,
        /// What else.
        next: FollowUp,
    },
}

/// Why a listed connection is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// What is stored may be newer than the list.
    Newer,
    /// Another account holds it.
    OtherAccount,
    /// Only what is missing was asked for.
    NotMissing,
}

/// What a listed connection leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FollowUp {
    /// Nothing is left to do, or it is under way.
    Nothing,
    /// A finalize: OAuth has finished, and nobody has finalized it.
    Finalize,
    /// Polls, until its tools have settled.
    Follow,
}

/// Decides about a connection in a list that was asked for at that time. With `only_missing`, what is held is left alone.
pub fn treat(
    listed: &ConnectionSnapshot,
    known: &Known,
    listed_at: DateTime<Utc>,
    settle: &SettleRule,
    only_missing: bool,
) -> Treatment {
    if known.foreign {
        return Treatment::Leave(Reason::OtherAccount);
    }
    if known.newer {
        return Treatment::Leave(Reason::Newer);
    }
    if only_missing && known.held {
        return Treatment::Leave(Reason::NotMissing);
    }
    let settling = settle.judge_look(listed, known.seen.as_ref(), listed_at);
    // A finalize makes a connection active and its tools be synced; a connection that has failed or expired since is
    // not to be finalized again unasked.
    let finalized = known.finalized
        || listed.tools_synced_at.is_some()
        || listed.status.eq_ignore_ascii_case(ACTIVE);
    let next = match settling {
        // It is asked for itself, so that the last word on it is that it is there.
        _ if known.refuted => FollowUp::Follow,
        _ if known.queued => FollowUp::Nothing,
        Settling::NotActive => FollowUp::Nothing,
        _ if !finalized => FollowUp::Finalize,
        Settling::Unsettled => FollowUp::Follow,
        Settling::Settled | Settling::Failed => FollowUp::Nothing,
    };
    Treatment::Store {
        complete: settling == Settling::Settled && listed.tools.is_some(),
        next,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::verdict::fixture;

    fn listed(status: &str, tools_status: &str, synced: bool) -> ConnectionSnapshot {
        ConnectionSnapshot {
            status: status.into(),
            tools_status: tools_status.into(),
            tools_synced_at: synced.then(|| fixture::time(0)),
            tools: Some(Vec::new()),
            ..fixture::snapshot()
        }
    }

    fn treated(listed: &ConnectionSnapshot, known: &Known, only_missing: bool) -> Treatment {
        treat(
            listed,
            known,
            fixture::time(100),
            &fixture::settle_rule(),
            only_missing,
        )
    }

    #[test]
    fn what_a_listed_connection_leads_to() {
        use FollowUp::*;
        let unknown = Known::default();
        let finalized = Known {
            finalized: true,
            ..Known::default()
        };
        let queued = Known {
            queued: true,
            ..Known::default()
        };
        let table = [
            // Active: somebody has finalized it.
            ("active", "synced", true, &unknown, true, Nothing),
            ("Active", "syncing", false, &unknown, false, Follow),
            ("active", "syncing", true, &unknown, false, Follow),
            ("active", "failed", true, &unknown, false, Nothing),
            ("active", "perplexed", true, &unknown, false, Follow),
            // OAuth has not finished: nothing can be done.
            ("pending_oauth", "pending", false, &unknown, false, Nothing),
            ("pending_oauth", "synced", true, &finalized, false, Nothing),
            // It has, and nobody has finalized it.
            ("authorized", "pending", false, &unknown, false, Finalize),
            ("authorized", "failed", false, &unknown, false, Finalize),
            // It was finalized once, and is no longer active.
            ("expired", "synced", true, &unknown, true, Nothing),
            ("expired", "pending", false, &finalized, false, Follow),
            // The queue has it in hand, dead jobs included.
            ("authorized", "pending", false, &queued, false, Nothing),
            ("active", "syncing", false, &queued, false, Nothing),
            ("active", "synced", true, &queued, true, Nothing),
        ];
        for (status, tools_status, synced, known, complete, next) in table {
            let listed = listed(status, tools_status, synced);
            let expected = Treatment::Store { complete, next };
            assert_eq!(
                treated(&listed, known, false),
                expected,
                "{status} {tools_status}"
            );
        }
    }

    #[test]
    fn what_the_list_must_not_touch_is_left_alone() {
        let held = Known {
            held: true,
            ..Known::default()
        };
        let newer = Known {
            newer: true,
            ..held.clone()
        };
        let foreign = Known {
            foreign: true,
            ..newer.clone()
        };
        let settled = listed("active", "synced", true);
        let table = [
            (&held, true, Reason::NotMissing),
            (&newer, false, Reason::Newer),
            (&foreign, false, Reason::OtherAccount),
        ];
        for (known, only_missing, reason) in table {
            assert_eq!(
                treated(&settled, known, only_missing),
                Treatment::Leave(reason)
            );
        }
        let stored = |treatment| matches!(treatment, Treatment::Store { .. });
        assert!(stored(treated(&settled, &Known::default(), true)));
        assert!(stored(treated(&settled, &held, false)));
    }

    #[test]
    fn tools_without_an_array_are_never_complete() {
        let without = ConnectionSnapshot {
            tools: None,
            ..listed("active", "synced", true)
        };
        let next = FollowUp::Nothing;
        assert_eq!(
            treated(&without, &Known::default(), false),
            Treatment::Store {
                complete: false,
                next
            }
        );
    }

    #[test]
    fn an_unknown_word_has_settled_where_the_stored_answer_says_the_same() {
        let odd = listed("active", "perplexed", true);
        let seen = |at| Known {
            held: true,
            seen: Some(Sighting {
                fingerprint: odd.fingerprint().to_vec(),
                at: fixture::time(at),
            }),
            ..Known::default()
        };
        let settled = Treatment::Store {
            complete: true,
            next: FollowUp::Nothing,
        };
        assert_eq!(treated(&odd, &seen(99), false), settled);
        assert_ne!(treated(&odd, &seen(100), false), settled);
        let other = ConnectionSnapshot {
            tools_synced_at: None,
            ..odd.clone()
        };
        assert_ne!(treated(&other, &seen(0), false), settled);
    }
}

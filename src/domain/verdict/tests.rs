use super::fixture::*;
use super::*;
use crate::domain::failure::ServerHint;

fn judge_with(job: &Job, result: Result<Answer, Failure>) -> Verdict {
    judge(
        job,
        result,
        &retry_policy(),
        &settle_rule(),
        &Dice::Fixed(0.5),
    )
}

fn answer(snapshot: ConnectionSnapshot) -> Result<Answer, Failure> {
    Ok(Answer {
        snapshot: Box::new(snapshot),
        http_status: 200,
        upstream_request_id: Some("req-1".into()),
    })
}

fn with_status(tools_status: &str) -> ConnectionSnapshot {
    ConnectionSnapshot {
        tools_status: tools_status.into(),
        tools: Some(vec![]),
        ..snapshot()
    }
}

#[test]
fn a_settled_finalize_is_done_and_its_tools_are_complete() {
    let verdict = judge_with(&job(Phase::Finalize), answer(with_status("synced")));
    assert_eq!(verdict.outcome, Outcome::Synced);
    assert_eq!(verdict.next, Next::Done);
    let stored = verdict.stored.unwrap();
    assert!(stored.finalized && stored.complete);
}

#[test]
fn an_answer_without_tools_removes_nothing_even_when_settled() {
    let verdict = judge_with(&job(Phase::Finalize), answer(snapshot()));
    assert_eq!(verdict.outcome, Outcome::Synced);
    assert!(!verdict.stored.unwrap().complete);
}

#[test]
fn an_unsettled_finalize_is_polled_after_the_initial_interval() {
    let verdict = judge_with(&job(Phase::Finalize), answer(with_status("syncing")));
    assert_eq!(verdict.outcome, Outcome::Settling);
    let Next::Poll { delay, .. } = verdict.next else {
        panic!("{:?}", verdict.next)
    };
    assert_eq!(delay, Duration::from_millis(1050));
    assert!(!verdict.stored.unwrap().complete);
}

#[test]
fn only_a_poll_begun_after_the_deadline_times_out() {
    let before = Job {
        settle_deadline: Some(time(11)),
        ..job(Phase::Settle)
    };
    assert_eq!(
        judge_with(&before, answer(with_status("syncing"))).outcome,
        Outcome::Settling
    );
    let after = Job {
        settle_deadline: Some(time(10)),
        ..job(Phase::Settle)
    };
    let verdict = judge_with(&after, answer(with_status("syncing")));
    assert_eq!(
        (verdict.outcome, verdict.class),
        (Outcome::Dead, Some(ErrorClass::SettleTimeout))
    );
    assert!(verdict.stored.is_some());
    assert_eq!(
        judge_with(&after, answer(with_status("synced"))).outcome,
        Outcome::Synced
    );
}

#[test]
fn failed_tools_are_stored_and_the_job_is_dead() {
    let verdict = judge_with(&job(Phase::Settle), answer(with_status("failed")));
    assert_eq!(
        (verdict.outcome, verdict.class),
        (Outcome::Dead, Some(ErrorClass::ToolsFailed))
    );
    assert!(!verdict.stored.unwrap().complete);
}

#[test]
fn an_unfinished_oauth_is_stored_but_not_as_finalized_and_finalized_again() {
    let pending = ConnectionSnapshot {
        status: "pending_oauth".into(),
        ..snapshot()
    };
    for phase in Phase::ALL {
        let verdict = judge_with(&job(phase), answer(pending.clone()));
        assert_eq!(
            (verdict.outcome, verdict.class),
            (Outcome::Retry, Some(ErrorClass::NotActive))
        );
        assert!(!verdict.stored.unwrap().finalized);
        assert!(matches!(
            verdict.next,
            Next::Retry {
                phase: Phase::Finalize,
                ..
            }
        ));
    }
}

#[test]
fn what_no_request_asked_for_is_never_finalized_however_its_poll_is_answered() {
    let polled = |wanted_at| Job {
        wanted_at,
        ..job(Phase::Settle)
    };
    for (job, status, is_done) in [
        (polled(time(0)), "pending_oauth", true),
        (polled(time(0)), "active", true),
        (polled(time(-1)), "pending_oauth", false),
        (polled(time(1)), "pending_oauth", false),
        (
            Job {
                wanted_at: time(0),
                ..job(Phase::Finalize)
            },
            "pending_oauth",
            false,
        ),
    ] {
        let looked = ConnectionSnapshot {
            status: status.into(),
            tools: Some(vec![]),
            ..snapshot()
        };
        let verdict = judge_with(&job, answer(looked));
        assert_eq!(verdict.next == Next::Done, is_done, "{job:?} {status}");
        let stored = verdict.stored.unwrap();
        assert!(!stored.finalized);
        assert_eq!(stored.complete, status == "active");
    }
}

#[test]
fn a_401_and_a_429_burn_no_attempt_and_pause_the_account() {
    for class in [ErrorClass::Auth, ErrorClass::RateLimited] {
        let spent = Job {
            attempt: 20,
            ..job(Phase::Finalize)
        };
        let failure = Failure {
            hint: ServerHint {
                retryable: Some(false),
                retry_after: Some(Duration::from_secs(9_999)),
            },
            ..Failure::new(class, "no")
        };
        let verdict = judge_with(&spent, Err(failure));
        assert_eq!(
            (verdict.outcome, verdict.next),
            (Outcome::Deferred, Next::Defer)
        );
        let delay = Some(Duration::from_secs(3600));
        assert_eq!(verdict.account, AccountWord::Refused { class, delay });
    }
}

#[test]
fn a_refusal_proves_the_key_only_in_the_apis_own_words() {
    for class in [
        ErrorClass::Forbidden,
        ErrorClass::InvalidRequest,
        ErrorClass::Conflict,
    ] {
        for (own_words, word) in [(true, AccountWord::Works), (false, AccountWord::Answered)] {
            let failure = Failure {
                http_status: Some(403),
                own_words,
                ..Failure::new(class, "no")
            };
            let verdict = judge_with(&job(Phase::Finalize), Err(failure));
            assert_eq!(verdict.account, word, "{class}");
        }
    }
}

#[test]
fn the_fourth_malformed_answer_in_a_row_kills_and_any_other_ends_the_row() {
    let third = Job {
        malformed: 3,
        ..job(Phase::Finalize)
    };
    for class in [ErrorClass::Protocol, ErrorClass::Mismatch] {
        let verdict = judge_with(&third, Err(Failure::new(class, "?")));
        assert_eq!((verdict.outcome, verdict.malformed), (Outcome::Dead, 4));
    }
    let network = judge_with(&third, Err(Failure::new(ErrorClass::Network, "reset")));
    assert_eq!((network.outcome, network.malformed), (Outcome::Retry, 0));
}

#[test]
fn only_a_not_found_says_that_the_connection_is_gone() {
    for class in ErrorClass::ALL {
        let verdict = judge_with(&job(Phase::Finalize), Err(Failure::new(class, "x")));
        assert_eq!(verdict.gone, class == ErrorClass::NotFound, "{class}");
        assert!(verdict.stored.is_none());
    }
}

#[test]
fn a_failed_poll_is_retried_as_a_poll() {
    let verdict = judge_with(
        &job(Phase::Settle),
        Err(Failure::new(ErrorClass::Upstream, "503")),
    );
    assert!(matches!(
        verdict.next,
        Next::Retry {
            phase: Phase::Settle,
            ..
        }
    ));
}

#[test]
fn a_refresh_is_followed_like_a_finalize_and_one_that_is_refused_as_inactive_is_over() {
    let refresh = Job {
        finalize_started_at: time(-1),
        ..job(Phase::Refresh)
    };
    let known = Job {
        stored: Some(crate::domain::job::StoredSync {
            tools_synced_at: Some(time(5)),
        }),
        ..refresh.clone()
    };
    let verdict = judge_with(&known, answer(with_status("synced")));
    assert_eq!(verdict.outcome, Outcome::Settling);
    assert!(!verdict.stored.unwrap().finalized);

    let refused = |retryable| {
        let failure = Failure {
            http_status: Some(422),
            hint: ServerHint {
                retryable,
                ..ServerHint::default()
            },
            ..Failure::new(ErrorClass::InvalidRequest, "not active")
        };
        judge_with(&refresh, Err(failure))
    };
    let verdict = refused(None);
    assert_eq!(
        (verdict.outcome, verdict.class, verdict.next),
        (Outcome::Deferred, Some(ErrorClass::NotActive), Next::Done)
    );
    assert_eq!(refused(Some(true)).outcome, Outcome::Retry);
}

#[test]
fn a_refresh_that_fails_is_tried_three_times_and_leaves_nothing_dead_but_what_is_gone() {
    let failed = |attempt, class| {
        let refresh = Job {
            attempt,
            ..job(Phase::Refresh)
        };
        let failure = Failure::new(class, "why");
        let verdict = judge_with(&refresh, Err(failure));
        (verdict.outcome, verdict.next == Next::Done)
    };
    assert_eq!(failed(2, ErrorClass::Upstream), (Outcome::Retry, false));
    assert_eq!(failed(3, ErrorClass::Upstream), (Outcome::Deferred, true));
    assert_eq!(failed(3, ErrorClass::Forbidden), (Outcome::Deferred, true));
    let invalid = failed(1, ErrorClass::InvalidRequest);
    assert_eq!(invalid, (Outcome::Deferred, true));
    assert_eq!(failed(1, ErrorClass::NotFound), (Outcome::Dead, false));
    assert_eq!(failed(9, ErrorClass::Auth), (Outcome::Deferred, false));
}

#[test]
fn what_nobody_asked_for_has_its_time_from_the_first_look_on() {
    let behind_fresh_work = Job {
        settle_deadline: Some(time(5)),
        finalize_started_at: time(-1),
        ..job(Phase::Settle)
    };
    let verdict = judge_with(&behind_fresh_work, answer(with_status("syncing")));
    assert_eq!(verdict.outcome, Outcome::Settling);
    let looked_at = Job {
        settle_polls: 1,
        ..behind_fresh_work
    };
    let verdict = judge_with(&looked_at, answer(with_status("syncing")));
    assert_eq!(verdict.class, Some(ErrorClass::SettleTimeout));
}

#[test]
fn what_another_account_holds_is_not_stored_and_its_key_works() {
    let held = Job {
        held_by: Some("acme".into()),
        ..job(Phase::Finalize)
    };
    let verdict = judge_with(&held, answer(with_status("synced")));
    assert_eq!(
        (verdict.outcome, verdict.class, verdict.http_status),
        (Outcome::Retry, Some(ErrorClass::OtherAccount), Some(200))
    );
    assert!(verdict.stored.is_none() && verdict.account == AccountWord::Works);
    assert!(verdict.error.unwrap().contains("acme"));
}

#[test]
fn an_answer_comes_with_what_it_is_where_another_account_has_come_to_hold_the_connection() {
    for (attempt, outcome) in [(1, Outcome::Retry), (20, Outcome::Dead)] {
        let claimed = Job {
            attempt,
            ..job(Phase::Finalize)
        };
        let verdict = judge_with(&claimed, answer(with_status("synced")));
        assert_eq!((verdict.outcome, verdict.class), (Outcome::Synced, None));
        let took = Duration::from_secs(1);
        let finished = Finished {
            job: claimed,
            verdict,
            took,
            ended: Instant::now(),
        };
        let held = finished.if_held().unwrap();
        assert_eq!(held.job.attempt, attempt);
        let verdict = &held.verdict;
        assert_eq!(
            (verdict.outcome, verdict.class, verdict.http_status),
            (outcome, Some(ErrorClass::OtherAccount), Some(200))
        );
        assert_eq!(verdict.account, finished.verdict.account);
        assert!(verdict.stored.is_none() && held.if_held().is_none());
    }
}

//! One job, from claim to verdict. No database connection is held.

use crate::domain::Answer;
use crate::domain::ErrorClass;
use crate::domain::Failure;
use crate::domain::Finished;
use crate::domain::Job;
use crate::domain::budget::FRESH_FOR;
use crate::domain::verdict;
use crate::domain::verdict::Verdict;
use crate::failpoint::Point;
use crate::failpoint::reach;
use crate::metrics::OfAccount;
use crate::metrics::OfCall;
use crate::metrics::OfRequest;
use crate::worker::Account;
use crate::worker::Running;
use crate::worker::Worker;
use crate::worker::gather::Ended;
use crate::worker::gather::size;
use crate::worker::slots::Hold;
use crate::worker::slots::Permits;
use std::sync::Arc;
use std::time::Instant;

impl Worker {
    /// The task that makes a claimed job's call and hands what it came to to the committer.
    pub(super) fn execute(
        self: Arc<Self>,
        job: Job,
        account: Account,
        claimed_at: Instant,
        permit: Permits,
        running: &Running,
    ) -> impl Future<Output = ()> + Send + 'static {
        let ended = running.ended.clone();
        let lifecycle = running.lifecycle.clone();
        async move {
            // Late, by a stall of this process: the drawn token no longer fits the window it was drawn for.
            let now = self.clock.now();
            let stale = now.saturating_duration_since(claimed_at) > FRESH_FOR;
            let refused = account.is_refused(now) && !job.probe;
            let result = if stale || refused || lifecycle.stop.is_cancelled() {
                Ended::Unstarted(job, permit)
            } else {
                let of_account = OfAccount {
                    account: account.name.to_string(),
                };
                let in_flight = self.metrics.in_flight.get_or_create(&of_account).clone();
                in_flight.inc();
                let verdict = tokio::select! {
                    verdict = self.call(&job, &account) => verdict,
                    () = lifecycle.abort.cancelled() => verdict::interrupted(&job),
                };
                in_flight.dec();
                let ended = self.clock.now();
                let finished = Box::new(Finished {
                    job,
                    verdict,
                    took: ended.saturating_duration_since(claimed_at),
                    ended,
                });
                let refused = finished.verdict.refuses_account();
                if refused {
                    account.note_refusal(self.clock.now());
                }
                // While the database is in trouble, or the account refused, no call takes the place of this one.
                let hold = if refused || !self.lock_progress().trouble.is_empty() {
                    Hold::slot(permit)
                } else {
                    self.slots.make_room(size(&finished), permit)
                };
                Ended::Finished(finished, hold)
            };
            // The committer outlives every sender; were it gone, the lease would run out.
            let _ = ended.send(result).await;
        }
    }

    async fn call(&self, job: &Job, account: &Account) -> Verdict {
        let began = self.clock.now();
        account.note_sent(began);
        let kind = job.phase.call();
        reach(Point::BeforeSend);
        let result = account.client.call(kind, job.connection_id).await;
        reach(Point::Answered);
        if let Err(failure) = &result
            && failure.class == ErrorClass::Auth
        {
            account.note_pause();
        }
        let of_call = OfCall {
            account: account.name.to_string(),
            kind: kind.as_str(),
        };
        self.metrics
            .api_request_duration_seconds
            .get_or_create(&of_call)
            .observe(
                self.clock
                    .now()
                    .saturating_duration_since(began)
                    .as_secs_f64(),
            );
        self.metrics
            .api_requests
            .get_or_create(&OfRequest {
                account: account.name.to_string(),
                kind: kind.as_str(),
                status: status_label(&result),
            })
            .inc();
        verdict::judge(
            job,
            result,
            &self.settings.retry,
            &self.settings.settle,
            &self.dice,
        )
    }
}

fn status_label(result: &Result<Answer, Failure>) -> String {
    let status = match result {
        Ok(answer) => Some(answer.http_status),
        Err(failure) => failure.http_status,
    };
    status.map_or_else(|| "error".into(), |status| status.to_string())
}

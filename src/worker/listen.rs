//! Hears wake-ups. A hint only: with nobody listening everything works, at the pace of polling.

use crate::store::Listener;
use crate::store::StoreError;
use crate::store::TakenIn;
use crate::store::WakeUp;
use crate::worker::Outage;
use crate::worker::Worker;
use crate::worker::waits::Waits;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A connection that lived so long was worth its while.
const LASTED: Duration = Duration::from_secs(30);
/// Without one for no longer than this, nobody needs to know.
const BRIEF: Duration = Duration::from_secs(10);
/// Where a look finds so many requests, the next ones are gathered as long as wake-ups are spared.
const MANY: u64 = 50;

impl Worker {
    pub(super) async fn listen_until(self: Arc<Self>, stop: CancellationToken) {
        // The listener is dropped with this future, and its connection closed.
        stop.run_until_cancelled(self.listen_for_ever()).await;
    }

    async fn listen_for_ever(&self) {
        let mut waits = Waits::new(FIRST_WAIT, LONGEST_WAIT);
        let mut lost_at = self.clock.now();
        let mut outage = Outage::default();
        loop {
            // A hint must not take the one connection that there is from the work.
            if !self.lock_progress().trouble.is_empty() {
                tokio::time::sleep(waits.next(&self.dice)).await;
                lost_at = self.clock.now();
                continue;
            }
            match self.db.listen().await {
                Ok(mut listener) => {
                    let since = self.clock.now();
                    self.listening.store(true, Ordering::Relaxed);
                    if outage.is_over(since).is_some() {
                        tracing::info!("listening for wake-ups again");
                    }
                    // What came while nobody listened.
                    self.be_woken();
                    self.asked.notify_one();
                    // Those heard until what was given for all of them are from before that.
                    let mut spared = false;
                    let error = loop {
                        match listener.wait().await {
                            Ok(WakeUp::Request) => {
                                self.be_asked();
                                if !spared && self.heard.many_ask() {
                                    match self.spare(&mut listener).await {
                                        Ok(told) => spared = told,
                                        Err(error) => break error,
                                    }
                                }
                            }
                            Ok(WakeUp::Requests) => {
                                spared = false;
                                self.be_asked();
                            }
                            Ok(WakeUp::Work) => self.be_woken(),
                            Ok(WakeUp::Action) => self.asked.notify_one(),
                            Err(error) => break error,
                        }
                    };
                    self.listening.store(false, Ordering::Relaxed);
                    lost_at = self.clock.now();
                    if lost_at.saturating_duration_since(since) > LASTED {
                        waits.start_over();
                    }
                    tracing::debug!(%error, "the listening connection was lost");
                }
                Err(error) => {
                    let now = self.clock.now();
                    // Where the database is away, that is told, and this need not be.
                    if now.saturating_duration_since(lost_at) > BRIEF
                        && outage.goes_on(error.kind(), now)
                    {
                        tracing::warn!(%error, "cannot listen for wake-ups; polling until it can");
                    } else {
                        tracing::debug!(%error, "cannot listen for wake-ups; polling");
                    }
                }
            }
            self.metrics.listener_reconnects.inc();
            tokio::time::sleep(waits.next(&self.dice)).await;
        }
    }

    /// Whether a wake-up for all who were spared theirs is on its way.
    async fn spare(&self, listener: &mut Listener) -> Result<bool, StoreError> {
        match listener.spare().await {
            Ok(false) => {
                // It may have been given up after some were spared theirs.
                self.be_asked();
                Ok(false)
            }
            // Where it is not granted, everybody is heard.
            Err(StoreError::Privilege(_)) => Ok(true),
            told => told,
        }
    }

    /// Somebody has put a request into the inbox.
    fn be_asked(&self) {
        self.stop_resting();
        self.heard.note_request();
        self.stirring.notify_one();
    }

    pub(super) fn be_woken(&self) {
        self.stop_resting();
        self.stir();
    }

    /// Says that there may be something to do, in the inbox or in the queue.
    pub(super) fn stir(&self) {
        self.heard.note();
        self.stirring.notify_one();
    }

    /// The same, and it does not wait until the inbox has rested.
    pub(super) fn wake(&self) {
        self.heard.note();
        self.waking.notify_one();
    }

    fn stop_resting(&self) {
        for account in &self.accounts {
            account.stop_resting();
        }
    }
}

/// What was heard since the last look into the inbox.
#[derive(Debug)]
pub(super) struct Heard {
    request: AtomicBool,
    other: AtomicBool,
    /// What the last look found were many.
    many: AtomicBool,
}

impl Heard {
    /// Nobody has looked yet.
    pub(super) fn new() -> Self {
        Self {
            request: AtomicBool::new(false),
            other: AtomicBool::new(true),
            many: AtomicBool::new(false),
        }
    }

    fn note_request(&self) {
        self.request.store(true, Ordering::Relaxed);
    }

    /// Whatever it is, it takes a whole tick.
    pub(super) fn note(&self) {
        self.other.store(true, Ordering::Relaxed);
    }

    pub(super) fn anything(&self) -> bool {
        self.request.load(Ordering::Relaxed) || self.other.load(Ordering::Relaxed)
    }

    /// Of a request, and of nothing else.
    pub(super) fn only_requests(&self) -> bool {
        self.request.load(Ordering::Relaxed) && !self.other.load(Ordering::Relaxed)
    }

    /// Before a look, which finds what they were about.
    pub(super) fn forget(&self) {
        self.other.store(false, Ordering::Relaxed);
        self.forget_requests();
    }

    /// After a look, or when none could be made.
    pub(super) fn note_found(&self, taken: &TakenIn) {
        if !taken.another_was_looking() {
            self.many.store(taken.requests >= MANY, Ordering::Relaxed);
        }
    }

    /// Requests keep coming so fast that a wake-up of each producer costs more than it tells.
    fn many_ask(&self) -> bool {
        self.many.load(Ordering::Relaxed)
    }

    pub(super) fn forget_requests(&self) {
        self.request.store(false, Ordering::Relaxed);
    }
}

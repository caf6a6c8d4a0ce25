//! An account as this process works for it.

use crate::domain::AccountName;
use crate::domain::Budget;
use crate::feather::ApiClient;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::Semaphore;

/// What is configured of an account.
#[derive(Clone, Debug)]
pub struct AccountSettings {
    /// Name.
    pub name: AccountName,
    /// Limit of all replicas together, at least 1.
    pub requests_per_minute: u32,
    /// Most calls of this process at a time, at least 1.
    pub max_in_flight: u32,
}

/// An account with its client. Clones share everything.
#[derive(Clone)]
pub struct Account {
    pub(super) name: AccountName,
    pub(super) client: Arc<ApiClient>,
    pub(super) budget: Budget,
    pub(super) requests_per_minute: u32,
    pub(super) slots: Arc<Semaphore>,
    pace: Arc<Mutex<Pace>>,
}

#[derive(Default)]
struct Pace {
    /// No claim before: the budget or a pause would refuse it.
    rest_until: Option<Instant>,
    /// The last claim found the account paused.
    was_paused: bool,
    /// When calls went out in the last minute.
    sent: VecDeque<Instant>,
}

impl Account {
    /// An account with its client.
    pub fn new(settings: AccountSettings, client: ApiClient) -> Self {
        Self {
            name: settings.name,
            client: Arc::new(client),
            budget: Budget::per_minute(settings.requests_per_minute),
            requests_per_minute: settings.requests_per_minute,
            slots: Arc::new(Semaphore::new(settings.max_in_flight as usize)),
            pace: Arc::default(),
        }
    }

    fn lock_pace(&self) -> std::sync::MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a claim would be in vain; `None` when it may be tried.
    pub(super) fn rest(&self, now: Instant) -> Option<Duration> {
        let until = self.lock_pace().rest_until?;
        until
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())
    }

    pub(super) fn rest_until(&self, until: Instant) {
        self.lock_pace().rest_until = Some(until);
    }

    pub(super) fn note_pause(&self) {
        self.lock_pace().was_paused = true;
    }

    /// Reads the key anew for a probe, and when a pause is over: another replica's probe may have found a new key.
    pub(super) fn refresh_key(&self, probe: bool) {
        let was_paused = std::mem::take(&mut self.lock_pace().was_paused);
        if (probe || was_paused)
            && let Err(error) = self.client.reload_key()
        {
            tracing::warn!(account = %self.name, %error, "the API key cannot be read anew; going on with the old one");
        }
    }

    /// Ends a rest, as when somebody says that something has changed.
    pub(super) fn stop_resting(&self) {
        self.lock_pace().rest_until = None;
    }

    pub(super) fn note_sent(&self, now: Instant) {
        self.lock_pace().sent.push_back(now);
    }

    /// Calls of this process in the last 60 s as a part of the limit.
    pub(super) fn budget_used(&self, now: Instant) -> f64 {
        let mut pace = self.lock_pace();
        while pace
            .sent
            .front()
            .is_some_and(|at| now.saturating_duration_since(*at) >= Duration::from_secs(60))
        {
            pace.sent.pop_front();
        }
        let sent = u32::try_from(pace.sent.len()).unwrap_or(u32::MAX);
        f64::from(sent) / f64::from(self.requests_per_minute)
    }
}

//! An account as this process works for it.

use crate::domain::AccountName;
use crate::domain::AccountWord;
use crate::domain::Budget;
use crate::domain::ErrorClass;
use crate::domain::budget::FRESH_FOR;
use crate::feather::ApiClient;
use crate::store::Lane;
use crate::worker::Again;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::Semaphore;

/// A refusal is written down at once; where it cannot be, nothing can be claimed either.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// After a claim that looked into all lanes, the known ones have to do for so many times as long as it took.
const LANES_HOLD: u32 = 10;
/// And no longer than this: a fresh and urgent request may be in another.
const LANES_HOLD_MOST: Duration = Duration::from_millis(500);

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
    requests_per_minute: Arc<AtomicU32>,
    pub(super) slots: Arc<Semaphore>,
    pub(super) max_in_flight: u32,
    recent: Arc<Mutex<Recent>>,
}

/// What happened lately.
#[derive(Default)]
struct Recent {
    /// No claim before: the budget or a pause would refuse it.
    rest_until: Option<Instant>,
    /// The API has refused this key or this pace, and until it is written down nobody else knows.
    refused_until: Option<Instant>,
    /// Lanes in which there lately was more than could be claimed, and how long others are not looked into.
    lanes: Vec<Lane>,
    lanes_until: Option<Instant>,
    /// The last claim found the account paused, or a call of ours the key refused.
    was_paused: bool,
    /// Why the key could not be read the last time.
    key_trouble: Option<String>,
    /// The API's last word on the key was a refusal.
    key_is_refused: bool,
    /// How long a claim usually takes.
    claim_takes: Duration,
    /// When calls went out in the last minute.
    sent: VecDeque<Instant>,
}

impl Account {
    /// An account with its client.
    pub fn new(settings: AccountSettings, client: ApiClient) -> Self {
        Self {
            name: settings.name,
            client: Arc::new(client),
            requests_per_minute: Arc::new(AtomicU32::new(settings.requests_per_minute)),
            slots: Arc::new(Semaphore::new(settings.max_in_flight as usize)),
            max_in_flight: settings.max_in_flight,
            recent: Arc::default(),
        }
    }

    /// Most calls of all replicas together in any minute.
    pub(super) fn limit(&self) -> u32 {
        self.requests_per_minute.load(Ordering::Relaxed)
    }

    pub(super) fn set_limit(&self, requests_per_minute: u32) {
        self.requests_per_minute
            .store(requests_per_minute, Ordering::Relaxed);
    }

    pub(super) fn budget(&self) -> Budget {
        Budget::per_minute(self.limit())
    }

    fn lock_recent(&self) -> std::sync::MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a claim would be in vain; `None` when it may be tried.
    pub(super) fn rest(&self, now: Instant) -> Option<Duration> {
        let recent = self.lock_recent();
        let until = recent.rest_until.max(recent.refused_until)?;
        drop(recent);
        until
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())
    }

    pub(super) fn rest_until(&self, until: Instant) {
        self.lock_recent().rest_until = Some(until);
    }

    /// Lets the account rest until the refusal is written down: then its pause is everybody's.
    pub(super) fn note_refusal(&self, now: Instant) {
        self.lock_recent().refused_until = Some(now + REFUSED_FOR);
    }

    pub(super) fn refusal_is_written(&self) {
        self.lock_recent().refused_until = None;
    }

    pub(super) fn is_refused(&self, now: Instant) -> bool {
        self.lock_recent()
            .refused_until
            .is_some_and(|until| until > now)
    }

    /// Where a claim looks; `None`: everywhere.
    pub(super) fn known_lanes(&self, now: Instant) -> Option<Vec<Lane>> {
        let recent = self.lock_recent();
        match recent.lanes_until {
            Some(until) if until > now => Some(recent.lanes.clone()),
            _ => None,
        }
    }

    /// Jobs have been put into this lane.
    pub(super) fn note_lane(&self, lane: Lane) {
        let mut recent = self.lock_recent();
        match recent.lanes.iter_mut().find(|known| known.is(&lane)) {
            Some(known) => known.from = known.from.min(lane.from),
            None => recent.lanes.push(lane),
        }
    }

    /// Where jobs were found by a claim that looked into the known lanes, or `everywhere`. Looking into all costs as much
    /// as there is dead in the index; so that claims spend little of their time on it, the known ones have to do for as
    /// many times as long.
    pub(super) fn note_lanes(
        &self,
        everywhere: bool,
        found: Vec<Lane>,
        now: Instant,
        took: Duration,
    ) {
        let mut recent = self.lock_recent();
        if everywhere {
            recent.lanes_until = Some(now + (took * LANES_HOLD).min(LANES_HOLD_MOST));
            recent.lanes = found;
            return;
        }
        for lane in found {
            if let Some(known) = recent.lanes.iter_mut().find(|known| known.is(&lane)) {
                *known = lane;
            }
        }
    }

    /// When the next claim looks into all lanes: nothing more is due in those that this one looked into.
    pub(super) fn everywhere_again(&self, everywhere: bool, now: Instant) -> Again {
        let until = self.lock_recent().lanes_until;
        match until {
            _ if everywhere => Again::Idle,
            Some(until) => Again::After(until.saturating_duration_since(now)),
            None => Again::After(Duration::ZERO),
        }
    }

    /// The next claim looks into all lanes.
    pub(super) fn look_everywhere(&self) {
        self.lock_recent().lanes_until = None;
    }

    pub(super) fn note_pause(&self) {
        self.lock_recent().was_paused = true;
    }

    /// Reads the key anew for a probe, and when a pause is over: another replica's probe may have found a new key.
    pub(super) fn refresh_key_after_pause(&self, probe: bool) {
        let was_paused = std::mem::take(&mut self.lock_recent().was_paused);
        if probe || was_paused {
            self.refresh_key();
        }
    }

    /// What a call's end says of the key: told when it changes, not with each call.
    pub(super) fn note_word(&self, word: &AccountWord) {
        let is_refused = match word {
            AccountWord::Refused { class, .. } if *class == ErrorClass::Auth => true,
            AccountWord::Works => false,
            AccountWord::Refused { .. } | AccountWord::Answered | AccountWord::Silent => return,
        };
        let was_refused = std::mem::replace(&mut self.lock_recent().key_is_refused, is_refused);
        let account = &self.name;
        match (was_refused, is_refused) {
            (false, true) => {
                tracing::warn!(%account, "the API refuses the key of account {account}, which pauses until a call succeeds");
            }
            (true, false) => {
                tracing::info!(%account, "the API accepts the key of account {account} again");
            }
            _ => {}
        }
    }

    /// Reads the key anew. While it cannot be read the old one stays in use.
    pub(super) fn refresh_key(&self) {
        let trouble = match self.client.reload_key() {
            Ok(changed) => {
                if changed {
                    tracing::info!(account = %self.name, "a new API key has been read");
                }
                None
            }
            Err(error) => Some(error.to_string()),
        };
        let before = std::mem::replace(&mut self.lock_recent().key_trouble, trouble.clone());
        // Once per trouble, not once per look.
        match trouble {
            Some(error) if before.as_ref() != Some(&error) => {
                tracing::warn!(account = %self.name, error, "the API key cannot be read anew; going on with the old one");
            }
            None if before.is_some() => {
                tracing::info!(account = %self.name, "the API key can be read again");
            }
            _ => {}
        }
    }

    /// When the tokens of a claim count as drawn: somewhere between question and answer. A usual delay moves all draws
    /// alike and does no harm; one that is beyond it is a stall, after which they no longer fit their window. A stall
    /// is learned from only as far as it is tolerated, so that a database which has become slow is in the end usual.
    pub(super) fn drawn_at(&self, asked: Instant, answered: Instant) -> Instant {
        let took = answered.saturating_duration_since(asked);
        let mut recent = self.lock_recent();
        let usual = recent.claim_takes;
        let tolerated = usual * 2 + FRESH_FOR;
        recent.claim_takes = (usual * 3 + took.min(tolerated)) / 4;
        if took > tolerated {
            asked + usual
        } else {
            answered
        }
    }

    /// Ends a rest, as when somebody says that something has changed.
    pub(super) fn stop_resting(&self) {
        self.lock_recent().rest_until = None;
    }

    pub(super) fn note_sent(&self, now: Instant) {
        self.lock_recent().sent.push_back(now);
    }

    /// Calls of this process in the last 60 s as a part of the limit.
    pub(super) fn budget_used(&self, now: Instant) -> f64 {
        let mut recent = self.lock_recent();
        while recent
            .sent
            .front()
            .is_some_and(|at| now.saturating_duration_since(*at) >= Duration::from_secs(60))
        {
            recent.sent.pop_front();
        }
        let sent = u32::try_from(recent.sent.len()).unwrap_or(u32::MAX);
        f64::from(sent) / f64::from(self.limit())
    }
}

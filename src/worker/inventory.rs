//! Taking stock of an account: one call lists its connections, and item by item they go into the tables.

use crate::domain::AccountName;
use crate::domain::AccountWord;
use crate::domain::Budget;
use crate::domain::ConnectionSnapshot;
use crate::domain::Dice;
use crate::domain::Failure;
use crate::domain::RetryPolicy;
use crate::domain::SettleRule;
use crate::domain::budget::FRESH_FOR;
use crate::domain::verdict::word_of;
use crate::feather::ApiClient;
use crate::feather::Listed;
use crate::feather::Listing;
use crate::store::Db;
use crate::store::Draw;
use crate::store::List;
use crate::store::ListedChange;
use crate::store::StoreError;
use crate::store::Token;
use crate::worker::FIRST_WAIT;
use crate::worker::LONGEST_WAIT;
use crate::worker::refusal::Refusals;
use crate::worker::refusal::Step;
use crate::worker::waits::Waits;
use chrono::DateTime;
use chrono::Utc;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Connections written together, and their bytes: their jobs are locked meanwhile, and they are in memory.
const PART: usize = 100;
const PART_BYTES: usize = 2 << 20;

/// How long the account may keep the call waiting.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// How long the database may fail while the rest of a list waits.
const OUTAGE: Duration = Duration::from_secs(60);

/// How an account's stock is taken.
pub struct Inventory<'a> {
    /// Where it is written.
    pub db: &'a Db,
    /// Where it is asked for.
    pub client: &'a ApiClient,
    /// Whose it is.
    pub account: &'a AccountName,
    /// The account's budget, whole.
    pub budget: Budget,
    /// `[settle]`.
    pub settle: &'a SettleRule,
    /// `[retry]`.
    pub retry: &'a RetryPolicy,
    /// Connections that the tables hold are left alone.
    pub only_missing: bool,
    /// What would change is found out, and nothing is changed.
    pub rehearse: bool,
    /// Its call, while nobody knows what that came to.
    pub asking: &'a Asking,
    /// Hears whether the list has begun, or why not.
    pub heard: &'a (dyn Fn(Option<&Failure>) + Sync),
}

/// A call that may be abandoned.
#[derive(Debug, Default)]
pub struct Asking {
    token: Mutex<Option<Token>>,
}

impl Asking {
    fn set(&self, token: Option<Token>) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// The token of the call that is under way, if any.
    pub fn token(&self) -> Option<Token> {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is found about one connection of the list.
#[derive(Debug)]
pub enum Found {
    /// It was looked at, and written where it had to be.
    Applied(ListedChange),
    /// It is not what the API promises, in words.
    Unfit(String),
    /// Postgres refuses to store it, or somebody holds its row for long.
    Unstorable(Uuid, String),
}

/// Why stock was not taken to its end.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// An operator has paused the account.
    #[error("account {account} is paused by {operator}; `feather-sync resume {account}` ends that")]
    PausedByOperator {
        /// Which.
        account: AccountName,
        /// By whom.
        operator: String,
    },
    /// The API has paused it.
    #[error("account {account} is paused by the API ({reason}); `feather-sync doctor` says more")]
    Paused {
        /// Which.
        account: AccountName,
        /// `auth` or `rate_limited`.
        reason: String,
    },
    /// The account's budget is used up by others.
    #[error("the rate budget of account {account} left no room for {PATIENCE:?}")]
    NoBudget {
        /// Which.
        account: AccountName,
    },
    /// The list, or the rest of it, could not be had.
    #[error("{}: {}", .0.class, .0.message)]
    Api(Failure),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Inventory<'_> {
    /// Takes stock, and tells what is found as it goes. To be repeated at will: what is as it was costs a look. Returns
    /// when the list was asked for, on the database's clock.
    ///
    /// # Errors
    /// When the list has not come to its end, or not all of it could be written. What was found before holds.
    pub async fn take(&self, mut tell: impl FnMut(Found)) -> Result<DateTime<Utc>, InventoryError> {
        let token = self.draw().await?;
        self.asking.set(Some(token));
        let asked = self.client.list().await;
        (self.heard)(asked.as_ref().err());
        let word = match &asked {
            Ok(_) => AccountWord::Works,
            Err(failure) => word_of(failure, self.retry),
        };
        let failure = asked.as_ref().err();
        self.db.hear(self.account, token, &word, failure).await?;
        self.asking.set(None);
        let mut listing = asked.map_err(InventoryError::Api)?;
        let list = List {
            account: self.account,
            asked_at: token.drawn_at,
            settle: self.settle,
            only_missing: self.only_missing,
            rehearse: self.rehearse,
        };
        loop {
            let mut part = Part::default();
            let end = part.fill(&mut listing, &mut tell).await;
            self.apply(list, part.connections, &mut tell).await?;
            if end.map_err(InventoryError::Api)? {
                return Ok(list.asked_at);
            }
        }
    }

    /// Waits for a token that is fresh.
    async fn draw(&self) -> Result<Token, InventoryError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let account = self.account.clone();
            let asked = Instant::now();
            // Until the answer begins, and a little to take it in.
            let probing = self.client.request_timeout() + Duration::from_secs(5);
            let drawn = self.db.draw(self.account, self.budget, probing).await?;
            let (left, too_late) = match drawn {
                Draw::Granted(token) if token.probe || asked.elapsed() <= FRESH_FOR => {
                    return Ok(token);
                }
                Draw::Granted(_) => (Duration::ZERO, InventoryError::NoBudget { account }),
                Draw::Wait(left) => (left, InventoryError::NoBudget { account }),
                Draw::Paused { reason, left } if reason == "rate_limited" => {
                    (left, InventoryError::Paused { account, reason })
                }
                Draw::Paused { reason, .. } => {
                    return Err(InventoryError::Paused { account, reason });
                }
                Draw::PausedByOperator(operator) => {
                    return Err(InventoryError::PausedByOperator { account, operator });
                }
            };
            if asked + left > deadline {
                return Err(too_late);
            }
            tokio::time::sleep(left).await;
        }
    }

    /// Applies a part; where Postgres refuses a value or cannot cope, in ever smaller ones.
    async fn apply(
        &self,
        list: List<'_>,
        part: Vec<ConnectionSnapshot>,
        tell: &mut impl FnMut(Found),
    ) -> Result<(), StoreError> {
        let mut parts = VecDeque::from([part]);
        while let Some(mut part) = parts.pop_front() {
            let mut refusals = Refusals::default();
            let mut tries = Tries::new();
            while !part.is_empty() {
                let begun = Instant::now();
                let error = match self.db.apply_listed(list, &part).await {
                    Ok(changes) => {
                        changes
                            .into_iter()
                            .for_each(|change| tell(Found::Applied(change)));
                        break;
                    }
                    Err(error) => error,
                };
                let took = begun.elapsed();
                match refusals.judge(&error, part.len(), took) {
                    Step::Halve | Step::PartLargest => {
                        let rest = part.split_off(part.len() / 2);
                        parts.push_front(rest);
                        parts.push_front(part);
                        break;
                    }
                    Step::Blame(why) => {
                        tell(Found::Unstorable(part[0].id, why));
                        break;
                    }
                    // Somebody else holds its row; the next list may have it.
                    Step::Leave => {
                        tell(Found::Unstorable(part[0].id, error.to_string()));
                        break;
                    }
                    Step::Again if tries.go_on(&error, took).await => {}
                    Step::Again => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// The tries of one part. Safe to repeat: what was written is left alone by the same list.
struct Tries {
    waits: Waits,
    failed: u32,
    failing_since: Option<Instant>,
}

impl Tries {
    fn new() -> Self {
        Self {
            waits: Waits::new(FIRST_WAIT, LONGEST_WAIT),
            failed: 0,
            failing_since: None,
        }
    }

    /// Waits after a failed try. `false` where it has failed for too long, or no wait cures it.
    async fn go_on(&mut self, error: &StoreError, took: Duration) -> bool {
        self.failed += 1;
        if error.is_over_at_once(self.failed, took) {
            return true;
        }
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        let may_pass = error.is_passing() || matches!(error, StoreError::Other(_));
        if !may_pass || since.elapsed() >= OUTAGE {
            return false;
        }
        tokio::time::sleep(self.waits.next(&Dice::Random)).await;
        true
    }
}

/// What is written together; of connections that come more than once, the last.
#[derive(Default)]
struct Part {
    connections: Vec<ConnectionSnapshot>,
    ids: HashSet<Uuid>,
    bytes: usize,
}

impl Part {
    /// Reads on until it is full. Returns whether the list has ended.
    async fn fill(
        &mut self,
        listing: &mut Listing<'_>,
        tell: &mut impl FnMut(Found),
    ) -> Result<bool, Failure> {
        while self.connections.len() < PART && self.bytes < PART_BYTES {
            match listing.next().await? {
                None => return Ok(true),
                Some(Listed::Unfit(why)) => tell(Found::Unfit(why)),
                Some(Listed::Connection(snapshot)) => self.add(*snapshot),
            }
        }
        Ok(false)
    }

    fn add(&mut self, snapshot: ConnectionSnapshot) {
        self.bytes += snapshot.bytes;
        if self.ids.insert(snapshot.id) {
            self.connections.push(snapshot);
        } else if let Some(earlier) = self
            .connections
            .iter_mut()
            .find(|one| one.id == snapshot.id)
        {
            *earlier = snapshot;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_part_is_tried_again_for_a_minute_and_not_at_all_where_no_wait_helps() {
        let passing = StoreError::Unavailable("why".into());
        let mut tries = Tries::new();
        let began = Instant::now();
        let mut failed = 1;
        while tries.go_on(&passing, Duration::ZERO).await {
            failed += 1;
        }
        let took = began.elapsed();
        assert!((OUTAGE..=OUTAGE + LONGEST_WAIT).contains(&took), "{took:?}");
        assert!((12..60).contains(&failed), "{failed} tries");

        let lasting = StoreError::Privilege("why".into());
        assert!(!Tries::new().go_on(&lasting, Duration::ZERO).await);
    }
}

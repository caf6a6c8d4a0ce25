//! A trial of the way to the API and of the key: one call that changes nothing.

use crate::domain::Answer;
use crate::domain::CallKind;
use crate::domain::Failure;
use crate::feather::client::ApiClient;
use chrono::DateTime;
use chrono::Utc;
use uuid::Uuid;

/// What came of a trial.
#[derive(Clone, Debug)]
pub struct Trial {
    /// As of any call. Of an API that knows the key it is usually a failure of class `not_found`.
    pub answer: Result<Answer, Failure>,
    /// The time on the server's clock, to the second, if it answered and said so.
    pub date: Option<DateTime<Utc>>,
}

impl ApiClient {
    /// Asks for a connection that does not exist: the API has no call that does nothing, and says of a connection that
    /// it is not there only to a key that it accepts.
    ///
    /// It counts against the organisation's limit as any call does, and is neither drawn from the account's budget nor
    /// recorded in the history: for people, once at a time.
    pub async fn try_out(&self) -> Trial {
        let mut date = None;
        let answer = self
            .call_noting(CallKind::Poll, Uuid::new_v4(), &mut date)
            .await;
        let date = date
            .as_ref()
            .and_then(|date| DateTime::parse_from_rfc2822(date.to_str().ok()?.trim()).ok())
            .map(|date| date.to_utc());
        Trial { answer, date }
    }
}

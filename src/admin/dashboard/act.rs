//! From a form to what is done, and back to the page that it was on.

use crate::admin::Desk;
use crate::admin::connections::Visit;
use crate::admin::dashboard::entrance::Visitor;
use crate::admin::dashboard::look::Trouble;
use crate::admin::dashboard::look::trouble_page;
use axum::body::to_bytes;
use axum::extract::FromRequest;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::timeout;
use url::form_urlencoded;

/// Longest form: some thousand ids.
const LONGEST: usize = 64 * 1024;
/// For a form to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest form of somebody who was not let in yet, and for it to come: a name and a token.
const LONGEST_OF_STRANGER: usize = 4 * 1024;
const PATIENCE_WITH_STRANGER: Duration = Duration::from_secs(2);
/// For one's turn at the database.
const TURN: Duration = Duration::from_secs(5);
/// The hidden field that names the page a form is on.
pub(super) const BACK: &str = "back";
/// In an address: what was done a moment ago, by number.
const SAID: &str = "said";
/// Sentences that wait for the page that will show them.
const WAITING: usize = 64;

/// Somebody wants something done.
pub(super) struct Act {
    pub(super) desk: Desk,
    pub(super) visitor: Visitor,
    visit: Option<Visit>,
    fields: Vec<(String, String)>,
}

impl FromRequest<Desk> for Act {
    type Rejection = Response;

    async fn from_request(request: Request, desk: &Desk) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let visitor = Visitor::of(&parts);
        let refuse = |why: &str| trouble_page(&Trouble::Wrong(why.to_owned()), None, &visitor);
        let kind = parts.headers.get(header::CONTENT_TYPE);
        if !kind.is_some_and(|kind| {
            kind.as_bytes()
                .starts_with(b"application/x-www-form-urlencoded")
        }) {
            return Err(refuse(
                "This is no form of the dashboard's: send application/x-www-form-urlencoded.",
            ));
        }
        let (longest, patience) = if parts.extensions.get::<Visitor>().is_some() {
            (LONGEST, PATIENCE)
        } else {
            (LONGEST_OF_STRANGER, PATIENCE_WITH_STRANGER)
        };
        let Ok(Ok(body)) = timeout(patience, to_bytes(body, longest)).await else {
            return Err(refuse(
                "The form is too long, or did not come to its end in time.",
            ));
        };
        Ok(Self {
            desk: desk.clone(),
            visitor,
            visit: parts.extensions.get::<Visit>().cloned(),
            fields: form_urlencoded::parse(&body).into_owned().collect(),
        })
    }
}

impl Act {
    /// The field that must be there.
    pub(super) fn field(&self, name: &'static str) -> Result<&str, Trouble> {
        self.all(name)
            .next()
            .ok_or_else(|| Trouble::Wrong(format!("The form lacks {name}.")))
    }

    /// All fields of the name, of ticked boxes say.
    pub(super) fn all(&self, name: &'static str) -> impl Iterator<Item = &str> {
        let of_name = move |(found, _): &&(String, String)| found == name;
        self.fields
            .iter()
            .filter(of_name)
            .map(|(_, value)| value.as_str())
    }

    /// Who does it, for the record.
    pub(super) fn actor(&self) -> String {
        self.visitor.to_string()
    }

    /// Does it, when it is its turn: a session of the pool each would be all of them.
    pub(super) async fn in_turn<T>(
        &self,
        doing: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        let _held = self.visit.as_ref().map(Visit::hold);
        let Ok(Ok(_turn)) = timeout(TURN, self.desk.dashboard.acts.acquire()).await else {
            return Err(Trouble::Busy);
        };
        doing.await
    }

    /// Leads back to the page that the form was on, which tells once what was done; or tells what is wrong.
    pub(super) async fn done(self, done: Result<String, Trouble>) -> Response {
        match done {
            Ok(words) => {
                self.desk.dashboard.status.forget().await;
                let back = self.field(BACK).unwrap_or_default();
                let number = self.desk.dashboard.said.keep(words);
                let back = if is_local(back) { back } else { "/" };
                let sign = if back.contains('?') { '&' } else { '?' };
                go(&format!("{back}{sign}{SAID}={number:x}"))
            }
            Err(trouble) => trouble_page(&trouble, None, &self.visitor),
        }
    }
}

/// Sends the browser to another page of ours, with GET.
pub(super) fn go(path: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response()
}

/// Whether it is the path of a page here, and nothing that a browser might take for another site.
pub(super) fn is_local(path: &str) -> bool {
    path.starts_with('/')
        && !path.starts_with("//")
        && path.len() <= 2_000
        && path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\' && byte != b'#')
}

/// What was done, until the next page tells it. Kept here rather than in an address, where anybody could write a
/// sentence.
#[derive(Clone, Default)]
pub(super) struct Said(Arc<Mutex<VecDeque<(u64, String)>>>);

impl Said {
    fn keep(&self, words: String) -> u64 {
        let number = rand::random();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= WAITING {
            waiting.pop_front();
        }
        waiting.push_back((number, words));
        number
    }

    /// What the query asks for; it is told once.
    pub(super) fn take(&self, query: &str) -> Option<String> {
        let (_, number) =
            form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == SAID)?;
        let number = u64::from_str_radix(&number, 16).ok()?;
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = waiting.iter().position(|(kept, _)| *kept == number)?;
        waiting.remove(at).map(|(_, words)| words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_leads_back_to_pages_of_this_listener_alone() {
        for path in ["/", "/accounts", "/jobs?state=dead&class=auth", "/a%2F%2Fb"] {
            assert!(is_local(path), "{path}");
        }
        for path in [
            "",
            "accounts",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example/",
            "/a\r\nSet-Cookie: x",
            "/a b",
            "/#x",
            "/é",
        ] {
            assert!(!is_local(path), "{path}");
        }
    }

    #[test]
    fn what_was_done_is_told_once_and_only_the_latest_are_kept() {
        let said = Said::default();
        let number = said.keep("done".to_owned());
        let query = format!("a=b&said={number:x}");
        assert_eq!(said.take("said=zz"), None);
        assert_eq!(said.take(&query).as_deref(), Some("done"));
        assert_eq!(said.take(&query), None);
        let first = said.keep("first".to_owned());
        for _ in 0..WAITING {
            said.keep("later".to_owned());
        }
        assert_eq!(said.take(&format!("said={first:x}")), None);
    }
}

//! Sessions of browsers whose user knew the token. In memory: they end with the process, and a logout ends them for good.

use axum::http::HeaderMap;
use axum::http::header;
use sha2::Digest;
use sha2::Sha256;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;

/// How long a session lasts.
pub(super) const LASTS: Duration = Duration::from_secs(12 * 60 * 60);
/// Sessions at the same time; one more ends the oldest.
const MOST: usize = 256;

/// A session's id, hashed: what is compared and kept tells nothing about what the browser sends.
pub(super) type Key = [u8; 32];

/// All sessions of this process.
#[derive(Clone)]
pub(super) struct Sessions {
    cookie: String,
    open: Arc<Mutex<HashMap<Key, Session>>>,
}

struct Session {
    name: String,
    begun: Instant,
}

impl Sessions {
    pub(super) fn new(port: u16) -> Self {
        Self {
            cookie: format!("feather_sync_{port}"),
            open: Arc::default(),
        }
    }

    /// Begins a session. Returns the cookie to set, for a browser that came by https or not.
    pub(super) fn begin(&self, name: String, secure: bool) -> String {
        let mut id = String::new();
        for byte in rand::random::<[u8; 32]>() {
            // Writing into a string does not fail.
            let _ = write!(id, "{byte:02x}");
        }
        let begun = Instant::now();
        self.with(|open| {
            if open.len() >= MOST
                && let Some(oldest) = open.iter().min_by_key(|(_, session)| session.begun)
            {
                let oldest = *oldest.0;
                open.remove(&oldest);
            }
            open.insert(key(&id), Session { name, begun });
        });
        self.set(&id, LASTS.as_secs(), secure)
    }

    /// The session that the request's cookie names, and the name of its user.
    pub(super) fn find(&self, headers: &HeaderMap) -> Option<(Key, String)> {
        let pairs = headers.get_all(header::COOKIE).iter();
        let mut ids = pairs
            .filter_map(|cookies| cookies.to_str().ok())
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .filter(|(name, _)| *name == self.cookie)
            .map(|(_, id)| key(id));
        self.with(|open| ids.find_map(|key| Some((key, open.get(&key)?.name.clone()))))
    }

    /// Whether the session goes on.
    pub(super) fn is_open(&self, key: &Key) -> bool {
        self.with(|open| open.contains_key(key))
    }

    /// Ends the session. Returns the cookie that takes the browser's away.
    pub(super) fn end(&self, key: &Key, secure: bool) -> String {
        self.with(|open| open.remove(key));
        self.set("", 0, secure)
    }

    fn set(&self, id: &str, seconds: u64, secure: bool) -> String {
        let cookie = &self.cookie;
        let secure = if secure { "; Secure" } else { "" };
        format!("{cookie}={id}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<Key, Session>) -> T) -> T {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, session| session.begun.elapsed() < LASTS);
        act(&mut open)
    }
}

fn key(id: &str) -> Key {
    Sha256::digest(id).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn sent(set: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let cookie = format!("other=1; {}", set.split(';').next().unwrap());
        headers.insert(header::COOKIE, HeaderValue::from_str(&cookie).unwrap());
        headers
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_lasts_until_its_time_is_over_or_it_is_ended() {
        let sessions = Sessions::new(1);
        let first = sent(&sessions.begin("alice".to_owned(), false));
        let (key, name) = sessions.find(&first).unwrap();
        assert_eq!(name, "alice");
        sessions.end(&key, false);
        assert!(sessions.find(&first).is_none() && !sessions.is_open(&key));
        let second = sent(&sessions.begin("alice".to_owned(), false));
        tokio::time::advance(LASTS - Duration::from_secs(1)).await;
        assert!(sessions.find(&second).is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(sessions.find(&second).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn one_session_too_many_ends_the_oldest() {
        let sessions = Sessions::new(1);
        let mut begun = Vec::new();
        for _ in 0..=MOST {
            begun.push(sent(&sessions.begin("alice".to_owned(), false)));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(sessions.find(&begun[0]).is_none());
        assert!(
            begun[1..]
                .iter()
                .all(|headers| sessions.find(headers).is_some())
        );
    }

    #[test]
    fn the_cookie_is_kept_from_scripts_and_from_other_sites() {
        let sessions = Sessions::new(9464);
        let set = sessions.begin("alice".to_owned(), true);
        assert!(set.starts_with("feather_sync_9464="), "{set}");
        assert!(
            set.ends_with("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure"),
            "{set}"
        );
        assert!(!sessions.begin("alice".to_owned(), false).contains("Secure"));
        assert!(Sessions::new(1).find(&sent(&set)).is_none());
    }
}

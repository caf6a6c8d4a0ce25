//! Blanks known secrets in text that came from outside before it is stored or logged.

use secrecy::ExposeSecret;
use secrecy::SecretString;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;

/// The secrets that this process knows. Clones share them.
#[derive(Clone, Default)]
pub struct Redactor {
    secrets: Arc<RwLock<Vec<SecretString>>>,
}

/// Shorter "secrets" occur in ordinary text by chance; blanking them would only garble it.
const SHORTEST: usize = 4;

impl Redactor {
    /// Adds a secret. Rotated ones stay known: an old answer may still name them.
    pub fn learn(&self, secret: &SecretString) {
        let mut secrets = self.secrets.write().unwrap_or_else(PoisonError::into_inner);
        let known = secrets
            .iter()
            .any(|s| s.expose_secret() == secret.expose_secret());
        if !known && secret.expose_secret().len() >= SHORTEST {
            secrets.push(secret.clone());
            // One may be the beginning of another: blanked first, it would leave the rest of the longer one.
            secrets.sort_by_key(|s| std::cmp::Reverse(s.expose_secret().len()));
        }
    }

    /// `text` with every known secret replaced by `***`.
    pub fn redact(&self, text: &str) -> String {
        let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        secrets.iter().fold(text.to_owned(), |text, secret| {
            if text.contains(secret.expose_secret()) {
                text.replace(secret.expose_secret(), "***")
            } else {
                text
            }
        })
    }

    /// Length of `text` without a secret that has only begun at its end, as where a body was not read on.
    fn without_begun_secret(&self, text: &str) -> usize {
        let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        let begun = secrets.iter().filter_map(|secret| {
            let secret = secret.expose_secret();
            (SHORTEST..secret.len())
                .rev()
                .filter_map(|length| secret.get(..length))
                .find(|start| text.ends_with(start))
        });
        text.len() - begun.map(str::len).max().unwrap_or_default()
    }

    /// The first `limit` bytes of a body as text that Postgres can hold, once its secrets are blanked.
    pub fn excerpt(&self, body: &[u8], limit: usize) -> String {
        // All of it: each secret that is blanked makes room for what follows, be it the start of another.
        let mut text = self
            .redact(&String::from_utf8_lossy(body))
            .replace('\0', "\u{fffd}");
        text.truncate(self.without_begun_secret(&text));
        let end = (0..=limit.min(text.len()))
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or_default();
        text.truncate(end);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        let redactor = Redactor::default();
        redactor.learn(&SecretString::from("fth_live_secret"));
        redactor
    }

    #[test]
    fn a_known_secret_is_blanked() {
        assert_eq!(redactor().redact("key fth_live_secret!"), "key ***!");
    }

    #[test]
    fn an_excerpt_never_shows_the_start_of_a_secret_that_it_cuts() {
        let body = b"0123456789fth_live_secret and more";
        for limit in 0..body.len() {
            assert!(!redactor().excerpt(body, limit).contains("fth"), "{limit}");
        }
    }

    #[test]
    fn blanked_secrets_make_no_room_for_the_start_of_another() {
        let body = b"fth_live_secret".repeat(10);
        for limit in 0..body.len() {
            assert!(!redactor().excerpt(&body, limit).contains("fth"), "{limit}");
        }
    }

    #[test]
    fn a_secret_that_the_end_of_a_body_cuts_is_not_shown() {
        let body = b"key: fth_live_secret";
        for end in 9..body.len() {
            assert_eq!(redactor().excerpt(&body[..end], 99), "key: ", "{end}");
        }
    }

    #[test]
    fn of_secrets_that_begin_alike_the_longer_is_blanked_whole() {
        let redactor = redactor();
        redactor.learn(&SecretString::from("fth_live_secret_and_more"));
        redactor.learn(&SecretString::from("fth_live"));
        assert_eq!(redactor.redact("fth_live_secret_and_more"), "***");
    }

    #[test]
    fn an_excerpt_can_be_stored_and_ends_at_a_character() {
        assert_eq!(redactor().excerpt(b"a\0b", 9), "a\u{fffd}b");
        assert_eq!(redactor().excerpt("aé".as_bytes(), 2), "a");
    }
}

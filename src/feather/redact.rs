//! Blanks known secrets in text that came from outside before it is stored or logged.

use secrecy::ExposeSecret;
use secrecy::SecretString;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;

/// The secrets that this process knows, in each form in which they may come back. Clones share them.
#[derive(Clone, Default)]
pub struct Redactor {
    secrets: Arc<RwLock<Vec<SecretString>>>,
}

/// Shorter "secrets" occur in ordinary text by chance; blanking them would only garble it.
const SHORTEST: usize = 4;

/// A database password like `postgres` would garble every line of the log.
const SHORTEST_IN_LINES: usize = 12;

impl Redactor {
    /// Adds a secret. Rotated ones stay known: an old answer may still name them.
    pub fn learn(&self, secret: &SecretString) {
        if secret.expose_secret().len() < SHORTEST {
            return;
        }
        let mut secrets = self.secrets.write().unwrap_or_else(PoisonError::into_inner);
        for form in forms(secret.expose_secret()) {
            if !secrets.iter().any(|s| s.expose_secret() == form) {
                secrets.push(SecretString::from(form));
            }
        }
        // One may be the beginning of another: blanked first, it would leave the rest of the longer one.
        secrets.sort_by_key(|s| std::cmp::Reverse(s.expose_secret().len()));
    }

    /// `text` with every known secret replaced by `***`.
    pub fn redact(&self, text: &str) -> String {
        self.redact_from(SHORTEST, text)
    }

    /// A line of ours with every known secret replaced by `***` that is too long to be one of our own words.
    pub fn redact_line(&self, line: &str) -> String {
        self.redact_from(SHORTEST_IN_LINES, line)
    }

    fn redact_from(&self, shortest: usize, text: &str) -> String {
        let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        let long = secrets
            .iter()
            .filter(|secret| secret.expose_secret().len() >= shortest);
        long.fold(text.to_owned(), |text, secret| {
            if text.contains(secret.expose_secret()) {
                text.replace(secret.expose_secret(), "***")
            } else {
                text
            }
        })
    }

    fn longest_secret(&self) -> usize {
        let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        // They are sorted by their length.
        secrets.first().map_or(0, |s| s.expose_secret().len())
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
        // More than that: each secret that is blanked makes room for what follows, be it the start of another. But not
        // all of a body of many megabytes.
        let longest = self.longest_secret().max(SHORTEST);
        let enough = limit.saturating_add(1).saturating_mul(longest);
        let body = &body[..body.len().min(enough)];
        let mut text = self
            .redact(&String::from_utf8_lossy(body))
            .replace(speaks_to_a_terminal, "\u{fffd}");
        text.truncate(self.without_begun_secret(&text));
        let end = (0..=limit.min(text.len()))
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or_default();
        text.truncate(end);
        text
    }
}

/// Control characters, but for those that only lay out text.
fn speaks_to_a_terminal(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\r' | '\t')
}

/// A secret as it is, and as a server, a proxy or our own JSON may write it: with its quotes and backslashes escaped,
/// percent-encoded, or inside of something in base64.
fn forms(secret: &str) -> Vec<String> {
    let percent = |hex: fn(u8) -> String| {
        secret.bytes().fold(String::new(), |mut text, byte| {
            match byte {
                b'-' | b'.' | b'_' | b'~' => text.push(char::from(byte)),
                _ if byte.is_ascii_alphanumeric() => text.push(char::from(byte)),
                _ => text.push_str(&hex(byte)),
            }
            text
        })
    };
    let mut forms = vec![
        secret.to_owned(),
        secret.replace('\\', "\\\\").replace('"', "\\\""),
        percent(|byte| format!("%{byte:02X}")),
        percent(|byte| format!("%{byte:02x}")),
    ];
    // What stands before it shifts it by 0, 1 or 2 bytes against base64's groups of three.
    for shift in 0..3 {
        forms.push(in_base64(secret, shift, *b"+/"));
        forms.push(in_base64(secret, shift, *b"-_"));
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms
}

/// The characters that stand for `secret` alone where it begins `shift` bytes after a group of three.
fn in_base64(secret: &str, shift: usize, last: [u8; 2]) -> String {
    let digits: Vec<u8> = (b'A'..=b'Z')
        .chain(b'a'..=b'z')
        .chain(b'0'..=b'9')
        .chain(last)
        .collect();
    let bit = |at: usize| {
        let byte = secret.as_bytes().get(at / 8).copied().unwrap_or_default();
        usize::from(byte >> (7 - at % 8) & 1)
    };
    // Six bits a character; those that share bits with a neighbour of the secret are not its own.
    let begin = (6 - shift * 8 % 6) % 6;
    let count = (secret.len() * 8 - begin) / 6;
    (0..count)
        .map(|index| {
            let value = (0..6).fold(0, |value, offset| {
                value << 1 | bit(begin + index * 6 + offset)
            });
            char::from(digits[value])
        })
        .collect()
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
    fn a_line_of_ours_keeps_words_that_a_short_password_equals() {
        let redactor = redactor();
        redactor.learn(&SecretString::from("postgres"));
        let line = "postgres refuses fth_live_secret";
        assert_eq!(redactor.redact_line(line), "postgres refuses ***");
        assert_eq!(redactor.redact(line), "*** refuses ***");
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
    fn an_excerpt_of_nothing_but_secrets_is_as_long_as_any() {
        let body = b"fth_live_secret".repeat(100_000);
        assert_eq!(redactor().excerpt(&body, 100), "*".repeat(100));
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
    fn a_secret_is_blanked_in_other_spellings_too() {
        let secret = "Fth+live/s3cr=t~";
        let redactor = Redactor::default();
        redactor.learn(&SecretString::from(secret));
        for spelled in [
            "Fth%2Blive%2Fs3cr%3Dt~",
            "Fth%2blive%2fs3cr%3dt~",
            // Alone; behind "x-api-key:"; behind "u:", as in Basic; behind "key=", with more after each.
            "RnRoK2xpdmUvczNjcj10fg",
            "eC1hcGkta2V5OkZ0aCtsaXZlL3MzY3I9dH4K",
            "dTpGdGgrbGl2ZS9zM2NyPXR+",
            "dTpGdGgrbGl2ZS9zM2NyPXR-",
            "a2V5PUZ0aCtsaXZlL3MzY3I9dH4h",
        ] {
            let blanked = redactor.redact(spelled);
            assert!(blanked.contains("***"), "{spelled}: {blanked}");
            // What is left shares bits with its neighbours: two characters at either end at most.
            let rest = blanked.replace("***", "");
            assert!(
                rest.len() <= spelled.len().saturating_sub(20),
                "{spelled}: {blanked}"
            );
        }
    }

    #[test]
    fn an_excerpt_can_be_stored_and_ends_at_a_character() {
        assert_eq!(redactor().excerpt(b"a\0b", 9), "a\u{fffd}b");
        assert_eq!(
            redactor().excerpt(b"a\x1b[31m\tb\r\n\x07\xc2\x9b", 99),
            "a\u{fffd}[31m\tb\r\n\u{fffd}\u{fffd}"
        );
        assert_eq!(redactor().excerpt("aé".as_bytes(), 2), "a");
    }
}

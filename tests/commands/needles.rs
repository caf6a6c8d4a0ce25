//! The search for planted secrets, in every spelling in which one could come out.

/// What is searched for, and what was found.
pub(crate) struct Search {
    needles: Vec<String>,
    found: Vec<String>,
}

impl Search {
    /// Secrets must be long, or their parts would stand somewhere by chance.
    pub(crate) fn of(secrets: &[&str]) -> Self {
        let needles = secrets
            .iter()
            .flat_map(|secret| spellings(secret))
            .collect();
        Self {
            needles,
            found: Vec::new(),
        }
    }

    pub(crate) fn through(&mut self, place: &str, text: &str) {
        for needle in &self.needles {
            if let Some(at) = text.find(needle.as_str()) {
                let begin = text.floor_char_boundary(at.saturating_sub(300));
                let end = text.ceil_char_boundary((at + needle.len() + 100).min(text.len()));
                self.found
                    .push(format!("{place}: `{needle}` in …{}…", &text[begin..end]));
            }
        }
    }

    #[track_caller]
    pub(crate) fn assert_nothing_was_found(&self) {
        assert!(self.found.is_empty(), "{}", self.found.join("\n\n"));
    }
}

/// The two halves of a secret, so that one that was cut is found, too: as they are, as in a URL, in JSON, in base64.
fn spellings(secret: &str) -> Vec<String> {
    let middle = secret.len() / 2;
    let halves = [&secret[..middle], &secret[middle..]];
    let mut spellings = Vec::new();
    for half in halves {
        spellings.push(half.to_owned());
        spellings.push(percent_encoded(half));
        spellings.push(percent_encoded(half).replace("%20", "+"));
        spellings.push(percent_encoded(half).to_lowercase());
        spellings.push(half.replace('/', "\\/"));
        spellings.push(half.replace('\\', "\\\\").replace('"', "\\\""));
    }
    // Base64 of the whole, behind 0, 1 and 2 other bytes; its ends may share letters with what stands around it.
    for before in ["", "x", "xx"] {
        let text = base64(format!("{before}{secret}").as_bytes());
        spellings.push(text[4..24].to_owned());
        spellings.push(text[4..24].replace('+', "-").replace('/', "_"));
    }
    spellings.sort();
    spellings.dedup();
    spellings
}

pub(crate) fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut bits = [0; 3];
        bits[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, bits[0], bits[1], bits[2]]);
        for index in 0..=group.len() {
            let digit = bits >> (18 - 6 * index) & 63;
            text.push(char::from(DIGITS[digit as usize]));
        }
    }
    text
}

#[test]
fn a_planted_secret_is_found_in_every_spelling() {
    let secret = "fth_live_Pl4nted+Key/with=odd~letters";
    for text in [
        secret.to_owned(),
        secret[..20].to_owned(),
        secret[15..].to_owned(),
        percent_encoded(secret),
        percent_encoded(secret).to_lowercase(),
        secret.replace('/', "\\/"),
        base64(secret.as_bytes()),
        base64(format!("user:{secret}").as_bytes()),
        base64(format!("x-api-key: {secret}, and more").as_bytes()),
    ] {
        let mut search = Search::of(&[secret]);
        search.through("a log", &format!("before {text} after"));
        assert!(!search.found.is_empty(), "{text}");
    }
    assert_eq!(base64(b"Many hands"), "TWFueSBoYW5kcw");
}

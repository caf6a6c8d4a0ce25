//! Makes a body storable in place: jsonb refuses `\u0000` and lone surrogates, so both become U+FFFD.

/// A body whose forbidden escapes have been replaced, and where.
pub(super) struct StorableBody {
    bytes: Vec<u8>,
    /// Offsets of the replaced escapes, ascending.
    altered: Vec<usize>,
    /// Offsets of blanked secrets, ascending.
    blanked: Vec<usize>,
    /// The bytes before anything was blanked, where something was.
    received: Option<Vec<u8>>,
}

/// What is shorter may stand in an answer by chance.
const SHORTEST_SECRET: usize = 16;

const REPLACEMENT: &[u8; 6] = b"\\ufffd";

impl StorableBody {
    /// Takes the bytes of a JSON document. Offsets do not move: an escape and its replacement are equally long.
    pub(super) fn new(mut bytes: Vec<u8>) -> Self {
        let mut altered = Vec::new();
        let mut at = 0;
        while let Some(found) = memchr::memchr(b'\\', &bytes[at..]) {
            let start = at + found;
            at = match escape(&bytes[start..]) {
                Escape::Other(length) => start + length,
                Escape::Pair => start + 12,
                Escape::Forbidden => {
                    bytes[start..start + 6].copy_from_slice(REPLACEMENT);
                    altered.push(start);
                    start + 6
                }
            };
            if at >= bytes.len() {
                break;
            }
        }
        Self {
            bytes,
            altered,
            blanked: Vec::new(),
            received: None,
        }
    }

    /// Blanks a secret wherever it stands, letter by letter so that offsets do not move.
    pub(super) fn without(mut self, secret: &str) -> Self {
        if secret.len() >= SHORTEST_SECRET {
            self.blanked = memchr::memmem::find_iter(&self.bytes, secret).collect();
        }
        if !self.blanked.is_empty() {
            self.received = Some(self.bytes.clone());
        }
        for at in &self.blanked {
            self.bytes[*at..*at + secret.len()].fill(b'*');
        }
        self
    }

    /// Whether nothing was replaced and nothing blanked.
    pub(super) fn is_as_it_came(&self) -> bool {
        self.altered.is_empty() && self.blanked.is_empty()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The body for an excerpt, which blanks secrets itself, whatever their length.
    pub(super) fn received(&self) -> &[u8] {
        self.received.as_deref().unwrap_or(&self.bytes)
    }

    /// Whether anything was replaced in `part`, a slice of this body's own text.
    pub(super) fn is_altered(&self, part: &str) -> bool {
        self.has_any(&self.altered, part)
    }

    /// Whether a secret was blanked in `part`, a slice of this body's own text.
    pub(super) fn is_blanked(&self, part: &str) -> bool {
        self.has_any(&self.blanked, part)
    }

    fn has_any(&self, offsets: &[usize], part: &str) -> bool {
        if offsets.is_empty() {
            return false;
        }
        let start = (part.as_ptr() as usize).wrapping_sub(self.bytes.as_ptr() as usize);
        let first = offsets.partition_point(|at| *at < start);
        offsets
            .get(first)
            .is_some_and(|at| *at < start + part.len())
    }
}

enum Escape {
    /// Harmless, this many bytes long.
    Other(usize),
    /// A surrogate pair.
    Pair,
    Forbidden,
}

/// Classifies the escape at the start of `text`, which begins with a backslash.
fn escape(text: &[u8]) -> Escape {
    match code_unit(text) {
        None => Escape::Other(2),
        Some(0 | 0xDC00..=0xDFFF) => Escape::Forbidden,
        Some(0xD800..=0xDBFF) => match text.get(6..).and_then(code_unit) {
            Some(0xDC00..=0xDFFF) => Escape::Pair,
            _ => Escape::Forbidden,
        },
        Some(_) => Escape::Other(6),
    }
}

/// The code unit of a `\uXXXX` at the start of `text`.
fn code_unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, digit| {
        let value = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(value).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn made_storable(text: &str) -> String {
        String::from_utf8(StorableBody::new(text.into()).bytes).unwrap()
    }

    #[test]
    fn nul_and_lone_surrogates_become_the_replacement_character() {
        let table = [
            (r#""a\u0000b""#, r#""a\ufffdb""#),
            (r#""\ud800""#, r#""\ufffd""#),
            (r#""\udc00\ud800x""#, r#""\ufffd\ufffdx""#),
            (r#""\ud800\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
        ];
        for (from, to) in table {
            assert_eq!(made_storable(from), to);
        }
    }

    #[test]
    fn an_escaped_backslash_before_u0000_is_text_and_stays() {
        for text in [
            r#""\\u0000""#,
            r#""\\\\ud800""#,
            r#""\ud83d\ude00""#,
            r#""é\n""#,
            r"\",
            r"\u00",
        ] {
            assert_eq!(made_storable(text), text);
        }
    }

    #[test]
    fn an_alteration_is_found_where_it_is() {
        let body = StorableBody::new(br#"{"a":"x","b":"\u0000"}"#.to_vec());
        let text = std::str::from_utf8(body.bytes()).unwrap();
        assert!(!body.is_altered(&text[5..8]));
        assert!(body.is_altered(&text[13..21]));
    }

    #[test]
    fn a_secret_is_blanked_where_it_stands_and_nothing_moves() {
        let secret = "fth_live_0123456789";
        let text = format!(r#"{{"a":"x","b":"<{secret}>","c":"{secret}"}}"#);
        let body = StorableBody::new(text.clone().into()).without(secret);
        let blanked = std::str::from_utf8(body.bytes()).unwrap();
        assert_eq!(blanked, text.replace(secret, "*******************"));
        assert!(!body.is_blanked(&blanked[5..8]) && body.is_blanked(&blanked[13..35]));
        let short = StorableBody::new(br#"{"tools":"anything"}"#.to_vec()).without("anything");
        assert_eq!(short.bytes(), br#"{"tools":"anything"}"#);
    }

    proptest! {
        #[test]
        fn any_bytes_keep_their_length_and_every_json_string_becomes_readable(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            units in proptest::collection::vec(any::<u16>(), 0..8)
        ) {
            let length = bytes.len();
            prop_assert_eq!(StorableBody::new(bytes).bytes.len(), length);
            let text: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let storable = made_storable(&format!("\"{text}\""));
            let read: String = serde_json::from_str(&storable).unwrap();
            prop_assert!(!read.contains('\0'));
        }
    }
}

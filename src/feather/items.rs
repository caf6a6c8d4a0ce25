//! A JSON array of objects, cut into its items as its bytes arrive. What is between the braces is for others to judge.

/// Cuts one array.
pub(super) struct Cutter {
    /// Longest item that is kept, in bytes.
    limit: usize,
    place: Place,
    /// Braces and brackets that are open in the item.
    depth: usize,
    item: Vec<u8>,
    too_large: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Before,
    /// An item, or the end of an empty array.
    First,
    /// An item.
    Next,
    Item,
    Text,
    Escape,
    /// A comma, or the end.
    After,
    End,
}

/// What was cut off.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// An item, from brace to brace.
    Whole(Vec<u8>),
    /// One that is longer than the limit. Its bytes are gone.
    TooLarge,
}

impl Cutter {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            place: Place::Before,
            depth: 0,
            item: Vec::new(),
            too_large: false,
        }
    }

    /// Whether the array has ended.
    pub(super) fn is_done(&self) -> bool {
        self.place == Place::End
    }

    /// Goes on with the bytes that follow, up to the end of an item. Returns how many were used; all, where no item ends
    /// in them.
    ///
    /// # Errors
    /// What was found that no array of objects has.
    pub(super) fn cut(&mut self, bytes: &[u8]) -> Result<(usize, Option<Item>), String> {
        let mut begin = 0;
        let mut at = 0;
        while let Some(byte) = bytes.get(at).copied() {
            if self.place == Place::Text {
                match memchr::memchr2(b'"', b'\\', &bytes[at..]) {
                    None => break,
                    Some(found) => at += found,
                }
                self.place = match bytes[at] {
                    b'"' => Place::Item,
                    _ => Place::Escape,
                };
                at += 1;
                continue;
            }
            at += 1;
            self.place = match (self.place, byte) {
                (Place::Escape, _) => Place::Text,
                (Place::Item, b'"') => Place::Text,
                (Place::Item, b'{' | b'[') => {
                    self.depth += 1;
                    Place::Item
                }
                (Place::Item, b'}' | b']') if self.depth == 1 => {
                    self.keep(&bytes[begin..at]);
                    self.place = Place::After;
                    return Ok((at, Some(self.take())));
                }
                (Place::Item, b'}' | b']') => {
                    self.depth -= 1;
                    Place::Item
                }
                (Place::Item, _) => Place::Item,
                (place, b' ' | b'\n' | b'\r' | b'\t') => place,
                (Place::Before, b'[') => Place::First,
                (Place::First | Place::Next, b'{') => {
                    begin = at - 1;
                    self.depth = 1;
                    Place::Item
                }
                (Place::After, b',') => Place::Next,
                (Place::First | Place::After, b']') => Place::End,
                (place, byte) => {
                    let byte = byte.escape_ascii();
                    return Err(format!("{}, and there is `{byte}`", place.expects()));
                }
            };
        }
        if matches!(self.place, Place::Item | Place::Text | Place::Escape) {
            self.keep(&bytes[begin..]);
        }
        Ok((bytes.len(), None))
    }

    fn keep(&mut self, part: &[u8]) {
        if self.item.len() + part.len() > self.limit {
            self.too_large = true;
            self.item = Vec::new();
        }
        if !self.too_large {
            self.item.extend_from_slice(part);
        }
    }

    fn take(&mut self) -> Item {
        let bytes = std::mem::take(&mut self.item);
        match std::mem::take(&mut self.too_large) {
            true => Item::TooLarge,
            false => Item::Whole(bytes),
        }
    }
}

impl Place {
    fn expects(self) -> &'static str {
        match self {
            Self::Before => "a list is to begin with `[`",
            Self::First => "an object or `]` is to follow `[`",
            Self::Next => "an object is to follow a comma",
            Self::After => "a comma or `]` is to follow an item",
            Self::End => "nothing is to follow the list's `]`",
            Self::Item | Self::Text | Self::Escape => "anything may be in an item",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All items of a text that comes in pieces of this size, each as text, and whether the list ended.
    fn cut(text: &str, size: usize, limit: usize) -> Result<(Vec<String>, bool), String> {
        let mut cutter = Cutter::new(limit);
        let mut items = Vec::new();
        for mut piece in text.as_bytes().chunks(size) {
            while !piece.is_empty() {
                let (used, item) = cutter.cut(piece)?;
                piece = &piece[used..];
                items.extend(item.map(|item| match item {
                    Item::Whole(bytes) => String::from_utf8(bytes).unwrap(),
                    Item::TooLarge => "too large".to_owned(),
                }));
            }
        }
        Ok((items, cutter.is_done()))
    }

    #[test]
    fn items_are_cut_wherever_the_pieces_end() {
        let items = [
            r#"{}"#,
            r#"{"a":[1,{"b":"]}"}],"c":"\"}\\"}"#,
            r#"{"d":"é [ { \\\" \u005d"}"#,
        ];
        let text = format!(" [ {} ,\n{},{}\t] \r\n", items[0], items[1], items[2]);
        for size in 1..=text.len() {
            let expected = items.map(str::to_owned).to_vec();
            assert_eq!(cut(&text, size, 100), Ok((expected, true)), "{size}");
        }
        assert_eq!(cut("[]", 2, 10), Ok((Vec::new(), true)));
    }

    #[test]
    fn a_list_that_stops_early_has_not_ended() {
        for text in ["", "[", r#"[{"a":1}"#, r#"[{"a":1},"#, r#"[{"a":1},{"b"#] {
            let (items, done) = cut(text, 3, 100).unwrap();
            assert!(!done && items.len() <= 1, "{text}");
        }
    }

    #[test]
    fn what_is_no_array_of_objects_is_refused() {
        for text in [
            "{}", "null", "[1]", "[[]]", "[,{}]", "[{},]", "[{}{}]", "[{}]]", "[{}] x", "<html>",
        ] {
            assert!(cut(text, 2, 100).is_err(), "{text}");
        }
    }

    #[test]
    fn an_item_that_is_too_large_is_passed_over_and_its_bytes_are_not_kept() {
        let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(1000));
        let text = format!("[{large},{{}},{large}]");
        let expected = vec![
            "too large".to_owned(),
            "{}".to_owned(),
            "too large".to_owned(),
        ];
        for size in [1, 7, 5000] {
            assert_eq!(cut(&text, size, 100), Ok((expected.clone(), true)));
        }
        let mut cutter = Cutter::new(100);
        cutter.cut(&text.as_bytes()[..900]).unwrap();
        assert_eq!(cutter.item.capacity(), 0);
    }

    proptest! {
        #[test]
        fn any_json_objects_come_out_as_they_went_in(
            texts in proptest::collection::vec(any::<String>(), 0..6),
            size in 1usize..40,
        ) {
            let items: Vec<_> = texts
                .iter()
                .map(|text| serde_json::json!({ text: [text, {"n": text}] }).to_string())
                .collect();
            let text = format!("[{}]", items.join(","));
            prop_assert_eq!(cut(&text, size, 1 << 20), Ok((items, true)));
        }

        #[test]
        fn any_bytes_are_cut_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut cutter = Cutter::new(20);
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let Ok((used, _)) = cutter.cut(rest) else { break };
                prop_assert!(used > 0 && cutter.item.len() <= 20);
                rest = &rest[used..];
            }
        }
    }
}

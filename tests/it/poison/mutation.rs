//! What may have happened to a true answer on its way: a value put in the place of another, fields lost, doubled or
//! renamed, bytes cut or flipped. All of it follows from the seed.

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::ops::Range;

/// Values that one of the parsers, types or limits on the way may choke on.
const NASTY: &[&str] = &[
    "null",
    "true",
    "0",
    "-0",
    "-1",
    "1.0",
    "1e400",
    "-1e400",
    "1e131071",
    "1e131072",
    "1e-16383",
    "1e-16384",
    "1e99999999999999999999",
    "12345678901234567890123",
    "0.1234567890123456789012345678901234567890",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "1e3",
    "\"\"",
    "\" \"",
    "\"NaN\"",
    "\"Infinity\"",
    "\"null\"",
    r#""\u0000""#,
    r#""a\u0000b\u0000""#,
    r#""\ud800""#,
    r#""\udc00\ud800""#,
    r#""\ud83d\ude00""#,
    r#""\\u0000""#,
    r#""\\\u0000""#,
    "\"\u{ffff}\u{fdd0}\u{10ffff}\"",
    "\"\u{202e}\u{feff}\"",
    r#""{\"a\",NULL,\\\"}""#,
    r#""quote \" backslash \\ tab \t""#,
    "[]",
    "{}",
    "[[]]",
    "[null]",
    "[1,\"a\"]",
    r#"["",null]"#,
    r#"["{","}","\\","\"",",","NULL"," "]"#,
    r#"{"":{"":[]}}"#,
    r#"{"a":1,"a":2}"#,
    r#"{"\u0000":1,"\ufffd":2}"#,
    r#"{"a\ud800":1}"#,
    "\"00000000-0000-0000-0000-000000000000\"",
    "\"FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF\"",
    "\"{3c90c3cc-0d44-4b50-8888-8dd25736052a}\"",
    "\"urn:uuid:3c90c3cc-0d44-4b50-8888-8dd25736052a\"",
    "\"3c90c3cc0d444b5088888dd25736052a\"",
    "\"2026-01-01T00:00:00\"",
    "\"2026-01-01 00:00:00Z\"",
    "\"2016-12-31T23:59:60Z\"",
    "\"2016-12-31T23:59:60.999999999Z\"",
    "\"0000-01-01T00:00:00+23:59\"",
    "\"9999-12-31T23:59:59.9999999-23:59\"",
    "\"294276-12-31T23:59:59Z\"",
    "\"+294277-01-01T00:00:00Z\"",
    "\"-4713-01-01T00:00:00Z\"",
    "\"infinity\"",
    "\"2026-02-30T00:00:00Z\"",
    "\"2026-01-01t00:00:00.1234567z\"",
    "\"2026-01-01T24:00:00Z\"",
    "\"synced\"",
    "\"pending\"",
    "\"failed\"",
    "\"pending_oauth\"",
    "\"Ready\"",
];

/// A connection's answer and what it is changed by.
pub(crate) struct Mutation {
    random: StdRng,
}

impl Mutation {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
        }
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.random.random_range(0..limit.max(1))
    }

    /// The answer with one to three things done to it.
    pub(crate) fn of(&mut self, answer: &str) -> Vec<u8> {
        let mut bytes = answer.as_bytes().to_vec();
        for _ in 0..=self.below(3) {
            match self.below(20) {
                0 => self.garble(&mut bytes),
                1 => self.cut(&mut bytes),
                _ => self.change_node(&mut bytes),
            }
        }
        bytes
    }

    fn garble(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let at = self.below(bytes.len());
        match self.below(4) {
            0 => bytes[at] ^= 1 << self.below(8),
            1 => bytes.insert(at, self.random.random()),
            2 => bytes.insert(at, [0, b'\\', b'"', 0xff, b',', b'{'][self.below(6)]),
            _ => drop(bytes.remove(at)),
        }
    }

    fn cut(&mut self, bytes: &mut Vec<u8>) {
        let from = self.below(bytes.len());
        let most = [bytes.len(), 20][self.below(2)];
        let length = self.below(most);
        bytes.drain(from..(from + length).min(bytes.len()));
    }

    fn change_node(&mut self, bytes: &mut Vec<u8>) {
        let nodes = nodes(bytes);
        if nodes.is_empty() {
            return;
        }
        let node = nodes[self.below(nodes.len())].clone();
        match self.below(10) {
            0 => drop(bytes.drain(node.with_comma(bytes))),
            1 => {
                let mut copy = bytes[node.whole()].to_vec();
                copy.push(b',');
                bytes.splice(node.from..node.from, copy);
            }
            2 => {
                let other = nodes[self.below(nodes.len())].clone();
                let copy = bytes[other.value].to_vec();
                bytes.splice(node.value, copy);
            }
            3 if node.from < node.value.start => {
                let name = [r"\u0000", r"\ud800", "x", "", r"\u0069", "_"][self.below(6)];
                let after = node.from + 1;
                bytes.splice(after..after, name.bytes());
            }
            4 => {
                let huge = match self.below(4) {
                    0 => format!("\"{}\"", "x".repeat(100_000)),
                    1 => format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)),
                    2 => format!("{}1{}", "{\"a\":".repeat(300), "}".repeat(300)),
                    _ => format!("[{}\"\"]", "\"\\u0000\",".repeat(2_000)),
                };
                bytes.splice(node.value, huge.into_bytes());
            }
            _ => {
                let nasty = NASTY[self.below(NASTY.len())];
                bytes.splice(node.value, nasty.bytes());
            }
        }
    }
}

/// A value in a JSON text, with its name where it has one.
#[derive(Clone, Debug)]
struct Node {
    from: usize,
    value: Range<usize>,
}

impl Node {
    fn whole(&self) -> Range<usize> {
        self.from..self.value.end
    }

    fn with_comma(&self, bytes: &[u8]) -> Range<usize> {
        if bytes.get(self.value.end) == Some(&b',') {
            self.from..self.value.end + 1
        } else if self.from > 0 && bytes[self.from - 1] == b',' {
            self.from - 1..self.value.end
        } else {
            self.whole()
        }
    }
}

/// Every value in a text that is, or once was, JSON without white space.
fn nodes(bytes: &[u8]) -> Vec<Node> {
    let mut found = Vec::new();
    let mut open: Vec<(usize, usize)> = Vec::new();
    let (mut at, mut from) = (0, 0);
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'{' | b'[' => {
                open.push((from.min(at), at));
                at += 1;
                from = at;
                continue;
            }
            b'}' | b']' => {
                at += 1;
                if let Some((from, start)) = open.pop() {
                    found.push(Node {
                        from,
                        value: start..at,
                    });
                }
                continue;
            }
            b',' => {
                at += 1;
                from = at;
                continue;
            }
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(bytes.len());
                if bytes.get(at) == Some(&b':') {
                    from = start;
                    at += 1;
                    continue;
                }
            }
            _ => {
                while at < bytes.len() && !b",]}".contains(&bytes[at]) {
                    at += 1;
                }
            }
        }
        found.push(Node {
            from: from.min(start),
            value: start..at,
        });
    }
    found
}

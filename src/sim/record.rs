//! The record of all calls: what came, when, and how it ended.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fmt::Write as _;

use chrono::DateTime;
use chrono::SecondsFormat;
use chrono::Utc;
use serde::Serialize;
use serde::Serializer;
use sha2::Digest as _;
use sha2::Sha256;
use uuid::Uuid;

use super::clock::Micros;
use super::clock::SECOND;
use super::clock::date_time;

/// What a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// POST …/finalize.
    Finalize,
    /// GET of one connection.
    Poll,
    /// POST …/refresh-tools.
    Refresh,
    /// GET of all connections.
    List,
    /// GET of the integrations.
    Catalog,
    /// Anything else.
    Other,
}

/// One call to the simulated API.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Call {
    /// 1 for the first call ever.
    pub number: u64,
    /// When it arrived, on the simulator's clock.
    #[serde(serialize_with = "microseconds")]
    pub at: DateTime<Utc>,
    /// When it arrived, in milliseconds since the simulator started; never goes back.
    pub at_ms: u64,
    /// When it was answered or its connection ended, in milliseconds since the simulator started; `None` while in
    /// flight.
    pub ended_at_ms: Option<u64>,
    /// `GET`, `POST`, …
    pub method: String,
    /// The path, without a query.
    pub path: String,
    /// What it is about.
    pub kind: Kind,
    /// The connection, where the path names one.
    pub connection_id: Option<Uuid>,
    /// The answer's HTTP status; `None` while in flight, and where there was no answer.
    pub status: Option<u16>,
    /// The kind of fault that hit it.
    pub fault: Option<&'static str>,
    /// The first 8 hex digits of the API key's SHA-256, never the key.
    pub api_key: Option<String>,
    /// Whether another call for the same connection was in flight when this one arrived.
    pub in_flight_overlap: bool,
    /// The answer's `x-request-id`.
    pub request_id: String,
}

/// Counts over all calls since the start.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    /// All calls.
    pub calls: u64,
    /// By what they were about.
    pub by_kind: BTreeMap<Kind, u64>,
    /// By HTTP status; `none` where there was no answer.
    pub by_status: BTreeMap<String, u64>,
    /// By kind of fault.
    pub by_fault: BTreeMap<&'static str, u64>,
    /// Calls in flight now.
    pub in_flight: u64,
    /// The most calls ever in flight at once.
    pub max_in_flight: u64,
    /// The most calls that arrived within any 60 s.
    pub max_calls_in_60s: u64,
    /// Calls that arrived while another for the same connection was in flight.
    pub overlapping_calls: u64,
    /// Connections known.
    pub connections: u64,
}

/// The last calls one by one, and the counts over all of them.
#[derive(Debug)]
pub(super) struct Record {
    calls: VecDeque<Call>,
    keep: usize,
    last_minute: VecDeque<Micros>,
    by_status: BTreeMap<Option<u16>, u64>,
    stats: Stats,
}

impl Record {
    pub(super) fn new(keep: usize) -> Self {
        Self {
            calls: VecDeque::new(),
            keep,
            last_minute: VecDeque::new(),
            by_status: BTreeMap::new(),
            stats: Stats::default(),
        }
    }

    /// Notes an arrival; `call.number` and the times are given here.
    pub(super) fn arrive(&mut self, mut call: Call, since_start: Micros) -> u64 {
        self.stats.calls += 1;
        call.number = self.stats.calls;
        call.at_ms = millis(since_start);
        *self.stats.by_kind.entry(call.kind).or_default() += 1;
        self.stats.overlapping_calls += u64::from(call.in_flight_overlap);
        self.stats.in_flight += 1;
        self.stats.max_in_flight = self.stats.max_in_flight.max(self.stats.in_flight);
        while self
            .last_minute
            .front()
            .is_some_and(|at| since_start - at >= 60 * SECOND)
        {
            self.last_minute.pop_front();
        }
        self.last_minute.push_back(since_start);
        self.stats.max_calls_in_60s = self
            .stats
            .max_calls_in_60s
            .max(self.last_minute.len() as u64);
        if let Some(fault) = call.fault {
            *self.stats.by_fault.entry(fault).or_default() += 1;
        }
        self.calls.push_back(call);
        if self.calls.len() > self.keep {
            self.calls.pop_front();
        }
        self.stats.calls
    }

    /// The number that the next call will have.
    pub(super) fn next_number(&self) -> u64 {
        self.stats.calls + 1
    }

    /// Notes the answer, or that there was none.
    pub(super) fn end(&mut self, number: u64, status: Option<u16>, since_start: Micros) {
        self.stats.in_flight -= 1;
        *self.by_status.entry(status).or_default() += 1;
        if let Some(call) = self.kept(number) {
            call.status = status;
            call.ended_at_ms = Some(millis(since_start));
        }
    }

    fn kept(&mut self, number: u64) -> Option<&mut Call> {
        let first = self.calls.front()?.number;
        let place = usize::try_from(number.checked_sub(first)?).ok()?;
        self.calls.get_mut(place)
    }

    pub(super) fn calls(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter()
    }

    pub(super) fn stats(&self, connections: usize) -> Stats {
        let word = |status: &Option<u16>| {
            status.map_or_else(|| "none".to_owned(), |status| status.to_string())
        };
        Stats {
            by_status: self
                .by_status
                .iter()
                .map(|(status, count)| (word(status), *count))
                .collect(),
            connections: connections as u64,
            ..self.stats.clone()
        }
    }
}

fn millis(since_start: Micros) -> u64 {
    u64::try_from(since_start / 1000).unwrap_or(0)
}

/// Tells keys apart without showing them.
pub(super) fn fingerprint(key: &[u8]) -> String {
    Sha256::digest(key)
        .iter()
        .take(4)
        .fold(String::with_capacity(8), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

pub(super) fn new_call(at: Micros, method: String, path: String, kind: Kind) -> Call {
    Call {
        number: 0,
        at: date_time(at),
        at_ms: 0,
        ended_at_ms: None,
        method,
        path,
        kind,
        connection_id: None,
        status: None,
        fault: None,
        api_key: None,
        in_flight_overlap: false,
        request_id: String::new(),
    }
}

fn microseconds<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.to_rfc3339_opts(SecondsFormat::Micros, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(record: &mut Record, second: i64) -> u64 {
        let call = new_call(second * SECOND, "GET".into(), "/".into(), Kind::Poll);
        record.arrive(call, second * SECOND)
    }

    #[test]
    fn the_busiest_minute_is_found_wherever_it_lies() {
        let mut record = Record::new(10);
        for second in [0, 50, 55, 59, 61, 109, 200] {
            arrive(&mut record, second);
        }
        assert_eq!(record.stats(0).max_calls_in_60s, 5);
    }

    #[test]
    fn old_calls_are_forgotten_but_counted() {
        let mut record = Record::new(2);
        let numbers: Vec<u64> = (0..3).map(|second| arrive(&mut record, second)).collect();
        record.end(numbers[0], Some(200), 3 * SECOND);
        record.end(numbers[2], None, 4 * SECOND);
        let kept: Vec<_> = record
            .calls()
            .map(|call| (call.number, call.status))
            .collect();
        assert_eq!(kept, [(2, None), (3, None)]);
        let ended: Vec<_> = record.calls().map(|call| call.ended_at_ms).collect();
        assert_eq!(ended, [None, Some(4000)]);
        let stats = record.stats(0);
        assert_eq!(
            (stats.calls, stats.in_flight, stats.max_in_flight),
            (3, 1, 3)
        );
        assert_eq!(
            stats.by_status,
            BTreeMap::from([("200".into(), 1), ("none".into(), 1)])
        );
    }

    #[test]
    fn a_fingerprint_is_not_the_key() {
        assert_eq!(fingerprint(b"abc"), "ba7816bf");
    }
}

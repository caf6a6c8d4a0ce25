//! Everything the simulated upstream is made of, and the life of a call in it.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use axum::http::HeaderValue;
use axum::http::request;
use tokio::sync::watch;
use uuid::Uuid;

use super::chance::Chance;
use super::clock::Clock;
use super::fault::Fault;
use super::limiter::Limiter;
use super::record::Record;
use super::record::Stats;
use super::record::fingerprint;
use super::record::new_call;
use super::route::Route;
use super::rule::FaultRule;
use super::scenario::Limit;
use super::scenario::Scenario;
use super::world::Connection;
use super::world::World;

#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) scenario: Arc<Scenario>,
    pub(super) clock: Clock,
    pub(super) record: Mutex<Record>,
    pub(super) keys: Mutex<Option<Vec<String>>>,
    /// How many gates are closed.
    pub(super) held: watch::Sender<usize>,
    /// How many calls have arrived.
    pub(super) arrived: watch::Sender<u64>,
    world: Mutex<World>,
    rules: Mutex<Rules>,
    limiter: Mutex<Option<Limiter>>,
}

#[derive(Debug, Clone)]
struct Rules {
    list: Arc<[FaultRule]>,
    /// Moves with each replacement, so that `times` counts anew.
    edition: u64,
}

/// What the front door says to a call.
pub(super) enum Verdict {
    Unauthorized,
    Limited(Limit),
    Welcome(Option<Fault>),
}

/// A call in flight. Dropped without [`Ticket::end`], it is on record as unanswered.
pub(super) struct Ticket {
    upstream: Arc<Upstream>,
    route: Route,
    number: u64,
    welcome: bool,
    answered: Option<u16>,
    pub(super) request_id: String,
    pub(super) key: Option<HeaderValue>,
}

/// A poisoned lock only means that a test panicked while it held one; the data is whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Upstream {
    pub(super) fn new(scenario: Scenario) -> Self {
        let scenario = Arc::new(scenario);
        Self {
            clock: Clock::new(),
            record: Mutex::new(Record::new(scenario.keep_calls)),
            keys: Mutex::new(scenario.api_keys.clone()),
            held: watch::Sender::new(0),
            arrived: watch::Sender::new(0),
            world: Mutex::new(World::new(Arc::clone(&scenario))),
            rules: Mutex::new(Rules {
                list: scenario.faults.clone().into(),
                edition: 0,
            }),
            limiter: Mutex::new(scenario.limit.clone().map(Limiter::new)),
            scenario,
        }
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    pub(super) fn set_rules(&self, list: Vec<FaultRule>) {
        let mut rules = lock(&self.rules);
        rules.list = list.into();
        rules.edition += 1;
    }

    pub(super) fn set_limit(&self, limit: Option<Limit>) {
        *lock(&self.limiter) = limit.map(Limiter::new);
    }

    pub(super) fn stats(&self) -> Stats {
        let connections = self.world().len();
        lock(&self.record).stats(connections)
    }

    pub(super) fn accepts(&self, key: Option<&HeaderValue>) -> bool {
        let Some(key) = key.map(HeaderValue::as_bytes).filter(|key| !key.is_empty()) else {
            return false;
        };
        lock(&self.keys)
            .as_ref()
            .is_none_or(|keys| keys.iter().any(|known| known.as_bytes() == key))
    }

    /// Puts a call on record, and decides what is to go wrong with it.
    pub(super) fn arrive(
        self: &Arc<Self>,
        request: &request::Parts,
        route: Route,
    ) -> (Ticket, Verdict) {
        let key = request.headers.get("x-api-key").cloned();
        let since_start = self.clock.since_start();
        let welcome = self.accepts(key.as_ref());
        let limit = match &mut *lock(&self.limiter) {
            Some(limiter) if welcome => limiter.admit(since_start).err(),
            _ => None,
        };
        let id = route.id();
        let mut call = new_call(
            self.clock.now(),
            request.method.to_string(),
            request.uri.path().to_owned(),
            route.kind(),
        );
        let mut fault = None;
        if welcome {
            let rules = lock(&self.rules).clone();
            let mut world = self.world();
            let callee = world.callee(id);
            call.in_flight_overlap = id.is_some() && callee.in_flight > 0;
            callee.in_flight += 1;
            if limit.is_none() && route.is_served() {
                callee.calls += 1;
                fault = self.choose_fault(callee, &rules, &route);
            }
        }
        call.connection_id = id;
        call.fault = match &limit {
            Some(_) => Some("rate_limited"),
            None => fault.as_ref().map(Fault::kind),
        };
        call.api_key = key.as_ref().map(|key| fingerprint(key.as_bytes()));
        let mut record = lock(&self.record);
        let request_id = self.request_id(record.next_number());
        call.request_id.clone_from(&request_id);
        let number = record.arrive(call, since_start);
        drop(record);
        self.arrived.send_replace(number);
        let ticket = Ticket {
            upstream: Arc::clone(self),
            route,
            number,
            welcome,
            answered: None,
            request_id,
            key,
        };
        let verdict = match (welcome, limit) {
            (false, _) => Verdict::Unauthorized,
            (true, Some(limit)) => Verdict::Limited(limit),
            (true, None) => Verdict::Welcome(fault),
        };
        (ticket, verdict)
    }

    fn request_id(&self, number: u64) -> String {
        let number = Chance::new(self.scenario.seed, Uuid::nil(), "request", number).number();
        format!("req_{number:016x}")
    }

    fn choose_fault(&self, callee: &mut Connection, rules: &Rules, route: &Route) -> Option<Fault> {
        if route.id().is_some()
            && let Some(fault) = callee.script.pop_front()
        {
            return Some(fault).filter(|fault| *fault != Fault::None);
        }
        if callee.fired_in != rules.edition {
            callee.fired_in = rules.edition;
            callee.fired.clear();
        }
        let id = route.id().unwrap_or_default();
        for (place, rule) in rules.list.iter().enumerate() {
            if !rule.matches(route.kind(), id) {
                continue;
            }
            if let Some(times) = rule.times {
                callee.fired.resize(rules.list.len(), 0);
                if callee.fired[place] >= times {
                    continue;
                }
            }
            if rule.fires(self.scenario.seed, id, callee.calls, place) {
                if rule.times.is_some() {
                    callee.fired[place] += 1;
                }
                return Some(rule.fault.clone()).filter(|fault| *fault != Fault::None);
            }
        }
        let waiting = route.id().is_some() && callee.calls <= self.scenario.not_active;
        waiting.then_some(Fault::NotActive)
    }

    /// Waits for open gates, then for as long as the scenario's latency says.
    pub(super) async fn delay(&self, ticket: &Ticket) {
        if *self.held.borrow() > 0 {
            let mut held = self.held.subscribe();
            // An error would mean that the sender, a part of this very object, is gone.
            let _ = held.wait_for(|closed| *closed == 0).await;
        }
        let id = ticket.route.id().unwrap_or_default();
        let mut chance = Chance::new(self.scenario.seed, id, "latency", ticket.number);
        let latency = self.scenario.latency.choose(&mut chance);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
    }
}

impl Ticket {
    /// The answer that the record will show, from now on or once the ticket is dropped.
    pub(super) fn end(mut self, status: u16) {
        self.answered = Some(status);
    }

    /// As [`Ticket::end`], but the call stays in flight until the ticket is dropped.
    pub(super) fn answering(mut self, status: u16) -> Self {
        self.answered = Some(status);
        self
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.welcome {
            let mut world = self.upstream.world();
            let callee = world.callee(self.route.id());
            callee.in_flight = callee.in_flight.saturating_sub(1);
        }
        let since_start = self.upstream.clock.since_start();
        lock(&self.upstream.record).end(self.number, self.answered, since_start);
    }
}

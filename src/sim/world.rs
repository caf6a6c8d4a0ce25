//! What the simulated upstream knows: its connections and how calls change them.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

use uuid::Uuid;

use super::chance::Chance;
use super::clock::Micros;
use super::clock::SECOND;
use super::clock::micros;
use super::document::Nature;
use super::document::Overrides;
use super::document::created_at;
use super::fault::Fault;
use super::scenario::Scenario;
use super::scenario::Seen;
use super::scenario::SyncedAt;

/// All connections that anybody has asked for or that the scenario names.
#[derive(Debug)]
pub(super) struct World {
    scenario: Arc<Scenario>,
    connections: HashMap<Uuid, Connection>,
    /// Stands in for the connection in calls that are about none.
    lists: Connection,
}

/// A connection, and what the simulator keeps about the calls for it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) content: Content,
    pub(super) deleted: bool,
    pub(super) calls: u32,
    pub(super) in_flight: u32,
    pub(super) script: VecDeque<Fault>,
    /// How often each rule has fired, and in which set of rules.
    pub(super) fired: Vec<u32>,
    pub(super) fired_in: u64,
}

/// What a connection is, upstream. Cheap to clone, so that documents are written outside the lock.
#[derive(Debug, Clone)]
pub(super) struct Content {
    active: bool,
    /// OAuth has finished, though nobody has finalized it.
    authorized: bool,
    /// Whether an answer has shown it. One that nobody has seen counts as created just before its
    /// first finalize, any other as settled long ago.
    seen: bool,
    finalizes: u32,
    finalized_at: Option<Micros>,
    connected_at: Option<Micros>,
    synced_at: Option<Micros>,
    /// `tools_synced_at` as shown until the tools have settled.
    before: Option<Micros>,
    settled_at: Micros,
    pub(super) updated_at: Micros,
    /// `None`: as many as the scenario says, untouched.
    tools: Option<Arc<Vec<Tool>>>,
    pub(super) overrides: Option<Arc<Overrides>>,
}

/// A tool; its texts come from the connection's id and the index.
#[derive(Debug, Clone, Default)]
pub(super) struct Tool {
    pub(super) index: u32,
    pub(super) revision: u32,
    pub(super) changed_at: Option<Micros>,
    pub(super) overrides: Option<Arc<Overrides>>,
}

/// How a connection looks at a moment.
pub(super) struct Shown {
    /// The status is the connection's own, not the view's.
    pub(super) own_status: bool,
    pub(super) settled: bool,
    pub(super) status: &'static str,
    pub(super) tools_status: &'static str,
    pub(super) tools_synced_at: Option<Micros>,
    pub(super) connected_at: Option<Micros>,
    pub(super) updated_at: Micros,
    pub(super) seen_at: Option<Micros>,
    pub(super) tools: Vec<Tool>,
}

/// From which side a connection is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// As the API answers at that time.
    At(Micros),
    /// As it will be once the tools have settled.
    Settled,
    /// As though the tools were being synced.
    Settling,
    /// As though OAuth were not finished.
    NotActive,
}

impl World {
    pub(super) fn new(scenario: Arc<Scenario>) -> Self {
        let connections = scenario
            .connection_ids()
            .map(|id| {
                let mut content = Content::new(&scenario, id);
                content.seen = true;
                (id, Connection::new(content))
            })
            .collect();
        let lists = Connection::new(Content::new(&scenario, Uuid::nil()));
        Self {
            scenario,
            connections,
            lists,
        }
    }

    /// What is kept about the calls for a connection, or about those for none.
    pub(super) fn callee(&mut self, id: Option<Uuid>) -> &mut Connection {
        match id {
            None => &mut self.lists,
            Some(id) => self.known(id),
        }
    }

    /// The connection; one not heard of before has existed all along.
    pub(super) fn known(&mut self, id: Uuid) -> &mut Connection {
        self.connections
            .entry(id)
            .or_insert_with(|| Connection::new(Content::new(&self.scenario, id)))
    }

    /// The content of a connection without making it known; `None` once deleted.
    pub(super) fn peek(&self, id: Uuid) -> Option<Content> {
        match self.connections.get(&id) {
            None => Some(Content::new(&self.scenario, id)),
            Some(connection) if connection.deleted => None,
            Some(connection) => Some(connection.content.clone()),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Those that are not deleted, in order of their ids.
    pub(super) fn list(&mut self) -> Vec<(Uuid, Content)> {
        let mut list: Vec<(Uuid, Content)> = self
            .connections
            .iter_mut()
            .filter(|(_, connection)| !connection.deleted)
            .map(|(id, connection)| {
                connection.content.seen = true;
                (*id, connection.content.clone())
            })
            .collect();
        list.sort_unstable_by_key(|(id, _)| *id);
        list
    }
}

impl Connection {
    fn new(content: Content) -> Self {
        Self {
            content,
            deleted: false,
            calls: 0,
            in_flight: 0,
            script: VecDeque::new(),
            fired: Vec::new(),
            fired_in: 0,
        }
    }
}

impl Content {
    /// Finalized and settled long ago, unless it is one of the pending ones.
    fn new(scenario: &Scenario, id: Uuid) -> Self {
        let created_at = created_at(scenario.seed, id);
        let happens = |what, share| Chance::new(scenario.seed, id, what, 0).happens(share);
        let authorized = happens("authorized", scenario.authorized);
        let active = !authorized && !happens("pending", scenario.pending);
        let day = Some(created_at + 86_400 * SECOND);
        let synced_at = day.map(|day| day + 2 * SECOND);
        Self {
            active,
            authorized,
            seen: false,
            finalizes: 0,
            finalized_at: day.filter(|_| active),
            connected_at: day.filter(|_| active),
            synced_at: synced_at.filter(|_| active),
            before: None,
            settled_at: Micros::MIN,
            updated_at: synced_at.filter(|_| active).unwrap_or(created_at),
            tools: None,
            overrides: None,
        }
    }

    /// Shows it to somebody.
    pub(super) fn see(&mut self) {
        self.seen = true;
    }

    /// As its document says, edited or not.
    pub(super) fn is_active(&self) -> bool {
        let edited = self.overrides.as_ref().and_then(|all| all.get("status"));
        edited.map_or(self.active, |status| {
            status.as_deref() == Some("\"active\"")
        })
    }

    /// What finalize does: activates the connection and starts a tool sync.
    pub(super) fn finalize(&mut self, scenario: &Scenario, id: Uuid, now: Micros) {
        if !self.seen {
            self.seen = true;
            self.connected_at = None;
            self.synced_at = None;
        }
        self.active = true;
        if self.connected_at.is_none() {
            self.connected_at = Some(now);
        }
        self.finalizes += 1;
        if self.finalizes > 1 {
            self.churn(scenario, id, now);
        }
        self.sync_tools(scenario, id, now);
    }

    /// What refresh-tools does, and finalize too.
    pub(super) fn sync_tools(&mut self, scenario: &Scenario, id: Uuid, now: Micros) {
        let settled = now >= self.settled_at;
        if settled {
            self.before = self.synced_at;
        }
        let settle = scenario
            .settle
            .choose(&mut Chance::new(scenario.seed, id, "settle", 0));
        self.finalized_at = Some(now);
        self.settled_at = now + micros(settle);
        if scenario.tools_synced_at == SyncedAt::Moving || self.synced_at.is_none() {
            let least = self.synced_at.map_or(Micros::MIN, |before| before + 1);
            self.synced_at = Some(self.settled_at.max(least));
            self.touch(now);
        }
    }

    /// Moves `updated_at` strictly forward.
    pub(super) fn touch(&mut self, now: Micros) {
        let shown = match self.synced_at {
            Some(synced_at) if now >= self.settled_at => self.updated_at.max(synced_at),
            _ => self.updated_at,
        };
        self.updated_at = now.max(shown + 1);
    }

    fn churn(&mut self, scenario: &Scenario, id: Uuid, now: Micros) {
        let mut chance = Chance::new(scenario.seed, id, "churn", u64::from(self.finalizes));
        if !chance.happens(scenario.churn) {
            return;
        }
        let mut tools = self.all_tools(scenario, id);
        let change = if tools.is_empty() { 0 } else { chance.below(3) };
        match change {
            0 => tools.push(Tool {
                index: next_index(&tools),
                changed_at: Some(now),
                ..Tool::default()
            }),
            1 => {
                tools.remove(chance.index(tools.len()));
            }
            _ => {
                let n = chance.index(tools.len());
                tools[n].revision += 1;
                tools[n].changed_at = Some(now);
            }
        }
        self.tools = Some(Arc::new(tools));
        self.touch(now);
    }

    pub(super) fn all_tools(&self, scenario: &Scenario, id: Uuid) -> Vec<Tool> {
        if let Some(tools) = &self.tools {
            return tools.to_vec();
        }
        let number = scenario
            .tools
            .choose(&mut Chance::new(scenario.seed, id, "tools", 0));
        (0..number)
            .map(|index| Tool {
                index,
                ..Tool::default()
            })
            .collect()
    }

    pub(super) fn set_tools(&mut self, tools: Vec<Tool>) {
        self.tools = Some(Arc::new(tools));
    }

    fn shown(&self, scenario: &Scenario, id: Uuid, view: View) -> Shown {
        let active = self.active && view != View::NotActive;
        let settled = match view {
            View::At(now) => now >= self.settled_at,
            View::Settled => true,
            View::Settling | View::NotActive => false,
        };
        let mut tools = if active {
            self.all_tools(scenario, id)
        } else {
            Vec::new()
        };
        if !settled {
            let part = Chance::new(scenario.seed, id, "part", 0).index(tools.len());
            tools.truncate(part);
        }
        let synced_at = if settled { self.synced_at } else { self.before };
        Shown {
            own_status: active || !self.active,
            settled,
            status: match view {
                _ if active => "active",
                View::NotActive => "pending_oauth",
                _ if self.authorized => "authorized",
                _ => "pending_oauth",
            },
            tools_status: match (active, settled) {
                (false, _) => "pending",
                (true, false) => "syncing",
                (true, true) => "synced",
            },
            tools_synced_at: synced_at.filter(|_| active),
            connected_at: self.connected_at.filter(|_| active),
            updated_at: match synced_at {
                Some(synced_at) if settled => self.updated_at.max(synced_at),
                _ => self.updated_at,
            },
            seen_at: match scenario.last_seen_at {
                Seen::Moving => self.finalized_at,
                Seen::Fixed => None,
            },
            tools,
        }
    }

    /// The ConnectionResponse, as JSON text.
    pub(super) fn document(&self, scenario: &Scenario, id: Uuid, view: View) -> String {
        Nature::of(scenario.seed, id).write(self, &self.shown(scenario, id, view))
    }
}

/// An index that none of these has. That of a tool dropped from the end comes back, as tools do.
pub(super) fn next_index(tools: &[Tool]) -> u32 {
    tools.iter().map(|tool| tool.index + 1).max().unwrap_or(0)
}

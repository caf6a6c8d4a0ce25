//! The invariants by name: what each promises, and what to do when it is broken.

/// What must hold in the stored state at any moment, whatever is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the promises say it")]
pub enum Invariant {
    SchemaIsWhole,
    JobsAreCoherent,
    LeasesEnd,
    TokensAreUnique,
    AttemptsAreRecorded,
    DeadJobsSayWhy,
    SettlingJobsAreStored,
    NothingIsLost,
    LastWordsAreCoherent,
    HistoryEndsWithTheLastWord,
    SuccessesAreStored,
    AttemptsAreCoherent,
    FinalizedConnectionsAreRecorded,
    ConnectionTimesAreOrdered,
    ToolsHaveConnections,
    ToolTimesAreOrdered,
    EventsHaveConnections,
    AccountsAreCoherent,
    SessionsAreBrief,
    LocksAreBrief,
}

/// What an invariant is read from. Tables are walked a few pages at a time, so that no statement lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// One statement: catalogs, or what is small however large the rest is.
    Once,
    Jobs,
    Results,
    Attempts,
    Connections,
    Tools,
    Events,
}

impl Invariant {
    /// Every invariant, in the order in which they are reported.
    pub const ALL: [Self; 20] = [
        Self::SchemaIsWhole,
        Self::JobsAreCoherent,
        Self::LeasesEnd,
        Self::TokensAreUnique,
        Self::AttemptsAreRecorded,
        Self::DeadJobsSayWhy,
        Self::SettlingJobsAreStored,
        Self::NothingIsLost,
        Self::LastWordsAreCoherent,
        Self::HistoryEndsWithTheLastWord,
        Self::SuccessesAreStored,
        Self::AttemptsAreCoherent,
        Self::FinalizedConnectionsAreRecorded,
        Self::ConnectionTimesAreOrdered,
        Self::ToolsHaveConnections,
        Self::ToolTimesAreOrdered,
        Self::EventsHaveConnections,
        Self::AccountsAreCoherent,
        Self::SessionsAreBrief,
        Self::LocksAreBrief,
    ];

    /// Its name, as printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::SchemaIsWhole => "schema_is_whole",
            Self::JobsAreCoherent => "jobs_are_coherent",
            Self::LeasesEnd => "leases_end",
            Self::TokensAreUnique => "tokens_are_unique",
            Self::AttemptsAreRecorded => "attempts_are_recorded",
            Self::DeadJobsSayWhy => "dead_jobs_say_why",
            Self::SettlingJobsAreStored => "settling_jobs_are_stored",
            Self::NothingIsLost => "nothing_is_lost",
            Self::LastWordsAreCoherent => "last_words_are_coherent",
            Self::HistoryEndsWithTheLastWord => "history_ends_with_the_last_word",
            Self::SuccessesAreStored => "successes_are_stored",
            Self::AttemptsAreCoherent => "attempts_are_coherent",
            Self::FinalizedConnectionsAreRecorded => "finalized_connections_are_recorded",
            Self::ConnectionTimesAreOrdered => "connection_times_are_ordered",
            Self::ToolsHaveConnections => "tools_have_connections",
            Self::ToolTimesAreOrdered => "tool_times_are_ordered",
            Self::EventsHaveConnections => "events_have_connections",
            Self::AccountsAreCoherent => "accounts_are_coherent",
            Self::SessionsAreBrief => "sessions_are_brief",
            Self::LocksAreBrief => "locks_are_brief",
        }
    }

    /// What it promises, in one sentence.
    pub fn promise(self) -> &'static str {
        match self {
            Self::SchemaIsWhole => "Every constraint and index of the schema is there and valid.",
            Self::JobsAreCoherent => {
                "A job's columns agree with its state: running means leased, settling has a deadline, dead has a class."
            }
            Self::LeasesEnd => "No lease ran out long ago and was not ended.",
            Self::TokensAreUnique => "No two running jobs hold one lease token.",
            Self::AttemptsAreRecorded => {
                "Every attempt that a job counts is in the history, as far as the history is kept."
            }
            Self::DeadJobsSayWhy => {
                "The last word on a dead job's connection is that death, with its class."
            }
            Self::SettlingJobsAreStored => {
                "What a settling job waits for was finalized, or listed, and is stored."
            }
            Self::NothingIsLost => {
                "Whatever did not end synced, cancelled or forgotten still has its job."
            }
            Self::LastWordsAreCoherent => {
                "A last word agrees with itself: a failure has a class, a success its times, and none is of the future."
            }
            Self::HistoryEndsWithTheLastWord => {
                "The newest attempt in a connection's history is the last word on it."
            }
            Self::SuccessesAreStored => "A connection that was synced is stored.",
            Self::AttemptsAreCoherent => {
                "An attempt's columns agree with its outcome: failures have a class, what goes on has its next time."
            }
            Self::FinalizedConnectionsAreRecorded => "A finalized connection has a last word.",
            Self::ConnectionTimesAreOrdered => {
                "No connection was changed, checked, finalized or removed before it was first seen, or in the future."
            }
            Self::ToolsHaveConnections => "No tool is without its connection.",
            Self::ToolTimesAreOrdered => {
                "No tool was changed or removed before it was first seen, or in the future."
            }
            Self::EventsHaveConnections => {
                "The change feed tells of no connection of which nothing else is known."
            }
            Self::AccountsAreCoherent => {
                "An account's pauses are whole, its budget is a number, and `default` is there."
            }
            Self::SessionsAreBrief => "No session of feather-sync sits idle in a transaction.",
            Self::LocksAreBrief => {
                "No lock for taking in, counting, lists and forget, partitions or the change feed is held longer than a statement may last."
            }
        }
    }

    /// What to do when it is broken.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::SchemaIsWhole => {
                "Somebody changed the schema. Make a missing constraint or index as the migrations do, VALIDATE \
                 CONSTRAINT or REINDEX what is not valid"
            }
            Self::LeasesEnd => {
                "Any running replica ends leases within 5 seconds of their end. If none runs, start one; if one does, \
                 its log says why it cannot"
            }
            Self::NothingIsLost => {
                "Nothing will happen to these by itself: enqueue them. A job that was deleted by hand leaves such a \
                 row; take jobs out with `cancel`"
            }
            Self::DeadJobsSayWhy | Self::SettlingJobsAreStored | Self::TokensAreUnique => {
                "Enqueue these connections: a fresh finalize puts it right. Then report it"
            }
            Self::AttemptsAreRecorded | Self::HistoryEndsWithTheLastWord => {
                "Rows of sync_attempts are missing. Was the history changed by hand, or restored from an older backup? \
                 Nothing depends on it; else report it"
            }
            Self::SuccessesAreStored | Self::ToolsHaveConnections => {
                "Enqueue these connections to store them anew, or erase what is left with `forget`. Was a row deleted \
                 by hand?"
            }
            Self::EventsHaveConnections => {
                "Was one forgotten by an older feather-sync, or a row deleted by hand? `forget` erases what is left"
            }
            Self::ConnectionTimesAreOrdered | Self::ToolTimesAreOrdered => {
                "Did the database's clock go back, or a failover lead to a server whose clock is behind? Then it heals \
                 as the clock catches up; mend time synchronization"
            }
            Self::FinalizedConnectionsAreRecorded => {
                "Enqueue these connections: the next sync leaves its last word. Was a row deleted by hand?"
            }
            Self::JobsAreCoherent
            | Self::LastWordsAreCoherent
            | Self::AttemptsAreCoherent
            | Self::AccountsAreCoherent => {
                "feather-sync writes no such row. Was it changed by hand, or did the database's clock go back? Else \
                 keep the row and report it"
            }
            Self::SessionsAreBrief | Self::LocksAreBrief => {
                "End the session with pg_terminate_backend(pid). Behind a transaction pooler set \
                 idle_in_transaction_session_timeout and statement_timeout for the daemon's user"
            }
        }
    }

    pub(super) fn source(self) -> Source {
        match self {
            Self::SchemaIsWhole
            | Self::LeasesEnd
            | Self::TokensAreUnique
            | Self::AccountsAreCoherent
            | Self::SessionsAreBrief
            | Self::LocksAreBrief => Source::Once,
            Self::JobsAreCoherent
            | Self::AttemptsAreRecorded
            | Self::DeadJobsSayWhy
            | Self::SettlingJobsAreStored => Source::Jobs,
            Self::NothingIsLost
            | Self::LastWordsAreCoherent
            | Self::HistoryEndsWithTheLastWord
            | Self::SuccessesAreStored => Source::Results,
            Self::AttemptsAreCoherent => Source::Attempts,
            Self::FinalizedConnectionsAreRecorded | Self::ConnectionTimesAreOrdered => {
                Source::Connections
            }
            Self::ToolsHaveConnections | Self::ToolTimesAreOrdered => Source::Tools,
            Self::EventsHaveConnections => Source::Events,
        }
    }
}

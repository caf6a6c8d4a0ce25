//! Cuts connections where their client sends a pattern: when, and how often.

use std::collections::VecDeque;

/// When a trap cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The server never gets the pattern.
    BeforeServer,
    /// The server gets it and answers, and the client never hears of it.
    BeforeAnswer,
}

/// The traps that are set, the oldest first.
#[derive(Default)]
pub(super) struct Traps(VecDeque<Trap>);

struct Trap {
    pattern: Vec<u8>,
    moment: Moment,
    /// How many connections it cuts before it is used up.
    times: u32,
}

impl Traps {
    pub(super) fn set(&mut self, pattern: &[u8], moment: Moment, times: u32) {
        self.0.push_back(Trap {
            pattern: pattern.to_vec(),
            moment,
            times,
        });
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Springs the oldest trap whose pattern is in `seen`, and forgets what no pattern can begin in.
    pub(super) fn spring(&mut self, seen: &mut Vec<u8>) -> Option<Moment> {
        let longest = self.0.iter().map(|trap| trap.pattern.len()).max();
        let sprung = self.0.iter().position(|trap| {
            let mut windows = seen.windows(trap.pattern.len());
            windows.any(|window| window == trap.pattern)
        });
        let moment = sprung.map(|place| {
            let trap = &mut self.0[place];
            let moment = trap.moment;
            trap.times -= 1;
            if trap.times == 0 {
                self.0.remove(place);
            }
            moment
        });
        let kept = longest.unwrap_or(1) - 1;
        seen.drain(..seen.len().saturating_sub(kept));
        moment
    }
}

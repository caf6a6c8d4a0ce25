//! What to do about a write-back that failed: a decision without I/O.

use crate::store::StoreError;
use std::time::Duration;

/// What nobody has heard of may pass; so often, alone, it is the row's fault.
const UNKNOWN_TRIES: u32 = 3;
/// So much weight of cut-off statements, alone, is the row's fault. One that has used up its time weighs more than one
/// that somebody may have cancelled: twice is enough.
const CUT_OFF_WEIGHT: u32 = 8;
const USED_UP_WEIGHT: u32 = 4;
const USED_UP: Duration = Duration::from_secs(20);

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The same again, after a while.
    Again,
    /// The halves apart: whoever is at fault does not hold up the others.
    Halve,
    /// The largest apart from the others: likely it is what takes so long.
    PartLargest,
    /// The row is at fault, for this reason.
    Blame(String),
    /// Somebody else holds the row, for longer than the others can wait.
    Leave,
}

/// The failures of one part so far.
#[derive(Default)]
pub(super) struct Refusals {
    unknown: u32,
    cut_off: u32,
}

impl Refusals {
    /// After one more failure of a part of `rows`, which came after `took`. Splitting is trying again, and comes to an
    /// end.
    pub(super) fn judge(&mut self, error: &StoreError, rows: usize, took: Duration) -> Step {
        match error {
            StoreError::CutOff(_) if rows > 1 => Step::PartLargest,
            StoreError::Data(_) | StoreError::Other(_) | StoreError::RowLocked(_) if rows > 1 => {
                Step::Halve
            }
            StoreError::Data(why) => Step::Blame(why.clone()),
            StoreError::RowLocked(_) => Step::Leave,
            StoreError::Other(why) => {
                self.unknown += 1;
                blame_if(self.unknown > UNKNOWN_TRIES, why)
            }
            StoreError::CutOff(why) => {
                self.cut_off += if took < USED_UP { 1 } else { USED_UP_WEIGHT };
                blame_if(self.cut_off >= CUT_OFF_WEIGHT, why)
            }
            StoreError::Unavailable(_)
            | StoreError::ReadOnly(_)
            | StoreError::Timeout(_)
            | StoreError::Login(_)
            | StoreError::NoDatabase(_)
            | StoreError::Schema(_)
            | StoreError::Privilege(_)
            | StoreError::Conflict(_)
            | StoreError::Url(_) => Step::Again,
        }
    }
}

fn blame_if(at_fault: bool, why: &str) -> Step {
    if at_fault {
        Step::Blame(why.to_owned())
    } else {
        Step::Again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(5);
    const LONG: Duration = Duration::from_secs(30);

    /// The steps of a part of `rows` that fails like this over and over, up to the end.
    fn steps(error: &StoreError, rows: usize, took: Duration) -> (usize, Step) {
        let mut refusals = Refusals::default();
        (1..=20)
            .map(|tries| (tries, refusals.judge(error, rows, took)))
            .find(|(_, step)| *step != Step::Again)
            .unwrap_or((20, Step::Again))
    }

    #[test]
    fn every_failure_leads_to_its_step_after_so_many_tries() {
        let why = || String::from("why");
        let blame = Step::Blame(why());
        let table = [
            (StoreError::Data(why()), 9, QUICK, (1, Step::Halve)),
            (StoreError::Data(why()), 1, QUICK, (1, blame.clone())),
            (StoreError::Other(why()), 2, QUICK, (1, Step::Halve)),
            (StoreError::Other(why()), 1, QUICK, (4, blame.clone())),
            (StoreError::CutOff(why()), 2, LONG, (1, Step::PartLargest)),
            (StoreError::CutOff(why()), 1, LONG, (2, blame.clone())),
            (StoreError::CutOff(why()), 1, QUICK, (8, blame)),
            (StoreError::RowLocked(why()), 2, LONG, (1, Step::Halve)),
            (StoreError::RowLocked(why()), 1, LONG, (1, Step::Leave)),
            (StoreError::Conflict(why()), 9, LONG, (20, Step::Again)),
            (StoreError::Unavailable(why()), 1, LONG, (20, Step::Again)),
            (StoreError::Timeout(LONG), 1, LONG, (20, Step::Again)),
        ];
        for (error, rows, took, expected) in table {
            assert_eq!(steps(&error, rows, took), expected, "{error} of {rows}");
        }
    }
}

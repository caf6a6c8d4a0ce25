//! How far long work is: a bar on a terminal, plain lines elsewhere, on stderr either way.

use std::io;
use std::io::IsTerminal;

use indicatif::ProgressBar;
use indicatif::ProgressStyle;

use crate::cli::output;

/// Progress of one command.
pub(super) struct Progress {
    what: &'static str,
    total: Option<usize>,
    bar: Option<ProgressBar>,
    plain: bool,
}

impl Progress {
    /// Of work that is done in steps; work of a single step shows nothing.
    pub(super) fn new(what: &'static str, total: Option<usize>, step: usize) -> Self {
        let long = total.is_none_or(|total| total > step);
        let terminal = io::stderr().is_terminal();
        Self {
            what,
            total,
            bar: (long && terminal).then(|| bar(what, total)),
            plain: long && !terminal,
        }
    }

    /// So much is done by now.
    pub(super) fn reached(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        } else if self.plain {
            output::remark(&match self.total {
                Some(total) => format!("{} {done} of {total}", self.what),
                None => format!("{} {done}", self.what),
            });
        }
    }

    /// Takes the bar away.
    pub(super) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: &'static str, total: Option<usize>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(u64::try_from(total).unwrap_or(u64::MAX)),
            "{msg} {pos} of {len} {wide_bar} {eta}",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {msg} {pos}"),
    };
    bar.set_message(what);
    // The templates are constant and tried below; indicatif's own style would do as well.
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

//! Taking secrets out of lines as they are written.

use std::io;
use std::sync::OnceLock;

type Blank = dyn Fn(&str) -> String + Send + Sync;

static BLANK: OnceLock<Box<Blank>> = OnceLock::new();

/// Has `blank` take secrets out of everything that is logged from now on. The first one of the process stays.
pub fn blank_with(blank: impl Fn(&str) -> String + Send + Sync + 'static) {
    // A second daemon in one process is a test's.
    let _ = BLANK.set(Box::new(blank));
}

/// `text` without the secrets that [`blank_with`] was told to take out.
#[must_use]
pub fn blanked(text: &str) -> String {
    BLANK
        .get()
        .map_or_else(|| text.to_owned(), |blank| blank(text))
}

/// Takes secrets out of what passes through. An event comes in one piece.
pub(super) struct Blanked<W>(pub(super) W);

impl<W: io::Write> io::Write for Blanked<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        match BLANK.get() {
            Some(blank) => {
                let line = blank(&String::from_utf8_lossy(event));
                self.0.write_all(line.as_bytes())?;
            }
            None => self.0.write_all(event)?,
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

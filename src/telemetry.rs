//! Logging: tracing events to stderr, one line each, whatever they hold.
//!
//! Messages and fields may carry text from elsewhere (an answer of the API, a database's error), so control characters are
//! escaped in every format: nobody can forge a line, or speak to the operator's terminal. Panics are events, too, and
//! known secrets are blanked in every line as it is written: the last defence, after all that keeps them out of events.

mod lines;
mod secrets;

pub use lines::is_harmful;
pub use secrets::blank_with;
pub use secrets::blanked;

use std::backtrace::Backtrace;
use std::backtrace::BacktraceStatus;
use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::thread;

use tracing::Metadata;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format;
use tracing_subscriber::layer::Layered;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config;
use crate::config::ConfigError;
use crate::config::LogFormat;
use crate::telemetry::lines::Journald;
use crate::telemetry::lines::OneLine;
use crate::telemetry::lines::escaped_fields;
use crate::telemetry::secrets::Blanked;

/// What the filter of the process's events is set by.
static FILTER: OnceLock<reload::Handle<EnvFilter, Layered<BoxedLayer, Registry>>> = OnceLock::new();

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Sends the process's tracing events and panics to stderr from now on. Where that was already arranged, the first one stays.
///
/// # Errors
/// A `log.filter` that cannot be understood.
pub fn init(
    log: &config::Log,
    stderr_is_terminal: bool,
    under_journald: bool,
) -> Result<(), ConfigError> {
    let filter = log.env_filter()?;
    let mut style = Style::of(log.format, stderr_is_terminal, under_journald);
    if let Style::Text { colors } = &mut style {
        *colors &= env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    }
    let (filter, handle) = reload::Layer::new(filter);
    let first = tracing_subscriber::registry()
        .with(layer(style, || Blanked(io::stderr())))
        .with(filter)
        .with(filter_fn(|metadata| !is_unfit(metadata)))
        .try_init();
    if first.is_err() {
        tracing::debug!("logging was set up before; its format and filter stay");
    } else {
        let _ = FILTER.set(handle);
    }
    // The usual words on a panic go to stderr as they are, line ends and secrets included.
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// What the driver says and nobody should read: lines of `.pgpass` that it cannot make out, passwords that nobody knows to
/// be blanked; and a server's notices, which say what the operation that fails says as well.
fn is_unfit(metadata: &Metadata<'_>) -> bool {
    let quotes_passwords =
        metadata.target().ends_with("::pgpass") && metadata.fields().field("line").is_some();
    quotes_passwords || metadata.target() == "sqlx::postgres::notice"
}

/// From now on lets through what `log.filter` says.
///
/// # Errors
/// A `log.filter` that cannot be understood.
pub fn set_filter(log: &config::Log) -> Result<(), ConfigError> {
    let filter = log.env_filter()?;
    // It fails only where the subscriber is gone, and then nobody logs.
    let _ = FILTER.get().map(|handle| handle.reload(filter));
    Ok(())
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("without a message");
    let at = panic.location().map(ToString::to_string);
    let thread = thread::current().name().map(str::to_owned);
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => {
            tracing::error!(at, thread, %backtrace, "panicked: {message}");
        }
        _ => tracing::error!(at, thread, "panicked: {message}"),
    }
}

/// Whether stderr leads into the systemd journal: what `init` wants to know as `under_journald`.
///
/// `journal_stream` is the variable `JOURNAL_STREAM`. That it is set does not say so: children of a service inherit it,
/// redirected or not. It holds device and inode of the stream, to compare with.
#[must_use]
pub fn stderr_is_journal(journal_stream: Option<&str>) -> bool {
    let stderr = fs::metadata("/proc/self/fd/2")
        .ok()
        .map(|file| format!("{}:{}", file.dev(), file.ino()));
    stderr.is_some() && stderr.as_deref() == journal_stream
}

/// A format with nothing left to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Text { colors: bool },
    Json,
    Journald,
}

impl Style {
    fn of(format: LogFormat, stderr_is_terminal: bool, under_journald: bool) -> Self {
        let colors = stderr_is_terminal;
        match format {
            LogFormat::Text => Self::Text { colors },
            LogFormat::Auto if stderr_is_terminal => Self::Text { colors },
            LogFormat::Auto if under_journald => Self::Journald,
            LogFormat::Auto | LogFormat::Json => Self::Json,
            LogFormat::Journald => Self::Journald,
        }
    }
}

fn layer<W>(style: Style, writer: W) -> BoxedLayer
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // A failed write to stderr would be reported on stderr, by a macro that panics when it fails.
    let base = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .log_internal_errors(false);
    match style {
        Style::Text { colors } => base.with_ansi(colors).fmt_fields(escaped_fields()).boxed(),
        Style::Journald => {
            let format = Journald {
                line: format().without_time().with_ansi(false),
            };
            base.with_ansi(false)
                .fmt_fields(escaped_fields())
                .event_format(format)
                .boxed()
        }
        Style::Json => base
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .map_event_format(|object| OneLine { object })
            .boxed(),
    }
}

#[cfg(test)]
mod tests;

//! Logging: tracing events to stderr, one line each, whatever they hold.
//!
//! Messages and fields may carry text from elsewhere (an answer of the API, a database's error), so control characters are
//! escaped in every format: nobody can forge a line, or speak to the operator's terminal. Panics are events, too, and
//! known secrets are blanked in every line as it is written: the last defence, after all that keeps them out of events.

mod lines;
mod secrets;

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

use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::Registry;
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
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::lines::breaks_a_line;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(style: Style, events: impl FnOnce()) -> String {
        let page = Page::default();
        let writer = page.clone();
        let subscriber = tracing_subscriber::registry().with(layer(style, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, events);
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    }

    const NASTY: &str = "one\ntwo\r\u{1b}[31mred\u{7}\u{85}\u{2028}end";

    fn nasty_event() {
        let _span = tracing::error_span!("sync", account = NASTY).entered();
        tracing::error!(plain = NASTY, shown = %NASTY, "it broke: {NASTY}");
    }

    #[test]
    fn one_event_is_one_line_in_every_format() {
        for style in [
            Style::Text { colors: false },
            Style::Text { colors: true },
            Style::Json,
            Style::Journald,
        ] {
            let line = written(style, nasty_event);
            assert_eq!(line.matches('\n').count(), 1, "{style:?}: {line}");
            assert!(line.ends_with('\n'), "{style:?}: {line}");
            let forged = ["\u{1b}[31m\u{72}ed", "\r", "\u{7}", "\u{85}", "\u{2028}"];
            assert!(
                !forged.iter().any(|bad| line.contains(bad)),
                "{style:?}: {line}"
            );
            assert!(line.contains("it broke: one"), "{style:?}: {line}");
        }
    }

    #[test]
    fn journald_lines_begin_with_a_priority_and_have_neither_time_nor_colour() {
        let lines = written(Style::Journald, || {
            tracing::error!("a");
            tracing::warn!(jobs = 3, "b");
            tracing::info!("c");
            tracing::debug!("d");
        });
        let lines: Vec<&str> = lines.lines().map(str::trim_end).collect();
        let target = module_path!();
        assert_eq!(lines[0], format!("<3>ERROR {target}: a"));
        assert_eq!(lines[1], format!("<4> WARN {target}: b jobs=3"));
        assert_eq!(lines[2], format!("<6> INFO {target}: c"));
        assert_eq!(lines[3], format!("<7>DEBUG {target}: d"));
    }

    #[test]
    fn text_has_times_and_colours_only_where_asked() {
        let event = || tracing::info!(connection.id = %"c1", "synced");
        let plain = written(Style::Text { colors: false }, event);
        assert!(
            plain.contains(" INFO ") && plain.contains(": synced connection.id=c1\n"),
            "{plain}"
        );
        assert!(
            plain.starts_with("20") && !plain.contains('\u{1b}'),
            "{plain}"
        );
        assert!(written(Style::Text { colors: true }, event).contains('\u{1b}'));
    }

    #[test]
    fn json_lines_carry_fields_span_and_the_text_unharmed() {
        let line = written(Style::Json, nasty_event);
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["level"], "ERROR");
        assert_eq!(event["message"], format!("it broke: {NASTY}"));
        assert_eq!(event["plain"], NASTY);
        assert_eq!(event["shown"], NASTY);
        assert_eq!(event["span"]["name"], "sync");
        assert_eq!(event["span"]["account"], NASTY);
        assert!(event["timestamp"].is_string());
    }

    #[test]
    fn auto_is_text_on_a_terminal_journald_under_systemd_and_json_elsewhere() {
        let auto = |terminal, journald| Style::of(LogFormat::Auto, terminal, journald);
        assert!(matches!(auto(true, true), Style::Text { .. }));
        assert_eq!(auto(false, true), Style::Journald);
        assert_eq!(auto(false, false), Style::Json);
        assert_eq!(
            Style::of(LogFormat::Text, false, true),
            Style::Text { colors: false }
        );
        assert_eq!(Style::of(LogFormat::Json, true, true), Style::Json);
        assert_eq!(Style::of(LogFormat::Journald, true, false), Style::Journald);
    }

    #[test]
    fn stderr_is_the_journal_only_if_it_is_the_very_stream_named() {
        let own = fs::metadata("/proc/self/fd/2").unwrap();
        assert!(stderr_is_journal(Some(&format!(
            "{}:{}",
            own.dev(),
            own.ino()
        ))));
        assert!(!stderr_is_journal(Some("8:1")));
        assert!(!stderr_is_journal(Some("")));
        assert!(!stderr_is_journal(None));
    }

    #[test]
    fn a_bad_filter_is_a_configuration_error() {
        for bad in [
            "inof",
            "info,feather_sync=loud",
            "warning",
            "feather_sync::worker=debug=x",
        ] {
            let log = config::Log {
                format: LogFormat::Auto,
                filter: bad.to_owned(),
            };
            let error = init(&log, false, false).unwrap_err();
            assert!(error.to_string().contains("log.filter"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_out_of_its_line(text in any::<String>()) {
            for style in [Style::Text { colors: false }, Style::Json, Style::Journald] {
                let line = written(style, || tracing::error!(field = %text, "{text}"));
                prop_assert_eq!(line.chars().filter(|c| breaks_a_line(*c)).count(), 1);
                if style == Style::Json {
                    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
                    prop_assert_eq!(event["message"].as_str(), Some(text.as_str()));
                }
            }
        }
    }
}

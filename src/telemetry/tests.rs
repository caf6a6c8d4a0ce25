use std::sync::Arc;
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::telemetry::lines::LONGEST_VALUE;

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

const HARM: [char; 9] = [
    '\0', '\n', '\r', '\u{7}', '\u{1b}', '\u{85}', '\u{2028}', '\u{202e}', '\u{2066}',
];
const NASTY: &str = "one\ntwo\r\u{1b}[31mred\0\u{7}\u{85}\u{2028}\u{202e}der\u{2066}end";

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
        assert!(!line.contains("\u{1b}[31mred"), "{style:?}: {line}");
        // The colours of text are ours.
        let line = match style {
            Style::Text { colors: true } => line.replace("\u{1b}[", ""),
            _ => line,
        };
        let harm: Vec<char> = line.chars().filter(|c| HARM.contains(c)).collect();
        assert_eq!(harm, ['\n'], "{style:?}: {line}");
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

#[test]
fn a_value_of_any_length_is_cut_and_the_line_stays_whole() {
    let long = "\u{1b}\\\"é".repeat(100_000);
    for style in [Style::Text { colors: false }, Style::Json, Style::Journald] {
        let line = written(style, || {
            tracing::error!(before = 1, plain = long, shown = %long, "{long}");
        });
        let most = 3 * LONGEST_VALUE;
        assert!((most - 100..most + 300).contains(&line.len()), "{style:?}");
        assert_eq!(line.matches('…').count(), 3, "{style:?}");
        if style == Style::Json {
            let event: serde_json::Value = serde_json::from_str(&line).unwrap();
            let kept = event["message"].as_str().unwrap().strip_suffix('…');
            assert!(long.starts_with(kept.unwrap()));
            assert_eq!(event["before"], 1);
            assert_eq!(event["level"], "ERROR");
        }
    }
}

#[test]
fn what_the_driver_says_of_password_files_and_servers_is_left_out_where_it_quotes_them() {
    let page = Page::default();
    let writer = page.clone();
    let subscriber = tracing_subscriber::registry()
        .with(layer(Style::Json, move || writer.clone()))
        .with(filter_fn(|metadata| !is_unfit(metadata)));
    tracing::subscriber::with_default(subscriber, || {
        tracing::warn!(target: "sqlx_postgres::options::pgpass", line = "sekret", "malformed");
        tracing::warn!(target: "sqlx_postgres::options::pgpass", path = "/root", "others may read");
        tracing::warn!(target: "sqlx::postgres::notice", "sekret: shutting down");
    });
    let said = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
    assert!(
        !said.contains("sekret") && said.contains("others may read"),
        "{said}"
    );
}

proptest! {
    #[test]
    fn no_text_breaks_out_of_its_line(text in "(\\PC|[\\x00-\\x1f\\x7f-\\x9f\u{61c}\u{200e}\u{2028}\u{2029}\u{202a}-\u{202e}\u{2066}-\u{2069}\"\\\\]){0,80}") {
        for style in [Style::Text { colors: false }, Style::Json, Style::Journald] {
            let line = written(style, || tracing::error!(field = %text, "{text}"));
            prop_assert_eq!(line.chars().filter(|c| is_harmful(*c)).count(), 1);
            if style == Style::Json {
                let event: serde_json::Value = serde_json::from_str(&line).unwrap();
                prop_assert_eq!(event["message"].as_str(), Some(text.as_str()));
            }
        }
    }
}

//! A page as a shell script, line for line: what fails in the script names the page's own line.

use crate::program::ID;

/// Commands, and blocks by their fence, that are not run here; why, and what runs them instead. One that stands on no
/// page any more is a fault, so the list stays true.
pub(super) const CLAIMED: &[(&str, &str)] = &[
    ("make ", "minutes long; .ci/run, the bench by hand"),
    (
        "sudo make install",
        "scripts/install, by which the package is made, too",
    ),
    ("sudo apt install", "by dpkg; tests/systemd/checks"),
    ("sudo systemctl", "tests/systemd/checks"),
    ("systemd-analyze ", "scripts/check-units"),
    ("docker ", "nothing, as docs/install.md says"),
    ("```ini", "a unit's lines: systemd-analyze verify, by hand"),
    ("```dockerfile", "what it runs is in healthy.rs"),
    ("```yaml prometheus", "promtool, by scripts/check-alerts"),
    ("```yaml alertmanager", "amtool check-config, by hand"),
    ("```python", "scripts/test-examples"),
    ("```js", "scripts/test-examples"),
    ("```go", "scripts/test-examples"),
    ("```ruby", "scripts/test-examples"),
    ("```java", "scripts/test-examples"),
    ("```rust", "scripts/test-examples"),
    (
        "feather-sync status --json | jq",
        "jq is not on every machine; status.rs reads its JSON",
    ),
    ("scripts/setup", "the beginning of `make test`"),
    ("cargo build", "this program is built"),
    (
        "scripts/with-postgres bash",
        "in its place there is the Postgres of the tests",
    ),
    (
        "feather-sync forget ID",
        "asks on a terminal; actions.rs says --yes",
    ),
];

/// The beginnings of what nobody may hide in a block that is not run.
const COMMANDS: &[&str] = &[
    "feather-sync ",
    "psql ",
    "curl ",
    "sudo ",
    "make ",
    "docker ",
    "systemctl ",
    "pg_",
    "SELECT ",
    "INSERT ",
    "UPDATE ",
    "DELETE ",
    "ALTER ",
    "GRANT ",
    "SET ",
];

/// Ends what is fed to a command.
const END: &str = "END_OF_BLOCK";

#[derive(Debug, Default, PartialEq)]
pub(super) struct Script {
    /// As many lines as the page has.
    pub(super) text: String,
    /// Those of [`CLAIMED`] that stand on the page.
    pub(super) claimed: Vec<&'static str>,
    /// What nobody would run, with the line it is on.
    pub(super) faults: Vec<String>,
}

/// What is done with the lines of a block.
enum Block {
    /// They are commands.
    Run,
    /// They are what a command reads.
    Feed,
    /// They are for people: drawings, formulas, what is printed.
    Prose,
    /// Somebody else sees to them.
    Claimed,
}

impl Script {
    /// `map` puts what is here in the place of a page's names for it.
    pub(super) fn of(page: &str, map: impl Fn(&str) -> String) -> Self {
        let mut script = Self::default();
        let mut block: Option<Block> = None;
        let (mut was_blank, mut goes_on, mut skips) = (true, false, false);
        for (number, line) in (1..).zip(page.lines()) {
            let trimmed = line.trim_start();
            let fence = trimmed.strip_prefix("```");
            let out = match (&block, fence) {
                (None, Some(info)) => {
                    let (kind, out) = script.open(number, info.trim());
                    block = Some(kind);
                    out
                }
                (Some(ended), Some(_)) => {
                    let out = matches!(ended, Block::Feed).then(|| END.to_owned());
                    block = None;
                    out.unwrap_or_default()
                }
                (None, None) => {
                    if was_blank && line.starts_with("    ") {
                        script.fault(number, "an indented block; fence it, and name its language");
                    }
                    if line.matches('`').count() % 2 == 1 {
                        script.fault(number, "code that goes on in the next line");
                    }
                    let spans = line.split('`').skip(1).step_by(2).filter(|s| is_command(s));
                    let spans: Vec<_> = spans.filter(|s| !script.claims(s)).map(in_words).collect();
                    map(&spans.join("; "))
                }
                (Some(Block::Run), None) => {
                    skips = if goes_on {
                        skips
                    } else {
                        script.claims(trimmed)
                    };
                    goes_on = line.ends_with('\\');
                    let kept = if line.ends_with(" &") {
                        "background+=($!)"
                    } else {
                        ""
                    };
                    if skips {
                        String::new()
                    } else {
                        map(line) + kept
                    }
                }
                (Some(Block::Feed), None) => map(line),
                (Some(Block::Prose), None) => {
                    if COMMANDS.iter().any(|begin| trimmed.starts_with(begin)) {
                        script.fault(number, "a command in a block that is not run");
                    }
                    String::new()
                }
                (Some(Block::Claimed), None) => String::new(),
            };
            script.text += &out;
            script.text.push('\n');
            was_blank = line.is_empty();
        }
        script
    }

    fn open(&mut self, number: usize, info: &str) -> (Block, String) {
        let fed = |command: &str| (Block::Feed, format!("{command} <<'{END}'"));
        let (language, _) = info.split_once(' ').unwrap_or((info, ""));
        match language {
            "sh" => (Block::Run, String::new()),
            // Whose block it is stands after the language, where readers do not see it.
            "sql" => fed(info),
            "toml" | "dotenv" => fed(language),
            "text" | "mermaid" => (Block::Prose, String::new()),
            _ if self.claims(&format!("```{info}")) => (Block::Claimed, String::new()),
            _ => {
                self.fault(
                    number,
                    "a block that nobody would run; name its language, or claim it",
                );
                (Block::Prose, String::new())
            }
        }
    }

    fn claims(&mut self, command: &str) -> bool {
        let claimed = CLAIMED.iter().find(|(begin, _)| command.starts_with(begin));
        self.claimed.extend(claimed.map(|(begin, _)| *begin));
        claimed.is_some()
    }

    fn fault(&mut self, number: usize, what: &str) {
        self.faults.push(format!("{number}: {what}"));
    }
}

/// A command in the midst of a sentence. `feather-sync run` and `sim` there speak of what goes on, and one is an event.
fn is_command(span: &str) -> bool {
    let spoken_of = [
        "feather-sync run",
        "feather-sync sim",
        "feather-sync cannot go on",
    ];
    (span.starts_with("feather-sync ") || span.starts_with("curl ")) && !spoken_of.contains(&span)
}

/// What a sentence calls ID is a connection that waits.
fn in_words(span: &str) -> String {
    let mut before = String::new();
    let mut word = |word| match word {
        "ID" | "ID…" => {
            before = format!("feather-sync enqueue --at +1h {ID}; ");
            ID
        }
        "ACCOUNT" => "default",
        "CLASS" => "upstream",
        _ => word,
    };
    let words: Vec<_> = span.split(' ').map(&mut word).collect();
    format!("{before}{}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::ID;
    use super::Script;

    fn of(page: &str) -> Script {
        Script::of(page, |line| line.replace("there", "here"))
    }

    #[test]
    fn a_script_has_the_lines_of_its_page_and_nothing_of_it_but_commands() {
        let page = "Go there: `feather-sync cancel ID…`, `psql`, `curl there`.\n\n```sh\ncd there # yes\n```\n\
                    - So:\n  ```sql feather_reporter\n  SELECT 1;\n  ```\n```text\n└── there\n```\n";
        let script = of(page);
        let expected = format!(
            "feather-sync enqueue --at +1h {ID}; feather-sync cancel {ID}; curl here\n\n\ncd here # yes\n\n\n\
             sql feather_reporter <<'END_OF_BLOCK'\n  SELECT 1;\nEND_OF_BLOCK\n\n\n\n"
        );
        assert_eq!(script.text, expected);
        assert_eq!(script.faults, [""; 0]);
    }

    #[test]
    fn a_claimed_command_is_left_out_with_the_lines_it_goes_on_for() {
        let script = of("```sh\ndocker run \\\n  make \\\n  there\necho there\n```\n");
        assert_eq!(script.text, "\n\n\n\necho here\n\n");
        assert_eq!(script.claimed, ["docker "]);
        assert_eq!(script.faults, [""; 0]);
    }

    #[test]
    fn what_nobody_would_run_is_a_fault_on_its_line() {
        for (page, fault) in [
            ("Text:\n\n    feather-sync status\n", "3: an indented block"),
            (
                "```\nfeather-sync status\n```\n",
                "1: a block that nobody would run",
            ),
            (
                "```console\n$ feather-sync status\n```\n",
                "1: a block that nobody would run",
            ),
            ("Say `feather-sync\nstatus`.\n", "1: code that goes on"),
            (
                "```text\nit says\nSELECT 1;\n```\n",
                "3: a command in a block that is not run",
            ),
        ] {
            let faults = of(page).faults;
            assert!(faults[0].starts_with(fault), "{page}: {faults:?}");
        }
    }
}

//! `--help`, `--version`, `completions` and `man`

use std::fs;

use crate::program::program;
use crate::program::run;

/// All commands that the help lists, `help` itself aside.
fn commands() -> Vec<String> {
    let help = run(&mut program(&["--help"])).done();
    let commands: Vec<_> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help")
        .map(str::to_owned)
        .collect();
    assert!(commands.len() >= 15, "{help}");
    commands
}

#[test]
fn the_help_of_every_command_has_an_example() {
    for command in commands() {
        for flag in ["--help", "-h"] {
            let help = run(&mut program(&[&command, flag])).done();
            let example = format!("feather-sync {command}");
            let examples = help.split("Examples:\n").nth(1);
            assert!(
                examples.is_some_and(|text| text.contains(&example)),
                "{command}: {help}"
            );
            assert!(!help.contains("[default: ]"), "{help}");
        }
    }
    for command in ["show", "check", "default"] {
        let help = run(&mut program(&["config", command, "--help"])).done();
        assert!(help.contains("Examples:\n"), "{help}");
    }
}

#[test]
fn called_with_nothing_it_prints_its_help_and_exits_with_2() {
    let outcome = run(&mut program(&[]));
    assert_eq!(outcome.code, Some(2));
    assert!(
        outcome.err.contains("Commands:") && outcome.err.contains("Examples:"),
        "{outcome:?}"
    );
}

#[test]
fn the_version_names_program_revision_and_schema() {
    let version = run(&mut program(&["--version"])).done();
    let begin = format!("feather-sync {} (revision ", env!("CARGO_PKG_VERSION"));
    let migrations = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap();
    let numbers = migrations.map(|file| {
        let name = file.unwrap().file_name().into_string().unwrap();
        name[..4].parse::<u32>().unwrap()
    });
    let end = format!(", schema {})\n", numbers.max().unwrap());
    assert!(
        version.starts_with(&begin) && version.ends_with(&end),
        "{version}"
    );
}

#[test]
fn every_shell_gets_completions_of_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&mut program(&["completions", shell])).done();
        for command in commands() {
            assert!(script.contains(&command), "{shell}: {command}");
        }
    }
}

#[test]
fn there_is_a_manual_page_for_the_whole_and_for_every_command() {
    let page = run(&mut program(&["man"])).done();
    assert!(
        page.contains(".TH feather-sync 1") && page.contains("Examples"),
        "{page}"
    );
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man/man1");
    assert_eq!(
        run(&mut program(&["man", "--dir", pages.to_str().unwrap()])).done(),
        ""
    );
    assert!(pages.join("feather-sync.1").exists());
    for command in commands() {
        let page =
            fs::read_to_string(pages.join(format!("feather-sync-{command}.1"))).expect(&command);
        assert!(page.contains("Examples"), "{command}");
    }
    let error = run(&mut program(&["man", "--dir", "/proc/nowhere"])).failed(1);
    assert!(error.contains("/proc/nowhere"), "{error}");
}

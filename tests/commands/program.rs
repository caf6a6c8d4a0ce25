//! The binary, started with nothing of this process's environment.

use std::io::Write;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

/// A connection's id, for where any will do.
pub(crate) const ID: &str = "3c90c3cc-0d44-4b50-8888-8dd25736052a";

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Outcome {
    /// Its stdout, if all went well.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// Its stderr, if it failed with this exit code.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(!self.err.contains("panicked"), "{self:?}");
        self.err
    }
}

/// The binary with these arguments and no environment.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_feather-sync"));
    command.env_clear().args(arguments).stdin(Stdio::null());
    command
}

/// Starts it with all streams in our hands.
pub(crate) fn start(command: &mut Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts")
}

pub(crate) fn finish(child: Child) -> Outcome {
    let output = child.wait_with_output().expect("the binary ends");
    Outcome {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("stdout is text"),
        err: String::from_utf8(output.stderr).expect("stderr is text"),
    }
}

pub(crate) fn run(command: &mut Command) -> Outcome {
    run_with_input(command, "")
}

pub(crate) fn run_with_input(command: &mut Command, input: &str) -> Outcome {
    let mut child = start(command);
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_owned();
    // Beside the reading, or both sides wait for each other once the pipes are full.
    let writer = std::thread::spawn(move || {
        // A command that needs no input may be gone by now.
        let _ = stdin.write_all(input.as_bytes());
    });
    let outcome = finish(child);
    writer.join().expect("the input was written");
    outcome
}

/// Sends a signal (`INT`, `TERM`) to a child of this test.
pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &child.id().to_string()])
        .status()
        .expect("`kill` is there");
    assert!(status.success());
}

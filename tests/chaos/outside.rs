//! Builds the stage of one run, a folder with a small disk for the database in it, and runs this program again on it.
//! As root on Linux that is in namespaces of its own: the disk and every process are gone when the run is, whatever
//! ended it.

use crate::options::Options;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Holds template, data and log of a fresh cluster, and some megabytes of rows. Filled to the last byte by a fault.
const DISK: &str = "300m";

/// Runs one seed; whether all was well.
pub(crate) fn run(options: &Options, seed: u64) -> bool {
    let stage = tempfile::Builder::new()
        .prefix("feather-chaos-")
        .tempdir()
        .unwrap();
    // The server's account, when we are root, has to enter.
    fs::set_permissions(stage.path(), fs::Permissions::from_mode(0o711)).unwrap();
    for folder in ["logs", "keys", "clocks", "disk"] {
        fs::create_dir(stage.path().join(folder)).unwrap();
    }
    fs::set_permissions(stage.path().join("disk"), fs::Permissions::from_mode(0o711)).unwrap();
    let mut command = command(stage.path(), options.schedule);
    command.args(options.again(seed));
    command.arg("--stage").arg(stage.path());
    if options.schedule {
        command.arg("--schedule");
    }
    let well = command.status().unwrap().success();
    let again = options.again(seed).join(" ");
    if !well {
        println!("\nSEED {seed} FAILED. Again: make chaos CHAOS_ARGS=\"{again}\"");
    }
    if well && !options.keep {
        return true;
    }
    println!("data and logs: {}", stage.keep().display());
    well
}

fn command(stage: &Path, dry: bool) -> Command {
    let this = std::env::current_exe().unwrap();
    let disk = stage.join("disk");
    if dry || !can_mount() {
        let mut command = Command::new(this);
        command.env("TMPDIR", disk);
        return command;
    }
    let script =
        format!("mount -t tmpfs -o size={DISK},mode=0711 chaos \"$TMPDIR\" && exec \"$@\"");
    let mut command = Command::new("unshare");
    command
        .args(NAMESPACES)
        .args(["sh", "-c", &script, "chaos"])
        .arg(this)
        .env("TMPDIR", disk);
    command
}

const NAMESPACES: [&str; 5] = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

fn can_mount() -> bool {
    let mut command = Command::new("unshare");
    command.args(NAMESPACES);
    command.args(["mount", "-t", "tmpfs", "chaos", "/mnt"]);
    command.output().is_ok_and(|output| output.status.success())
}

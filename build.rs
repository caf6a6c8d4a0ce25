//! Tells the program its revision, and Cargo that new migrations mean a new program.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed=.git/HEAD");
    println!("cargo:rerun-if-changed=.git/refs/heads");
    println!("cargo:rerun-if-env-changed=FEATHER_SYNC_REVISION");
    let revision = std::env::var("FEATHER_SYNC_REVISION").ok().or_else(|| {
        let output = Command::new("git")
            .args(["rev-parse", "--short=12", "HEAD"])
            .output()
            .ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    });
    println!(
        "cargo:rustc-env=FEATHER_SYNC_REVISION={}",
        revision.as_deref().unwrap_or("unknown")
    );
}

//! A child process, and what it has used: as the kernel counts it, in ticks of 10 ms.

use std::fs;
use std::io::Write;
use std::process::Child;
use std::process::ChildStdin;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

/// Killed when dropped.
pub struct Process {
    child: Child,
    began: Instant,
}

/// What a process used from its start to its end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    pub wall: f64,
    pub cpu: f64,
    pub peak_mib: f64,
}

impl Process {
    /// Starts it; what it logs is left out.
    pub fn start(command: &mut Command) -> Self {
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            began: Instant::now(),
        }
    }

    pub fn input(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// Gives it all of its input and closes that.
    pub fn feed(&mut self, text: &str) {
        let mut input = self.input();
        let text = text.to_owned();
        std::thread::spawn(move || input.write_all(text.as_bytes()).unwrap());
    }

    /// Seconds of CPU so far.
    pub fn cpu(&self) -> f64 {
        own_cpu(self.child.id())
    }

    /// The most memory that it has had, in MiB.
    pub fn peak_mib(&self) -> f64 {
        peak_mib(self.child.id())
    }

    /// Waits for its end, which must be a success.
    pub async fn wait(mut self) -> Used {
        let mut used = Used::default();
        loop {
            // What is asked of one that is gone is zero.
            used.cpu = used.cpu.max(self.cpu());
            used.peak_mib = used.peak_mib.max(self.peak_mib());
            // Before it is reaped its last figures are still there.
            if is_zombie(self.child.id()) {
                used.wall = self.began.elapsed().as_secs_f64();
                used.cpu = used.cpu.max(self.cpu());
                let status = self.child.wait().unwrap();
                assert!(status.success(), "{status}");
                return used;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asks it to stop and waits for that.
    pub async fn stop(self) -> Used {
        signal(self.child.id(), "TERM");
        self.wait().await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// Seconds of CPU of a server and all of its processes, those that have ended included.
pub fn tree_cpu(pid: u32) -> f64 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let living = children.split_whitespace().filter_map(|id| id.parse().ok());
    ticks(pid, 11..15) + living.map(own_cpu).sum::<f64>()
}

fn own_cpu(pid: u32) -> f64 {
    ticks(pid, 11..13)
}

/// Fields of `/proc/PID/stat` behind the name, summed, in seconds.
fn ticks(pid: u32, fields: std::ops::Range<usize>) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name may hold spaces and parentheses.
    let Some((_, rest)) = stat.rsplit_once(") ") else {
        return 0.0;
    };
    let all: Vec<&str> = rest.split(' ').collect();
    all[fields]
        .iter()
        .map(|field| field.parse::<f64>().unwrap() / 100.0)
        .sum()
}

fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_none_or(|(_, rest)| rest.starts_with('Z'))
}

fn peak_mib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|value| value.trim().strip_suffix(" kB"));
    peak.map_or(0.0, |kib| kib.parse::<f64>().unwrap() / 1024.0)
}

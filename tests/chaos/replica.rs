//! A daemon as a process of its own, with a proxy on each of its ways.

use crate::proxy::Proxy;
use crate::report::Report;
use std::collections::BTreeMap;
use std::fs;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// A stop takes `shutdown_grace` and little more; the rest is for a machine that is busy.
const STOP: Duration = Duration::from_secs(30);

/// Lines of log that a failed run prints of each replica.
const LAST_LINES: usize = 30;

pub(crate) struct Replica {
    pub(crate) number: usize,
    pub(crate) database: Proxy,
    pub(crate) apis: Vec<Proxy>,
    pub(crate) admin: SocketAddr,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) log: PathBuf,
    /// Holds how far its clock is off, where clocks can be stepped.
    pub(crate) clock: Option<PathBuf>,
    child: Mutex<Option<Child>>,
}

impl Replica {
    pub(crate) fn new(
        number: usize,
        database: Proxy,
        apis: Vec<Proxy>,
        admin: SocketAddr,
        log: PathBuf,
    ) -> Self {
        Self {
            number,
            database,
            apis,
            admin,
            env: BTreeMap::new(),
            log,
            clock: None,
            child: Mutex::default(),
        }
    }

    pub(crate) fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.apis.iter().chain([&self.database])
    }

    pub(crate) fn start(&self) {
        let mut log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        writeln!(log, "--- start").unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_feather-sync"))
            .arg("run")
            .env_clear()
            .envs(&self.env)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.child.lock().unwrap() = Some(child);
    }

    pub(crate) fn signal(&self, name: &str) {
        if let Some(child) = self.child.lock().unwrap().as_ref() {
            signal(child.id(), name);
        }
    }

    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends SIGTERM, and says what is wrong with how it ended.
    pub(crate) async fn terminate(&self) -> Result<(), String> {
        let Some(mut child) = self.child.lock().unwrap().take() else {
            return Ok(());
        };
        signal(child.id(), "TERM");
        let asked = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return if status.success() {
                    Ok(())
                } else {
                    Err(format!(
                        "replica {} ended with {status} on SIGTERM",
                        self.number
                    ))
                };
            }
            if asked.elapsed() > STOP {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!(
                    "replica {} has not stopped {} s after SIGTERM",
                    self.number,
                    STOP.as_secs()
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How it ended although nobody ended it.
    fn ended(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock().unwrap();
        let status = child.as_mut()?.try_wait().unwrap()?;
        *child = None;
        Some(status)
    }

    /// Says so, and starts it again, where it ended by itself.
    pub(crate) fn watch(&self, report: &Report) {
        if let Some(status) = self.ended() {
            report.wrong(format!("replica {} ended by itself: {status}", self.number));
            self.start();
        }
    }

    /// The last lines that it wrote.
    pub(crate) fn end_of_log(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    /// What `/readyz` answers.
    pub(crate) async fn readiness(&self) -> Result<String, std::io::Error> {
        let mut stream = TcpStream::connect(self.admin).await?;
        let request = format!(
            "GET /readyz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.admin
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .stderr(Stdio::null())
        .status();
}

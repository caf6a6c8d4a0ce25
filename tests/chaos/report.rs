//! What happened, as it happens and in sum.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

pub(crate) struct Report {
    pub(crate) started: Instant,
    faults: Mutex<BTreeMap<&'static str, u64>>,
    skipped: Mutex<BTreeMap<String, u64>>,
    wrong: Mutex<Vec<String>>,
    checks: Mutex<Vec<(&'static str, u64)>>,
    figures: Mutex<Vec<(String, String)>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            faults: Mutex::default(),
            skipped: Mutex::default(),
            wrong: Mutex::default(),
            checks: Mutex::default(),
            figures: Mutex::default(),
            counts: Mutex::default(),
        }
    }
}

impl Report {
    /// A line with its time.
    pub(crate) fn say(&self, line: impl Display) {
        println!("{:8.2} s  {line}", self.started.elapsed().as_secs_f64());
    }

    pub(crate) fn fault(&self, kind: &'static str) {
        *self.faults.lock().unwrap().entry(kind).or_default() += 1;
    }

    /// Something that cannot be done here.
    pub(crate) fn skip(&self, what: &str) {
        let mut skipped = self.skipped.lock().unwrap();
        let times = skipped.entry(what.to_owned()).or_insert(0);
        *times += 1;
        if *times == 1 {
            self.say(format!("SKIPPED here: {what}"));
        }
    }

    /// A promise is broken.
    pub(crate) fn wrong(&self, what: impl Into<String>) {
        let what = what.into();
        self.say(format!("WRONG: {what}"));
        self.wrong.lock().unwrap().push(what);
    }

    /// A check that looked at so many things, and what it found. One that looked at nothing says nothing.
    pub(crate) fn check(&self, what: &'static str, looked_at: u64, found: Vec<String>) {
        if looked_at == 0 {
            self.wrong(format!("{what}: there was nothing to look at"));
        }
        self.check_those_there_are(what, looked_at, found);
    }

    /// The same of what a run need not have.
    pub(crate) fn check_those_there_are(
        &self,
        what: &'static str,
        looked_at: u64,
        found: Vec<String>,
    ) {
        self.checks.lock().unwrap().push((what, looked_at));
        let (shown, number) = (12, found.len());
        for found in found.into_iter().take(shown) {
            self.wrong(format!("{what}: {found}"));
        }
        if number > shown {
            self.wrong(format!("{what}: and {} more", number - shown));
        }
    }

    pub(crate) fn count(&self, what: &'static str, by: u64) {
        *self.counts.lock().unwrap().entry(what).or_default() += by;
    }

    pub(crate) fn figure(&self, name: impl Into<String>, value: impl Display) {
        let figure = (name.into(), value.to_string());
        self.figures.lock().unwrap().push(figure);
    }

    pub(crate) fn seconds(&self, name: &str, duration: Duration) {
        self.figure(name, format!("{:.1} s", duration.as_secs_f64()));
    }

    pub(crate) fn well(&self) -> bool {
        self.wrong.lock().unwrap().is_empty()
    }

    /// The table at the end.
    pub(crate) fn print(&self, seed: u64) {
        let row = |name: &str, value: &dyn Display| println!("  {name:<52}{value:>12}");
        let faults = self.faults.lock().unwrap();
        println!("\nseed {seed}: faults");
        for (kind, times) in faults.iter() {
            row(kind, times);
        }
        row("all", &faults.values().sum::<u64>());
        for (what, times) in self.skipped.lock().unwrap().iter() {
            println!("  skipped here: {what}, {times} times");
        }
        println!("work");
        for (what, number) in self.counts.lock().unwrap().iter() {
            row(what, number);
        }
        for (name, value) in self.figures.lock().unwrap().iter() {
            row(name, value);
        }
        let checks = self.checks.lock().unwrap();
        println!("checks");
        for (what, looked_at) in checks.iter() {
            row(what, looked_at);
        }
        row("all", &checks.iter().map(|(_, number)| number).sum::<u64>());
        let wrong = self.wrong.lock().unwrap();
        println!("wrong: {}", wrong.len());
        for what in wrong.iter() {
            println!("  {what}");
        }
    }
}

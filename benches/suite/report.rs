//! Figures, ratios and targets: a table for people and JSON for machines.

use serde_json::Value;
use serde_json::json;
use std::path::Path;

/// The lines of one measure.
pub struct Report {
    name: &'static str,
    lines: Vec<Line>,
}

struct Line {
    what: String,
    floor: Option<f64>,
    ours: f64,
    /// To the floor.
    ratio: Option<f64>,
    target: Option<Target>,
}

/// What a ratio, or where there is no floor the figure itself, has to keep.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    AtLeast(f64, f64),
    AtMost(f64, f64),
}

impl Report {
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            lines: Vec::new(),
        }
    }

    /// A figure beside the floor's, or beside another of ours that it is compared with.
    pub fn ratio(
        &mut self,
        what: impl Into<String>,
        floor: f64,
        ours: f64,
        target: impl Into<Option<Target>>,
    ) {
        self.lines.push(Line {
            what: what.into(),
            floor: Some(floor),
            ours,
            ratio: Some(ours / floor),
            target: target.into(),
        });
    }

    /// Figures of rounds that alternate with the floor's: medians, and the median of the ratios of neighbours, since the machine
    /// is not the same one for long.
    pub fn rounds(
        &mut self,
        what: impl Into<String>,
        floor: &[f64],
        ours: &[f64],
        target: impl Into<Option<Target>>,
    ) {
        assert_eq!(floor.len(), ours.len(), "rounds of {}", self.name);
        let ratios: Vec<_> = floor
            .iter()
            .zip(ours)
            .map(|(floor, ours)| ours / floor)
            .collect();
        self.lines.push(Line {
            what: what.into(),
            floor: Some(median(floor)),
            ours: median(ours),
            ratio: Some(median(&ratios)),
            target: target.into(),
        });
    }

    /// A figure that stands for itself.
    pub fn figure(
        &mut self,
        what: impl Into<String>,
        ours: f64,
        target: impl Into<Option<Target>>,
    ) {
        self.lines.push(Line {
            what: what.into(),
            floor: None,
            ours,
            ratio: None,
            target: target.into(),
        });
    }

    pub fn print(&self) {
        let longest = self
            .lines
            .iter()
            .map(|line| line.what.chars().count())
            .max();
        let width = longest.unwrap_or_default();
        println!(
            "\n{:<width$}{:>11}{:>11}{:>8}  {:<15}",
            self.name, "floor", "ours", "ratio", "must / aim"
        );
        for line in &self.lines {
            let floor = line.floor.map_or_else(String::new, number);
            let ratio = line
                .ratio
                .map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            println!(
                "{:<width$}{floor:>11}{:>11}{ratio:>8}  {}",
                line.what,
                number(line.ours),
                line.judged()
            );
        }
    }

    pub fn write(&self, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        let lines: Vec<Value> = self.lines.iter().map(Line::json).collect();
        let text = serde_json::to_string_pretty(&json!({"measure": self.name, "lines": lines}));
        std::fs::write(folder.join(format!("{}.json", self.name)), text.unwrap()).unwrap();
    }
}

impl Line {
    fn value(&self) -> f64 {
        self.ratio.unwrap_or(self.ours)
    }

    fn judged(&self) -> String {
        let Some(target) = self.target else {
            return String::new();
        };
        let (sign, must, aim) = target.parts();
        let word = match (
            target.holds(must, self.value()),
            target.holds(aim, self.value()),
        ) {
            (_, true) => "aim",
            (true, false) => "ok",
            _ => "SHORT",
        };
        format!("{sign} {must} / {aim}  {word}")
    }

    fn json(&self) -> Value {
        let target = self.target.map(|target| {
            let (sign, must, aim) = target.parts();
            json!({
                "sign": sign, "must": must, "aim": aim,
                "must_held": target.holds(must, self.value()), "aim_held": target.holds(aim, self.value()),
            })
        });
        json!({
            "what": self.what, "floor": self.floor, "ours": self.ours,
            "ratio": self.ratio, "target": target,
        })
    }
}

impl Target {
    fn parts(self) -> (&'static str, f64, f64) {
        match self {
            Self::AtLeast(must, aim) => ("≥", must, aim),
            Self::AtMost(must, aim) => ("≤", must, aim),
        }
    }

    fn holds(self, bound: f64, value: f64) -> bool {
        match self {
            Self::AtLeast(..) => value >= bound,
            Self::AtMost(..) => value <= bound,
        }
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        ..10.0 => format!("{value:.3}"),
        ..1_000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Of an even number the mean of the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2])
}

pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * q).round() as usize]
}

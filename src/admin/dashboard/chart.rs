//! Small charts, drawn on the server: pictures for the eye, sentences for those who do not see them.

use crate::admin::dashboard::text;
use chrono::DateTime;
use chrono::Duration;
use chrono::Utc;
use maud::Markup;
use maud::html;

/// Of the picture, in its own units.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 118.0;
/// Around the plot, for what stands beside it.
const LEFT: f64 = 44.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 18.0;

/// What a chart says that has nothing to show.
const NOTHING: &str = "none";

/// The time that a chart is about.
pub(super) struct Axis<'a> {
    /// When each slot begins, oldest first; the last one goes on.
    pub(super) begins: &'a [DateTime<Utc>],
    pub(super) step: Duration,
}

/// One value for each slot.
pub(super) struct Series {
    pub(super) name: String,
    /// Class that gives the colour.
    pub(super) colour: &'static str,
    pub(super) values: Vec<Option<f64>>,
}

impl Series {
    fn total(&self) -> f64 {
        self.values.iter().flatten().sum()
    }

    fn last(&self) -> Option<f64> {
        self.values.iter().rev().flatten().next().copied()
    }
}

/// Bars on top of each other: how many of each series, by slot.
pub(super) fn bars(title: &str, axis: &Axis<'_>, series: &[Series]) -> Markup {
    let sum = |slot: usize| {
        series
            .iter()
            .filter_map(|one| one.values[slot])
            .sum::<f64>()
    };
    let most = (0..axis.begins.len()).map(sum).fold(0.0, f64::max);
    let top = nice(most);
    let mut ticks = vec![(0.0, "0".to_owned()), (top, text::number(whole(top)))];
    if top >= 2.0 && top % 2.0 == 0.0 {
        ticks.push((top / 2.0, text::number(whole(top / 2.0))));
    }
    let scale = Scale {
        low: 0.0,
        high: top,
        is_log: false,
        ticks,
    };
    let words: Vec<_> = series
        .iter()
        .map(|one| format!("{} {}", text::number(whole(one.total())), one.name))
        .collect();
    let words = if most > 0.0 {
        words.join(", ")
    } else {
        NOTHING.to_owned()
    };
    let plot = html! {
        @for (at, one) in series.iter().enumerate() {
            path class={ "bar " (one.colour) } d=(bar(axis, &scale, &series[..at], one)) {}
        }
    };
    let legend = series
        .iter()
        .map(|one| (one, text::number(whole(one.total()))));
    let tell = |slot: usize| {
        let values = series
            .iter()
            .filter_map(|one| Some((one, one.values[slot].filter(|value| *value > 0.0)?)));
        values
            .map(|(one, value)| format!(" · {} {}", text::number(whole(value)), one.name))
            .collect()
    };
    figure(title, &words, axis, &scale, &plot, tell, legend)
}

/// Lines of seconds, by decades: a tenth and an hour fit on one chart.
pub(super) fn lines(title: &str, axis: &Axis<'_>, series: &[Series]) -> Markup {
    let values = || {
        series
            .iter()
            .flat_map(|one| one.values.iter().flatten())
            .copied()
    };
    let least = values().fold(f64::INFINITY, f64::min);
    // Where nothing was synced, what is usual.
    let (least, most) = match least.is_finite() {
        true => (
            least.clamp(0.01, 10_000.0),
            values().fold(least, f64::max).min(100_000.0),
        ),
        false => (0.1, 10.0),
    };
    let low = least.log10().floor();
    let high = most.log10().ceil().max(low + 1.0);
    let decade = |power: f64| 10_f64.powf(power);
    let ticks: Vec<_> = (0..8)
        .map(|n| low + f64::from(n))
        .filter(|power| *power <= high)
        .map(|power| (decade(power), format!("{} s", decade(power))))
        .collect();
    let scale = Scale {
        low: decade(low),
        high: decade(high),
        is_log: true,
        ticks,
    };
    let told = |one: &Series| one.last().map_or_else(|| "–".to_owned(), text::seconds);
    let words: Vec<_> = series
        .iter()
        .map(|one| format!("{} {}", one.name, told(one)))
        .collect();
    let plot = html! {
        @for one in series { path class={ "line " (one.colour) } d=(line(axis, &scale, &one.values)) {} }
    };
    let legend = series.iter().map(|one| (one, told(one)));
    let words = match values().next() {
        Some(_) => words.join(", "),
        None => NOTHING.to_owned(),
    };
    let tell = |slot: usize| {
        let values = series
            .iter()
            .filter_map(|one| Some((one, one.values[slot]?)));
        values
            .map(|(one, value)| format!(" · {} {}", one.name, text::seconds(value)))
            .collect()
    };
    figure(title, &words, axis, &scale, &plot, tell, legend)
}

/// How much of a whole: a bar as wide as a word.
pub(super) fn meter(part: f64, words: &str) -> Markup {
    let filled = (part * 100.0).clamp(0.0, 100.0);
    let colour = if part > 0.9 { "full" } else { "part" };
    html! {
        svg.meter viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label=(words) {
            rect.back width="100" height="8" rx="2" {}
            rect class=(colour) width=(dot(filled)) height="8" rx="2" {}
        }
    }
}

fn figure<'s>(
    title: &str,
    words: &str,
    axis: &Axis<'_>,
    scale: &Scale,
    plot: &Markup,
    tell: impl Fn(usize) -> String,
    legend: impl Iterator<Item = (&'s Series, String)>,
) -> Markup {
    let first = axis.begins.first().map(|at| at.format("%H:%M").to_string());
    html! {
        figure.chart {
            figcaption {
                b { (title) }
                @for (one, value) in legend {
                    " " span.key { i class=(one.colour) {} (one.name) " " (value) }
                }
            }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(format!("{title}: {words}")) {
                @for (value, label) in &scale.ticks {
                    @let y = dot(scale.y(*value));
                    line.grid x1=(dot(LEFT)) x2=(dot(WIDTH)) y1=(y) y2=(y) {}
                    text x=(dot(LEFT - 6.0)) y=(y) dy="3.5" text-anchor="end" { (label) }
                }
                (plot)
                g.slots {
                    @for slot in 0..axis.begins.len() {
                        path d=(axis.slot(slot)) { title { (axis.label(slot)) (tell(slot)) } }
                    }
                }
                @if words == NOTHING { text x=(dot((LEFT + WIDTH) / 2.0)) y=(dot(HEIGHT / 2.0)) text-anchor="middle" { (NOTHING) } }
                text x=(dot(LEFT)) y=(dot(HEIGHT - 4.0)) { (first.unwrap_or_default()) }
                text x=(dot(WIDTH)) y=(dot(HEIGHT - 4.0)) text-anchor="end" { "now" }
            }
        }
    }
}

/// The bars of one series, on top of those below.
fn bar(axis: &Axis<'_>, scale: &Scale, below: &[Series], series: &Series) -> String {
    let mut path = String::new();
    let width = dot((axis.width() - 1.0).max(0.8));
    for (slot, value) in series.values.iter().enumerate() {
        let Some(value) = value.filter(|value| *value > 0.0) else {
            continue;
        };
        let base: f64 = below.iter().filter_map(|one| one.values[slot]).sum();
        let (from, to) = (scale.y(base), scale.y(base + value));
        let height = dot((from - to).max(0.7));
        path.push_str(&format!(
            "M{} {}v-{height}h{width}v{height}z",
            dot(axis.x(slot) + 0.5),
            dot(from)
        ));
    }
    path
}

fn line(axis: &Axis<'_>, scale: &Scale, values: &[Option<f64>]) -> String {
    let mut path = String::new();
    let mut is_drawing = false;
    for (slot, value) in values.iter().enumerate() {
        let Some(value) = value else {
            is_drawing = false;
            continue;
        };
        let (x, y) = (axis.x(slot) + axis.width() / 2.0, scale.y(*value));
        // A slot between two empty ones is a dot, which a line of no length with round ends is.
        path.push_str(&match is_drawing {
            true => format!("L{} {}", dot(x), dot(y)),
            false => format!("M{} {}h0", dot(x), dot(y)),
        });
        is_drawing = true;
    }
    path
}

impl Axis<'_> {
    fn width(&self) -> f64 {
        // As many as a screen has points, at most.
        let slots = u32::try_from(self.begins.len()).unwrap_or(u32::MAX);
        (WIDTH - LEFT) / f64::from(slots.max(1))
    }

    fn x(&self, slot: usize) -> f64 {
        let slot = u32::try_from(slot).unwrap_or(u32::MAX);
        LEFT + f64::from(slot) * self.width()
    }

    /// All of a slot, for the mouse.
    fn slot(&self, slot: usize) -> String {
        let (x, width, height) = (
            dot(self.x(slot)),
            dot(self.width()),
            dot(HEIGHT - TOP - BOTTOM),
        );
        format!("M{x} {}h{width}v{height}h-{width}z", dot(TOP))
    }

    fn label(&self, slot: usize) -> String {
        let begins = self.begins[slot];
        let ends = begins + self.step;
        format!("{}–{}", begins.format("%H:%M"), ends.format("%H:%M"))
    }
}

struct Scale {
    low: f64,
    high: f64,
    is_log: bool,
    /// Where a line is drawn, and what stands beside it.
    ticks: Vec<(f64, String)>,
}

impl Scale {
    fn y(&self, value: f64) -> f64 {
        let place = |value: f64| {
            if self.is_log {
                value.max(self.low).log10()
            } else {
                value
            }
        };
        let (low, high) = (place(self.low), place(self.high));
        let part = ((place(value) - low) / (high - low)).clamp(0.0, 1.0);
        HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
    }
}

/// The next of 1, 2, 5, 10, 20, 50, …: a top that can be read.
fn nice(most: f64) -> f64 {
    let mut step = 1.0;
    while step < 1e15 {
        for top in [step, 2.0 * step, 5.0 * step] {
            if most <= top {
                return top;
            }
        }
        step *= 10.0;
    }
    most
}

/// To a tenth, and no longer than it has to be: a page has thousands of them.
fn dot(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "counts that came from i64; a chart may round"
)]
fn whole(value: f64) -> i64 {
    value as i64
}

#[cfg(test)]
mod tests;

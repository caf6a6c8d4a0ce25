//! How it went: charts of the last hour and the last day, of one account or of all.

use crate::admin::Desk;
use crate::admin::dashboard::chart;
use crate::admin::dashboard::chart::Axis;
use crate::admin::dashboard::chart::Series;
use crate::admin::dashboard::memory::Memory;
use crate::store::Slot;
use crate::store::Span;
use crate::store::StoreError;
use maud::Markup;
use maud::html;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::timeout;

/// How long charts hold: minutes go by slowly, and the day's take longest.
const HOUR_HOLDS: Duration = Duration::from_secs(5);
const DAY_HOLDS: Duration = Duration::from_secs(60);
/// Longest that the day's are waited for: less than all of a page may take.
const DAY_TAKES: Duration = Duration::from_secs(4);
/// Accounts whose charts are remembered.
const REMEMBERED: usize = 16;
/// Error classes that have a colour of their own, the most frequent first; all others share one.
const COLOURS: [&str; 5] = ["c1", "c2", "c3", "c4", "c5"];

/// What is remembered of one account, or of all together.
#[derive(Clone, Default)]
struct Known {
    account: Option<String>,
    hour: Memory<Arc<Vec<Slot>>>,
    /// None where it could not be found out: that holds, too, or each look would try it again.
    day: Memory<Option<Arc<Vec<Slot>>>>,
}

/// What is remembered, the latest last.
#[derive(Clone, Default)]
pub(super) struct Timelines(Arc<Mutex<Vec<Known>>>);

impl Timelines {
    fn of(&self, account: Option<&str>) -> Known {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = all
            .iter()
            .position(|known| known.account.as_deref() == account);
        let known = match at {
            Some(at) => all.remove(at),
            None => Known {
                account: account.map(str::to_owned),
                ..Known::default()
            },
        };
        if all.len() >= REMEMBERED {
            all.remove(0);
        }
        all.push(known.clone());
        known
    }
}

/// The charts of an account, or of all together.
pub(super) async fn charts(desk: &Desk, account: Option<&str>) -> Result<Markup, StoreError> {
    let known = desk.dashboard.timelines.of(account);
    let find = async |span| desk.admin.db.timeline(account, span).await.map(Arc::new);
    let hour = known.hour.get(HOUR_HOLDS, find(Span::HOUR)).await?;
    let day = known.day.get(DAY_HOLDS, or_none(find(Span::DAY))).await;
    let Ok(day) = day;
    let classes = classes(&hour, day.as_deref().map_or(&[], Vec::as_slice));
    Ok(html! {
        section.charts {
            h2 { "Last hour" small { "by the minute" } }
            div { (of_span(&hour, Span::HOUR, &classes)) }
            h2 { "Last day" small { "by the quarter of an hour" } }
            @match &day {
                Some(day) => div { (of_span(day, Span::DAY, &classes)) },
                None => p.card { "It took too long to be found out, or failed. It is tried again within a minute." },
            }
        }
    })
}

async fn or_none<T>(
    finding: impl Future<Output = Result<T, StoreError>>,
) -> Result<Option<T>, Infallible> {
    let found = timeout(DAY_TAKES, finding).await;
    Ok(found.ok().and_then(Result::ok))
}

/// The classes of the failures with their colours, the most frequent first.
fn classes(hour: &[Slot], day: &[Slot]) -> Vec<String> {
    let mut totals: BTreeMap<&str, i64> = BTreeMap::new();
    for (class, failures) in hour.iter().chain(day).flat_map(|slot| &slot.by_class) {
        *totals.entry(class).or_default() += failures;
    }
    let mut classes: Vec<_> = totals.into_iter().collect();
    classes.sort_by_key(|(_, failures)| -failures);
    classes
        .into_iter()
        .map(|(class, _)| class.to_owned())
        .collect()
}

fn of_span(slots: &[Slot], span: Span, classes: &[String]) -> Markup {
    let begins: Vec<_> = slots.iter().map(|slot| slot.begins).collect();
    let axis = Axis {
        begins: &begins,
        step: span.step(),
    };
    let series = |name: &str, colour, value: &dyn Fn(&Slot) -> Option<f64>| Series {
        name: name.to_owned(),
        colour,
        values: slots.iter().map(value).collect(),
    };
    let ended = [
        series("synced", "good", &|slot| Some(count(slot.synced))),
        series("failed", "bad", &|slot| Some(count(slot.failed))),
    ];
    let failures = |slot: &Slot, class: &str| slot.by_class.get(class).copied().unwrap_or_default();
    let mut errors: Vec<_> = classes
        .iter()
        .zip(COLOURS)
        .map(|(class, colour)| series(class, colour, &|slot| Some(count(failures(slot, class)))))
        .collect();
    if classes.len() > COLOURS.len() {
        let others = &classes[COLOURS.len()..];
        errors.push(series("other", "c0", &|slot| {
            Some(count(
                others.iter().map(|class| failures(slot, class)).sum(),
            ))
        }));
    }
    errors.retain(|one| one.values.iter().flatten().any(|value| *value > 0.0));
    let times = [
        series("95 %", "c2", &|slot| slot.p95),
        series("median", "good", &|slot| slot.p50),
    ];
    html! {
        (chart::bars("Attempts", &axis, &ended))
        (chart::bars("Errors", &axis, &errors))
        (chart::lines("Time to sync", &axis, &times))
    }
}

#[expect(clippy::cast_precision_loss, reason = "for a picture")]
fn count(number: i64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_day_that_is_not_found_out_in_time_holds_the_page_up_once() {
        let known = Timelines::default().of(None);
        for waits in [DAY_TAKES, Duration::ZERO] {
            let began = tokio::time::Instant::now();
            let finding = or_none(std::future::pending());
            let Ok(day) = known.day.get(DAY_HOLDS, finding).await;
            assert!(day.is_none());
            assert!(began.elapsed().abs_diff(waits) < Duration::from_millis(10));
        }
        tokio::time::advance(DAY_HOLDS).await;
        let finding = async { Ok(Arc::default()) };
        let Ok(day) = known.day.get(DAY_HOLDS, or_none(finding)).await;
        assert!(day.is_some());
        let away = async { Err(StoreError::Timeout(DAY_TAKES)) };
        assert!(matches!(or_none::<()>(away).await, Ok(None)));
    }

    #[tokio::test]
    async fn what_was_looked_at_last_is_remembered_and_not_more_than_that() {
        let timelines = Timelines::default();
        let remembers = async |account: Option<&str>| {
            let hour = timelines.of(account).hour;
            let found = hour.get(HOUR_HOLDS, async { Err(()) }).await;
            found.is_ok()
        };
        let known = timelines.of(Some("first"));
        let learned = known
            .hour
            .get(HOUR_HOLDS, async { Ok::<_, ()>(Arc::default()) });
        assert!(learned.await.is_ok());
        for n in 1..REMEMBERED {
            assert!(!remembers(Some(&format!("account {n}"))).await);
        }
        assert!(remembers(Some("first")).await);
        for n in 0..REMEMBERED {
            assert!(!remembers(Some(&format!("other {n}"))).await);
        }
        assert!(!remembers(Some("first")).await);
    }
}

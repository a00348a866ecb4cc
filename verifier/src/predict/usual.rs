//! What series usually want in the hours to come: asked for many series at once, and kept for as long as a forecast step lasts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quotary_decide::forecast::{StepRow, hours_ahead};
use quotary_decide::history::{HOUR_MS, SeriesKey};
use tokio::task::{JoinSet, spawn_blocking};

use super::feed::Feed;
use super::known::{AllKnown, SERIES_MAX};

/// Questions at once of one who asks.
const AT_ONCE_MAX: usize = 4;
/// Series that are kept at most: a week of hours takes 15 kB.
const KEPT_MAX: usize = 4_096;

/// Quantiles of demand of a series, hour by hour.
#[derive(Debug, Default, PartialEq)]
pub struct Ahead {
    /// One row for each hour; none where nothing is known.
    pub rows: Vec<StepRow>,
    /// When the first hour begins, Unix ms.
    pub from_ms: u64,
}

/// What is kept: of one forecast step, and each with how many hours were asked for.
#[derive(Debug, Default)]
struct Kept {
    step: u64,
    series: BTreeMap<SeriesKey, (usize, Arc<Ahead>)>,
}

/// Tells what series usually want; clones share what is kept.
#[derive(Debug, Clone)]
pub struct Usual {
    feed: Feed,
    kept: Arc<Mutex<Kept>>,
}

impl Usual {
    /// Of the history behind this feed.
    pub fn new(feed: Feed) -> Self {
        Self { feed, kept: Arc::default() }
    }

    /// The next `ahead` hours of each series, as far as they come within so long in all; those that do not are left out. `step` is the number of
    /// the forecast step that it is.
    pub async fn ahead(
        &self,
        keys: BTreeSet<SeriesKey>,
        (ahead, step): (usize, u64),
        within: Duration,
    ) -> BTreeMap<SeriesKey, Arc<Ahead>> {
        let (mut out, wanted) = self.kept_of(keys, ahead, step);
        let (mut asked, mut rest) = (JoinSet::new(), wanted.chunks(SERIES_MAX));
        let gathered = async {
            loop {
                while asked.len() < AT_ONCE_MAX
                    && let Some(keys) = rest.next()
                {
                    asked.spawn(ask(self.feed.clone(), keys.to_vec(), ahead));
                }
                match asked.join_next().await {
                    Some(Ok(Some(of_some))) => self.keep(of_some, &mut out, ahead, step),
                    Some(_) => {}
                    None => return,
                }
            }
        };
        if tokio::time::timeout(within, gathered).await.is_err() {
            tracing::warn!(
                series = wanted.len(),
                "the forecaster is behind: some plans are made without the usual hours"
            );
        }
        out
    }

    fn kept_of(
        &self,
        keys: BTreeSet<SeriesKey>,
        ahead: usize,
        step: u64,
    ) -> (BTreeMap<SeriesKey, Arc<Ahead>>, Vec<SeriesKey>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.step != step {
            *kept = Kept { step, series: BTreeMap::new() };
        }
        let (mut out, mut wanted) = (BTreeMap::new(), Vec::new());
        for key in keys {
            match kept.series.get(&key).filter(|(hours, _)| *hours >= ahead) {
                Some((_, known)) => _ = out.insert(key, Arc::clone(known)),
                None => wanted.push(key),
            }
        }
        (out, wanted)
    }

    fn keep(
        &self,
        of_some: Vec<(SeriesKey, Ahead)>,
        out: &mut BTreeMap<SeriesKey, Arc<Ahead>>,
        ahead: usize,
        step: u64,
    ) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, known) in of_some {
            let known = Arc::new(known);
            if kept.step == step && (kept.series.len() < KEPT_MAX || kept.series.contains_key(&key)) {
                kept.series.insert(key.clone(), (ahead, Arc::clone(&known)));
            }
            out.insert(key, known);
        }
    }
}

/// One question, and what follows from its answer: off the runtime's threads, for it takes some milliseconds a series.
async fn ask(feed: Feed, keys: Vec<SeriesKey>, ahead: usize) -> Option<Vec<(SeriesKey, Ahead)>> {
    let known = feed.known(keys.clone()).await?;
    spawn_blocking(move || keys.into_iter().map(|key| of(key, &known, ahead)).collect()).await.ok()
}

fn of(key: SeriesKey, known: &AllKnown, ahead: usize) -> (SeriesKey, Ahead) {
    let rows = known.series.get(&key).and_then(|one| hours_ahead(&one.hours, &one.steps, known.step_ms / 1000, ahead));
    (key, Ahead { rows: rows.unwrap_or_default(), from_ms: known.now_ms / HOUR_MS * HOUR_MS })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Instant;

    use quotary_decide::forecast::hourly;
    use quotary_decide::history::History;

    use super::super::feed::Fed;
    use super::super::known;
    use super::super::testing::{MINUTE_MS, cpu_of, fill};
    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const HOURS: u64 = 30;

    /// What a forecaster holds of the CPU of so many hosts: each minute of thirty hours, the odd ones ten times the even ones.
    fn history(hosts: u8) -> (History, u64) {
        let mut history = History::new(5 * MINUTE_MS);
        let used: Vec<u64> = (0..HOURS * 60).map(|minute| if minute / 5 % 2 == 1 { 1_000 } else { 100 }).collect();
        (0..hosts).for_each(|id| fill(&mut history, id, 1_000 * 60, &used));
        (history, (1_000 + HOURS) * 60 * MINUTE_MS)
    }

    fn keys(hosts: u8) -> BTreeSet<SeriesKey> {
        (0..hosts).map(cpu_of).collect()
    }

    #[tokio::test]
    async fn a_forecaster_that_does_not_answer_is_waited_for_once_however_many_series_are_wanted() {
        let (feed, _ends) = Feed::new();
        let began = Instant::now();
        let got = Usual::new(feed).ahead(keys(250), (24, 1), Duration::from_millis(100)).await;
        assert!(got.is_empty() && began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn many_series_take_few_questions_and_none_within_the_same_step() {
        let (feed, ends) = Feed::new();
        let usual = Usual::new(feed);
        let forecaster = std::thread::spawn(move || {
            let (history, now_ms) = history(200);
            let mut asked = Vec::new();
            while let Ok(Fed::AskKnown(keys, to, _place)) = ends.fed.recv() {
                asked.push(keys.len());
                known::answer(&history, keys, now_ms, to);
            }
            asked
        });
        let first = usual.ahead(keys(200), (24, 1), LONG).await;
        let again = usual.ahead(keys(200), (12, 1), LONG).await;
        assert_eq!((first.len(), &again), (200, &first));
        let (unknown, next_step) = (keys(201), 2);
        let more = usual.ahead(unknown, (24, next_step), LONG).await;
        assert_eq!((more.len(), more[&cpu_of(200)].rows.len()), (201, 0), "of what nobody knows there is nothing");
        drop(usual);
        let asked = forecaster.join().unwrap();
        assert!(asked.iter().all(|keys| *keys <= SERIES_MAX), "{asked:?}");
        assert_eq!(asked.len(), 7 + 7, "{asked:?}");
    }

    #[tokio::test]
    async fn what_is_usual_knows_how_steps_lie_about_their_hours() {
        let (history, now_ms) = history(1);
        let known = known::of(&history, vec![cpu_of(0)], now_ms);
        let (_, ahead) = of(cpu_of(0), &known, 24);
        let hours = hourly(&known.series[&cpu_of(0)].hours, 24).unwrap();
        assert_eq!((ahead.rows.len(), ahead.from_ms), (24, now_ms));
        // Every hour's mean is 550; half of its steps are at 1000.
        let highest = |rows: &[StepRow]| rows[0][9];
        assert!(highest(&hours) < 600.0, "{:?}", hours[0]);
        assert!(highest(&ahead.rows) > 900.0, "{:?}", ahead.rows[0]);
    }
}

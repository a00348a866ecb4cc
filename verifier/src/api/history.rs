//! Metric history, page by page: chunks as they are stored, then what none holds yet.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use quotary_common::id::HostId;
use quotary_common::instant::rfc3339;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::{self, HistoryPoint, HistorySeries, HistoryView};
use quotary_decide::history::{Chunk, Measure, Point, Resolution, Subject, Watermark};

use super::App;
use super::mount::Call;
use super::views::no_host;
use crate::core::tables;
use crate::predict::Live;
use crate::store::Scan;

/// A page is full with so many points, as far as chunks go.
const POINTS_MAX: usize = 20_000;
/// Chunks that are read for one page at most.
const CHUNKS_MAX: usize = 48;
/// What may be asked for.
pub(super) const MEASURES: &str = "resource must be cpu, memory, storage, disk, network, requests, errors or latency";
/// How long the forecaster may take to tell what no chunk holds.
const LIVE_WITHIN: Duration = Duration::from_secs(20);
/// How long a chunk may be on its way to the store.
const ON_ITS_WAY: Duration = Duration::from_millis(200);

/// What is asked for.
struct Wanted {
    host: Option<HostId>,
    subject: Option<Subject>,
    measure: Option<Measure>,
    resolution: Resolution,
    span_ms: u64,
    from_ms: u64,
}

/// Where pages stand: a host (none: the sums), and the row after which the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    host: Option<HostId>,
    after: Option<(u64, u16)>,
}

/// Points of one page by series and interval.
#[derive(Default)]
struct Gathered {
    series: BTreeMap<(Subject, Measure), BTreeMap<u64, Point>>,
    count: usize,
}

pub(super) async fn history(call: Call<wire::ShowHistory>) -> Result<HistoryView, Refusal> {
    let (wanted, after) = wanted(&call)?;
    let (app, wanted) = (call.app, Arc::new(wanted));
    let places = places(&app, &wanted);
    let mut place = match after {
        Some(text) => {
            Place::parse(&text).ok_or_else(|| malformed("after must be what the page before gave as `next`"))?
        }
        None => match places.first() {
            Some(host) => Place { host: *host, after: None },
            None => return Ok(view(&wanted, None, Gathered::default(), None)),
        },
    };
    let mut gathered = Gathered::default();
    let (is_whole, reached) = read(&app, &wanted, &mut place, &mut gathered, None).await?;
    if !is_whole {
        let next = place.to_text();
        return Ok(view(&wanted, place.host, gathered, Some(next)));
    }
    let asked = tokio::time::timeout(LIVE_WITHIN, app.feed.live(place.host)).await.ok().flatten();
    let Some(Live { begins, chunk }) = asked else {
        return Err(Refusal::new(Reason::Busy, "the forecaster is behind: come back in a while"));
    };
    // A chunk that was made in between: its points are no longer among what none holds, or they still are.
    let (_, newer) = read(&app, &wanted, &mut place, &mut gathered, Some(begins)).await?;
    if reached.max(newer) < begins {
        tokio::time::sleep(ON_ITS_WAY).await;
        read(&app, &wanted, &mut place, &mut gathered, Some(begins)).await?;
    }
    gathered.add(&chunk, &wanted);
    // Places ascend, the sums come last.
    let after_this = |host: &&Option<HostId>| match (place.host, host) {
        (Some(this), Some(next)) => *next > this,
        (Some(_), None) => true,
        (None, _) => false,
    };
    let next = places.iter().find(after_this).map(|host| Place { host: *host, after: None }.to_text());
    Ok(view(&wanted, place.host, gathered, next))
}

pub(super) fn malformed(detail: &str) -> Refusal {
    Refusal::new(Reason::Malformed, detail)
}

fn wanted(call: &Call<wire::ShowHistory>) -> Result<(Wanted, Option<String>), Refusal> {
    let mut query = call.query.iter().map(|value| value.as_deref().filter(|value| !value.is_empty()));
    let mut next = || query.next().flatten();
    let (host, subject, resource) = (next(), next(), next());
    let (resolution, from, after) = (next(), next(), next());
    let host = match host {
        Some(name) => Some(call.app.view.host_named(name).ok_or_else(|| no_host(name))?.host.record.host),
        None => None,
    };
    let subject = match subject {
        Some(text) => Some(named(text).ok_or_else(|| {
            malformed("subject must be `host`, a cgroup's path that begins with `/`, `tenant:NAME` or `pool:NAME`")
        })?),
        None => None,
    };
    let measure = match resource {
        Some(text) => Some(Measure::named(text).ok_or_else(|| malformed(MEASURES))?),
        None => None,
    };
    let resolution = resolution.map_or(Some(Resolution::Minute), Resolution::named);
    let resolution = resolution.ok_or_else(|| malformed("resolution must be minute, step or hour"))?;
    let from_ms =
        from.map_or(Ok(0), |text| text.parse().map_err(|_| malformed("from must be an instant in Unix ms")))?;
    let span_ms = resolution.span_ms(call.app.timing.forecast_step_ms);
    Ok((Wanted { host, subject, measure, resolution, span_ms, from_ms }, after.map(str::to_owned)))
}

/// The subject of that name.
pub(super) fn named(text: &str) -> Option<Subject> {
    match text.split_once(':') {
        _ if text == "host" => Some(Subject::Host),
        _ if text.starts_with('/') => Some(Subject::Cgroup(text.to_owned())),
        Some(("tenant", name)) => quotary_common::envelope::Name::new(name).map(Subject::Tenant),
        Some(("pool", name)) => quotary_common::envelope::Name::new(name).map(Subject::Pool),
        _ => None,
    }
}

pub(super) fn subject_name(subject: &Subject) -> String {
    match subject {
        Subject::Host => "host".to_owned(),
        Subject::Cgroup(path) => path.clone(),
        Subject::Tenant(name) => format!("tenant:{name}"),
        Subject::Pool(name) => format!("pool:{name}"),
    }
}

/// The hosts whose series are wanted, by id; then none, for the sums, if those are.
fn places(app: &App, wanted: &Wanted) -> Vec<Option<HostId>> {
    let is_sum = matches!(wanted.subject, Some(Subject::Tenant(_) | Subject::Pool(_)));
    let with_sums = wanted.host.is_none() && (is_sum || wanted.subject.is_none());
    let hosts = match wanted.host {
        _ if is_sum => Vec::new(),
        Some(host) => vec![host],
        None => app.view.hosts().iter().map(|snapshot| snapshot.host.record.host).collect(),
    };
    hosts.into_iter().map(Some).chain(with_sums.then_some(None)).collect()
}

/// Reads chunks after `place`, until the page is full or there are no more (then true), and up to where they reach.
/// With `within`, those that reach further are left out: another has their points.
async fn read(
    app: &Arc<App>,
    wanted: &Arc<Wanted>,
    place: &mut Place,
    gathered: &mut Gathered,
    within: Option<Watermark>,
) -> Result<(bool, Watermark), Refusal> {
    let (of, by, mut at, mut all) = (Arc::clone(app), Arc::clone(wanted), *place, std::mem::take(gathered));
    // Unpacking takes a while.
    let done = tokio::task::spawn_blocking(move || {
        let reached = read_chunks(&of, &by, &mut at, &mut all, within);
        (reached, at, all)
    });
    let (reached, at, all) = done.await.map_err(|_| failed("the reading was broken off"))?;
    (*place, *gathered) = (at, all);
    reached
}

fn failed(what: &str) -> Refusal {
    tracing::error!(what, "history could not be read");
    Refusal::new(Reason::Unavailable, "the history cannot be read now")
}

fn read_chunks(
    app: &App,
    wanted: &Wanted,
    place: &mut Place,
    gathered: &mut Gathered,
    within: Option<Watermark>,
) -> Result<(bool, Watermark), Refusal> {
    let (partition, prefix) = tables::history_prefix(place.host.as_ref());
    // What begins later was made later.
    let (made_at_ms, part) = place.after.unwrap_or((wanted.from_ms, 0));
    let after = tables::history_key(place.host.as_ref(), made_at_ms, part);
    let mut reached = Watermark::default();
    let mut scan = Scan::all(tables::HISTORY).partition(partition).prefix(prefix).limit(8);
    scan.after = Some((partition, after));
    for _ in 0..CHUNKS_MAX / 8 {
        let rows = {
            let reader = app.reader.lock().unwrap_or_else(PoisonError::into_inner);
            reader.scan(&scan).map_err(|error| failed(&error.to_string()))?
        };
        let Some(last) = rows.last() else { return Ok((true, reached)) };
        scan = scan.after(last);
        for row in rows {
            if gathered.count >= POINTS_MAX {
                return Ok((false, reached));
            }
            let Ok(chunk) = Chunk::from_bytes(&row.value) else {
                tracing::warn!(host = ?place.host, "a chunk of history does not read: a gap");
                continue;
            };
            reached = reached.max(chunk.watermark);
            if within.is_some_and(|within| chunk.watermark > within) {
                return Ok((true, reached));
            }
            gathered.add(&chunk, wanted);
            place.after = tables::history_made_at_ms(&row.key).zip(part_of(&row.key));
        }
    }
    Ok((false, reached))
}

fn part_of(key: &[u8]) -> Option<u16> {
    key.split_last_chunk::<2>().map(|(_, part)| u16::from_be_bytes(*part))
}

impl Place {
    fn to_text(self) -> String {
        let host = self.host.map_or_else(|| "sums".to_owned(), |host| host.hex());
        match self.after {
            Some((made_at_ms, part)) => format!("{host}/{made_at_ms}/{part}"),
            None => host,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let host = match parts.next()? {
            "sums" => None,
            host => Some(host.parse().ok()?),
        };
        let after = match (parts.next(), parts.next(), parts.next()) {
            (None, ..) => None,
            (Some(made_at_ms), Some(part), None) => Some((made_at_ms.parse().ok()?, part.parse().ok()?)),
            _ => return None,
        };
        Some(Self { host, after })
    }
}

impl Gathered {
    fn add(&mut self, chunk: &Chunk, wanted: &Wanted) {
        if chunk.grain_ms > wanted.span_ms {
            return;
        }
        for (subject, measure, start_ms, point) in chunk.points() {
            let is_wanted = wanted.subject.as_ref().is_none_or(|wanted| wanted == subject)
                && wanted.measure.is_none_or(|wanted| wanted == measure)
                && start_ms >= wanted.from_ms;
            if !is_wanted {
                continue;
            }
            let points = self.series.entry((subject.clone(), measure)).or_default();
            let before = points.len();
            let number = start_ms / wanted.span_ms;
            points.entry(number).and_modify(|known| known.merge(point)).or_insert(*point);
            self.count += points.len() - before;
        }
    }
}

fn view(wanted: &Wanted, host: Option<HostId>, gathered: Gathered, next: Option<String>) -> HistoryView {
    let point = |(number, point): (u64, Point)| {
        let start_ms = number.saturating_mul(wanted.span_ms);
        HistoryPoint {
            timestamp: rfc3339(start_ms),
            start_ms,
            mean: point.mean(),
            max: point.max(),
            samples: point.samples(),
            censored: point.is_censored(),
        }
    };
    let series = gathered.series.into_iter().map(|((subject, measure), points)| HistorySeries {
        host,
        subject: subject_name(&subject),
        resource: measure.unit_name().to_owned(),
        points: points.into_iter().map(point).collect(),
    });
    HistoryView {
        resolution: wanted.resolution.name().to_owned(),
        interval_ms: wanted.span_ms,
        series: series.collect(),
        next,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_told_and_nothing_else_is_one() {
        let host = HostId::of(&[b"h"]);
        for place in [
            Place { host: Some(host), after: None },
            Place { host: Some(host), after: Some((1_700_000_000_000, 3)) },
            Place { host: None, after: Some((7, 0)) },
        ] {
            assert_eq!(Place::parse(&place.to_text()), Some(place));
        }
        for text in ["", "sum", "sums/1", "sums/1/2/3", "sums/-1/2", "sums/1/70000", "h-abc"] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }

    #[test]
    fn subjects_have_names() {
        for text in ["host", "/system.slice/a@b:1.service", "tenant:blue", "pool:lab"] {
            assert_eq!(subject_name(&named(text).unwrap()), text);
        }
        assert!(named("blue").is_none() && named("zone:lab").is_none());
    }
}

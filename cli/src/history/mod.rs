//! `quotary history export`
//!
//! Does: asks the verifier for pages of metric history, joins what pages cut in two, and writes CSV.
//! May assume: that a page holds series of one host, or sums, and that pages of one host follow each other.
//! Promises: no file is overwritten; what was not seen has no row; one host's series are in memory at a time.
//! Must never: fill a gap.

mod csv;

use std::collections::BTreeMap;

use quotary_common::id::HostId;
use quotary_common::wire::{HistoryPoint, HistoryView, ShowHistory};

use crate::args::HistoryExportArgs;
use crate::exit::{Code, Failure};
use crate::present;
use crate::session::Session;

use csv::Out;

/// A series among those of one host: subject and resource.
type Of = (String, String);

/// What pages have told of one host (or of sums) so far.
#[derive(Debug, Default)]
struct Joined {
    host: Option<HostId>,
    series: BTreeMap<Of, BTreeMap<u64, HistoryPoint>>,
}

/// What was written.
#[derive(Debug, Default, serde::Serialize)]
struct Written {
    series: u64,
    points: u64,
    files: u64,
}

/// Exports.
pub(crate) async fn export(session: &Session, args: &HistoryExportArgs, json: bool) -> Result<(), Failure> {
    let host = match &args.host {
        Some(text) => session.host(text).await?.hex(),
        None => String::new(),
    };
    let from = args.days.map(|days| crate::now_ms().saturating_sub(days * 24 * 3_600_000).to_string());
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    let (subject, resource, from) = (optional(&args.subject), optional(&args.resource), from.unwrap_or_default());
    let mut out = Out::open(&args.out)?;
    let (mut after, mut joined, mut written) = (String::new(), Joined::default(), Written::default());
    loop {
        let values = [&host, &subject, &resource, args.resolution.name(), &from, &after];
        let page: HistoryView = session.ask::<ShowHistory>(&values).await?;
        let next = page.next.clone();
        if next.is_some() && next.as_deref() == Some(&after) {
            return Err(Failure::new(Code::Unreadable, "the verifier answers the same page again and again"));
        }
        let of = page.series.first().map(|series| series.host);
        if of.is_some_and(|host| host != joined.host) {
            write(&mut out, &mut joined, &mut written)?;
            joined.host = of.flatten();
        }
        joined.add(page);
        match next {
            Some(next) => after = next,
            None => break,
        }
    }
    write(&mut out, &mut joined, &mut written)?;
    written.files = out.finish()?;
    if json {
        return present::json(&written);
    }
    let Written { series, points, files } = written;
    present::print(&format!("{points} points of {series} series in {files} file(s): {}\n", args.out.display()))
}

fn write(out: &mut Out, joined: &mut Joined, written: &mut Written) -> Result<(), Failure> {
    let host = joined.host;
    for ((subject, resource), points) in std::mem::take(&mut joined.series) {
        written.series += 1;
        written.points += points.len() as u64;
        out.series(host.as_ref(), (&subject, &resource), points.values())?;
    }
    Ok(())
}

impl Joined {
    fn add(&mut self, page: HistoryView) {
        for series in page.series {
            let points = self.series.entry((series.subject, series.resource)).or_default();
            for point in series.points {
                match points.entry(point.start_ms) {
                    std::collections::btree_map::Entry::Vacant(free) => {
                        free.insert(point);
                    }
                    std::collections::btree_map::Entry::Occupied(mut known) => join(known.get_mut(), &point),
                }
            }
        }
    }
}

/// One interval that two pages share: means weigh by their samples.
fn join(known: &mut HistoryPoint, other: &HistoryPoint) {
    let weigh = |point: &HistoryPoint| u128::from(point.mean) * u128::from(point.samples);
    let samples = known.samples.saturating_add(other.samples);
    let sum = weigh(known).saturating_add(weigh(other));
    known.mean = u64::try_from(sum / u128::from(samples.max(1))).unwrap_or(u64::MAX);
    known.samples = samples;
    known.max = known.max.max(other.max);
    known.censored |= other.censored;
}

#[cfg(test)]
mod tests {
    use super::*;
    use quotary_common::wire::HistorySeries;

    fn page(points: &[(u64, u64, u32, bool)]) -> HistoryView {
        let points = points.iter().map(|(start_ms, mean, samples, censored)| HistoryPoint {
            timestamp: quotary_common::instant::rfc3339(*start_ms),
            start_ms: *start_ms,
            mean: *mean,
            max: mean + 1,
            samples: *samples,
            censored: *censored,
        });
        let (subject, resource) = ("host".to_owned(), "cpu_millicores".to_owned());
        let series = vec![HistorySeries { host: None, subject, resource, points: points.collect() }];
        HistoryView { resolution: "step".to_owned(), interval_ms: 300_000, series, next: None }
    }

    #[test]
    fn an_interval_that_two_pages_share_is_one_row_and_a_gap_is_none() {
        let mut joined = Joined::default();
        joined.add(page(&[(0, 100, 3, false), (300_000, 400, 1, false)]));
        joined.add(page(&[(300_000, 100, 2, true), (900_000, 7, 1, false)]));
        let rows: Vec<_> = joined.series.values().flat_map(BTreeMap::values).collect();
        let told: Vec<_> =
            rows.iter().map(|row| (row.start_ms, row.mean, row.max, row.samples, row.censored)).collect();
        assert_eq!(told, [(0, 100, 101, 3, false), (300_000, 200, 401, 3, true), (900_000, 7, 8, 1, false)]);
    }
}

//! What is forecast: step by step as it was published, and hour by hour as it is asked for.

use std::collections::BTreeSet;
use std::time::Duration;

use quotary_common::id::GrantId;
use quotary_common::instant::rfc3339;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::units::ResourceKind;
use quotary_common::wire::{self, ForecastView, HourlyForecasts, HourlySeries};
use quotary_decide::forecast::{Forecast, HOURS_MAX, Method, PEAK_LEVELS, QUANTILE_LEVELS, hourly};
use quotary_decide::history::{HOUR_MS, Measure, SeriesKey, Subject};

use super::App;
use super::history::{MEASURES, malformed, named, subject_name};
use super::mount::Call;
use super::views::no_host;
use crate::predict::{Hours, HoursWanted};

/// Hours that are told where nobody says how many.
const HOURS_DEFAULT: usize = 24;
const HOUR_S: u64 = HOUR_MS / 1000;
/// How long the forecaster may take to hand over hours.
const HOURS_WITHIN: Duration = Duration::from_secs(20);

pub(super) async fn list(call: Call<wire::ListForecasts>) -> Result<Vec<ForecastView>, Refusal> {
    let all = call.app.ground.forecasts.all();
    let seen: BTreeSet<(GrantId, Measure)> =
        all.iter().filter_map(|(key, _, grant)| Some(((*grant)?, key.measure))).collect();
    let published = all.iter().map(|(key, forecast, grant)| view(key, forecast, *grant));
    Ok(published.chain(declared(&call.app, &seen)).collect())
}

/// What was granted and is not seen yet: the declared request, said to be no more than that.
fn declared(app: &App, seen: &BTreeSet<(GrantId, Measure)>) -> Vec<ForecastView> {
    let interval_s = (app.timing.forecast_step_ms / 1000).max(1);
    let mut views = Vec::new();
    for snapshot in app.view.hosts() {
        for entry in snapshot.grants.iter().filter(|entry| !entry.is_fenced()) {
            let (host, grant) = (entry.record.host, entry.record.grant.id);
            // What an application stores is not measured: once anything of it is seen, there is no more to come.
            let is_seen = seen.range((grant, Measure::ALL[0])..).next().is_some_and(|(of, _)| *of == grant);
            let is_to_come = |kind: &ResourceKind| {
                !(seen.contains(&(grant, (*kind).into())) || is_seen && *kind == ResourceKind::Storage)
            };
            let asked = ResourceKind::ALL.into_iter().filter(is_to_come);
            for (kind, amount) in asked.filter_map(|kind| Some((kind, entry.record.requested.get(kind)?))) {
                let key = SeriesKey { host: Some(host), subject: Subject::Host, measure: kind.into() };
                views.extend(Forecast::declared(amount, interval_s).map(|one| view(&key, &one, Some(grant))));
            }
        }
    }
    views
}

fn view(key: &SeriesKey, forecast: &Forecast, grant: Option<GrantId>) -> ForecastView {
    ForecastView {
        host: key.host,
        cgroup: key.subject.cgroup().map(str::to_owned),
        tenant: match &key.subject {
            Subject::Tenant(name) => Some(name.as_str().to_owned()),
            _ => None,
        },
        pool: match &key.subject {
            Subject::Pool(name) => Some(name.as_str().to_owned()),
            _ => None,
        },
        grant,
        resource: key.measure.unit_name().to_owned(),
        method: forecast.method.name().to_owned(),
        insufficient_history: forecast.is_insufficient(),
        model: forecast.model.as_ref().map(|model| model.name.clone()),
        model_sha256: forecast.model.as_ref().map(|model| model.sha256.clone()),
        interval_s: forecast.interval_s,
        quantile_levels: QUANTILE_LEVELS.to_vec(),
        steps: forecast.quantiles.steps().iter().map(|row| row.to_vec()).collect(),
        peak_levels: PEAK_LEVELS.to_vec(),
        peaks: forecast.peaks().map(|(length_s, values)| (length_s.to_string(), values.to_vec())).collect(),
        history_rows: forecast.history_rows,
        history_age_s: forecast.history_age_s,
    }
}

pub(super) async fn by_hour(call: Call<wire::ListHourlyForecasts>) -> Result<HourlyForecasts, Refusal> {
    let (wanted, ahead) = wanted(&call)?;
    let asked = tokio::time::timeout(HOURS_WITHIN, call.app.feed.hours(wanted)).await.ok().flatten();
    let Some(hours) = asked else {
        return Err(Refusal::new(Reason::Busy, "the forecaster is behind: come back in a while"));
    };
    // Some tenths of a millisecond for each series.
    let told = tokio::task::spawn_blocking(move || page(&hours, ahead)).await;
    told.map_err(|_| Refusal::new(Reason::Unavailable, "the forecast was broken off"))
}

fn wanted(call: &Call<wire::ListHourlyForecasts>) -> Result<(HoursWanted, usize), Refusal> {
    let mut query = call.query.iter().map(|value| value.as_deref().filter(|value| !value.is_empty()));
    let mut next = || query.next().flatten();
    let (host, subject, resource, hours, after) = (next(), next(), next(), next(), next());
    let host = match host {
        Some(name) => Some(call.app.view.host_named(name).ok_or_else(|| no_host(name))?.host.record.host),
        None => None,
    };
    let subject = subject.map(|text| {
        named(text).ok_or_else(|| {
            malformed("subject must be `host`, a cgroup's path that begins with `/`, `tenant:NAME` or `pool:NAME`")
        })
    });
    let resource = resource.map(|text| Measure::named(text).ok_or_else(|| malformed(MEASURES)));
    let ahead = hours.map_or(Some(HOURS_DEFAULT), |text| text.parse().ok());
    let ahead = ahead.filter(|hours| (1..=HOURS_MAX).contains(hours));
    let ahead = ahead.ok_or_else(|| malformed("hours must be 1 to 168"))?;
    let after = after
        .map(|text| parse_place(text).ok_or_else(|| malformed("after must be what the page before gave as `next`")));
    let wanted =
        HoursWanted { host, subject: subject.transpose()?, measure: resource.transpose()?, after: after.transpose()? };
    Ok((wanted, ahead))
}

/// The next `ahead` hours of each series, from its hours of the week before.
fn page(hours: &Hours, ahead: usize) -> HourlyForecasts {
    let start_ms = hours.now_ms / HOUR_MS * HOUR_MS;
    let series = hours.series.iter().filter_map(|(key, known)| {
        let rows = hourly(known, ahead)?;
        let oldest = known.iter().position(Option::is_some)?;
        Some(HourlySeries {
            host: key.host,
            subject: subject_name(&key.subject),
            resource: key.measure.unit_name().to_owned(),
            method: Method::Climatology.name().to_owned(),
            steps: rows.iter().map(|row| row.to_vec()).collect(),
            history_rows: known.iter().flatten().count() as u64,
            history_age_s: HOUR_S.saturating_mul((known.len() - oldest) as u64),
        })
    });
    let last = hours.series.last().filter(|_| hours.has_more);
    HourlyForecasts {
        interval_s: HOUR_S,
        start_ms,
        start: rfc3339(start_ms),
        quantile_levels: QUANTILE_LEVELS.to_vec(),
        series: series.collect(),
        next: last.map(|(key, _)| place(key)),
    }
}

/// Where a page ended: the series' host (`sums` for none), resource and subject.
fn place(key: &SeriesKey) -> String {
    let host = key.host.map_or_else(|| "sums".to_owned(), |host| host.hex());
    format!("{host}/{}/{}", key.measure.unit_name(), subject_name(&key.subject))
}

fn parse_place(text: &str) -> Option<SeriesKey> {
    let mut parts = text.splitn(3, '/');
    let (host, resource, subject) = (parts.next()?, parts.next()?, parts.next()?);
    let host = if host == "sums" { None } else { Some(host.parse().ok()?) };
    Some(SeriesKey { host, subject: named(subject)?, measure: Measure::named(resource)? })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use quotary_common::id::HostId;

    use super::*;

    fn key(subject: &str) -> SeriesKey {
        let subject = named(subject).unwrap();
        SeriesKey { host: Some(HostId::of(&[b"h"])), subject, measure: ResourceKind::Memory.into() }
    }

    #[test]
    fn a_place_is_read_as_it_was_told_and_nothing_else_is_one() {
        let sum = SeriesKey { host: None, ..key("tenant:blue") };
        for key in [key("host"), key("/a.slice/b@c.service"), sum] {
            assert_eq!(parse_place(&place(&key)), Some(key));
        }
        for text in ["", "sums", "sums/cpu", "sums/gpu/host", "h-1/cpu/host", "sums/cpu/blue"] {
            assert_eq!(parse_place(text), None, "{text}");
        }
    }

    #[test]
    fn a_page_says_hours_method_and_what_it_rests_on() {
        // Two days, a gap at their begin, high at three o'clock; it is half past the hour after.
        let mut known: Vec<_> = (0..48).map(|hour| Some(if hour % 24 == 3 { 900.0 } else { 100.0 })).collect();
        known[1] = None;
        let series = vec![(key("host"), known), (key("/young"), vec![None; 3])];
        let hours = Hours { series, now_ms: 48 * HOUR_MS + HOUR_MS / 2, has_more: true };
        let page = page(&hours, 30);
        assert_eq!((page.interval_s, page.start_ms, page.start.as_str()), (3600, 48 * HOUR_MS, "1970-01-03T00:00:00Z"));
        assert_eq!(page.next.as_deref().and_then(parse_place), Some(key("/young")));
        assert_eq!(page.series.len(), 1, "{page:?}");
        let told = &page.series[0];
        assert_eq!((told.method.as_str(), told.history_rows, told.history_age_s), ("climatology", 47, 48 * 3600));
        assert_eq!(told.steps.len(), 30);
        assert!(told.steps[3][10] > 800.0 && told.steps[12][10] < 101.0, "{:?}", told.steps);
    }
}

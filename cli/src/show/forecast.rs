//! `quotary forecast`

use quotary_common::wire::{ForecastView, ListForecasts};

use crate::exit::Failure;
use crate::present::{self, Align, Table};
use crate::session::Session;

/// Widest sparkline, columns.
const SPARK_COLUMNS: usize = 24;

/// Lists the forecasts, of one host if so asked.
pub(crate) async fn list(session: &Session, host: Option<&str>, json: bool) -> Result<(), Failure> {
    let host = match host {
        Some(text) => Some(session.host(text).await?),
        None => None,
    };
    let mut forecasts = session.ask::<ListForecasts>(&[]).await?;
    forecasts.retain(|forecast| host.is_none_or(|id| Some(id) == forecast.host));
    if json { present::json(&forecasts) } else { present::print_table(&table(&forecasts)) }
}

fn table(forecasts: &[ForecastView]) -> Table {
    let columns = [
        ("HOST", Align::Left),
        ("SERIES", Align::Left),
        ("RESOURCE", Align::Left),
        ("METHOD", Align::Left),
        ("PEAK OVER", Align::Right),
        ("P50", Align::Right),
        ("P90", Align::Right),
        ("P99", Align::Right),
        ("MEDIAN STEP BY STEP", Align::Left),
        ("HISTORY", Align::Right),
    ];
    let mut table = Table::new(&columns, "no forecasts yet: they need a few metric windows of accepted evidence");
    for forecast in forecasts {
        let (over, peaks) = longest_peak(forecast);
        let peak =
            |level| at_level(&forecast.peak_levels, peaks, level).map_or("-".to_owned(), |v| rounded(forecast, v));
        table.row([
            forecast.host.map_or_else(|| "-".to_owned(), |host| host.to_string()),
            subject(forecast),
            forecast.resource.clone(),
            method(forecast),
            over.map_or_else(|| "-".to_owned(), |seconds| present::duration(seconds.saturating_mul(1000))),
            peak(0.5),
            peak(0.9),
            peak(0.99),
            present::sparkline(&medians(forecast), SPARK_COLUMNS),
            present::duration(forecast.history_age_s.saturating_mul(1000)),
        ]);
    }
    table
}

/// By what it was forecast: the rung, and the model where that has a share.
fn method(forecast: &ForecastView) -> String {
    match &forecast.model {
        Some(model) if forecast.method == "model" => format!("model ({model})"),
        Some(model) => format!("{}, in part {model}", forecast.method),
        None if forecast.insufficient_history => format!("{} (insufficient_history)", forecast.method),
        None => forecast.method.clone(),
    }
}

/// Whose demand it is: a cgroup's, the host's, a sum's, or that of a grant of which nothing was seen yet.
fn subject(forecast: &ForecastView) -> String {
    match (&forecast.cgroup, &forecast.tenant, &forecast.pool, &forecast.grant) {
        (Some(cgroup), ..) => cgroup.clone(),
        (_, Some(tenant), ..) => format!("tenant {tenant}"),
        (_, _, Some(pool), _) => format!("pool {pool}"),
        (.., Some(grant)) => format!("grant {grant}"),
        _ => "host".to_owned(),
    }
}

/// The peak over the longest time that there is one for: seconds, and its values by level.
fn longest_peak(forecast: &ForecastView) -> (Option<u64>, &[f64]) {
    let by_length = forecast.peaks.iter().filter_map(|(key, values)| key.parse::<u64>().ok().map(|s| (s, values)));
    match by_length.max_by_key(|(seconds, _)| *seconds) {
        Some((seconds, values)) => (Some(seconds), values),
        None => (None, &[]),
    }
}

/// The value at a quantile level, if the forecast states that level.
fn at_level(levels: &[f64], values: &[f64], wanted: f64) -> Option<f64> {
    levels.iter().zip(values).find(|(level, _)| (**level - wanted).abs() < 1e-6).map(|(_, value)| *value)
}

/// The median of each step.
fn medians(forecast: &ForecastView) -> Vec<f64> {
    forecast.steps.iter().filter_map(|step| at_level(&forecast.quantile_levels, step, 0.5)).collect()
}

/// A forecast value with its resource's unit.
fn rounded(forecast: &ForecastView, value: f64) -> String {
    amount(&forecast.resource, value)
}

/// The same of a resource by its name.
pub(super) fn amount(resource: &str, value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    // Text is the only way from a float to an integer that cannot truncate or wrap unseen.
    match format!("{:.0}", value.max(0.0)).parse::<u64>() {
        Ok(whole) => present::amount(resource, whole),
        Err(_) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quotary_common::id::HostId;

    fn forecast() -> ForecastView {
        ForecastView {
            host: Some(HostId::of(&[b"h"])),
            cgroup: None,
            tenant: None,
            pool: None,
            grant: None,
            resource: "memory_bytes".to_owned(),
            method: "model".to_owned(),
            insufficient_history: false,
            model: Some("demand-1".to_owned()),
            model_sha256: None,
            interval_s: 5,
            quantile_levels: vec![0.1, 0.5, 0.9],
            steps: vec![vec![1.0, 10.0, 20.0], vec![1.0, 20.0, 40.0]],
            peak_levels: vec![0.5, 0.9, 0.99],
            peaks: [("15", [1.0; 3]), ("60", [1024.0, 1_048_576.0, f64::NAN]), ("x", [9.0; 3])]
                .map(|(k, v)| (k.to_owned(), v.to_vec()))
                .into(),
            history_rows: 10,
            history_age_s: 150,
        }
    }

    #[test]
    fn the_longest_peak_is_shown_by_quantile_in_its_unit() {
        let text = table(&[forecast()]).render(false);
        let row = text.lines().nth(1).unwrap_or_default();
        for part in ["host", "model (demand-1)", "60 s", "1 KiB", "1 MiB", "▅█", "2 min"] {
            assert!(row.contains(part), "{part} in {row}");
        }
        assert!(!row.contains("NaN"));
    }

    #[test]
    fn a_forecast_of_no_history_shows_dashes() {
        let mut none = forecast();
        (none.method, none.insufficient_history) = ("declared".to_owned(), true);
        none.grant = Some(quotary_common::id::GrantId::new([7; 32]));
        (none.model, none.steps, none.peaks) = (None, vec![], [].into());
        let text = table(&[none]).render(false);
        assert!(text.contains("declared (insufficient_history)") && text.contains(" - "), "{text}");
        assert!(text.contains("grant g-"), "{text}");
    }

    #[test]
    fn a_model_with_the_lesser_share_is_told_as_such() {
        let mixed = ForecastView { method: "ewma".to_owned(), ..forecast() };
        assert_eq!(method(&mixed), "ewma, in part demand-1");
    }

    #[test]
    fn a_sum_is_shown_by_its_name_and_without_a_host() {
        let sum = ForecastView { host: None, tenant: Some("demo".to_owned()), ..forecast() };
        let text = table(&[sum]).render(false);
        assert!(text.lines().nth(1).is_some_and(|row| row.starts_with("- ") && row.contains("tenant demo")), "{text}");
    }

    #[test]
    fn absurd_values_do_not_wrap() {
        assert_eq!(rounded(&forecast(), 1e300), "-");
        assert_eq!(rounded(&forecast(), -5.0), "0 B");
    }
}

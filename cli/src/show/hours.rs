//! `quotary forecast --hours`

use quotary_common::wire::{HourlySeries, ListHourlyForecasts};

use super::forecast::amount;
use crate::exit::Failure;
use crate::present::{self, Align, Table};
use crate::session::Session;

/// Widest sparkline, columns.
const SPARK_COLUMNS: usize = 48;

/// Lists the forecasts of the next hours, of one host if so asked.
pub(crate) async fn list(session: &Session, host: Option<&str>, hours: u16, json: bool) -> Result<(), Failure> {
    let host = match host {
        Some(text) => session.host(text).await?.to_string(),
        None => String::new(),
    };
    let ahead = hours.to_string();
    let mut after = String::new();
    let mut all = None;
    loop {
        let page = session.ask::<ListHourlyForecasts>(&[&host, "", "", &ahead, &after]).await?;
        if all.as_ref().is_some_and(|all: &quotary_common::wire::HourlyForecasts| all.start != page.start) {
            // An hour has ended between two pages: all of them are asked for again.
            (after, all) = (String::new(), None);
            continue;
        }
        let next = page.next.clone();
        let gathered =
            all.get_or_insert_with(|| quotary_common::wire::HourlyForecasts { series: Vec::new(), ..page.clone() });
        gathered.series.extend(page.series);
        gathered.next = None;
        // A page that ends where it began would never end.
        match next.filter(|next| *next != after) {
            Some(next) => after = next,
            None => break,
        }
    }
    let Some(all) = all else { return Ok(()) };
    if json {
        return present::json(&all);
    }
    present::print(&format!("hour by hour from {}\n\n", all.start))?;
    present::print_table(&table(&all.series, &all.quantile_levels))
}

fn table(series: &[HourlySeries], levels: &[f64]) -> Table {
    let columns = [
        ("HOST", Align::Left),
        ("SERIES", Align::Left),
        ("RESOURCE", Align::Left),
        ("METHOD", Align::Left),
        ("HOURS", Align::Right),
        ("HIGHEST P50", Align::Right),
        ("P90", Align::Right),
        ("P99", Align::Right),
        ("MEDIAN HOUR BY HOUR", Align::Left),
        ("POINTS", Align::Right),
        ("HISTORY", Align::Right),
    ];
    let mut table = Table::new(&columns, "no forecasts by hour yet: they need an hour of accepted evidence");
    for one in series {
        let line = |level: f64| -> Vec<f64> {
            let column = levels.iter().position(|given| (given - level).abs() < 1e-6);
            one.steps.iter().filter_map(|row| row.get(column?).copied()).collect()
        };
        let highest = |level| match line(level).into_iter().reduce(f64::max) {
            Some(value) => amount(&one.resource, value),
            None => "-".to_owned(),
        };
        table.row([
            one.host.map_or_else(|| "-".to_owned(), |host| host.to_string()),
            one.subject.clone(),
            one.resource.clone(),
            one.method.clone(),
            one.steps.len().to_string(),
            highest(0.5),
            highest(0.9),
            highest(0.99),
            present::sparkline(&line(0.5), SPARK_COLUMNS),
            one.history_rows.to_string(),
            present::duration(one.history_age_s.saturating_mul(1000)),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_hour_is_shown_by_quantile_with_what_it_rests_on() {
        let series = HourlySeries {
            host: None,
            subject: "pool:lab".to_owned(),
            resource: "cpu_millicores".to_owned(),
            method: "climatology".to_owned(),
            steps: vec![vec![100.0, 200.0, f64::NAN], vec![300.0, 1500.0, 9000.0]],
            history_rows: 47,
            history_age_s: 172_800,
        };
        let text = table(&[series], &[0.5, 0.9, 0.99]).render(false);
        let row = text.lines().nth(1).unwrap_or_default();
        for part in ["- ", "pool:lab", "climatology", " 2 ", "300m", "1500m", "▃█", "47", "2 d"] {
            assert!(row.contains(part), "{part} in {row}");
        }
        assert!(!row.contains("NaN"));
    }
}

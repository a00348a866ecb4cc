//! `quotary anomalies`, asking the verifier: alarms of series that behaved oddly.

use quotary_common::anomaly::Anomaly;
use quotary_common::wire::{AnomaliesView, AnomalyFindingView, ListAnomalies};

use crate::args::AnomaliesArgs;
use crate::exit::Failure;
use crate::now_ms;
use crate::present::{self, Align, Table};
use crate::session::Session;

/// Lists alarms, the newest first.
pub(crate) async fn list(session: &Session, args: &AnomaliesArgs, json: bool) -> Result<(), Failure> {
    let host = match args.host.as_deref() {
        Some(text) => session.host(text).await?.hex(),
        None => String::new(),
    };
    let now_ms = now_ms();
    let since = args.since.map(|age_ms| now_ms.saturating_sub(age_ms).to_string()).unwrap_or_default();
    let view = session.ask::<ListAnomalies>(&[&host, &since]).await?;
    if json {
        return present::json(&view);
    }
    present::print_table(&table(&view, now_ms))?;
    if view.older > 0 {
        present::print(&format!("{} older ones are not shown: --host shows those of one host\n", view.older))?;
    }
    present::print(&watched(&view))
}

fn watched(view: &AnomaliesView) -> String {
    let warming_up = match view.warming_up {
        0 => String::new(),
        some => format!(", {some} of them still warming up"),
    };
    let rate = view.per_series_and_month;
    format!("\n{} series are judged{warming_up}; noise alarms {rate} times per series and month.\n", view.series)
}

fn table(view: &AnomaliesView, now_ms: u64) -> Table {
    let columns = [
        ("WHEN", Align::Left),
        ("AGE", Align::Right),
        ("WHERE", Align::Left),
        ("SERIES", Align::Left),
        ("RESOURCE", Align::Left),
        ("KIND", Align::Left),
        ("SCORE", Align::Right),
        ("CAME", Align::Right),
        ("EXPECTED", Align::Right),
    ];
    let mut table = Table::new(&columns, "no alarms: no series behaved oddly");
    for alarm in &view.anomalies {
        let mut head = [present::time(alarm.at_ms), present::age(alarm.at_ms, now_ms), alarm.place.clone()];
        for finding in &alarm.findings {
            // What belongs to one alarm stands under it.
            let [when, age, place] = std::mem::take(&mut head);
            table.row([
                when,
                age,
                place,
                finding.subject.clone(),
                finding.resource.clone(),
                finding.kind.code().to_owned(),
                format!("{:.2}", finding.score),
                amount(finding, finding.came),
                amount(finding, finding.expected),
            ]);
        }
        if alarm.beyond > 0 {
            let mut row: [String; 9] = Default::default();
            row[3] = format!("and {} more", alarm.beyond);
            table.row(row);
        }
    }
    table
}

/// A figure in its unit.
fn amount(finding: &AnomalyFindingView, value: f64) -> String {
    if finding.unit != finding.resource {
        return format!("{value:.1} {}", finding.unit);
    }
    // Text is the only way from a float to an integer that cannot truncate or wrap unseen.
    match format!("{:.0}", value.max(0.0)).parse::<u64>() {
        Ok(whole) => present::amount(&finding.resource, whole),
        Err(_) => "-".to_owned(),
    }
}

/// An alarm's leaf in a line.
pub(crate) fn leaf(anomaly: &Anomaly) -> String {
    let place = match (&anomaly.host, &anomaly.sum) {
        (Some(host), _) => host.to_string(),
        (None, sum) => sum.as_ref().map_or_else(|| "-".to_owned(), |sum| sum.as_str().to_owned()),
    };
    let findings: Vec<String> = anomaly
        .findings
        .iter()
        .map(|finding| format!("{} of {} {}", finding.kind.code(), finding.subject, finding.resource))
        .collect();
    let beyond = if anomaly.beyond > 0 { format!(" and {} more", anomaly.beyond) } else { String::new() };
    let continued = if anomaly.continues { ", added to what was told" } else { "" };
    format!("{place}: {}{beyond}{continued}", findings.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quotary_common::anomaly::AnomalyKind;
    use quotary_common::wire::AnomalyView;

    fn finding(kind: AnomalyKind, resource: &str) -> AnomalyFindingView {
        AnomalyFindingView {
            subject: "/sys\u{1b}tem.slice/web.service".to_owned(),
            resource: resource.to_owned(),
            kind,
            at_ms: 1_700_000_000_000,
            score: 0.634,
            expected: 1_048_576.0,
            came: 1_073_741_824.0,
            unit: kind.own_unit().unwrap_or(resource).to_owned(),
            points: 1,
        }
    }

    #[test]
    fn an_alarm_names_each_series_with_its_figures_and_cannot_move_the_cursor() {
        let view = AnomaliesView {
            anomalies: vec![AnomalyView {
                host: None,
                place: "pool:lab".to_owned(),
                at_ms: 1_700_000_000_000,
                told_at_ms: 1_700_000_300_000,
                findings: vec![
                    finding(AnomalyKind::Spike, "memory_bytes"),
                    finding(AnomalyKind::Flatline, "cpu_millicores"),
                ],
                beyond: 3,
            }],
            older: 0,
            series: 8,
            warming_up: 2,
            per_series_and_month: 1.0,
        };
        let text = table(&view, 1_700_000_600_000).render(false);
        assert!(text.contains("spike") && text.contains("1 GiB") && text.contains("1 MiB"), "{text}");
        assert!(text.contains("flatline") && text.contains("points") && text.contains("and 3 more"), "{text}");
        assert_eq!(text.matches("pool:lab").count(), 1, "{text}");
        assert!(!text.contains('\u{1b}'));
        assert!(watched(&view).contains("8 series are judged, 2 of them still warming up"), "{}", watched(&view));
    }
}

//! What the plans of a change would be, or are.

use quotary_common::wire::{ChangePreview, CoursePreview, PreviewChange};

use super::text::named;
use crate::args::PreviewArgs;
use crate::exit::Failure;
use crate::present::{self, Align, Table, sparkline};
use crate::session::Session;
use crate::show::plans::amount;
use crate::{now_ms, offline, policy};

/// Bars of a course.
const BARS: usize = 24;

/// Shows it, and draws it if that is asked for.
pub(super) async fn preview(session: &Session, args: &PreviewArgs, json: bool) -> Result<(), Failure> {
    let id = named(session, &args.id.change).await?;
    let preview = session.ask::<PreviewChange>(&[&id]).await?;
    if json {
        present::json(&preview)?;
    } else {
        present::print(&head(&preview, now_ms()))?;
        present::print_table(&table(&preview.courses, now_ms()))?;
        let without = preview.without.iter().map(|line| format!("no plan: {}", policy::standing::lines(line)));
        present::print(&without.collect::<String>())?;
    }
    args.plot.as_ref().map_or(Ok(()), |file| offline::draw(&preview, file))
}

fn head(preview: &ChangePreview, now_ms: u64) -> String {
    let what = if preview.given {
        "the plans that are given"
    } else {
        "plans as they would be made from what is there now; they may come out otherwise"
    };
    let at = format!("{} ({})", present::time(preview.effective_at_ms), present::age(preview.effective_at_ms, now_ms));
    format!("{}, effective {at}: {what}\n\n", present::clean(&preview.id))
}

fn table(courses: &[CoursePreview], now_ms: u64) -> Table {
    let columns = [
        ("HOST", Align::Left),
        ("TARGET", Align::Left),
        ("APPLICATION", Align::Left),
        ("CONTROL", Align::Left),
        ("NOW", Align::Right),
        ("COURSE", Align::Left),
        ("TO", Align::Right),
        ("STARTS", Align::Right),
        ("FORECAST P50", Align::Right),
        ("P99", Align::Right),
        ("BY", Align::Left),
    ];
    let mut table = Table::new(&columns, "no control of any unit would move");
    for course in courses {
        let value = |value: u64| amount(course.control, value);
        let none = || "-".to_owned();
        let last = course.band.last();
        table.row([
            course.host.to_string(),
            course.target.to_string(),
            course.application.clone(),
            course.control.to_string(),
            course.now.map_or_else(none, value),
            bars(course),
            course.setpoints.last().map_or_else(none, |last| value(last.value)),
            present::age(course.starts_at_ms, now_ms),
            last.map_or_else(none, |point| value(rounded(point.p50))),
            last.map_or_else(none, |point| value(rounded(point.p99))),
            course.method.clone(),
        ]);
    }
    table
}

/// The setpoints, one after the other.
fn bars(course: &CoursePreview) -> String {
    #[expect(clippy::cast_precision_loss, reason = "bars of a few columns")]
    let values: Vec<f64> = course.setpoints.iter().map(|setpoint| setpoint.value as f64).collect();
    sparkline(&values, BARS)
}

/// An amount in whole units.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from floats saturates, and this is shown"
)]
fn rounded(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use quotary_common::envelope::Name;
    use quotary_common::id::HostId;
    use quotary_common::plan::{Setpoint, ShapedControl, Target};
    use quotary_common::wire::BandPoint;

    use super::*;

    fn course() -> CoursePreview {
        let setpoints = (0..4).map(|at| Setpoint { at_ms: 1_000 + at * 1_000, value: (400 - at * 50) << 20 });
        CoursePreview {
            host: HostId::of(&[b"h"]),
            application: "web".to_owned(),
            target: Target::Unit(Name::lossy("web.service")),
            control: ShapedControl::MemoryHigh,
            unit: "bytes".to_owned(),
            now: None,
            starts_at_ms: 61_000,
            setpoints: setpoints.collect(),
            band: vec![BandPoint { at_ms: 1_000, p50: 104_857_600.4, p90: 1.5e8, p99: 209_715_200.0 }],
            method: "model".to_owned(),
        }
    }

    #[test]
    fn a_preview_says_where_each_control_goes_and_what_demand_is_forecast() {
        let shown = table(&[course()], 1_000).render(false);
        for part in ["web.service", "memory-high", "█", "250 MiB", "in 60 s", "100 MiB", "200 MiB", "model"] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        assert!(table(&[], 0).render(false).contains("no control"));
    }

    #[test]
    fn it_is_said_whether_plans_are_given_or_would_be() {
        let preview = |given| ChangePreview {
            id: "c-x".to_owned(),
            given,
            effective_at_ms: 61_000,
            courses: vec![],
            without: vec![],
        };
        assert!(head(&preview(true), 1_000).contains("(in 60 s): the plans that are given"));
        assert!(head(&preview(false), 1_000).contains("may come out otherwise"));
    }

    #[test]
    fn what_is_no_amount_is_shown_all_the_same() {
        assert_eq!([f64::NAN, -3.0, 1.5, f64::INFINITY].map(rounded), [0, 0, 2, u64::MAX]);
    }
}

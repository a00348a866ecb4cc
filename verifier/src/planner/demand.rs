//! What units are forecast to want over a delay window: by steps for the next hour, by hours beyond it.

use std::collections::BTreeMap;
use std::time::Duration;

use quotary_common::units::ResourceKind;
use quotary_decide::forecast::{HOURS_MAX, StepRow, hourly};
use quotary_decide::history::{HOUR_MS, SeriesKey, Subject};
use quotary_decide::policy::Unit;
use quotary_decide::shape::phase::Demand;

use super::Sight;
use crate::core::Ground;
use crate::predict::{Feed, HoursWanted};

/// How long the forecaster may take to hand over the hours of one unit.
const HOURS_WITHIN: Duration = Duration::from_secs(5);
/// Units whose hours are asked for at most: beyond, the next hour's steps must do.
const UNITS_MAX: usize = 1_000;

/// Demands of units, gathered before plans are made.
#[derive(Debug, Default)]
pub struct Demands(BTreeMap<SeriesKey, Demand>);

impl Demands {
    /// What a unit is forecast to want of a resource; nothing is known of what nobody gathered.
    pub fn of(&self, unit: &Unit, kind: ResourceKind) -> Demand {
        self.0.get(&key(unit, kind)).cloned().unwrap_or_default()
    }

    /// Gathers the demands of `units` until `until_ms` (Unix ms).
    pub(crate) async fn gather(
        units: &[(&Unit, ResourceKind)],
        sight: &Sight,
        (ground, feed, step_ms): (&Ground, &Feed, u64),
        until_ms: u64,
    ) -> Self {
        let mut out = BTreeMap::new();
        let ahead = usize::try_from(until_ms.saturating_sub(sight.now_ms).div_ceil(HOUR_MS)).unwrap_or(HOURS_MAX);
        for (place, (unit, kind)) in units.iter().enumerate() {
            let key = key(unit, *kind);
            let outlook = ground.forecasts.outlook(&key);
            // Forecasts are made when a step ends.
            let made_at_ms = sight.now_ms / step_ms * step_ms;
            let hours = match ahead > 1 && place < UNITS_MAX {
                true => hours_of(&key, feed, ahead.min(HOURS_MAX)).await,
                false => None,
            };
            let steps = outlook.as_ref().map(|outlook| (&outlook.forecast, made_at_ms));
            let from_hours = hours.as_ref().map(|(rows, from_ms)| (rows.as_slice(), *from_ms));
            out.insert(key, Demand::of(steps, from_hours));
        }
        Self(out)
    }
}

async fn hours_of(key: &SeriesKey, feed: &Feed, ahead: usize) -> Option<(Vec<StepRow>, u64)> {
    let wanted =
        HoursWanted { host: key.host, subject: Some(key.subject.clone()), measure: Some(key.measure), after: None };
    let hours = tokio::time::timeout(HOURS_WITHIN, feed.hours(wanted)).await.ok().flatten()?;
    let (_, known) = hours.series.first()?;
    Some((hourly(known, ahead)?, hours.now_ms / HOUR_MS * HOUR_MS))
}

/// The series of a unit: that of its cgroup.
fn key(unit: &Unit, kind: ResourceKind) -> SeriesKey {
    let subject = Subject::Cgroup(unit.cgroup.as_str().to_owned());
    SeriesKey { host: Some(unit.host), subject, measure: kind.into() }
}

//! What units are forecast to want over a delay window: by steps for the next hour, by hours beyond it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quotary_common::units::ResourceKind;
use quotary_decide::forecast::HOURS_MAX;
use quotary_decide::history::{HOUR_MS, SeriesKey, Subject};
use quotary_decide::policy::Unit;
use quotary_decide::shape::phase::Demand;

use super::Sight;
use crate::core::Ground;
use crate::predict::Usual;

/// How long the forecaster may take to hand over the hours of all units of a change.
const HOURS_WITHIN: Duration = Duration::from_secs(5);
/// Series whose hours are asked for at most: beyond, the next hour's steps must do.
const SERIES_MAX: usize = 1_000;

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
        (ground, usual, step_ms): (&Ground, &Usual, u64),
        until_ms: u64,
    ) -> Self {
        let ahead = usize::try_from(until_ms.saturating_sub(sight.now_ms).div_ceil(HOUR_MS)).unwrap_or(HOURS_MAX);
        let keys: Vec<SeriesKey> = units.iter().map(|(unit, kind)| key(unit, *kind)).collect();
        let step = sight.now_ms / step_ms;
        let wanted: BTreeSet<SeriesKey> = match ahead > 1 {
            true => keys.iter().take(SERIES_MAX).cloned().collect(),
            false => BTreeSet::new(),
        };
        let hours = usual.ahead(wanted, (ahead.min(HOURS_MAX), step), HOURS_WITHIN).await;
        // Forecasts are made when a step ends.
        let made_at_ms = step * step_ms;
        let demand = |key: SeriesKey| {
            let outlook = ground.forecasts.outlook(&key);
            let steps = outlook.as_ref().map(|outlook| (&outlook.forecast, made_at_ms));
            let from_hours = hours.get(&key).map(|ahead| (ahead.rows.as_slice(), ahead.from_ms));
            (key, Demand::of(steps, from_hours))
        };
        Self(keys.into_iter().map(demand).collect())
    }
}

/// The series of a unit: that of its cgroup.
fn key(unit: &Unit, kind: ResourceKind) -> SeriesKey {
    let subject = Subject::Cgroup(unit.cgroup.as_str().to_owned());
    SeriesKey { host: Some(unit.host), subject, measure: kind.into() }
}

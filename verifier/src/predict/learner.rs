//! Calibration of every series, hour by hour.

use std::collections::BTreeMap;

use quotary_common::units::ResourceKind;
use quotary_decide::forecast::{Calibration, Came, LEARN_STEPS, Ladder, Past};
use quotary_decide::history::SeriesKey;

/// What was learnt of each series' forecasts, and of each resource's together.
///
/// Each series learns once in [`LEARN_STEPS`] steps: its newest hour is forecast again from what was known before it (same
/// model, same past, same answer) and compared with what came. No forecast need be kept until its time comes.
#[derive(Debug, Default)]
pub(super) struct Learner {
    series: BTreeMap<SeriesKey, Calibration>,
    pools: BTreeMap<ResourceKind, Calibration>,
    /// Steps since the last lesson.
    waited: usize,
}

impl Learner {
    /// A step has closed; every [`LEARN_STEPS`] of them, all series learn.
    pub(super) fn learn(&mut self, ladder: &Ladder<'_>, closed: &[(&SeriesKey, Vec<Option<f64>>)], pasts: &[Past<'_>]) {
        self.waited += 1;
        if self.waited < LEARN_STEPS {
            return;
        }
        self.waited = 0;
        let known = closed.iter().zip(pasts);
        let (keys, origins): (Vec<_>, Vec<Past<'_>>) = known
            .filter_map(|((key, values), past)| {
                let origin = past.earlier(LEARN_STEPS).filter(|origin| origin.known() > 0)?;
                Some(((*key, &values[origin.values.len()..]), origin))
            })
            .unzip();
        for ((key, came), (rungs, _)) in keys.into_iter().zip(ladder.rungs(&origins)) {
            let pool = self.pools.get(&key.resource).cloned().unwrap_or_default();
            self.series.entry(key.clone()).or_default().learn(&rungs, &pool, &Came::from_steps(came));
        }
        for resource in ResourceKind::ALL {
            let of_resource = self.series.iter().filter(|(key, _)| key.resource == resource);
            self.pools.insert(resource, Calibration::pooled(of_resource.map(|(_, calibration)| calibration)));
        }
    }

    /// A series' calibration and its resource's.
    pub(super) fn of(&self, key: &SeriesKey) -> (&Calibration, &Calibration) {
        (self.series.get(key).unwrap_or(&NONE), self.pools.get(&key.resource).unwrap_or(&NONE))
    }

    /// Lets go of series that are gone.
    pub(super) fn keep(&mut self, keep: impl Fn(&SeriesKey) -> bool) {
        self.series.retain(|key, _| keep(key));
    }
}

/// What is known of a series that has not learnt yet.
static NONE: Calibration = Calibration::NONE;

//! The newest forecasts, for the writer and for readers.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use quotary_common::id::GrantId;
use quotary_decide::forecast::Forecast;
use quotary_decide::history::SeriesKey;

type Map = BTreeMap<SeriesKey, (Arc<Forecast>, Option<GrantId>)>;

/// The newest forecast of each series; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Forecasts(Arc<RwLock<Map>>);

impl Forecasts {
    /// One series' forecast.
    pub fn get(&self, key: &SeriesKey) -> Option<Arc<Forecast>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).map(|(forecast, _)| Arc::clone(forecast))
    }
    /// All, with the grant that each series' application runs under.
    pub fn all(&self) -> Vec<(SeriesKey, Arc<Forecast>, Option<GrantId>)> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        map.iter().map(|(key, (forecast, grant))| (key.clone(), Arc::clone(forecast), *grant)).collect()
    }
    /// Replaces those that were made anew, and lets go of those whose series is gone.
    pub(super) fn publish(&self, fresh: Map, keep: impl Fn(&SeriesKey) -> bool) {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        map.extend(fresh);
        map.retain(|key, _| keep(key));
    }
}

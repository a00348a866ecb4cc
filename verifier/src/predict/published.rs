//! The newest forecasts, for the writer and for readers.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use quotary_common::id::GrantId;
use quotary_decide::forecast::Forecast;
use quotary_decide::history::SeriesKey;
use quotary_decide::profile::{Outlook, Strain};

/// What is published of one series.
#[derive(Debug, Clone)]
pub(super) struct Published {
    pub(super) forecast: Arc<Forecast>,
    /// What says that it wanted more than is recorded.
    pub(super) strain: Strain,
    /// The grant that its application runs under.
    pub(super) grant: Option<GrantId>,
}

type Map = BTreeMap<SeriesKey, Published>;

/// The newest forecast of each series; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Forecasts(Arc<RwLock<Map>>);

impl Forecasts {
    /// One series' forecast, and what says that it wanted more than is recorded.
    pub fn outlook(&self, key: &SeriesKey) -> Option<Outlook> {
        let published = self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()?;
        Some(Outlook { forecast: (*published.forecast).clone(), strain: published.strain })
    }
    /// All, with the grant that each series' application runs under.
    pub fn all(&self) -> Vec<(SeriesKey, Arc<Forecast>, Option<GrantId>)> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        map.iter().map(|(key, one)| (key.clone(), Arc::clone(&one.forecast), one.grant)).collect()
    }
    /// Replaces those that were made anew, and lets go of those whose series is gone.
    pub(super) fn publish(&self, fresh: Map, keep: impl Fn(&SeriesKey) -> bool) {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        map.extend(fresh);
        map.retain(|key, _| keep(key));
    }
}

//! Series in their order, from a place on.

use std::ops::Bound;

use super::{History, Series, SeriesKey};

impl History {
    /// The series that come after this one (none: all), in their order.
    pub fn after(&self, key: Option<&SeriesKey>) -> impl Iterator<Item = (&SeriesKey, &Series)> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.series.range::<SeriesKey, _>((from, Bound::Unbounded))
    }
}

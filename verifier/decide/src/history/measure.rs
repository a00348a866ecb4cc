//! What a series measures: a resource, or what an application states of itself.

use quotary_common::metric::{Gauge, Metric};
use quotary_common::units::ResourceKind;

/// What a series measures. Its number in stored forms is its place in [`Measure::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// Use of a resource, as the kernel counted it. Only this sizes grants, and only this is a model asked about.
    Resource(ResourceKind),
    /// What an application states of itself: its own word, bounded and recorded, that decides nothing.
    Gauge(Gauge),
}

impl Measure {
    /// All of them: the resources in their order, then the gauges in theirs. The list grows at its end.
    pub const ALL: [Self; 8] = [
        Self::Resource(ResourceKind::Cpu),
        Self::Resource(ResourceKind::Memory),
        Self::Resource(ResourceKind::Storage),
        Self::Resource(ResourceKind::Disk),
        Self::Resource(ResourceKind::Network),
        Self::Gauge(Gauge::RequestsPerMinute),
        Self::Gauge(Gauge::ErrorsPerMinute),
        Self::Gauge(Gauge::RequestLatencyMicroseconds),
    ];

    /// The resource, if it is one.
    pub const fn resource(self) -> Option<ResourceKind> {
        match self {
            Self::Resource(kind) => Some(kind),
            Self::Gauge(_) => None,
        }
    }

    /// The name with its unit.
    pub const fn unit_name(self) -> &'static str {
        match self {
            Self::Resource(kind) => kind.unit_name(),
            Self::Gauge(gauge) => gauge.name(),
        }
    }

    /// The measure of that name: whole, or short (`cpu`, `memory`, `storage`, `disk`, `network`, `requests`, `errors`,
    /// `latency`).
    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|measure| measure.unit_name() == text || measure.short_name() == text)
    }

    const fn short_name(self) -> &'static str {
        match self {
            Self::Resource(ResourceKind::Cpu) => "cpu",
            Self::Resource(ResourceKind::Memory) => "memory",
            Self::Resource(ResourceKind::Storage) => "storage",
            Self::Resource(ResourceKind::Disk) => "disk",
            Self::Resource(ResourceKind::Network) => "network",
            Self::Gauge(Gauge::RequestsPerMinute) => "requests",
            Self::Gauge(Gauge::ErrorsPerMinute) => "errors",
            Self::Gauge(Gauge::RequestLatencyMicroseconds) => "latency",
        }
    }

    /// What windows of a metric are counted as, if they make a series.
    pub(super) fn of(metric: Metric) -> Option<Self> {
        match metric {
            Metric::CpuMillicores => Some(Self::Resource(ResourceKind::Cpu)),
            Metric::MemoryBytes => Some(Self::Resource(ResourceKind::Memory)),
            Metric::DiskReadBytesPerSecond | Metric::DiskWriteBytesPerSecond => {
                Some(Self::Resource(ResourceKind::Disk))
            }
            Metric::NetworkTransmitBitsPerSecond => Some(Self::Resource(ResourceKind::Network)),
            Metric::StorageBytes => Some(Self::Resource(ResourceKind::Storage)),
            _ => Gauge::of(metric).map(Self::Gauge),
        }
    }

    /// As stored forms have it.
    pub(crate) const fn number(self) -> u64 {
        match self {
            Self::Resource(kind) => kind as u64,
            Self::Gauge(gauge) => ResourceKind::ALL.len() as u64 + gauge as u64,
        }
    }

    pub(crate) fn from_number(number: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Whether those of several subjects add up.
    pub(super) const fn adds_up(self) -> bool {
        match self {
            Self::Resource(_) => true,
            Self::Gauge(gauge) => gauge.adds_up(),
        }
    }
}

impl From<ResourceKind> for Measure {
    fn from(kind: ResourceKind) -> Self {
        Self::Resource(kind)
    }
}

impl From<Gauge> for Measure {
    fn from(gauge: Gauge) -> Self {
        Self::Gauge(gauge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measures_number_is_its_place_and_its_names_are_its_own() {
        for (place, measure) in (0..).zip(Measure::ALL) {
            assert_eq!((measure.number(), Measure::from_number(place)), (place, Some(measure)));
            assert_eq!(Measure::named(measure.unit_name()), Some(measure));
            assert_eq!(Measure::named(measure.short_name()), Some(measure));
        }
        assert_eq!(Measure::from_number(8), None);
        assert_eq!(Measure::named("gpu"), None);
    }

    #[test]
    fn the_numbers_of_resources_are_those_that_chunks_have_had() {
        for kind in ResourceKind::ALL {
            assert_eq!(Measure::from(kind).number(), kind as u64);
        }
    }
}

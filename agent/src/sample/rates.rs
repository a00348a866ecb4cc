//! Two samples make readings: counters become rates, gauges pass through. Pure, in integers.

use std::cmp::Ordering;
use std::sync::Arc;

use quotary_common::envelope::{Event, EventKind, Name};
use quotary_common::metric::Metric;

use super::application::{Application, ApplicationSample};
use super::host::{HostSample, Pressure};
use super::reader::Sample;

/// One whole, in parts per million.
const WHOLE_PPM: u64 = 1_000_000;
/// Per counted byte and elapsed millisecond: bytes per second.
const BYTES_PER_SECOND: u64 = 1_000;
/// Per counted byte and elapsed millisecond: bits per second.
const BITS_PER_SECOND: u64 = 8_000;
/// Per counted microsecond and elapsed millisecond: thousandths of a core.
const MILLICORES: u64 = 1;
/// Per counted microsecond and elapsed millisecond: parts per million.
const PPM: u64 = 1_000;

/// Whose reading it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The host's.
    Host,
    /// One application's.
    Application(Arc<Application>),
}

/// One value of one series at one instant, in the metric's unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Whose.
    pub subject: Subject,
    /// What.
    pub metric: Metric,
    /// Of which device, interface or mount point; `None` for the whole.
    pub label: Option<Name>,
    /// How much.
    pub value: u64,
}

/// What lies between two samples: only [`Rates::between`] makes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rates {
    at_ms: u64,
    readings: Vec<Reading>,
    events: Vec<Event>,
    applications_left_out: u64,
}

impl Rates {
    /// The readings at `current`, from what was counted since `previous`.
    ///
    /// A counter that went backward (it was reset, or wrapped where the kernel's is 32 bits wide) gives no reading
    /// but a [`EventKind::CounterReset`]. Devices and applications that are only in one of the samples start and
    /// stop silently. If the clock did not advance there are no readings. A share never exceeds the whole and CPU
    /// time never the CPUs: files are read some microseconds after the clock.
    pub fn between(previous: &Sample, current: &Sample) -> Self {
        let rates = Self {
            at_ms: current.at_ms,
            readings: Vec::with_capacity(32 + current.applications.len() * 10),
            applications_left_out: current.applications_left_out,
            ..Self::default()
        };
        let elapsed_ms = current.at_ms.saturating_sub(previous.at_ms);
        if elapsed_ms == 0 {
            return rates;
        }
        let cpus_max = current.host.cpus_online.filter(|cpus| *cpus > 0).map(|cpus| cpus.saturating_mul(1000));
        let mut between =
            Between { rates, elapsed_ms, cpu_millicores_max: cpus_max.unwrap_or(u64::MAX), subject: Subject::Host };
        between.host(&previous.host, &current.host);
        let mut earlier = previous.applications.iter().peekable();
        for application in &current.applications {
            let path = &application.application.cgroup;
            while earlier.next_if(|other| other.application.cgroup < *path).is_some() {}
            let same = earlier.next_if(|other| other.application.cgroup.cmp(path) == Ordering::Equal);
            between.subject = Subject::Application(Arc::clone(&application.application));
            between.application(same, application);
        }
        between.rates
    }

    /// When the later sample was taken, `CLOCK_BOOTTIME`, ms.
    pub fn at_ms(&self) -> u64 {
        self.at_ms
    }
    /// The readings: the host's first, its totals before its devices.
    pub fn readings(&self) -> &[Reading] {
        &self.readings
    }
    /// What happened meanwhile.
    pub fn events(&self) -> &[Event] {
        &self.events
    }
    /// Applications that the later sample left out.
    pub fn applications_left_out(&self) -> u64 {
        self.applications_left_out
    }

    #[cfg(test)]
    pub(super) fn for_test(at_ms: u64, readings: Vec<Reading>, events: Vec<Event>, applications_left_out: u64) -> Self {
        Self { at_ms, readings, events, applications_left_out }
    }
}

/// What a counter did.
enum Step {
    /// Not known at both instants.
    Unknown,
    /// Went backward.
    Backward,
    /// Grew by so much.
    Forward(u64),
}

fn step(previous: Option<u64>, current: Option<u64>) -> Step {
    match (previous, current) {
        (Some(previous), Some(current)) => current.checked_sub(previous).map_or(Step::Backward, Step::Forward),
        _ => Step::Unknown,
    }
}

/// A counter at two instants.
type Counter = (Option<u64>, Option<u64>);

/// The rates as they grow, and whose are made now.
struct Between {
    rates: Rates,
    /// Between the two readings of this subject, never zero when a rate is made.
    elapsed_ms: u64,
    cpu_millicores_max: u64,
    subject: Subject,
}

impl Between {
    fn host(&mut self, previous: &HostSample, current: &HostSample) {
        let cpu_max = self.cpu_millicores_max;
        let cpu = (previous.cpu_busy_microseconds, current.cpu_busy_microseconds);
        self.rate(Metric::CpuMillicores, cpu, MILLICORES, cpu_max);
        self.gauge(Metric::MemoryBytes, None, current.memory_used_bytes);
        self.pressure(&previous.pressure, &current.pressure);
        let filesystems = current.filesystems.as_deref();
        let used = filesystems.map(|all| all.iter().fold(0, |sum: u64, one| sum.saturating_add(one.used_bytes)));
        self.gauge(Metric::StorageBytes, None, used);
        self.disks(previous, current);
        self.interfaces(previous, current);
        for filesystem in filesystems.unwrap_or_default() {
            self.gauge(Metric::StorageBytes, Some(&filesystem.mount), Some(filesystem.used_bytes));
        }
    }

    fn disks(&mut self, previous: &HostSample, current: &HostSample) {
        let (Some(earlier), Some(disks)) = (&previous.disks, &current.disks) else { return };
        let both = disks.iter().filter_map(|disk| {
            let before = earlier
                .iter()
                .find(|other| (&other.device, other.major, other.minor) == (&disk.device, disk.major, disk.minor))?;
            Some((&disk.device, before, disk))
        });
        let read = both.clone().map(|(device, before, now)| (device, before.read_bytes, now.read_bytes));
        let written = both.map(|(device, before, now)| (device, before.written_bytes, now.written_bytes));
        self.devices(Metric::DiskReadBytesPerSecond, BYTES_PER_SECOND, read);
        self.devices(Metric::DiskWriteBytesPerSecond, BYTES_PER_SECOND, written);
    }

    fn interfaces(&mut self, previous: &HostSample, current: &HostSample) {
        let (Some(earlier), Some(interfaces)) = (&previous.interfaces, &current.interfaces) else { return };
        let both = interfaces.iter().filter_map(|interface| {
            let before = earlier.iter().find(|other| other.interface == interface.interface)?;
            Some((&interface.interface, before, interface))
        });
        let received = both.clone().map(|(name, before, now)| (name, before.received_bytes, now.received_bytes));
        let transmitted = both.map(|(name, before, now)| (name, before.transmitted_bytes, now.transmitted_bytes));
        self.devices(Metric::NetworkReceiveBitsPerSecond, BITS_PER_SECOND, received);
        self.devices(Metric::NetworkTransmitBitsPerSecond, BITS_PER_SECOND, transmitted);
    }

    /// The sum over all devices, then each. A sum that lacks a device would be a dip that never was: if one was
    /// reset, there is no sum.
    fn devices<'a>(&mut self, metric: Metric, per: u64, counters: impl Iterator<Item = (&'a Name, u64, u64)>) {
        let total_at = self.rates.readings.len();
        let mut total = Some(0u64);
        for (name, before, now) in counters {
            match step(Some(before), Some(now)) {
                Step::Forward(delta) => {
                    total = total.and_then(|total| total.checked_add(delta));
                    let value = self.per_time(delta, per, u64::MAX);
                    self.reading(metric, Some(name), value);
                }
                Step::Backward | Step::Unknown => {
                    total = None;
                    self.event(EventKind::CounterReset, 1);
                }
            }
        }
        if let Some(total) = total {
            let value = self.per_time(total, per, u64::MAX);
            let reading = Reading { subject: self.subject.clone(), metric, label: None, value };
            self.rates.readings.insert(total_at, reading);
        }
    }

    fn application(&mut self, previous: Option<&ApplicationSample>, current: &ApplicationSample) {
        if let Some(previous) = previous {
            self.elapsed_ms = current.at_ms.saturating_sub(previous.at_ms);
            if self.elapsed_ms == 0 {
                // Carried over: it was not read anew.
                return;
            }
        }
        self.gauge(Metric::MemoryBytes, None, current.memory_current_bytes);
        // Another group under the same path counts anew: nothing was reset.
        let Some(previous) = previous.filter(|previous| previous.instance == current.instance) else { return };
        let cpu = (previous.cpu_usage_microseconds, current.cpu_usage_microseconds);
        self.rate(Metric::CpuMillicores, cpu, MILLICORES, self.cpu_millicores_max);
        let read = (previous.disk_read_bytes, current.disk_read_bytes);
        self.rate(Metric::DiskReadBytesPerSecond, read, BYTES_PER_SECOND, u64::MAX);
        let written = (previous.disk_written_bytes, current.disk_written_bytes);
        self.rate(Metric::DiskWriteBytesPerSecond, written, BYTES_PER_SECOND, u64::MAX);
        self.pressure(&previous.pressure, &current.pressure);
        self.throttling(previous, current);
        self.count(EventKind::OomKill, (previous.oom_kill_count, current.oom_kill_count));
        self.count(EventKind::MemoryHigh, (previous.memory_high_count, current.memory_high_count));
    }

    /// The share of quota periods in which the group was throttled; a group that never had a quota has no share.
    fn throttling(&mut self, previous: &ApplicationSample, current: &ApplicationSample) {
        let throttled = (previous.cpu_throttled_periods, current.cpu_throttled_periods);
        self.count(EventKind::CpuThrottled, throttled);
        if let (Step::Forward(periods), Step::Forward(throttled)) =
            (step(previous.cpu_periods, current.cpu_periods), step(throttled.0, throttled.1))
            && current.cpu_periods != Some(0)
        {
            let share = u128::from(throttled) * u128::from(WHOLE_PPM) / u128::from(periods.max(1));
            self.reading(Metric::CpuThrottledPpm, None, u64::try_from(share).unwrap_or(WHOLE_PPM).min(WHOLE_PPM));
        }
    }

    fn pressure(&mut self, previous: &Pressure, current: &Pressure) {
        for (metric, counter) in [
            (Metric::CpuPressureSomePpm, (previous.cpu_some_microseconds, current.cpu_some_microseconds)),
            (Metric::MemoryPressureSomePpm, (previous.memory_some_microseconds, current.memory_some_microseconds)),
            (Metric::MemoryPressureFullPpm, (previous.memory_full_microseconds, current.memory_full_microseconds)),
            (Metric::IoPressureSomePpm, (previous.io_some_microseconds, current.io_some_microseconds)),
            (Metric::IoPressureFullPpm, (previous.io_full_microseconds, current.io_full_microseconds)),
        ] {
            self.rate(metric, counter, PPM, WHOLE_PPM);
        }
    }

    fn rate(&mut self, metric: Metric, (previous, current): Counter, per: u64, value_max: u64) {
        match step(previous, current) {
            Step::Forward(delta) => {
                let value = self.per_time(delta, per, value_max);
                self.reading(metric, None, value);
            }
            Step::Backward => self.event(EventKind::CounterReset, 1),
            Step::Unknown => {}
        }
    }

    fn per_time(&self, delta: u64, per: u64, value_max: u64) -> u64 {
        let value = u128::from(delta) * u128::from(per) / u128::from(self.elapsed_ms.max(1));
        u64::try_from(value).unwrap_or(u64::MAX).min(value_max)
    }

    fn gauge(&mut self, metric: Metric, label: Option<&Name>, value: Option<u64>) {
        if let Some(value) = value {
            self.reading(metric, label, value);
        }
    }

    /// A counter of happenings: how many more there are.
    fn count(&mut self, kind: EventKind, (previous, current): Counter) {
        match step(previous, current) {
            Step::Forward(0) | Step::Unknown => {}
            Step::Forward(more) => self.event(kind, more),
            Step::Backward => self.event(EventKind::CounterReset, 1),
        }
    }

    fn reading(&mut self, metric: Metric, label: Option<&Name>, value: u64) {
        self.rates.readings.push(Reading { subject: self.subject.clone(), metric, label: label.cloned(), value });
    }

    fn event(&mut self, kind: EventKind, count: u64) {
        let cgroup = match &self.subject {
            Subject::Host => None,
            Subject::Application(application) => Some(application.cgroup.clone()),
        };
        self.rates.events.push(Event { kind, cgroup, count, at_ms: self.rates.at_ms });
    }
}

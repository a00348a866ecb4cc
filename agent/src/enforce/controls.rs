//! What a grant means in the kernel's controls. Pure: no file, no clock.
//!
//! Follows wire.md, settled question 5, and design §9: weight before quota, `memory.high` and never a hard
//! memory limit. A grant's storage and network amounts have no control here.

use std::fmt;

use minicbor::{Decode, Encode};
use quotary_common::envelope::{ControlValue, Hierarchy, Support};
use quotary_common::units::{Class, Resources};

/// The quota's period: the kernel's default, in microseconds.
pub const PERIOD_US: u64 = 100_000;
/// The smallest quota that the kernel takes, in microseconds (EINVAL below).
const QUOTA_US_MIN: u64 = 1_000;
/// The kernel's bound on a quota, in microseconds (`max_bw_runtime_us`), with room to spare.
const QUOTA_US_MAX: u64 = 1 << 43;
/// The kernel's bounds on `cpu.shares`; it clamps silently.
const SHARES: (u64, u64) = (2, 262_144);
/// The kernel's bounds on `cpu.weight`; it refuses others.
const WEIGHT: (u64, u64) = (1, 10_000);
/// The largest byte limit of a page counter on 4 KiB pages; larger means "no limit".
const MEMORY_BYTES_MAX: u64 = 9_223_372_036_854_771_712;
/// One page a second: below it a single read would never end, and zero would mean "no limit" on version 1.
const DISK_BYTES_PER_SECOND_MIN: u64 = 4_096;
/// The kernel rounds byte limits down to pages; the largest base page of any architecture.
const PAGE_BYTES_MAX: u64 = 65_536;

/// A kernel controller that carries controls of ours, or is needed beside one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Controller {
    /// `cpu`
    Cpu,
    /// `cpuacct` (version 1): no control, but what the sampler reads.
    CpuAccounting,
    /// `memory`
    Memory,
    /// `blkio` (version 1), `io` (version 2)
    Disk,
}

impl Controller {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::CpuAccounting, Self::Memory, Self::Disk];

    /// The kernel's name for it; `None` where that version has no such controller.
    pub fn name(self, hierarchy: Hierarchy) -> Option<&'static str> {
        match (self, hierarchy) {
            (_, Hierarchy::None) | (Self::CpuAccounting, Hierarchy::V2) => None,
            (Self::Cpu, _) => Some("cpu"),
            (Self::CpuAccounting, Hierarchy::V1) => Some("cpuacct"),
            (Self::Memory, _) => Some("memory"),
            (Self::Disk, Hierarchy::V1) => Some("blkio"),
            (Self::Disk, Hierarchy::V2) => Some("io"),
        }
    }
}

/// A control of the kernel that we write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Control {
    /// `cpu.shares` (version 1)
    CpuShares,
    /// `cpu.cfs_period_us` (version 1)
    CpuPeriod,
    /// `cpu.cfs_quota_us` (version 1)
    CpuQuota,
    /// `memory.soft_limit_in_bytes` (version 1): taken, and acted upon only under global reclaim, if at all.
    MemorySoftLimit,
    /// `blkio.throttle.read_bps_device` (version 1)
    DiskReadThrottle,
    /// `blkio.throttle.write_bps_device` (version 1)
    DiskWriteThrottle,
    /// `cpu.weight` (version 2)
    CpuWeight,
    /// `cpu.max` (version 2)
    CpuMax,
    /// `memory.low` (version 2)
    MemoryLow,
    /// `memory.high` (version 2)
    MemoryHigh,
    /// `io.max` (version 2): read and write bytes per second of it.
    DiskMax,
}

impl Control {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::CpuShares,
        Self::CpuPeriod,
        Self::CpuQuota,
        Self::MemorySoftLimit,
        Self::DiskReadThrottle,
        Self::DiskWriteThrottle,
        Self::CpuWeight,
        Self::CpuMax,
        Self::MemoryLow,
        Self::MemoryHigh,
        Self::DiskMax,
    ];

    /// The kernel's file name.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::CpuShares => "cpu.shares",
            Self::CpuPeriod => "cpu.cfs_period_us",
            Self::CpuQuota => "cpu.cfs_quota_us",
            Self::MemorySoftLimit => "memory.soft_limit_in_bytes",
            Self::DiskReadThrottle => "blkio.throttle.read_bps_device",
            Self::DiskWriteThrottle => "blkio.throttle.write_bps_device",
            Self::CpuWeight => "cpu.weight",
            Self::CpuMax => "cpu.max",
            Self::MemoryLow => "memory.low",
            Self::MemoryHigh => "memory.high",
            Self::DiskMax => "io.max",
        }
    }

    /// The control of that file name.
    pub fn named(file_name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|control| control.file_name() == file_name)
    }

    /// Which hierarchy has it.
    pub fn hierarchy(self) -> Hierarchy {
        match self {
            Self::CpuWeight | Self::CpuMax | Self::MemoryLow | Self::MemoryHigh | Self::DiskMax => Hierarchy::V2,
            _ => Hierarchy::V1,
        }
    }

    /// Which controller it belongs to.
    pub fn controller(self) -> Controller {
        match self {
            Self::CpuShares | Self::CpuPeriod | Self::CpuQuota | Self::CpuWeight | Self::CpuMax => Controller::Cpu,
            Self::MemorySoftLimit | Self::MemoryLow | Self::MemoryHigh => Controller::Memory,
            Self::DiskReadThrottle | Self::DiskWriteThrottle | Self::DiskMax => Controller::Disk,
        }
    }

    /// What the kernel does with it where it is there.
    pub fn support(self) -> Support {
        // wire.md, settled question 16: measured, the soft limit is accepted and does not hold.
        if self == Self::MemorySoftLimit { Support::Advisory } else { Support::Effective }
    }

    /// The files of a parent group that may hold a stricter limit than this one of a child.
    pub fn bounded_by(self) -> &'static [&'static str] {
        match self {
            Self::CpuQuota => &["cpu.cfs_quota_us"],
            Self::CpuMax => &["cpu.max"],
            Self::MemoryHigh => &["memory.high", "memory.max"],
            _ => &[],
        }
    }
}

// In the journal a control stands by the kernel's name for it.
impl<C> Encode<C> for Control {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(self.file_name())?;
        Ok(())
    }
}
impl<'b, C> Decode<'b, C> for Control {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::named(d.str()?).ok_or_else(|| minicbor::decode::Error::message("not a control that this agent writes"))
    }
}

/// A whole disk, by device number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Device {
    /// Major number.
    #[n(0)]
    pub major: u32,
    /// Minor number.
    #[n(1)]
    pub minor: u32,
}

impl Device {
    /// Reads `major:minor`.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// One value that can be set: a control, and for disks which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Knob {
    /// The control.
    #[n(0)]
    pub control: Control,
    /// The disk, for controls that have one value per disk.
    #[n(1)]
    pub device: Option<Device>,
}

/// A knob and the value that it should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Which.
    pub knob: Knob,
    /// The value, as it is written.
    pub value: ControlValue,
}

/// The settings that an amount of a class asks for, in the order in which they are written: soft before hard.
///
/// `devices` are the host's whole disks; each gets the grant's disk amount.
pub fn wanted(class: Class, resources: &Resources, hierarchy: Hierarchy, devices: &[Device]) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut set = |control: Control, device: Option<Device>, value: String| {
        settings.push(Setting { knob: Knob { control, device }, value: ControlValue::lossy(&value) });
    };
    let quota = class != Class::Guaranteed;
    match hierarchy {
        Hierarchy::None => {}
        Hierarchy::V1 => {
            if let Some(millicores) = resources.cpu_millicores {
                set(Control::CpuShares, None, shares(millicores).to_string());
                if quota {
                    set(Control::CpuPeriod, None, PERIOD_US.to_string());
                    set(Control::CpuQuota, None, quota_us(millicores).to_string());
                }
            }
            if let Some(bytes) = resources.memory_bytes {
                set(Control::MemorySoftLimit, None, memory_bytes(bytes).to_string());
            }
            for (device, rate) in disks(resources.disk_bytes_per_second, devices) {
                set(Control::DiskReadThrottle, Some(device), format!("{device} {rate}"));
                set(Control::DiskWriteThrottle, Some(device), format!("{device} {rate}"));
            }
        }
        Hierarchy::V2 => {
            if let Some(millicores) = resources.cpu_millicores {
                set(Control::CpuWeight, None, weight(millicores).to_string());
                if quota {
                    set(Control::CpuMax, None, format!("{} {PERIOD_US}", quota_us(millicores)));
                }
            }
            if let Some(bytes) = resources.memory_bytes {
                if class == Class::Guaranteed {
                    set(Control::MemoryLow, None, memory_bytes(bytes).to_string());
                }
                set(Control::MemoryHigh, None, memory_bytes(bytes).to_string());
            }
            for (device, rate) in disks(resources.disk_bytes_per_second, devices) {
                set(Control::DiskMax, Some(device), format!("{device} rbps={rate} wbps={rate}"));
            }
        }
    }
    settings
}

/// The same with quotas in whole percents of a core, rounded up: systemd keeps them so, and no finer.
pub fn in_whole_percents(mut settings: Vec<Setting>) -> Vec<Setting> {
    for setting in settings.iter_mut().filter(|setting| setting.knob.control == Control::CpuMax) {
        let (quota, period) = setting.value.as_str().split_once(' ').unwrap_or_default();
        if let Ok(quota_us) = quota.parse::<u64>() {
            let whole = quota_us.div_ceil(PERIOD_US / 100).saturating_mul(PERIOD_US / 100);
            setting.value = ControlValue::lossy(&format!("{whole} {period}"));
        }
    }
    settings
}

fn shares(millicores: u64) -> u64 {
    (millicores.saturating_mul(1024) / 1000).clamp(SHARES.0, SHARES.1)
}

fn weight(millicores: u64) -> u64 {
    (millicores / 10).clamp(WEIGHT.0, WEIGHT.1)
}

fn quota_us(millicores: u64) -> u64 {
    millicores.saturating_mul(PERIOD_US / 1000).clamp(QUOTA_US_MIN, QUOTA_US_MAX)
}

fn memory_bytes(bytes: u64) -> u64 {
    bytes.clamp(PAGE_BYTES_MAX, MEMORY_BYTES_MAX)
}

fn disks(rate: Option<u64>, devices: &[Device]) -> impl Iterator<Item = (Device, u64)> + '_ {
    let rate = rate.map(|rate| rate.max(DISK_BYTES_PER_SECOND_MIN));
    devices.iter().filter_map(move |device| rate.map(|rate| (*device, rate)))
}

/// A control's value as one line, from what its file shows; `None` when that cannot be a value.
///
/// For a control with one value per disk it is that disk's line, and "no limit" where there is no line, in the
/// very form that undoes a limit when it is written.
pub fn shown(knob: Knob, raw: &str) -> Option<ControlValue> {
    let Some(device) = knob.device else {
        return ControlValue::new(raw.trim());
    };
    let number = device.to_string();
    let line = raw.lines().find_map(|line| line.trim().strip_prefix(&number)?.strip_prefix(' '));
    let value = match (knob.control, line) {
        (Control::DiskMax, line) => {
            let rate = |key: &str| {
                line.and_then(|line| line.split(' ').find_map(|pair| pair.strip_prefix(key)))
                    .unwrap_or("max")
                    .to_owned()
            };
            format!("{number} rbps={} wbps={}", rate("rbps="), rate("wbps="))
        }
        (_, line) => format!("{number} {}", line.unwrap_or("0")),
    };
    ControlValue::new(&value)
}

/// Whether a value read back is the value that was written: byte limits are rounded down to pages.
pub fn agrees(control: Control, written: &str, actual: &str) -> bool {
    if written == actual {
        return true;
    }
    if control.controller() != Controller::Memory {
        return false;
    }
    match (written.parse::<u64>(), actual.parse::<u64>()) {
        (Ok(written), Ok(actual)) => actual <= written && written - actual < PAGE_BYTES_MAX,
        // On version 2 the largest limit reads as `max`.
        (Ok(written), Err(_)) => actual == "max" && written > MEMORY_BYTES_MAX - PAGE_BYTES_MAX,
        _ => false,
    }
}

/// A limit's value as a number that can be compared (microseconds per [`PERIOD_US`], or bytes); `None` is no limit.
///
/// `period_us` is the period of a version 1 quota, which stands in a file of its own.
pub fn limit(value: &str, period_us: u64) -> Option<u64> {
    let mut words = value.split_ascii_whitespace();
    let amount = words.next()?.parse::<u64>().ok()?;
    // Only `cpu.max` has a second word: its period.
    let period_us = words.next().and_then(|word| word.parse().ok()).unwrap_or(period_us).max(1);
    let scaled = u128::from(amount) * u128::from(PERIOD_US) / u128::from(period_us);
    Some(u64::try_from(scaled).unwrap_or(u64::MAX))
}

#[cfg(test)]
#[path = "controls_tests.rs"]
mod tests;

//! What a control is called at systemd, and in which form it takes values. Pure.

use quotary_common::plan::ShapedControl;
use zbus::zvariant::Value as Variant;

use crate::enforce::Device;
use crate::shape::controller::Value;

/// systemd's "not set" for a weight, and "infinity" for the rest.
const UNSET: u64 = u64::MAX;
/// systemd's `idle`, as a weight (`CGROUP_WEIGHT_IDLE`).
const WEIGHT_IDLE: u64 = 0;

/// A property with its value.
#[derive(Debug, Clone)]
pub(in crate::shape) struct Assignment {
    /// Its name on the bus.
    pub(in crate::shape) name: &'static str,
    /// Its value.
    pub(in crate::shape) value: Variant<'static>,
}

/// What to ask systemd for, so that a control has a value; `None` for one that systemd does not have.
pub(super) fn assignment(control: ShapedControl, value: Value, devices: &[Device]) -> Option<Assignment> {
    let plain = |name| {
        let number = match value {
            Value::Unlimited => UNSET,
            Value::Value(number) => number,
        };
        Some(Assignment { name, value: Variant::U64(number) })
    };
    match control {
        ShapedControl::CpuWeight => plain("CPUWeight"),
        ShapedControl::CpuIdle => {
            let is_idle = value == Value::Value(1);
            Some(Assignment { name: "CPUWeight", value: Variant::U64(if is_idle { WEIGHT_IDLE } else { UNSET }) })
        }
        ShapedControl::CpuQuota => {
            // Microseconds of CPU in each second: a millicore is a thousand of them.
            let number = match value {
                Value::Unlimited => UNSET,
                Value::Value(millicores) => millicores.saturating_mul(1000),
            };
            Some(Assignment { name: "CPUQuotaPerSecUSec", value: Variant::U64(number) })
        }
        ShapedControl::MemoryHigh => plain("MemoryHigh"),
        ShapedControl::MemoryLow => plain("MemoryLow"),
        ShapedControl::IoWeight => plain("IOWeight"),
        ShapedControl::IoReadMax => per_device("IOReadBandwidthMax", value, devices),
        ShapedControl::IoWriteMax => per_device("IOWriteBandwidthMax", value, devices),
        ShapedControl::NetworkEgress | ShapedControl::Storage => None,
    }
}

fn per_device(name: &'static str, value: Value, devices: &[Device]) -> Option<Assignment> {
    let number = match value {
        Value::Unlimited => UNSET,
        Value::Value(number) => number,
    };
    let each = |device: &Device| (format!("/dev/block/{}:{}", device.major, device.minor), number);
    let all: Vec<(String, u64)> = devices.iter().map(each).collect();
    (!all.is_empty()).then(|| Assignment { name, value: Variant::from(all) })
}

/// The name of the drop-in in which systemd keeps a runtime value of the control (`50-NAME.conf`).
pub(super) const fn drop_in_name(control: ShapedControl) -> Option<&'static str> {
    Some(match control {
        ShapedControl::CpuWeight | ShapedControl::CpuIdle => "CPUWeight",
        ShapedControl::CpuQuota => "CPUQuota",
        ShapedControl::MemoryHigh => "MemoryHigh",
        ShapedControl::MemoryLow => "MemoryLow",
        ShapedControl::IoWeight => "IOWeight",
        ShapedControl::IoReadMax => "IOReadBandwidthMax",
        ShapedControl::IoWriteMax => "IOWriteBandwidthMax",
        ShapedControl::NetworkEgress | ShapedControl::Storage => return None,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn number(control: ShapedControl, value: Value) -> (&'static str, u64) {
        let assignment = assignment(control, value, &[]).unwrap();
        (assignment.name, u64::try_from(assignment.value).unwrap())
    }

    #[test]
    fn values_are_in_systemds_units() {
        assert_eq!(number(ShapedControl::CpuWeight, Value::Value(50)), ("CPUWeight", 50));
        assert_eq!(number(ShapedControl::CpuWeight, Value::Unlimited), ("CPUWeight", u64::MAX));
        assert_eq!(number(ShapedControl::CpuIdle, Value::Value(1)), ("CPUWeight", 0));
        assert_eq!(number(ShapedControl::CpuIdle, Value::Value(0)), ("CPUWeight", u64::MAX));
        assert_eq!(number(ShapedControl::CpuQuota, Value::Value(250)), ("CPUQuotaPerSecUSec", 250_000));
        assert_eq!(number(ShapedControl::MemoryHigh, Value::Unlimited), ("MemoryHigh", u64::MAX));
        assert_eq!(number(ShapedControl::MemoryLow, Value::Value(0)), ("MemoryLow", 0));
    }

    #[test]
    fn disk_rates_are_per_disk_and_without_disks_there_is_nothing_to_set() {
        let disks = [Device { major: 8, minor: 0 }, Device { major: 259, minor: 1 }];
        let set = assignment(ShapedControl::IoReadMax, Value::Value(4096), &disks).unwrap();
        let pairs: Vec<(String, u64)> = Vec::try_from(set.value).unwrap();
        assert_eq!(pairs, [("/dev/block/8:0".to_owned(), 4096), ("/dev/block/259:1".to_owned(), 4096)]);
        assert!(assignment(ShapedControl::IoWriteMax, Value::Unlimited, &[]).is_none());
    }

    #[test]
    fn what_systemd_has_it_has_a_drop_in_for() {
        let disks = [Device { major: 8, minor: 0 }];
        for control in ShapedControl::ALL {
            let has = assignment(control, Value::Value(1), &disks).is_some();
            assert_eq!(has, drop_in_name(control).is_some(), "{control}");
        }
    }
}

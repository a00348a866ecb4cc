//! What a grant's values are called at systemd. Pure.

use zbus::zvariant::Value as Variant;

use super::property::Assignment;
use crate::enforce::controls::{Control, Setting};

/// systemd's "not set" for a weight, and "infinity" for the rest.
const UNSET: u64 = u64::MAX;
/// A quota's period is a tenth of the second in which systemd counts it.
const PERIODS_PER_SECOND: u64 = 10;

/// What to ask systemd for, so that a control shows a grant's value; `None` for what systemd does not have, or no value.
pub(super) fn properties(setting: &Setting) -> Option<Vec<Assignment>> {
    let text = setting.value.as_str();
    let number = |text: &str| if text == "max" { Some(UNSET) } else { text.parse().ok() };
    let one = |name, value| Some(vec![Assignment { name, value: Variant::U64(value) }]);
    match setting.knob.control {
        Control::CpuWeight => one("CPUWeight", number(text)?),
        Control::CpuMax => {
            let quota = number(text.split(' ').next()?)?;
            one("CPUQuotaPerSecUSec", quota.saturating_mul(PERIODS_PER_SECOND))
        }
        Control::MemoryHigh => one("MemoryHigh", number(text)?),
        Control::MemoryLow => one("MemoryLow", number(text)?),
        Control::DiskMax => {
            let device = setting.knob.device?;
            let path = format!("/dev/block/{device}");
            let rate = |key: &str| number(text.split(' ').find_map(|word| word.strip_prefix(key))?);
            let each = |name, rate| Assignment { name, value: Variant::from(vec![(path.clone(), rate)]) };
            Some(vec![each("IOReadBandwidthMax", rate("rbps=")?), each("IOWriteBandwidthMax", rate("wbps=")?)])
        }
        _ => None,
    }
}

/// The names of the drop-ins in which systemd keeps a control's value at run time.
pub(super) const fn drop_in_names(control: Control) -> &'static [&'static str] {
    match control {
        Control::CpuWeight => &["CPUWeight"],
        Control::CpuMax => &["CPUQuota"],
        Control::MemoryHigh => &["MemoryHigh"],
        Control::MemoryLow => &["MemoryLow"],
        Control::DiskMax => &["IOReadBandwidthMax", "IOWriteBandwidthMax"],
        _ => &[],
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use quotary_common::envelope::ControlValue;

    use super::*;
    use crate::enforce::Device;
    use crate::enforce::controls::Knob;

    fn asked(control: Control, value: &str) -> Vec<(&'static str, u64)> {
        let setting = Setting { knob: Knob { control, device: None }, value: ControlValue::lossy(value) };
        let number = |one: Assignment| (one.name, u64::try_from(one.value).unwrap());
        properties(&setting).unwrap().into_iter().map(number).collect()
    }

    #[test]
    fn a_grants_values_are_in_systemds_units() {
        assert_eq!(asked(Control::CpuWeight, "50"), [("CPUWeight", 50)]);
        assert_eq!(asked(Control::CpuMax, "25000 100000"), [("CPUQuotaPerSecUSec", 250_000)]);
        assert_eq!(asked(Control::CpuMax, "max 100000"), [("CPUQuotaPerSecUSec", u64::MAX)]);
        assert_eq!(asked(Control::MemoryHigh, "max"), [("MemoryHigh", u64::MAX)]);
        assert_eq!(asked(Control::MemoryLow, "0"), [("MemoryLow", 0)]);
    }

    #[test]
    fn a_disk_has_two_rates_and_what_is_no_value_is_not_asked_for() {
        let disk = |value: &str| {
            let knob = Knob { control: Control::DiskMax, device: Some(Device { major: 8, minor: 0 }) };
            properties(&Setting { knob, value: ControlValue::lossy(value) })
        };
        let set = disk("8:0 rbps=4096 wbps=max").unwrap();
        let pairs = |one: &Assignment| Vec::<(String, u64)>::try_from(one.value.clone()).unwrap();
        assert_eq!(pairs(&set[0]), [("/dev/block/8:0".to_owned(), 4096)]);
        assert_eq!(pairs(&set[1]), [("/dev/block/8:0".to_owned(), u64::MAX)]);
        assert!(disk("8:0 rbps=many wbps=max").is_none() && disk("").is_none());
    }

    #[test]
    fn what_is_asked_for_has_a_drop_in_to_be_removed() {
        let disk = Some(Device { major: 8, minor: 0 });
        for control in Control::ALL {
            let value = ControlValue::lossy(if control == Control::DiskMax { "8:0 rbps=1 wbps=1" } else { "1" });
            let asked = properties(&Setting { knob: Knob { control, device: disk }, value });
            assert_eq!(asked.map_or(0, |asked| asked.len()), drop_in_names(control).len(), "{control:?}");
        }
    }
}

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use proptest::prelude::*;

const DISK: Device = Device { major: 254, minor: 0 };

fn lines(class: Class, resources: Resources, hierarchy: Hierarchy) -> Vec<String> {
    wanted(class, &resources, hierarchy, &[DISK])
        .into_iter()
        .map(|setting| format!("{}={}", setting.knob.control.file_name(), setting.value))
        .collect()
}

fn value(control: Control, class: Class, resources: Resources, hierarchy: Hierarchy) -> Option<String> {
    wanted(class, &resources, hierarchy, &[DISK])
        .into_iter()
        .find(|setting| setting.knob.control == control)
        .map(|setting| setting.value.as_str().to_owned())
}

const HALF: Resources = Resources {
    cpu_millicores: Some(500),
    memory_bytes: Some(256 << 20),
    storage_bytes: Some(1),
    disk_bytes_per_second: Some(1 << 20),
    network_bits_per_second: Some(1),
};

#[test]
fn half_a_core_on_version_1_is_512_shares_and_50_ms() {
    assert_eq!(
        lines(Class::Burstable, HALF, Hierarchy::V1),
        [
            "cpu.shares=512",
            "cpu.cfs_period_us=100000",
            "cpu.cfs_quota_us=50000",
            "memory.soft_limit_in_bytes=268435456",
            "blkio.throttle.read_bps_device=254:0 1048576",
            "blkio.throttle.write_bps_device=254:0 1048576",
        ]
    );
}

#[test]
fn half_a_core_on_version_2_is_weight_50_and_50_ms() {
    assert_eq!(
        lines(Class::BestEffort, HALF, Hierarchy::V2),
        ["cpu.weight=50", "cpu.max=50000 100000", "memory.high=268435456", "io.max=254:0 rbps=1048576 wbps=1048576",]
    );
}

#[test]
fn a_guarantee_has_no_quota_and_its_memory_protected() {
    assert_eq!(
        lines(Class::Guaranteed, HALF, Hierarchy::V2),
        ["cpu.weight=50", "memory.low=268435456", "memory.high=268435456", "io.max=254:0 rbps=1048576 wbps=1048576",]
    );
    assert!(!lines(Class::Guaranteed, HALF, Hierarchy::V1).iter().any(|line| line.contains("quota")));
}

#[test]
fn what_is_not_stated_is_not_set_and_without_controllers_nothing_is() {
    for hierarchy in [Hierarchy::V1, Hierarchy::V2] {
        assert!(lines(Class::Burstable, Resources::default(), hierarchy).is_empty());
    }
    assert!(lines(Class::Burstable, HALF, Hierarchy::None).is_empty());
}

#[test]
fn the_line_of_a_disk_is_found_and_a_missing_one_means_no_limit() {
    let knob = |control| Knob { control, device: Some(DISK) };
    let read = |control, raw: &str| shown(knob(control), raw).unwrap().as_str().to_owned();
    assert_eq!(read(Control::DiskReadThrottle, "7:0 5\n254:0 77\n"), "254:0 77");
    assert_eq!(read(Control::DiskReadThrottle, "1254:0 5\n254:01 6\n"), "254:0 0");
    assert_eq!(read(Control::DiskMax, "254:0 rbps=9 wbps=max riops=max wiops=3\n"), "254:0 rbps=9 wbps=max");
    assert_eq!(read(Control::DiskMax, ""), "254:0 rbps=max wbps=max");
}

#[test]
fn a_value_rounded_to_pages_agrees_and_another_does_not() {
    assert!(agrees(Control::MemorySoftLimit, "5000000", "4997120"));
    assert!(!agrees(Control::MemorySoftLimit, "5000000", "5000001"));
    assert!(!agrees(Control::MemoryHigh, "5000000", "4900000"));
    assert!(!agrees(Control::CpuShares, "500", "499"));
    assert!(agrees(Control::CpuMax, "50000 100000", "50000 100000"));
    assert!(!agrees(Control::MemoryHigh, "5000000", "max"));
}

#[test]
fn limits_compare_across_periods() {
    assert_eq!(limit("max 100000", PERIOD_US), None);
    assert_eq!(limit("-1", PERIOD_US), None);
    assert_eq!(limit("20000 50000", PERIOD_US), Some(40_000));
    assert_eq!(limit("20000", 200_000), Some(10_000));
    assert_eq!(limit("4096", PERIOD_US), Some(4096));
}

#[test]
fn every_control_is_found_by_its_file_name_and_only_the_soft_limit_is_advisory() {
    for control in Control::ALL {
        assert_eq!(Control::named(control.file_name()), Some(control));
        assert_eq!(control.support() == Support::Advisory, control == Control::MemorySoftLimit);
        assert!(control.controller().name(control.hierarchy()).is_some());
    }
    assert_eq!(Control::named("memory.max"), None);
}

fn first_number(text: &str) -> u64 {
    text.split(|c: char| !c.is_ascii_digit()).find(|word| !word.is_empty()).unwrap().parse().unwrap()
}

fn rate(text: &str) -> u64 {
    text.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

proptest! {
    #[test]
    fn any_amount_gives_values_that_the_kernel_takes(
        cpu in any::<u64>(), memory in any::<u64>(), disk in any::<u64>(),
    ) {
        let resources = Resources {
            cpu_millicores: Some(cpu), memory_bytes: Some(memory), disk_bytes_per_second: Some(disk), ..HALF
        };
        let get = |control, hierarchy| value(control, Class::Burstable, resources, hierarchy).unwrap();
        prop_assert!((2..=262_144).contains(&first_number(&get(Control::CpuShares, Hierarchy::V1))));
        prop_assert!((1..=10_000).contains(&first_number(&get(Control::CpuWeight, Hierarchy::V2))));
        prop_assert!((1_000..=1 << 43).contains(&first_number(&get(Control::CpuQuota, Hierarchy::V1))));
        prop_assert!((1_000..=1 << 43).contains(&first_number(&get(Control::CpuMax, Hierarchy::V2))));
        let memory = first_number(&get(Control::MemoryHigh, Hierarchy::V2));
        prop_assert!((4096..i64::MAX.unsigned_abs()).contains(&memory));
        prop_assert!(rate(&get(Control::DiskReadThrottle, Hierarchy::V1)) > 0);
        prop_assert!(rate(&get(Control::DiskMax, Hierarchy::V2)) > 0);
    }

    #[test]
    fn more_of_a_resource_is_never_a_smaller_value(small in any::<u64>(), large in any::<u64>()) {
        let (small, large) = (small.min(large), small.max(large));
        let of = |amount| Resources {
            cpu_millicores: Some(amount), memory_bytes: Some(amount), disk_bytes_per_second: Some(amount), ..HALF
        };
        for (control, number) in [
            (Control::CpuShares, first_number as fn(&str) -> u64),
            (Control::CpuQuota, first_number),
            (Control::MemorySoftLimit, first_number),
            (Control::DiskWriteThrottle, rate),
            (Control::CpuWeight, first_number),
            (Control::CpuMax, first_number),
            (Control::MemoryHigh, first_number),
            (Control::DiskMax, rate),
        ] {
            let get = |amount| value(control, Class::Burstable, of(amount), control.hierarchy()).unwrap();
            prop_assert!(number(&get(small)) <= number(&get(large)), "{}", control.file_name());
        }
    }

    #[test]
    fn what_a_file_shows_never_panics_and_reads_back_as_itself(raw in "[ -~\n]{0,60}", rate in 4096u64..) {
        for control in Control::ALL {
            let _ = shown(Knob { control, device: None }, &raw);
            let _ = shown(Knob { control, device: Some(DISK) }, &raw);
        }
        let knob = Knob { control: Control::DiskMax, device: Some(DISK) };
        let written = format!("{DISK} rbps={rate} wbps={rate}");
        let file = format!("{written} riops=max wiops=max\n");
        let shown = shown(knob, &file).unwrap();
        prop_assert_eq!(shown.as_str(), written);
    }
}

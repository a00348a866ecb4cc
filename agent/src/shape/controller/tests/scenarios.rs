//! Services as they are, by name.

use super::ShapedControl::{CpuIdle, CpuQuota, CpuWeight, MemoryHigh};
use super::*;

const TWO_MINUTES_MS: u64 = 120_000;

/// 400 MiB in use, of which so much is in constant use.
fn service(working_set_bytes: u64) -> Kernel {
    let hot_bytes = working_set_bytes / 2;
    let demand = Demand {
        cpu_millicores: 1_500,
        anon_bytes: working_set_bytes - hot_bytes,
        hot_bytes,
        cold_bytes: 400 * MIB - working_set_bytes,
        io_bytes_per_second: 10 * MIB,
    };
    let mut kernel = Kernel::new(demand);
    kernel.neighbour_millicores = 4_000;
    kernel
}

#[test]
fn memory_and_cpu_of_a_service_that_fits_are_halved_in_time_and_nobody_waits() {
    let plan = plan_over(TWO_MINUTES_MS, &[(MemoryHigh, 200 * MIB), (CpuWeight, 50)]);
    let mut run = Run::new(service(150 * MIB), rules(), plan);
    run.follow_for(TWO_MINUTES_MS + 5_000);
    for (control, target) in [(MemoryHigh, 200 * MIB), (CpuWeight, 50)] {
        let last = *run.writes(control).last().unwrap();
        assert_eq!(last.1, Value::Value(target), "{}", run.story());
        assert!((TWO_MINUTES_MS - 3_000..=TWO_MINUTES_MS).contains(&last.0), "{control} at {}", last.0);
        assert_eq!(run.codes(control), ["reached"], "{control}");
    }
    let stalled = run.rows.iter().filter_map(|row| row.reading.memory_pressure_permille).max();
    assert!(stalled < Some(20), "{stalled:?}");
    let first = run.writes(MemoryHigh)[0];
    assert!(first.1 == Value::Value(408 * MIB), "the first write changes nothing yet: {first:?}");
}

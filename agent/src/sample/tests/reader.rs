//! Reading: each hierarchy, what is absent, what is garbled.

use quotary_common::envelope::Hierarchy;
use quotary_common::limits::APPLICATIONS_MAX;
use quotary_common::metric::Metric;

use super::world::{World, application, clean};
use crate::sample::{CgroupTree, Rates, Sample, SampleError, Subject, boot_id, facts};

#[test]
fn the_host_is_read_whole() {
    let world = World::new();
    world.stat(93);
    world.disks(&[("sda", 8, 0, 4, 6), ("sda1", 8, 1, 4, 6), ("dm-0", 253, 0, 4, 6), ("nvme0n1", 259, 0, 2, 0)]);
    let host = clean(&mut world.reader(), 1, &[]).host;
    // user 1, nice 2, system 93, irq 3, softirq 4 ticks; not idle, iowait, steal, guest.
    assert_eq!(host.cpu_busy_microseconds, Some(103 * 1_000_000 / procfs::ticks_per_second()));
    assert_eq!(host.cpus_online, Some(2));
    assert_eq!(host.memory_used_bytes, Some(2000 * 1024));
    assert_eq!(host.memory_total_bytes, Some(8000 * 1024));
    let disks = host.disks.unwrap();
    assert_eq!(disks.iter().map(|disk| disk.device.as_str()).collect::<Vec<_>>(), ["nvme0n1", "sda"]);
    assert_eq!((disks[1].read_bytes, disks[1].written_bytes), (4 * 512, 6 * 512));
    let interfaces = host.interfaces.unwrap();
    assert_eq!(interfaces.len(), 1);
    assert_eq!(interfaces[0].interface.as_str(), "eth0");
    assert_eq!(host.pressure.io_full_microseconds, Some(0));
    assert_eq!(host.filesystems, None);
}

#[test]
fn absent_files_are_none_and_no_fault() {
    let world = World::new();
    world.remove("proc/pressure");
    world.remove("proc/diskstats");
    world.remove("proc/stat");
    let host = clean(&mut world.reader(), 1, &[]).host;
    assert_eq!(host.pressure, crate::sample::Pressure::default());
    assert_eq!((host.disks, host.cpu_busy_microseconds), (None, None));
    assert!(host.memory_used_bytes.is_some() && host.interfaces.is_some());
}

#[test]
fn an_empty_root_gives_an_empty_sample() {
    let directory = tempfile::TempDir::new().unwrap();
    let mut reader = crate::sample::Reader::new(directory.path());
    assert_eq!(reader.tree(), &CgroupTree::Absent);
    let sample = clean(&mut reader, 1, &[application("/a")]);
    assert_eq!((sample.host, sample.applications.len()), (Default::default(), 0));
}

#[test]
fn a_garbled_file_costs_its_own_part_and_names_its_path() {
    let world = World::new();
    world.unified("/a", 5, 0, 0);
    let mut reader = world.reader();
    for (name, text) in [
        ("proc/stat", "cpu 1 2\n"),
        ("proc/meminfo", "MemTotal: 99999999999999999999 kB\n"),
        ("proc/meminfo", "MemTotal: 18014398509481984 kB\n"),
        ("proc/diskstats", "8 0 sda x\n"),
        ("proc/diskstats", "8 0 sda 1 0 18446744073709551615 0 1 0 0 0 0 0 0\n"),
        ("proc/net/dev", "a\nb\neth0: 1 2\n"),
        ("proc/pressure/memory", "some\n"),
        ("sys/fs/cgroup/a/cpu.stat", "usage_usec many\n"),
        ("sys/fs/cgroup/a/memory.current", "\u{e4}\n"),
        ("sys/fs/cgroup/a/io.stat", "8:0 rbytes=-1\n"),
    ] {
        let good = std::fs::read_to_string(world.path(name)).unwrap();
        world.write(name, text);
        let sample = reader.sample(1, &[application("/a")]);
        assert_eq!(sample.faults.len(), 1, "{name}: {:?}", sample.faults);
        assert!(sample.faults[0].to_string().contains(world.path(name).to_str().unwrap()), "{}", sample.faults[0]);
        assert_eq!(sample.applications.len(), 1);
        assert!(name == "proc/stat" || sample.host.cpu_busy_microseconds.is_some());
        assert!(name.starts_with("proc") || sample.host.memory_used_bytes.is_some());
        world.write(name, &good);
    }
    clean(&mut reader, 2, &[application("/a")]);
}

#[test]
fn an_endless_file_is_too_large_and_not_kept() {
    let world = World::new();
    world.write("proc/diskstats", &"8 0 sda 1 0 1 0 1 0 0 0 0 0 0\n".repeat(200_000));
    let sample = world.reader().sample(1, &[]);
    assert!(matches!(sample.faults[..], [SampleError::TooLarge { .. }]), "{:?}", sample.faults);
}

#[test]
fn faults_are_bounded() {
    let world = World::new();
    let many: Vec<_> = (0..100).map(|n| application(&format!("/a{n}/../b"))).collect();
    world.unified("/a", 1, 0, 0);
    let sample = world.reader().sample(1, &many);
    assert_eq!((sample.faults.len(), sample.applications.len()), (32, 0));
}

#[test]
fn version_two_is_read() {
    let world = World::new();
    world.unified("/quotary/run-1", 1234, 7, 3);
    let mut reader = world.reader();
    assert_eq!(reader.tree().hierarchy(), Hierarchy::V2);
    let sample = clean(&mut reader, 1, &[application("/quotary/run-1")]);
    let one = &sample.applications[0];
    assert_eq!(
        (one.cpu_usage_microseconds, one.cpu_periods, one.cpu_throttled_periods),
        (Some(1234), Some(7), Some(3))
    );
    assert_eq!((one.memory_current_bytes, one.memory_high_count, one.oom_kill_count), (Some(4096), Some(2), Some(1)));
    assert_eq!((one.disk_read_bytes, one.disk_written_bytes), (Some(100), Some(200)), "only the whole disk counts");
    assert_eq!(one.pressure.cpu_some_microseconds, Some(0));
}

#[test]
fn version_one_is_read() {
    let world = World::new();
    world.legacy("/quotary/run-1", 5_000_999);
    let mut reader = world.reader();
    assert_eq!(reader.tree().hierarchy(), Hierarchy::V1);
    let sample = clean(&mut reader, 1, &[application("/quotary/run-1")]);
    let one = &sample.applications[0];
    assert_eq!(
        (one.cpu_usage_microseconds, one.cpu_periods, one.cpu_throttled_periods),
        (Some(5000), Some(10), Some(4))
    );
    assert_eq!((one.memory_current_bytes, one.memory_high_count, one.oom_kill_count), (Some(8192), None, Some(3)));
    assert_eq!((one.disk_read_bytes, one.disk_written_bytes), (Some(10), Some(20)));
    assert_eq!(one.pressure, crate::sample::Pressure::default());
}

#[test]
fn a_hybrid_host_has_controllers_on_version_one_and_pressure_on_version_two() {
    let world = World::new();
    world.legacy("/system.slice/web.service", 1000);
    world.write("sys/fs/cgroup/unified/cgroup.controllers", "");
    world.pressure("sys/fs/cgroup/unified/system.slice/web.service", 42);
    world.write("sys/fs/cgroup/systemd/system.slice/web.service/tasks", "");
    let mut reader = world.reader();
    assert_eq!(reader.tree().hierarchy(), Hierarchy::V1);
    let sample = clean(&mut reader, 1, &[]);
    let one = &sample.applications[0];
    assert_eq!(one.application.unit.as_ref().unwrap().as_str(), "web.service");
    assert_eq!((one.cpu_usage_microseconds, one.pressure.memory_full_microseconds), (Some(1), Some(42)));
}

#[test]
fn the_recursive_disk_counters_go_first() {
    let world = World::new();
    world.legacy("/a", 1);
    world.write("sys/fs/cgroup/blkio/a/blkio.throttle.io_service_bytes_recursive", "8:0 Read 70\n8:0 Write 80\n");
    let sample = clean(&mut world.reader(), 1, &[application("/a")]);
    assert_eq!(sample.applications[0].disk_written_bytes, Some(80));
}

#[test]
fn services_are_found_beside_given_applications_and_each_once() {
    let world = World::new();
    for cgroup in ["/quotary/run-1", "/system.slice/b.service", "/system.slice/a.scope", "/system.slice/x.slice"] {
        world.unified(cgroup, 1, 0, 0);
    }
    let mut given = application("/system.slice/b.service");
    given.uid = Some(7);
    let gone = application("/quotary/run-2");
    let twice = application("/quotary/run-1");
    let sample = clean(&mut world.reader(), 1, &[given, gone, twice.clone(), twice]);
    let seen: Vec<(&str, Option<u32>)> =
        sample.applications.iter().map(|one| (one.application.cgroup.as_str(), one.application.uid)).collect();
    assert_eq!(
        seen,
        [("/quotary/run-1", Some(1000)), ("/system.slice/a.scope", None), ("/system.slice/b.service", Some(7))]
    );
    assert_eq!(sample.applications_left_out, 0);
}

#[test]
fn services_fill_what_the_given_leave_and_the_rest_is_counted() {
    let world = World::new();
    world.unified("/system.slice/a.service", 1, 0, 0);
    world.unified("/system.slice/b.service", 1, 0, 0);
    let mut reader = world.reader();
    let given: Vec<_> = (0..APPLICATIONS_MAX + 3).map(|n| application(&format!("/gone-{n}"))).collect();
    assert_eq!(reader.sample(1, &given[..APPLICATIONS_MAX - 1]).applications_left_out, 1);
    let sample = reader.sample(2, &given);
    assert_eq!((sample.applications_left_out, sample.applications.len()), (5, 0));
}

#[test]
fn services_are_looked_for_again_after_ten_seconds() {
    let world = World::new();
    world.unified("/system.slice/a.service", 1, 0, 0);
    let mut reader = world.reader();
    assert_eq!(clean(&mut reader, 1_000, &[]).applications.len(), 1);
    world.unified("/system.slice/b.service", 1, 0, 0);
    assert_eq!(clean(&mut reader, 10_999, &[]).applications.len(), 1);
    assert_eq!(clean(&mut reader, 11_000, &[]).applications.len(), 2);
}

#[test]
fn services_take_turns_and_given_applications_do_not() {
    let world = World::new();
    for n in 0..10 {
        world.unified(&format!("/system.slice/{n}.service"), 0, 0, 0);
    }
    world.unified("/a", 0, 0, 0);
    let mut reader = world.reader();
    let first = clean(&mut reader, 1000, &[application("/a")]);
    assert!(first.applications.iter().all(|one| one.at_ms == 1000), "none is known yet, so all are read");
    for n in 0..10 {
        world.unified(&format!("/system.slice/{n}.service"), 1_000_000, 0, 0);
    }
    let mut last = first;
    let mut seen = Vec::new();
    for second in 2..=6 {
        let sample = clean(&mut reader, second * 1000, &[application("/a")]);
        assert_eq!(sample.applications.len(), 11);
        assert_eq!(sample.applications.iter().filter(|one| one.at_ms == second * 1000).count(), 3);
        let rates = Rates::between(&last, &sample);
        let cpu = rates.readings().iter().filter(|reading| reading.metric == Metric::CpuMillicores);
        seen.extend(cpu.filter(|reading| reading.subject != Subject::Host).map(|reading| reading.value));
        last = sample;
    }
    // The application each second, and each service once, over the time since it was read before.
    seen.sort_unstable();
    assert_eq!(seen, [0, 0, 0, 0, 0, 200, 200, 250, 250, 333, 333, 500, 500, 1000, 1000]);
    world.remove("sys/fs/cgroup/system.slice/3.service");
    let gone = |sample: &Sample| !sample.applications.iter().any(|one| one.application.cgroup.as_str().contains("/3."));
    assert!((7..=11).any(|second| gone(&clean(&mut reader, second * 1000, &[]))), "it is missed within five samples");
}

#[test]
fn interfaces_without_a_device_do_not_count_beside_one_with() {
    let world = World::new();
    world.interfaces(&[("lo", 9, 9), ("eth0", 1, 1), ("br0", 1, 1), ("veth1", 1, 1)]);
    let mut reader = world.reader();
    assert_eq!(clean(&mut reader, 1, &[]).host.interfaces.unwrap().len(), 3);
    world.write("sys/class/net/eth1/device/uevent", "");
    world.interfaces(&[("lo", 9, 9), ("eth0", 1, 1), ("br0", 1, 1), ("eth1", 1, 1)]);
    let interfaces = clean(&mut reader, 2, &[]).host.interfaces.unwrap();
    assert_eq!(interfaces.iter().map(|one| one.interface.as_str()).collect::<Vec<_>>(), ["eth1"]);
}

#[test]
fn facts_and_boot_id_come_from_the_tree() {
    let world = World::new();
    let found = facts(world.root()).unwrap();
    assert_eq!((found.hostname.as_str(), found.kernel.as_str()), ("host-1", "6.1.0-9-amd64"));
    assert_eq!((found.cpu_millicores, found.memory_bytes), (2000, 8000 * 1024));
    assert_eq!(found.os.unwrap().as_str(), "Debian GNU/Linux 12 (bookworm)");
    assert_eq!(boot_id(world.root()).unwrap().to_string(), "0f1e2d3c4b5a69788796a5b4c3d2e1f0");
    world.write("proc/sys/kernel/random/boot_id", "not a uuid");
    assert!(matches!(boot_id(world.root()), Err(SampleError::Malformed { .. })));
    world.remove("proc/sys/kernel/random/boot_id");
    assert!(boot_id(world.root()).unwrap_err().to_string().contains("random/boot_id is missing"));
    world.remove("proc/meminfo");
    assert!(matches!(facts(world.root()), Err(SampleError::Missing { .. })));
}

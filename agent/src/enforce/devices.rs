//! The host's whole disks: what a disk amount is throttled on.

use std::fs;
use std::path::Path;

use super::controls::Device;

/// Most disks that are throttled; a grant's settings grow with them.
const DISKS_MAX: usize = 64;

/// The host's disks under `root` (`/` on a host): block devices with hardware below them, in order of number.
///
/// Partitions, loop devices, compressed memory and volumes on top of disks are none: their traffic reaches a
/// disk, or none at all.
pub fn whole_disks(root: &Path) -> Vec<Device> {
    let entries = fs::read_dir(root.join("sys/block")).into_iter().flatten().flatten();
    let mut disks: Vec<Device> = entries
        .filter(|entry| entry.path().join("device").exists())
        .filter_map(|entry| Device::parse(&fs::read_to_string(entry.path().join("dev")).ok()?))
        .collect();
    disks.sort_unstable();
    disks.truncate(DISKS_MAX);
    disks
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_block_devices_with_hardware_below_are_disks() {
        let temp = tempfile::tempdir().unwrap();
        for (name, number, hardware) in [("vda", "254:0\n", true), ("loop0", "7:0\n", false), ("sda", "8:0\n", true)] {
            let dir = temp.path().join("sys/block").join(name);
            fs::create_dir_all(if hardware { dir.join("device") } else { dir.clone() }).unwrap();
            fs::write(dir.join("dev"), number).unwrap();
        }
        let found: Vec<_> = whole_disks(temp.path()).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["8:0", "254:0"]);
        assert!(whole_disks(&temp.path().join("nowhere")).is_empty());
    }
}

//! How full the running host's filesystems are, as `sysinfo` tells.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use quotary_common::envelope::Name;
use quotary_common::limits::NAME_BYTES_MAX;
use sysinfo::{DiskRefreshKind, Disks};

/// How long a reading of the filesystems is used again, ms: they fill slowly, and asking a full or remote one costs.
const REFRESH_MS: u64 = 60_000;

/// How full one filesystem is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesystemUsage {
    /// Where it is mounted; of a longer path the end.
    pub mount: Name,
    /// Bytes that cannot be had any more.
    pub used_bytes: u64,
    /// All bytes.
    pub total_bytes: u64,
}

/// The last reading of the filesystems.
#[derive(Debug, Default)]
pub(super) struct Filesystems {
    read_at_ms: Option<u64>,
    last: Option<Arc<[FilesystemUsage]>>,
}

impl Filesystems {
    /// The last reading, or a new one if that is older than a minute. `sysinfo` skips network filesystems, whose
    /// server may hang.
    pub(super) fn read(&mut self, now_ms: u64) -> Option<Arc<[FilesystemUsage]>> {
        let is_fresh =
            self.read_at_ms.is_some_and(|at_ms| now_ms.checked_sub(at_ms).is_some_and(|age| age < REFRESH_MS));
        if !is_fresh {
            self.read_at_ms = Some(now_ms);
            self.last = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage())
                .ok()
                .map(|disks| one_per_device(&disks));
        }
        self.last.clone()
    }
}

/// A device that is mounted twice (bind mounts, subvolumes) counts once, under its shortest mount point. What shows
/// another filesystem's space as its own (overlays, FUSE) does not count, unless it is the root.
fn one_per_device(disks: &Disks) -> Arc<[FilesystemUsage]> {
    let mut by_device: BTreeMap<&std::ffi::OsStr, &sysinfo::Disk> = BTreeMap::new();
    let counts = |disk: &&sysinfo::Disk| {
        let is_root = disk.mount_point() == Path::new("/");
        disk.total_space() > 0 && (is_root || has_own_space(&disk.file_system().to_string_lossy()))
    };
    for disk in disks.iter().filter(counts) {
        let shortest = by_device.entry(disk.name()).or_insert(disk);
        if disk.mount_point().as_os_str().len() < shortest.mount_point().as_os_str().len() {
            *shortest = disk;
        }
    }
    let mut filesystems: Vec<FilesystemUsage> = by_device
        .values()
        .map(|disk| FilesystemUsage {
            mount: mount_name(disk.mount_point()),
            used_bytes: disk.total_space().saturating_sub(disk.available_space()),
            total_bytes: disk.total_space(),
        })
        .collect();
    filesystems.sort_by(|a, b| a.mount.cmp(&b.mount));
    filesystems.dedup_by(|a, b| a.mount == b.mount);
    filesystems.into()
}

fn has_own_space(kind: &str) -> bool {
    !matches!(kind, "overlay" | "aufs" | "ramfs" | "efivarfs") && !kind.starts_with("fuse")
}

/// A long mount point's end tells more than its start (`…/pods/ID/volumes/KIND/NAME/mount`).
fn mount_name(mount: &Path) -> Name {
    let text = mount.to_string_lossy();
    if text.len() <= NAME_BYTES_MAX {
        return Name::lossy(&text);
    }
    let earliest = text.len() - (NAME_BYTES_MAX - '…'.len_utf8());
    let start = (earliest..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    Name::lossy(&format!("…{}", text.get(start..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_mount_point_keeps_its_end() {
        assert_eq!(mount_name(Path::new("/srv")).as_str(), "/srv");
        let long = format!("/{}/volume-1", "ä".repeat(100));
        let name = mount_name(Path::new(&long));
        assert!(name.as_str().starts_with('…') && name.as_str().ends_with("ä/volume-1"), "{name}");
        assert!(name.as_str().len() > NAME_BYTES_MAX - 4);
    }

    #[test]
    fn overlays_and_fuse_show_the_space_of_others() {
        assert!(has_own_space("ext4") && has_own_space("zfs"));
        assert!(!has_own_space("overlay") && !has_own_space("fuse.sshfs") && !has_own_space("fuseblk"));
    }
}

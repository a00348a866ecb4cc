//! What the kernel says of one process: when it started, whose it is, which cgroups it is in.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use quotary_common::envelope::{CgroupPath, Hierarchy, Name};

use super::group::GroupPath;
use super::probe::Mount;
use super::record::Origin;

/// Most bytes read of a file below `/proc/PID`.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Most hierarchies remembered of a process; Linux has 12 controllers of version 1.
const ORIGINS_MAX: usize = 16;

fn file(root: &Path, pid: u32, name: &str) -> PathBuf {
    root.join(format!("proc/{pid}/{name}"))
}

/// The file's text; `None` when the process is gone.
fn read(root: &Path, pid: u32, name: &str) -> std::io::Result<Option<String>> {
    let mut bytes = Vec::new();
    let read = File::open(file(root, pid, name)).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        // ESRCH: it went away between opening and reading.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A field of `/proc/PID/stat`, counted from 1 as proc(5) does; the name in field 2 may hold anything.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

/// When the process started, in clock ticks since boot (field 22); `None` when it is gone.
///
/// # Errors
/// When the file cannot be read, or is none.
pub fn start_time_ticks(root: &Path, pid: u32) -> std::io::Result<Option<u64>> {
    let Some(stat) = read(root, pid, "stat")? else { return Ok(None) };
    match stat_field(&stat, 22) {
        Some(ticks) => Ok(Some(ticks)),
        None => Err(std::io::Error::new(ErrorKind::InvalidData, "its stat file has no start time")),
    }
}

/// The process above (field 4); `None` when it is gone or has none.
pub fn parent(root: &Path, pid: u32) -> Option<u32> {
    let stat = read(root, pid, "stat").ok()??;
    u32::try_from(stat_field(&stat, 4)?).ok().filter(|pid| *pid != 0)
}

/// The process's owner; `None` when it is gone.
pub fn uid(root: &Path, pid: u32) -> Option<u32> {
    fs::metadata(root.join(format!("proc/{pid}"))).ok().map(|facts| facts.uid())
}

/// The process's real uid, which is who started it whatever it runs as; `None` when it is gone.
///
/// # Errors
/// When the file cannot be read, or is none.
pub fn real_uid(root: &Path, pid: u32) -> std::io::Result<Option<u32>> {
    let Some(status) = read(root, pid, "status")? else { return Ok(None) };
    // The name, which stands before, cannot hold a line end: the kernel writes it escaped.
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    match line.and_then(|uids| uids.split_ascii_whitespace().next()?.parse().ok()) {
        Some(uid) => Ok(Some(uid)),
        None => Err(std::io::Error::new(ErrorKind::InvalidData, "its status file has no uid")),
    }
}

/// The cgroups that the process is in, one per hierarchy; none when it is gone.
pub fn origins(root: &Path, pid: u32) -> Vec<Origin> {
    let text = read(root, pid, "cgroup").ok().flatten().unwrap_or_default();
    let origin = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Origin { controllers: Name::new(controllers)?, path: CgroupPath::new(path)? })
    };
    text.lines().filter_map(origin).take(ORIGINS_MAX).collect()
}

/// Which of these cgroups is in the hierarchy of `mount`; `None` for its root, and for what is no plain path.
pub fn origin_in(origins: &[Origin], mount: &Mount, hierarchy: Hierarchy) -> Option<GroupPath> {
    let found = origins.iter().find(|origin| {
        let listed = origin.controllers.as_str();
        match hierarchy {
            Hierarchy::V2 => listed.is_empty(),
            _ => mount
                .controllers
                .iter()
                .filter_map(|controller| controller.name(hierarchy))
                .any(|name| listed.split(',').any(|word| word == name)),
        }
    })?;
    GroupPath::parse(found.path.as_str())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::enforce::controls::Controller;

    #[test]
    fn a_name_full_of_brackets_and_numbers_does_not_move_the_start_time() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("proc/7")).unwrap();
        let rest = (4..=22).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        fs::write(temp.path().join("proc/7/stat"), format!("7 (a) R 1 (b 2) S {rest} 23\n")).unwrap();
        assert_eq!(start_time_ticks(temp.path(), 7).unwrap(), Some(22));
        assert_eq!(parent(temp.path(), 7), Some(4));
        assert_eq!(start_time_ticks(temp.path(), 8).unwrap(), None);
        fs::write(temp.path().join("proc/7/stat"), "7 (cut").unwrap();
        assert!(start_time_ticks(temp.path(), 7).is_err());
    }

    #[test]
    fn the_real_uid_is_the_first_of_four() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("proc/7")).unwrap();
        fs::write(temp.path().join("proc/7/status"), "Name:\tUid: 5\nUid:\t1000\t0\t0\t0\nGid:\t1\n").unwrap();
        assert_eq!(real_uid(temp.path(), 7).unwrap(), Some(1000));
        assert_eq!(real_uid(temp.path(), 8).unwrap(), None);
        fs::write(temp.path().join("proc/7/status"), "Name:\ta\n").unwrap();
        assert!(real_uid(temp.path(), 7).is_err());
    }

    #[test]
    fn our_own_start_time_is_there_and_stays() {
        let own = std::process::id();
        let first = start_time_ticks(Path::new("/"), own).unwrap();
        assert!(first.is_some_and(|ticks| ticks > 0));
        assert_eq!(start_time_ticks(Path::new("/"), own).unwrap(), first);
    }

    #[test]
    fn the_origin_is_that_of_the_mounts_hierarchy() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("proc/7")).unwrap();
        let lines = "5:cpu,cpuacct:/a\n4:memory:/b/c\n3:blkio:/\n2:name=systemd:/s\n0::/v2\nnonsense\n";
        fs::write(temp.path().join("proc/7/cgroup"), lines).unwrap();
        let found = origins(temp.path(), 7);
        let mount = |controller| Mount { controllers: vec![controller], dir: PathBuf::new() };
        let origin = |controller, hierarchy| {
            origin_in(&found, &mount(controller), hierarchy).map(|path| path.as_str().to_owned())
        };
        assert_eq!(origin(Controller::CpuAccounting, Hierarchy::V1).as_deref(), Some("/a"));
        assert_eq!(origin(Controller::Memory, Hierarchy::V1).as_deref(), Some("/b/c"));
        assert_eq!(origin(Controller::Disk, Hierarchy::V1), None);
        assert_eq!(origin(Controller::Cpu, Hierarchy::V2).as_deref(), Some("/v2"));
    }
}

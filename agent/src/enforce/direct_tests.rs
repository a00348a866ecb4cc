#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::enforce::groups::CgroupsRs;

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("cgroup.procs");
    fs::write(&path, text).unwrap();
    (temp, path)
}

#[test]
fn a_pid_that_was_cut_is_not_a_pid() {
    let (_temp, path) = file("7\n12345\n678\n");
    assert_eq!(processes(&path, 1 << 10).unwrap(), [7, 12_345, 678]);
    // Cut within 12345, and right before its line end: whether more digits follow cannot be told.
    assert_eq!(processes(&path, 4).unwrap(), [7]);
    assert_eq!(processes(&path, 7).unwrap(), [7]);
    assert_eq!(processes(&path, 8).unwrap(), [7, 12_345]);
    let (_temp, path) = file("12\nx\n");
    assert!(processes(&path, 1 << 10).is_err());
}

#[test]
fn a_group_whose_processes_cannot_be_read_is_not_called_empty() {
    let temp = tempfile::tempdir().unwrap();
    let group = GroupPath::parse("/quotary/run-x").unwrap();
    let mount = Mount { controllers: vec![Controller::Cpu], dir: temp.path().to_path_buf() };
    let direct = Direct::new(Hierarchy::V1, vec![mount], Box::new(CgroupsRs));
    assert!(direct.is_empty(&group).unwrap(), "one that is not there is");
    let dir = temp.path().join("quotary/run-x");
    fs::create_dir_all(&dir).unwrap();
    assert!(direct.is_empty(&group).unwrap());
    // It opens, and cannot be read.
    fs::write(dir.join("cgroup.procs"), [0xff, b'\n']).unwrap();
    assert!(matches!(direct.is_empty(&group), Err(KernelError::Io { step: "read", .. })));
    assert!(direct.move_out(&group, |_, _| None).is_err());
    fs::write(dir.join("cgroup.procs"), "7\n").unwrap();
    assert!(!direct.is_empty(&group).unwrap());
}

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use quotary_common::envelope::Name;

use super::form::Mounted;
use super::*;

const MOUNTINFO: &str = "\
22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/nvme0n1 rw,errors=remount-ro
30 22 7:0 / /srv rw,relatime shared:9 - ext4 /dev/loop0 rw,prjquota
31 22 7:1 / /srv/with\\040blank rw - xfs /dev/loop1 rw,attr2,prjquota
32 22 0:40 / /tmp rw - tmpfs tmpfs rw,size=1024k
33 22 7:2 / /var/lib/x rw - xfs /dev/loop2 rw,attr2,noquota
34 30 7:3 / /srv/deep rw - ext4 /dev/loop3 rw
35 30 7:4 / /srv/deep rw - ext4 /dev/loop4 rw,prjquota
";

fn at(path: &str) -> Mounted {
    parse::mounted(MOUNTINFO, path).unwrap()
}

#[test]
fn a_directory_is_where_the_deepest_and_last_mount_is() {
    assert_eq!(at("/srv/x").point, "/srv");
    assert_eq!(at("/srv/with blank/x").point, "/srv/with blank");
    assert_eq!(at("/srvx").point, "/");
    assert!(at("/srv/deep/x").why_not().is_none(), "what was mounted last covers what was before");
    assert_eq!(parse::mounted("", "/srv"), None);
    for odd in ["x", "1 2 3", "a b c d /srv rw - ext4", " - ", "1 2 3:4 / \\9 rw - ext4 d rw"] {
        assert_eq!(parse::mounted(odd, "/srv/x"), None, "{odd}");
    }
}

#[test]
fn where_a_file_system_has_no_project_quotas_it_is_said() {
    assert_eq!(at("/srv/x").why_not(), None);
    assert_eq!(at("/srv/with blank").why_not(), None);
    assert!(at("/home/a").why_not().unwrap().contains("without project quotas"));
    assert!(at("/var/lib/x/y").why_not().unwrap().contains("prjquota"));
    assert!(at("/tmp/a").why_not().unwrap().contains("tmpfs"));
}

#[test]
fn tools_are_read_as_they_print() {
    assert_eq!(parse::project(" 4242 --------------e----P-- /srv/x\n"), Some((4242, true)));
    assert_eq!(parse::project("    0 --------------e------- /srv/x\n"), Some((0, false)));
    for bad in ["", "lsattr: no", "-1 ---P /x", "99999999999 P /x"] {
        assert_eq!(parse::project(bad), None, "{bad}");
    }
    let report = "*** Report for project quotas on device /dev/loop0\n\
        Project,BlockStatus,FileStatus,BlockUsed,BlockSoftLimit,BlockHardLimit,BlockGrace,FileUsed,FileSoftLimit,FileHardLimit,FileGrace\n\
        #0,ok,ok,20,0,0,0,2,0,0,0\n#4242,soft,ok,3000,2048,9000,1700000000,7,11,12,0\n";
    let limits = Limits { used_kib: 3000, soft_kib: 2048, hard_kib: 9000, soft_files: 11, hard_files: 12 };
    assert_eq!(parse::limits(report, 4242), Some(limits));
    assert_eq!(parse::limits(report, 7), Some(Limits::default()), "a project that never wrote has no line");
    assert_eq!(parse::limits(report, 42), Some(Limits::default()), "and no beginning of another's");
    for bad in ["", "#4242,1,2", "Project,BlockUsed\n#4242,1\n", &report.replace("2048", "-1")] {
        assert_eq!(parse::limits(bad, 4242), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn whatever_is_printed_is_read_without_harm(text in "(\\PC|\n){0,300}", words in "(#4242|Project,BlockUsed|[0-9,]{1,9}| - |/srv|ext4|\\\\04|\n| ){0,60}") {
        for text in [&text, &words] {
            parse::mounted(text, "/srv/x");
            parse::project(text);
            parse::limits(text, 4242);
        }
    }
}

#[test]
fn only_plain_absolute_paths_are_directories() {
    assert!(is_directory("/srv/x") && is_directory("/srv/with blank/ä"));
    for bad in ["", "/", "srv", "/srv/", "/srv//x", "/srv/../x", "/srv/./x", "/srv\nx"] {
        assert!(!is_directory(bad), "{bad:?}");
    }
}

/// A hand that keeps limits in memory.
#[derive(Debug, Clone, Default)]
struct FakeHand(Arc<Mutex<(Limits, bool)>>);

impl Hand for FakeHand {
    fn ask(&mut self, request: &Request) -> Result<Reply, HandError> {
        let mut kernel = self.0.lock().unwrap();
        if kernel.1 {
            return Err(HandError::Refused("not now".to_owned()));
        }
        match request {
            Request::LookAtStorage(_) => Ok(Reply::Storage(kernel.0)),
            Request::BringStorage(directory, soft_kib) => {
                assert_eq!((directory.path.as_str(), directory.project), ("/srv/x", 4242));
                kernel.0.soft_kib = *soft_kib;
                Ok(Reply::Done)
            }
            _ => Err(HandError::Form),
        }
    }
}

fn unit() -> Target {
    Target::Unit(Name::lossy("x.service"))
}

fn assigned() -> Vec<Assigned> {
    vec![Assigned { unit: unit(), directory: Directory { path: "/srv/x".to_owned(), project: 4242 } }]
}

fn host(mountinfo: &str) -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir_all(temp.path().join("proc/self")).unwrap();
    fs::create_dir_all(temp.path().join("srv/x")).unwrap();
    fs::write(temp.path().join("proc/self/mountinfo"), mountinfo).unwrap();
    temp
}

#[test]
fn a_host_that_cannot_says_why() {
    let why =
        |mountinfo: &str, assigned: &[Assigned]| Storage::open(host(mountinfo).path(), assigned).why_not().unwrap();
    assert!(why(MOUNTINFO, &[]).contains("[[shape.storage]]"));
    assert!(why(&MOUNTINFO.replace(",prjquota", ""), &assigned()).contains("without project quotas"));
    assert!(why(MOUNTINFO, &assigned()).contains("quotary-agent-storage.socket"));
    assert!(why(&MOUNTINFO.replace("/srv rw", "/srv/x rw"), &assigned()).contains("whole file system"));
    let gone = host(MOUNTINFO);
    fs::remove_dir(gone.path().join("srv/x")).unwrap();
    assert!(Storage::open(gone.path(), &assigned()).why_not().unwrap().contains("cannot be entered"));
    std::os::unix::fs::symlink("/etc", gone.path().join("srv/x")).unwrap();
    assert!(Storage::open(gone.path(), &assigned()).why_not().unwrap().contains("link"));
}

#[test]
fn the_soft_limit_is_moved_and_put_back_exactly_even_by_an_agent_that_no_more_names_the_directory() {
    let host = host(MOUNTINFO);
    let hand = FakeHand::default();
    hand.0.lock().unwrap().0 = Limits { used_kib: 10, soft_kib: 777, hard_kib: 5, soft_files: 3, hard_files: 4 };
    let mut storage = Storage::with(host.path(), &assigned(), Some(Box::new(hand.clone())));
    assert_eq!(storage.why_not(), None);
    assert!(storage.has(&unit()) && !storage.has(&Target::Unit(Name::lossy("y.service"))));
    let prior = storage.prior(&unit()).unwrap();
    assert_eq!(prior.value, Value::Value(777 * 1024));
    storage.write(&unit(), Value::Value(10_000_001)).unwrap();
    let limits = hand.0.lock().unwrap().0;
    assert_eq!(limits, Limits { used_kib: 10, soft_kib: 9764, hard_kib: 5, soft_files: 3, hard_files: 4 });
    storage.write(&unit(), Value::Unlimited).unwrap();
    assert_eq!(hand.0.lock().unwrap().0.soft_kib, 0);
    let mut later = Storage::with(host.path(), &[], Some(Box::new(hand.clone())));
    hand.0.lock().unwrap().1 = true;
    later.undo(&prior).unwrap_err();
    hand.0.lock().unwrap().1 = false;
    later.undo(&prior).unwrap();
    assert_eq!(hand.0.lock().unwrap().0.soft_kib, 777);
    assert!(later.undo(&Prior { note: None, ..prior }).is_err());
}

#[test]
fn a_directory_without_a_limit_of_its_own_shows_none_and_what_it_uses_by_the_hand() {
    let host = host(MOUNTINFO);
    let hand = FakeHand::default();
    hand.0.lock().unwrap().0.used_kib = 10;
    let mut storage = Storage::with(host.path(), &assigned(), Some(Box::new(hand)));
    let cgroup = GroupPath::parse("/system.slice/x.service").unwrap();
    assert_eq!(storage.actual(&cgroup), Actual::Absent, "nobody has it there");
    let place = Place { cgroup: cgroup.clone(), instance: "1".into(), oomd_limit_permille: None, is_unit: true };
    storage.follow(&unit(), Some(&place));
    assert_eq!(storage.actual(&cgroup), Actual::Unlimited);
    assert_eq!(storage.used_bytes(&cgroup), Some(10 * 1024));
    storage.follow(&unit(), None);
    assert_eq!(storage.actual(&cgroup), Actual::Absent);
}

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use quotary_common::envelope::{CgroupPath, Name};

use super::form::Mounted;
use super::host::Next;
use super::*;
use crate::enforce::record::LeaseForm;
use crate::shape::record::{Held, Record};

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
    let limits =
        Limits { used_kib: 3000, soft_kib: 2048, hard_kib: 9000, soft_files: 11, hard_files: 12, is_new: false };
    assert_eq!(parse::limits(report, 4242), Some(limits));
    let new = Some(Limits { is_new: true, ..Limits::default() });
    assert_eq!(parse::limits(report, 7), new, "a project that never wrote has no line");
    assert_eq!(parse::limits(report, 42), new, "and no beginning of another's");
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

/// A file system in memory.
#[derive(Debug, Default)]
struct Kernel {
    limits: Limits,
    is_refusing: bool,
    is_silent: bool,
    asked: usize,
    looked_at: Vec<String>,
    put_back: Vec<PutBack>,
}

/// A hand that keeps limits in memory.
#[derive(Debug, Clone, Default)]
struct FakeHand(Arc<Mutex<Kernel>>);

impl FakeHand {
    fn with(soft_kib: u64) -> Self {
        let hand = Self::default();
        hand.kernel().limits = Limits { soft_kib, ..LIMITS };
        hand
    }
    fn kernel(&self) -> std::sync::MutexGuard<'_, Kernel> {
        self.0.lock().unwrap()
    }
    /// The control, once it was looked at.
    fn over(&self, host: &tempfile::TempDir, assigned: &[Assigned]) -> Storage {
        let mut storage = Storage::with(host.path(), assigned, Some(Box::new(self.clone())));
        assert_eq!(self.kernel().asked, 0, "nobody is asked before all else was put back");
        storage.look_around();
        storage
    }
}

impl Hand for FakeHand {
    fn ask(&mut self, request: &Request) -> Result<Reply, HandError> {
        let mut kernel = self.kernel();
        kernel.asked += 1;
        if kernel.is_silent {
            return Err(HandError::Io { step: "hear", source: std::io::ErrorKind::WouldBlock.into() });
        }
        if kernel.is_refusing {
            return Err(HandError::Refused("not now".to_owned()));
        }
        match request {
            Request::LookAtStorage(directory) => {
                kernel.looked_at.push(directory.path.clone());
                Ok(Reply::Storage(kernel.limits))
            }
            Request::BringStorage(directory, soft_kib, may_be_new) => {
                assert_eq!((directory.path.as_str(), directory.project), ("/srv/x", 4242));
                host::words(directory.project, kernel.limits, *soft_kib, *may_be_new)?;
                kernel.limits = Limits { soft_kib: *soft_kib, is_new: false, ..kernel.limits };
                Ok(Reply::Done)
            }
            Request::PutBackStorage(wanted) => {
                if host::next(&kernel.limits, wanted) == Next::Set {
                    kernel.limits.soft_kib = wanted.soft_kib;
                }
                kernel.put_back.push(wanted.clone());
                Ok(Reply::Storage(kernel.limits))
            }
            _ => Err(HandError::Form),
        }
    }
}

const LIMITS: Limits = Limits { used_kib: 10, soft_kib: 0, hard_kib: 5, soft_files: 3, hard_files: 4, is_new: false };

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

fn looked_around(root: &std::path::Path, assigned: &[Assigned]) -> Storage {
    let mut storage = Storage::open(root, assigned);
    storage.look_around();
    storage
}

#[test]
fn a_host_that_cannot_says_why() {
    let why =
        |mountinfo: &str, assigned: &[Assigned]| looked_around(host(mountinfo).path(), assigned).why_not().unwrap();
    assert!(why(MOUNTINFO, &[]).contains("[[shape.storage]]"));
    assert!(why(&MOUNTINFO.replace(",prjquota", ""), &assigned()).contains("without project quotas"));
    assert!(why(MOUNTINFO, &assigned()).contains("quotary-agent-storage.socket"));
    assert!(why(&MOUNTINFO.replace("/srv rw", "/srv/x rw"), &assigned()).contains("whole file system"));
    let gone = host(MOUNTINFO);
    fs::remove_dir(gone.path().join("srv/x")).unwrap();
    assert!(looked_around(gone.path(), &assigned()).why_not().unwrap().contains("cannot be entered"));
    std::os::unix::fs::symlink("/etc", gone.path().join("srv/x")).unwrap();
    let storage = looked_around(gone.path(), &assigned());
    assert!(storage.why_not().unwrap().contains("link") && !storage.is_there());
}

fn other() -> Assigned {
    let unit = Target::Unit(Name::lossy("y.service"));
    Assigned { unit, directory: Directory { path: "/srv/y".to_owned(), project: 7 } }
}

#[test]
fn a_directory_that_cannot_have_it_is_told_though_another_can() {
    let host = host(MOUNTINFO);
    let both = [assigned(), vec![other()]].concat();
    let storage = FakeHand::default().over(&host, &both);
    assert!(storage.is_there() && storage.has(&unit()) && !storage.has(&other().unit));
    let why = storage.why_not().unwrap();
    assert!(why.starts_with("not for y.service: /srv/y cannot be entered") && !why.contains("x.service"), "{why}");
    let many: Vec<Assigned> = (0..20).map(|_| other()).collect();
    assert!(FakeHand::default().over(&host, &many).why_not().unwrap().ends_with("; not for 12 more"));
}

/// What the journal makes of a prior when something was written since.
fn written(prior: &Prior, kib: &[u64]) -> Prior {
    let values: Vec<Value> = kib.iter().map(|kib| Value::Value(kib * 1024)).collect();
    prior_with(prior, &values)
}

#[test]
fn the_soft_limit_is_moved_and_put_back_exactly_even_by_an_agent_that_no_more_names_the_directory() {
    let host = host(MOUNTINFO);
    let hand = FakeHand::with(777);
    let mut storage = hand.over(&host, &assigned());
    assert_eq!(storage.why_not(), None);
    assert!(storage.has(&unit()) && !storage.has(&Target::Unit(Name::lossy("y.service"))));
    let prior = storage.prior(&unit()).unwrap();
    assert_eq!(prior.value, Value::Value(777 * 1024));
    storage.write(&unit(), Value::Value(10_000_001)).unwrap();
    assert_eq!(hand.kernel().limits, Limits { soft_kib: 9764, ..LIMITS });
    storage.write(&unit(), Value::Unlimited).unwrap();
    assert_eq!(hand.kernel().limits.soft_kib, 0);
    storage.write(&unit(), Value::Value(10_000_001)).unwrap();
    let mut later = Storage::with(host.path(), &[], Some(Box::new(hand.clone())));
    let prior = written(&prior, &[9764, 0]);
    hand.kernel().is_refusing = true;
    later.undo(&unit(), &prior).unwrap_err();
    hand.kernel().is_refusing = false;
    later.undo(&unit(), &prior).unwrap();
    assert_eq!(hand.kernel().limits.soft_kib, 777);
    let asked = hand.kernel().put_back.pop().unwrap();
    assert_eq!((asked.mount_point.as_deref(), asked.device.as_deref()), (Some("/srv"), Some("/dev/loop0")));
    assert!(later.undo(&unit(), &Prior { note: None, ..prior }).is_err());
}

#[test]
fn another_writers_soft_limit_is_left_to_them_also_by_an_agent_that_was_started_since() {
    let host = host(MOUNTINFO);
    let hand = FakeHand::with(777);
    let mut storage = hand.over(&host, &assigned());
    let prior = storage.prior(&unit()).unwrap();
    storage.write(&unit(), Value::Value(9764 * 1024)).unwrap();
    hand.kernel().limits.soft_kib = 5_000_000;
    let mut later = Storage::with(host.path(), &assigned(), Some(Box::new(hand.clone())));
    later.undo(&unit(), &written(&prior, &[9764, 12_000])).unwrap();
    assert_eq!(hand.kernel().limits.soft_kib, 5_000_000);
    // Also where they took it away; but not where that is what we wrote last.
    hand.kernel().limits.soft_kib = 0;
    later.undo(&unit(), &written(&prior, &[9764, 12_000])).unwrap();
    assert_eq!(hand.kernel().limits.soft_kib, 0);
    later.undo(&unit(), &prior_with(&prior, &[Value::Unlimited])).unwrap();
    assert_eq!(hand.kernel().limits.soft_kib, 777);
}

#[test]
fn an_undo_by_the_journal_knows_what_was_written_last() {
    let host = host(MOUNTINFO);
    let prior = FakeHand::with(777).over(&host, &assigned()).prior(&unit()).unwrap();
    let boot_id = quotary_common::id::BootId::new([1; 16]);
    let lease = LeaseForm { boot_id, epoch: 1, start_ms: 0, lease_ms: 9 };
    let (plan, cgroup) = (quotary_common::id::PlanId::new([3; 32]), CgroupPath::lossy("/x.service"));
    let writing = |prior: Option<Prior>, before: Option<u64>, after: u64| {
        let value = |kib: u64| Value::Value(kib * 1024);
        Record::Writing { target: unit(), control: CONTROL, prior, before: before.map(value), after: value(after) }
    };
    let records = [
        Record::Taken { target: unit(), plan, generation: 1, cgroup, lease },
        writing(Some(prior), Some(777), 12_000),
        Record::Wrote { target: unit(), control: CONTROL, actual: None, drop_in: None },
        writing(None, Some(12_000), 9764),
    ];
    let mut held = Held::default();
    records.iter().for_each(|record| held.add(record));
    let again: Vec<Record> = held.records();
    let mut after_a_restart = Held::default();
    again.iter().for_each(|record| after_a_restart.add(record));
    for held in [held, after_a_restart] {
        let undo = held.targets[&unit()].undos(&unit()).pop().unwrap();
        let note = Note::in_prior(&undo.prior).unwrap();
        assert_eq!((note.soft_kib, note.written_kib), (777, Some(vec![9764, 12_000])));
    }
}

#[test]
fn an_undo_needs_the_file_system_and_nothing_of_the_directory() {
    let directory = assigned()[0].directory.clone();
    let of = |mount_point: Option<&str>, device: Option<&str>| PutBack {
        directory: directory.clone(),
        soft_kib: 1,
        mount_point: mount_point.map(str::to_owned),
        device: device.map(str::to_owned),
        written_kib: Vec::new(),
    };
    let place = |mountinfo: &str, wanted: &PutBack| {
        host::place_of(mountinfo, wanted).map(|(mounted, is_sure)| (mounted.point, mounted.device, is_sure))
    };
    let found = |point: &str, device: &str, is_sure| Ok((point.to_owned(), device.to_owned(), is_sure));
    let known = of(Some("/srv"), Some("/dev/loop0"));
    assert_eq!(place(MOUNTINFO, &known), found("/srv", "/dev/loop0", true), "nothing of /srv/x is looked at");
    let moved = MOUNTINFO.replace(" /srv rw,relatime shared:9", " /mnt rw,relatime shared:9");
    assert_eq!(place(&moved, &known), found("/mnt", "/dev/loop0", true));
    let renamed = MOUNTINFO.replace("/dev/loop0", "/dev/loop7");
    assert_eq!(place(&renamed, &known), found("/srv", "/dev/loop7", false), "it may be another one");
    assert_eq!(place(MOUNTINFO, &of(None, None)), found("/srv", "/dev/loop0", true), "as a version before noted it");
    assert!(place(&MOUNTINFO.replace(",prjquota", ""), &known).unwrap_err().contains("without project quotas"));
    assert!(place("", &known).unwrap_err().contains("not mounted"));
}

#[test]
fn a_note_of_a_version_before_is_still_read() {
    #[derive(minicbor::Encode)]
    #[cbor(map)]
    struct Before {
        #[n(0)]
        directory: Directory,
        #[n(1)]
        soft_kib: u64,
    }
    let before = Before { directory: assigned()[0].directory.clone(), soft_kib: 777 };
    let note = Some(quotary_common::cbor::to_bytes(&before));
    let prior = Prior { value: Value::Unlimited, drop_in: None, drop_in_path: None, note };
    let hand = FakeHand::with(4096);
    let mut storage = Storage::with(host(MOUNTINFO).path(), &[], Some(Box::new(hand.clone())));
    storage.undo(&unit(), &written(&prior, &[4096])).unwrap();
    assert_eq!(hand.kernel().limits.soft_kib, 777);
}

#[test]
fn limits_that_nobody_knows_are_never_written() {
    let new = Limits { is_new: true, ..Limits::default() };
    host::words(4242, new, 8, false).unwrap_err();
    assert_eq!(host::words(4242, new, 8, true).unwrap(), ["4242", "8", "0", "0", "0"]);
    assert_eq!(host::words(4242, LIMITS, 8, false).unwrap(), ["4242", "8", "5", "3", "4"]);
    // The first write of a new project may; after a restart the journal knows that it was new.
    let host = host(MOUNTINFO);
    let hand = FakeHand::default();
    hand.kernel().limits = new;
    let mut storage = hand.over(&host, &assigned());
    storage.write(&unit(), Value::Value(1 << 20)).unwrap_err();
    let prior = storage.prior(&unit()).unwrap();
    storage.write(&unit(), Value::Value(1 << 20)).unwrap();
    hand.kernel().limits = new;
    let mut later = Storage::with(host.path(), &assigned(), Some(Box::new(hand.clone())));
    later.look_around();
    later.write(&unit(), Value::Value(1 << 20)).unwrap_err();
    later.recall(&unit(), &prior);
    later.write(&unit(), Value::Value(1 << 20)).unwrap();
}

#[test]
fn an_administrators_soft_limit_is_seen_before_a_plan_and_not_mistaken_for_ours() {
    let host = host(MOUNTINFO);
    let hand = FakeHand::with(777);
    let mut storage = hand.over(&host, &assigned());
    assert_eq!(storage.overridden(&unit()).unwrap(), Override::Runtime);
    let asked = hand.kernel().asked;
    assert_eq!(storage.overridden(&unit()).unwrap(), Override::Runtime);
    assert_eq!(hand.kernel().asked, asked, "a plan that is refused each second asks nobody each second");
    let prior = storage.prior(&unit()).unwrap();
    hand.kernel().limits.soft_kib = 0;
    storage.undo(&unit(), &prior).unwrap();
    assert_eq!(storage.overridden(&unit()).unwrap(), Override::None, "what was known is old after an undo");
    assert_eq!(storage.overridden(&other().unit).unwrap(), Override::None, "who has no directory has no limit");
}

fn place(unit: &str) -> Place {
    let cgroup = GroupPath::parse(&format!("/system.slice/{unit}")).unwrap();
    Place { cgroup, instance: "1".into(), oomd_limit_permille: None, is_unit: true }
}

/// So long ago that it may be asked for again.
fn age(storage: &mut Storage) {
    storage.entries.iter_mut().for_each(|entry| entry.asked_at_ms = None);
}

#[test]
fn a_directory_without_a_limit_of_its_own_shows_none_and_what_it_uses_by_the_hand() {
    let host = host(MOUNTINFO);
    let hand = FakeHand::with(0);
    let mut storage = hand.over(&host, &assigned());
    let place = place("x.service");
    assert_eq!(storage.actual(&place.cgroup), Actual::Absent, "nobody has it there");
    storage.follow(&unit(), Some(&place));
    assert_eq!(storage.actual(&place.cgroup), Actual::Unlimited);
    assert_eq!(storage.used_bytes(&place.cgroup), Some(10 * 1024));
    let most = storage.most_bytes(&place.cgroup).unwrap();
    let whole = size_and_use(host.path()).unwrap().0;
    assert!(most < whole && most > whole / 2, "{most} of {whole}");
    storage.write(&unit(), Value::Value(u64::MAX / 2)).unwrap();
    assert!(hand.kernel().limits.soft_kib * 1024 <= most, "nothing is set that does not show");
    storage.follow(&unit(), None);
    assert_eq!(storage.actual(&place.cgroup), Actual::Absent);
    assert_eq!(storage.most_bytes(&place.cgroup), None);
}

#[test]
fn only_a_plan_that_moves_storage_has_the_hand_asked_and_targets_take_turns() {
    let host = host(MOUNTINFO);
    fs::create_dir_all(host.path().join("srv/y")).unwrap();
    let hand = FakeHand::default();
    let mut storage = hand.over(&host, &[assigned(), vec![other()]].concat());
    hand.kernel().looked_at.clear();
    let (x, y) = (place("x.service"), place("y.service"));
    let both = |storage: &mut Storage| {
        age(storage);
        storage.follow(&unit(), Some(&x));
        storage.follow(&other().unit, Some(&y));
    };
    storage.patience = Patience::default();
    both(&mut storage);
    assert!(hand.kernel().looked_at.is_empty(), "nobody wants to know");
    storage.actual(&y.cgroup);
    both(&mut storage);
    assert_eq!(hand.kernel().looked_at, ["/srv/y"]);
    storage.actual(&x.cgroup);
    storage.patience = Patience::default();
    both(&mut storage);
    assert_eq!(hand.kernel().looked_at, ["/srv/y", "/srv/x"], "not both at the same instant");
}

#[test]
fn a_hand_that_does_not_answer_is_left_alone_and_asked_again_when_a_plan_wants_it() {
    let host = host(MOUNTINFO);
    fs::create_dir_all(host.path().join("srv/y")).unwrap();
    let hand = FakeHand::with(777);
    hand.kernel().is_silent = true;
    let mut storage = Storage::with(host.path(), &[assigned(), vec![other()]].concat(), Some(Box::new(hand.clone())));
    storage.look_around();
    assert_eq!(hand.kernel().asked, 1, "after one time-out the others are not asked");
    assert_eq!(storage.why_not(), None, "a hand that is slow now may answer later");
    storage.prior(&unit()).unwrap_err();
    storage.write(&unit(), Value::Unlimited).unwrap_err();
    storage.overridden(&unit()).unwrap_err();
    storage.tick();
    storage.prior(&unit()).unwrap_err();
    assert_eq!(hand.kernel().asked, 1);
    hand.kernel().is_silent = false;
    (storage.patience, storage.entries[0].wanted_at_ms) = (Patience::default(), Some(clock::boottime_ms()).into());
    age(&mut storage);
    storage.follow(&unit(), Some(&place("x.service")));
    assert_eq!(storage.used_bytes(&place("x.service").cgroup), Some(10 * 1024));
}

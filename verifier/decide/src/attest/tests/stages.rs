//! PCRs 8 and 9, where only unmeasured words tell stages apart: no words move a measurement out of what a zone names.

use std::collections::{BTreeMap, BTreeSet};

use quotary_common::evidence::PcrValue;
use quotary_common::id::sha256;

use super::super::{BootRequirement, OnUnknown, Zones, stages};
use super::logs::{BOOT_LOG, Case, Logs, allowing, booted, zone};
use crate::eventlog::{Bank, EventLog, EventType, Stage, boot_stages};

type Blessed = BTreeMap<Stage, BTreeSet<[u8; 32]>>;

/// An event that a boot loader adds: what it hashes, and what the log says of it.
#[derive(Clone, Copy)]
struct Added {
    pcr: u32,
    event_type: EventType,
    measured: &'static str,
    words: &'static str,
}

fn ipl(pcr: u32, measured: &'static str, words: &'static str) -> Added {
    Added { pcr, event_type: EventType::IPL, measured, words }
}

const GOOD: &str = "/vmlinuz root=/dev/sda";
const EVIL: &str = "/vmlinuz root=/dev/sda init=/bin/sh";

/// As GRUB logs a boot.
fn grub() -> Vec<Added> {
    vec![
        ipl(8, "linux /vmlinuz root=/dev/sda", "grub_cmd: linux /vmlinuz root=/dev/sda\0"),
        ipl(8, GOOD, "kernel_cmdline: /vmlinuz root=/dev/sda\0"),
        ipl(9, "a kernel", "/boot/vmlinuz\0"),
        ipl(9, "an initial ramdisk", "/boot/initrd.img\0"),
        ipl(9, "grub.cfg's content", "/boot/grub/grub.cfg\0"),
    ]
}

/// The virtual machine's log with these events after its own.
fn log(added: &[Added]) -> Vec<u8> {
    let log = EventLog::parse(BOOT_LOG).unwrap();
    let banks: Vec<Bank> = log.replay().banks().collect();
    let mut out = BOOT_LOG.to_vec();
    for event in added {
        out.extend(event.pcr.to_le_bytes());
        out.extend(event.event_type.0.to_le_bytes());
        out.extend(u32::try_from(banks.len()).unwrap().to_le_bytes());
        for bank in &banks {
            let id: u16 = match bank {
                Bank::Sha1 => 0x04,
                Bank::Sha256 => 0x0B,
                Bank::Sha384 => 0x0C,
                Bank::Sha512 => 0x0D,
            };
            out.extend(id.to_le_bytes());
            out.extend(bank.digest(&[event.measured.as_bytes()]).as_bytes());
        }
        out.extend(u32::try_from(event.words.len()).unwrap().to_le_bytes());
        out.extend(event.words.as_bytes());
    }
    out
}

/// What `quotary zone learn` prints of a log: every stage that is judged by blessed measurements.
fn learned(log: &[u8]) -> Blessed {
    let left_out = [Stage::Marker, Stage::SecureBoot, Stage::BootConfiguration, Stage::Other];
    let mut blessed = Blessed::new();
    for one in boot_stages(&EventLog::parse(log).unwrap()).measurements() {
        if !left_out.contains(&one.stage) {
            blessed.entry(one.stage).or_default().insert(one.digest);
        }
    }
    blessed
}

/// A zone that names this stage alone, and blesses in its list whatever an honest boot measures into its PCRs.
fn only(named: Stage) -> Blessed {
    let log = log(&grub());
    let of_log = boot_stages(&EventLog::parse(&log).unwrap());
    let of_pcrs = of_log.measurements().iter().filter(|one| named.lives_in(one.pcr));
    let blessed = Blessed::from([(named, of_pcrs.map(|one| one.digest).collect())]);
    assert_eq!(findings(&grub(), blessed.clone()), (0, vec![]));
    blessed
}

/// The boot findings of a host that booted `added`, in a zone that blesses `stages`: all of them, and the first few.
fn findings(added: &[Added], stages: Blessed) -> (u32, Vec<(String, String)>) {
    let requirement = BootRequirement { stages, ..booted() };
    let rules = Zones::with_ima(vec![zone("measured", Some(requirement), Some(OnUnknown::Warn))], Some(allowing("")));
    let bytes = log(added);
    let replay = EventLog::parse(&bytes).unwrap().replay();
    let mut logs = Logs::whole();
    for PcrValue { index, value, .. } in logs.values.iter_mut().filter(|value| value.index < 10) {
        *value = replay.value(Bank::Sha256, *index).map_or_else(|| vec![0; 32], |value| value.as_bytes().to_vec());
    }
    logs.boot = Some(bytes);
    let (measured, appraisal) = Case::new(rules.unwrap()).next(&logs);
    let boot = measured.held().boot.clone().unwrap();
    let count = boot.zones.first().unwrap().1;
    assert_eq!(appraisal.zone.is_some(), count == 0, "{:?}", appraisal.reasons);
    let told = boot.findings.iter().map(|(_, one)| (one.code.as_str().to_owned(), one.detail.as_str().to_owned()));
    (count, told.collect())
}

fn assert_unknown(added: &[Added], named: Blessed, of: (&str, &str, &str)) {
    let (_, told) = findings(added, named);
    let (stage, pcr, measured) = of;
    let hex = data_encoding::HEXLOWER.encode(&sha256(&[measured.as_bytes()]));
    let is_it = |(code, detail): &(String, String)| {
        code == "stage-unknown" && detail.starts_with(&format!("stage {stage} by unmeasured words (PCR {pcr}): {hex}"))
    };
    assert_eq!(told.iter().filter(|one| is_it(one)).count(), 1, "{told:?}");
    assert_eq!(told.iter().filter(|(code, _)| code == "stage-unknown").count(), 1, "{told:?}");
}

#[test]
fn what_learn_prints_is_satisfied_by_the_host_that_it_was_learned_from() {
    let all = learned(&log(&grub()));
    assert!([Stage::Loader, Stage::Kernel, Stage::Initrd, Stage::CommandLine].iter().all(|one| all.contains_key(one)));
    assert_eq!(findings(&grub(), all), (0, vec![]));
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/attestation/");
    let mut seen = 0;
    for name in ["eventlogs", "eventlogs-tpm2-tools"] {
        for file in std::fs::read_dir(format!("{folder}{name}")).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            let Ok(read) = EventLog::parse(&bytes) else { continue };
            let of_log = boot_stages(&read);
            // None of these PCRs has anything that learning leaves out, and that could not be demanded.
            let of_words = of_log.measurements().iter().filter(|one| Stage::is_told_by_words(one.pcr));
            assert!(of_words.clone().all(|one| one.stage.lives_in(one.pcr)));
            assert_eq!(stages::findings(&of_log, &learned(&bytes), |_| true), vec![]);
            seen += usize::from(of_words.count() > 0);
        }
    }
    assert!(seen > 3, "{seen} logs of boot loaders");
}

#[test]
fn a7_a_swapped_prefix_moves_no_command_line_out_of_its_stage() {
    let all = || learned(&log(&grub()));
    let with = |words| [grub(), vec![ipl(8, EVIL, words)]].concat();
    let honest = with("kernel_cmdline: /vmlinuz root=/dev/sda init=/bin/sh\0");
    assert_unknown(&honest, all(), ("command-line", "8", EVIL));
    // The blessed line is there, too; a zone that names the command line alone is not deceived either.
    let lying = with("grub_cmd: /vmlinuz root=/dev/sda init=/bin/sh\0");
    for blessed in [all(), only(Stage::CommandLine), only(Stage::Loader)] {
        assert_unknown(&lying, blessed, ("loader", "8", EVIL));
    }
    // It is the digest that counts: what is blessed is so under another prefix, too.
    let mut moved = grub();
    moved[1].words = "grub_cmd: /vmlinuz root=/dev/sda\0";
    assert_eq!(findings(&moved, all()), (0, vec![]));
}

#[test]
fn a7_another_type_moves_no_command_line_out_of_its_stage() {
    for event_type in
        [EventType::EVENT_TAG, EventType::EFI_VARIABLE_BOOT2, EventType::POST_CODE, EventType(0x7777_7777)]
    {
        let evil = Added { event_type, ..ipl(8, EVIL, "grub_cmd: ls\0") };
        let mut stages = only(Stage::CommandLine);
        assert_unknown(&[grub(), vec![evil]].concat(), stages.clone(), ("loader", "8", EVIL));
        stages.get_mut(&Stage::CommandLine).unwrap().insert(sha256(&[EVIL.as_bytes()]));
        let told = findings(&[grub(), vec![evil]].concat(), stages).1;
        assert!(told.iter().all(|(code, _)| code != "stage-unknown"), "its digest is blessed: {told:?}");
    }
}

#[test]
fn a7_another_path_moves_no_file_out_of_its_stage() {
    let paths = [("/boot/grub/x.mod\0", "loader"), ("/boot/initrd.img\0", "initrd"), ("/boot/vmlinuz\0", "kernel")];
    for (words, stage) in paths {
        let evil = [grub(), vec![ipl(9, "an evil kernel", words)]].concat();
        for named in [Stage::Kernel, Stage::Initrd, Stage::CommandLine, Stage::Loader] {
            assert_unknown(&evil, only(named), (stage, "9", "an evil kernel"));
        }
    }
    // PCR 8 has no kernel: who names only that looks at PCR 9 alone.
    let evil = [grub(), vec![ipl(8, EVIL, "kernel_cmdline: /vmlinuz root=/dev/sda init=/bin/sh\0")]].concat();
    assert_eq!(findings(&evil, only(Stage::Kernel)), (0, vec![]));
}

#[test]
fn a7_words_put_no_stage_there_that_was_not_measured() {
    // The command line is left out of the boot, and something else that is blessed called by its name.
    let mut lying = grub();
    lying.remove(1);
    lying[0].words = "kernel_cmdline: linux /vmlinuz root=/dev/sda\0";
    let (count, told) = findings(&lying, without_the_vms_own_line());
    assert_eq!((count, told[0].0.as_str()), (1, "stage-missing"), "{told:?}");
    assert!(told[0].1.starts_with("stage command-line"), "{told:?}");
    // A digest is of the list of its own PCRs only.
    let mut crossed = learned(&log(&grub()));
    let kernel = sha256(&[b"a kernel"]);
    let evil = [grub(), vec![ipl(8, "a kernel", "grub_cmd: a kernel\0")]].concat();
    assert_unknown(&evil, crossed.clone(), ("loader", "8", "a kernel"));
    crossed.get_mut(&Stage::Loader).unwrap().insert(kernel);
    assert_eq!(findings(&evil, crossed).0, 0);
}

/// The virtual machine's kernel measured a command line into PCR 9: it counts as the loader's here.
fn without_the_vms_own_line() -> Blessed {
    let mut blessed = learned(&log(&grub()));
    let lines = blessed.insert(Stage::CommandLine, BTreeSet::from([sha256(&[GOOD.as_bytes()])])).unwrap();
    blessed.get_mut(&Stage::Loader).unwrap().extend(lines.iter().filter(|one| **one != sha256(&[GOOD.as_bytes()])));
    blessed
}

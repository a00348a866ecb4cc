//! Boot stages, and what the running system measured since.

use super::super::*;
use super::build::{clean, event, write};
use super::read;

fn texts(stages: &BootStages, stage: Stage) -> Vec<String> {
    stages.of(stage).map(|m| m.text.as_ref().map(|text| text.as_str().to_owned()).unwrap_or_default()).collect()
}
fn stages(folder: &str, name: &str) -> BootStages {
    let bytes = read(folder, name);
    boot_stages(&EventLog::parse(&bytes).unwrap())
}

#[test]
fn a_grub_boot_shows_shim_grub_kernel_initrd_and_the_command_line() {
    let stages = stages("eventlogs", "rhel8-uefi.bin");
    let applications = texts(&stages, Stage::BootApplication);
    assert_eq!(applications.len(), 3);
    assert!(
        applications[1].starts_with("\\EFI\\redhat\\grubx64.efi") || applications[1].contains("grub"),
        "{applications:?}"
    );
    assert_eq!(texts(&stages, Stage::Kernel), ["grub_linuxefi Kernel"]);
    assert_eq!(texts(&stages, Stage::Initrd), ["grub_linuxefi Initrd"]);
    let lines: Vec<&Measurement> = stages.of(Stage::CommandLine).collect();
    assert_eq!((lines.len(), lines[0].event, lines[0].text_measured), (1, 78, true));
    assert!(lines[0].text.as_ref().unwrap().as_str().contains("root=UUID="));
    assert_eq!(stages.of(Stage::Marker).count(), 11);
    assert_eq!(stages.of(Stage::MachineOwnerKeys).count(), 2);
}

#[test]
fn newer_grub_names_files_and_systemd_boot_the_command_line_in_pcr_12() {
    let ubuntu = stages("eventlogs", "ubuntu-1804-amd-sev.bin");
    assert_eq!(texts(&ubuntu, Stage::Kernel), ["/boot/vmlinuz-5.4.0-1046-gcp"]);
    assert_eq!(texts(&ubuntu, Stage::Initrd), ["/boot/initrd.img-5.4.0-1046-gcp"]);
    assert_eq!(ubuntu.of(Stage::CommandLine).count(), 1);
    let fedora = stages("eventlogs-tpm2-tools", "event-sd-boot-fedora37.bin");
    let lines: Vec<&Measurement> = fedora.of(Stage::CommandLine).collect();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line.text_measured && line.pcr == 12));
    assert_eq!(lines[0].text.as_ref().unwrap().as_str().trim(), "console=ttyS0 console=tty0 efi=debug");
    assert_eq!(texts(&fedora, Stage::Initrd), ["Linux initrd"]);
    // Its words are not what was measured: they may not be believed.
    let arch = stages("eventlogs", "arch-linux-workstation.bin");
    let lines: Vec<&Measurement> = arch.of(Stage::CommandLine).collect();
    assert_eq!((lines.len(), lines[0].text_measured), (1, false));
}

#[test]
fn a7_a_boot_application_relabelled_as_a_firmware_blob_is_a_boot_application_still() {
    let mut drafts = clean();
    let at = drafts.iter().position(|draft| draft.event_type == EventType::EFI_BOOT_SERVICES_APPLICATION).unwrap();
    let honest = write(&drafts);
    let before = boot_stages(&EventLog::parse(&honest).unwrap());
    drafts[at].event_type = EventType::EFI_PLATFORM_FIRMWARE_BLOB;
    drafts[at].data = vec![0; 16];
    // The host appends the loader that it should have booted.
    drafts.push(super::build::Draft {
        measured: b"the blessed loader".to_vec(),
        ..event(4, EventType::EFI_BOOT_SERVICES_APPLICATION, &[0; 32])
    });
    let bytes = write(&drafts);
    let after = boot_stages(&EventLog::parse(&bytes).unwrap());
    let digests = |stages: &BootStages| stages.of(Stage::BootApplication).map(|m| m.digest).collect::<Vec<_>>();
    assert_eq!((digests(&before).len(), digests(&after).len()), (1, 2));
    assert_eq!(digests(&after)[0], digests(&before)[0]);
}

#[test]
fn a7_no_relabelling_hides_a_measurement() {
    let drafts = clean();
    let bytes = write(&drafts);
    let whole = boot_stages(&EventLog::parse(&bytes).unwrap());
    assert_eq!(whole.measurements().len(), drafts.len());
    for value in (0..0x14).chain(0x8000_0000..0x8000_0012).filter(|value| *value != EventType::NO_ACTION.0) {
        let relabelled: Vec<_> = drafts
            .iter()
            .cloned()
            .map(|mut draft| {
                draft.event_type = EventType(value);
                draft
            })
            .collect();
        let bytes = write(&relabelled);
        let stages = boot_stages(&EventLog::parse(&bytes).unwrap());
        let digests = |stages: &BootStages| stages.measurements().iter().map(|m| (m.pcr, m.digest)).collect::<Vec<_>>();
        assert_eq!(digests(&stages), digests(&whole));
        // Outside PCR 9, which is told by words, not even the stage changes.
        let fixed = |stages: &BootStages| {
            stages.measurements().iter().filter(|m| m.pcr != 9).map(|m| m.stage).collect::<Vec<_>>()
        };
        assert_eq!(fixed(&stages), fixed(&whole));
    }
    // Hidden as an event that only informs, it is missing from the replay.
    let mut informed = drafts;
    informed[1].event_type = EventType::NO_ACTION;
    let other = write(&informed);
    let (one, two) = (EventLog::parse(&bytes).unwrap().replay(), EventLog::parse(&other).unwrap().replay());
    assert_ne!(one.value(Bank::Sha256, 7), two.value(Bank::Sha256, 7));
}

#[test]
fn words_that_only_sha1_covers_are_claims() {
    let bytes = read("eventlogs", "debian-10.bin");
    let log = EventLog::parse(&bytes).unwrap();
    let report = EventLogReport::new(&log);
    assert!(report.events.iter().any(|event| event.text.is_some()));
    assert!(report.events.iter().all(|event| !event.text_measured && event.stage.is_none()));
    assert_eq!(boot_stages(&log), BootStages::default());
    let bytes = read("eventlogs", "rhel8-uefi.bin");
    let report = EventLogReport::new(&EventLog::parse(&bytes).unwrap());
    assert!(report.events[3].text_measured && !report.events[23].text_measured);
}

#[test]
fn text_is_printable_and_short() {
    let mut drafts = clean();
    let text = format!("kernel_cmdline: \u{1b}[2J\u{202e}{}", "x".repeat(4000));
    drafts.push(event(8, EventType::IPL, text.as_bytes()));
    let bytes = write(&drafts);
    let stages = boot_stages(&EventLog::parse(&bytes).unwrap());
    let shown = stages.measurements().last().unwrap().text.clone().unwrap();
    assert!(shown.as_str().len() <= EVENT_TEXT_BYTES_MAX && shown.as_str().starts_with("kernel_cmdline: ?[2J?xxx"));
}

fn record(pcr: &str, text: &str) -> String {
    let digest = Bank::Sha256.digest(&[text.as_bytes()]).to_hex();
    format!(
        "\u{1e}{{{pcr}\"digests\":[{{\"hashAlg\":\"sha256\",\"digest\":\"{digest}\"}},{{\"hashAlg\":\"sm3_256\",\"digest\":\"00\"}}],\
         \"content_type\":\"systemd\",\"content\":{{\"string\":\"{text}\",\"bootId\":\"x\",\"timestamp\":1,\"eventType\":\"phase\"}}}}\n"
    )
}

#[test]
fn userspace_measurements_extend_the_replay_after_the_firmware_log() {
    let text = record("\"pcr\":11,", "enter-initrd") + &record("", "an NvPCR") + &record("\"pcr\":15,", "machine-id:0");
    let userspace = MeasureLog::parse(text.as_bytes()).unwrap();
    assert_eq!((userspace.records().len(), userspace.without_pcr()), (2, 1));
    assert_eq!(userspace.records()[1].number(), 2);
    assert!(userspace.records().iter().all(MeasureRecord::text_measured));
    assert_eq!(userspace.records()[0].event_type().unwrap().as_str(), "phase");
    let bytes = write(&clean());
    let log = EventLog::parse(&bytes).unwrap();
    let (before, after) = (log.replay(), log.replay().then(&userspace));
    let phase = Bank::Sha256.digest(&[b"enter-initrd"]);
    let want = Bank::Sha256.digest(&[&[0; 32], phase.as_bytes()]);
    assert_eq!((before.value(Bank::Sha256, 11), after.value(Bank::Sha256, 11)), (None, Some(&want)));
    assert_eq!(after.value(Bank::Sha256, 7), before.value(Bank::Sha256, 7));
    // No digest of that bank: it says nothing there.
    assert_eq!(after.value(Bank::Sha384, 11), None);
    let stages = boot_stages(&log).then(&userspace);
    assert_eq!(texts(&stages, Stage::UnifiedKernel), ["enter-initrd"]);
    assert_eq!(stages.of(Stage::SystemIdentity).next().unwrap().event, 24);
}

#[test]
fn a_userspace_log_that_is_none_is_refused_with_its_record() {
    let good = record("\"pcr\":11,", "sysinit");
    let number = |text: &str| match MeasureLog::parse(text.as_bytes()).unwrap_err() {
        MeasureLogError::Record { number, .. } => number,
        other => panic!("{other}"),
    };
    assert_eq!(MeasureLog::parse(b"").unwrap().records().len(), 0);
    assert_eq!(number("{}\n"), 0);
    assert_eq!(number("\u{1e}"), 0);
    assert_eq!(number(&format!("{good}{}", good.trim_end())), 1);
    assert_eq!(number(&record("\"pcr\":24,", "x")), 0);
    assert_eq!(number(&record("\"pcr\":-1,", "x")), 0);
    assert_eq!(number(&good.replacen("sha256", "sha384", 1)), 0);
    assert_eq!(number(&good.replacen("sha256", "md5", 1)), 0);
    assert_eq!(
        number(&good.replacen("sm3_256\",\"digest\":\"00", &format!("sha256\",\"digest\":\"{}", "00".repeat(32)), 1)),
        0
    );
    assert_eq!(number(&format!("\u{1e}{}\n", "[".repeat(60_000))), 0);
    assert_eq!(number(&format!("\u{1e}{}\n", " ".repeat(70_000))), 0);
    let large = " ".repeat(MEASURE_LOG_BYTES_MAX + 1);
    let bytes = MEASURE_LOG_BYTES_MAX + 1;
    assert_eq!(MeasureLog::parse(large.as_bytes()).unwrap_err(), MeasureLogError::TooLarge { bytes });
    let many = "\u{1e}{}\n".repeat(RECORDS_MAX + 1);
    assert_eq!(MeasureLog::parse(many.as_bytes()).unwrap_err(), MeasureLogError::TooManyRecords);
    // Words that are not what was measured are marked so; a volume key's digest is an HMAC.
    let other = good.replacen("\"string\":\"sysinit\"", "\"string\":\"ready\"", 1);
    assert!(!MeasureLog::parse(other.as_bytes()).unwrap().records()[0].text_measured());
    // SHA-1 alone proves no words.
    let weak = Bank::Sha1.digest(&[b"sysinit"]).to_hex();
    let strong = Bank::Sha256.digest(&[b"sysinit"]).to_hex();
    let weak = good.replacen(&strong, &weak, 1).replacen("sha256", "sha1", 1);
    assert!(!MeasureLog::parse(weak.as_bytes()).unwrap().records()[0].text_measured());
}

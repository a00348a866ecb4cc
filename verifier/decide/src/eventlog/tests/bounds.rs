//! Fields at their bounds, and what each event is called and counted as.

use super::super::efi::{SignatureDatabase, Variable, device_path_file};
use super::super::*;
use super::build::{Draft, clean, event, hash_list, header, separator, variable_data, write};

fn with(more: &[Draft]) -> Vec<u8> {
    write(&[clean(), more.to_vec()].concat())
}

fn codes(bytes: &[u8]) -> Vec<ProblemCode> {
    EventLog::parse(bytes).unwrap().problems().iter().map(|problem| problem.code).collect()
}

#[test]
fn a_log_at_its_bounds_is_read_and_the_fault_of_a_header_has_a_place() {
    // The smallest legacy events.
    assert_eq!(EventLog::parse(&vec![0; LOG_BYTES_MAX]).unwrap_err(), EventLogError::TooManyEvents);
    let five = [(0x0B, 32), (0x0C, 48), (0x0D, 64), (4, 20), (0x12, 32)];
    let agile = header(&five, &[]);
    let agile = EventLog::parse(&agile).unwrap();
    assert!(agile.is_crypto_agile());
    assert_eq!((agile.banks().len(), agile.events()[0].digests().count()), (4, 0), "the header extends nothing");
    let legacy = [&[0; 8][..], &[7; 20], &[0; 4]].concat();
    let legacy = EventLog::parse(&legacy).unwrap();
    assert!(!legacy.is_crypto_agile());
    assert_eq!(legacy.events()[0].digest(Bank::Sha1), Some(&[7; 20][..]));
    let EventLogError::Event { number, offset, .. } = EventLog::parse(&header(&[], &[])).unwrap_err() else { panic!() };
    assert_eq!((number, offset), (0, 32 + 28), "after the count");
}

#[test]
fn pcr_23_is_the_last() {
    let bytes = with(&[event(23, EventType::POST_CODE, b"x"), event(24, EventType::POST_CODE, b"x")]);
    let log = EventLog::parse(&bytes).unwrap();
    let [.., last, beyond] = log.events() else { panic!() };
    assert_eq!((last.extends(), beyond.extends()), (Some(23), None));
    assert_eq!(codes(&bytes), [ProblemCode::PcrOutOfRange]);
    assert!(log.replay().value(Bank::Sha256, 23).is_some());
}

#[test]
fn a_separator_of_another_value_is_told_and_that_of_pcr_7_by_its_own_judge() {
    let spoilt = |pcr: u32, value: [u8; 4]| {
        let mut drafts = clean();
        let at = drafts.iter().position(|draft| draft.pcr == pcr && draft.event_type == EventType::SEPARATOR).unwrap();
        drafts[at] = event(pcr, EventType::SEPARATOR, &value);
        codes(&write(&drafts))
    };
    assert_eq!(spoilt(4, [1, 0, 0, 0]), [ProblemCode::SeparatorValue]);
    assert_eq!(spoilt(4, [0xFF; 4]), []);
    assert_eq!(spoilt(7, [1, 0, 0, 0]), []);
    let mut drafts = clean();
    drafts.push(Draft { event_type: EventType::POST_CODE, ..separator(7) });
    assert_eq!(codes(&write(&drafts)), []);
}

#[test]
fn a_variable_has_a_name_of_one_to_256_units() {
    let read = |units: usize| {
        let data = variable_data(&[1; 16], &"n".repeat(units), b"data");
        Variable::read(&data).map(|variable| (variable.name.len(), variable.data.to_vec()))
    };
    assert_eq!((read(0), read(257)), (None, None));
    assert_eq!((read(1), read(256)), (Some((1, b"data".to_vec())), Some((256, b"data".to_vec()))));
}

#[test]
fn a_signature_database_counts_what_it_does_not_know_and_has_a_digest() {
    let mut other = hash_list(&[], &[[7; 32], [8; 32]]);
    other[0] ^= 1;
    let known = hash_list(&[], &[[9; 32]]);
    let data = [known, other].concat();
    let database = SignatureDatabase::read(&data).unwrap();
    assert_eq!((database.hashes.as_slice(), database.others), (&[[9; 32]][..], 2));
    assert_eq!(Bank::Sha256.digest(&[&data]).as_bytes(), database.sha256);
    assert!(!database.is_empty() && SignatureDatabase::default().is_empty());
}

#[test]
fn a_device_path_ends_at_its_end_node() {
    let node = |kind: u8, subtype: u8, body: &[u8]| {
        let length = u16::try_from(4 + body.len()).unwrap().to_le_bytes();
        [&[kind, subtype][..], &length, body].concat()
    };
    let file = |text: &str| node(4, 4, &text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>());
    let path = [file("\\EFI"), node(1, 4, b"\\not"), file("\\a.efi"), node(0x7F, 0xFF, b""), file("\\b.efi")].concat();
    assert_eq!(device_path_file(&path), "\\EFI\\a.efi");
}

#[test]
fn a_userspace_log_at_its_bounds_is_read() {
    let record = |bytes: usize| {
        let text = "{\"content\":null}";
        format!("\u{1e}{text}{}\n", " ".repeat(bytes - text.len() - 1))
    };
    let nv = |text: &str| MeasureLog::parse(text.as_bytes()).map(|log| log.without_pcr());
    assert_eq!((nv(""), nv(&record(100)), nv(&record(100).repeat(2))), (Ok(0), Ok(1), Ok(2)));
    assert_eq!(nv(&record(64 * 1024)), Ok(1));
    assert_eq!(
        nv(&record(64 * 1024 + 1)),
        Err(MeasureLogError::Record { number: 0, what: "it is larger than is read" })
    );
    // Sixteen records of 64 KiB, their separators counted, are the bound.
    assert_eq!(nv(&record(64 * 1024 - 1).repeat(16)), Ok(16));
}

#[test]
fn every_stage_has_the_name_that_is_written() {
    for stage in Stage::ALL {
        assert_eq!(serde_json::to_value(stage).unwrap(), stage.name());
        assert_eq!(Stage::from_name(stage.name()), Some(stage));
    }
    assert_eq!(Stage::from_name("xyzzy"), None);
}

#[test]
fn each_pcr_has_its_stage() {
    let of = |pcr: u32, event_type: EventType, data: &[u8]| {
        let bytes = with(&[event(pcr, event_type, data)]);
        boot_stages(&EventLog::parse(&bytes).unwrap()).measurements().last().unwrap().stage
    };
    let stages = [
        (0, Stage::Firmware),
        (1, Stage::Firmware),
        (2, Stage::Firmware),
        (3, Stage::Firmware),
        (4, Stage::BootApplication),
        (5, Stage::BootConfiguration),
        (6, Stage::Firmware),
        (7, Stage::SecureBoot),
        (10, Stage::Other),
        (11, Stage::UnifiedKernel),
        (12, Stage::CommandLine),
        (13, Stage::SystemExtensions),
        (14, Stage::MachineOwnerKeys),
        (15, Stage::SystemIdentity),
        (16, Stage::Other),
        (23, Stage::Other),
    ];
    for (pcr, stage) in stages {
        assert_eq!(of(pcr, EventType::POST_CODE, b"x"), stage, "PCR {pcr}");
    }
    // In PCR 8 only GRUB's own commands are the loader's; a separator there marks nothing.
    assert_eq!(of(8, EventType::IPL, b"grub_cmd: ls\0"), Stage::Loader);
    assert_eq!(of(8, EventType::IPL, b"kernel_cmdline: quiet\0"), Stage::CommandLine);
    assert_eq!(of(8, EventType::IPL, b"quiet\0"), Stage::CommandLine);
    assert_eq!(
        (of(7, EventType::SEPARATOR, &[0; 4]), of(8, EventType::SEPARATOR, &[0; 4])),
        (Stage::Marker, Stage::CommandLine)
    );
    // In PCR 9 a tag says what it is, else the file's name.
    let tag = |tag: u32| [&tag.to_le_bytes()[..], &[1, 0, 0, 0, b'x']].concat();
    assert_eq!(of(9, EventType::EVENT_TAG, &tag(0x8F3B_22EC)), Stage::Initrd);
    assert_eq!(of(9, EventType::EVENT_TAG, &tag(0x8F3B_22ED)), Stage::CommandLine);
    assert_eq!(of(9, EventType::EVENT_TAG, &tag(0x8F3B_22EE)), Stage::Loader);
    assert_eq!(of(9, EventType::IPL, &tag(0x8F3B_22EC)), Stage::Loader, "no tag");
    for (path, stage) in [
        ("/boot/initrd.img-6.1", Stage::Initrd),
        ("grub_linuxefi Initrd", Stage::Initrd),
        ("/boot/vmlinuz-6.1", Stage::Kernel),
        ("(hd0)/bzImage", Stage::Kernel),
        ("/initrd/kernel", Stage::Kernel),
        ("/boot/grub/grub.cfg", Stage::Loader),
    ] {
        assert_eq!(of(9, EventType::IPL, format!("{path}\0").as_bytes()), stage, "{path}");
    }
}

#[test]
fn what_userspace_measured_has_the_stage_of_its_pcr() {
    let digest = "00".repeat(32);
    let record =
        |pcr: u8| format!("\u{1e}{{\"pcr\":{pcr},\"digests\":[{{\"hashAlg\":\"sha256\",\"digest\":\"{digest}\"}}]}}\n");
    let text: String = [8, 9, 11, 12, 13, 14, 15].map(record).concat();
    let stages = BootStages::default().then(&MeasureLog::parse(text.as_bytes()).unwrap());
    let found: Vec<_> = stages.measurements().iter().map(|one| (one.event, one.stage)).collect();
    let expected = [
        Stage::Loader,
        Stage::Loader,
        Stage::UnifiedKernel,
        Stage::CommandLine,
        Stage::SystemExtensions,
        Stage::MachineOwnerKeys,
        Stage::SystemIdentity,
    ];
    assert_eq!(found, (0..).zip(expected).collect::<Vec<_>>());
}

#[test]
fn the_words_of_an_event_are_told_by_its_type_with_whether_they_were_measured() {
    let words = |event_type: EventType, data: &[u8]| {
        let bytes = with(&[event(12, event_type, data)]);
        let log = EventLog::parse(&bytes).unwrap();
        let report = EventLogReport::new(&log).events.pop().unwrap();
        report.text.map(|text| (text.as_str().to_owned(), report.text_measured))
    };
    let told = |text: &str, measured: bool| Some((text.to_owned(), measured));
    let variable = variable_data(&[1; 16], "BootOrder", &[3, 0]);
    for event_type in [
        EventType::EFI_VARIABLE_DRIVER_CONFIG,
        EventType::EFI_VARIABLE_AUTHORITY,
        EventType::EFI_VARIABLE_BOOT,
        EventType::EFI_VARIABLE_BOOT2,
    ] {
        assert_eq!(words(event_type, &variable), told("BootOrder", true));
    }
    assert_eq!(words(EventType::S_CRTM_VERSION, b"v1\0"), told("v1", true));
    assert_eq!(words(EventType::S_CRTM_VERSION, b"v\x001\0\0\0"), told("v1", true), "in UTF-16");
    for event_type in [EventType::EFI_ACTION, EventType::ACTION, EventType::NONHOST_INFO, EventType::POST_CODE] {
        assert_eq!(words(event_type, b"a ~word\0\0"), told("a ~word", true));
        assert_eq!((words(event_type, b"a\x1f"), words(event_type, b"a\x7f")), (None, None), "not readable");
    }
    assert_eq!(words(EventType::EVENT_TAG, b"\x01\0\0\0\x02\0\0\0hi"), told("hi", false));
    assert_eq!(words(EventType::IPL, b"grub_cmd: ls\0"), told("grub_cmd: ls", false));
    assert_eq!((words(EventType::UNUSED, b"x"), words(EventType::S_CRTM_VERSION, b"\0")), (None, None));
}

#[test]
fn words_in_utf16_are_told_from_words_in_ascii() {
    let text = |data: &[u8]| {
        let bytes = with(&[event(12, EventType::IPL, data)]);
        let report = EventLogReport::new(&EventLog::parse(&bytes).unwrap()).events.pop().unwrap();
        report.text.map(|text| text.as_str().to_owned()).unwrap_or_default()
    };
    assert_eq!(text(b"q\0"), "q");
    assert_eq!(text(b"q\0u\0\0\0"), "qu");
    assert_eq!(text(b"qu"), "qu");
    assert_eq!(text(b"a"), "a");
    // The first eight units decide.
    assert_eq!(text(b"1\x002\x003\x004\x005\x006\x007\x008\x00\x39\x26"), "12345678\u{2639}");
    assert_eq!(text(b"1\x002\x003\x004\x005\x006\x007\x00\x39\x26"), "1?2?3?4?5?6?7?9&");
}

#[test]
fn an_events_place_in_the_report_is_its_own() {
    let bytes = write(&clean());
    let log = EventLog::parse(&bytes).unwrap();
    let stages = boot_stages(&log);
    let reported = EventLogReport::new(&log).events.into_iter().filter_map(|one| Some((one.number, one.stage?)));
    let expected: Vec<_> = stages.measurements().iter().map(|one| (one.event, one.stage)).collect();
    assert_eq!(reported.collect::<Vec<_>>(), expected);
    assert_eq!(expected.len(), clean().len());
}

#[test]
fn what_is_logged_of_a_digest_and_of_a_type_names_it() {
    let digest = Bank::Sha1.digest(&[b""]);
    assert_eq!(format!("{digest:?}"), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    assert_eq!(format!("{:?} {:?}", EventType::IPL, EventType(0x8000_00FF)), "EV_IPL 0x800000ff");
}

//! What a configuration may say, and how its faults are told.

use super::*;

const GOOD: &str = r#"
    name = "v1"
    data_dir = "data"
    listen = "127.0.0.1:0"
    url = "https://localhost:7443"
    [[zone]]
    name = "measured"
    [[tenant]]
    name = "shop"
    quota = { cpu_millicores = 4000 }
    [[application]]
    name = "web"
    tenant = "shop"
    uid = 1000
"#;

fn faults(text: &str) -> String {
    parse(text, Path::new("/x"), Path::new("verifier.toml")).unwrap_err().to_string()
}

#[test]
fn a_small_configuration_is_enough() {
    let config = parse(GOOD, Path::new("/x"), Path::new("verifier.toml")).unwrap();
    assert_eq!(config.data_dir, Path::new("/x/data"));
    assert_eq!((config.timing.lease_ms, config.history_keep_days), (300_000, 30));
}

#[test]
fn all_faults_are_told_at_once() {
    let text = GOOD
        .replace("127.0.0.1:0", "nowhere")
        .replace("https://localhost:7443", "http://localhost")
        .replace("tenant = \"shop\"", "tenant = \"other\"")
        + "[timing]\nlease_ms = 5\n";
    let told = faults(&text);
    for part in ["listen", "url", "tenant `other`", "timing.trust_ms", "lease_margin_ms"] {
        assert!(told.contains(part), "{part} is missing in: {told}");
    }
}

#[test]
fn unknown_fields_and_double_selectors_are_refused() {
    assert!(faults(&format!("surprise = 1\n{GOOD}")).contains("surprise"));
    let double = format!("{GOOD}\n[[application]]\nname = \"b\"\ntenant = \"shop\"\nuid = 1000\n");
    assert!(faults(&double).contains("same selector"));
}

#[test]
fn history_is_kept_for_a_day_to_ten_years() {
    let kept = |days: u64| format!("{GOOD}\n[history]\nkeep_days = {days}\n");
    for days in [0, 3651] {
        assert!(faults(&kept(days)).contains("history.keep_days"), "{days}");
    }
    let config = parse(&kept(3650), Path::new("/x"), Path::new("verifier.toml")).unwrap();
    assert_eq!(config.history_keep_days, 3650);
}

#[test]
fn alarms_have_a_rate_and_silences_that_name_something() {
    let config = |text: &str| parse(&format!("{GOOD}\n{text}"), Path::new("/x"), Path::new("verifier.toml")).unwrap();
    let shipped = config("").alarms;
    assert!((shipped.per_series_and_month - 1.0).abs() < 1e-9 && shipped.warning_ms == 3_600_000);
    assert_eq!(shipped.silence, vec![]);
    for (text, part) in [
        ("[anomalies]\nper_series_and_month = 0.0\n", "per_series_and_month: 0 is not between"),
        ("[anomalies]\nper_series_and_month = nan\n", "per_series_and_month"),
        ("[anomalies]\nwarning_ms = 2678400001\n", "warning_ms"),
        ("[[anomalies.silence]]\n", "silence 1: names no host"),
        ("[[anomalies.silence]]\nsubject = \"web\"\n", "silence 1: subject `web`"),
        ("[[anomalies.silence]]\nhost = \"h-3k7q\"\n", "silence 1: host must be"),
        ("[[anomalies.silence]]\nresource = \"gpu\"\n", "silence 1: resource `gpu`"),
    ] {
        let told = faults(&format!("{GOOD}\n{text}"));
        assert!(told.contains(part), "{part} is missing in: {told}");
    }
    let host = "ab".repeat(32);
    let some =
        config(&format!("[[anomalies.silence]]\nhost = \"{host}\"\nsubject = \"/batch/*\"\nresource = \"cpu\"\n"));
    assert_eq!(some.alarms.silence[0].host.unwrap().hex(), host);
}

#[test]
fn reference_values_must_be_those_of_the_selection() {
    let zone = "[[zone]]\nname = \"z\"\npcrs = \"sha256:0,1\"\nreference = { \"sha256:0\" = \"00\" }\n";
    assert!(faults(&format!("{GOOD}\n{zone}")).contains("reference"));
}

const LOGS: &str = r#"
    [ima]
    require = ["/usr/bin/quotary-agent"]
    [[zone]]
    name = "sealed"
    pcrs = "sha256:0,1,2,3,4,5,6,7,8,9,10"
    ima_on_unknown = "revoke"
    require_hardware_tpm = true
    [zone.boot]
    secure_boot = true
    accept = ["exit-boot-services-missing"]
    [zone.boot.stages]
    kernel = ["00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"]
"#;

#[test]
fn a_zone_may_ask_for_logs_a_chip_and_known_endorsement_keys() {
    let dir = tempfile::tempdir().unwrap();
    let id = "ab".repeat(32);
    std::fs::write(dir.path().join("eks.txt"), format!("{id} # the first rack\n")).unwrap();
    let text = format!("ek_manufacturers = true\nek_allowlist = \"eks.txt\"\n{GOOD}\n{LOGS}");
    let config = parse(&text, dir.path(), Path::new("verifier.toml")).unwrap();
    let zone = config.zones.as_slice().last().unwrap();
    let boot = zone.boot.as_ref().unwrap();
    assert!(zone.require_hardware_tpm && zone.ima.is_some() && zone.reference == Reference::Replayed);
    assert_eq!((boot.secure_boot, boot.stages.len(), boot.accept.len()), (Some(true), 1, 1));
    assert_eq!(boot.userspace, None);
    assert!(config.zones.ask_boot_log() && config.zones.ima_reference().is_some());
    assert_eq!(config.ek_allow_list, Some(EkAllowList::new([id.parse().unwrap()])));
}

#[test]
fn faults_in_what_zones_ask_of_logs_are_told_at_once() {
    let bad = LOGS.replace("revoke", "shout").replace("kernel", "kernels").replace("exit-boot-services-", "no-");
    let told = faults(&format!("ek_allowlist = \"none.txt\"\n{GOOD}\n{bad}"));
    for part in ["`shout`", "`kernels` is none of", "`no-missing`", "none.txt"] {
        assert!(told.contains(part), "{part} is missing in: {told}");
    }
    let short = LOGS.replace("00112233", "");
    assert!(faults(&format!("{GOOD}\n{short}")).contains("64 hexadecimal"));
    let narrow = LOGS.replace("7,8,9,10", "7");
    assert!(faults(&format!("{GOOD}\n{narrow}")).contains("sha256:0-9"));
}

#[test]
fn what_userspace_may_measure_is_said_in_words_or_digests_and_needs_a_pcr_that_carries_it() {
    let hex = "0A".repeat(32);
    let userspace = format!("[zone.boot]\nuserspace = [\"enter-initrd\", \"{hex}\"]");
    let text = format!("{GOOD}\n{}", LOGS.replace("[zone.boot]", &userspace));
    let told = faults(&text);
    assert!(told.contains("sha256:11,12,13,15"), "{told}");
    let dir = tempfile::tempdir().unwrap();
    let text = text.replace("8,9,10\"", "8,9,10,11\"");
    let config = parse(&text, dir.path(), Path::new("verifier.toml")).unwrap();
    let boot = config.zones.as_slice().last().unwrap().boot.clone().unwrap();
    let blessed = boot.userspace.unwrap();
    assert!(blessed.len() == 2 && blessed.contains(&[0x0A; 32]));
    assert!(blessed.contains(&quotary_common::id::sha256(&[b"enter-initrd"])));
}

#[test]
fn the_shipped_configuration_is_good() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd/verifier.toml"));
    load(path).unwrap();
}

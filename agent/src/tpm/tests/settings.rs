//! The `[tpm]` section.

use super::*;

fn raw(text: &str) -> Result<TpmConfig, Vec<String>> {
    toml::from_str::<RawTpm>(text).unwrap().check()
}

#[test]
fn the_default_is_the_kernels_resource_manager() {
    let config = raw("ak_file = '/var/lib/quotary/ak.json'").unwrap();
    assert_eq!(config.access(), &TpmAccess::Device(PathBuf::from("/dev/tpmrm0")));
    assert_eq!(config.ek_algorithm(), EkAlgorithm::Auto);
    assert_eq!(config.command_deadline(), Duration::from_secs(10));
}

#[test]
fn a_software_tpm_is_configured_by_its_directory() {
    let config = raw(
        "access = 'software'\nsoftware_state_dir = '/var/lib/quotary/tpm'\nek_algorithm = 'ecc-p384'\nak_file = '/a'",
    )
    .unwrap();
    assert_eq!(config.access(), &TpmAccess::Software { state_dir: "/var/lib/quotary/tpm".into(), setup_config: None });
    assert_eq!(config.ek_algorithm(), EkAlgorithm::EccP384);
}

#[test]
fn all_faults_are_told_at_once() {
    let faults = raw(
        "access = 'software'\nswtpm_port = 5\nsoftware_state_dir = 'a,b'\nak_file = 'x'\ncommand_deadline_ms = 1\nqueue_capacity = 0",
    )
    .unwrap_err();
    assert_eq!(faults.len(), 6, "{faults:?}");
}

#[test]
fn a_host_that_would_smuggle_options_is_refused() {
    assert!(raw("access = 'swtpm'\nswtpm_host = 'a,port=1'\nswtpm_port = 5\nak_file = '/a'").is_err());
    assert!(raw("access = 'swtpm'\nswtpm_host = 'localhost'\nswtpm_port = 5\nak_file = '/a'").is_ok());
    assert!(raw("access = 'swtpm'\nak_file = '/a'").is_err());
    assert!(raw("access = 'tabrmd'\nak_file = '/a'").is_err());
}

#[test]
fn unknown_settings_are_refused() {
    assert!(toml::from_str::<RawTpm>("devise = 1").is_err());
}

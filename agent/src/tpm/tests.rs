//! The room on real software TPMs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ring::digest::{SHA256, digest};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tss_esapi::Context;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::structures::{Attest, AttestInfo, Digest, Name, Public};
use tss_esapi::traits::UnMarshall as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::device::device_tcti;
use super::software::{ChildSlot, SoftwareTpm};
use super::*;

const SHA256_BANK: u16 = 0x000b;
const DEADLINE: Duration = Duration::from_secs(20);

/// A directory, and the TPM in it; nothing of either is left behind.
struct World {
    handle: Option<TpmHandle>,
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        Self {
            handle: None,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn ak_file(&self) -> PathBuf {
        self.dir.path().join("agent/ak.json")
    }

    fn software(&self) -> TpmAccess {
        TpmAccess::Software {
            state_dir: self.dir.path().join("tpm"),
            setup_config: None,
        }
    }

    fn config(&self, access: TpmAccess, ek: EkAlgorithm) -> TpmConfig {
        TpmConfig::check(access, ek, self.ak_file(), DEADLINE, 8).unwrap()
    }

    async fn start(&mut self, ek: EkAlgorithm) -> TpmHandle {
        let config = self.config(self.software(), ek);
        self.start_with(config).await
    }

    async fn start_with(&mut self, config: TpmConfig) -> TpmHandle {
        let handle = TpmHandle::start(config).await.unwrap();
        self.handle = Some(handle.clone());
        handle
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(pid) = self.handle.as_ref().and_then(TpmHandle::software_child_pid) {
            signal(pid, Signal::KILL);
        }
    }
}

/// A process that is killed and reaped at the end.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn signal(pid: u32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal);
}

/// Whether the process runs; one that nobody has reaped yet does not.
fn lives(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    })
}

fn boot_pcrs() -> Vec<PcrSelection> {
    vec![PcrSelection {
        hash_alg: SHA256_BANK,
        pcrs: (0..=9).collect(),
    }]
}

/// The public key bytes of an EK, as they stand in a certificate's key.
fn key_numbers(public: &[u8]) -> Vec<Vec<u8>> {
    match Public::unmarshall(public).unwrap() {
        Public::Rsa { unique, .. } => vec![unique.value().to_vec()],
        Public::Ecc { unique, .. } => {
            vec![unique.x().value().to_vec(), unique.y().value().to_vec()]
        }
        other => panic!("an EK of an odd kind: {other:?}"),
    }
}

fn certified_numbers(certificate: &[u8]) -> Vec<Vec<u8>> {
    let (rest, certificate) = X509Certificate::from_der(certificate).unwrap();
    assert!(rest.is_empty());
    match certificate.public_key().parsed().unwrap() {
        PublicKey::RSA(key) => vec![
            key.modulus
                .strip_prefix(&[0])
                .unwrap_or(key.modulus)
                .to_vec(),
        ],
        PublicKey::EC(point) => {
            let (x, y) = point.data()[1..].split_at(point.data().len() / 2);
            vec![x.to_vec(), y.to_vec()]
        }
        other => panic!("a certificate for an odd kind of key: {other:?}"),
    }
}

#[tokio::test]
async fn the_certificate_is_the_eks_for_every_kind_that_has_one() {
    for (wanted, bytes) in [
        (EkAlgorithm::Auto, 256),
        (EkAlgorithm::Rsa2048, 256),
        (EkAlgorithm::EccP384, 48),
    ] {
        let mut world = World::new();
        let identity = world.start(wanted).await.identity().await.unwrap();
        assert_eq!(identity.ek_certificates.len(), 1, "{wanted:?}");
        let numbers = key_numbers(&identity.ek_public);
        assert_eq!(numbers[0].len(), bytes, "{wanted:?}");
        assert_eq!(
            certified_numbers(&identity.ek_certificates[0]),
            numbers,
            "{wanted:?}"
        );
    }
}

#[tokio::test]
async fn an_ek_without_certificate_says_so() {
    let mut world = World::new();
    let identity = world
        .start(EkAlgorithm::EccP256)
        .await
        .identity()
        .await
        .unwrap();
    assert!(identity.ek_certificates.is_empty());
    assert_eq!(key_numbers(&identity.ek_public)[0].len(), 32);
}

#[tokio::test]
async fn the_ak_is_what_enrolment_asks_for() {
    let mut world = World::new();
    let identity = world
        .start(EkAlgorithm::Auto)
        .await
        .identity()
        .await
        .unwrap();
    let public = Public::unmarshall(&identity.ak_public).unwrap();
    let attributes = public.object_attributes();
    assert!(attributes.restricted() && attributes.sign_encrypt() && !attributes.decrypt());
    assert!(attributes.fixed_tpm() && attributes.fixed_parent());
    assert!(attributes.sensitive_data_origin() && attributes.no_da());
    let mut name = SHA256_BANK.to_be_bytes().to_vec();
    name.extend(digest(&SHA256, &identity.ak_public).as_ref());
    assert_eq!(identity.ak_name, name);
    let mode = fs::metadata(world.ak_file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_quote_covers_the_data_the_pcrs_and_the_whole_ancestry_of_the_ak() {
    for ek in [EkAlgorithm::Rsa2048, EkAlgorithm::EccP384] {
        let mut world = World::new();
        let handle = world.start(ek).await;
        let identity = handle.identity().await.unwrap();
        let quote = handle.quote([0x5a; 32], &boot_pcrs()).await.unwrap();
        let attest = Attest::unmarshall(&quote.attest).unwrap();
        assert_eq!(attest.extra_data().value(), [0x5a; 32]);
        let AttestInfo::Quote { info } = attest.attested() else {
            panic!("no quote")
        };
        let indices: Vec<u8> = quote
            .pcr_values
            .iter()
            .map(|(_, index, _)| *index)
            .collect();
        assert_eq!(indices, (0..=9).collect::<Vec<u8>>());
        let values: Vec<u8> = quote
            .pcr_values
            .iter()
            .flat_map(|(_, _, value)| value.clone())
            .collect();
        assert_eq!(info.pcr_digest().value(), digest(&SHA256, &values).as_ref());
        assert_eq!(quote.signature[..4], [0x00, 0x18, 0x00, 0x0b]);
        // H(H(TPM_RH_ENDORSEMENT ‖ Name(EK)) ‖ Name(AK)), each under its own nameAlg.
        let (algorithm, hash) = match ek {
            EkAlgorithm::EccP384 => (0x000c_u16, &ring::digest::SHA384),
            _ => (SHA256_BANK, &SHA256),
        };
        let name = |of: &[u8]| [&algorithm.to_be_bytes()[..], digest(hash, of).as_ref()].concat();
        let ek_name = name(&identity.ek_public);
        let ek_qualified = name(&[&[0x40, 0, 0, 0x0b], ek_name.as_slice()].concat());
        let mut qualified = SHA256_BANK.to_be_bytes().to_vec();
        qualified.extend(digest(&SHA256, &[ek_qualified, identity.ak_name].concat()).as_ref());
        assert_eq!(attest.qualified_signer().value(), qualified, "{ek:?}");
        // Keys of the endorsement hierarchy show the counters as they are.
        assert!(attest.clock_info().reset_count() < 100);
    }
}

#[tokio::test]
async fn a_pcr_that_does_not_exist_is_told_and_harms_nothing() {
    let mut world = World::new();
    let handle = world.start(EkAlgorithm::Auto).await;
    let pid = handle.software_child_pid();
    let sha1 = [PcrSelection {
        hash_alg: 0x0004,
        pcrs: vec![3],
    }];
    let error = handle.quote([0; 32], &sha1).await.unwrap_err();
    assert!(
        matches!(
            error,
            TpmError::NoSuchPcr {
                hash_alg: 4,
                index: 3
            }
        ),
        "{error:?}"
    );
    assert!(matches!(
        handle.quote([0; 32], &[]).await,
        Err(TpmError::Input { .. })
    ));
    handle.quote([0; 32], &boot_pcrs()).await.unwrap();
    assert_eq!(handle.software_child_pid(), pid);
}

#[tokio::test]
async fn the_ak_survives_a_restart_and_a_damaged_file_gives_a_new_one() {
    let mut world = World::new();
    let handle = world.start(EkAlgorithm::Auto).await;
    let first = handle.identity().await.unwrap();
    handle.shutdown().await.unwrap();
    assert!(matches!(handle.identity().await, Err(TpmError::Stopped)));
    assert_eq!(handle.software_child_pid(), None);

    let handle = world.start(EkAlgorithm::Auto).await;
    assert_eq!(handle.identity().await.unwrap(), first);
    handle.shutdown().await.unwrap();

    // A private part that this TPM did not wrap.
    let text = fs::read_to_string(world.ak_file()).unwrap();
    let mut file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let private = file["private"].as_str().unwrap().to_owned();
    let mut private = data_encoding::BASE64.decode(private.as_bytes()).unwrap();
    *private.last_mut().unwrap() ^= 1;
    file["private"] = data_encoding::BASE64.encode(&private).into();
    fs::write(world.ak_file(), file.to_string()).unwrap();
    let handle = world.start(EkAlgorithm::Auto).await;
    let other = handle.identity().await.unwrap();
    assert_eq!(other.ek_public, first.ek_public);
    assert_ne!(other.ak_name, first.ak_name);
}

#[tokio::test]
async fn another_ek_gets_another_ak() {
    let mut world = World::new();
    let handle = world.start(EkAlgorithm::Rsa2048).await;
    let rsa = handle.identity().await.unwrap();
    handle.shutdown().await.unwrap();

    let handle = world.start(EkAlgorithm::EccP384).await;
    let ecc = handle.identity().await.unwrap();
    assert_ne!(ecc.ek_public, rsa.ek_public);
    assert_ne!(ecc.ak_name, rsa.ak_name);
    handle.quote([1; 32], &boot_pcrs()).await.unwrap();
    handle.shutdown().await.unwrap();

    // A TPM that was replaced: other seeds, the same kind of EK.
    fs::remove_dir_all(world.dir.path().join("tpm")).unwrap();
    let handle = world.start(EkAlgorithm::EccP384).await;
    let replaced = handle.identity().await.unwrap();
    assert_ne!(replaced.ek_public, ecc.ek_public);
    assert_ne!(replaced.ak_name, ecc.ak_name);
    handle.quote([1; 32], &boot_pcrs()).await.unwrap();
}

#[tokio::test]
async fn four_kills_of_the_tpm_stop_no_quote() {
    for ek in [EkAlgorithm::Rsa2048, EkAlgorithm::EccP384] {
        let mut world = World::new();
        let handle = world.start(ek).await;
        let before = handle.identity().await.unwrap();
        for round in 0..4 {
            handle.quote([round; 32], &boot_pcrs()).await.unwrap();
            let pid = handle.software_child_pid().unwrap();
            signal(pid, Signal::KILL);
            handle.quote([round; 32], &boot_pcrs()).await.unwrap();
            assert_ne!(handle.software_child_pid(), Some(pid), "{ek:?}");
        }
        assert_eq!(handle.identity().await.unwrap(), before);
        let status = handle.status().await.unwrap();
        assert!(!status.in_lockout, "{ek:?}: {status:?}");
        assert_eq!(status.manufacturer, "IBM");
        assert_eq!(status.software_child_pid, handle.software_child_pid());
        activate(&handle).await;
    }
}

/// MakeCredential for the handle's EK and AK on a TPM of its own: it needs public keys only.
fn make_credential(identity: &TpmIdentity, secret: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    // With a state directory already there, swtpm starts as it comes, without EK certificates.
    fs::create_dir(dir.path().join("tpm")).unwrap();
    let mut tpm = SoftwareTpm::new(dir.path().to_owned(), None, ChildSlot::default());
    let device = tpm.ensure_running().unwrap();
    let mut context = Context::new(device_tcti(&device).unwrap()).unwrap();
    let ek = Public::unmarshall(&identity.ek_public).unwrap();
    let ek = context.load_external_public(ek, Hierarchy::Null).unwrap();
    let name = Name::try_from(identity.ak_name.clone()).unwrap();
    let (blob, secret) = context
        .make_credential(ek, Digest::try_from(secret).unwrap(), name)
        .unwrap();
    let prefixed = |bytes: &[u8]| {
        [
            &u16::try_from(bytes.len()).unwrap().to_be_bytes()[..],
            bytes,
        ]
        .concat()
    };
    (prefixed(blob.value()), prefixed(secret.value()))
}

async fn activate(handle: &TpmHandle) {
    let identity = handle.identity().await.unwrap();
    let (blob, secret) = make_credential(&identity, b"thirty-two bytes of a challenge!");
    let opened = handle.activate(&blob, &secret).await.unwrap();
    assert_eq!(opened.as_slice(), b"thirty-two bytes of a challenge!");
}

#[tokio::test]
async fn a_credential_opens_for_each_kind_of_ek() {
    for ek in [
        EkAlgorithm::Rsa2048,
        EkAlgorithm::EccP256,
        EkAlgorithm::EccP384,
    ] {
        let mut world = World::new();
        activate(&world.start(ek).await).await;
    }
}

#[tokio::test]
async fn a_credential_for_other_keys_is_refused_and_harms_nothing() {
    let mut world = World::new();
    let handle = world.start(EkAlgorithm::Auto).await;
    let identity = handle.identity().await.unwrap();
    let pid = handle.software_child_pid();
    let (blob, secret) = make_credential(&identity, &[9; 32]);
    let mut altered = blob.clone();
    *altered.last_mut().unwrap() ^= 1;
    let mut other_ak = identity.clone();
    *other_ak.ak_name.last_mut().unwrap() ^= 1;
    let (for_another, its_secret) = make_credential(&other_ak, &[9; 32]);
    for _ in 0..40 {
        for (blob, secret) in [(&altered, &secret), (&for_another, &its_secret)] {
            let error = handle.activate(blob, secret).await.unwrap_err();
            assert!(
                matches!(error, TpmError::CredentialRefused { .. }),
                "{error:?}"
            );
        }
    }
    assert!(matches!(
        handle.activate(&blob[1..], &secret).await,
        Err(TpmError::Input { .. })
    ));
    assert!(matches!(
        handle.activate(&blob, &[0, 1]).await,
        Err(TpmError::Input { .. })
    ));
    assert_eq!(
        handle.activate(&blob, &secret).await.unwrap().as_slice(),
        [9; 32]
    );
    assert!(!handle.status().await.unwrap().in_lockout);
    assert_eq!(handle.software_child_pid(), pid);
}

#[tokio::test]
async fn five_hundred_quotes_and_a_hundred_activations_leak_no_session() {
    let mut world = World::new();
    let handle = world.start(EkAlgorithm::EccP384).await;
    let pid = handle.software_child_pid();
    let identity = handle.identity().await.unwrap();
    let (blob, secret) = make_credential(&identity, &[7; 20]);
    for round in 0..500_u16 {
        let mut data = [0; 32];
        data[..2].copy_from_slice(&round.to_be_bytes());
        handle.quote(data, &boot_pcrs()).await.unwrap();
        if round % 5 == 0 {
            handle.activate(&blob, &secret).await.unwrap();
        }
    }
    assert_eq!(
        handle.software_child_pid(),
        pid,
        "the connection was never lost"
    );
}

#[tokio::test]
async fn a_hanging_tpm_costs_a_caller_its_deadline_and_no_more() {
    let mut world = World::new();
    let access = world.software();
    let deadline = Duration::from_millis(400);
    let config = TpmConfig::check(access, EkAlgorithm::Auto, world.ak_file(), deadline, 2).unwrap();
    let handle = world.start_with(config).await;
    let pid = handle.software_child_pid().unwrap();
    signal(pid, Signal::STOP);
    let started = Instant::now();
    let selection = boot_pcrs();
    let (first, second, third, fourth) = tokio::join!(
        handle.quote([1; 32], &selection),
        async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            handle.quote([2; 32], &selection).await
        },
        async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            handle.quote([3; 32], &selection).await
        },
        async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            handle.quote([4; 32], &selection).await
        },
    );
    for late in [first, second, third] {
        assert!(matches!(late, Err(TpmError::Deadline { .. })), "{late:?}");
    }
    assert!(
        matches!(fourth, Err(TpmError::Busy { capacity: 2 })),
        "{fourth:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(2));
    signal(pid, Signal::CONT);
    let again = loop {
        match handle.quote([5; 32], &boot_pcrs()).await {
            // Until the thread has dropped what nobody waits for.
            Err(TpmError::Busy { .. }) if started.elapsed() < DEADLINE => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            again => break again,
        }
    };
    assert!(again.is_ok(), "{again:?}");
    assert_eq!(handle.software_child_pid(), Some(pid));

    signal(pid, Signal::STOP);
    assert!(matches!(
        handle.shutdown().await,
        Err(TpmError::Deadline { .. })
    ));
    let end = Instant::now() + Duration::from_secs(5);
    while lives(pid) {
        assert!(Instant::now() < end, "a hanging swtpm was left behind");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn swtpm_is_the_leader_of_a_session_with_the_terminal_as_its_own() {
    let mut world = World::new();
    let pid = world
        .start(EkAlgorithm::Auto)
        .await
        .software_child_pid()
        .unwrap();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    assert_eq!(fields[3], pid.to_string(), "session");
    assert_ne!(fields[4], "0", "controlling terminal");
}

#[tokio::test]
async fn a_second_agent_on_the_same_state_is_told_why_it_cannot_start() {
    let mut world = World::new();
    let first = world.start(EkAlgorithm::Auto).await;
    let second = TpmHandle::start(world.config(world.software(), EkAlgorithm::Auto)).await;
    assert!(
        matches!(second, Err(TpmError::SoftwareStart { .. })),
        "{second:?}"
    );
    first.quote([0; 32], &boot_pcrs()).await.unwrap();
}

#[tokio::test]
async fn a_site_ca_signs_the_ek_certificates() {
    let mut world = World::new();
    let site = world.dir.path().join("site");
    fs::create_dir(&site).unwrap();
    let made = Command::new("swtpm_setup")
        .args(["--create-config-files", "skip-if-exist,root"])
        .env("XDG_CONFIG_HOME", &site)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
    let access = TpmAccess::Software {
        state_dir: world.dir.path().join("tpm"),
        setup_config: Some(site.join("swtpm_setup.conf")),
    };
    let config = world.config(access, EkAlgorithm::Auto);
    let identity = world.start_with(config).await.identity().await.unwrap();
    let issuer = fs::read(site.join("var/lib/swtpm-localca/issuercert.pem")).unwrap();
    let (_, issuer) = x509_parser::pem::parse_x509_pem(&issuer).unwrap();
    let issuer = issuer.parse_x509().unwrap();
    let (_, leaf) = X509Certificate::from_der(&identity.ek_certificates[0]).unwrap();
    leaf.verify_signature(Some(issuer.public_key())).unwrap();
}

#[tokio::test]
async fn a_missing_device_is_told() {
    let world = World::new();
    let access = TpmAccess::Device(world.dir.path().join("tpm0"));
    let error = TpmHandle::start(world.config(access, EkAlgorithm::Auto))
        .await
        .unwrap_err();
    assert!(matches!(error, TpmError::Connect { .. }), "{error:?}");
}

/// An agent in a process of its own, to be killed. It says on stdout when its TPM is open.
#[tokio::test]
#[ignore = "started by the tests below, with settings in the environment"]
async fn agent_to_be_killed() {
    let Some(dir) = std::env::var_os("QUOTARY_TEST_DIR").map(PathBuf::from) else {
        return;
    };
    let access = match std::env::var("QUOTARY_TEST_PORT") {
        Ok(port) => TpmAccess::Swtpm {
            host: "127.0.0.1".to_owned(),
            port: port.parse().unwrap(),
        },
        Err(_) => TpmAccess::Software {
            state_dir: dir.join("tpm"),
            setup_config: None,
        },
    };
    let ak_file = dir.join("agent/ak.json");
    let config = TpmConfig::check(access, EkAlgorithm::Auto, ak_file, DEADLINE, 8).unwrap();
    let handle = TpmHandle::start(config).await.unwrap();
    handle.quote([0; 32], &boot_pcrs()).await.unwrap();
    fs::write(
        dir.join("ready"),
        handle.software_child_pid().unwrap_or(0).to_string(),
    )
    .unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
}

/// Starts an agent in a process of its own, and kills it (SIGKILL) once its TPM is open. Returns the
/// pid of its swtpm.
async fn start_and_kill_agent(dir: &Path, port: Option<u16>) -> u32 {
    let ready = dir.join("ready");
    let _ = fs::remove_file(&ready);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--ignored", "--exact", "tpm::tests::agent_to_be_killed"])
        .env("QUOTARY_TEST_DIR", dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(port) = port {
        command.env("QUOTARY_TEST_PORT", port.to_string());
    }
    let mut agent = Process(command.spawn().unwrap());
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if let Ok(pid) = fs::read_to_string(&ready).unwrap_or_default().parse() {
            return pid;
        }
        assert!(
            Instant::now() < end && agent.0.try_wait().unwrap().is_none(),
            "no agent"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_killed_agents_tpm_dies_with_it_and_does_not_bar_the_next() {
    let mut world = World::new();
    for _ in 0..4 {
        let swtpm = start_and_kill_agent(world.dir.path(), None).await;
        let handle = world.start(EkAlgorithm::Auto).await;
        assert!(!lives(swtpm));
        handle.quote([1; 32], &boot_pcrs()).await.unwrap();
        handle.shutdown().await.unwrap();
    }
    let handle = world.start(EkAlgorithm::Auto).await;
    assert!(!handle.status().await.unwrap().in_lockout);
}

#[tokio::test]
async fn what_killed_agents_left_loaded_in_a_running_swtpm_is_flushed() {
    let mut world = World::new();
    let dir = world.dir.path().to_owned();
    // Made by the room itself, then run by hand as a server.
    let handle = world.start(EkAlgorithm::Auto).await;
    let made = handle.identity().await.unwrap();
    handle.shutdown().await.unwrap();
    // swtpm cannot choose its ports: find two adjacent ones that are free now.
    let port = loop {
        let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = probe.local_addr().unwrap().port();
        if port < u16::MAX && std::net::TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            break port;
        }
    };
    let _server = Process(
        Command::new("swtpm")
            .args([
                "socket",
                "--tpm2",
                "--flags",
                "not-need-init,startup-clear",
                "--tpmstate",
            ])
            .arg(format!("dir={}", dir.join("tpm/tpm").display()))
            .args([
                "--server",
                &format!("type=tcp,bindaddr=127.0.0.1,port={port}"),
            ])
            .args([
                "--ctrl",
                &format!("type=tcp,bindaddr=127.0.0.1,port={}", port + 1),
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..5 {
        start_and_kill_agent(&dir, Some(port)).await;
    }
    let access = TpmAccess::Swtpm {
        host: "127.0.0.1".to_owned(),
        port,
    };
    let config = world.config(access, EkAlgorithm::Auto);
    let handle = world.start_with(config).await;
    assert_eq!(handle.identity().await.unwrap(), made);
    assert_eq!(handle.software_child_pid(), None);
    handle.quote([1; 32], &boot_pcrs()).await.unwrap();
    handle.shutdown().await.unwrap();
}

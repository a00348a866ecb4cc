//! The room on real software TPMs: a world that leaves nothing behind, and what the files of tests share.

mod faults;
mod keys;
mod processes;
mod settings;

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
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("agent")).unwrap();
        Self { handle: None, dir }
    }

    fn ak_file(&self) -> PathBuf {
        self.dir.path().join("agent/ak.json")
    }

    fn software(&self) -> TpmAccess {
        TpmAccess::Software { state_dir: self.dir.path().join("tpm"), setup_config: None }
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
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X'])))
}

fn boot_pcrs() -> Vec<PcrSelection> {
    vec![PcrSelection { hash_alg: SHA256_BANK, pcrs: (0..=9).collect() }]
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
    let (blob, secret) = context.make_credential(ek, Digest::try_from(secret).unwrap(), name).unwrap();
    let prefixed = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    (prefixed(blob.value()), prefixed(secret.value()))
}

async fn activate(handle: &TpmHandle) {
    let identity = handle.identity().await.unwrap();
    let (blob, secret) = make_credential(&identity, b"thirty-two bytes of a challenge!");
    let opened = handle.activate(&blob, &secret).await.unwrap();
    assert_eq!(opened.as_slice(), b"thirty-two bytes of a challenge!");
}

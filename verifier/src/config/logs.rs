//! What zones ask of boot logs and IMA lists, checked.

use std::collections::BTreeSet;
use std::path::Path;

use quotary_common::id::sha256;
use quotary_decide::attest::{BootRequirement, OnUnknown};
use quotary_decide::eventlog::{ProblemCode, Stage};
use quotary_decide::ima::{self, AllowList, SignerKey, SignerKeys};

use super::Faults;
use super::raw::{RawBoot, RawIma};

/// Largest allow-list file, in bytes.
const ALLOW_FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

pub(super) fn boot(what: &str, raw: &RawBoot, faults: &mut Faults) -> BootRequirement {
    let mut requirement = BootRequirement { secure_boot: raw.secure_boot, ..BootRequirement::default() };
    for (name, digests) in &raw.stages {
        let Some(stage) = Stage::from_name(name) else {
            let known: Vec<&str> = Stage::ALL.into_iter().map(Stage::name).collect();
            faults.add(format!("{what}.boot.stages: `{name}` is none of {}", known.join(", ")));
            continue;
        };
        let mut blessed = BTreeSet::new();
        for hex in digests {
            match digest(hex) {
                Some(digest) => {
                    blessed.insert(digest);
                }
                None => faults.add(format!("{what}.boot.stages.{name}: `{hex}` is not 64 hexadecimal characters")),
            }
        }
        if blessed.is_empty() {
            faults.add(format!("{what}.boot.stages.{name}: no digest is blessed, so no host could enter"));
        }
        requirement.stages.insert(stage, blessed);
    }
    requirement.userspace = raw.userspace.as_ref().map(|words| words.iter().map(|word| measured(word)).collect());
    for code in &raw.accept {
        match ProblemCode::ALL.iter().find(|known| known.code() == code) {
            Some(known) => {
                requirement.accept.insert(*known);
            }
            None => faults.add(format!("{what}.boot.accept: `{code}` is no problem of an event log")),
        }
    }
    requirement
}

fn digest(hex: &str) -> Option<[u8; 32]> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok()?;
    <[u8; 32]>::try_from(bytes).ok()
}

/// The digest that is written, or that systemd measures for these words: it hashes them as they are.
fn measured(word: &str) -> [u8; 32] {
    digest(word).unwrap_or_else(|| sha256(&[word.as_bytes()]))
}

pub(super) fn on_unknown(what: &str, word: &str, faults: &mut Faults) -> Option<OnUnknown> {
    match word {
        "warn" => Some(OnUnknown::Warn),
        "shrink" => Some(OnUnknown::Shrink),
        "revoke" => Some(OnUnknown::Revoke),
        other => {
            faults.add(format!("{what}.ima_on_unknown: `{other}` is none of warn, shrink, revoke"));
            None
        }
    }
}

/// Reads a file that the configuration names; what it says is as the configuration says it.
pub(super) type ReadFile<'a> = &'a dyn Fn(&Path) -> std::io::Result<Vec<u8>>;

/// Reads files below `base`, none larger than an allow-list may be.
pub(super) fn read_below(base: &Path) -> impl Fn(&Path) -> std::io::Result<Vec<u8>> {
    move |file| {
        let path = base.join(file);
        let bytes = std::fs::metadata(&path)?.len();
        if bytes > ALLOW_FILE_BYTES_MAX {
            return Err(std::io::Error::other(format!("{bytes} bytes, at most {ALLOW_FILE_BYTES_MAX} are read")));
        }
        std::fs::read(&path)
    }
}

pub(super) fn reference(raw: &RawIma, read: ReadFile<'_>, faults: &mut Faults) -> Option<ima::Reference> {
    let mut allowed = Vec::new();
    for file in &raw.allow {
        let what = format!("ima.allow {}", file.display());
        let Some(bytes) = faults.note(&what, read(file)) else { continue };
        let Some(list) = faults.note(&what, AllowList::parse(&bytes)) else { continue };
        allowed.extend(list.iter().map(|(path, digest)| (path.to_vec(), digest)));
    }
    let mut keys = Vec::new();
    for file in &raw.signers {
        let what = format!("ima.signers {}", file.display());
        let Some(bytes) = faults.note(&what, read(file)) else { continue };
        keys.extend(faults.note(&what, SignerKey::from_pem(&bytes)));
    }
    let allowed = faults.note("ima.allow", AllowList::new(allowed))?;
    let signers = faults.note("ima.signers", SignerKeys::new(keys))?;
    let bytes = |paths: &[String]| paths.iter().map(|path| path.clone().into_bytes()).collect();
    faults.note("ima", ima::Reference::new(allowed, signers, bytes(&raw.exclude), bytes(&raw.require)))
}

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

pub(super) fn reference(raw: &RawIma, base: &Path, faults: &mut Faults) -> Option<ima::Reference> {
    let mut allowed = Vec::new();
    for file in &raw.allow {
        let path = base.join(file);
        let what = format!("ima.allow {}", path.display());
        let size = faults.note(&what, std::fs::metadata(&path))?.len();
        if size > ALLOW_FILE_BYTES_MAX {
            faults.add(format!("{what}: {size} bytes, at most {ALLOW_FILE_BYTES_MAX} are read"));
            continue;
        }
        let bytes = faults.note(&what, std::fs::read(&path))?;
        let list = faults.note(&what, AllowList::parse(&bytes))?;
        allowed.extend(list.iter().map(|(path, digest)| (path.to_vec(), digest)));
    }
    let mut keys = Vec::new();
    for file in &raw.signers {
        let path = base.join(file);
        let what = format!("ima.signers {}", path.display());
        let bytes = faults.note(&what, std::fs::read(&path))?;
        keys.push(faults.note(&what, SignerKey::from_pem(&bytes))?);
    }
    let allowed = faults.note("ima.allow", AllowList::new(allowed))?;
    let signers = faults.note("ima.signers", SignerKeys::new(keys))?;
    let bytes = |paths: &[String]| paths.iter().map(|path| path.clone().into_bytes()).collect();
    faults.note("ima", ima::Reference::new(allowed, signers, bytes(&raw.exclude), bytes(&raw.require)))
}

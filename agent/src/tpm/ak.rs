//! The attestation key: made once under the EK, kept wrapped in a file, loaded at each connection.
//!
//! ECDSA P-256 with SHA-256, restricted to signing what the TPM itself made, bound to this TPM and to
//! its EK. It is a child of the EK because quotes by keys of the owner hierarchy hide resetCount,
//! restartCount and firmwareVersion; and it is exempt from dictionary-attack protection (noDA), because
//! a few unclean stops of the TPM would otherwise lock it out of quoting.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use tss_esapi::Context;
use tss_esapi::attributes::ObjectAttributesBuilder;
use tss_esapi::constants::response_code::Tss2ResponseCodeKind;
use tss_esapi::handles::KeyHandle;
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::structures::{
    EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme, Private, Public, PublicBuilder,
    PublicEccParametersBuilder, SymmetricDefinitionObject,
};
use tss_esapi::traits::{Marshall as _, UnMarshall as _};

use super::ek::LoadedEk;
use super::error::{Step, TpmError};

/// An AK file is about 1 KiB.
const MAX_FILE_BYTES: u64 = 16 * 1024;
const FILE_VERSION: u32 = 1;
/// What the TPM says to a wrapped key that it did not wrap, or that was altered (TPM 2.0 Part 3, §12.2).
const DAMAGED: [Tss2ResponseCodeKind; 7] = [
    Tss2ResponseCodeKind::Integrity,
    Tss2ResponseCodeKind::Size,
    Tss2ResponseCodeKind::Insufficient,
    Tss2ResponseCodeKind::Binding,
    Tss2ResponseCodeKind::Attributes,
    Tss2ResponseCodeKind::Type,
    Tss2ResponseCodeKind::Key,
];

/// The AK's file. The private part is wrapped by the EK: it is of no use to any other TPM.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AkFile {
    version: u32,
    /// The name of the EK that wraps the key, base64: the guard against a changed EK.
    ek_name: String,
    /// TPMT_PUBLIC, base64.
    public: String,
    /// Content of TPM2B_PRIVATE, base64.
    private: String,
}

/// A wrapped AK.
struct WrappedAk {
    public: Public,
    private: Private,
}

/// Loads the AK of this EK from the file, or makes a new one and writes it there if the file is
/// missing, damaged, or of another EK.
pub(super) fn load_or_create(
    context: &mut Context,
    ek: &LoadedEk,
    path: &Path,
) -> Result<KeyHandle, TpmError> {
    if let Some(wrapped) = read(path, &ek.name)? {
        match load(context, ek, wrapped) {
            Err(TpmError::Command {
                step: Step::LoadAk,
                source,
            }) if DAMAGED
                .iter()
                .any(|kind| TpmError::is_response(&source, *kind)) =>
            {
                tracing::warn!(path = %path.display(), "the AK file is not of this TPM; making a new AK");
            }
            loaded => return loaded,
        }
    }
    let wrapped = create(context, ek)?;
    write(path, &ek.name, &wrapped)?;
    tracing::info!(path = %path.display(), "made a new AK");
    load(context, ek, wrapped)
}

/// The AK's template: this and nothing else is what the verifier accepts at enrolment.
fn template() -> tss_esapi::Result<Public> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_restricted(true)
        .with_sign_encrypt(true)
        .build()?;
    let parameters = PublicEccParametersBuilder::new()
        .with_symmetric(SymmetricDefinitionObject::Null)
        .with_ecc_scheme(EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256)))
        .with_curve(EccCurve::NistP256)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
        .with_is_signing_key(true)
        .with_restricted(true)
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters)
        .with_ecc_unique_identifier(EccPoint::default())
        .build()
}

fn create(context: &mut Context, ek: &LoadedEk) -> Result<WrappedAk, TpmError> {
    let template = template().map_err(TpmError::command(Step::CreateAk))?;
    let made = ek.with_policy(context, Step::CreateAk, |context, session| {
        context.execute_with_session(Some(session), |context| {
            context.create(ek.handle(), template, None, None, None, None)
        })
    })?;
    Ok(WrappedAk {
        public: made.out_public,
        private: made.out_private,
    })
}

fn load(context: &mut Context, ek: &LoadedEk, wrapped: WrappedAk) -> Result<KeyHandle, TpmError> {
    let WrappedAk { public, private } = wrapped;
    ek.with_policy(context, Step::LoadAk, |context, session| {
        context.execute_with_session(Some(session), |context| {
            context.load(ek.handle(), private, public)
        })
    })
}

/// Reads the file; `None` if it must be made anew.
fn read(path: &Path, ek_name: &[u8]) -> Result<Option<WrappedAk>, TpmError> {
    let text = match read_bounded(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(TpmError::AkFile {
                action: "read",
                path: path.to_owned(),
                source,
            });
        }
    };
    match parse(&text, ek_name) {
        Ok(found) => Ok(found),
        Err(fault) => {
            tracing::warn!(path = %path.display(), fault, "the AK file is damaged; making a new AK");
            Ok(None)
        }
    }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut text)?;
    Ok(text)
}

fn parse(text: &[u8], ek_name: &[u8]) -> Result<Option<WrappedAk>, String> {
    if u64::try_from(text.len()).map_or(true, |length| length > MAX_FILE_BYTES) {
        return Err(format!("it is longer than {MAX_FILE_BYTES} bytes"));
    }
    let file: AkFile = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if file.version != FILE_VERSION {
        return Err(format!(
            "its version is {}, not {FILE_VERSION}",
            file.version
        ));
    }
    let decode = |what: &str, text: &str| {
        BASE64
            .decode(text.as_bytes())
            .map_err(|error| format!("{what}: {error}"))
    };
    if decode("ek_name", &file.ek_name)? != ek_name {
        tracing::info!("the EK has changed since the AK was made");
        return Ok(None);
    }
    let public = Public::unmarshall(&decode("public", &file.public)?)
        .map_err(|error| format!("public: {error}"))?;
    let private = Private::try_from(decode("private", &file.private)?)
        .map_err(|error| format!("private: {error}"))?;
    Ok(Some(WrappedAk { public, private }))
}

fn write(path: &Path, ek_name: &[u8], wrapped: &WrappedAk) -> Result<(), TpmError> {
    let public = wrapped
        .public
        .marshall()
        .map_err(TpmError::command(Step::CreateAk))?;
    let file = AkFile {
        version: FILE_VERSION,
        ek_name: BASE64.encode(ek_name),
        public: BASE64.encode(&public),
        private: BASE64.encode(wrapped.private.value()),
    };
    serde_json::to_vec_pretty(&file)
        .map_err(io::Error::other)
        .and_then(|text| write_durably(path, &text))
        .map_err(|source| TpmError::AkFile {
            action: "write",
            path: path.to_owned(),
            source,
        })
}

/// Replaces a file so that after a power cut either the old or the new content stands, mode 0600.
fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::fs::{self, DirBuilder, OpenOptions};
    use std::io::Write as _;
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a path of a file",
        ));
    };
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mut draft_name = name.to_owned();
    draft_name.push(".new");
    let draft = dir.join(draft_name);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_file_is_private_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/ak.json");
        write_durably(&path, b"one").unwrap();
        write_durably(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1
        );
    }

    #[test]
    fn a_damaged_file_is_made_anew_and_an_unreadable_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ak.json");
        assert!(read(&path, b"ek").unwrap().is_none());
        std::fs::write(&path, vec![b' '; 20_000]).unwrap();
        assert!(read(&path, b"ek").unwrap().is_none());
        assert!(matches!(
            read(dir.path(), b"ek"),
            Err(TpmError::AkFile { action: "read", .. })
        ));
    }

    proptest! {
        #[test]
        fn any_file_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            prop_assert!(parse(&bytes, b"ek").is_err());
        }

        #[test]
        fn any_key_bytes_are_survived(public in prop::collection::vec(any::<u8>(), 0..300)) {
            let file = AkFile {
                version: FILE_VERSION,
                ek_name: BASE64.encode(b"ek"),
                public: BASE64.encode(&public),
                private: BASE64.encode(&public),
            };
            let text = serde_json::to_vec(&file).unwrap();
            // The TSS may make sense of some bytes; it must not fall over any.
            let _ = parse(&text, b"ek");
        }
    }
}

//! The attestation key: made once under the EK, kept wrapped in a file, loaded at each connection.
//!
//! ECDSA P-256 with SHA-256, restricted to signing what the TPM itself made, bound to this TPM and to
//! its EK. It is a child of the EK because quotes by keys of the owner hierarchy hide resetCount,
//! restartCount and firmwareVersion; and it is exempt from dictionary-attack protection (noDA), because
//! a few unclean stops of the TPM would otherwise lock it out of quoting.

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
use crate::state::durable::{self, PRIVATE};

/// An AK file is about 1 KiB.
const MAX_FILE_BYTES: usize = 16 * 1024;
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
pub(super) fn load_or_create(context: &mut Context, ek: &LoadedEk, path: &Path) -> Result<KeyHandle, TpmError> {
    if let Some(wrapped) = read(path, &ek.name)? {
        match load(context, ek, wrapped) {
            Err(TpmError::Command { step: Step::LoadAk, source })
                if DAMAGED.iter().any(|kind| TpmError::is_response(&source, *kind)) =>
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
    Ok(WrappedAk { public: made.out_public, private: made.out_private })
}

fn load(context: &mut Context, ek: &LoadedEk, wrapped: WrappedAk) -> Result<KeyHandle, TpmError> {
    let WrappedAk { public, private } = wrapped;
    ek.with_policy(context, Step::LoadAk, |context, session| {
        context.execute_with_session(Some(session), |context| context.load(ek.handle(), private, public))
    })
}

/// Reads the file; `None` if it must be made anew.
fn read(path: &Path, ek_name: &[u8]) -> Result<Option<WrappedAk>, TpmError> {
    let read = durable::read(path, MAX_FILE_BYTES);
    let Some(text) = read.map_err(|source| TpmError::AkFile { source })? else {
        return Ok(None);
    };
    match parse(&text, ek_name) {
        Ok(found) => Ok(found),
        Err(fault) => {
            tracing::warn!(path = %path.display(), fault, "the AK file is damaged; making a new AK");
            Ok(None)
        }
    }
}

fn parse(text: &[u8], ek_name: &[u8]) -> Result<Option<WrappedAk>, String> {
    let file: AkFile = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if file.version != FILE_VERSION {
        return Err(format!("its version is {}, not {FILE_VERSION}", file.version));
    }
    let decode = |what: &str, text: &str| BASE64.decode(text.as_bytes()).map_err(|error| format!("{what}: {error}"));
    if decode("ek_name", &file.ek_name)? != ek_name {
        tracing::info!("the EK has changed since the AK was made");
        return Ok(None);
    }
    let public = Public::unmarshall(&decode("public", &file.public)?).map_err(|error| format!("public: {error}"))?;
    let private = Private::try_from(decode("private", &file.private)?).map_err(|error| format!("private: {error}"))?;
    Ok(Some(WrappedAk { public, private }))
}

fn write(path: &Path, ek_name: &[u8], wrapped: &WrappedAk) -> Result<(), TpmError> {
    let public = wrapped.public.marshall().map_err(TpmError::command(Step::CreateAk))?;
    let file = AkFile {
        version: FILE_VERSION,
        ek_name: BASE64.encode(ek_name),
        public: BASE64.encode(&public),
        private: BASE64.encode(wrapped.private.value()),
    };
    // Strings and a number always have a form in JSON; the error type wants an answer all the same.
    let text = serde_json::to_vec_pretty(&file)
        .map_err(|error| TpmError::Unexpected { step: Step::CreateAk, detail: error.to_string() })?;
    durable::write(path, &text, PRIVATE).map_err(|source| TpmError::AkFile { source })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_damaged_file_is_made_anew_and_an_unreadable_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ak.json");
        assert!(read(&path, b"ek").unwrap().is_none());
        std::fs::write(&path, "{}").unwrap();
        assert!(read(&path, b"ek").unwrap().is_none());
        std::fs::write(&path, vec![b' '; MAX_FILE_BYTES + 1]).unwrap();
        assert!(matches!(read(&path, b"ek"), Err(TpmError::AkFile { .. })));
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

//! An open TPM with the AK loaded: what lives between connecting and the first thing that goes wrong.

use quotary_common::tpm::{AkKey, PcrSelection};
use tss_esapi::Context;
use tss_esapi::constants::{CapabilityType, PropertyTag, StartupType};
use tss_esapi::handles::{KeyHandle, ObjectHandle};
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{CapabilityData, EncryptedSecret, IdObject};
use tss_esapi::tcti_ldr::TctiNameConf;
use tss_esapi::traits::Marshall as _;
use zeroize::Zeroizing;

use super::ak;
use super::certificates;
use super::device::{TpmAccess, TpmConfig};
use super::ek::{self, EkProfile};
use super::error::{Step, TpmError};
use super::quote::{self, RawQuote};

/// Transient objects and loaded sessions (TPM 2.0 Part 2, §7.4).
const TRANSIENT: (u32, u32) = (0x8000_0000, 0x80ff_ffff);
const LOADED_SESSIONS: (u32, u32) = (0x0200_0000, 0x03ff_ffff);
/// TPMA_PERMANENT bit 9.
const IN_LOCKOUT: u32 = 1 << 9;

/// What the TPM says about itself; all of it is claim until the verifier has checked it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TpmIdentity {
    /// The EK: bare TPMT_PUBLIC, big endian.
    pub ek_public: Vec<u8>,
    /// DER: the EK's certificate first, then what the TPM keeps of its chain. Empty if it has none.
    pub ek_certificates: Vec<Vec<u8>>,
    /// The AK: bare TPMT_PUBLIC, big endian.
    pub ak_public: Vec<u8>,
    /// The AK's name: nameAlg and digest of the public area.
    pub ak_name: Vec<u8>,
}

/// The TPM's state, for `status` and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TpmStatus {
    /// Dictionary-attack lockout. It stops neither quotes nor activation here.
    pub in_lockout: bool,
    /// TPM_PT_LOCKOUT_COUNTER: failures and unclean stops counted towards lockout.
    pub lockout_counter: u32,
    /// Four characters of the vendor.
    pub manufacturer: String,
    /// TPM_PT_FIRMWARE_VERSION_1 and _2.
    pub firmware_version: u64,
    /// The agent's own swtpm, if it runs one.
    pub software_child_pid: Option<u32>,
}

/// A credential as MakeCredential makes it.
pub(super) struct Credential {
    blob: Vec<u8>,
    secret: Vec<u8>,
}

impl Credential {
    /// Takes both apart: TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET, size prefixes included.
    pub(super) fn check(blob: &[u8], secret: &[u8]) -> Result<Self, TpmError> {
        Ok(Self {
            blob: tpm2b("TPM2B_ID_OBJECT", blob)?.to_vec(),
            secret: tpm2b("TPM2B_ENCRYPTED_SECRET", secret)?.to_vec(),
        })
    }
}

fn tpm2b<'a>(what: &'static str, bytes: &'a [u8]) -> Result<&'a [u8], TpmError> {
    let content = bytes.split_first_chunk().and_then(|(size, content)| {
        (usize::from(u16::from_be_bytes(*size)) == content.len() && !content.is_empty()).then_some(content)
    });
    content.ok_or_else(|| TpmError::Input {
        what,
        detail: format!("its size prefix does not fit its {} bytes", bytes.len()),
    })
}

/// An open TPM with the AK loaded. Dropping it flushes what is loaded.
pub(super) struct Connection {
    context: Context,
    profile: EkProfile,
    ak: KeyHandle,
    ak_key: AkKey,
    identity: TpmIdentity,
}

impl Connection {
    /// Opens the TPM, flushes what an agent that was killed left behind, and loads the AK.
    pub(super) fn open(tcti: TctiNameConf, config: &TpmConfig) -> Result<Self, TpmError> {
        let mut context =
            Context::new(tcti).map_err(|source| TpmError::Connect { access: config.access().to_string(), source })?;
        flush_leftovers(&mut context, config.access())?;
        let profile = EkProfile::choose(&mut context, config.ek_algorithm())?;
        let ek_certificates = profile.certificates(&mut context)?;
        let (ak, ek_public) = ek::with_ek(&mut context, profile, |context, ek| {
            let ak = ak::load_or_create(context, ek, config.ak_file())?;
            let ek_public = ek.public.marshall().map_err(TpmError::command(Step::LoadEk))?;
            Ok((ak, ek_public))
        })?;
        let (ak_public, ak_name, _) = context.read_public(ak).map_err(TpmError::command(Step::LoadAk))?;
        let ak_public = ak_public.marshall().map_err(TpmError::command(Step::LoadAk))?;
        let ak_key = AkKey::from_public_bytes(&ak_public).map_err(|source| TpmError::AkForm { source })?;
        let identity = TpmIdentity { ek_public, ek_certificates, ak_public, ak_name: ak_name.value().to_vec() };
        Ok(Self { context, profile, ak, ak_key, identity })
    }

    pub(super) const fn identity(&self) -> &TpmIdentity {
        &self.identity
    }

    /// TPM2_ActivateCredential: the secret, if the credential is for this EK and this AK.
    pub(super) fn activate(&mut self, credential: &Credential) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let fault = |what: &'static str| {
            move |_| TpmError::Input { what, detail: "it is longer than any TPM takes".to_owned() }
        };
        let blob = IdObject::try_from(credential.blob.as_slice()).map_err(fault("TPM2B_ID_OBJECT"))?;
        let secret =
            EncryptedSecret::try_from(credential.secret.as_slice()).map_err(fault("TPM2B_ENCRYPTED_SECRET"))?;
        let ak = self.ak;
        let activated = ek::with_ek(&mut self.context, self.profile, |context, ek| {
            ek.with_policy(context, Step::Activate, |context, policy| {
                let sessions = (Some(AuthSession::Password), Some(policy), None);
                context.execute_with_sessions(sessions, |context| {
                    context.activate_credential(ak, ek.handle(), blob, secret)
                })
            })
        });
        match activated {
            Ok(digest) => Ok(Zeroizing::new(digest.value().to_vec())),
            // Format-one codes are the TPM's judgement of what it was given (Part 2, §6.6.2).
            Err(TpmError::Command { step: Step::Activate, source })
                if matches!(
                    source,
                    tss_esapi::Error::Tss2Error(tss_esapi::constants::response_code::Tss2ResponseCode::FormatOne(_))
                ) =>
            {
                Err(TpmError::CredentialRefused { source })
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn quote(&mut self, qualifying_data: &[u8; 32], selection: &PcrSelection) -> Result<RawQuote, TpmError> {
        quote::quote(&mut self.context, self.ak, &self.ak_key, qualifying_data, selection)
    }

    pub(super) fn status(&mut self, child_pid: Option<u32>) -> Result<TpmStatus, TpmError> {
        let context = &mut self.context;
        let manufacturer = property(context, PropertyTag::Manufacturer)?.to_be_bytes();
        let high = property(context, PropertyTag::FirmwareVersion1)?;
        let low = property(context, PropertyTag::FirmwareVersion2)?;
        Ok(TpmStatus {
            in_lockout: property(context, PropertyTag::Permanent)? & IN_LOCKOUT != 0,
            lockout_counter: property(context, PropertyTag::LockoutCounter)?,
            manufacturer: manufacturer.into_iter().map(char::from).filter(|letter| letter.is_ascii_graphic()).collect(),
            firmware_version: (u64::from(high) << 32) | u64::from(low),
            software_child_pid: child_pid,
        })
    }

    /// Flushes the AK and tells the TPM that it may be switched off: TPM2_Shutdown(Clear).
    pub(super) fn shut_down(mut self) -> Result<(), TpmError> {
        self.context
            .flush_context(ObjectHandle::from(self.ak))
            .and_then(|()| self.context.shutdown(StartupType::Clear))
            .map_err(TpmError::command(Step::Shutdown))
    }
}

/// Reads one property; never from the TSS's cache.
fn property(context: &mut Context, tag: PropertyTag) -> Result<u32, TpmError> {
    let (data, _) = context
        .get_capability(CapabilityType::TpmProperties, tag.into(), 1)
        .map_err(TpmError::command(Step::Capability))?;
    match data {
        CapabilityData::TpmProperties(list) => list.find(tag).map(|found| found.value()),
        _ => None,
    }
    .ok_or_else(|| TpmError::Unexpected { step: Step::Capability, detail: format!("the TPM has no property {tag:?}") })
}

/// Without a resource manager, what a killed agent had loaded stays loaded, and there is room for
/// three objects only. Behind the kernel's resource manager one sees one's own objects only; its
/// sessions may be others', so they are left alone there.
fn flush_leftovers(context: &mut Context, access: &TpmAccess) -> Result<(), TpmError> {
    for handle in certificates::handles(context, TRANSIENT.0, TRANSIENT.1)? {
        context
            .tr_from_tpm_public(handle)
            .and_then(|object| context.flush_context(object))
            .map_err(TpmError::command(Step::FlushLeftovers))?;
    }
    if matches!(access, TpmAccess::Device(_)) {
        return Ok(());
    }
    for handle in certificates::handles(context, LOADED_SESSIONS.0, LOADED_SESSIONS.1)? {
        let flushed = context.tr_from_tpm_public(handle).and_then(|object| context.flush_context(object));
        if let Err(error) = flushed {
            // Old TSS libraries cannot name a session that they did not start; there is room for more.
            tracing::debug!(%error, "a session of an earlier process stays");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_size_prefix_must_fit() {
        assert_eq!(tpm2b("x", &[0, 2, 8, 9]).ok(), Some([8_u8, 9].as_slice()));
        for wrong in [&[][..], &[0], &[0, 0], &[0, 1], &[0, 1, 2, 3], &[0, 3, 1, 2]] {
            assert!(tpm2b("x", wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_credential_is_survived(
            blob in prop::collection::vec(any::<u8>(), 0..80),
            secret in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let both_fit = tpm2b("x", &blob).is_ok() && tpm2b("x", &secret).is_ok();
            prop_assert_eq!(Credential::check(&blob, &secret).is_ok(), both_fit);
        }
    }
}

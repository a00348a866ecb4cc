//! The endorsement key: which one, how it is loaded, and how its policy is satisfied.

use ring::digest::{SHA256, SHA384, digest};
use tss_esapi::Context;
use tss_esapi::abstraction::AsymmetricAlgorithmSelection;
use tss_esapi::abstraction::ek::create_ek_public_from_default_template_2;
use tss_esapi::attributes::SessionAttributesBuilder;
use tss_esapi::constants::SessionType;
use tss_esapi::handles::{AuthHandle, KeyHandle, ObjectHandle, SessionHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{Digest, DigestList, Nonce, Public, SymmetricDefinition};

use super::certificates;
use super::device::EkAlgorithm;
use super::error::{Step, TpmError};

/// Persistent handles set aside for endorsement keys (TCG TPM v2.0 Provisioning Guidance §7.8).
const PERSISTENT_EKS: std::ops::RangeInclusive<u32> = 0x8101_0000..=0x8101_00ff;
/// TPM_RH_ENDORSEMENT, the root of every EK's qualified name.
const ENDORSEMENT: [u8; 4] = 0x4000_000b_u32.to_be_bytes();

/// PolicyA for SHA-384: PolicySecret(TPM_RH_ENDORSEMENT) (EK Credential Profile 2.5, table B.6).
const POLICY_A_SHA384: [u8; 48] = [
    0x8b, 0xbf, 0x22, 0x66, 0x53, 0x7c, 0x17, 0x1c, 0xb5, 0x6e, 0x40, 0x3c, 0x4d, 0xc1, 0xd4, 0xb6, 0x4f, 0x43, 0x26,
    0x11, 0xdc, 0x38, 0x6e, 0x6f, 0x53, 0x20, 0x50, 0xc3, 0x27, 0x8c, 0x93, 0x0e, 0x14, 0x3e, 0x8b, 0xb1, 0x13, 0x38,
    0x24, 0xcc, 0xb4, 0x31, 0x05, 0x38, 0x71, 0xc6, 0xdb, 0x53,
];
/// PolicyC for SHA-384: PolicyAuthorizeNV, the other branch of the high-range templates' policy.
const POLICY_C_SHA384: [u8; 48] = [
    0xd6, 0x03, 0x2c, 0xe6, 0x1f, 0x2f, 0xb3, 0xc2, 0x40, 0xeb, 0x3c, 0xf6, 0xa3, 0x32, 0x37, 0xef, 0x2b, 0x6a, 0x16,
    0xf4, 0x29, 0x3c, 0x22, 0xb4, 0x55, 0xe2, 0x61, 0xcf, 0xfd, 0x21, 0x7a, 0xd5, 0xb4, 0x94, 0x7c, 0x2d, 0x73, 0xe6,
    0x30, 0x05, 0xee, 0xd2, 0xdc, 0x2b, 0x35, 0x93, 0xd1, 0x65,
];

/// One default template of the EK Credential Profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EkProfile {
    /// Where its certificate stands in NV.
    certificate_index: u32,
    kind: EkKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EkKind {
    Rsa2048,
    EccP256,
    EccP384,
}

const RSA_2048: EkProfile = EkProfile { certificate_index: 0x01c0_0002, kind: EkKind::Rsa2048 };
const ECC_P256: EkProfile = EkProfile { certificate_index: 0x01c0_000a, kind: EkKind::EccP256 };
const ECC_P384: EkProfile = EkProfile { certificate_index: 0x01c0_0016, kind: EkKind::EccP384 };

impl EkProfile {
    /// The profile that the settings and the certificates in NV ask for.
    pub(super) fn choose(context: &mut Context, wanted: EkAlgorithm) -> Result<Self, TpmError> {
        match wanted {
            EkAlgorithm::Rsa2048 => Ok(RSA_2048),
            EkAlgorithm::EccP256 => Ok(ECC_P256),
            EkAlgorithm::EccP384 => Ok(ECC_P384),
            EkAlgorithm::Auto => {
                for profile in [ECC_P256, RSA_2048, ECC_P384] {
                    if certificates::exists(context, profile.certificate_index)? {
                        return Ok(profile);
                    }
                }
                Ok(RSA_2048)
            }
        }
    }

    /// The EK's certificate and chain; empty if the TPM has none.
    pub(super) fn certificates(self, context: &mut Context) -> Result<Vec<Vec<u8>>, TpmError> {
        certificates::read_with_chain(context, self.certificate_index)
    }

    fn template(self) -> tss_esapi::Result<Public> {
        let algorithm = match self.kind {
            EkKind::Rsa2048 => AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048),
            EkKind::EccP256 => AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP256),
            EkKind::EccP384 => AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP384),
        };
        create_ek_public_from_default_template_2(algorithm, None)
    }

    const fn hash(self) -> HashingAlgorithm {
        match self.kind {
            EkKind::Rsa2048 | EkKind::EccP256 => HashingAlgorithm::Sha256,
            EkKind::EccP384 => HashingAlgorithm::Sha384,
        }
    }

    const fn cipher(self) -> SymmetricDefinition {
        match self.kind {
            EkKind::Rsa2048 | EkKind::EccP256 => SymmetricDefinition::AES_128_CFB,
            EkKind::EccP384 => SymmetricDefinition::AES_256_CFB,
        }
    }

    /// The branches of PolicyOR; empty where the policy is PolicyA itself.
    fn branches(self) -> tss_esapi::Result<DigestList> {
        let mut branches = DigestList::new();
        if self.kind == EkKind::EccP384 {
            branches.add(Digest::try_from(POLICY_A_SHA384.as_slice())?)?;
            branches.add(Digest::try_from(POLICY_C_SHA384.as_slice())?)?;
        }
        Ok(branches)
    }
}

/// An EK that is loaded, or persistent; given to the closure of [`with_ek`].
pub(super) struct LoadedEk {
    profile: EkProfile,
    handle: KeyHandle,
    is_persistent: bool,
    /// Its public area.
    pub(super) public: Public,
    /// Its name: nameAlg and digest.
    pub(super) name: Vec<u8>,
}

impl LoadedEk {
    /// Its handle.
    pub(super) const fn handle(&self) -> KeyHandle {
        self.handle
    }

    /// Runs `command` with a session that satisfies the EK's policy by PolicySecret(endorsement)
    /// alone: no password of the EK is used, so that dictionary-attack lockout cannot stop it. The
    /// session is salted with the EK, encrypts the first parameter of the answer, and is flushed
    /// whatever happens.
    pub(super) fn with_policy<T>(
        &self,
        context: &mut Context,
        step: Step,
        command: impl FnOnce(&mut Context, AuthSession) -> tss_esapi::Result<T>,
    ) -> Result<T, TpmError> {
        let profile = self.profile;
        let session = context
            .start_auth_session(Some(self.handle), None, None, SessionType::Policy, profile.cipher(), profile.hash())
            .map_err(TpmError::command(Step::EkPolicy))?
            .ok_or_else(|| TpmError::Unexpected { step: Step::EkPolicy, detail: "no session was made".to_owned() })?;
        let result = satisfy(context, profile, session)
            .map_err(TpmError::command(Step::EkPolicy))
            .and_then(|()| command(context, session).map_err(TpmError::command(step)));
        let flushed =
            context.flush_context(SessionHandle::from(session).into()).map_err(TpmError::command(Step::EkPolicy));
        let value = result?;
        flushed?;
        Ok(value)
    }

    fn release(self, context: &mut Context) -> tss_esapi::Result<()> {
        let mut object = ObjectHandle::from(self.handle);
        if self.is_persistent { context.tr_close(&mut object) } else { context.flush_context(object) }
    }
}

fn satisfy(context: &mut Context, profile: EkProfile, session: AuthSession) -> tss_esapi::Result<()> {
    let (attributes, mask) = SessionAttributesBuilder::new().with_encrypt(true).build();
    context.tr_sess_set_attributes(session, attributes, mask)?;
    let policy = PolicySession::try_from(session)?;
    context.execute_with_session(Some(AuthSession::Password), |context| {
        context.policy_secret(
            policy,
            AuthHandle::Endorsement,
            Nonce::default(),
            Digest::default(),
            Nonce::default(),
            None,
        )
    })?;
    let branches = profile.branches()?;
    if !branches.is_empty() {
        context.policy_or(policy, branches)?;
    }
    Ok(())
}

/// Loads the EK, runs `work`, and releases the EK whatever happens.
pub(super) fn with_ek<T>(
    context: &mut Context,
    profile: EkProfile,
    work: impl FnOnce(&mut Context, &LoadedEk) -> Result<T, TpmError>,
) -> Result<T, TpmError> {
    let ek = load(context, profile)?;
    let result = work(context, &ek);
    let released = ek.release(context).map_err(TpmError::command(Step::LoadEk));
    let value = result?;
    released?;
    Ok(value)
}

fn load(context: &mut Context, profile: EkProfile) -> Result<LoadedEk, TpmError> {
    let template = profile.template().map_err(TpmError::command(Step::LoadEk))?;
    if let Some(ek) = find_persistent(context, profile, &template)? {
        return Ok(ek);
    }
    let created = context
        .execute_with_session(Some(AuthSession::Password), |context| {
            context.create_primary(Hierarchy::Endorsement, template, None, None, None, None)
        })
        .map_err(TpmError::command(Step::LoadEk))?;
    let object = ObjectHandle::from(created.key_handle);
    match context.tr_get_name(object) {
        Ok(name) => Ok(LoadedEk {
            profile,
            handle: created.key_handle,
            is_persistent: false,
            public: created.out_public,
            name: name.value().to_vec(),
        }),
        Err(source) => {
            // The first error is the one to tell; the context flushes what is left when it is dropped.
            let _ = context.flush_context(object);
            Err(TpmError::Command { step: Step::LoadEk, source })
        }
    }
}

/// Looks for the EK among the persistent keys: on hardware, making an RSA key takes seconds.
fn find_persistent(context: &mut Context, profile: EkProfile, template: &Public) -> Result<Option<LoadedEk>, TpmError> {
    for handle in certificates::handles(context, *PERSISTENT_EKS.start(), *PERSISTENT_EKS.end())? {
        let TpmHandle::Persistent(_) = handle else {
            continue;
        };
        let mut object = context.tr_from_tpm_public(handle).map_err(TpmError::command(Step::LoadEk))?;
        let key = KeyHandle::from(object);
        match context.read_public(key) {
            Ok((public, name, qualified))
                if is_made_from(&public, template) && qualified_name(profile, name.value()) == qualified.value() =>
            {
                let name = name.value().to_vec();
                return Ok(Some(LoadedEk { profile, handle: key, is_persistent: true, public, name }));
            }
            // Some other key, perhaps of a kind that the TSS cannot parse: not ours to judge.
            _ => context.tr_close(&mut object).map_err(TpmError::command(Step::LoadEk))?,
        }
    }
    Ok(None)
}

/// H(TPM_RH_ENDORSEMENT ‖ name) under the EK's nameAlg: a key with the same template but under
/// another hierarchy has another qualified name.
fn qualified_name(profile: EkProfile, name: &[u8]) -> Vec<u8> {
    let algorithm = if profile.hash() == HashingAlgorithm::Sha384 { &SHA384 } else { &SHA256 };
    let hashed = digest(algorithm, &[ENDORSEMENT.as_slice(), name].concat());
    let mut qualified = name.get(..2).unwrap_or_default().to_vec();
    qualified.extend(hashed.as_ref());
    qualified
}

/// Whether a key has everything of the template but the key itself.
fn is_made_from(key: &Public, template: &Public) -> bool {
    let same_frame = key.object_attributes() == template.object_attributes()
        && key.name_hashing_algorithm() == template.name_hashing_algorithm()
        && key.auth_policy() == template.auth_policy();
    same_frame
        && match (key, template) {
            (Public::Rsa { parameters: ours, .. }, Public::Rsa { parameters: theirs, .. }) => ours == theirs,
            (Public::Ecc { parameters: ours, .. }, Public::Ecc { parameters: theirs, .. }) => ours == theirs,
            _ => false,
        }
}

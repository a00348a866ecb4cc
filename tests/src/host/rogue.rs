//! Keys that no honest agent makes, and PCRs that no firmware extended: raw commands to a TPM of ours.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use quotary_common::wire::{EnrolmentChallenge, PcrBank};
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::OptionalActions;
use tss_esapi::Context;
use tss_esapi::abstraction::{AsymmetricAlgorithmSelection, KeyCustomization, ak, ek};
use tss_esapi::attributes::{NvIndexAttributesBuilder, ObjectAttributesBuilder};
use tss_esapi::constants::SessionType;
use tss_esapi::handles::{AuthHandle, KeyHandle, NvIndexTpmHandle, ObjectHandle, PcrHandle, SessionHandle};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm, SignatureSchemeAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::interface_types::resource_handles::{Hierarchy, NvAuth, Provision};
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{
    Data, Digest, DigestValues, EccPoint, EccScheme, EncryptedSecret, HashScheme, IdObject,
    KeyDerivationFunctionScheme, MaxNvBuffer, Nonce, NvPublicBuilder, PcrSelectionListBuilder, PcrSlot, Public,
    PublicBuilder, PublicEccParametersBuilder, SignatureScheme, SymmetricDefinition, SymmetricDefinitionObject,
};
use tss_esapi::tcti_ldr::{DeviceConfig, TctiNameConf};
use tss_esapi::traits::Marshall as _;

use super::SoftTpm;

const START_PATIENCE: Duration = Duration::from_secs(20);
/// Every TPM writes this much at once.
const NV_WRITE_BYTES: usize = 512;
const PAUSE: Duration = Duration::from_millis(20);

/// A key that is loaded in the rogue's TPM.
#[derive(Debug)]
pub struct RogueKey {
    handle: KeyHandle,
    /// `TPMT_PUBLIC`.
    pub public: Vec<u8>,
}

/// A stopped host's TPM, opened with raw commands. Ends the TPM when dropped.
pub struct Rogue {
    // Before the process: dropping it flushes what is loaded.
    context: Context,
    process: Process,
}

/// A running swtpm at a device of its own; ends when dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    _terminal: OwnedFd,
    pub(super) device: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.child.kill().is_err();
        let _reaped = self.child.wait().is_err();
    }
}

/// A restricted signing key without the restriction.
struct Unrestricted;

impl KeyCustomization for &Unrestricted {
    fn attributes(&self, builder: ObjectAttributesBuilder) -> ObjectAttributesBuilder {
        builder.with_restricted(false)
    }
}

impl Rogue {
    /// Opens the TPM of a driven host, which must be stopped.
    ///
    /// # Errors
    /// When swtpm does not start, or makes no sense.
    pub fn open(tpm: &SoftTpm) -> Result<Self> {
        let end = Instant::now() + START_PATIENCE;
        loop {
            let process = start(&tpm.state_dir())?;
            match connect(&process.device) {
                Ok(context) => return Ok(Self { context, process }),
                // An earlier swtpm may still hold the lock on the state.
                Err(error) if Instant::now() >= end => return Err(error),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Opens a TPM that already runs.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) fn of(process: Process) -> Result<Self> {
        let context = connect(&process.device)?;
        Ok(Self { context, process })
    }

    /// A signing key outside the endorsement hierarchy: what it signs hides the TPM's counters.
    ///
    /// # Errors
    /// What the TPM says.
    pub fn owner_key(&mut self) -> Result<RogueKey> {
        let template = signing_template()?;
        let made = self.context.execute_with_session(Some(AuthSession::Password), |context| {
            context.create_primary(Hierarchy::Owner, template, None, None, None, None)
        })?;
        Ok(RogueKey { handle: made.key_handle, public: made.out_public.marshall()? })
    }

    /// The public part of a child of the EK that signs whatever it is given.
    ///
    /// # Errors
    /// What the TPM says.
    pub fn unrestricted_public(&mut self) -> Result<Vec<u8>> {
        let parent = self.endorsement_key()?;
        let made = ak::create_ak_2(
            &mut self.context,
            parent,
            HashingAlgorithm::Sha256,
            AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP256),
            SignatureSchemeAlgorithm::EcDsa,
            None,
            &Unrestricted,
        );
        self.context.flush_context(ObjectHandle::from(parent))?;
        Ok(made?.out_public.marshall()?)
    }

    /// Opens the credential of a challenge for `key` (TPM2_ActivateCredential).
    ///
    /// # Errors
    /// What the TPM says.
    pub fn activate(&mut self, key: &RogueKey, challenge: &EnrolmentChallenge) -> Result<Vec<u8>> {
        let blob = IdObject::try_from(content(&challenge.credential_blob.0)?)?;
        let secret = EncryptedSecret::try_from(content(&challenge.encrypted_secret.0)?)?;
        let ek = self.endorsement_key()?;
        let context = &mut self.context;
        let session = context
            .start_auth_session(
                None,
                None,
                None,
                SessionType::Policy,
                SymmetricDefinition::AES_128_CFB,
                HashingAlgorithm::Sha256,
            )?
            .ok_or_else(|| anyhow!("no session was made"))?;
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
        let opened = context.execute_with_sessions((Some(AuthSession::Password), Some(session), None), |context| {
            context.activate_credential(key.handle, ek, blob, secret)
        });
        context.flush_context(SessionHandle::from(session).into())?;
        context.flush_context(ObjectHandle::from(ek))?;
        Ok(opened?.value().to_vec())
    }

    /// A quote by `key`: `TPMS_ATTEST` and `TPMT_SIGNATURE`.
    ///
    /// # Errors
    /// What the TPM says.
    pub fn quote(&mut self, key: &RogueKey, data: [u8; 32], banks: &[PcrBank]) -> Result<(Vec<u8>, Vec<u8>)> {
        let mut selection = PcrSelectionListBuilder::new();
        for bank in banks {
            let slots = bank.pcrs.iter().map(|index| PcrSlot::try_from(1_u32 << index));
            let slots = slots.collect::<Result<Vec<_>, _>>()?;
            selection = selection.with_selection(HashingAlgorithm::try_from(bank.hash_alg)?, &slots);
        }
        let (data, selection) = (Data::try_from(data.as_slice())?, selection.build()?);
        let (attest, signature) = self.context.execute_with_session(Some(AuthSession::Password), |context| {
            context.quote(key.handle, data, SignatureScheme::Null, selection)
        })?;
        Ok((attest.marshall()?, signature.marshall()?))
    }

    /// Extends PCR 7, as other firmware or another boot policy would.
    ///
    /// # Errors
    /// What the TPM says.
    pub fn extend_pcr_7(&mut self) -> Result<()> {
        self.extend(7, &[0x5a; 32])
    }

    /// Extends a PCR of the SHA-256 bank by `digest`.
    ///
    /// # Errors
    /// What the TPM says.
    pub fn extend(&mut self, pcr: u8, digest: &[u8]) -> Result<()> {
        let mut values = DigestValues::new();
        values.set(HashingAlgorithm::Sha256, Digest::try_from(digest)?);
        let pcr = PcrHandle::try_from(u32::from(pcr))?;
        let extended =
            self.context.execute_with_session(Some(AuthSession::Password), |context| context.pcr_extend(pcr, values));
        Ok(extended?)
    }

    /// Defines the NV index and writes `bytes` into it, as a chip's maker does with certificates; no bytes: it is
    /// defined and never written, so that reading it fails.
    ///
    /// # Errors
    /// What the TPM says; also for more than 64 KiB.
    pub fn define_nv(&mut self, index: u32, bytes: &[u8]) -> Result<()> {
        let attributes = NvIndexAttributesBuilder::new()
            .with_owner_write(true)
            .with_owner_read(true)
            .with_auth_read(true)
            .with_no_da(true)
            .build()?;
        let public = NvPublicBuilder::new()
            .with_nv_index(NvIndexTpmHandle::new(index)?)
            .with_index_name_algorithm(HashingAlgorithm::Sha256)
            .with_index_attributes(attributes)
            .with_data_area_size(bytes.len().max(1))
            .build()?;
        self.context.execute_with_session(Some(AuthSession::Password), |context| {
            let defined = context.nv_define_space(Provision::Owner, None, public)?;
            for (place, part) in bytes.chunks(NV_WRITE_BYTES).enumerate() {
                let offset = u16::try_from(place * NV_WRITE_BYTES).unwrap_or(u16::MAX);
                context.nv_write(NvAuth::Owner, defined, MaxNvBuffer::try_from(part)?, offset)?;
            }
            Ok::<(), tss_esapi::Error>(())
        })?;
        Ok(())
    }

    /// Lets go of the TPM, which runs on as it is now: see [`SoftTpm::attach`].
    pub(super) fn release(self) -> Process {
        self.process
    }

    fn endorsement_key(&mut self) -> Result<KeyHandle> {
        let rsa = AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048);
        Ok(ek::create_ek_object_2(&mut self.context, rsa, None)?)
    }
}

/// What is in a `TPM2B`, without its size.
fn content(sized: &[u8]) -> Result<Vec<u8>> {
    Ok(sized.get(2..).context("a TPM2B has a size")?.to_vec())
}

/// The agent's own template, but for a primary key.
fn signing_template() -> Result<Public> {
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
    Ok(PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters)
        .with_ecc_unique_identifier(EccPoint::default())
        .build()?)
}

/// Starts swtpm between the two ends of a raw pseudo-terminal.
fn start(state: &Path) -> Result<Process> {
    let theirs = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&theirs)?;
    rustix::pty::unlockpt(&theirs)?;
    let device = PathBuf::from(OsString::from_vec(rustix::pty::ptsname(&theirs, Vec::new())?.into_bytes()));
    let ours = rustix::fs::open(&device, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    let mut settings = rustix::termios::tcgetattr(&ours)?;
    settings.make_raw();
    rustix::termios::tcsetattr(&ours, OptionalActions::Now, &settings)?;
    let child = Command::new("setpriv")
        // swtpm takes no descriptor below 3.
        .args(["--pdeathsig", "KILL", "sh", "-c", "exec swtpm \"$@\" 3<&0 </dev/null", "swtpm"])
        .args(["chardev", "--tpm2", "--fd", "3"])
        .args(["--flags", "not-need-init,startup-clear", "--tpmstate"])
        .arg(format!("dir={},mode=0600", state.display()))
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("setpriv (util-linux) and swtpm cannot be run")?;
    Ok(Process { child, _terminal: ours, device })
}

fn connect(device: &Path) -> Result<Context> {
    let Some(path) = device.to_str() else { bail!("{} is no path of a terminal", device.display()) };
    let mut context = Context::new(TctiNameConf::Device(path.parse::<DeviceConfig>()?))?;
    // The first answer shows that the TPM lives.
    context.execute_without_session(|context| context.get_random(8))?;
    Ok(context)
}

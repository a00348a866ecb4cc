//! What can go wrong with the TPM, one variant per kind of step.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use quotary_common::tpm::SignatureFault;
use tss_esapi::constants::response_code::Tss2ResponseCodeKind;

use crate::state::StateError;

/// A TPM command, or a group of them, that can fail; shown in [`TpmError::Command`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// TPM2_GetCapability.
    Capability,
    /// TPM2_FlushContext of what an earlier process left loaded.
    FlushLeftovers,
    /// TPM2_NV_ReadPublic and TPM2_NV_Read of an EK certificate or template.
    ReadCertificate,
    /// TPM2_CreatePrimary of the EK, or reading a persistent one.
    LoadEk,
    /// TPM2_StartAuthSession, TPM2_PolicySecret and TPM2_PolicyOR for the EK.
    EkPolicy,
    /// TPM2_Create of the AK.
    CreateAk,
    /// TPM2_Load of the AK.
    LoadAk,
    /// TPM2_ActivateCredential.
    Activate,
    /// TPM2_PCR_Read.
    ReadPcrs,
    /// TPM2_Quote.
    Quote,
    /// TPM2_Shutdown.
    Shutdown,
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Capability => "read the TPM's capabilities",
            Self::FlushLeftovers => "flush what an earlier process left loaded",
            Self::ReadCertificate => "read the EK certificate from NV",
            Self::LoadEk => "load the EK",
            Self::EkPolicy => "satisfy the EK's policy",
            Self::CreateAk => "create the AK",
            Self::LoadAk => "load the AK",
            Self::Activate => "activate the credential",
            Self::ReadPcrs => "read the PCRs",
            Self::Quote => "quote",
            Self::Shutdown => "shut the TPM down in order",
        })
    }
}

/// Failures of the TPM room.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// The TPM could not be opened or did not answer at all.
    #[error("cannot reach the TPM {access}; check that it exists and that this user may open it")]
    Connect {
        /// Which TPM, as configured.
        access: String,
        /// What the TSS said.
        #[source]
        source: tss_esapi::Error,
    },
    /// The TPM, or the way to it, refused a command.
    #[error("the TPM could not {step}")]
    Command {
        /// The step that failed.
        step: Step,
        /// What the TSS said.
        #[source]
        source: tss_esapi::Error,
    },
    /// The TPM answered something that the specification does not allow here.
    #[error("unexpected answer while trying to {step}: {detail}")]
    Unexpected {
        /// The step that failed.
        step: Step,
        /// What is wrong with the answer.
        detail: String,
    },
    /// The caller passed bytes or a selection that no TPM would take.
    #[error("{what} is malformed: {detail}")]
    Input {
        /// The argument.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The TPM opened the envelope of the credential and found that it is not for these keys.
    #[error("the TPM refused the credential: it is not for this EK and AK, or was altered")]
    CredentialRefused {
        /// What the TSS said.
        #[source]
        source: tss_esapi::Error,
    },
    /// A PCR of the selection does not exist on this TPM.
    #[error("this TPM has no PCR {index} in bank 0x{hash_alg:04x}; choose another PCR selection")]
    NoSuchPcr {
        /// TPM_ALG_ID of the bank.
        hash_alg: u16,
        /// Number of the PCR.
        index: u8,
    },
    /// PCRs kept moving between reading and quoting.
    #[error("PCRs changed between reading and quoting, {attempts} times in a row; try again")]
    PcrsMoving {
        /// How often it was tried.
        attempts: u32,
    },
    /// The signature does not cover the bytes about to be sent.
    #[error("the quote's signature does not verify under the AK; the TPM or the way to it is broken")]
    QuoteSignature {
        /// What is wrong with it.
        #[source]
        source: SignatureFault,
    },
    /// A file or process of the software TPM failed.
    #[error("software TPM: cannot {action} {}", path.display())]
    Software {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// `swtpm_setup` ran and failed.
    #[error("software TPM: swtpm_setup ended with {status}; its last words in {}: {log_tail}", log.display())]
    SoftwareSetup {
        /// Exit status.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The end of the log.
        log_tail: String,
    },
    /// `swtpm` ends as soon as it is started.
    #[error("software TPM: swtpm does not stay up (another agent on the same state directory?); its last words in {}: {log_tail}", log.display())]
    SoftwareStart {
        /// Its log.
        log: PathBuf,
        /// The end of the log.
        log_tail: String,
        /// What the TSS said last, if it came to speak to it.
        #[source]
        source: Option<tss_esapi::Error>,
    },
    /// The AK's file cannot be read or written.
    #[error("the AK's file cannot be used")]
    AkFile {
        /// Which file, and why not.
        #[source]
        source: StateError,
    },
    /// The AK is no key that evidence can be signed with.
    #[error("the AK that the TPM loaded cannot sign evidence: move the AK's file away to get a new one")]
    AkForm {
        /// What is wrong with it.
        #[source]
        source: quotary_common::tpm::TpmError,
    },
    /// Too many requests wait for the TPM already.
    #[error("{capacity} requests wait for the TPM already; try again later")]
    Busy {
        /// The queue's bound.
        capacity: usize,
    },
    /// The answer is late. The TPM goes on; a request that still waits is dropped.
    #[error("the TPM did not answer within {} ms", deadline.as_millis())]
    Deadline {
        /// How long was waited.
        deadline: Duration,
    },
    /// The TPM thread has ended.
    #[error("the TPM thread has ended; restart the agent")]
    Stopped,
    /// The operating system refused the thread.
    #[error("cannot start the TPM thread")]
    Thread {
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl TpmError {
    /// Wraps what the TSS said in the step it said it to.
    pub(super) fn command(step: Step) -> impl FnOnce(tss_esapi::Error) -> Self {
        move |source| Self::Command { step, source }
    }

    /// Whether the connection should be opened anew before the next command: the TPM may have been
    /// reset beneath us (our AK is gone then), or request and answer may be out of step.
    pub(super) fn spoils_connection(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. } | Self::Command { .. } | Self::Unexpected { .. } | Self::QuoteSignature { .. }
        )
    }

    /// Whether the TSS reports this very response code.
    pub(super) fn is_response(source: &tss_esapi::Error, kind: Tss2ResponseCodeKind) -> bool {
        matches!(source, tss_esapi::Error::Tss2Error(code) if code.kind() == Some(kind))
    }
}

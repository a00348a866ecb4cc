//! `quotary inspect …`: judging files that somebody has, offline.
//!
//! Does: reads files, each within the bound of its kind; hands them to `quotary_decide`, which is the verifier's own
//! code, and prints its report.
//! May assume: nothing about the files.
//! Promises: asks nobody and reads no credentials; with `--json` prints the report whole, one form for ever; exit code 0
//! only where there is no reason and no problem, 1 where there is one, 2 where a file is not what it should be.
//! Must never: decide by itself, or read more of a file than its kind can have.

mod text;

use quotary_decide::eventlog::{EventLog, EventLogReport, LOG_BYTES_MAX};
use quotary_decide::ima;
use quotary_decide::inspect::{self as decide, InspectError, InspectQuote, PCRS_BYTES_MAX};
use serde::Serialize;

use quotary_common::envelope::ClaimedEnvelope;
use quotary_common::limits::{ATTEST_BYTES_MAX, ENVELOPE_BYTES_MAX, SIGNATURE_BYTES_MAX};

use crate::args::{EkArgs, InspectCommand, QuoteArgs};
use crate::exit::{Code, Failure};
use crate::input::{read, unreadable};
use crate::{now_ms, present, show};

/// Largest file of an attestation key, in bytes: a PEM text with what its tool wrote around it.
const AK_BYTES_MAX: usize = 16 * 1024;
/// Largest file of certificates, in bytes: the EK's and its chain, in PEM.
const CERTIFICATES_BYTES_MAX: usize = 128 * 1024;
/// Largest file of authorities, in bytes.
const ROOTS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Largest measurement list, in bytes.
const IMA_BYTES_MAX: usize = ima::LIST_BYTES_MAX;

/// Judges, prints, and returns the exit code.
pub(crate) fn inspect(command: &InspectCommand, json: bool) -> Result<u8, Failure> {
    match command {
        InspectCommand::Quote(args) => quote(args, json),
        InspectCommand::Eventlog(args) => {
            let bytes = read(&args.file, LOG_BYTES_MAX)?;
            let log = EventLog::parse(&bytes).map_err(|error| unreadable(&args.file, &error))?;
            let report = EventLogReport::new(&log);
            tell(json, &report, text::eventlog, report.problems.is_empty())
        }
        InspectCommand::Ima(args) => {
            let bytes = read(&args.file, IMA_BYTES_MAX)?;
            let report = ima::inspect(&bytes).map_err(|error| unreadable(&args.file, &error))?;
            tell(json, &report, text::ima, report.problems.is_empty())
        }
        InspectCommand::Ek(args) => ek(args, json),
        InspectCommand::Envelope(args) => {
            let bytes = read(&args.file, ENVELOPE_BYTES_MAX)?;
            let report = decide::envelope(&bytes).map_err(|error| unreadable(&args.file, &error))?;
            if json {
                present::json(&report)?;
            } else {
                let envelope = ClaimedEnvelope::parse(bytes).map_err(|error| unreadable(&args.file, &error))?;
                show::evidence::envelope(&envelope)?;
            }
            Ok(0)
        }
    }
}

fn tell<R: Serialize>(json: bool, report: &R, text: impl Fn(&R) -> String, holds: bool) -> Result<u8, Failure> {
    if json {
        present::json(report)?
    } else {
        present::print(&text(report))?
    }
    Ok(if holds { 0 } else { Code::Refused as u8 })
}

fn quote(args: &QuoteArgs, json: bool) -> Result<u8, Failure> {
    let ak = read(&args.ak, AK_BYTES_MAX)?;
    let message = read(&args.message, ATTEST_BYTES_MAX)?;
    let signature = read(&args.signature, SIGNATURE_BYTES_MAX)?;
    let pcrs = args.pcrs.as_deref().map(|path| read(path, PCRS_BYTES_MAX)).transpose()?;
    let envelope = args.envelope.as_deref().map(|path| read(path, ENVELOPE_BYTES_MAX)).transpose()?;
    let report = decide::quote(&InspectQuote {
        ak: &ak,
        message: &message,
        signature: &signature,
        pcrs: pcrs.as_deref(),
        nonce: args.nonce.as_ref().map(|nonce| nonce.0.as_slice()),
        envelope: envelope.as_deref(),
    })
    .map_err(|error| refuse(&error))?;
    tell(json, &report, |report| text::quote(report, args.nonce.is_some()), report.verified)
}

fn ek(args: &EkArgs, json: bool) -> Result<u8, Failure> {
    let certificates: Result<Vec<Vec<u8>>, Failure> =
        args.certificates.iter().map(|path| read(path, CERTIFICATES_BYTES_MAX)).collect();
    let certificates = certificates?;
    let roots = args.roots.as_deref().map(|path| read(path, ROOTS_BYTES_MAX)).transpose()?;
    let certificates: Vec<&[u8]> = certificates.iter().map(Vec::as_slice).collect();
    let report = decide::ek(&certificates, roots.as_deref(), now_ms()).map_err(|error| refuse(&error))?;
    tell(json, &report, text::ek, report.verified)
}

/// Files that do not read; a nonce that cannot go with an envelope is a wrong command line.
fn refuse(error: &InspectError) -> Failure {
    let code = match error {
        InspectError::EnvelopeNonce => Code::Usage,
        InspectError::Ak(_)
        | InspectError::Size { .. }
        | InspectError::Envelope(_)
        | InspectError::Certificate { .. } => Code::Unreadable,
    };
    Failure::of(code, error)
}

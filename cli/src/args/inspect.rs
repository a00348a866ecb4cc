//! `quotary inspect …`

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Longest nonce, in bytes: what `extraData` can hold (`TPM2B_DATA`, a SHA-512 digest with its algorithm).
const NONCE_BYTES_MAX: usize = 66;

/// `quotary inspect …`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Nobody is asked, and no credentials are read. `-` as FILE is standard input.

Exit codes:
  0   verified: no reason against it, no problem listed
  1   refused: reasons or problems say why, each with a fixed code
  2   a file cannot be read as what it should be
  64  the command line is wrong")]
pub(crate) enum InspectCommand {
    /// Check a quote: signature, form, nonce or envelope, PCR values
    Quote(QuoteArgs),
    /// Replay a UEFI event log into every bank and judge Secure Boot
    #[command(after_help = "\
Examples:
  quotary inspect eventlog /sys/kernel/security/tpm0/binary_bios_measurements
  quotary inspect eventlog boot.log --json | jq '.banks.sha256[\"7\"]'

At most 1 MiB. The replayed values are what the PCRs hold if the log is true: only a quote says what they hold.")]
    Eventlog(FileArgs),
    /// Replay an IMA measurement list, ASCII or binary
    #[command(after_help = "\
Examples:
  quotary inspect ima /sys/kernel/security/ima/ascii_runtime_measurements
  ssh host cat /sys/kernel/security/ima/binary_runtime_measurements | quotary inspect ima - --json

At most 512 MiB. PCR 10 is what it holds if it was zero before and the list is true: only a quote says so.")]
    Ima(FileArgs),
    /// Check the certificate of an endorsement key up to an authority
    Ek(EkArgs),
    /// Show what an envelope claims
    #[command(after_help = "\
Examples:
  quotary inspect envelope envelope.cbor
  quotary inspect envelope - --json < envelope.cbor

At most 256 KiB. Nothing of it is proven without a quote that covers it: see `quotary inspect quote --envelope`.")]
    Envelope(FileArgs),
}

/// A file.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// The file; `-` is standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// `quotary inspect quote`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tpm2_quote -c ak.ctx -l sha256:0,1,7 -g sha256 -q 5f1e -m quote.msg -s quote.sig -o quote.pcrs
  quotary inspect quote --ak ak.pem --message quote.msg --signature quote.sig \\
      --pcrs quote.pcrs --nonce 5f1e
  quotary inspect quote --ak ak.tpm2b --message quote.msg --signature quote.sig \\
      --nonce $(cat nonce.hex) --envelope envelope.cbor
                                                check what `quotary audit export` wrote

PCR numbers are those of the signed selection, whatever the file of values says. Without --nonce, the quote may be \
of any time. Each file is at most a few KiB, the envelope 256 KiB.")]
pub(crate) struct QuoteArgs {
    /// The attestation key: SubjectPublicKeyInfo in PEM, TPM2B_PUBLIC or TPMT_PUBLIC
    #[arg(long, value_name = "FILE")]
    pub(crate) ak: PathBuf,
    /// The message: a bare TPMS_ATTEST (`tpm2_quote -m`)
    #[arg(long, value_name = "FILE")]
    pub(crate) message: PathBuf,
    /// The signature: a TPMT_SIGNATURE (`tpm2_quote -s`)
    #[arg(long, value_name = "FILE")]
    pub(crate) signature: PathBuf,
    /// PCR values (`tpm2_quote -o`), in either form: serialized, or values in the order of the signed selection
    #[arg(long, value_name = "FILE")]
    pub(crate) pcrs: Option<PathBuf>,
    /// What extraData must be; with --envelope, the nonce of 32 bytes that it must cover
    #[arg(long, value_name = "HEX", value_parser = nonce)]
    pub(crate) nonce: Option<Nonce>,
    /// The envelope that extraData must cover together with the nonce
    #[arg(long, value_name = "FILE", requires = "nonce")]
    pub(crate) envelope: Option<PathBuf>,
}

/// `quotary inspect ek`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tpm2_nvread 0x1c0000a -o ek.der && quotary inspect ek ek.der
  quotary inspect ek ek.pem intermediate.der --roots our-ca.pem

The first certificate is the EK's, the others are intermediates in any order; each file is PEM, DER, or several DER one \
after the other (as in NV). Each is at most 128 KiB, the file of roots 8 MiB.")]
pub(crate) struct EkArgs {
    /// The EK's certificate, then intermediates
    #[arg(value_name = "CERT", required = true)]
    pub(crate) certificates: Vec<PathBuf>,
    /// The authorities that are trusted; without it, the TPM manufacturers' that are built in
    #[arg(long, value_name = "FILE")]
    pub(crate) roots: Option<PathBuf>,
}

/// A nonce as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nonce(pub(crate) Vec<u8>);

fn nonce(text: &str) -> Result<Nonce, String> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes());
    let bytes = bytes.map_err(|_| "not hexadecimal, two characters for each byte".to_owned())?;
    if bytes.is_empty() || bytes.len() > NONCE_BYTES_MAX {
        return Err(format!("{} bytes, 1 to {NONCE_BYTES_MAX} are possible", bytes.len()));
    }
    Ok(Nonce(bytes))
}

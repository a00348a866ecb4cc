//! `quotary audit …`

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `quotary audit …`
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List leaves of the log, the newest last
    List(ListArgs),
    /// Show one leaf
    Show {
        /// Its number, from 0
        leaf: u64,
    },
    /// Copy the log and the evidence behind it into a directory; run again, it goes on where it stopped
    Fetch(FetchArgs),
    /// Check the log, every leaf and every kept quote, offline; without DIR, of a fresh copy
    Verify(VerifyArgs),
    /// Write a quote and all that it covers as files that tpm2-tools, openssl and sha256sum check
    Export(ExportArgs),
}

/// `quotary audit list`
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Number of the first leaf; without it, the newest are listed
    #[arg(long, value_name = "LEAF")]
    pub(crate) from: Option<u64>,
    /// How many at most
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    pub(crate) limit: u64,
}

/// `quotary audit fetch`
#[derive(Debug, Args)]
#[command(after_help = "\
The directory then holds: checkpoint (C2SP signed note), keys (the verifier's key certificate), root-key, \
tile/… (C2SP tlog-tiles: hash tiles and entry bundles), evidence/<digest>. `quotary audit verify DIR` needs \
nothing else.")]
pub(crate) struct FetchArgs {
    /// Where to
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

/// `quotary audit verify`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary audit verify
  quotary audit verify ./copy --root-key 9b1f…

Checked are: the root's certificate of the log key, the checkpoint's signature, every hash from the leaves to \
the root, and for every verdict the kept evidence: its digest, the enrolled keys, the signature over the \
quote, what it covers, PCR digest, clock and chain. The nonce's validity is taken from the leaf, since an \
auditor has no secret. Of people's votes on changes the log has digests, which say that they came: their signatures are checked by \
`quotary change votes ID --out DIR`, change by change. Exit code 1 if anything does not hold or is missing; what is missing is listed.
Pin the root key from elsewhere (--root-key, or the credentials): a copy's own proves nothing.")]
pub(crate) struct VerifyArgs {
    /// A directory that `quotary audit fetch` wrote
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
    /// The deployment root key: 64 hexadecimal characters
    #[arg(long, value_name = "HEX")]
    pub(crate) root_key: Option<String>,
    /// Succeed although evidence is missing, as it is once the verifier has pruned it
    #[arg(long)]
    pub(crate) allow_missing: bool,
}

/// `quotary audit export`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary audit export h-3k7q ./quote            the newest evidence of a host
  quotary audit export 5f1e… ./quote             one evidence, by its digest (64 hexadecimal characters)
  quotary audit export h-3k7q ./quote --from ./copy
                                                 from a directory that `quotary audit fetch` wrote, asking nobody
  sh ./quote/check.sh                            check it with the stock tools (README.txt has the commands)

The attestation key is the one that the log states in the host's enrolment. Whether that leaf is in the log that was \
signed, `quotary audit verify` says, not this. Exit code 1 if what was written does not verify by itself; the files \
are there all the same.")]
pub(crate) struct ExportArgs {
    /// A host (its newest evidence in the log), or the digest of an evidence
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Where to; made if it is not there, and must be empty
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Take it from this copy of the log instead of the verifier
    #[arg(long, value_name = "COPYDIR")]
    pub(crate) from: Option<PathBuf>,
    /// The deployment root key: 64 hexadecimal characters; without it the credentials' or, in a copy, its own
    #[arg(long, value_name = "HEX")]
    pub(crate) root_key: Option<String>,
}

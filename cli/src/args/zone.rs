//! `quotary zone …`

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `quotary zone …`
#[derive(Debug, Subcommand)]
pub(crate) enum ZoneCommand {
    /// Print the allow-list lines of files that a host may run
    Allow(AllowArgs),
    /// Print a zone whose boot requirement is what a known-good host booted
    Learn(LearnArgs),
    /// Try zones before they are in force: how every host would stand, by its recorded evidence
    Check(ZoneCheckArgs),
}

/// `quotary zone check`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary zone check verifier.toml
  quotary zone check sealed.toml h-3k7q h-9q2m
  quotary --json zone check verifier.toml | jq '.hosts[] | select(.outcome == \"leaves\")'

Of the file, [[zone]] and [ima] count; files that [ima] names are read here, below the file's directory, and sent along. \
Needs a token with `admin`. Nothing changes: the verifier judges the evidence that it keeps. It exits with 1 when a host \
would leave its zone for none or a worse one, when of a host nothing can be said (what is recorded of it does not hold what \
the file asks for), or when the file has faults.")]
pub(crate) struct ZoneCheckArgs {
    /// The configuration to try
    pub(crate) file: PathBuf,
    /// Only these hosts
    pub(crate) hosts: Vec<String>,
    /// Do not fail for hosts of which nothing can be said
    #[arg(long)]
    pub(crate) allow_unknown: bool,
}

/// `quotary zone learn`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary zone learn h-3k7q --zone sealed > sealed.toml

Put the zone into the verifier's configuration before those that are to be worse. The boot log is the one that the host's quote proved. Bless several kernels by adding their digests to the list of \
their stage. Look at what is printed before you trust it: whatever that host booted is then good.")]
pub(crate) struct LearnArgs {
    /// The host: h-…, hexadecimal, or a beginning of either that only one host has
    pub(crate) host: String,
    /// The zone's name
    #[arg(long, value_name = "NAME")]
    pub(crate) zone: String,
}

/// `quotary zone allow`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary zone allow --from-deb bash_5.2_amd64.deb >> allowed.txt
  quotary zone allow --from-deb /var/cache/apt/archives/*.deb > upgrade.txt

One line for each regular file: sha256:HEX, two spaces, the path. A file under /bin, /sbin or /lib* is listed under \
/usr too, and the other way round, since either path may be measured. Nobody is asked.")]
pub(crate) struct AllowArgs {
    /// Debian packages whose files are to be allowed
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub(crate) from_deb: Vec<PathBuf>,
}

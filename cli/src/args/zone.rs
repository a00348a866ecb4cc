//! `quotary zone …`

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `quotary zone …`
#[derive(Debug, Subcommand)]
pub(crate) enum ZoneCommand {
    /// Print the allow-list lines of files that a host may run
    Allow(AllowArgs),
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

//! `quotary events`

use clap::Args;

/// `quotary events`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quotary events                                everything that happened to hosts, as the audit log tells it
  quotary events --from 4711                    what the leaves from 4711 on tell
  quotary events --follow                       what happens from now on, until Ctrl-C
  quotary events --follow --from 0 --json       everything and what comes, one JSON object a line

Kinds: enrolled, ak-replaced, verdict-changed, zone-changed, epoch-raised, revoked, anomaly. A stream that breaks is resumed \
after the last event that was shown, so that nothing is missed.")]
pub(crate) struct EventsArgs {
    /// Begin at this leaf of the audit log (default: the first; with --follow: the next)
    #[arg(long, value_name = "LEAF")]
    pub(crate) from: Option<u64>,
    /// Go on with what happens, instead of ending where the log ends
    #[arg(long)]
    pub(crate) follow: bool,
}

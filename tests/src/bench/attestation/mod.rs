//! What appraisal costs: quotes by themselves, boot logs, IMA lists, and the state that is kept of a host.
//!
//! Does: measures each on one thread, in CPU time of that thread; the content is real where real logs are at hand.
//! May assume: nothing.
//! Promises: only work whose outcome is checked counts: a quote that fails, a log that does not replay to the value of
//! its machine, or a list that is not proven, is an error.
//! Must never: count less than the verifier does for the same evidence.

mod boot_log;
mod ima;
mod quote;
mod state;

use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

pub use boot_log::BootLog;
pub use ima::ImaList;
pub use quote::QuoteCheck;
pub use state::HostState;

use super::report::{Gate, Good, Line, short};

/// Everything of this part.
#[derive(Debug, Clone, Serialize)]
pub struct Attestation {
    /// One for each algorithm.
    pub quotes: Vec<QuoteCheck>,
    /// One for each log.
    pub boot_logs: Vec<BootLog>,
    /// One for each form of list.
    pub ima_lists: Vec<ImaList>,
    /// What is kept of one host.
    pub host_state: HostState,
}

/// Measures, each figure in rounds of `round`.
pub(super) fn measure(round: Duration) -> anyhow::Result<Attestation> {
    Ok(Attestation {
        quotes: quote::measure(round).context("quotes")?,
        boot_logs: boot_log::measure(round).context("boot logs")?,
        ima_lists: ima::measure(round).context("IMA lists")?,
        host_state: state::measure()?,
    })
}

impl Attestation {
    /// The slowest of each kind is what must hold.
    pub(super) fn gates(&self) -> Vec<Gate> {
        let mut gates = Vec::new();
        for quote in &self.quotes {
            gates.push(Gate::new((quote.gate_name(), "ratio", quote.ratio_to_bare), Good::AtLeast, (0.85, 0.95)));
        }
        let log = self.boot_logs.iter().map(|log| log.milliseconds_per_50_kb).fold(f64::NEG_INFINITY, f64::max);
        gates.push(Gate::new(("boot log of 50 KB, parsed and replayed", "ms", log), Good::AtMost, (1.0, 0.5)));
        let list = self.ima_lists.iter().map(|list| list.entries_per_core_second).fold(f64::INFINITY, f64::min);
        let bounds = (1_000_000.0, 2_000_000.0);
        gates.push(Gate::new(("IMA against 100,000 hashes", "entries/s, core", list), Good::AtLeast, bounds));
        let bytes = self.host_state.bytes as f64;
        gates.push(Gate::new(("attestation state of a host", "bytes", bytes), Good::AtMost, (4096.0, 4096.0)));
        gates
    }

    pub(super) fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<Line> = self.quotes.iter().map(QuoteCheck::line).collect();
        lines.extend(self.boot_logs.iter().map(BootLog::line));
        lines.extend(self.ima_lists.iter().map(ImaList::line));
        let state = &self.host_state;
        let value = format!(
            "{} bytes: enrolment {}, progress {}, IMA aggregate {}",
            short(state.bytes as f64),
            state.record_bytes,
            state.progress_bytes,
            state.aggregate_bytes
        );
        lines.push(Line::new("attestation state of a typical host", value));
        lines
    }
}

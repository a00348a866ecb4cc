//! The figures that the project promises, measured in one run: verification, appraisal, durable throughput, latency, the
//! agent's cost, the shaping controller's decisions, the anomaly detector, quorum decisions, plans of changes.
//!
//! Does: measures each figure over [`ROUNDS`] rounds and takes the median; holds it against its gate and its aim.
//! May assume: that the programs are built with optimisation and lie beside this one (`make bench` sees to it).
//! Promises: real programs, real keys, real TLS, the store as shipped; what the measuring itself costs is told
//! apart; a figure that could not be measured is an error, never a zero; what was started is gone afterwards.
//! Must never: measure a shortcut that the product does not take, or move a gate.

mod anomaly;
mod attestation;
mod content;
mod cpu;
mod durable;
mod living;
mod phasing;
mod prediction;
mod quorum;
mod report;
mod shaping;
mod software_tpm;
mod targets;
mod transition;
mod verification;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;

pub use anomaly::Anomaly;
pub use attestation::{Attestation, BootLog, HostState, ImaList, QuoteCheck};
pub use durable::{Durable, Load};
pub use living::{AgentCost, Latency};
pub use phasing::Phasing;
pub use prediction::Prediction;
pub use quorum::Quorum;
pub use report::{Gate, Good, Line, table};
pub use shaping::Shaping;
pub use targets::Targets;
pub use transition::{Transition, work};
pub use verification::Verification;

use report::short;

use crate::world::{Options, World};

/// Rounds of each figure.
pub const ROUNDS: usize = 3;
const MIB: f64 = 1_048_576.0;

/// A figure, or several that come from one world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Full verification beside the bare signature check.
    Verify,
    /// Quotes by themselves, boot logs, IMA lists, state per host.
    Attestation,
    /// Durable evidence per second, end to end.
    Durable,
    /// From a request to its controls.
    Latency,
    /// The agent's CPU time and memory.
    Agent,
    /// Forecasts, one and many at once, onnxruntime beside them.
    Prediction,
    /// What the shaping controller decides at a tick.
    Shaping,
    /// What judging a point costs.
    Anomaly,
    /// Quorum decisions, signatures checked before or anew.
    Quorum,
    /// Plans of a change over a thousand applications.
    Phasing,
    /// A plan and a cliff, side by side.
    Transition,
    /// Two hundred targets of the real agent, and faults.
    Targets,
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Which parts.
    pub parts: Vec<Part>,
    /// One round; absent: 5 s of verification, of each figure of attestation, of shaping, the anomaly detector, quorum and phasing, 10 s of load, 60 s of the agent,
    /// of a transition and of the targets.
    pub round: Option<Duration>,
    /// Hosts of the load.
    pub hosts: usize,
    /// Hosts of the load that wait for a reply at once, at most.
    pub in_flight: usize,
}

/// Where it was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// The processor, as it calls itself.
    pub processor: String,
    /// Processors that this process may use.
    pub processors: usize,
    /// Kernel release.
    pub kernel: String,
    /// Whether this program was built with optimisation.
    pub optimised: bool,
    /// Load of the last minute when it began: what else ran beside.
    pub load_average: f64,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Version of this form.
    pub version: u8,
    /// Where.
    pub machine: Machine,
    /// Full verification.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verification: Vec<Verification>,
    /// Appraisal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attestation: Option<Attestation>,
    /// Durable throughput.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durable: Option<Durable>,
    /// The same with boot logs and IMA increments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durable_with_logs: Option<Durable>,
    /// Latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// The agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentCost>,
    /// Forecasts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
    /// The shaping controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shaping: Option<Shaping>,
    /// The anomaly detector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anomaly: Option<Anomaly>,
    /// Quorum decisions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quorum: Option<Quorum>,
    /// Plans of a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phasing: Option<Phasing>,
    /// A plan beside a cliff.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transition: Option<Transition>,
    /// Two hundred targets, and faults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets: Option<Targets>,
    /// What must hold, and what should.
    pub gates: Vec<Gate>,
}

/// Measures.
///
/// # Errors
/// When a part cannot be measured, naming it.
pub fn run(plan: &Plan) -> anyhow::Result<Report> {
    let has = |part| plan.parts.contains(&part);
    let round = |seconds| plan.round.unwrap_or(Duration::from_secs(seconds));
    let mut report = Report {
        version: 1,
        machine: machine()?,
        verification: Vec::new(),
        attestation: None,
        durable: None,
        durable_with_logs: None,
        latency: None,
        agent: None,
        prediction: None,
        shaping: None,
        anomaly: None,
        quorum: None,
        phasing: None,
        transition: None,
        targets: None,
        gates: Vec::new(),
    };
    if has(Part::Verify) {
        report.verification = verification::measure(round(5)).context("verification")?;
    }
    if has(Part::Attestation) {
        report.attestation = Some(attestation::measure(round(5)).context("attestation")?);
    }
    if has(Part::Durable) {
        let load = Load { hosts: plan.hosts, in_flight: plan.in_flight, round: round(10), with_logs: false };
        report.durable = Some(durable::measure(load).context("durable throughput")?);
        let load = Load { with_logs: true, ..load };
        report.durable_with_logs = Some(durable::measure(load).context("durable throughput with logs")?);
    }
    if has(Part::Latency) {
        report.latency = Some(living::measure_latency().context("latency")?);
    }
    if has(Part::Agent) {
        report.agent = Some(living::measure_agent(round(60)).context("the agent's cost")?);
    }
    if has(Part::Prediction) {
        report.prediction = Some(prediction::measure(round(8)).context("prediction")?);
    }
    if has(Part::Shaping) {
        report.shaping = Some(shaping::measure(round(5)).context("shaping")?);
    }
    if has(Part::Anomaly) {
        report.anomaly = Some(anomaly::measure(round(5)).context("the anomaly detector")?);
    }
    if has(Part::Quorum) {
        report.quorum = Some(quorum::measure(round(5)).context("quorum decisions")?);
    }
    if has(Part::Phasing) {
        report.phasing = Some(phasing::measure(round(5)).context("phasing")?);
    }
    if has(Part::Transition) {
        report.transition = Some(transition::measure(round(60)).context("plan and cliff")?);
    }
    if has(Part::Targets) {
        report.targets = Some(targets::measure(round(60)).context("two hundred targets")?);
    }
    report.gates = gates(&report);
    Ok(report)
}

fn machine() -> anyhow::Result<Machine> {
    let text = std::fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo cannot be read")?;
    let processor = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let load = std::fs::read_to_string("/proc/loadavg").context("/proc/loadavg cannot be read")?;
    Ok(Machine {
        processor: processor.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned()),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        optimised: !cfg!(debug_assertions),
        load_average: load.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0),
    })
}

/// The gates of what was measured.
fn gates(report: &Report) -> Vec<Gate> {
    let mut gates = Vec::new();
    // The last one is the default evidence.
    if let Some(typical) = report.verification.last() {
        let figure = ("full verification beside bare ring P-256", "ratio", typical.ratio_to_bare);
        gates.push(Gate::new(figure, Good::AtLeast, (0.8, 0.95)));
    }
    gates.extend(report.attestation.iter().flat_map(Attestation::gates));
    if let Some(durable) = &report.durable {
        let figure = ("durable evidence, end to end", "per second", durable.evidence_per_second);
        gates.push(Gate::new(figure, Good::AtLeast, (500.0, 2_000.0)));
    }
    if let Some(durable) = &report.durable_with_logs {
        let figure = ("durable evidence with boot log and IMA increments", "per second", durable.evidence_per_second);
        gates.push(Gate::new(figure, Good::AtLeast, (1_000.0, 5_000.0)));
    }
    if let Some(agent) = &report.agent {
        gates.push(Gate::new(("agent CPU at 1 Hz", "% of a core", agent.cpu_percent), Good::AtMost, (0.5, 0.1)));
        let resident_mib = agent.resident_bytes as f64 / MIB;
        gates.push(Gate::new(("agent memory, resident", "MiB", resident_mib), Good::AtMost, (25.0, 15.0)));
    }
    gates.extend(report.prediction.iter().flat_map(Prediction::gates));
    gates.extend(report.shaping.iter().flat_map(Shaping::gates));
    gates.extend(report.anomaly.iter().flat_map(Anomaly::gates));
    gates.extend(report.quorum.iter().flat_map(Quorum::gates));
    gates.extend(report.phasing.iter().flat_map(Phasing::gates));
    gates.extend(report.transition.iter().flat_map(Transition::gates));
    gates
}

impl Report {
    /// Whether everything that must hold, holds.
    pub fn passed(&self) -> bool {
        self.gates.iter().all(|gate| gate.passed)
    }

    /// The figures, as a table shows them.
    pub fn lines(&self) -> Vec<Line> {
        let machine = &self.machine;
        let build = if machine.optimised { "" } else { ", NOT OPTIMISED: figures mean little" };
        let place = format!("{} × {}, Linux {}{build}", machine.processors, machine.processor, machine.kernel);
        let mut lines = vec![Line::new("machine", place)];
        lines.push(Line::new("load average at the beginning", short(machine.load_average)));
        lines.extend(self.verification.iter().flat_map(Verification::lines));
        lines.extend(self.attestation.iter().flat_map(Attestation::lines));
        lines.extend(self.durable.iter().chain(&self.durable_with_logs).flat_map(Durable::lines));
        lines.extend(self.latency.iter().flat_map(Latency::lines));
        lines.extend(self.agent.iter().flat_map(AgentCost::lines));
        lines.extend(self.prediction.iter().flat_map(Prediction::lines));
        lines.extend(self.shaping.iter().flat_map(Shaping::lines));
        lines.extend(self.anomaly.iter().flat_map(Anomaly::lines));
        lines.extend(self.quorum.iter().flat_map(Quorum::lines));
        lines.extend(self.phasing.iter().flat_map(Phasing::lines));
        lines.extend(self.transition.iter().flat_map(Transition::lines));
        lines.extend(self.targets.iter().flat_map(Targets::lines));
        lines
    }

    /// Writes `bench.json` in a directory, which is made.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, directory: &Path) -> anyhow::Result<std::path::PathBuf> {
        let path = directory.join("bench.json");
        let at = || format!("cannot write {}", path.display());
        std::fs::create_dir_all(directory).with_context(at)?;
        std::fs::write(&path, serde_json::to_string_pretty(self)? + "\n").with_context(at)?;
        Ok(path)
    }
}

impl Verification {
    fn lines(&self) -> Vec<Line> {
        let what = format!("verification, {} envelope ({} bytes)", self.content, self.envelope_bytes);
        let value = format!(
            "{} /s and core; bare ring P-256 {} /s; ratio {} ({} with the digest it is kept under); before the signature {} µs",
            short(self.full_per_core_second),
            short(self.bare_per_core_second),
            short(self.ratio_to_bare),
            short(self.ratio_with_name),
            short(self.precheck_microseconds)
        );
        vec![Line::new(what, value)]
    }
}

impl Durable {
    fn lines(&self) -> Vec<Line> {
        let rate = format!(
            "{} /s; reply p50 {} ms, p95 {} ms; {} hosts, {} in flight",
            short(self.evidence_per_second),
            short(self.reply_p50_ms),
            short(self.reply_p95_ms),
            self.hosts,
            self.in_flight
        );
        let written = self
            .storage_written_bytes_per_evidence
            .map_or_else(String::new, |bytes| format!(", {} KiB written", short(bytes / 1024.0)));
        let cost = format!(
            "{} cores, {} µs per evidence{written}, {} MiB resident",
            short(self.verifier_cpu_cores),
            short(self.verifier_cpu_microseconds_per_evidence),
            short(self.verifier_resident_bytes as f64 / MIB)
        );
        let found = format!("all {} acknowledged, found again", self.evidence_found_after_kill);
        vec![
            Line::new(format!("durable evidence, end to end{}", if self.with_logs { ", with logs" } else { "" }), rate),
            Line::new("  the verifier's share", cost),
            Line::new("  the load's own share", format!("{} cores", short(self.load_cpu_cores))),
            Line::new("  after SIGKILL to the verifier", found),
        ]
    }
}

impl Latency {
    fn lines(&self) -> Vec<Line> {
        let value = format!(
            "p50 {} ms, p95 {} ms ({} requests, mode {:?})",
            short(self.request_to_enforced_p50_ms),
            short(self.request_to_enforced_p95_ms),
            self.requests,
            self.mode
        );
        let quote = format!("p50 {} ms: {} % of it", short(self.tpm_quote_p50_ms), short(self.tpm_quote_share_percent));
        vec![Line::new("request to enforced", value), Line::new("  the TPM's quote (software TPM)", quote)]
    }
}

impl AgentCost {
    fn lines(&self) -> Vec<Line> {
        let cost = format!(
            "{} % of a core, {} MiB resident (peak {} MiB)",
            short(self.cpu_percent),
            short(self.resident_bytes as f64 / MIB),
            short(self.resident_peak_bytes as f64 / MIB)
        );
        let work = format!(
            "a sample each {} ms, evidence each {} s: {} applications, {} windows, {} bytes",
            self.sample_ms,
            self.evidence_ms / 1000,
            self.applications,
            self.metric_windows,
            self.envelope_bytes
        );
        let tpm = format!(
            "{} % of a core, {} MiB resident",
            short(self.software_tpm_cpu_percent),
            short(self.software_tpm_resident_bytes as f64 / MIB)
        );
        let what = format!("agent, over {} s", short(self.observed_seconds));
        vec![
            Line::new(what, cost),
            Line::new("  its work meanwhile", work),
            Line::new("  its software TPM beside it", tpm),
        ]
    }
}

/// A world that ends in order when this program is interrupted.
fn begin(options: Options) -> anyhow::Result<World> {
    let world = World::new(options)?;
    let interrupted = Arc::clone(&world.options().interrupted);
    world.runtime().spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.store(true, Ordering::Relaxed);
        }
    });
    Ok(world)
}

fn take_down(world: World) -> anyhow::Result<()> {
    let left = world.take_down()?;
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    Ok(())
}

/// Waits, unless the world is interrupted.
fn pause(world: &World, length: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + length;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        world.check_interrupted()?;
        std::thread::sleep(left.min(Duration::from_millis(200)));
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn report(ratio: f64) -> Report {
        let verification = Verification {
            content: "typical",
            envelope_bytes: 5_000,
            evidence_bytes: 5_500,
            metric_windows: 116,
            rounds: Vec::new(),
            full_per_core_second: 15_000.0,
            bare_per_core_second: 16_000.0,
            ratio_to_bare: ratio,
            ratio_with_name: ratio,
            precheck_microseconds: 3.0,
        };
        let mut report = Report {
            version: 1,
            machine: machine().unwrap(),
            verification: vec![verification],
            attestation: None,
            durable: None,
            durable_with_logs: None,
            latency: None,
            agent: None,
            prediction: None,
            shaping: None,
            anomaly: None,
            quorum: None,
            phasing: None,
            transition: None,
            targets: None,
            gates: Vec::new(),
        };
        report.gates = gates(&report);
        report
    }

    #[test]
    fn only_what_was_measured_is_gated_and_one_miss_is_enough() {
        assert_eq!(report(0.9).gates.len(), 1);
        assert!(report(0.8).passed());
        assert!(!report(0.79).passed());
    }

    #[test]
    fn the_report_is_written_with_units_in_its_names() {
        let temp = tempfile::tempdir().unwrap();
        let path = report(0.9).write(&temp.path().join("deep/er")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(json["verification"][0]["envelope_bytes"], 5_000);
        assert_eq!(json["gates"][0]["gate"], 0.8);
        assert!(json.get("durable").is_none(), "what was not measured is not told");
    }
}

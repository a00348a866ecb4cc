//! The steps, in their order.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use quotary_common::envelope::Mode;
use quotary_common::wire::{ForecastView, LocalGrant};
use quotary_tests::world::{Application, HostOptions, Options, PATIENCE, Run, Running, World, public_copy};
use serde::Deserialize;

use crate::summary::{AuditLine, ForecastLine, GrantLine, HostLine, Summary, Timings, percentile_ms};
use crate::tell::{Teller, bytes};
use crate::{attacks, limits};

/// The two tenants' uids: numbers that no distribution gives to a person or a service.
const SHOP_UID: u32 = 61_001;
const LAB_UID: u32 = 61_002;
/// Short requests per host, so that a 95th percentile means something.
const SHORT_RUNS: usize = 12;
/// Longer than the demo takes: the load is ended by it, not by itself.
const LOAD_SECONDS: &str = "600";

/// One tenant's application on one host.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) name: &'static str,
    pub(crate) application: &'static str,
    pub(crate) host: usize,
    pub(crate) uid: Option<u32>,
    pub(crate) asked: &'static [&'static str],
    memory_load: &'static str,
}

/// The demo's state.
pub(crate) struct Demo {
    pub(crate) world: World,
    pub(crate) tell: Teller,
    pub(crate) summary: Summary,
    pub(crate) tenants: Vec<Tenant>,
    runs: Vec<Running>,
    /// Whether limits are written on this machine; else they are only shown.
    pub(crate) enforces: bool,
}

impl Demo {
    /// Makes the world and tells of it.
    pub(crate) fn begin(interrupted: Arc<AtomicBool>) -> Result<Self> {
        let mut tell = Teller::new();
        tell.say(
            "Quotary, the whole way once. Two hosts with a TPM each, a verifier, an operator, two tenants: all real",
        );
        tell.say("processes on this machine, with software TPMs. Nothing is staged; every value below was read back.");
        tell.step("A deployment is made");
        let is_root = rustix::process::geteuid().is_root();
        let tenants = tenants(is_root);
        let mut options = Options::quick(0);
        options.hosts = vec![HostOptions::new("host-a"), HostOptions::new("host-b").behind_road()];
        options.interrupted = interrupted;
        options.applications = if is_root {
            vec![Application::of_uid("web", "shop", SHOP_UID), Application::of_uid("training", "lab", LAB_UID)]
        } else {
            vec![Application { uid: None, ..Application::of_uid("any", "everybody", 0) }]
        };
        let mut world = World::new(options)?;
        public_copy(&std::env::current_exe()?, &world.path("bin/quotary-demo"))?;
        tell.say(
            "`quotary-verifier init` made a root key (to be kept offline), a CA, and keys for grants and the log;",
        );
        tell.say("swtpm's own tools made a site CA that certifies the software TPMs' endorsement keys.");
        world.start_verifier()?;
        let status = world.status_view()?;
        tell.show(&format!("deployment {}   verifier at {}", status.deployment, world.verifier_url()));
        tell.show(&format!("forecast model: {}", status.model));
        Ok(Self { world, tell, summary: Summary::default(), tenants, runs: Vec::new(), enforces: false })
    }

    /// Everything after that; what was started is gone when this returns, however it returns.
    pub(crate) fn run(mut self, out: &Path) -> Result<()> {
        if let Err(error) = self.steps() {
            // Whoever interrupts the demo knows why it ends.
            if self.world.check_interrupted().is_ok() {
                eprintln!("{}", self.world.log_tails());
            }
            return Err(error);
        }
        self.take_down(out)
    }

    fn steps(&mut self) -> Result<()> {
        self.join()?;
        self.attest()?;
        self.start_applications()?;
        limits::read_back(self)?;
        self.time_requests()?;
        self.forecast()?;
        attacks::attack(self)?;
        self.give_back()?;
        self.audit()
    }

    fn join(&mut self) -> Result<()> {
        self.tell.step("Two hosts join");
        self.tell
            .say("The operator makes a join token for each (`quotary token join`), with what the host has. Each agent");
        self.tell
            .say("makes its TPM, shows its certified endorsement key, and proves that it holds it: it opens a secret");
        self.tell.say("that only that TPM can open. The host's id is made of that key, so nobody can take it over.");
        for index in 0..self.world.hosts().len() {
            self.world.start_agent(index)?;
        }
        for index in 0..self.world.hosts().len() {
            let view = self.world.wait_for_trust(index, PATIENCE)?;
            let zone = view.zone.clone().unwrap_or_default();
            let name = self.world.host(index).name();
            self.tell.show(&format!("{name} is {}   zone {zone}   TPM: {}", view.id, view.tpm));
            ensure!(view.tpm == "software", "the site CA certifies software TPMs, but the verifier says {}", view.tpm);
            self.summary.hosts.push(HostLine { id: view.id, zone, tpm: view.tpm });
        }
        let view = self.world.agent_view(0)?;
        self.enforces = view.mode == Mode::Enforce;
        match &view.why_not {
            None => self.tell.show(&format!(
                "limits are written: backend {}, cgroup {}",
                word(&view.backend)?,
                word(&view.hierarchy)?
            )),
            Some(why) => {
                let probe = format!("{}-probe", self.world.host(0).cgroup());
                let could = self.world.kernel().lets_us_limit(&probe);
                ensure!(self.enforces || !could, "limits could be written here, but the agent does not: {why}");
                self.tell.say("NOT ENFORCED HERE: the agents only show what they would write (dry-run), because:");
                self.tell.show(why);
            }
        }
        Ok(())
    }

    fn attest(&mut self) -> Result<()> {
        self.tell.step("The hosts attest their load");
        self.tell
            .say("Every two seconds each agent puts what it measured into an envelope and has the TPM sign its digest");
        self.tell.say(
            "together with a fresh nonce and the boot measurements. The verifier checks all of it, or refuses it.",
        );
        for index in 0..self.world.hosts().len() {
            let view = self.world.wait("evidence of each host", PATIENCE, |world| {
                Ok(Some(world.host_view(index)?).filter(|view| view.sequence >= 3))
            })?;
            let quotes = self.world.agent_view(index)?.quote_us;
            let name = self.world.host(index).name();
            self.tell.show(&format!(
                "{name}: envelope {} accepted, {} so far, none refused; a quote takes {:.1} ms",
                view.sequence,
                view.accepted,
                percentile_ms(&quotes, 50)
            ));
            ensure!(view.refused == 0, "{name}: {} evidences were refused: {:?}", view.refused, view.last_refusal);
        }
        Ok(())
    }

    fn start_applications(&mut self) -> Result<()> {
        self.tell.step("Two tenants run applications");
        self.tell
            .say("`quotary run` asks the agent for resources; the agent asks the verifier within the next envelope; a");
        self.tell.say(
            "signed grant comes back, bound to that envelope, for a lease of 20 s that each further evidence renews.",
        );
        if self.tenants.iter().any(|tenant| tenant.uid.is_none()) {
            self.tell.say("(We are not root, so both applications run as the same user, and are the same tenant's.)");
        }
        for tenant in &self.tenants {
            let program = self.world.path("bin/quotary-demo").into_os_string();
            let load = ["load", "--cpu-threads", "1", "--memory", tenant.memory_load, "--seconds", LOAD_SECONDS];
            let command = std::iter::once(program).chain(load.map(Into::into));
            let asked = [&["--if-unavailable", "fail", "--verbose"], tenant.asked].concat();
            let run = Run::new(tenant.host, &asked, command).as_uid(tenant.uid);
            let host = self.world.host(tenant.host).name();
            self.tell.say(&format!(
                "{host}: quotary run {} -- load (one busy thread, {})",
                tenant.asked.join(" "),
                tenant.memory_load
            ));
            self.runs.push(self.world.start_run(tenant.application, &run)?);
        }
        for index in 0..self.tenants.len() {
            let grant = self.wait_for_grant(index)?;
            let of = &self.tenants[index];
            self.tell.show(&format!(
                "granted to {} of {}: {} millicores, {}   ({})",
                grant.application,
                grant.tenant,
                grant.resources.cpu_millicores.unwrap_or(0),
                bytes(grant.resources.memory_bytes.unwrap_or(0)),
                grant.id
            ));
            if of.uid.is_some() {
                let told = (grant.application.as_str(), grant.tenant.as_str());
                ensure!(
                    told == (of.application, of.name),
                    "the verifier took {} of {} for {told:?}",
                    of.application,
                    of.name
                );
            }
        }
        for view in self.world.grant_views()? {
            self.summary.grants.push(GrantLine {
                application: view.application,
                tenant: view.tenant,
                cpu_millicores: view.resources.cpu_millicores,
                memory_bytes: view.resources.memory_bytes,
                lease_ms: view.lease_ms,
            });
        }
        Ok(())
    }

    /// Waits until a tenant's application has its grant and, where limits are written, runs in its group.
    fn wait_for_grant(&self, tenant: usize) -> Result<LocalGrant> {
        let (of, run) = (&self.tenants[tenant], &self.runs[tenant]);
        let mut waiting = self.tell.waiting("a grant");
        self.world.wait(&format!("a grant for {}", of.name), PATIENCE, |_| {
            waiting();
            if let Some(status) = run.ended()? {
                bail!("quotary run ended with {status}:\n{}", run.log_tail());
            }
            self.grant_of(tenant)
        })
    }

    /// The grant of a tenant's application, as its agent holds it, once its load runs under it.
    pub(crate) fn grant_of(&self, tenant: usize) -> Result<Option<LocalGrant>> {
        let view = self.world.agent_view(self.tenants[tenant].host)?;
        let Some(grant) = view.grants.into_iter().next() else { return Ok(None) };
        let Some(cgroup) = &grant.cgroup else { return Ok((!self.enforces).then_some(grant)) };
        let groups = self.world.kernel().directories(cgroup);
        let members = |group: &PathBuf| std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        let is_inside = !groups.is_empty() && groups.iter().all(|group| !members(group).trim().is_empty());
        Ok((!self.enforces || is_inside).then_some(grant))
    }

    fn time_requests(&mut self) -> Result<()> {
        self.tell.step("How long a request takes");
        self.tell.say(&format!(
            "{SHORT_RUNS} short commands on each host, one after the other: from the request to the limit, read back."
        ));
        for tenant in &self.tenants {
            for number in 0..SHORT_RUNS {
                let asked = ["--cpu", "50m", "--memory", "16M", "--if-unavailable", "fail"];
                let run = Run::new(tenant.host, &asked, ["true"]).as_uid(tenant.uid);
                let name = format!("short-{}-{number}", tenant.application);
                let running = self.world.start_run(&name, &run)?;
                let status = running.wait(PATIENCE)?;
                ensure!(status.success(), "quotary run -- true ended with {status}:\n{}", running.log_tail());
                self.world.check_interrupted()?;
            }
        }
        let (mut enforced_us, mut quotes_us) = (Vec::new(), Vec::new());
        for index in 0..self.world.hosts().len() {
            let view = self.world.agent_view(index)?;
            enforced_us.extend(view.request_to_enforced_us);
            quotes_us.extend(view.quote_us);
        }
        ensure!(!enforced_us.is_empty(), "the agents measured no request");
        let timings = Timings {
            request_to_enforced_p50: percentile_ms(&enforced_us, 50),
            request_to_enforced_p95: percentile_ms(&enforced_us, 95),
            tpm_quote_p50: percentile_ms(&quotes_us, 50),
        };
        self.tell.show(&format!(
            "{} requests: half within {:.1} ms, 95 % within {:.1} ms; of that the TPM's quote takes {:.1} ms",
            enforced_us.len(),
            timings.request_to_enforced_p50,
            timings.request_to_enforced_p95,
            timings.tpm_quote_p50
        ));
        self.tell.show("(debug build, on a machine that runs everything at once)");
        self.summary.timings_ms = timings;
        Ok(())
    }

    fn forecast(&mut self) -> Result<()> {
        self.tell.step("The verifier forecasts demand");
        self.tell.say(
            "Only attested windows go into history. An ONNX model answers with quantiles, not with one number: what",
        );
        self.tell
            .say("a grant is sized by is a high quantile of the peak. It wants six points of history, here 5 s each.");
        let cgroup = self.grant_of(0)?.and_then(|grant| grant.cgroup);
        let mut waiting = self.tell.waiting("enough history");
        let view = self.world.wait("a forecast by the model", 2 * PATIENCE, |world| {
            waiting();
            let is_wanted = |view: &ForecastView| {
                view.method == "model" && view.resource == "cpu_millicores" && (!self.enforces || view.cgroup == cgroup)
            };
            Ok(world.forecast_views()?.into_iter().find(is_wanted))
        })?;
        let first = view.steps.first().context("a forecast without a step")?;
        ensure!(first.len() == view.quantile_levels.len(), "a forecast without its quantiles");
        let of = if view.cgroup.is_some() {
            format!("{} of {}", self.tenants[0].application, self.tenants[0].name)
        } else {
            "the host".to_owned()
        };
        self.tell.show(&format!(
            "CPU of {of}, next {} s, in millicores (model {}):",
            view.interval_s,
            view.model.as_deref().unwrap_or("?")
        ));
        let shown =
            view.quantile_levels.iter().zip(first).filter(|(level, _)| [0.1, 0.5, 0.9, 0.95, 0.99].contains(*level));
        let shown: Vec<String> = shown.map(|(level, value)| format!("{:.0} %: {value:.0}", level * 100.0)).collect();
        self.tell.show(&format!("  quantiles  {}", shown.join("   ")));
        for (seconds, values) in &view.peaks {
            let shown: Vec<String> = view
                .peak_levels
                .iter()
                .zip(values)
                .map(|(level, value)| format!("{:.1} %: {value:.0}", level * 100.0))
                .collect();
            self.tell.show(&format!("  peak over {seconds} s  {}", shown.join("   ")));
        }
        ensure!(first.is_sorted(), "the quantiles are not in order: {first:?}");
        self.summary.forecast = ForecastLine {
            quantiles: view.quantile_levels.iter().map(|level| format!("{level}")).zip(first.iter().copied()).collect(),
            method: view.method,
            model: view.model,
            sha256: view.model_sha256,
        };
        Ok(())
    }

    fn give_back(&mut self) -> Result<()> {
        self.tell.step("The applications end");
        self.tell
            .say("`quotary run` passes the signal on, gives the grant back, and the group with its limits is removed.");
        for run in self.runs.drain(..) {
            let status = run.stop(PATIENCE)?;
            self.tell.show(&format!("{}: {status}", run.name()));
        }
        self.world
            .wait("all grants to be given back", PATIENCE, |world| Ok(world.grant_views()?.is_empty().then_some(())))?;
        for host in self.world.hosts() {
            let left: Vec<_> =
                self.world.kernel().directories(host.cgroup()).iter().map(|path| groups_below(path)).collect();
            ensure!(left.iter().all(|groups| *groups == 0), "groups are left below {}", host.cgroup());
        }
        self.tell.show("no grant holds capacity any more, and no group of ours has a group below it");
        self.summary.accepted = self.world.status_view()?.accepted;
        Ok(())
    }

    fn audit(&mut self) -> Result<()> {
        self.tell.step("The log is audited, offline");
        self.tell.say(
            "Every decision is a leaf of an append-only Merkle tree, and every evidence is kept. `quotary audit fetch`",
        );
        self.tell.say(
            "copies both; the verifier is stopped; `quotary audit verify` then checks the tree and each quote again.",
        );
        let copy = self.world.path("copy-of-the-log");
        let copy = copy.to_str().context("the temporary directory's path is not text")?;
        self.world.cli_ok(&["audit", "fetch", copy])?;
        for index in 0..self.world.hosts().len() {
            self.world.stop_agent(index)?;
        }
        self.world.stop_verifier()?;
        let report: AuditReport = self.world.cli_json(&["audit", "verify", copy])?;
        ensure!(report.verified && report.fault_count == 0, "the log does not verify: {report:?}");
        ensure!(report.evidence_missing == 0, "{} evidences are missing", report.evidence_missing);
        let root = report.root.clone().context("a log without a root")?;
        self.tell.show(&format!("{} leaves, root {root}", report.size));
        self.tell.show(&format!(
            "{} quotes checked again, all good; in {} of them the host names a state of the log, and it is this log's",
            report.evidence_verified, report.witnesses_agreeing
        ));
        self.summary.audit = AuditLine { size: report.size, root, verified: report.verified };
        Ok(())
    }

    fn take_down(self, out: &Path) -> Result<()> {
        let Self { world, mut tell, summary, .. } = self;
        tell.step("Everything is gone");
        let left = world.take_down()?;
        ensure!(left.is_empty(), "something was left behind:\n{}", left.join("\n"));
        tell.show("no process, no cgroup, no file of this demo is left");
        summary.write(out)?;
        tell.say(&format!(
            "\n   Done in {:.0} s. For programs: {}",
            tell.elapsed().as_secs_f64(),
            out.join("summary.json").display()
        ));
        Ok(())
    }
}

/// What `quotary audit verify --json` says, as far as it is looked at here.
#[derive(Debug, Deserialize)]
struct AuditReport {
    size: u64,
    root: Option<String>,
    verified: bool,
    fault_count: u64,
    evidence_verified: u64,
    evidence_missing: u64,
    witnesses_agreeing: u64,
}

fn tenants(is_root: bool) -> Vec<Tenant> {
    let uid = |uid| is_root.then_some(uid);
    vec![
        Tenant {
            name: "shop",
            application: "web",
            host: 0,
            uid: uid(SHOP_UID),
            asked: &["--cpu", "200m", "--memory", "128M", "--disk", "20M"],
            memory_load: "64M",
        },
        Tenant {
            name: "lab",
            application: "training",
            host: 1,
            uid: uid(LAB_UID),
            asked: &["--cpu", "100m", "--memory", "96M"],
            memory_load: "32M",
        },
    ]
}

/// A value of the wire as it stands in JSON.
pub(crate) fn word(value: &impl serde::Serialize) -> Result<String> {
    Ok(serde_json::to_value(value)?.as_str().context("not a word")?.to_owned())
}

fn groups_below(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).count()
}

/// How long CPU is measured at least.
pub(crate) const MEASURE: Duration = Duration::from_secs(4);

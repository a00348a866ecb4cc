//! The steps, in their order.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Result, ensure};
use quotary_common::envelope::Mode;
use quotary_common::wire::ForecastView;
use quotary_tests::world::{Application, HostOptions, Options, PATIENCE, Running, World, public_copy};

use crate::applications::{LAB_UID, SHOP_UID, Tenant, tenants};
use crate::summary::{ForecastLine, HostLine, Summary, percentile_ms};
use crate::tell::Teller;
use crate::{attacks, limits};

/// The demo's state.
pub(crate) struct Demo {
    pub(crate) world: World,
    pub(crate) tell: Teller,
    pub(crate) summary: Summary,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) runs: Vec<Running>,
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
                view.method == "model"
                    && view.host.is_some()
                    && view.resource == "cpu_millicores"
                    && (!self.enforces || view.cgroup == cgroup)
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
}

/// A value of the wire as it stands in JSON.
pub(crate) fn word(value: &impl serde::Serialize) -> Result<String> {
    Ok(serde_json::to_value(value)?.as_str().context("not a word")?.to_owned())
}

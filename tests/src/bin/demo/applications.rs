//! The tenants' applications: asked for, granted, timed.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use quotary_common::wire::LocalGrant;
use quotary_tests::world::{PATIENCE, Run};

use crate::show::Demo;
use crate::summary::{GrantLine, Timings, percentile_ms};
use crate::tell::bytes;

/// The two tenants' uids: numbers that no distribution gives to a person or a service.
pub(crate) const SHOP_UID: u32 = 61_001;
pub(crate) const LAB_UID: u32 = 61_002;
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

impl Demo {
    pub(crate) fn start_applications(&mut self) -> Result<()> {
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

    pub(crate) fn time_requests(&mut self) -> Result<()> {
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
}

/// Both tenants' applications; as root each as a user of its own.
pub(crate) fn tenants(is_root: bool) -> Vec<Tenant> {
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

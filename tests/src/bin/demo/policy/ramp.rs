//! The two applications whose limits move, and the kernel's word for where they are.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use quotary_agent::clock;
use quotary_common::wire::{ForecastView, LocalGrant};
use quotary_tests::world::{Kernel, PATIENCE, Run};

use super::PolicyDemo;
use super::alignment::Look;
use crate::applications::{LAB_UID, SHOP_UID};
use crate::tell::bytes;

/// What holds memory in the kernel, of version 1 and version 2 of its groups.
const MEMORY: [&str; 2] = ["memory.soft_limit_in_bytes", "memory.high"];
/// Longer than the demo takes: the load is ended by it, not by itself.
const LOAD_SECONDS: &str = "1200";
/// How often is looked while limits move, and around the effective time.
const SELDOM: Duration = Duration::from_millis(250);
const OFTEN: Duration = Duration::from_millis(10);
/// So long before and after the effective time is looked often, ms.
const AROUND_MS: u64 = 4_000;
/// How often the transcript says where the limits are, ms.
const TOLD_EVERY_MS: u64 = 20_000;

/// An application of a tenant, alone on its host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Application {
    pub(crate) name: &'static str,
    pub(crate) tenant: &'static str,
    pub(crate) uid: u32,
    /// What it asks for, and is granted.
    pub(crate) memory_bytes: u64,
    /// What it really uses.
    pub(crate) load_bytes: u64,
}

/// One on each host, in the hosts' order: the one that gives, and the one that gets.
pub(crate) const APPLICATIONS: [Application; 2] = [
    Application { name: "web", tenant: "shop", uid: SHOP_UID, memory_bytes: 256 << 20, load_bytes: 64 << 20 },
    Application { name: "training", tenant: "lab", uid: LAB_UID, memory_bytes: 64 << 20, load_bytes: 24 << 20 },
];

/// The group of an application.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) application: Application,
    pub(super) cgroup: String,
    /// The kernel's file.
    pub(super) control: &'static str,
    /// What it had before the change, bytes.
    pub(super) before: u64,
}

impl Group {
    /// What the kernel has now, bytes.
    pub(super) fn actual(&self, kernel: &Kernel) -> Result<u64> {
        let text = kernel.read(&self.cgroup, self.control);
        let text = text.with_context(|| format!("{} of {} cannot be read", self.control, self.cgroup))?;
        text.parse().with_context(|| format!("{} of {} is {text}", self.control, self.cgroup))
    }
}

/// Starts both applications, and waits until each runs in its group.
pub(super) fn start(demo: &mut PolicyDemo) -> Result<Vec<Group>> {
    let mut groups = Vec::new();
    for (host, application) in APPLICATIONS.into_iter().enumerate() {
        let program = demo.world.path("bin/quotary-demo").into_os_string();
        let load = application.load_bytes.to_string();
        let load = ["load", "--cpu-threads", "0", "--memory", &load, "--seconds", LOAD_SECONDS];
        let command = std::iter::once(program).chain(load.map(Into::into));
        let memory = application.memory_bytes.to_string();
        let asked = ["--if-unavailable", "fail", "--cpu", "100m", "--memory", &memory];
        let run = Run::new(host, &asked, command).as_uid(Some(application.uid));
        demo.runs.push(demo.world.start_run(application.name, &run)?);
        groups.push(group_of(demo, host, application)?);
    }
    forecast(demo, &groups)?;
    Ok(groups)
}

/// Waits until the verifier knows both from what was attested, and forecasts their memory: plans are made from that.
fn forecast(demo: &PolicyDemo, groups: &[Group]) -> Result<()> {
    let mut waiting = demo.tell.waiting("enough history");
    demo.world.wait("forecasts of both", 2 * PATIENCE, |world| {
        waiting();
        let views = world.forecast_views()?;
        let is_known = |group: &Group| {
            let is_its = |view: &&ForecastView| {
                view.resource == "memory_bytes" && view.cgroup.as_deref() == Some(group.cgroup.as_str())
            };
            views.iter().find(is_its).is_some_and(|view| view.method == "model")
        };
        Ok(groups.iter().all(is_known).then_some(()))
    })?;
    demo.tell.show("both are attested, and their demand is forecast by the model");
    Ok(())
}

fn group_of(demo: &PolicyDemo, host: usize, application: Application) -> Result<Group> {
    let Application { name, tenant, .. } = application;
    let run = demo.runs.get(host).context("a run")?;
    let mut waiting = demo.tell.waiting("a grant");
    let grant = demo.world.wait(&format!("a grant for {name}"), PATIENCE, |world| {
        waiting();
        if let Some(status) = run.ended()? {
            bail!("quotary run ended with {status}:\n{}", run.log_tail());
        }
        let is_inside =
            |grant: &LocalGrant| grant.cgroup.as_ref().is_some_and(|group| has_members(world.kernel(), group));
        Ok(world.agent_view(host)?.grants.into_iter().find(is_inside))
    })?;
    ensure!(
        (grant.application.as_str(), grant.tenant.as_str()) == (name, tenant),
        "the verifier took {} of {} for {name} of {tenant}",
        grant.application,
        grant.tenant
    );
    let cgroup = grant.cgroup.context("a grant without a group")?;
    let kernel = demo.world.kernel();
    let control = MEMORY.into_iter().find(|control| kernel.read(&cgroup, control).is_some());
    let control = control.with_context(|| format!("{cgroup} has no control of memory"))?;
    let group = Group { application, cgroup, control, before: 0 };
    let before = group.actual(kernel)?;
    demo.tell.show(&format!(
        "{}: {name} of {tenant}, granted {}; the kernel has {control} = {}",
        demo.world.host(host).name(),
        bytes(grant.resources.memory_bytes.unwrap_or(0)),
        bytes(before)
    ));
    Ok(Group { before, ..group })
}

fn has_members(kernel: &Kernel, group: &str) -> bool {
    let members = |group: &PathBuf| std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let groups = kernel.directories(group);
    !groups.is_empty() && groups.iter().all(|group| !members(group).trim().is_empty())
}

/// Looks at all groups from now until some seconds after the effective time: seldom at first, often around it. One row of looks
/// for each group.
pub(super) fn watch(demo: &PolicyDemo, groups: &[Group], effective_at_ms: u64) -> Result<Vec<Vec<Look>>> {
    let kernel = demo.world.kernel();
    let mut looks = vec![Vec::new(); groups.len()];
    let mut told_at_ms = 0;
    loop {
        let now_ms = clock::unix_ms();
        for (group, looks) in groups.iter().zip(&mut looks) {
            looks.push(Look { at_ms: now_ms, value: group.actual(kernel)? });
        }
        if now_ms > effective_at_ms + AROUND_MS {
            return Ok(looks);
        }
        if now_ms >= told_at_ms + TOLD_EVERY_MS && now_ms < effective_at_ms {
            told_at_ms = now_ms;
            let now = groups.iter().zip(&looks).filter_map(|(group, looks)| Some((group, looks.last()?)));
            let now: Vec<String> =
                now.map(|(group, look)| format!("{} {}", group.application.name, bytes(look.value))).collect();
            demo.tell.show(&format!("{:>4} s to go: {}", (effective_at_ms - now_ms) / 1000, now.join(", ")));
        }
        demo.world.check_interrupted()?;
        let is_near = now_ms + AROUND_MS >= effective_at_ms;
        std::thread::sleep(if is_near { OFTEN } else { SELDOM });
    }
}

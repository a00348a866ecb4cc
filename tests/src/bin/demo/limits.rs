//! Limits, read back from the kernel by the demo itself, and what they do to a busy application.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use quotary_common::wire::{ControlView, LocalGrant};
use quotary_tests::world::Kernel;

use crate::show::{Demo, word};
use crate::summary::EnforcedLine;
use crate::tell::bytes;

/// How long CPU is measured at least.
const MEASURE: Duration = Duration::from_secs(4);
/// How long a busy application may take to be held back: a loaded machine may give it less than its quota for a while.
const THROTTLE_PATIENCE: Duration = Duration::from_secs(30);
/// By how much measured CPU may exceed a quota: a period that was begun, and the accounting's grain.
const TOLERANCE_PERCENT: u64 = 10;
const TOLERANCE_MILLICORES: u64 = 15;

/// Shows each grant's controls as asked and as the kernel has them, then lets the quota bite.
pub(crate) fn read_back(demo: &mut Demo) -> Result<()> {
    if demo.enforces {
        demo.tell.step("The kernel enforces the grants");
        demo.tell.say("The agent wrote these controls; here they are read from the kernel by the demo itself:");
    } else {
        demo.tell.step("What the kernel would be told");
        demo.tell.say("The agent would write these controls, and writes none of them (dry-run):");
    }
    let mut grants = Vec::new();
    for tenant in 0..demo.tenants.len() {
        let grant = demo.grant_of(tenant)?.context("the grant is gone")?;
        let backend = word(&demo.world.agent_view(demo.tenants[tenant].host)?.backend)?;
        let cgroup = grant.cgroup.clone().unwrap_or_default();
        demo.tell.say(&format!(
            "{} of {}: {}",
            grant.application,
            grant.tenant,
            if demo.enforces { &cgroup } else { "(would be)" }
        ));
        for control in &grant.controls {
            let actual = demo.enforces.then(|| demo.world.kernel().read(&cgroup, &control.control)).flatten();
            demo.tell.show(&line(control, actual.as_deref()));
            if demo.enforces && control.effective {
                let holds = actual.as_deref().is_some_and(|actual| is_in_force(&control.requested, actual));
                ensure!(holds, "{}: {} was asked for, the kernel has {actual:?}", control.control, control.requested);
            }
            demo.summary.enforced.push(EnforcedLine {
                cgroup: cgroup.clone(),
                backend: backend.clone(),
                control: control.control.clone(),
                requested: control.requested.clone(),
                actual,
                effective: control.effective,
            });
        }
        ensure!(
            !demo.enforces || grant.controls.iter().any(|control| control.effective),
            "no effective control at all"
        );
        grants.push(grant);
    }
    if !demo.enforces {
        demo.tell.say("So nothing is limited here, and there is nothing to measure.");
        return Ok(());
    }
    demo.tell
        .say("Each application has a thread that would take a whole core (1000 millicores). Measured by the kernel:");
    for grant in &grants {
        measure(demo, grant)?;
    }
    Ok(())
}

fn line(control: &ControlView, actual: Option<&str>) -> String {
    let Some(actual) = actual else {
        return format!("{:<32} asked {:<16} not written", control.control, control.requested);
    };
    let actual = actual.replace('\n', ", ");
    let acts =
        if control.effective { "the kernel acts on it" } else { "taken, but the kernel does not act on it (advisory)" };
    format!("{:<32} asked {:<16} kernel has {actual:<16} {acts}", control.control, control.requested)
}

/// Whether what was asked for stands in a line of the kernel's file: whole (per device there is a line each), or with
/// more beside it, as in `io.max`.
fn is_in_force(requested: &str, actual: &str) -> bool {
    let has_all =
        |line: &str| requested.split_whitespace().all(|word| line.split_whitespace().any(|other| other == word));
    actual.lines().any(has_all)
}

fn measure(demo: &Demo, grant: &LocalGrant) -> Result<()> {
    let kernel = demo.world.kernel();
    let cgroup = grant.cgroup.as_deref().context("a grant without a group")?;
    let quota = grant.resources.cpu_millicores.context("a grant without CPU")?;
    let what = format!("{} of {}", grant.application, grant.tenant);
    let (used_us, throttled) = counters(kernel, cgroup)?;
    let begun = Instant::now();
    let mut waiting = demo.tell.waiting("the quota to bite");
    let (used_us, throttled, took) =
        demo.world.wait(&format!("{what} to be held back by its quota"), THROTTLE_PATIENCE, |_| {
            waiting();
            let (now_us, times) = counters(kernel, cgroup)?;
            let took = begun.elapsed();
            Ok((took >= MEASURE && times > throttled).then_some((now_us - used_us, times - throttled, took)))
        })?;
    let millicores = u128::from(used_us) * 1_000_000 / took.as_micros().max(1) / 1000;
    let millicores = u64::try_from(millicores).unwrap_or(u64::MAX);
    let memory = kernel.memory_used_bytes(cgroup).map_or_else(|| "?".to_owned(), bytes);
    demo.tell.show(&format!(
        "{what}: used {millicores} of {quota} millicores over {:.1} s, held back {throttled} times; memory in use {memory}",
        took.as_secs_f64()
    ));
    let most = quota + quota * TOLERANCE_PERCENT / 100 + TOLERANCE_MILLICORES;
    ensure!(millicores <= most, "{what} used {millicores} millicores, its quota is {quota}");
    Ok(())
}

fn counters(kernel: &Kernel, cgroup: &str) -> Result<(u64, u64)> {
    let used_us = kernel.cpu_used_us(cgroup).context("the kernel does not say how much CPU the group used")?;
    let throttled =
        kernel.times_throttled(cgroup).context("the kernel does not say how often it held the group back")?;
    Ok((used_us, throttled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_is_in_force_when_one_line_says_all_of_it() {
        assert!(is_in_force("20000", "20000"));
        assert!(is_in_force("8:0 1048576", "7:0 5\n8:0 1048576"));
        assert!(is_in_force("8:0 rbps=5", "8:0 rbps=5 wbps=max riops=max wiops=max"));
        assert!(!is_in_force("20000", "200000"));
        assert!(!is_in_force("8:0 5", "8:0 6\n7:0 5"));
        assert!(!is_in_force("8:0 1", "8:0 10"));
    }
}

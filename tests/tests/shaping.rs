//! Plans on a real agent: a group of its own is moved and put back; an agent that only watches moves nothing, and what
//! the plan would have done is reported.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::{Child, Command};

use quotary_common::envelope::{BackendKind, Mode};
use quotary_common::plan::{ShapedControl, Target};
use quotary_common::wire::{PlanView, ReportLine, ReportView, ShapedTarget};
use quotary_tests::world::{Options, PATIENCE, World};

/// The kernel's names, of version 1 and version 2.
const QUOTA: [&str; 2] = ["cpu.cfs_quota_us", "cpu.max"];
const WEIGHT: [&str; 2] = ["cpu.shares", "cpu.weight"];

/// A world with a running agent; none where this machine lets nobody limit anything.
fn scene(mode: Mode) -> Option<World> {
    let mut world = World::new(Options { mode, ..Options::quick(1) }).unwrap();
    if !world.kernel().lets_us_limit_or_is_left_out(&format!("{}-probe", world.host(0).cgroup())).unwrap() {
        return None;
    }
    world.start_verifier().unwrap();
    world.start_agent(0).unwrap();
    world.wait_for_trust(0, PATIENCE).unwrap();
    Some(world)
}

/// A process that never rests, in a group that an administrator made for it.
struct Busy {
    group: String,
    process: Child,
}

impl Busy {
    fn start(world: &World) -> Self {
        let group = format!("{}/busy", world.host(0).cgroup());
        let process = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        for file in ["cpu.shares", "cpuacct.usage", "memory.limit_in_bytes", "blkio.weight"] {
            let Some(directory) =
                world.kernel().file(&group, file).and_then(|file| file.parent().map(ToOwned::to_owned))
            else {
                continue;
            };
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("cgroup.procs"), process.id().to_string()).unwrap();
        }
        Self { group, process }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the kernel shows for a control of the group.
fn shown(world: &World, group: &str, names: [&str; 2]) -> String {
    names.iter().find_map(|name| world.kernel().read(group, name)).unwrap()
}

fn draft(world: &World, group: &str, values: [&str; 2]) -> PlanView {
    let line = ["plan", "draft", "--cgroup", group, values[0], values[1], "--over", "2s"];
    world.cli_json(&line).unwrap()
}

/// The target as the agent shows it, once it is moved.
fn moved(world: &World, group: &str) -> ShapedTarget {
    let target = |world: &World| {
        let mut targets = world.agent_view(0)?.targets.into_iter();
        Ok(targets.find(|one| matches!(&one.target, Target::Cgroup(path) if path.as_str() == group)))
    };
    world.wait("the agent to follow the plan", PATIENCE, target).unwrap()
}

#[test]
fn a_plan_moves_a_group_is_told_of_and_its_end_puts_back_what_was_before() {
    let Some(world) = scene(Mode::Enforce) else { return };
    let busy = Busy::start(&world);
    let before = shown(&world, &busy.group, WEIGHT);
    let plan = draft(&world, &busy.group, ["--cpu-weight", "80"]);
    let reached = world.wait("the plan's target", PATIENCE, |world| {
        let target = moved(world, &busy.group);
        Ok(target.controls.iter().any(|one| one.standing == "reached").then_some(target))
    });
    let target = reached.unwrap();
    assert_eq!((target.plan, target.backend, &target.cgroup), (plan.plan, BackendKind::Direct, &busy.group));
    let [control] = target.controls.as_slice() else { unreachable!("{target:?}") };
    assert_eq!((control.control, control.unit.as_str()), (ShapedControl::CpuWeight, "weight"));
    let figures = (control.present, control.setpoint, control.target, control.baseline);
    assert_eq!(figures, (Some(80), Some(80), Some(80), Some(100)));
    // 80 of 100, in shares of 1024 on version 1.
    assert!(["819", "80"].contains(&shown(&world, &busy.group, WEIGHT).as_str()));
    let attested = world.wait("the write in an evidence", PATIENCE, |world| {
        let view: PlanView = world.cli_json(&["plan", "show", &plan.plan.hex()])?;
        Ok(view.controls[0].last_write.clone().filter(|write| write.actual.as_deref() == Some("80")))
    });
    let attested = attested.unwrap();
    assert!(attested.effective && !attested.dry_run, "{attested:?}");
    world.cli_ok(&["plan", "cancel", &plan.plan.hex()]).unwrap();
    world
        .wait("the weight to be put back", PATIENCE, |world| {
            Ok((shown(world, &busy.group, WEIGHT) == before).then_some(()))
        })
        .unwrap();
    world
        .wait("the target to be gone", PATIENCE, |world| Ok(world.agent_view(0)?.targets.is_empty().then_some(())))
        .unwrap();

    // One that is not followed says why.
    let absent = format!("{}/absent", world.host(0).cgroup());
    let refused = draft(&world, &absent, ["--cpu-weight", "80"]);
    let why = world.wait("the refusal", PATIENCE, |world| {
        let mut left = world.agent_view(0)?.not_followed.into_iter();
        Ok(left.find(|one| one.plan == refused.plan && one.why.contains("no group of Quotary's own")))
    });
    assert_eq!(why.unwrap().target.to_string(), absent);
}

#[test]
fn an_agent_that_watches_moves_nothing_and_the_report_says_what_the_plan_would_have_done() {
    let Some(world) = scene(Mode::Observe) else { return };
    let busy = Busy::start(&world);
    let before = shown(&world, &busy.group, QUOTA);
    let plan = draft(&world, &busy.group, ["--cpu-quota", "200m"]);
    assert_eq!(moved(&world, &busy.group).plan, plan.plan);
    let counted = world.wait("some seconds to be counted", PATIENCE, |world| {
        let report: ReportView = world.cli_json(&["report"])?;
        let lines: Vec<ReportLine> = report.hosts.into_iter().flat_map(|host| host.lines).collect();
        Ok(lines.into_iter().find(|line| line.plan == Some(plan.plan) && line.compared_ms >= 6_000))
    });
    let line = counted.unwrap();
    // It never rests, and is always over a fifth of a core: but for a window in which it was not yet there.
    assert!(line.over_ms + 2_000 >= line.compared_ms, "{line:?}");
    assert!(line.throttled_cpu_ms.unwrap() > 0 && line.limit == Some(200), "{line:?}");
    assert_eq!((line.subject.as_str(), &line.made_by), (busy.group.as_str(), &plan.made_by));
    assert_eq!(shown(&world, &busy.group, QUOTA), before, "something was limited");
    let kept: PlanView = world.cli_json(&["plan", "show", &plan.plan.hex()]).unwrap();
    assert!(kept.controls.iter().all(|control| control.last_write.is_none()), "{kept:?}");
    assert!(world.cli_ok(&["report"]).unwrap().contains("of CPU throttled"));
}

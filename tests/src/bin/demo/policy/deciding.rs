//! From the proposal to the plan: impact, votes that count and votes that do not, preview.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use quotary_common::plan::ShapedControl;
use quotary_common::wire::{ChangePreview, ChangeView, CoursePreview, VoteView};
use quotary_tests::world::{PATIENCE, Signer};

use super::documents::{ALICE, BOB, DELAY_WINDOW, POLICY, WAY_BACK, WITH_SSH_KEYGEN, policy};
use super::people::{approval, text};
use super::record::{ChangeLine, CourseLine, PlanLine, VoteLine};
use super::{PolicyDemo, documents};
use crate::summary::RefusedLine;
use crate::tell::bytes;

/// What the picture is called, beside the summary.
const PICTURE: &str = "plan.svg";

/// Alice proposes the policy; the change's id.
pub(super) fn propose(demo: &mut PolicyDemo) -> Result<String> {
    demo.tell.step("Alice proposes a policy");
    let file = demo.people.path("even-shares.toml");
    std::fs::write(&file, policy())?;
    demo.tell.say(&format!("$ quotary change propose even-shares.toml --in {DELAY_WINDOW}"));
    for line in policy().lines().filter(|line| !line.is_empty()) {
        demo.tell.show(line);
    }
    let arguments = ["change", "propose", text(&file)?, "--in", DELAY_WINDOW];
    let proposed: ChangeView = demo.people.json(&demo.world, ALICE, &arguments)?;
    let id = proposed.summary.id.clone();
    let view = show(demo, &id)?;
    demo.tell.say(&format!("What it would do, before anybody approves it ($ quotary change show {id}):"));
    for line in &view.impact {
        demo.tell.show(line);
    }
    ensure!(!view.impact.is_empty(), "no impact is shown");
    ensure!(view.summary.criticality == "high", "its criticality is {}", view.summary.criticality);
    for application in super::APPLICATIONS {
        let is_told = view.impact.iter().any(|line| line.contains(application.tenant));
        ensure!(is_told, "the impact does not say what becomes of {}", application.tenant);
    }
    let sha256 = view.sha256.hex();
    demo.summary.change =
        ChangeLine { id: id.clone(), sha256, criticality: view.summary.criticality, impact: view.impact };
    Ok(id)
}

/// Votes that do not count, and those that make the quorum.
pub(super) fn vote(demo: &mut PolicyDemo, id: &str) -> Result<()> {
    demo.tell.step("People vote, with SSH keys over the exact text");
    demo.tell.say("Alice approves her own proposal …");
    not_counted(demo, (ALICE, 0), id, "own-approval")?;
    demo.tell.say("Bob approves it …");
    let output = demo.people.approve(&demo.world, (BOB, 0), id)?;
    ensure!(output.status.success(), "Bob's vote: {}", String::from_utf8_lossy(&output.stderr).trim());
    counted(demo, id, BOB)?;
    demo.tell.say("… and once more, with his second key.");
    not_counted(demo, (BOB, 1), id, "second-key-of-one-person")?;
    let view = show(demo, id)?;
    ensure!(view.summary.state == "approving", "one person is no quorum, but the change is {}", view.summary.state);
    for person in WITH_SSH_KEYGEN {
        demo.tell.say(&format!("{person} has nothing but OpenSSH: export, `ssh-keygen -Y sign`, hand in."));
        demo.people.approve_with_ssh_keygen(&demo.world, person, &show(demo, id)?)?;
        counted(demo, id, person)?;
    }
    let view = wait_for(demo, id, "the quorum", |view| ["approved", "shaping"].contains(&view.summary.state.as_str()))?;
    demo.tell.show(&format!("the change is {}: {}", view.summary.state, view.summary.quorum));
    let line =
        |vote: &VoteView| VoteLine { person: vote.person.clone(), counted: vote.counted, reason: vote.reason.clone() };
    demo.summary.votes = view.votes.iter().map(line).collect();
    let people = view.votes.iter().filter(|vote| vote.counted).map(|vote| vote.person.as_str());
    let mut people: Vec<&str> = people.collect();
    people.sort_unstable();
    ensure!(people == [BOB, WITH_SSH_KEYGEN[0], WITH_SSH_KEYGEN[1]], "counted are {people:?}");
    check_with_openssh(demo, id, &view)
}

/// What is kept of the votes holds for OpenSSH too.
fn check_with_openssh(demo: &PolicyDemo, id: &str, view: &ChangeView) -> Result<()> {
    let directory = demo.people.path("votes");
    demo.people.ok(&demo.world, BOB, &["change", "votes", id, "--out", text(&directory)?])?;
    let (file, signature) = (demo.people.path("kept.txt"), demo.people.path("kept.sig"));
    std::fs::write(&file, &view.text)?;
    for vote in &view.votes {
        std::fs::write(&signature, &vote.signature)?;
        let (namespace, allowed) = (approval(&view.namespace), directory.join("allowed_signers"));
        let holds = Signer::verifies(&vote.person, &namespace, &allowed, (&file, &signature))?;
        ensure!(holds, "`ssh-keygen -Y verify` does not take what is kept of {}'s vote", vote.person);
    }
    demo.tell.show(&format!("`ssh-keygen -Y verify` takes all {} signatures that are kept", view.votes.len()));
    Ok(())
}

/// A vote that is taken and does not count, and whoever gave it is told so.
fn not_counted(demo: &mut PolicyDemo, (person, key): (&str, usize), id: &str, kind: &str) -> Result<()> {
    let output = demo.people.approve(&demo.world, (person, key), id)?;
    ensure!(!output.status.success(), "{person} is not told that the vote does not count");
    let view = show(demo, id)?;
    let vote = view.votes.last().with_context(|| format!("the vote of {person} is not there"))?;
    ensure!(vote.person == person && !vote.counted, "a vote of {} counts: {}", vote.person, vote.reason);
    demo.tell.show(&format!("NOT COUNTED: {}", vote.reason));
    demo.summary.refused.push(RefusedLine {
        actor: person.to_owned(),
        kind: kind.to_owned(),
        reason: vote.reason.clone(),
    });
    Ok(())
}

fn counted(demo: &PolicyDemo, id: &str, person: &str) -> Result<()> {
    let view = show(demo, id)?;
    let is_counted = view.votes.iter().any(|vote| vote.person == person && vote.counted);
    ensure!(is_counted, "the vote of {person} does not count: {:?}", view.explained);
    demo.tell.show(&format!("counted; {}", view.summary.quorum));
    Ok(())
}

/// The plan, drawn; the effective time, Unix ms.
pub(super) fn preview(demo: &mut PolicyDemo, id: &str, out: &Path) -> Result<u64> {
    demo.tell.step("The plan, over the forecast of demand");
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let picture = out.join(PICTURE);
    if picture.exists() {
        std::fs::remove_file(&picture).with_context(|| format!("{} of an earlier run stays", picture.display()))?;
    }
    let mut waiting = demo.tell.waiting("plans to be given");
    let preview = demo.world.wait("the plans of the change", PATIENCE, |world| {
        waiting();
        let preview: ChangePreview = demo.people.json(world, ALICE, &["change", "preview", id])?;
        Ok(preview.given.then_some(preview))
    })?;
    demo.people.ok(&demo.world, ALICE, &["change", "preview", id, "--plot", text(&picture)?])?;
    let drawn = std::fs::read_to_string(&picture).with_context(|| format!("{} was not drawn", picture.display()))?;
    ensure!(drawn.contains("<svg"), "{} is no picture", picture.display());
    ensure!(preview.without.is_empty(), "there is no plan for {:?}", preview.without);
    demo.summary.plan = plan_line(&preview)?;
    for course in limits(&preview) {
        let (first, last) = (course.setpoints.first(), course.setpoints.last());
        demo.tell.show(&format!(
            "{}: from {} to {} in {} setpoints; demand by {}",
            course.application,
            course.now.map_or_else(|| "no limit".to_owned(), bytes),
            last.map_or_else(String::new, |last| bytes(last.value)),
            course.setpoints.len(),
            course.method
        ));
        ensure!(first.is_some() && last.is_some_and(|last| last.value == documents::LIMIT_BYTES), "it ends elsewhere");
    }
    demo.tell.show(&format!("drawn: {}", picture.display()));
    Ok(preview.effective_at_ms)
}

/// The courses of limits. What is kept (`memory.low`) is not there on this kind of host.
fn limits(preview: &ChangePreview) -> impl Iterator<Item = &CoursePreview> {
    preview.courses.iter().filter(|course| course.control == ShapedControl::MemoryHigh)
}

fn plan_line(preview: &ChangePreview) -> Result<PlanLine> {
    let course = |course: &CoursePreview| CourseLine {
        application: course.application.clone(),
        target: course.target.to_string(),
        control: course.control.to_string(),
        unit: course.unit.clone(),
        setpoints: course.setpoints.clone(),
    };
    let setpoints: Vec<CourseLine> = limits(preview).map(course).collect();
    for application in super::APPLICATIONS {
        let courses = setpoints.iter().filter(|line| line.application == application.name).count();
        ensure!(courses == 1, "{} has {courses} courses of its limit, not one", application.name);
    }
    let ends = setpoints.iter().all(|line| line.setpoints.last().is_some_and(|at| at.at_ms == preview.effective_at_ms));
    ensure!(ends, "a course does not end at the effective time");
    let start = preview.courses.iter().map(|course| course.starts_at_ms).min().context("there is no course")?;
    Ok(PlanLine { setpoints, start, effective_at: preview.effective_at_ms })
}

/// Alice asks for the policy to be taken out; the change's id.
pub(super) fn propose_revocation(demo: &PolicyDemo) -> Result<String> {
    demo.tell.say(&format!("$ quotary change propose --revoke {POLICY} --in {WAY_BACK}"));
    let arguments = ["change", "propose", "--revoke", POLICY, "--in", WAY_BACK];
    let view: ChangeView = demo.people.json(&demo.world, ALICE, &arguments)?;
    Ok(view.summary.id)
}

/// Everybody else approves.
pub(super) fn agree(demo: &PolicyDemo, id: &str) -> Result<()> {
    let output = demo.people.approve(&demo.world, (BOB, 0), id)?;
    ensure!(output.status.success(), "Bob's vote: {}", String::from_utf8_lossy(&output.stderr).trim());
    for person in WITH_SSH_KEYGEN {
        demo.people.approve_with_ssh_keygen(&demo.world, person, &show(demo, id)?)?;
        counted(demo, id, person)?;
    }
    Ok(())
}

fn show(demo: &PolicyDemo, id: &str) -> Result<ChangeView> {
    demo.people.json(&demo.world, ALICE, &["change", "show", id])
}

/// The change, once it is in a state.
pub(super) fn wait_for_state(demo: &PolicyDemo, id: &str, state: &str) -> Result<ChangeView> {
    wait_for(demo, id, &format!("the change to be {state}"), |view| view.summary.state == state)
}

fn wait_for(demo: &PolicyDemo, id: &str, what: &str, is_so: impl Fn(&ChangeView) -> bool) -> Result<ChangeView> {
    let mut waiting = demo.tell.waiting(what);
    let mut last = None;
    let waited = demo.world.wait(what, PATIENCE + Duration::from_secs(30), |_| {
        waiting();
        let view = show(demo, id)?;
        if is_so(&view) {
            return Ok(Some(view));
        }
        last = Some((view.summary.state, view.summary.why, view.without_plan));
        Ok(None)
    });
    waited.with_context(|| format!("the change was last seen as {last:?}"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use quotary_common::envelope::CgroupPath;
    use quotary_common::id::HostId;
    use quotary_common::plan::{Setpoint, ShapedControl, Target};
    use quotary_common::wire::CoursePreview;

    use super::*;

    fn preview(ends_at_ms: [u64; 2]) -> ChangePreview {
        let course = |(application, at_ms): (&super::super::ramp::Application, u64)| CoursePreview {
            host: HostId::new([1; 32]),
            application: application.name.to_owned(),
            target: Target::Cgroup(CgroupPath::lossy("/q")),
            control: ShapedControl::MemoryHigh,
            unit: "bytes".to_owned(),
            now: Some(application.memory_bytes),
            starts_at_ms: at_ms - 3_000,
            setpoints: vec![Setpoint { at_ms, value: 7 }],
            band: Vec::new(),
            method: "model".to_owned(),
        };
        ChangePreview {
            id: "c-1".to_owned(),
            given: true,
            effective_at_ms: 9_000,
            courses: super::super::APPLICATIONS.iter().zip(ends_at_ms).map(course).collect(),
            without: Vec::new(),
        }
    }

    #[test]
    fn the_plan_in_the_summary_is_that_of_the_preview() {
        let line = plan_line(&preview([9_000, 9_000])).unwrap();
        assert_eq!((line.start, line.effective_at, line.setpoints.len()), (6_000, 9_000, 2));
        assert_eq!((line.setpoints[0].application.as_str(), line.setpoints[0].target.as_str()), ("web", "/q"));
    }

    #[test]
    fn a_plan_that_ends_at_another_time_or_leaves_one_out_is_told() {
        assert!(plan_line(&preview([9_000, 8_000])).unwrap_err().to_string().contains("effective time"));
        let mut one = preview([9_000, 9_000]);
        one.courses.pop();
        assert!(plan_line(&one).unwrap_err().to_string().contains("training has 0 courses of"));
    }
}

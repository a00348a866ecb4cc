//! `quotary-demo policy`: a policy of high criticality changes safely, told step by step.
//!
//! Does: lets four people with keys of `ssh-keygen` decide over one policy that halves what one tenant has and grows what another has; has
//! two real agents move real groups along the plan; measures how exactly they arrive; attacks with the verifier's own key; takes the policy out again.
//! May assume: root, and that groups can be written: nothing is staged where they cannot.
//! Promises: every value is read back from the kernel or from the programs; it fails where something is not as told, and says what.
//! Must never: move a limit itself, or vote for anybody without their key.

mod alignment;
mod deciding;
mod documents;
mod people;
pub(crate) mod ramp;
mod record;
mod squeezing;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Result, ensure};
use quotary_common::envelope::Mode;
use quotary_tests::world::{Application, HostOptions, Options, PATIENCE, Running, World, public_copy};

use self::alignment::{Look, arrives_at_ms, largest_step, off_ms, value_at};
use self::people::People;
use self::ramp::{APPLICATIONS, Group};
use self::record::{ActualLine, Summary};
use crate::closing::gone;
use crate::summary::write;
use crate::tell::{Teller, bytes};

/// A group stands at its target so long after its plan at most, or before, ms; and so long after the effective time whatever its plan says.
const ALIGNMENT_MS_MAX: u64 = 1_000;
/// Between two looks a second apart a limit moves by this part of its way at most: otherwise it is a cliff.
const STEP_PART_MAX: u64 = 4;

/// The demo's state.
pub(super) struct PolicyDemo {
    // Dropped in this order: what runs before the world that it runs in.
    runs: Vec<Running>,
    world: World,
    people: People,
    tell: Teller,
    summary: Summary,
}

impl PolicyDemo {
    /// Makes the world and tells of it.
    pub(super) fn begin(interrupted: Arc<AtomicBool>) -> Result<Self> {
        let mut tell = Teller::new();
        tell.say("How a policy changes: proposed with its impact, approved by a quorum of people with SSH keys, reached along");
        tell.say("plans that carry the quorum's decision, and taken out again. All of it is real; nothing is staged.");
        ensure!(rustix::process::geteuid().is_root(), "limits of two users are moved: run it as root");
        tell.step("A deployment is made, with people who decide");
        let people = People::new()?;
        let mut options = Options::quick(0);
        options.hosts = vec![HostOptions::new("host-a"), HostOptions::new("host-b").behind_road()];
        options.applications =
            APPLICATIONS.iter().map(|one| Application::of_uid(one.name, one.tenant, one.uid)).collect();
        options.authority = Some((people.roster(), documents::RULES.to_owned()));
        options.interrupted = interrupted;
        let mut world = World::new(options)?;
        // Pictures are drawn by the second program, which stands beside the first.
        world.binaries().for_everybody(&world.path("bin"), &["quotary-offline"])?;
        public_copy(&std::env::current_exe()?, &world.path("bin/quotary-demo"))?;
        for person in &documents::PEOPLE {
            tell.show(&format!(
                "{:<6} {:<10} {} key(s) of ssh-keygen",
                person.name,
                person.roles.join(", "),
                person.keys
            ));
        }
        tell.say("`quotary-verifier init --roster … --rules …` put them into leaf 0 of the log, signed by the deployment's root.");
        tell.say("A change of high criticality takes three people, one of them of security; who asks does not count.");
        world.start_verifier()?;
        people.log_in(&world)?;
        Ok(Self { runs: Vec::new(), world, people, tell, summary: Summary::default() })
    }

    /// Everything after that; what was started is gone when this returns, however it returns.
    pub(super) fn run(mut self, out: &Path) -> Result<()> {
        if let Err(error) = self.steps(out) {
            // Whoever interrupts the demo knows why it ends.
            if self.world.check_interrupted().is_ok() {
                eprintln!("{}", self.world.log_tails());
            }
            return Err(error);
        }
        self.take_down(out)
    }

    fn steps(&mut self, out: &Path) -> Result<()> {
        self.join()?;
        self.tell.step("Two tenants run an application each");
        let groups = ramp::start(self)?;
        let id = deciding::propose(self)?;
        deciding::vote(self, &id)?;
        let effective_at_ms = deciding::preview(self, &id, out)?;
        self.ramp(&id, &groups, effective_at_ms)?;
        squeezing::squeeze(self, &groups)?;
        self.revoke(&groups)
    }

    fn join(&mut self) -> Result<()> {
        self.tell.step("Two hosts join");
        for index in 0..self.world.hosts().len() {
            self.world.start_agent(index)?;
        }
        for index in 0..self.world.hosts().len() {
            let view = self.world.wait_for_trust(index, PATIENCE)?;
            let agent = self.world.agent_view(index)?;
            let why_not = agent.why_not.unwrap_or_default();
            ensure!(agent.mode == Mode::Enforce, "limits cannot be written on this machine: {why_not}");
            self.tell.show(&format!("{} is {}", self.world.host(index).name(), view.id));
        }
        Ok(())
    }

    /// Limits move until they stand; how they did is held against the plan.
    fn ramp(&mut self, id: &str, groups: &[Group], effective_at_ms: u64) -> Result<()> {
        self.tell.step("Two agents move real limits, a little each second");
        self.tell.say(
            "Each looked at the decision that its plan carries: text, votes and roster, up to the deployment's root.",
        );
        let looks = ramp::watch(self, groups, effective_at_ms)?;
        for (group, looks) in groups.iter().zip(&looks) {
            let mut courses = self.summary.plan.setpoints.iter();
            let course = courses.find(|course| course.application == group.application.name);
            let arrives_at_ms =
                course.and_then(|course| arrives_at_ms(&course.setpoints)).context("a group has no plan")?;
            let line = judged(group, looks, documents::LIMIT_BYTES, (arrives_at_ms, effective_at_ms))?;
            self.tell.show(&format!(
                "{} of {}: {} became {}, {:+} ms from when the plan arrives; never more than {} a second",
                line.application,
                line.tenant,
                bytes(line.before),
                bytes(line.actual),
                line.aligned_ms,
                bytes(line.largest_step)
            ));
            self.summary.actual.push(line);
        }
        let latest = self.summary.actual.iter().map(|line| line.aligned_ms.unsigned_abs()).max();
        self.summary.alignment_ms = latest.context("no group was looked at")?;
        let view = deciding::wait_for_state(self, id, "in force")?;
        self.tell.show(&format!("the change is {}: {}", view.summary.state, view.summary.quorum));
        Ok(())
    }

    fn revoke(&mut self, groups: &[Group]) -> Result<()> {
        self.tell.step("The policy is revoked");
        self.tell.say("Taking it out is a change like another: the same people, the same plans, the other way.");
        let id = deciding::propose_revocation(self)?;
        deciding::agree(self, &id)?;
        let mut waiting = self.tell.waiting("the limits to be what they were");
        let patience = 4 * PATIENCE;
        self.world.wait("the limits to be what they were", patience, |world| {
            waiting();
            let is_back = |group: &Group| Ok(group.actual(world.kernel())? == group.before);
            let all = groups.iter().map(is_back).collect::<Result<Vec<bool>>>()?;
            Ok(all.into_iter().all(|is_back| is_back).then_some(()))
        })?;
        self.summary.restored = true;
        for group in groups {
            self.tell.show(&format!("{}: {} again", group.application.name, bytes(group.actual(self.world.kernel())?)));
        }
        Ok(())
    }

    fn take_down(self, out: &Path) -> Result<()> {
        let Self { runs, world, people, mut tell, summary } = self;
        tell.step("Everything is gone");
        for run in runs {
            run.stop(PATIENCE)?;
        }
        drop(people);
        gone(world, &tell)?;
        let path = write(&summary, out)?;
        tell.end(&format!("Done in {:.0} s. For programs: {}", tell.elapsed().as_secs_f64(), path.display()));
        Ok(())
    }
}

/// How a group met its plan, which arrives at the target at the effective time or before.
///
/// # Errors
/// When it does not stand at its target from the effective second on, came there at another time than its plan, or moved in a cliff.
fn judged(
    group: &Group,
    looks: &[Look],
    target: u64,
    (arrives_at_ms, effective_at_ms): (u64, u64),
) -> Result<ActualLine> {
    let name = group.application.name;
    let actual =
        value_at(looks, effective_at_ms + ALIGNMENT_MS_MAX).with_context(|| format!("nobody looked at {name}"))?;
    ensure!(actual == target, "a second after the effective time {name} has {actual} bytes, and should have {target}");
    let aligned_ms = off_ms(looks, target, (arrives_at_ms, effective_at_ms));
    let aligned_ms =
        aligned_ms.with_context(|| format!("{name} does not stay at {target} bytes, or was there before"))?;
    let is_exact = aligned_ms.unsigned_abs() <= ALIGNMENT_MS_MAX;
    ensure!(is_exact, "{name} came to its target {aligned_ms} ms after its plan");
    let (largest_step, way) = (largest_step(looks, 1_000), group.before.abs_diff(target));
    ensure!(
        largest_step <= way / STEP_PART_MAX,
        "{name} went {largest_step} of its {way} bytes within a second: a cliff"
    );
    Ok(ActualLine {
        application: name.to_owned(),
        tenant: group.application.tenant.to_owned(),
        cgroup: group.cgroup.clone(),
        control: group.control.to_owned(),
        before: group.before,
        target,
        actual,
        aligned_ms,
        largest_step,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// From 200 to 100 in a hundred seconds, which end at 200,000 ms; seen every tenth of a second.
    fn looks(value: impl Fn(u64) -> u64) -> Vec<Look> {
        (1_000..2_040).map(|tick| Look { at_ms: tick * 100, value: value(tick * 100) }).collect()
    }

    fn group() -> Group {
        Group { application: APPLICATIONS[0], cgroup: "/q".to_owned(), control: "memory.high", before: 200 }
    }

    fn line(at_ms: u64) -> u64 {
        200 - (at_ms.clamp(100_000, 200_000) - 100_000) / 1_000
    }

    #[test]
    fn a_ramp_that_arrives_in_the_second_is_as_it_should_be() {
        // It moves once a second, and comes up to a second late therefore.
        let late = judged(&group(), &looks(|at_ms| line(at_ms.saturating_sub(600))), 100, (200_000, 200_000)).unwrap();
        assert_eq!((late.actual, late.aligned_ms, late.largest_step), (100, 600, 1));
        let early_plan = judged(&group(), &looks(|at_ms| line(at_ms + 9_400)), 100, (190_000, 200_000)).unwrap();
        assert_eq!(early_plan.aligned_ms, 0, "nothing was left to do");
    }

    #[test]
    fn one_that_is_late_early_elsewhere_or_a_cliff_fails_and_says_why() {
        let why = |value: &dyn Fn(u64) -> u64| {
            judged(&group(), &looks(value), 100, (200_000, 200_000)).unwrap_err().to_string()
        };
        assert!(
            why(&|at_ms| line(at_ms.saturating_sub(2_000))).contains("a second after the effective time web has 101")
        );
        assert!(why(&|at_ms| line(at_ms + 5_000)).contains("-5100 ms after its plan"));
        assert!(why(&|at_ms| line(at_ms).max(101)).contains("should have 100"));
        assert!(why(&|at_ms| if at_ms < 200_000 { 200 } else { 100 }).contains("a cliff"));
        assert!(why(&|at_ms| if at_ms > 203_000 { 99 } else { line(at_ms) }).contains("does not stay"));
    }
}

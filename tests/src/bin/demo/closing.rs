//! The end: grants given back, the log audited, everything gone.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use quotary_tests::world::{PATIENCE, World};
use serde::Deserialize;

use crate::show::Demo;
use crate::summary::{AuditLine, write};
use crate::tell::Teller;

impl Demo {
    pub(crate) fn give_back(&mut self) -> Result<()> {
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

    pub(crate) fn audit(&mut self) -> Result<()> {
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

    pub(crate) fn take_down(self, out: &Path) -> Result<()> {
        let Self { world, mut tell, summary, .. } = self;
        tell.step("Everything is gone");
        gone(world, &tell)?;
        let path = write(&summary, out)?;
        tell.end(&format!("Done in {:.0} s. For programs: {}", tell.elapsed().as_secs_f64(), path.display()));
        Ok(())
    }
}

/// Takes the world down, and fails when something of it is left.
pub(crate) fn gone(world: World, tell: &Teller) -> Result<()> {
    let left = world.take_down()?;
    ensure!(left.is_empty(), "something was left behind:\n{}", left.join("\n"));
    tell.show("no process, no cgroup, no file of this demo is left");
    Ok(())
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

/// How many groups there are in a group.
fn groups_below(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).count()
}

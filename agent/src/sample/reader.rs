//! Takes one sample of a host and its applications.

use std::path::Path;
use std::sync::Arc;

use quotary_common::limits::APPLICATIONS_MAX;

use super::application::{Application, ApplicationSample};
use super::cgroup::CgroupReader;
use super::discover::Services;
use super::error::SampleError;
use super::file::{Faults, Files};
use super::filesystem::Filesystems;
use super::host::{HostReader, HostSample};
use super::tree::CgroupTree;

/// What the kernel counted up to one instant.
#[derive(Debug)]
pub struct Sample {
    /// `CLOCK_BOOTTIME` as the caller gave it, ms.
    pub at_ms: u64,
    /// The host's counters.
    pub host: HostSample,
    /// The applications' counters, by cgroup path, each path once.
    pub applications: Vec<ApplicationSample>,
    /// Applications that were not read since an envelope cannot carry them.
    pub applications_left_out: u64,
    /// What could not be used, at most 32; each cost its own part only.
    pub faults: Vec<SampleError>,
}

/// Reads samples under a root path; keeps its path, its buffer and what changes slowly.
#[derive(Debug)]
pub struct Reader {
    tree: CgroupTree,
    host: HostReader,
    files: Files,
    services: Services,
    /// Only of the running host: `sysinfo` knows no other root.
    filesystems: Option<Filesystems>,
    /// Who was sampled last, by cgroup path: names are not copied again each second.
    roster: Vec<Arc<Application>>,
}

impl Reader {
    /// A reader of the host whose `/proc` and `/sys` stand under `root`: `/` in life, a fake tree in tests.
    pub fn new(root: &Path) -> Self {
        Self {
            tree: CgroupTree::detect(root),
            host: HostReader::new(root),
            files: Files::default(),
            services: Services::default(),
            filesystems: is_running_host(root).then(Filesystems::default),
            roster: Vec::new(),
        }
    }

    /// The cgroup tree that was found.
    pub fn tree(&self) -> &CgroupTree {
        &self.tree
    }

    /// Reads everything once: the given applications first, then the system's services as far as an envelope
    /// carries them. `now_boottime_ms` is `CLOCK_BOOTTIME`; nothing here reads a clock. Never fails as a whole.
    pub fn sample(&mut self, now_boottime_ms: u64, applications: &[Application]) -> Sample {
        let mut faults = Faults::default();
        let mut host = self.host.read(&mut self.files, &mut faults);
        host.filesystems = self.filesystems.as_mut().and_then(|filesystems| filesystems.read(now_boottime_ms));
        let applications_left_out = self.call_roster(now_boottime_ms, applications);
        let mut cgroups = CgroupReader {
            tree: &self.tree,
            files: &mut self.files,
            faults: &mut faults,
            disks: host.disks.as_deref(),
        };
        let applications = self.roster.iter().filter_map(|application| cgroups.read(application)).collect();
        Sample { at_ms: now_boottime_ms, host, applications, applications_left_out, faults: faults.0 }
    }

    /// Sets who is sampled: at most [`APPLICATIONS_MAX`], each path once. Returns how many were left out.
    fn call_roster(&mut self, now_ms: u64, given: &[Application]) -> u64 {
        let last = std::mem::take(&mut self.roster);
        let mut roster: Vec<Arc<Application>> = given.iter().map(|application| known(application, &last)).collect();
        // A stable sort keeps the first of two that name one path.
        roster.sort_by(|a, b| a.cgroup.cmp(&b.cgroup));
        roster.dedup_by(|later, first| later.cgroup == first.cgroup);
        let mut left_out = roster.len().saturating_sub(APPLICATIONS_MAX);
        roster.truncate(APPLICATIONS_MAX);
        let given_count = roster.len();
        for service in self.services.find(&self.tree, now_ms) {
            let is_given = roster
                .get(..given_count)
                .is_some_and(|given| given.binary_search_by(|other| other.cgroup.cmp(&service.cgroup)).is_ok());
            if is_given {
                continue;
            }
            if roster.len() < APPLICATIONS_MAX {
                roster.push(Arc::clone(service));
            } else {
                left_out += 1;
            }
        }
        roster.sort_by(|a, b| a.cgroup.cmp(&b.cgroup));
        self.roster = roster;
        left_out as u64
    }
}

/// The same application as last time, or a copy.
fn known(application: &Application, last: &[Arc<Application>]) -> Arc<Application> {
    let found = last.binary_search_by(|other| other.cgroup.cmp(&application.cgroup)).ok().and_then(|at| last.get(at));
    match found {
        Some(same) if **same == *application => Arc::clone(same),
        _ => Arc::new(application.clone()),
    }
}

/// Whether `root` is the host that runs this program.
pub(super) fn is_running_host(root: &Path) -> bool {
    root == Path::new("/")
}

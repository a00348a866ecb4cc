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

/// A service is read in every so manieth sample: it runs whether Quotary asks or not, a host has a hundred of them,
/// and each costs eight files. Given applications are read in every sample.
const SERVICE_TURNS: usize = 5;

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
    roster: Vec<Seat>,
    /// What was read of services, by cgroup path, until it is their turn again.
    resting: Vec<ApplicationSample>,
    turn: usize,
}

/// One application to sample.
#[derive(Debug)]
struct Seat {
    application: Arc<Application>,
    /// Of a service: at which turn it is read.
    turn: Option<usize>,
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
            resting: Vec::new(),
            turn: 0,
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
            now_ms: now_boottime_ms,
            disks: host.disks.as_deref(),
        };
        let (mut applications, mut resting) = (Vec::with_capacity(self.roster.len()), Vec::new());
        for seat in &self.roster {
            let rested =
                seat.turn.filter(|turn| *turn != self.turn).and_then(|_| find(&self.resting, &seat.application));
            let Some(one) = rested.cloned().or_else(|| cgroups.read(&seat.application)) else { continue };
            if seat.turn.is_some() {
                resting.push(one.clone());
            }
            applications.push(one);
        }
        self.resting = resting;
        self.turn = (self.turn + 1) % SERVICE_TURNS;
        Sample { at_ms: now_boottime_ms, host, applications, applications_left_out, faults: faults.0 }
    }

    /// Sets who is sampled: at most [`APPLICATIONS_MAX`], each path once. Returns how many were left out.
    fn call_roster(&mut self, now_ms: u64, given: &[Application]) -> u64 {
        let last = std::mem::take(&mut self.roster);
        let seat = |application| Seat { application: known(application, &last), turn: None };
        let mut roster: Vec<Seat> = given.iter().map(seat).collect();
        // A stable sort keeps the first of two that name one path.
        roster.sort_by(|a, b| a.application.cgroup.cmp(&b.application.cgroup));
        roster.dedup_by(|later, first| later.application.cgroup == first.application.cgroup);
        let mut left_out = roster.len().saturating_sub(APPLICATIONS_MAX);
        roster.truncate(APPLICATIONS_MAX);
        let given_count = roster.len();
        for (at, service) in self.services.find(&self.tree, now_ms).iter().enumerate() {
            if roster.get(..given_count).is_some_and(|given| find_seat(given, service).is_some()) {
                continue;
            }
            if roster.len() < APPLICATIONS_MAX {
                roster.push(Seat { application: Arc::clone(service), turn: Some(at % SERVICE_TURNS) });
            } else {
                left_out += 1;
            }
        }
        roster.sort_by(|a, b| a.application.cgroup.cmp(&b.application.cgroup));
        self.roster = roster;
        left_out as u64
    }
}

/// The same application as last time, or a copy.
fn known(application: &Application, last: &[Seat]) -> Arc<Application> {
    match find_seat(last, application) {
        Some(seat) if *seat.application == *application => Arc::clone(&seat.application),
        _ => Arc::new(application.clone()),
    }
}

/// The application's seat in a roster by path.
fn find_seat<'a>(roster: &'a [Seat], application: &Application) -> Option<&'a Seat> {
    let at = roster.binary_search_by(|seat| seat.application.cgroup.cmp(&application.cgroup)).ok()?;
    roster.get(at)
}

/// The application's last sample among samples by path.
fn find<'a>(samples: &'a [ApplicationSample], application: &Application) -> Option<&'a ApplicationSample> {
    let at = samples.binary_search_by(|sample| sample.application.cgroup.cmp(&application.cgroup)).ok()?;
    samples.get(at)
}

/// Whether `root` is the host that runs this program.
pub(super) fn is_running_host(root: &Path) -> bool {
    root == Path::new("/")
}

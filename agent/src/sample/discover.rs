//! Finds the system's services: the units that systemd runs directly under `system.slice`.

use std::path::Path;
use std::sync::Arc;

use quotary_common::envelope::{CgroupPath, Name};

use super::application::Application;
use super::tree::CgroupTree;

/// How long a list of services is used again, ms.
const REFRESH_MS: u64 = 10_000;
/// Most names that are looked at; a slice with more is not a systemd's.
const NAMES_MAX: usize = 4096;

/// The services found last.
#[derive(Debug, Default)]
pub(super) struct Services {
    read_at_ms: Option<u64>,
    found: Vec<Arc<Application>>,
}

impl Services {
    /// The services by name; looked for anew when the list is older than ten seconds.
    pub(super) fn find(&mut self, tree: &CgroupTree, now_ms: u64) -> &[Arc<Application>] {
        let is_fresh =
            self.read_at_ms.is_some_and(|at_ms| now_ms.checked_sub(at_ms).is_some_and(|age| age < REFRESH_MS));
        if !is_fresh {
            self.read_at_ms = Some(now_ms);
            let names = tree.unit_trees().find_map(unit_names).unwrap_or_default();
            let known = std::mem::take(&mut self.found);
            self.found = names.iter().filter_map(|name| service(name, &known)).collect();
        }
        &self.found
    }
}

fn unit_names(base: &Path) -> Option<Vec<String>> {
    let entries = std::fs::read_dir(base.join("system.slice")).ok()?;
    let mut names: Vec<String> = entries
        .take(NAMES_MAX)
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".service") || name.ends_with(".scope"))
        .collect();
    names.sort_unstable();
    Some(names)
}

/// `None` if the name is longer than a form may carry.
fn service(name: &str, known: &[Arc<Application>]) -> Option<Arc<Application>> {
    let unit = Name::new(name)?;
    if let Some(application) = known.iter().find(|application| application.unit.as_ref() == Some(&unit)) {
        return Some(Arc::clone(application));
    }
    let cgroup = CgroupPath::new(&format!("/system.slice/{name}"))?;
    Some(Arc::new(Application { cgroup, grant: None, uid: None, unit: Some(unit) }))
}

//! What no plan may do on this host, whoever signed it.
//!
//! Does: says which rule, or which protected unit, keeps a target from being moved.
//! May assume: where systemd owns the tree, slices hold slices and units, and what is below a unit is the unit's own.
//! Promises: what is configured is added to a fixed core; what cannot be told counts as protected.
//! Must never: write; go by what a unit calls the groups that were delegated to it.

use std::io::ErrorKind;
use std::path::Path;

use quotary_common::plan::Target;

use crate::enforce::group::GroupPath;

/// Units that no plan moves, whatever the configuration says: what keeps the host reachable, and what must not wait. The
/// configuration adds to them.
///
/// Containers belong to their managers, so that their scopes are left alone. Scopes of grants (`quotary-….scope`) are not among
/// them: plans may move them, one by one, and not all that people were granted at once by the slice that they stand in.
pub const PROTECTED: [&str; 23] = [
    "-.slice",
    "init.scope",
    "system.slice",
    "user.slice",
    "user-0.slice",
    "quotary.slice",
    "quotary-*.service",
    "ssh.service",
    "sshd.service",
    "ssh@*.service",
    "sshd@*.service",
    "getty@*.service",
    "serial-getty@*.service",
    "systemd-*.service",
    "dbus.service",
    "dbus-broker.service",
    "NetworkManager.service",
    "networking.service",
    "kubepods*",
    "machine-*",
    "machine.slice",
    "docker-*.scope",
    "libpod-*.scope",
];
/// Slices in each other that are looked into; the name of a slice says all that it is in, so that there are never many.
const DEPTH_MAX: usize = 32;
/// Units and slices that are looked at below one slice.
const NAMES_MAX: usize = 16_384;
/// Where cgroups stand below the root: version 2, and systemd's own hierarchy beside version 1.
const TREES: [&str; 3] = ["sys/fs/cgroup", "sys/fs/cgroup/systemd", "sys/fs/cgroup/unified"];

/// The local rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    protected: Vec<String>,
}

impl Default for Local {
    fn default() -> Self {
        Self::protecting(Vec::new())
    }
}

impl Local {
    /// [`PROTECTED`] and these units are protected: names, in which one `*` stands for any text.
    pub fn protecting(more: Vec<String>) -> Self {
        let core = PROTECTED.iter().map(|&name| name.to_owned());
        Self { protected: core.chain(more).collect() }
    }

    /// Which rule keeps a target from being moved, by its name alone: see [`Local::protects_below`].
    pub fn protects(&self, target: &Target) -> Option<&str> {
        let Target::Unit(unit) = target else { return None };
        self.rule_of(unit.as_str())
    }

    /// Which protected unit a target's `cgroup` is (by whatever other name it was asked for) or contains, in the tree below
    /// `root`; the process's own cgroup counts as protected. `None`: neither.
    ///
    /// Of a slice the units in it and in its slices are looked at; not what is below a unit, which the unit names as it likes. At
    /// most 32 slices in each other and 16 384 names: beyond, or where a slice cannot be read, the answer says that instead of a
    /// unit, since what is not known must not be moved.
    pub fn protects_below(&self, root: &Path, cgroup: &GroupPath) -> Option<String> {
        let name = unit_of(last_part(cgroup.as_str()));
        if self.rule_of(name).is_some() {
            return Some(name.to_owned());
        }
        let own = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        if let Some(own) = own_within(&own, cgroup) {
            return Some(own.to_owned());
        }
        match names_below(root, cgroup) {
            Ok(names) => self.protected_among(names.iter().map(String::as_str)).map(str::to_owned),
            Err(why) => Some(why),
        }
    }

    /// The first protected unit among names.
    fn protected_among<'n>(&self, mut names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
        names.find(|name| self.rule_of(name).is_some())
    }

    fn rule_of(&self, unit: &str) -> Option<&str> {
        self.protected.iter().map(String::as_str).find(|pattern| is_like(unit, pattern))
    }
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// The unit that a directory stands for: names that the kernel could take for its own files have a `_` before them (systemd,
/// `cg_escape`).
fn unit_of(directory: &str) -> &str {
    directory.strip_prefix('_').unwrap_or(directory)
}

/// The last part of the process's own cgroup, if that is `cgroup` or below it. `text` is `/proc/self/cgroup` (cgroups(7)).
fn own_within<'t>(text: &'t str, cgroup: &GroupPath) -> Option<&'t str> {
    let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let within =
        |path: &&str| path.strip_prefix(cgroup.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    paths.filter(within).map(last_part).next()
}

/// The names of units and slices below a slice; none where it is no slice, or not there.
///
/// # Errors
/// A sentence, where there are more than can be looked at, or one cannot be read.
fn names_below(root: &Path, cgroup: &GroupPath) -> Result<Vec<String>, String> {
    let is_slice = |name: &str| name.ends_with(".slice");
    let mut names = Vec::new();
    if !is_slice(cgroup.as_str()) {
        return Ok(names);
    }
    let mut due: Vec<_> = TREES.iter().map(|tree| (root.join(tree).join(cgroup.relative()), 1)).collect();
    while let Some((slice, depth)) = due.pop() {
        let unread = |error: std::io::Error| format!("{} cannot be read: {error}", slice.display());
        let entries = match std::fs::read_dir(&slice) {
            Ok(entries) => entries,
            // It is not in this tree, or gone meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(unread(error)),
        };
        for entry in entries {
            let entry = entry.map_err(unread)?;
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            if names.len() >= NAMES_MAX || depth > DEPTH_MAX {
                return Err(format!("more below {cgroup} than is looked at"));
            }
            if is_slice(&name) {
                due.push((entry.path(), depth + 1));
            }
            names.push(unit_of(&name).to_owned());
        }
    }
    Ok(names)
}

/// Whether a name is a pattern's, in which the first `*` stands for any text.
fn is_like(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((head, tail)) => name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use quotary_common::envelope::Name;

    use super::*;

    #[test]
    fn what_keeps_the_host_reachable_is_protected_and_services_are_not() {
        let local = Local::default();
        let is = |unit: &str| local.protects(&Target::Unit(Name::lossy(unit))).is_some();
        for unit in [
            "init.scope",
            "-.slice",
            "ssh.service",
            "systemd-journald.service",
            "quotary-agent.service",
            "kubepods-burstable.slice",
            "docker-0f3a.scope",
            "ssh@1-10.0.0.1:22.service",
            "sshd@1-10.0.0.1:22.service",
            "getty@tty1.service",
            "serial-getty@ttyS0.service",
            "quotary-agent-egress@1.service",
            "user.slice",
            "quotary.slice",
        ] {
            assert!(is(unit), "{unit}");
        }
        for unit in [
            "web.service",
            "batch.slice",
            "systemd.service",
            "user-1000.slice",
            "my-docker-x.scope",
            "quotary-abc.scope",
        ] {
            assert!(!is(unit), "{unit}");
        }
    }

    #[test]
    fn a_pattern_needs_both_of_its_ends() {
        assert!(is_like("ab.service", "a*b.service") && is_like("axxb.service", "a*b.service"));
        assert!(!is_like("a.service", "a.ser*.service") && !is_like("b.service", "a*"));
    }

    #[test]
    fn what_is_configured_is_added_and_takes_nothing_away() {
        let unit = |name: &str| Target::Unit(Name::lossy(name));
        assert!(Local::protecting(vec![]).protects(&unit("init.scope")).is_some());
        let local = Local::protecting(vec!["db-*.service".to_owned()]);
        assert!(local.protects(&unit("ssh.service")).is_some() && local.protects(&unit("db-1.service")).is_some());
        assert!(Local::default().protects(&unit("db-1.service")).is_none());
    }

    /// A tree with these cgroups.
    fn tree(groups: &[&str]) -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        for group in groups {
            std::fs::create_dir_all(temp.path().join("sys/fs/cgroup").join(group)).unwrap();
        }
        temp
    }

    fn below(temp: &tempfile::TempDir, cgroup: &str) -> Option<String> {
        Local::protecting(vec!["db.service".to_owned()]).protects_below(temp.path(), &GroupPath::parse(cgroup).unwrap())
    }

    #[test]
    fn a_slice_that_contains_a_protected_unit_is_protected_however_deep() {
        let temp = tree(&[
            "system.slice/system-ssh.slice/ssh@1.service",
            "safe.slice/safe-a.slice/safe-a-b.slice/_dbus.service",
            "data.slice/db.service",
            "batch.slice/batch-x.slice/web.service",
        ]);
        assert_eq!(below(&temp, "/system.slice/system-ssh.slice").as_deref(), Some("ssh@1.service"));
        assert_eq!(below(&temp, "/safe.slice").as_deref(), Some("dbus.service"));
        assert_eq!(below(&temp, "/data.slice").as_deref(), Some("db.service"));
        assert_eq!(below(&temp, "/batch.slice"), None);
        assert_eq!(below(&temp, "/gone.slice"), None);
    }

    #[test]
    fn a_protected_unit_is_known_by_its_cgroup_under_another_name() {
        // A plan on an alias (dbus-org.freedesktop.login1.service) finds the cgroup of the unit.
        let temp = tree(&["system.slice/systemd-logind.service"]);
        assert_eq!(below(&temp, "/system.slice/systemd-logind.service").as_deref(), Some("systemd-logind.service"));
    }

    #[test]
    fn names_below_a_unit_are_the_units_own_and_protect_nothing() {
        let temp = tree(&["batch.slice/job.service/ssh.service", "batch.slice/job.service/x.slice/init.scope"]);
        assert_eq!(below(&temp, "/batch.slice"), None);
        assert_eq!(below(&temp, "/batch.slice/job.service"), None);
    }

    #[test]
    fn on_version_1_the_tree_of_systemd_is_looked_at() {
        let temp = tree(&["systemd/batch.slice/dbus.service"]);
        assert_eq!(below(&temp, "/batch.slice").as_deref(), Some("dbus.service"));
    }

    #[test]
    fn the_agents_own_cgroup_and_all_above_it_are_protected() {
        let temp = tree(&["ops.slice/by-hand.scope", "ops.slice/by-hand.scope-2"]);
        std::fs::create_dir_all(temp.path().join("proc/self")).unwrap();
        std::fs::write(temp.path().join("proc/self/cgroup"), "1:name=systemd:/\n0::/ops.slice/by-hand.scope\n")
            .unwrap();
        assert_eq!(below(&temp, "/ops.slice").as_deref(), Some("by-hand.scope"));
        assert_eq!(below(&temp, "/ops.slice/by-hand.scope").as_deref(), Some("by-hand.scope"));
        assert_eq!(below(&temp, "/ops.slice/by-hand.scope-2"), None);
    }

    #[test]
    fn a_tree_too_deep_or_too_wide_to_look_at_is_protected() {
        let deep = format!("a.slice/{}", ["b.slice"; DEPTH_MAX + 2].join("/"));
        assert!(below(&tree(&[&deep]), "/a.slice").unwrap().contains("more below"));
        let temp = tree(&["w.slice"]);
        let wide = temp.path().join("sys/fs/cgroup/w.slice");
        (0..NAMES_MAX).for_each(|n| std::fs::create_dir(wide.join(format!("{n}.service"))).unwrap());
        assert_eq!(below(&temp, "/w.slice"), None);
        std::fs::create_dir(wide.join("one-more.service")).unwrap();
        assert!(below(&temp, "/w.slice").unwrap().contains("more below"));
    }
}

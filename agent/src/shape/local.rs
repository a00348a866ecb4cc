//! What no plan may do on this host, whoever signed it. Pure.

use quotary_common::plan::Target;

/// Units that no plan moves, unless the configuration names others: what keeps the host reachable, and what must not wait.
///
/// Containers belong to their managers, so that their scopes are left alone unless the configuration says otherwise.
pub const PROTECTED: [&str; 18] = [
    "-.slice",
    "init.scope",
    "system.slice",
    "quotary-agent.service",
    "quotary-verifier.service",
    "ssh.service",
    "sshd.service",
    "ssh@*.service",
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

/// The local rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    protected: Vec<String>,
}

impl Default for Local {
    fn default() -> Self {
        Self { protected: PROTECTED.iter().map(|&name| name.to_owned()).collect() }
    }
}

impl Local {
    /// These units are protected: names, in which one `*` stands for any text.
    pub fn protecting(protected: Vec<String>) -> Self {
        Self { protected }
    }

    /// Which rule keeps a target from being moved.
    pub fn protects(&self, target: &Target) -> Option<&str> {
        let Target::Unit(unit) = target else { return None };
        self.protected.iter().map(String::as_str).find(|pattern| is_like(unit.as_str(), pattern))
    }
}

/// Whether a name is a pattern's, in which the first `*` stands for any text.
fn is_like(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((head, tail)) => name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail),
    }
}

#[cfg(test)]
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
        ] {
            assert!(is(unit), "{unit}");
        }
        for unit in ["web.service", "batch.slice", "systemd.service", "user.slice", "my-docker-x.scope"] {
            assert!(!is(unit), "{unit}");
        }
    }

    #[test]
    fn a_pattern_needs_both_of_its_ends() {
        assert!(is_like("ab.service", "a*b.service") && is_like("axxb.service", "a*b.service"));
        assert!(!is_like("a.service", "a.ser*.service") && !is_like("b.service", "a*"));
        assert!(Local::protecting(vec![]).protects(&Target::Unit(Name::lossy("init.scope"))).is_none());
    }
}

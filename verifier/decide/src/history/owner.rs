//! Whose a cgroup is, by the verifier's mapping.

use quotary_common::envelope::Name;
use quotary_common::id::{GrantId, HostId};
use quotary_common::units::Resources;

use super::History;

/// Whose a cgroup is, as of the newest evidence of its host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owner {
    /// The application, by grant or by rule.
    pub application: Option<Name>,
    /// Who pays for it, by grant or by rule.
    pub tenant: Option<Name>,
    /// What its grant's request declared; nothing without a grant.
    pub declared: Resources,
}

impl History {
    /// Whose a cgroup is, if it has series.
    pub fn owner_of(&self, host: &HostId, cgroup: &str) -> Option<&Owner> {
        Some(&self.hosts.get(host)?.groups.get(cgroup)?.owner)
    }

    /// The grant that a cgroup last ran under.
    pub fn grant_of(&self, host: &HostId, cgroup: &str) -> Option<GrantId> {
        self.hosts.get(host)?.groups.get(cgroup)?.grant
    }
}

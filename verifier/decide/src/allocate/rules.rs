//! Rules: which application and tenant the kernel's facts stand for, and what those may have.

use std::collections::BTreeMap;

use quotary_common::envelope::{Name, PendingRequest};
use quotary_common::units::{Class, ResourceKind, Resources};

/// Which requests a rule is for: every part that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    /// The peer's uid.
    pub uid: Option<u32>,
    /// The systemd unit of its cgroup.
    pub unit: Option<String>,
    /// What its cgroup path starts with.
    pub cgroup_prefix: Option<String>,
}

impl Selector {
    fn holds(&self, cgroup: &str, of_unit: Option<&Name>, of_uid: Option<u32>) -> bool {
        self.uid.is_none_or(|uid| Some(uid) == of_uid)
            && self.unit.as_deref().is_none_or(|unit| of_unit.is_some_and(|u| u.as_str() == unit))
            && self.cgroup_prefix.as_deref().is_none_or(|prefix| under(prefix, cgroup))
    }

    /// How specific it is: a unit before a cgroup before a uid before nothing.
    pub fn weight(&self) -> (bool, usize, bool) {
        (self.unit.is_some(), self.cgroup_prefix.as_deref().map_or(0, str::len), self.uid.is_some())
    }
}

/// Whether `path` is `prefix` or below it: `/a` is not above `/ab`.
fn under(prefix: &str, path: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The most that may be held at once; absent means no bound but capacity.
pub type Quota = Resources;

/// One application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub application: Name,
    /// Who pays.
    pub tenant: Name,
    /// Whom it is for.
    pub selector: Selector,
    /// The strongest class that it may ask for.
    pub class_best: Class,
    /// What it may hold over all hosts.
    pub quota: Quota,
}

/// Application and tenant of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The application.
    pub application: Name,
    /// The tenant.
    pub tenant: Name,
    /// The strongest class that it may ask for.
    pub class_best: Class,
    /// What the application may hold.
    pub quota: Quota,
}

/// All rules.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    tenant_quotas: BTreeMap<Name, Quota>,
    overcommit_percent: u64,
}

impl Rules {
    /// Rules; the most specific one that holds wins, then the earlier one. `overcommit_percent` is at least 1.
    pub fn new(mut rules: Vec<Rule>, tenant_quotas: BTreeMap<Name, Quota>, overcommit_percent: u64) -> Self {
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.selector.weight()));
        Self { rules, tenant_quotas, overcommit_percent: overcommit_percent.max(1) }
    }

    /// What may be granted of a host's inventory, in percent.
    pub const fn overcommit_percent(&self) -> u64 {
        self.overcommit_percent
    }

    /// All rules, the most specific first.
    pub fn all(&self) -> &[Rule] {
        &self.rules
    }

    /// Whose request it is.
    pub fn identify(&self, request: &PendingRequest) -> Option<Identity> {
        let holds =
            |rule: &&Rule| rule.selector.holds(request.cgroup.as_str(), request.unit.as_ref(), Some(request.uid));
        self.rules.iter().find(holds).map(|rule| Identity {
            application: rule.application.clone(),
            tenant: rule.tenant.clone(),
            class_best: rule.class_best,
            quota: rule.quota,
        })
    }

    /// The rule for what runs in a cgroup, by what the kernel says of it; none where only a rule for everything fits.
    pub fn owner_of(&self, cgroup: &str, unit: Option<&Name>, uid: Option<u32>) -> Option<&Rule> {
        let named = self.rules.iter().filter(|rule| rule.selector != Selector::default());
        named.into_iter().find(|rule| rule.selector.holds(cgroup, unit, uid))
    }

    /// What an application may hold over all hosts: the sum has one bound, whichever of its rules was used.
    pub fn application_quota(&self, application: &Name, kind: ResourceKind) -> Option<u64> {
        self.rules.iter().filter(|rule| rule.application == *application).filter_map(|rule| rule.quota.get(kind)).min()
    }

    /// What a tenant may hold over all hosts.
    pub fn tenant_quota(&self, tenant: &Name, kind: ResourceKind) -> Option<u64> {
        self.tenant_quotas.get(tenant).and_then(|quota| quota.get(kind))
    }

    /// What may be granted of a host's `capacity`.
    pub fn grantable(&self, capacity: u64) -> u64 {
        u64::try_from(u128::from(capacity) * u128::from(self.overcommit_percent) / 100).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::allocate::decide::tests::request;

    fn rule(application: &str, selector: Selector) -> Rule {
        Rule {
            application: Name::new(application).unwrap(),
            tenant: Name::new("t").unwrap(),
            selector,
            class_best: Class::Guaranteed,
            quota: Quota::default(),
        }
    }

    #[test]
    fn the_most_specific_rule_wins_and_a_prefix_ends_at_a_slash() {
        let rules = Rules::new(
            vec![
                rule("any", Selector::default()),
                rule("uid", Selector { uid: Some(7), ..Selector::default() }),
                rule("web", Selector { cgroup_prefix: Some("/web".into()), ..Selector::default() }),
            ],
            BTreeMap::new(),
            100,
        );
        let named = |uid, cgroup: &str| {
            let mut request = request(1, 100);
            request.uid = uid;
            request.cgroup = quotary_common::envelope::CgroupPath::new(cgroup).unwrap();
            rules.identify(&request).unwrap().application.as_str().to_owned()
        };
        assert_eq!(named(7, "/web/a"), "web");
        assert_eq!(named(7, "/webby"), "uid");
        assert_eq!(named(8, "/other"), "any");
        assert!(Rules::default().identify(&request(1, 1)).is_none());
    }
}

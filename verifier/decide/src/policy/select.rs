//! Which applications on which hosts a policy is for, and which of two policies is the more specific.

use std::collections::{BTreeMap, BTreeSet};

use quotary_common::envelope::Name;
use quotary_common::id::HostId;
use quotary_common::units::Resources;
use serde::{Serialize, Serializer};

/// What a host is to selectors: what the operator's inventory and the appraisal say, nothing that the host claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// The host.
    pub id: HostId,
    /// Its labels.
    pub labels: BTreeMap<Name, Name>,
    /// The pool that it belongs to.
    pub pool: Option<Name>,
    /// The trust zones whose requirements it meets now: its own and all below it.
    pub zones: BTreeSet<Name>,
    /// Its inventory.
    pub capacity: Resources,
    short: String,
}

impl HostFacts {
    /// A host without labels, pool or zone.
    pub fn new(id: HostId, capacity: Resources) -> Self {
        let short = id.to_string();
        Self { id, labels: BTreeMap::new(), pool: None, zones: BTreeSet::new(), capacity, short }
    }
}

/// An application on a host.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The application, by the verifier's rule.
    pub application: &'a Name,
    /// Who pays for it.
    pub tenant: &'a Name,
    /// Where it runs.
    pub host: &'a HostFacts,
}

/// Whom a policy is for: every part that is given must hold; none given: everything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
pub struct Selector {
    /// The application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<Name>,
    /// The host, by its id's short form (`h-` and 26 characters).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Name>,
    /// Labels that the host must have, all of them; `KEY=VALUE` each in a document.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "as_pairs")]
    pub labels: BTreeMap<Name, Name>,
    /// The pool that the host must belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<Name>,
    /// Who pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Name>,
}

fn as_pairs<S: Serializer>(labels: &BTreeMap<Name, Name>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(labels.iter().map(|(key, value)| format!("{key}={value}")))
}

/// How specific a selector is. The order of the fields is the order of their weight: what names fewer things weighs more, so an application
/// goes before a host, a host before labels (more of them before fewer), labels before a pool, a pool before a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Specificity {
    application: bool,
    host: bool,
    labels: usize,
    pool: bool,
    tenant: bool,
}

impl Selector {
    /// How specific it is.
    pub fn specificity(&self) -> Specificity {
        Specificity {
            application: self.application.is_some(),
            host: self.host.is_some(),
            labels: self.labels.len(),
            pool: self.pool.is_some(),
            tenant: self.tenant.is_some(),
        }
    }

    /// Whether it selects an application on a host.
    pub fn selects(&self, place: &Place<'_>) -> bool {
        self.is_for(place.application, place.tenant) && self.is_for_host(place.host)
    }

    /// Whether it selects an application on some host.
    pub fn is_for(&self, application: &Name, tenant: &Name) -> bool {
        self.application.as_ref().is_none_or(|name| name == application)
            && self.tenant.as_ref().is_none_or(|name| name == tenant)
    }

    /// Whether it selects something on a host.
    pub fn is_for_host(&self, host: &HostFacts) -> bool {
        self.pool.as_ref().is_none_or(|name| host.pool.as_ref() == Some(name))
            && self.host.as_ref().is_none_or(|short| short.as_str() == host.short)
            && self.labels.iter().all(|(key, value)| host.labels.get(key) == Some(value))
    }

    /// Whether it tells hosts apart.
    pub fn is_choosy(&self) -> bool {
        self.host.is_some() || self.pool.is_some() || !self.labels.is_empty()
    }
}

impl std::fmt::Display for Selector {
    /// In words: `application web, label site=north`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = |what: &str, name: &Option<Name>| name.as_ref().map(|name| format!("{what} {name}"));
        let labels = self.labels.iter().map(|(key, value)| format!("label {key}={value}"));
        let parts: Vec<String> = named("application", &self.application)
            .into_iter()
            .chain(named("host", &self.host))
            .chain(labels)
            .chain(named("pool", &self.pool))
            .chain(named("tenant", &self.tenant))
            .collect();
        f.write_str(&if parts.is_empty() { "everything".to_owned() } else { parts.join(", ") })
    }
}

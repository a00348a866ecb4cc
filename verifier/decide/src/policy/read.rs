//! Reading a policy document: all faults at once, each with line, field and reason.

use std::collections::{BTreeMap, BTreeSet};

use quotary_common::cbor::Text;
use quotary_common::envelope::Name;
use quotary_common::limits::{NAME_BYTES_MAX, POLICY_ROLLOUT_STAGES_MAX, POLICY_THRESHOLDS_MAX};
use quotary_common::plan::OnPressure;
use quotary_common::quorum::coverage::MILLICORES_PER_WEIGHT;
use quotary_common::quorum::criticality::Criticality;
use quotary_common::quorum::document::{Faults, ListItem, Table, digest_of, read as read_document};
use quotary_common::quorum::roster::is_word;
use quotary_common::units::{Class, ResourceKind, Resources};

use super::document::{DESCRIPTION_BYTES_MAX, DependsOn, Line, Policy, Shaping, Terms, Then, Threshold, limit_range};
use super::select::Selector;
use quotary_common::limits::{DOCUMENT_AMOUNT_MAX, POLICY_NAMES_MAX};

/// The longest that a threshold may wait, seconds: 31 days.
const FOR_S_MAX: u64 = 31 * 86_400;
/// Soft limits can be exceeded, so a line may lie above them: by as much again at most.
const PERCENT_MAX: u64 = 200;
/// The longest time between two setpoints, seconds: a day.
const RESOLUTION_S_MAX: u64 = 86_400;

const RESOURCES: [(&str, ResourceKind); 5] = [
    ("cpu", ResourceKind::Cpu),
    ("memory", ResourceKind::Memory),
    ("storage", ResourceKind::Storage),
    ("disk", ResourceKind::Disk),
    ("network", ResourceKind::Network),
];

/// What is known by name where a document is read: a name that is not is a fault.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// Tenants.
    pub tenants: BTreeSet<Name>,
    /// Applications, each with who pays for it.
    pub applications: BTreeMap<Name, Name>,
    /// Trust zones.
    pub zones: BTreeSet<Name>,
    /// Pools.
    pub pools: BTreeSet<Name>,
    /// Policies in force.
    pub policies: BTreeSet<Name>,
}

/// Reads a policy document; with a catalogue, names that are not in it are faults.
///
/// # Errors
/// All [`Faults`] that it has.
pub fn read(bytes: &[u8], catalogue: Option<&Catalogue>) -> Result<Policy, Faults> {
    let terms = read_document(bytes, |root| Reader { catalogue }.terms(root))?;
    Ok(Policy::new(terms, digest_of(bytes)))
}

struct Reader<'c> {
    catalogue: Option<&'c Catalogue>,
}

impl Reader<'_> {
    fn terms(&self, root: &mut Table<'_>) -> Option<Terms> {
        let name = name_of(root, "name");
        let name = root.required("name", name);
        if name.as_ref().is_some_and(|name| !is_word(name.as_str())) {
            root.fault(
                "name",
                "must be at most 64 small letters, digits, `.`, `_`, `-` and `@`: it stands in what people sign",
            );
        }
        let version = root.integer("version", 1..=DOCUMENT_AMOUNT_MAX);
        let version = root.required("version", version);
        let criticality = root.word("criticality", &Criticality::ALL.map(|level| (level.name(), level)));
        if criticality.is_none() && !root.has("criticality") {
            root.fault("criticality", "is missing: say low, medium, high or critical");
        }
        let description = root.text("description", DESCRIPTION_BYTES_MAX).and_then(Text::new);
        let classes = [Class::Guaranteed, Class::Burstable, Class::BestEffort].map(|class| (class.to_string(), class));
        let class = root.word("class", &classes.each_ref().map(|(word, class)| (word.as_str(), *class)));
        let zone = name_of(root, "zone");
        self.known(root, "zone", zone.as_ref(), |catalogue, zone| catalogue.zones.contains(zone));
        let services = names_of(root, "services").into_iter().map(|(_, name)| name).collect();
        let apis = names_of(root, "apis").into_iter().map(|(_, name)| name).collect();
        let select = root.table("select");
        let select = root.required("select", select).map(|mut table| self.selector(&mut table));
        let guarantee = amounts(root, "guarantee", |_| (1, DOCUMENT_AMOUNT_MAX));
        let limit = amounts(root, "limit", limit_range);
        bounds_hold(root, class, &guarantee, &limit);
        let (depends_on, thresholds) =
            (self.depends_on(root, name.as_ref(), select.as_ref()), thresholds(root, &limit));
        let shaping = root.table("shaping").map(|mut table| shaping(&mut table)).unwrap_or_default();
        Some(Terms {
            name: name?,
            version: version?,
            criticality: criticality?,
            description,
            class,
            zone,
            services,
            apis,
            select: select?,
            guarantee,
            limit,
            depends_on,
            thresholds,
            shaping,
        })
    }

    fn selector(&self, table: &mut Table<'_>) -> Selector {
        let application = name_of(table, "application");
        let tenant = name_of(table, "tenant");
        let pool = name_of(table, "pool");
        let host = name_of(table, "host");
        self.known(table, "application", application.as_ref(), |known, name| known.applications.contains_key(name));
        self.known(table, "tenant", tenant.as_ref(), |known, name| known.tenants.contains(name));
        self.known(table, "pool", pool.as_ref(), |known, name| known.pools.contains(name));
        if let (Some(application), Some(tenant), Some(known)) = (&application, &tenant, self.catalogue)
            && known.applications.get(application).is_some_and(|payer| payer != tenant)
        {
            table.fault("tenant", format!("does not pay for the application `{application}`: it selects nothing"));
        }
        if host.as_ref().is_some_and(|host| !is_short_host_id(host.as_str())) {
            table.fault("host", "must be a host's short id, `h-` and 26 characters, as `quotary host list` shows it");
        }
        let mut labels = BTreeMap::new();
        for item in table.texts("labels", POLICY_NAMES_MAX, 2 * NAME_BYTES_MAX + 1) {
            let parts = item.text.split_once('=').and_then(|(key, value)| Some((Name::new(key)?, Name::new(value)?)));
            match parts.filter(|(key, value)| !key.as_str().is_empty() && !value.as_str().is_empty()) {
                None => table.fault_of(&item, "must be KEY=VALUE"),
                Some((key, _)) if labels.contains_key(&key) => {
                    table.fault_of(&item, format!("gives `{key}` a second value: no host has both"));
                }
                Some((key, value)) => drop(labels.insert(key, value)),
            }
        }
        Selector { application, host, labels, pool, tenant }
    }

    fn depends_on(&self, root: &mut Table<'_>, own: Option<&Name>, select: Option<&Selector>) -> DependsOn {
        let Some(mut table) = root.table("depends_on") else { return DependsOn::default() };
        let own_application = select.and_then(|select| select.application.as_ref());
        let mut names = |field: &'static str, own: Option<&Name>, is_known: fn(&Catalogue, &Name) -> bool| {
            let items = names_of(&mut table, field);
            for (item, name) in &items {
                if Some(name) == own {
                    table.fault_of(item, "depends on itself");
                } else if self.catalogue.is_some_and(|known| !is_known(known, name)) {
                    table.fault_of(item, format!("`{name}` is not known"));
                }
            }
            items.into_iter().map(|(_, name)| name).collect()
        };
        DependsOn {
            applications: names("applications", own_application, |known, name| known.applications.contains_key(name)),
            policies: names("policies", own, |known, name| known.policies.contains(name)),
        }
    }

    fn known(&self, table: &Table<'_>, field: &str, name: Option<&Name>, is_known: fn(&Catalogue, &Name) -> bool) {
        if let (Some(name), Some(catalogue)) = (name, self.catalogue)
            && !is_known(catalogue, name)
        {
            table.fault(field, format!("`{name}` is not known"));
        }
    }
}

fn is_short_host_id(text: &str) -> bool {
    let is_base32 = |byte: u8| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte);
    text.strip_prefix("h-").is_some_and(|rest| rest.len() == 26 && rest.bytes().all(is_base32))
}

fn name_of(table: &mut Table<'_>, field: &'static str) -> Option<Name> {
    table.text(field, NAME_BYTES_MAX).and_then(Name::new)
}

fn names_of<'d>(table: &mut Table<'d>, field: &'static str) -> Vec<(ListItem<'d>, Name)> {
    let items = table.texts(field, POLICY_NAMES_MAX, NAME_BYTES_MAX);
    items.into_iter().filter_map(|item| Some((item.clone(), Name::new(item.text)?))).collect()
}

/// Amounts by the names of [`Resources`]; absent ones are not stated.
fn amounts(table: &mut Table<'_>, field: &'static str, range: impl Fn(ResourceKind) -> (u64, u64)) -> Resources {
    let mut out = Resources::default();
    let Some(mut table) = table.table(field) else { return out };
    for kind in ResourceKind::ALL {
        let (least, most) = range(kind);
        out.set(kind, table.integer(kind.unit_name(), least..=most));
    }
    out
}

/// A guarantee is no more than its limit, and goes with the class.
fn bounds_hold(root: &mut Table<'_>, class: Option<Class>, guarantee: &Resources, limit: &Resources) {
    for kind in ResourceKind::ALL {
        if let (Some(least), Some(most)) = (guarantee.get(kind), limit.get(kind))
            && least > most
        {
            let unit = kind.unit_name();
            root.fault("guarantee", format!("{unit}: {least} is more than the limit of {most}"));
        }
    }
    // What is there and does not read has its fault already.
    let guarantees = root.has("guarantee");
    match class {
        Some(Class::Guaranteed) if !guarantees => root.fault("class", "is `guaranteed`, and nothing is guaranteed"),
        Some(Class::BestEffort) if guarantees => {
            root.fault("guarantee", "goes with no `best-effort`: that class has what is left");
        }
        _ => {}
    }
    if !guarantees && !root.has("limit") {
        root.fault("limit", "is missing, and so is `guarantee`: the policy gives nothing");
    }
}

fn thresholds(root: &mut Table<'_>, limit: &Resources) -> Vec<Threshold> {
    let mut out: Vec<Threshold> = Vec::new();
    for mut table in root.tables("thresholds", POLICY_THRESHOLDS_MAX) {
        let Some(threshold) = threshold(&mut table, limit) else { continue };
        let same = |other: &&Threshold| other.resource == threshold.resource;
        for other in out.iter().filter(same) {
            match (other.line, threshold.line) {
                (one, line) if one == line && other.then == threshold.then => table.fault_here("stands there twice"),
                (Line::Above(above), Line::Below(below)) | (Line::Below(below), Line::Above(above))
                    if below >= above =>
                {
                    table.fault_here(format!("below {below} % and above {above} %: one of them always holds"));
                }
                _ => {}
            }
        }
        out.push(threshold);
    }
    out
}

fn threshold(table: &mut Table<'_>, limit: &Resources) -> Option<Threshold> {
    let resource = table.word("resource", &RESOURCES);
    let resource = table.required("resource", resource);
    let above = table.integer("above_percent", 1..=PERCENT_MAX).map(Line::Above);
    let below = table.integer("below_percent", 1..=PERCENT_MAX).map(Line::Below);
    let is_one = table.has("above_percent") != table.has("below_percent");
    if !is_one {
        table.fault_here("must have either `above_percent` or `below_percent`");
    }
    let for_s = table.integer("for_s", 1..=FOR_S_MAX);
    let for_s = table.required("for_s", for_s);
    let then = table.word("then", &[("review", Then::Review), ("alert", Then::Alert)]);
    let then = table.required("then", then);
    if resource.is_some_and(|kind| limit.get(kind).is_none()) {
        table.fault("resource", "has no limit in this policy: there is nothing to measure its use against");
    }
    Some(Threshold { resource: resource?, line: above.or(below)?, for_s: for_s?, then: then? })
}

fn shaping(table: &mut Table<'_>) -> Shaping {
    let words = [("hold", OnPressure::Hold), ("proceed", OnPressure::Proceed)];
    let on_pressure = table.word("on_pressure", &words).unwrap_or_default();
    let resolution_s = table.integer("resolution_s", 1..=RESOLUTION_S_MAX);
    let stages: Vec<u64> = table.integers("rollout_percent", POLICY_ROLLOUT_STAGES_MAX, 1..=100);
    let rises = stages.is_sorted_by(|one, next| one < next) && stages.last() == Some(&100);
    let has_stages = table.has("rollout_percent");
    if has_stages && !rises {
        table.fault("rollout_percent", "must rise, and its last stage is 100");
    }
    let rollout_percent = if has_stages { stages } else { vec![100] };
    // Shares of CPU move in tens of millicores: slower than one of those a second they cannot.
    let slowest = |kind| if kind == ResourceKind::Cpu { MILLICORES_PER_WEIGHT } else { 1 };
    let slew_per_second = amounts(table, "slew_per_second", |kind| (slowest(kind), DOCUMENT_AMOUNT_MAX));
    Shaping { on_pressure, resolution_s, rollout_percent, slew_per_second }
}

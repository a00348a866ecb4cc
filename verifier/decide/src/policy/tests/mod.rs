//! Tests of the policy room: what they share is here.

mod covering;
mod diffs;
mod documents;
mod hostile;
mod impacts;
mod lives;
mod maps;
mod watching;

use std::sync::Arc;

use proptest::prelude::*;
use quotary_common::envelope::{CgroupPath, Name};
use quotary_common::id::HostId;
use quotary_common::plan::Target;
use quotary_common::units::Resources;

use super::{HostFacts, Policy, PolicyResourceMap, Standing, Unit, read};

pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(super) fn host_id(n: usize) -> HostId {
    HostId::of(&[&n.to_be_bytes()])
}

pub(super) fn memory(bytes: u64) -> Resources {
    Resources { memory_bytes: Some(bytes), ..Resources::default() }
}

/// A policy of that name whose document goes on with `more`; it reads, or the test fails with its faults.
pub(super) fn policy(name: &str, more: &str) -> Arc<Policy> {
    let more = if more.contains("[select]") { more.to_owned() } else { format!("[select]\n{more}") };
    let (version, more) = match more.strip_prefix("version = ") {
        Some(rest) => rest.split_once('\n').unwrap(),
        None => ("1", more.as_str()),
    };
    let limit = if more.contains("[limit]") || more.contains("[guarantee]") {
        ""
    } else {
        "\n[limit]\nmemory_bytes = 1073741824\n"
    };
    let criticality = if more.contains("criticality") { "" } else { "criticality = \"low\"\n" };
    let document = format!("name = \"{name}\"\nversion = {version}\n{criticality}{more}{limit}");
    Arc::new(read(document.as_bytes(), None).unwrap_or_else(|faults| unreachable!("{document}\n{faults}")))
}

pub(super) fn map(policies: &[&Arc<Policy>]) -> PolicyResourceMap {
    PolicyResourceMap::new(policies.iter().map(|policy| Arc::clone(policy)))
}

/// Hosts `0..count` of 8 GiB and 4 cores each, the even ones of pool `a`, the odd ones of pool `b`.
pub(super) fn hosts(count: usize) -> impl Iterator<Item = HostFacts> {
    (0..count).map(|n| {
        let capacity = Resources { cpu_millicores: Some(4000), memory_bytes: Some(8 * GIB), ..Resources::default() };
        let mut host = HostFacts::new(host_id(n), capacity);
        host.pool = Some(name(if n % 2 == 0 { "a" } else { "b" }));
        host.labels.insert(name("site"), name(if n % 3 == 0 { "north" } else { "south" }));
        host.zones.insert(name("joined"));
        host
    })
}

/// A unit of an application that uses `used` bytes of memory and holds as much.
pub(super) fn unit(application: &str, tenant: &str, host: usize, used: u64) -> Unit {
    Unit {
        application: name(application),
        tenant: name(tenant),
        host: host_id(host),
        cgroup: CgroupPath::new(&format!("/system.slice/{application}.service")).unwrap(),
        target: Target::Unit(name(&format!("{application}.service"))),
        granted: memory(used),
        usage: memory(used),
        peak: Resources::default(),
    }
}

pub(super) fn standing(hosts_count: usize, units: Vec<Unit>) -> Standing {
    let hosts = hosts(hosts_count).map(|host| (host.id, host)).collect();
    Standing { hosts, units, overcommit_percent: 100, ..Standing::default() }
}

/// Selectors as documents have them, of few names, so that they meet.
pub(super) fn selectors() -> impl Strategy<Value = String> {
    let part = |field: &'static str, values: Vec<String>| {
        let line = move |value: Option<String>| value.map_or_else(String::new, |value| format!("{field} = {value}\n"));
        prop::option::weighted(0.4, prop::sample::select(values)).prop_map(line)
    };
    let quoted = |words: &[&str]| words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>();
    let labels = ["[\"site=north\"]", "[\"site=south\"]", "[\"rack=1\"]", "[\"site=north\", \"rack=1\"]"];
    let parts = (
        part("application", quoted(&["app-0", "app-1"])),
        part("tenant", quoted(&["t-0", "t-1"])),
        part("pool", quoted(&["a", "b"])),
        part("host", (0..3).map(|n| format!("\"{}\"", host_id(n))).collect()),
        part("labels", labels.map(str::to_owned).to_vec()),
    );
    parts.prop_map(|(one, two, three, four, five)| [one, two, three, four, five].concat())
}

/// Amounts of a policy: limits of memory and CPU, with guarantees below them or none.
pub(super) fn amounts() -> impl Strategy<Value = String> {
    let of = |field: &'static str, unit: u64| {
        (1..4000_u64, prop::option::of(1..=100_u64)).prop_map(move |(limit, percent)| {
            let limit = limit * unit;
            let guarantee =
                percent.map_or_else(String::new, |percent| format!("{field} = {}\n", (limit * percent / 100).max(1)));
            (format!("{field} = {limit}\n"), guarantee)
        })
    };
    (of("memory_bytes", MIB), of("cpu_millicores", 10))
        .prop_map(|(memory, cpu)| format!("[limit]\n{}{}[guarantee]\n{}{}", memory.0, cpu.0, memory.1, cpu.1))
}

/// Policies `p-0`, `p-1` and so on.
pub(super) fn policies(count: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<Arc<Policy>>> {
    let bodies = prop::collection::vec((selectors(), amounts()), count);
    bodies.prop_map(|bodies| {
        let one = |(n, (select, amounts)): (usize, (String, String))| {
            policy(&format!("p-{n}"), &format!("[select]\n{select}{amounts}"))
        };
        bodies.into_iter().enumerate().map(one).collect()
    })
}

/// What runs: applications `app-0` to `app-2` of tenants `t-0` and `t-1` on hosts 0 to 4.
pub(super) fn standings() -> impl Strategy<Value = Standing> {
    let unit_of = (0..3_usize, 0..2_usize, 0..5_usize, 0..4 * GIB).prop_map(|(application, tenant, host, used)| {
        unit(&format!("app-{application}"), &format!("t-{tenant}"), host, used)
    });
    prop::collection::vec(unit_of, 0..30).prop_map(|units| standing(5, units))
}

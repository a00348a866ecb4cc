//! What a change would do.

use std::collections::BTreeMap;

use quotary_common::units::ResourceKind;

use super::*;
use quotary_common::quorum::criticality::Criticality;

use crate::policy::{Delta, Edit, Impact, Whose, assess};

const MEMORY: ResourceKind = ResourceKind::Memory;

fn limited(name: &str, version: u64, select: &str, guarantee: u64, limit: u64) -> Arc<Policy> {
    let more = format!(
        "version = {version}\n[select]\n{select}\n[guarantee]\nmemory_bytes = {guarantee}\n[limit]\nmemory_bytes = {limit}"
    );
    policy(name, &more)
}

/// Three applications of two tenants, of which `db` uses a gibibyte and the others half of one.
fn shop() -> Standing {
    standing(
        2,
        vec![
            unit("web", "t-0", 0, GIB / 2),
            unit("web", "t-0", 1, GIB / 2),
            unit("db", "t-0", 0, GIB),
            unit("ml", "t-1", 1, GIB / 2),
        ],
    )
}

fn put(policy: &Arc<Policy>) -> Edit {
    Edit::Put(Arc::clone(policy))
}

#[test]
fn who_would_be_throttled_is_named_with_what_is_missing() {
    let before = map(&[&limited("t", 1, "tenant = \"t-0\"", MIB, 2 * GIB)]);
    let halved = limited("t", 2, "tenant = \"t-0\"", MIB, GIB * 3 / 4);
    let impact = assess(&before, &put(&halved), &shop());
    let [one] = impact.throttled.as_slice() else { unreachable!("{:?}", impact.throttled) };
    assert_eq!((one.application.as_str(), one.limit_old, one.limit_new), ("db", Some(2 * GIB), GIB * 3 / 4));
    assert_eq!((one.short_by, one.was_short_by, one.short_percent()), (GIB / 4, 0, 25));
    assert_eq!(impact.units_touched, 3);
    assert_eq!(impact.refusals, Vec::<String>::new());
    assert_eq!(impact.criticality, Criticality::Critical, "half of what it touches is throttled: {:?}", impact.implied);
    assert_eq!(impact.tenants.keys().collect::<Vec<_>>(), [&name("t-0")]);
    assert_eq!(impact.applications[&name("web")].limit.get(MEMORY), -2 * i128::from(2 * GIB - GIB * 3 / 4));
}

#[test]
fn the_forecast_throttles_as_use_does_and_a_looser_limit_throttles_nobody() {
    let mut standing = shop();
    standing.units[0].peak = memory(3 * GIB);
    let before = map(&[&limited("t", 1, "application = \"web\"", MIB, 2 * GIB)]);
    let tighter = assess(&before, &put(&limited("t", 2, "application = \"web\"", MIB, GIB)), &standing);
    assert_eq!(
        (tighter.throttled.len(), tighter.throttled[0].short_by, tighter.throttled[0].was_short_by),
        (1, 2 * GIB, GIB)
    );
    let looser = assess(&before, &put(&limited("t", 2, "application = \"web\"", MIB, 5 * GIB / 2)), &standing);
    assert_eq!(looser.throttled, []);
    // Another guarantee, the same limit: short as before, and not by this.
    let same = assess(&before, &put(&limited("t", 2, "application = \"web\"", 2 * MIB, 2 * GIB)), &standing);
    assert_eq!((same.throttled.len(), same.units_touched), (0, 2));
}

#[test]
fn what_cannot_be_kept_is_refused_with_what_is_missing() {
    // Host 0 has 8 GiB: `db` is granted one of them, the web is to have 7.5.
    let impact = assess(&map(&[]), &put(&limited("w", 1, "application = \"web\"", GIB * 15 / 2, 8 * GIB)), &shop());
    let of_host = impact.capacity.shortfalls.iter().find(|short| short.whose == Whose::Host(host_id(0))).unwrap();
    assert_eq!((of_host.short, of_host.granted_beside), (u128::from(GIB / 2), u128::from(GIB)));
    assert!(!impact.capacity.is_sufficient());
    assert!(impact.refusals.iter().any(|why| why.contains("536870912 are missing")), "{:?}", impact.refusals);
    let mut generous = shop();
    generous.overcommit_percent = 110;
    assert!(
        assess(&map(&[]), &put(&limited("w", 1, "application = \"web\"", GIB * 15 / 2, 8 * GIB)), &generous)
            .capacity
            .is_sufficient()
    );
}

#[test]
fn a_change_that_asks_for_less_is_not_refused_for_what_others_overdid() {
    let before = map(&[&limited("w", 1, "application = \"web\"", 10 * GIB, 10 * GIB)]);
    let impact = assess(&before, &put(&limited("w", 2, "application = \"web\"", 9 * GIB, 10 * GIB)), &shop());
    assert!(!impact.capacity.is_sufficient() && impact.refusals.is_empty(), "{:?}", impact.refusals);
    let revoked = assess(&before, &Edit::Revoke(name("w")), &shop());
    assert!(revoked.capacity.is_sufficient() && revoked.refusals.is_empty());
}

#[test]
fn what_no_inventory_has_cannot_be_guaranteed() {
    let network = policy("n", "application = \"web\"\n[guarantee]\nnetwork_bits_per_second = 1000000");
    let impact = assess(&map(&[]), &put(&network), &shop());
    assert!(!impact.refusals.is_empty() && impact.implied.level == Criticality::Critical);
}

#[test]
fn who_depends_on_what_is_touched_is_named_at_any_remove() {
    let db = limited("database", 1, "application = \"db\"", MIB, 2 * GIB);
    let web = policy(
        "web",
        "application = \"web\"\n[limit]\nmemory_bytes = 1073741824\n[depends_on]\napplications = [\"db\"]",
    );
    let ml =
        policy("ml", "application = \"ml\"\n[limit]\nmemory_bytes = 1073741824\n[depends_on]\npolicies = [\"web\"]");
    let before = map(&[&db, &web, &ml]);
    let impact = assess(&before, &Edit::Revoke(name("database")), &shop());
    let told: Vec<_> = impact.dependencies.iter().map(|one| (one.policy.as_str(), one.steps, one.is_broken)).collect();
    assert_eq!(told, [("ml", 2, false), ("web", 1, false)]);
    assert_eq!(impact.implied.level.max(Criticality::Medium), impact.implied.level);
    let broken = assess(&before, &Edit::Revoke(name("web")), &shop());
    assert!(broken.dependencies.iter().any(|one| one.policy.as_str() == "ml" && one.is_broken));
    assert!(broken.implied.level >= Criticality::High);
}

#[test]
fn taking_back_what_was_guaranteed_is_high_whatever_the_documents_say() {
    let guaranteed = |version, bytes| {
        let more = format!(
            "version = {version}\nclass = \"guaranteed\"\n[select]\napplication = \"ml\"\n[guarantee]\nmemory_bytes = {bytes}\n[limit]\nmemory_bytes = 1073741824"
        );
        policy("ml", &more)
    };
    let before = map(&[&guaranteed(1, 600 * MIB)]);
    let lower = assess(&before, &put(&guaranteed(2, 599 * MIB)), &shop());
    assert_eq!(lower.criticality, Criticality::High, "{:?}", lower.implied);
    let higher = assess(&before, &put(&guaranteed(2, 601 * MIB)), &shop());
    assert_eq!(higher.criticality, Criticality::Low, "{:?}", higher.implied);
}

#[test]
fn the_highest_criticality_of_old_new_and_implied_counts() {
    let with = |version: u64, criticality: &str| {
        policy(
            "p",
            &format!(
                "version = {version}\ncriticality = \"{criticality}\"\n[select]\napplication = \"nobody\"\n[limit]\nmemory_bytes = 1073741824"
            ),
        )
    };
    let before = map(&[&with(1, "high")]);
    assert_eq!(assess(&before, &put(&with(2, "low")), &shop()).criticality, Criticality::High);
    assert_eq!(assess(&map(&[&with(1, "low")]), &put(&with(2, "medium")), &shop()).criticality, Criticality::Medium);
    assert_eq!(assess(&before, &Edit::Revoke(name("p")), &shop()).criticality, Criticality::High);
    assert_eq!(assess(&before, &Edit::Revoke(name("unknown")), &shop()).criticality, Criticality::Critical);
    let mut astray = shop();
    astray.units.push(unit("web", "t-0", 77, MIB));
    assert_eq!(assess(&before, &put(&with(2, "low")), &astray).criticality, Criticality::Critical);
}

#[test]
fn a_limit_that_comes_or_goes_is_counted_and_not_summed() {
    let new = limited("w", 1, "application = \"web\"", MIB, GIB);
    let comes = assess(&map(&[]), &put(&new), &shop()).applications[&name("web")];
    assert_eq!(
        (comes.newly_limited, comes.limit.get(MEMORY), comes.guarantee.get(MEMORY)),
        (2, 0, 2 * i128::from(MIB))
    );
    let goes = assess(&map(&[&new]), &Edit::Revoke(name("w")), &shop()).applications[&name("web")];
    assert_eq!(
        (goes.no_longer_limited, goes.limit.get(MEMORY), goes.guarantee.get(MEMORY)),
        (2, 0, -2 * i128::from(MIB))
    );
}

#[test]
fn a_tie_or_an_old_version_is_refused() {
    let before = map(&[&limited("one", 5, "labels = [\"site=north\"]", MIB, GIB)]);
    let twin = assess(&before, &put(&limited("two", 1, "labels = [\"site=north\"]", MIB, GIB)), &shop());
    assert!(twin.refusals.iter().any(|why| why.contains("one and two select")), "{:?}", twin.refusals);
    let old = assess(&before, &put(&limited("one", 5, "labels = [\"site=north\"]", MIB, 2 * GIB)), &shop());
    assert!(old.refusals.iter().any(|why| why.contains("version 5")), "{:?}", old.refusals);
    let nothing = assess(&before, &Edit::Revoke(name("three")), &shop());
    assert_eq!(nothing.refusals, ["there is no policy three in force"]);
}

#[test]
fn ten_thousand_applications_are_judged_at_once() {
    let units = (0..10_000).map(|n| unit(&format!("app-{n}"), &format!("t-{}", n % 50), n % 500, MIB)).collect();
    let standing = standing(500, units);
    let of_app = |n: usize| limited(&format!("p-{n}"), 1, &format!("application = \"app-{n}\""), MIB, GIB);
    let of_tenant = |n: usize| limited(&format!("t-{n}"), 1, &format!("tenant = \"t-{n}\""), MIB, GIB);
    let before = PolicyResourceMap::new((0..5000).map(of_app).chain((0..50).map(of_tenant)));
    let started = std::time::Instant::now();
    let impact = assess(&before, &put(&limited("all", 1, "", MIB, GIB / 2)), &standing);
    assert_eq!(impact.units_touched, 0, "every application has a policy of its own");
    let impact = assess(&before, &put(&limited("t-1", 2, "tenant = \"t-1\"", MIB, GIB / 2)), &standing);
    assert_eq!(impact.units_touched, 100);
    // Without optimisation, on a busy machine; it takes a few tenths of a second.
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

fn total<K>(sums: &BTreeMap<K, Delta>) -> Delta {
    let mut out = Delta::default();
    sums.values().for_each(|one| out.merge(one));
    out
}

/// A map, an edit of it (of a policy of it, or of one more), and what runs.
fn cases() -> impl Strategy<Value = (PolicyResourceMap, Edit, Standing)> {
    (policies(0..=6), selectors(), amounts(), 0..7_usize, any::<bool>(), standings()).prop_map(
        |(policies, select, amounts, which, revokes, standing)| {
            let name = format!("p-{which}");
            let edit = match revokes {
                true => Edit::Revoke(super::name(&name)),
                false => Edit::Put(policy(&name, &format!("version = 2\n[select]\n{select}{amounts}"))),
            };
            (PolicyResourceMap::new(policies), edit, standing)
        },
    )
}

/// What is guaranteed on each host, by looking at each unit alone.
fn guaranteed(map: &PolicyResourceMap, standing: &Standing) -> BTreeMap<(HostId, ResourceKind), u128> {
    let mut out = BTreeMap::new();
    for unit in &standing.units {
        let host = &standing.hosts[&unit.host];
        let place = crate::policy::Place { application: &unit.application, tenant: &unit.tenant, host };
        let Ok(Some(held)) = map.holding(&place) else { continue };
        for kind in ResourceKind::ALL {
            *out.entry((host.id, kind)).or_default() += u128::from(held.guarantee.get(kind).unwrap_or(0));
        }
    }
    out
}

proptest! {
    #[test]
    fn what_moves_per_application_adds_up_to_tenants_hosts_and_pools((map, edit, standing) in cases()) {
        let impact: Impact = assess(&map, &edit, &standing);
        let all = total(&impact.applications);
        prop_assert_eq!(all, total(&impact.tenants));
        prop_assert_eq!(all, total(&impact.hosts));
        prop_assert_eq!(all, total(&impact.pools));
        prop_assert_eq!(all.units, impact.units_touched);
        let (before, after) = (guaranteed(&map, &standing), guaranteed(&edit.applied_to(&map), &standing));
        for kind in ResourceKind::ALL {
            let sum = |all: &BTreeMap<(HostId, ResourceKind), u128>| -> u128 {
                all.iter().filter(|((_, of), _)| *of == kind).map(|(_, amount)| amount).sum()
            };
            let moved = i128::try_from(sum(&after)).unwrap() - i128::try_from(sum(&before)).unwrap();
            prop_assert_eq!(all.guarantee.get(kind), moved);
        }
        let read: Impact = serde_json::from_str(&serde_json::to_string(&impact).unwrap()).unwrap();
        prop_assert_eq!(&read, &impact);
        prop_assert!(impact.to_string().lines().count() < 300);
    }

    #[test]
    fn capacity_is_never_sufficient_where_guarantees_exceed_it((map, edit, standing) in cases()) {
        let impact = assess(&map, &edit, &standing);
        let exceeds = |((host, kind), amount): (&(HostId, ResourceKind), &u128)| {
            *amount > u128::from(standing.hosts[host].capacity.get(*kind).unwrap_or(0))
        };
        let after = guaranteed(&edit.applied_to(&map), &standing);
        if after.iter().any(exceeds) {
            prop_assert!(!impact.capacity.is_sufficient());
        }
        let before = guaranteed(&map, &standing);
        let grew = after.iter().any(|one| exceeds(one) && before.get(one.0).copied().unwrap_or(0) < *one.1);
        if grew {
            prop_assert!(!impact.refusals.is_empty());
        }
    }

    #[test]
    fn a_change_is_no_less_critical_than_its_documents((map, edit, standing) in cases()) {
        let impact = assess(&map, &edit, &standing);
        for policy in map.get(edit.name()).into_iter().chain(edit.puts()) {
            prop_assert!(impact.criticality >= policy.criticality && impact.criticality >= impact.implied.level);
        }
    }
}

#[test]
fn an_impact_is_told_in_words() {
    let before = map(&[&limited("t", 1, "tenant = \"t-0\"", MIB, 2 * GIB)]);
    let told = assess(&before, &put(&limited("t", 2, "tenant = \"t-0\"", MIB, GIB * 3 / 4)), &shop()).to_string();
    let host = host_id(0);
    for line in [
        "  limit.memory_bytes: 2147483648 -> 805306368 (-62 %)",
        "touches 3 units: 2 applications, 1 tenants, 2 hosts, 2 pools",
        "  a: limit memory_bytes -2684354560",
        &format!("  db of t-0, db.service on {host}: 268435456 memory_bytes short of a limit of 805306368 (25 %)"),
        "capacity suffices",
        "criticality critical",
        "  critical: 1 of 2 touched applications would be throttled",
    ] {
        assert!(told.lines().any(|one| one == line), "{line} is not in\n{told}");
    }
}

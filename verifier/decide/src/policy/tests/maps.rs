//! Who gets what: specificity, ties, zones.

use super::*;
use crate::policy::{Holding, Place};

fn holding(map: &PolicyResourceMap, application: &str, tenant: &str, host: &HostFacts) -> Option<Holding> {
    map.holding(&Place { application: &name(application), tenant: &name(tenant), host }).unwrap()
}

#[test]
fn the_most_specific_policy_holds() {
    let host = hosts(1).next().unwrap();
    let lines = [
        String::new(),
        "tenant = \"t\"".to_owned(),
        "pool = \"a\"".to_owned(),
        "labels = [\"site=north\"]".to_owned(),
        format!("host = \"{}\"", host.id),
        "application = \"web\"".to_owned(),
    ];
    let policies: Vec<_> = lines.iter().enumerate().map(|(n, line)| policy(&format!("p-{n}"), line)).collect();
    for count in 1..=policies.len() {
        let map = map(&policies[..count].iter().collect::<Vec<_>>());
        let held = holding(&map, "web", "t", &host).unwrap();
        assert_eq!(held.policy.name.as_str(), format!("p-{}", count - 1));
        let told = map.explain(&Place { application: &name("web"), tenant: &name("t"), host: &host });
        assert_eq!((told.len(), told.iter().filter(|one| one.holds).count()), (count, 1));
        assert!(told[0].holds && told[1..].iter().all(|one| one.why.contains("is more specific")), "{told:?}");
    }
}

#[test]
fn a_tie_is_refused_and_names_both() {
    let host = hosts(1).next().unwrap();
    let both = map(&[&policy("one", "labels = [\"site=north\"]"), &policy("two", "labels = [\"rack=7\"]")]);
    let place = Place { application: &name("web"), tenant: &name("t"), host: &host };
    assert_eq!(both.holding(&place).unwrap().unwrap().policy.name.as_str(), "one");
    let mut labelled = host.clone();
    labelled.labels.insert(name("rack"), name("7"));
    let tie = both.holding(&Place { host: &labelled, ..place }).unwrap_err();
    assert_eq!(tie.policies, [name("one"), name("two")]);
    assert!(tie.to_string().starts_with("one and two select web on "), "{tie}");
    assert!(both.explain(&Place { host: &labelled, ..place }).iter().all(|one| !one.holds));
    assert_eq!(both.twins(), None);
    let twins = map(&[&policy("one", "tenant = \"t\""), &policy("two", "tenant = \"t\"")]);
    assert_eq!(twins.twins(), Some((name("one"), name("two"))));
}

#[test]
fn nothing_is_guaranteed_on_a_host_outside_the_zone_and_the_limit_holds_there_too() {
    let mut host = hosts(1).next().unwrap();
    let strict = policy(
        "strict",
        "zone = \"measured\"\n[select]\n[guarantee]\nmemory_bytes = 7\n[limit]\nmemory_bytes = 1048576",
    );
    let map = map(&[&strict]);
    let outside = holding(&map, "web", "t", &host).unwrap();
    assert_eq!((outside.guarantee, outside.limit, outside.meets_zone), (Resources::default(), memory(MIB), false));
    host.zones.insert(name("measured"));
    let inside = holding(&map, "web", "t", &host).unwrap();
    assert_eq!((inside.guarantee, inside.limit, inside.meets_zone), (memory(7), memory(MIB), true));
}

#[test]
fn a_policy_put_in_takes_the_place_of_one_of_its_name_and_one_taken_out_gives_nothing() {
    let host = hosts(1).next().unwrap();
    let small = map(&[&policy("p", "")]);
    let large = small.with(policy("p", "version = 2\n[select]\n[limit]\nmemory_bytes = 2147483648"));
    assert_eq!(holding(&large, "web", "t", &host).unwrap().limit, memory(2 * GIB));
    assert_eq!(large.policies().count(), 1);
    assert_eq!(holding(&large.without(&name("p")), "web", "t", &host), None);
}

/// The weight of a selector by the page's words, beside the code: application, host, labels, pool, tenant.
fn weight(policy: &Policy) -> (bool, bool, usize, bool, bool) {
    let select = &policy.select;
    (
        select.application.is_some(),
        select.host.is_some(),
        select.labels.len(),
        select.pool.is_some(),
        select.tenant.is_some(),
    )
}

proptest! {
    #[test]
    fn specificity_is_a_total_order_or_a_refused_tie(policies in policies(0..=8), host in 0..5_usize, application in 0..3_usize, tenant in 0..2_usize) {
        let host = hosts(5).nth(host).unwrap();
        let (application, tenant) = (name(&format!("app-{application}")), name(&format!("t-{tenant}")));
        let place = Place { application: &application, tenant: &tenant, host: &host };
        let selecting: Vec<_> = policies.iter().filter(|policy| policy.select.selects(&place)).collect();
        let best = selecting.iter().map(|policy| weight(policy)).max();
        let mut names: Vec<Name> = selecting.iter().filter(|policy| Some(weight(policy)) == best).map(|policy| policy.name.clone()).collect();
        names.sort();
        let forward = PolicyResourceMap::new(policies.iter().cloned());
        let backward = PolicyResourceMap::new(policies.iter().rev().cloned());
        prop_assert_eq!(forward.holding(&place), backward.holding(&place));
        match (forward.holding(&place), names.as_slice()) {
            (Ok(None), []) => {}
            (Ok(Some(held)), [one]) => prop_assert_eq!(&held.policy.name, one),
            (Err(tie), many) => { prop_assert!(many.len() > 1); prop_assert_eq!(&*tie.policies, many) }
            (held, names) => prop_assert!(false, "{:?} for {:?}", held, names),
        }
    }
}

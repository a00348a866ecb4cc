//! What a change covers, as its signed text says it.

use std::collections::BTreeMap;

use quotary_common::limits::COVERS_MAX;
use quotary_common::quorum::covers::{Cover, Reach, Span};
use quotary_common::units::{Class, ResourceKind};

use super::*;
use crate::allocate::{Quota, Rule, Rules, Selector};
use crate::policy::{Covers, CoversFault, Edit, Place, covers};

fn rule(application: &str, tenant: &str, selector: Selector) -> Rule {
    let (application, tenant) = (name(application), name(tenant));
    Rule { application, tenant, selector, class_best: Class::Burstable, quota: Quota::default() }
}

fn of_unit(unit: &str) -> Selector {
    Selector { unit: Some(unit.to_owned()), ..Selector::default() }
}

/// Rules of `app-0` (a unit), `app-1` (a prefix), `app-2` (a uid), each of tenants `t-0` and `t-1`.
fn rules() -> Rules {
    let of_tenant = |t: u32| {
        [
            rule("app-0", &format!("t-{t}"), of_unit(&format!("app-{t}.service"))),
            rule(
                "app-1",
                &format!("t-{t}"),
                Selector { cgroup_prefix: Some(format!("/apps/{t}/")), ..Selector::default() },
            ),
            rule("app-2", &format!("t-{t}"), Selector { uid: Some(t), ..Selector::default() }),
        ]
    };
    Rules::new([of_tenant(0), of_tenant(1)].concat(), BTreeMap::new(), 100)
}

fn covered(before: &PolicyResourceMap, edit: &Edit) -> Result<Covers, CoversFault> {
    let hosts = hosts(5).map(|host| (host.id, host)).collect();
    covers((before, edit), &hosts, &rules())
}

fn span(before: Option<u64>, after: Option<u64>) -> Option<Span> {
    Some(Span { before, after })
}

fn limited(select: &str, bytes: u64) -> Arc<Policy> {
    policy("p", &format!("version = 2\n[select]\n{select}\n[limit]\nmemory_bytes = {bytes}"))
}

#[test]
fn each_rule_of_whom_it_is_for_has_a_line_with_before_and_after() {
    let before = map(&[&limited("tenant = \"t-0\"", 2 * GIB)]);
    let told = covered(&before, &Edit::Put(limited("tenant = \"t-0\"", GIB))).unwrap();
    let reach: Vec<_> =
        told.lines.iter().map(|line| (line.application.as_str(), line.reach.to_owned(), line.host)).collect();
    assert_eq!(
        reach,
        [
            ("app-0", Reach::Unit(name("app-0.service")), None),
            ("app-1", Reach::Cgroup(quotary_common::envelope::CgroupPath::new("/apps/0").unwrap()), None),
            ("app-2", Reach::Uid(0), None),
        ]
    );
    for line in &told.lines {
        assert_eq!(line.limit[ResourceKind::Memory as usize], span(Some(2 * GIB), Some(GIB)));
        assert_eq!((line.guarantee, line.class), ([None; 5], Class::Burstable));
        assert_eq!(line.to_string().parse::<Cover>().unwrap(), *line, "it stands in a text");
    }
}

#[test]
fn a_policy_for_a_host_covers_that_host_alone_and_one_that_moves_covers_both_sides() {
    let select = format!("host = \"{}\"", host_id(3));
    let told = covered(&map(&[]), &Edit::Put(limited(&select, GIB))).unwrap();
    assert!(told.lines.len() == 6 && told.lines.iter().all(|line| line.host == Some(host_id(3))));
    let before = map(&[&limited("tenant = \"t-0\"", GIB)]);
    let moved = covered(&before, &Edit::Put(limited("tenant = \"t-1\"", GIB))).unwrap();
    let of = |tenant: &str| {
        moved.lines.iter().filter(|line| line.tenant.as_str() == tenant).map(|line| line.limit[1]).collect::<Vec<_>>()
    };
    assert_eq!(of("t-0"), [span(Some(GIB), None); 3]);
    assert_eq!(of("t-1"), [span(None, Some(GIB)); 3]);
    let revoked = covered(&before, &Edit::Revoke(name("p"))).unwrap();
    assert!(revoked.lines.iter().all(|line| line.limit[1] == span(Some(GIB), None)) && revoked.lines.len() == 3);
}

#[test]
fn who_has_a_policy_of_his_own_is_not_covered_by_a_general_one() {
    let own = policy("own", "application = \"app-0\"\n[limit]\nmemory_bytes = 1073741824");
    let told = covered(&map(&[&own]), &Edit::Put(limited("", 2 * GIB))).unwrap();
    assert!(told.lines.iter().all(|line| line.application.as_str() != "app-0") && told.lines.len() == 4);
}

#[test]
fn what_no_kernel_fact_names_is_told_and_too_many_targets_are_refused() {
    let hosts = BTreeMap::new();
    let rules = Rules::new(vec![rule("any", "t-0", Selector::default())], BTreeMap::new(), 100);
    let told = covers((&map(&[]), &Edit::Put(limited("", GIB))), &hosts, &rules).unwrap();
    assert!(told.lines.is_empty() && told.nameless.contains(&name("any")));
    let one = |n: usize| rule(&format!("app-{n}"), "t-0", of_unit(&format!("app-{n}.service")));
    let of = |count: usize| Rules::new((0..count).map(one).collect(), BTreeMap::new(), 100);
    let edit = Edit::Put(limited("", GIB));
    assert_eq!(covers((&map(&[]), &edit), &hosts, &of(COVERS_MAX)).unwrap().lines.len(), COVERS_MAX);
    assert_eq!(covers((&map(&[]), &edit), &hosts, &of(COVERS_MAX + 1)), Err(CoversFault::TooMany));
    let spaced = Rules::new(vec![rule("my shop", "t-0", of_unit("a.service"))], BTreeMap::new(), 100);
    assert!(matches!(covers((&map(&[]), &edit), &hosts, &spaced), Err(CoversFault::Unwritable(_))));
}

proptest! {
    /// Beside the code: every application on every host that has another limit or guarantee than before is in some line that says so.
    #[test]
    fn whatever_moves_is_covered_and_what_is_covered_moves(policies in policies(0..=5), select in selectors(), amounts in amounts(), which in 0..6_usize, revokes: bool) {
        let map = PolicyResourceMap::new(policies);
        let own = format!("p-{which}");
        let edit = match revokes {
            true => Edit::Revoke(name(&own)),
            false => Edit::Put(policy(&own, &format!("version = 2\n[select]\n{select}{amounts}"))),
        };
        let Ok(told) = covered(&map, &edit) else { return Ok(()) };
        let after = edit.applied_to(&map);
        let rules = rules();
        for host in hosts(5) {
            for rule in rules.all() {
                let place = Place { application: &rule.application, tenant: &rule.tenant, host: &host };
                // Where policies are tied nothing is given.
                let amounts = |map: &PolicyResourceMap| {
                    let held = map.holding(&place).unwrap_or_default();
                    held.map_or_else(Default::default, |held| (held.policy.guarantee, held.limit))
                };
                let (old, new) = (amounts(&map), amounts(&after));
                let spans = |old: Resources, new: Resources| ResourceKind::ALL.map(|kind| {
                    let (before, after) = (old.get(kind), new.get(kind));
                    (before.is_some() || after.is_some()).then_some(Span { before, after })
                });
                let expected = (spans(old.0, new.0), spans(old.1, new.1));
                let is_covered = told.lines.iter().any(|line| {
                    (&line.application, &line.tenant, &line.guarantee, &line.limit) == (&rule.application, &rule.tenant, &expected.0, &expected.1)
                        && line.host.is_none_or(|id| id == host.id)
                });
                if old != new {
                    prop_assert!(is_covered, "{} of {} on {}", rule.application, rule.tenant, host.id);
                }
            }
        }
        for line in &told.lines {
            prop_assert_eq!(&line.to_string().parse::<Cover>().unwrap(), line);
            let moves = |kind: usize| line.guarantee[kind].is_some_and(|span| span.before != span.after) || line.limit[kind].is_some_and(|span| span.before != span.after);
            prop_assert!((0..5).any(moves), "{}", line);
        }
    }
}

//! Scenarios, and a model-based test of the book's bounds.

use proptest::prelude::*;
use quotary_common::cbor::Bounded;
use quotary_common::envelope::{Backend, BackendKind, CgroupPath, EnvelopeVersion, Hierarchy, HostFacts, Mode, Name};
use quotary_common::id::{BootId, DeploymentId, Digest, RequestId};
use quotary_common::metric::MetricWindows;
use quotary_common::units::Class;

use super::*;
use crate::allocate::{Rule, Selector};
use crate::forecast::testing::ewma_forecast;
use crate::profile::Outlook;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn request(id: u8, cpu_millicores: u64) -> PendingRequest {
    PendingRequest {
        id: RequestId::new([id; 32]),
        uid: 1000,
        gid: 1000,
        pid: 1,
        start_time_ticks: 1,
        cgroup: CgroupPath::new("/user").unwrap(),
        unit: None,
        name: None,
        class: Class::Burstable,
        resources: Resources { cpu_millicores: Some(cpu_millicores), ..Resources::default() },
    }
}

fn host(id: u8) -> HostId {
    HostId::new([id; 32])
}

fn envelope(host_id: u8, sequence: u64, requests: Vec<PendingRequest>, held: Vec<GrantId>) -> Envelope {
    Envelope {
        version: EnvelopeVersion::WindowGroups,
        deployment: DeploymentId::new([1; 32]),
        host: host(host_id),
        boot_id: BootId::new([1; 16]),
        sequence,
        predecessor: Digest::new([0; 32]),
        tls_key: Digest::new([0; 32]),
        checkpoint: None,
        agent_version: name("0"),
        built_at_ms: 0,
        backend: Backend {
            kind: BackendKind::Direct,
            mode: Mode::Enforce,
            hierarchy: Hierarchy::V2,
            controls: Bounded::default(),
        },
        host_windows: MetricWindows::default(),
        applications: Bounded::default(),
        events: Bounded::default(),
        writes: Bounded::default(),
        requests: Bounded::new(requests).unwrap(),
        held: Bounded::new(held).unwrap(),
        facts: HostFacts { hostname: name("h"), kernel: name("k"), cpu_millicores: 1, memory_bytes: 1, os: None },
    }
}

fn rules(tenant_cpu: u64) -> Rules {
    let rule = Rule {
        application: name("web"),
        tenant: name("shop"),
        selector: Selector::default(),
        class_best: Class::Burstable,
        quota: Resources::default(),
    };
    let quota = Resources { cpu_millicores: Some(tenant_cpu), ..Resources::default() };
    Rules::new(vec![rule], BTreeMap::from([(name("shop"), quota)]), 100)
}

fn book(cpu_millicores: u64) -> Book {
    let mut book = Book::default();
    for id in 1..=2 {
        book.set_capacity(host(id), Resources { cpu_millicores: Some(cpu_millicores), ..Resources::default() });
    }
    book
}

fn step(book: &mut Book, rules: &Rules, envelope: &Envelope, now_ms: u64) -> Allocation {
    step_with(book, rules, envelope, now_ms, &BTreeMap::new())
}

fn step_with(
    book: &mut Book,
    rules: &Rules,
    envelope: &Envelope,
    now_ms: u64,
    outlooks: &BTreeMap<GrantId, BTreeMap<ResourceKind, Outlook>>,
) -> Allocation {
    step_under(book, rules, envelope, now_ms, (outlooks, Limits::default()))
}

fn step_under(
    book: &mut Book,
    rules: &Rules,
    envelope: &Envelope,
    now_ms: u64,
    (outlooks, limits): (&BTreeMap<GrantId, BTreeMap<ResourceKind, Outlook>>, Limits),
) -> Allocation {
    let limits = &|_: &Name, _: &Name| limits;
    let asked = Asked { envelope, epoch: 1, trusted: true, outlooks, limits, dwell_ms: 10, now_ms };
    let allocation = decide(book, rules, &asked);
    for (record, _) in &allocation.changed {
        book.put(record.clone());
    }
    for (record, _) in &allocation.ended {
        book.remove(&record.host, &record.grant.id);
    }
    allocation
}

#[test]
fn a_request_is_granted_once_however_often_it_is_repeated() {
    let (mut book, rules) = (book(1000), rules(10_000));
    let first = step(&mut book, &rules, &envelope(1, 1, vec![request(1, 600)], vec![]), 0);
    assert_eq!(first.changed.len(), 1);
    let again = step(&mut book, &rules, &envelope(1, 2, vec![request(1, 600)], vec![]), 1);
    assert!(again.changed.is_empty() && again.ended.is_empty() && again.refused.is_empty());
    assert_eq!(again.grants, first.grants);
}

#[test]
fn what_does_not_fit_is_refused_with_what_is_left() {
    let (mut book, rules) = (book(1000), rules(10_000));
    step(&mut book, &rules, &envelope(1, 1, vec![request(1, 600)], vec![]), 0);
    let second = step(&mut book, &rules, &envelope(1, 2, vec![request(1, 600), request(2, 500)], vec![]), 1);
    assert_eq!(second.refused.len(), 1);
    assert_eq!(second.refused[0].refusal.reason, Reason::Capacity);
    assert!(second.refused[0].refusal.detail.as_str().contains("400 left"), "{}", second.refused[0].refusal);
}

#[test]
fn a_tenants_quota_holds_over_all_hosts() {
    let (mut book, rules) = (book(1000), rules(1000));
    step(&mut book, &rules, &envelope(1, 1, vec![request(1, 600)], vec![]), 0);
    let other = step(&mut book, &rules, &envelope(2, 1, vec![request(2, 500)], vec![]), 0);
    assert_eq!(other.refused[0].refusal.reason, Reason::Quota);
}

#[test]
fn a_grant_that_is_no_longer_held_is_released_and_its_capacity_given_on_in_the_same_step() {
    let (mut book, rules) = (book(1000), rules(10_000));
    step(&mut book, &rules, &envelope(1, 1, vec![request(1, 900)], vec![]), 0);
    let next = step(&mut book, &rules, &envelope(1, 2, vec![request(2, 900)], vec![]), 1);
    assert_eq!(next.ended.len(), 1);
    assert_eq!(next.ended[0].1, GrantChange::Released);
    assert_eq!(next.grants.len(), 1);
    assert_eq!(next.grants[0].request, RequestId::new([2; 32]));
}

#[test]
fn an_older_envelope_does_not_release_what_a_newer_reply_gave() {
    let (mut book, rules) = (book(1000), rules(10_000));
    step(&mut book, &rules, &envelope(1, 5, vec![request(1, 900)], vec![]), 0);
    let repeated = step(&mut book, &rules, &envelope(1, 5, vec![], vec![]), 1);
    assert!(repeated.ended.is_empty());
}

#[test]
fn a_fenced_grant_holds_its_capacity_until_lease_and_margin_are_over() {
    let (mut book, rules) = (book(1000), rules(10_000));
    step(&mut book, &rules, &envelope(1, 1, vec![request(1, 900)], vec![]), 0);
    book.hold_until(&host(1), 500);
    assert_eq!(book.fence(&host(1)).len(), 1);
    assert!(book.fence(&host(1)).is_empty());
    // The honest host goes on attesting: that renews nothing of what was fenced.
    book.hold_until(&host(1), 900);
    let next = step(&mut book, &rules, &envelope(1, 2, vec![request(2, 900)], vec![]), 100);
    assert!(next.grants.is_empty());
    assert_eq!(next.refused[0].refusal.reason, Reason::Capacity);
    assert!(book.expired(499).is_empty());
    assert_eq!(book.expired(500).len(), 1);
}

#[test]
fn a_renewal_shrinks_to_the_profile_and_grows_back_within_what_is_left() {
    let (mut book, rules) = (book(1000), rules(10_000));
    let given = step(&mut book, &rules, &envelope(1, 1, vec![request(1, 800)], vec![]), 0);
    let id = given.grants[0].id;
    let at = |used: f64| {
        let forecast = ewma_forecast(&[Some(used); 40]);
        BTreeMap::from([(id, BTreeMap::from([(ResourceKind::Cpu, forecast.into())]))])
    };
    let early = step_with(&mut book, &rules, &envelope(1, 2, vec![], vec![id]), 5, &at(10.0));
    assert!(early.changed.is_empty(), "it dwells");
    let shrunk = step_with(&mut book, &rules, &envelope(1, 3, vec![], vec![id]), 20, &at(10.0));
    assert_eq!(shrunk.changed[0].1, GrantChange::Resized);
    assert_eq!(shrunk.grants[0].resources.cpu_millicores, Some(400));
    step(&mut book, &rules, &envelope(1, 4, vec![request(2, 500)], vec![id]), 25);
    let grown = step_with(
        &mut book,
        &rules,
        &envelope(1, 5, vec![], vec![id, GrantId::for_request(&host(1), &RequestId::new([2; 32]))]),
        40,
        &at(790.0),
    );
    let sizes: Vec<_> = grown.grants.iter().filter(|g| g.id == id).map(|g| g.resources.cpu_millicores).collect();
    assert_eq!(sizes, [Some(500)], "it grows only into what is left");
}

fn cpu(limit: u64) -> Resources {
    Resources { cpu_millicores: Some(limit), ..Resources::default() }
}

#[test]
fn what_a_policy_cut_grows_back_with_the_next_evidence_once_the_policy_allows_it() {
    let none = BTreeMap::new();
    let (mut book, rules) = (book(1000), rules(10_000));
    let given = step(&mut book, &rules, &envelope(1, 1, vec![request(1, 800)], vec![]), 0);
    let id = given.grants[0].id;
    let mut sequence = 1;
    let mut renew = |book: &mut Book, requests, now_ms, limits| {
        sequence += 1;
        let held = book.host(&host(1)).unwrap().entries().map(|entry| entry.record.grant.id).collect();
        let done = step_under(book, &rules, &envelope(1, sequence, requests, held), now_ms, (&none, limits));
        let size = done.grants.iter().find(|grant| grant.id == id).unwrap().resources.cpu_millicores.unwrap();
        (size, done.changed.len())
    };
    let why = |book: &Book| book.host(&host(1)).unwrap().get(&id).unwrap().record.why.to_string();
    let plain = why(&book);
    // A policy comes, is laxer later, and is revoked: no forecast says anything.
    let (tight, lax) = (Limits { now: cpu(200), coming: cpu(200) }, Limits { now: cpu(500), coming: cpu(500) });
    assert_eq!(renew(&mut book, vec![], 1, tight), (200, 1));
    assert!(why(&book).ends_with("no more than policies allow"), "{}", why(&book));
    assert_eq!(renew(&mut book, vec![], 2, tight), (200, 0));
    // Another change is under way that would cut it again: it does not grow past what that would leave it.
    assert_eq!(renew(&mut book, vec![], 3, Limits { now: cpu(500), coming: cpu(300) }), (300, 1));
    assert_eq!(renew(&mut book, vec![], 4, lax), (500, 1));
    assert_eq!(renew(&mut book, vec![], 5, Limits::default()), (800, 1));
    assert_eq!(why(&book), plain);
    assert_eq!(renew(&mut book, vec![], 6, Limits::default()), (800, 0));

    // What was given to others meanwhile is theirs; what they give back comes to it.
    assert_eq!(renew(&mut book, vec![], 7, tight), (200, 1));
    assert_eq!(renew(&mut book, vec![request(2, 180)], 8, tight).1, 1);
    assert_eq!(renew(&mut book, vec![request(3, 190)], 9, tight).1, 1);
    assert_eq!(renew(&mut book, vec![], 10, Limits::default()), (630, 1));
    assert!(why(&book).contains("grows back"), "{}", why(&book));
    book.remove(&host(1), &GrantId::for_request(&host(1), &RequestId::new([3; 32])));
    assert_eq!(renew(&mut book, vec![], 11, Limits::default()), (800, 1));
}

#[test]
fn a_request_that_a_policy_cut_gets_the_rest_when_the_policy_is_gone() {
    let (mut book, rules) = (book(1000), rules(10_000));
    let tight = Limits { now: Resources::default(), coming: cpu(200) };
    let asks = envelope(1, 1, vec![request(1, 800)], vec![]);
    let given = step_under(&mut book, &rules, &asks, 0, (&BTreeMap::new(), tight));
    assert_eq!(given.grants[0].resources, cpu(200));
    let id = given.grants[0].id;
    let held = step_under(&mut book, &rules, &envelope(1, 2, vec![], vec![id]), 1, (&BTreeMap::new(), tight));
    assert_eq!(held.grants[0].resources, cpu(200), "what is under way holds for it");
    let back = step(&mut book, &rules, &envelope(1, 3, vec![], vec![id]), 2);
    assert_eq!(back.grants[0].resources, cpu(800));
}

#[test]
fn an_untrusted_host_keeps_what_it_has_and_gets_nothing_new() {
    let (mut book, rules) = (book(1000), rules(10_000));
    let tight = Limits { now: cpu(200), coming: cpu(200) };
    let asks = envelope(1, 1, vec![request(1, 800)], vec![]);
    let given = step_under(&mut book, &rules, &asks, 0, (&BTreeMap::new(), tight));
    let envelope = envelope(1, 2, vec![request(2, 100)], vec![given.grants[0].id]);
    let asked = Asked {
        envelope: &envelope,
        epoch: 1,
        trusted: false,
        outlooks: &BTreeMap::new(),
        limits: &unlimited,
        dwell_ms: 0,
        now_ms: 1,
    };
    let allocation = decide(&book, &rules, &asked);
    assert_eq!(allocation.refused[0].refusal.reason, Reason::Zone);
    let sizes: Vec<Resources> = allocation.grants.iter().map(|grant| grant.resources).collect();
    assert_eq!(sizes, [cpu(200)], "what a policy cut does not grow back there");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is asked, released, fenced or expired: nothing is granted beyond capacity or quota, and the
    /// running sums are the sums.
    #[test]
    fn the_bounds_hold_after_every_step(steps in proptest::collection::vec((1u8..3, 0u8..6, 1u64..700, 0u8..5, 0.0f64..900.0), 1..60)) {
        let (capacity, quota) = (1000, 1500);
        let (mut book, rules) = (book(capacity), rules(quota));
        let mut sequence = [0u64; 3];
        for (at, (who, id, cpu, what, used)) in steps.into_iter().enumerate() {
            let now_ms = at as u64 * 7;
            sequence[who as usize] += 1;
            let ids: Vec<GrantId> = book.host(&host(who)).unwrap().entries().map(|e| e.record.grant.id).collect();
            let held: Vec<GrantId> = ids.iter().copied().filter(|g| what != 1 || g.as_bytes()[0] % 2 == 0).collect();
            if what == 2 {
                book.hold_until(&host(who), now_ms + 20);
                book.fence(&host(who));
            }
            for record in book.expired(now_ms).into_iter().filter(|_| what == 3) {
                book.remove(&record.host, &record.grant.id);
            }
            let forecasts = ids.iter().map(|id| {
                (*id, BTreeMap::from([(ResourceKind::Cpu, ewma_forecast(&[Some(used); 20]).into())]))
            }).collect();
            let envelope = envelope(who, sequence[who as usize], vec![request(id, cpu)], held);
            step_with(&mut book, &rules, &envelope, now_ms, &forecasts);
            let mut total = 0;
            for (_, share) in book.hosts() {
                let granted: u64 = share.entries().map(|e| e.record.grant.resources.cpu_millicores.unwrap()).sum();
                prop_assert!(granted <= capacity, "host over capacity: {granted}");
                prop_assert!(share.entries().all(|e| e.record.grant.resources.cpu_millicores <= e.record.requested.cpu_millicores));
                total += granted;
            }
            prop_assert!(total <= quota, "tenant over quota: {total}");
            prop_assert_eq!(book.tenant(&name("shop"), ResourceKind::Cpu), total);
            prop_assert_eq!(book.application(&name("web"), ResourceKind::Cpu), total);
        }
    }
}

#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::super::tests::{MINUTE_MS, START_MS, about, demand, shrink};
use super::*;

fn way(from: u64, to: u64) -> Transition {
    Transition { from, to, guarantee: 0, ..shrink() }
}

/// Sum of promises at each second of the hour. Between setpoints each that shrinks may read one unit more than its line: units are whole.
fn most_promised(standing: u64, plans: &[PhasedPlan]) -> u128 {
    let read = |second: u64| {
        let on_setpoints = second.is_multiple_of(60);
        let rounded = if on_setpoints { 0 } else { plans.iter().filter(|plan| plan.transition().shrinks()).count() };
        promised_at(standing, plans, START_MS + second * 1000).saturating_sub(rounded as u128)
    };
    (0..=3600).map(read).max().unwrap()
}

#[test]
fn what_grows_waits_for_what_another_frees() {
    let (shrinks, grows) = (way(1000, 400), way(200, 800));
    let high = demand([about(550.0); 12], 5 * MINUTE_MS);
    let members = [Member { transition: &grows, demand: &high }, Member { transition: &shrinks, demand: &high }];
    let plans = hand_over(1500, 300, &members).unwrap();
    assert_eq!(most_promised(300, &plans), 1500);
    assert_eq!((plans[0].transition().to, plans[1].transition().to), (800, 400), "in their order");
    assert!(!plans[1].is_straight(), "the one that shrinks is planned by its forecast");
    // Grown by itself it would be above the capacity at some time.
    let alone = [phase(&grows, &high).unwrap(), plans[1].clone()];
    assert!(overdrawn_at(1500, 300, &alone).is_some());
}

#[test]
fn a_grower_that_gets_its_capacity_too_late_makes_all_go_in_lines() {
    // The one that shrinks wants all it has until the end; the one that grows can only go as fast as the line.
    let shrinks = way(1000, 400);
    let grows = Transition { slew_per_s: 1, from: 0, to: 3600, ..way(0, 0) };
    let until_the_end = demand([about(900.0); 12], 5 * MINUTE_MS);
    let nothing = Demand::default();
    let filler = way(3000, 0);
    let members = [
        Member { transition: &shrinks, demand: &until_the_end },
        Member { transition: &grows, demand: &nothing },
        Member { transition: &filler, demand: &nothing },
    ];
    let plans = hand_over(4000, 0, &members).unwrap();
    assert!(plans.iter().all(PhasedPlan::is_straight));
    assert!(most_promised(0, &plans) <= 4000);
}

#[test]
fn promises_above_the_capacity_are_refused() {
    let (shrinks, grows) = (way(1000, 400), way(200, 801));
    let nothing = Demand::default();
    let members = [shrinks, grows].map(|transition| (transition, nothing.clone()));
    let members: Vec<_> = members.iter().map(|(transition, demand)| Member { transition, demand }).collect();
    let refused = |promised| Err(Refused::Capacity { promised, capacity: 1200 });
    assert_eq!(hand_over(1200, 0, &members), refused(1201));
    assert_eq!(hand_over(1200, 1, &members[..0]).unwrap(), Vec::new());
    // Whoever shrinks only after another has grown leaves too little in between.
    let late = Transition {
        starts_at_ms: START_MS + 30 * MINUTE_MS,
        effective_at_ms: START_MS + 90 * MINUTE_MS,
        ..way(1000, 400)
    };
    let grows = way(200, 800);
    let members = [Member { transition: &late, demand: &nothing }, Member { transition: &grows, demand: &nothing }];
    assert!(matches!(hand_over(1200, 0, &members), Err(Refused::Capacity { .. })));
}

#[test]
fn the_stricter_of_old_and_new_is_the_lesser_of_each() {
    let old = Resources { cpu_millicores: Some(500), memory_bytes: Some(100), ..Resources::default() };
    let new =
        Resources { cpu_millicores: Some(800), memory_bytes: Some(50), storage_bytes: Some(7), ..Resources::default() };
    let expected = Resources { cpu_millicores: Some(500), ..new };
    assert_eq!(stricter(&old, &new), expected);
    assert_eq!(stricter(&new, &old), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn nothing_is_ever_promised_twice(
        ends in proptest::collection::vec((0_u64..4000, 0_u64..4000, 200.0_f64..4000.0), 1..6), standing in 0_u64..1000, spare in 0_u64..50
    ) {
        let demands: Vec<Demand> = ends.iter().map(|(_, _, middle)| demand([about(*middle); 12], 5 * MINUTE_MS)).collect();
        let ways: Vec<Transition> = ends.iter().map(|(from, to, _)| Transition { slew_per_s: 4, ..way(*from, *to) }).collect();
        let members: Vec<Member<'_>> =
            ways.iter().zip(&demands).map(|(transition, demand)| Member { transition, demand }).collect();
        let sum = |end: fn(&(u64, u64, f64)) -> u64| ends.iter().map(end).sum::<u64>() + standing;
        let capacity = sum(|end| end.0).max(sum(|end| end.1)) + spare;
        let plans = hand_over(capacity, standing, &members).unwrap();
        prop_assert!(most_promised(standing, &plans) <= u128::from(capacity));
        for (plan, (from, to, _)) in plans.iter().zip(&ends) {
            prop_assert_eq!((plan.transition().from, plan.setpoints().last().unwrap().value), (*from, *to));
        }
    }
}

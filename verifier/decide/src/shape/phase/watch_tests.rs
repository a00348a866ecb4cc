#![expect(clippy::unwrap_used, reason = "tests")]

use super::super::tests::{MINUTE_MS, START_MS, about, demand, shrink};
use super::*;

/// What is seen in a minute of the hour.
fn seen(minute: u64, demand: f64, actual: Option<u64>) -> Seen {
    Seen { at_ms: START_MS + minute * MINUTE_MS, demand: Some(demand), actual }
}

fn running() -> (PhasedPlan, Demand) {
    let demand = demand([about(550.0); 12], 5 * MINUTE_MS);
    (phase(&shrink(), &demand).unwrap(), demand)
}

fn findings(steps: &[Seen]) -> Vec<Finding> {
    let ((plan, demand), mut watch) = (running(), Watch::default());
    let transition = plan.transition();
    let at = |at_ms: u64| Running {
        starts_at_ms: transition.starts_at_ms,
        effective_at_ms: transition.effective_at_ms,
        setpoint: plan.limit_at(at_ms),
        distance: transition.distance(),
        slack: 10,
    };
    let tolerance = Tolerance::of(60 * MINUTE_MS);
    let step = |seen: &Seen| {
        let finding = watch.step(&at(seen.at_ms), &demand, seen, &tolerance);
        if finding.replan.is_some() {
            watch.begin_anew();
        }
        finding
    };
    steps.iter().map(step).collect()
}

fn reasons(steps: &[Seen]) -> Vec<Option<Why>> {
    findings(steps).into_iter().map(|finding| finding.replan).collect()
}

#[test]
fn demand_beyond_its_line_for_some_steps_asks_for_a_new_plan() {
    let high: Vec<Seen> = (1..12).map(|minute| seen(minute, 700.0, None)).collect();
    let expected: Vec<Option<Why>> = (1..12).map(|minute| (minute % 3 == 0).then_some(Why::Demand)).collect();
    assert_eq!(reasons(&high), expected);
}

#[test]
fn only_calm_makes_forget_and_gaps_change_nothing() {
    let between = 590.0;
    assert_eq!(reasons(&[700.0, 700.0, between, 700.0].map(|value| seen(1, value, None)))[3], Some(Why::Demand));
    assert_eq!(reasons(&[700.0, 700.0, 500.0, 700.0].map(|value| seen(1, value, None)))[3], None);
    let gap = Seen { demand: None, ..seen(1, 0.0, None) };
    let steps = [seen(1, 700.0, None), gap, seen(2, 700.0, None), gap, seen(3, 700.0, None)];
    assert_eq!(reasons(&steps)[4], Some(Why::Demand));
}

#[test]
fn a_demand_that_swings_about_its_line_does_not_make_plans_flap() {
    let swing: Vec<Seen> =
        (1..50).map(|minute| seen(minute, if minute % 2 == 0 { 700.0 } else { 620.0 }, None)).collect();
    assert!(reasons(&swing).iter().flatten().count() <= 50 / 3, "between its lines nothing is forgotten");
    let calm: Vec<Seen> =
        (1..50).map(|minute| seen(minute, if minute % 2 == 0 { 700.0 } else { 500.0 }, None)).collect();
    assert!(reasons(&calm).iter().flatten().next().is_none());
}

#[test]
fn a_plan_that_is_in_force_is_not_made_anew() {
    let over: Vec<Seen> = (60..70).map(|minute| seen(minute, 700.0, Some(1000))).collect();
    assert!(findings(&over).iter().all(|finding| *finding == Finding::default()));
}

#[test]
fn plans_are_left_alone_for_a_part_of_their_window() {
    let dwells_ms = [60_000, 180_000, 3_600_000, 86_400_000].map(|window_ms| Tolerance::of(window_ms).dwell_ms);
    assert_eq!(dwells_ms, [10_000, 15_000, 300_000, 300_000]);
}

#[test]
fn an_actual_off_its_setpoint_is_looked_at_once_until_it_is_back() {
    let (plan, _) = running();
    let off = |minute: u64| seen(minute, 500.0, Some(plan.limit_at(START_MS + minute * MINUTE_MS) + 31));
    let on = |minute: u64| seen(minute, 500.0, Some(plan.limit_at(START_MS + minute * MINUTE_MS) + 30));
    let steps: Vec<Seen> = (1..9).map(off).chain([on(9)]).chain((10..14).map(off)).collect();
    let told: Vec<u64> = findings(&steps)
        .iter()
        .filter_map(|finding| finding.review)
        .map(|review| (review.at_ms - START_MS) / MINUTE_MS)
        .collect();
    assert_eq!(told, [3, 12]);
    assert_eq!(findings(&steps)[2].replan, Some(Why::Actual));
    let review = findings(&steps)[2].review.unwrap();
    assert_eq!(review.actual, review.setpoint + 31);
}

#[test]
fn near_its_end_a_plan_is_left_alone() {
    let late: Vec<Seen> = (55..60).map(|minute| seen(minute, 700.0, None)).collect();
    assert!(reasons(&late).iter().all(Option::is_none));
}

#[test]
fn a_plan_made_anew_frees_what_the_old_one_had_left_to_free() {
    let (plan, _) = running();
    let now_ms = START_MS + 10 * MINUTE_MS;
    let higher = demand([about(600.0); 12], 5 * MINUTE_MS);
    let anew = Watch::anew(&plan, now_ms, None, &higher).unwrap();
    let here = plan.limit_at(now_ms);
    let old_rest: u64 = (0..3000).map(|second| here - plan.limit_at(now_ms + second * 1000).min(here)).sum();
    let new_rest = u64::try_from(anew.freed_unit_s()).unwrap();
    assert!(new_rest.abs_diff(old_rest) < old_rest / 50 + 2000, "{new_rest} {old_rest}");
}

#[test]
fn what_can_no_longer_be_reached_is_told_and_not_put_off() {
    let (plan, demand) = running();
    let now_ms = START_MS + 55 * MINUTE_MS;
    let refused = Watch::anew(&plan, now_ms, Some(1000), &demand);
    assert_eq!(refused, Err(Refused::TooSoon { earliest_ms: now_ms + 600_000 }));
}

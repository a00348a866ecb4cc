#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use quotary_common::plan::Setpoint;

use super::*;
use crate::forecast::{QUANTILE_LEVELS, StepRow};

pub(super) const START_MS: u64 = 1_800_000_000_000;
pub(super) const MINUTE_MS: u64 = 60_000;

/// From 1000 to 400 in an hour, a setpoint each minute, four times as fast as the line at most.
pub(super) fn shrink() -> Transition {
    Transition {
        from: 1000,
        to: 400,
        guarantee: 300,
        starts_at_ms: START_MS,
        effective_at_ms: START_MS + 60 * MINUTE_MS,
        resolution_s: 60,
        slew_per_s: 1,
        freed_permille: 500,
    }
}

/// About a middle, a tenth of it to either side.
pub(super) fn about(middle: f64) -> StepRow {
    QUANTILE_LEVELS.map(|level| middle * (0.9 + 0.2 * level))
}

pub(super) fn demand(rows: impl IntoIterator<Item = StepRow>, row_ms: u64) -> Demand {
    let stretch = |(quantiles, at): (StepRow, u64)| Stretch {
        from_ms: START_MS + at * row_ms,
        until_ms: START_MS + (at + 1) * row_ms,
        quantiles,
    };
    Demand::new(rows.into_iter().zip(0..).map(stretch).collect()).unwrap()
}

/// Minutes in which a demand of so much each is above the plan.
fn minutes_above(plan: &PhasedPlan, middles: &[f64]) -> usize {
    let at = |minute: usize| START_MS + minute as u64 * MINUTE_MS + MINUTE_MS / 2;
    middles.iter().enumerate().filter(|(minute, demand)| **demand > plan.limit_at(at(*minute)) as f64).count()
}

#[test]
fn without_a_forecast_the_way_is_the_straight_line() {
    for (from, to) in [(1000, 400), (400, 1000), (700, 700), (1000, 999)] {
        let plan = phase(&Transition { from, to, ..shrink() }, &Demand::default()).unwrap();
        assert!(plan.is_straight(), "{from} {to}");
        assert_eq!(plan.setpoints().len(), 60);
        assert_eq!(plan.limit_at(START_MS), from);
        assert_eq!(plan.limit_at(START_MS + 30 * MINUTE_MS).abs_diff(u64::midpoint(from, to)), 0);
        assert_eq!(plan.limit_at(START_MS + 60 * MINUTE_MS), to);
    }
}

#[test]
fn what_shrinks_gives_away_what_is_not_wanted_and_keeps_the_rest_until_the_end() {
    // The line comes below 550 after 45 minutes; a plan that frees as much never needs to before the last ramp.
    let middles = [550.0; 60];
    let plan = phase(&shrink(), &demand([about(550.0); 12], 5 * MINUTE_MS)).unwrap();
    let line = phase(&shrink(), &Demand::default()).unwrap();
    assert_eq!(plan.freed_unit_s(), line.freed_unit_s());
    assert!(minutes_above(&line, &middles) >= 14);
    assert!(minutes_above(&plan, &middles) <= 4, "{:?}", plan.setpoints());
    assert!(plan.limit_at(START_MS + 40 * MINUTE_MS) >= 600, "above all that is likely");
}

#[test]
fn what_grows_is_there_before_the_need() {
    let grow = Transition { from: 400, to: 1000, guarantee: 0, ..shrink() };
    // Demand rises from 300 to 650 after twenty minutes; the line is there after 25.
    let rows = (0..12).map(|step| about(if step < 4 { 300.0 } else { 650.0 }));
    let plan = phase(&grow, &demand(rows, 5 * MINUTE_MS)).unwrap();
    assert!(plan.limit_at(START_MS + 20 * MINUTE_MS) >= 650, "{:?}", plan.setpoints());
    let line = phase(&grow, &Demand::default()).unwrap();
    assert_eq!(plan.freed_unit_s(), line.freed_unit_s(), "as much is taken early");
}

#[test]
fn shrinking_waits_for_a_peak_to_pass() {
    let rows = (0..12).map(|step| about(if (6..9).contains(&step) { 620.0 } else { 350.0 }));
    let plan = phase(&shrink(), &demand(rows, 5 * MINUTE_MS)).unwrap();
    assert!(plan.limit_at(START_MS + 44 * MINUTE_MS) >= 680, "{:?}", plan.setpoints());
    assert!(plan.limit_at(START_MS + 15 * MINUTE_MS) < 1000);
}

#[test]
fn the_share_that_is_freed_is_as_asked_for() {
    let forecast = demand([about(550.0); 12], 5 * MINUTE_MS);
    for freed_permille in [250, 400, 500, 600, 750] {
        for demand in [&forecast, &Demand::default()] {
            let plan = phase(&Transition { freed_permille, ..shrink() }, demand).unwrap();
            let asked = 600 * 3600 * u128::from(freed_permille) / 1000;
            assert!(plan.freed_unit_s().abs_diff(asked) <= 30, "{freed_permille}: {}", plan.freed_unit_s());
        }
    }
    for freed_permille in [0, 50, 950, 1000] {
        assert_eq!(
            phase(&Transition { freed_permille, ..shrink() }, &forecast),
            Err(Refused::Share),
            "{freed_permille}"
        );
    }
}

#[test]
fn too_little_time_is_refused_with_the_earliest_and_that_suffices() {
    let hasty = Transition { effective_at_ms: START_MS + 9 * MINUTE_MS, ..shrink() };
    assert_eq!(phase(&hasty, &Demand::default()), Err(Refused::TooSoon { earliest_ms: START_MS + 600_000 }));
    let earliest = Transition { effective_at_ms: START_MS + 600_000, ..shrink() };
    assert!(phase(&earliest, &demand([about(550.0); 12], 5 * MINUTE_MS)).unwrap().is_straight());
    let past = Transition { effective_at_ms: START_MS - 1, ..shrink() };
    assert!(matches!(phase(&past, &Demand::default()), Err(Refused::TooSoon { .. })));
}

#[test]
fn a_request_that_contradicts_itself_is_refused() {
    let refused = |transition| {
        assert!(matches!(phase(&transition, &Demand::default()), Err(Refused::Request(_))), "{transition:?}")
    };
    refused(Transition { guarantee: 401, ..shrink() });
    refused(Transition { resolution_s: 0, ..shrink() });
    refused(Transition { slew_per_s: 0, ..shrink() });
    refused(Transition { freed_permille: 1001, ..shrink() });
    refused(Transition { effective_at_ms: START_MS + 60 * MINUTE_MS + 1, ..shrink() });
    refused(Transition { effective_at_ms: START_MS + 32 * 24 * 60 * MINUTE_MS, ..shrink() });
}

#[test]
fn the_way_back_begins_where_the_plan_stands_and_ends_at_what_was() {
    let plan = phase(&shrink(), &demand([about(550.0); 12], 5 * MINUTE_MS)).unwrap();
    let now_ms = START_MS + 17 * MINUTE_MS + 123;
    let here = plan.limit_at(now_ms);
    let back = way_back(&plan, now_ms, &Demand::default()).unwrap();
    assert_eq!((back.transition().from, back.transition().starts_at_ms), (here, now_ms));
    assert_eq!(back.setpoints().last().unwrap().value, 1000);
    assert_eq!(back.transition().effective_at_ms, now_ms + (1000 - here) * 1000, "one unit a second");
    let none = way_back(&plan, START_MS, &Demand::default()).unwrap();
    assert_eq!(none.setpoints().last().unwrap().value, 1000);
}

#[test]
fn a_demand_takes_steps_before_hours_and_nothing_that_is_none() {
    let past: Vec<_> = (0..60).map(|at| Some(f64::from(50 + at % 7))).collect();
    let forecast = crate::forecast::testing::ewma_forecast(&past);
    let hours = [about(500.0), about(600.0), about(700.0)];
    // Hours begin half an hour before the steps.
    let both = Demand::of(Some((&forecast, START_MS)), Some((&hours, START_MS - 30 * MINUTE_MS)));
    assert_eq!(both.stretches().len(), 12 + 2);
    assert_eq!(both.at(START_MS + 59 * MINUTE_MS).unwrap().quantiles, forecast.quantiles.steps()[11]);
    let after = both.at(START_MS + 60 * MINUTE_MS).unwrap();
    assert_eq!((after.from_ms, after.quantiles), (START_MS + 60 * MINUTE_MS, about(600.0)));
    assert_eq!(both.at(START_MS - 1), None);
    let declared = crate::forecast::Forecast::declared(800, 300).unwrap();
    assert!(Demand::of(Some((&declared, START_MS)), None).is_empty(), "a declared request is no forecast");
    let row = |quantiles| vec![Stretch { from_ms: 1, until_ms: 2, quantiles }];
    assert!(Demand::new(row([f64::NAN; 11])).is_none());
    assert!(Demand::new(row([-1.0; 11])).is_none());
    assert!(Demand::new(vec![row([1.0; 11])[0], row([1.0; 11])[0]]).is_none(), "they overlap");
}

#[test]
fn a_finer_resolution_than_a_course_holds_is_made_coarser() {
    let week = Transition { effective_at_ms: START_MS + 7 * 24 * 60 * MINUTE_MS, resolution_s: 1, ..shrink() };
    let rows = (0..7 * 24).map(|hour| about(if hour % 24 < 8 { 350.0 } else { 600.0 }));
    let plan = phase(&week, &demand(rows, 60 * MINUTE_MS)).unwrap();
    assert!(plan.setpoints().len() as u64 <= STEPS_MAX && plan.setpoints().len() > 300);
    assert!(!plan.is_straight());
}

/// Requests of all sizes, tight and loose, and forecasts of all shapes, absurd ones too.
fn requests() -> impl Strategy<Value = (Transition, Demand)> {
    let ends =
        prop_oneof![(0_u64..2000, 0_u64..2000), (0..1_u64 << 60, 0..1_u64 << 60), Just((5, 6)), Just((0, 1 << 60))];
    let rows = proptest::collection::vec((0.0_f64..2.0, 0.0_f64..0.5), 0..40);
    (ends, 1_u64..100_000, 1_u64..4000, 0_u64..30, 0_u64..=1000, rows, any::<bool>()).prop_map(
        |((from, to), window_s, resolution_s, looseness, guarantee, rows, is_even)| {
            let slew_per_s = (from.abs_diff(to) / window_s).saturating_mul(looseness) / 4 + 1;
            let transition = Transition {
                from,
                to,
                guarantee: from.min(to) / 1000 * guarantee,
                starts_at_ms: START_MS,
                effective_at_ms: START_MS + window_s * 1000,
                resolution_s,
                slew_per_s,
                freed_permille: if is_even { 500 } else { guarantee },
            };
            let top = from.max(to) as f64;
            let rows =
                rows.into_iter().map(|(middle, spread)| QUANTILE_LEVELS.map(|level| top * (middle + spread * level)));
            (transition, demand(rows.collect::<Vec<_>>(), window_s * 1000 / 20 + 1))
        },
    )
}

/// Of a line, rounded as it is, one unit more or less may free what was asked for even more exactly: it is a plan too.
fn mutants(setpoints: &[Setpoint], is_straight: bool) -> Vec<Vec<Setpoint>> {
    let mut all = Vec::new();
    for at in 0..setpoints.len() {
        let mut with = |change: &dyn Fn(&mut Setpoint)| {
            let mut mutant = setpoints.to_vec();
            change(&mut mutant[at]);
            all.push(mutant);
        };
        if !is_straight || at + 1 == setpoints.len() {
            with(&|setpoint| setpoint.value += 1);
            with(&|setpoint| setpoint.value = setpoint.value.wrapping_sub(1));
        }
        with(&|setpoint| setpoint.at_ms += 1);
        with(&|setpoint| setpoint.at_ms -= 1000);
        let mut without = setpoints.to_vec();
        without.remove(at);
        all.push(without);
    }
    all.push([setpoints, &setpoints[setpoints.len() - 1..]].concat());
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_request_is_refused_with_what_would_do_or_planned_within_its_bounds((transition, demand) in requests()) {
        match phase(&transition, &demand) {
            Ok(plan) => {
                prop_assert_eq!(check(&transition, plan.setpoints()), Ok(plan.clone()));
                prop_assert_eq!(phase(&transition, &demand), Ok(plan), "the same again");
            }
            Err(Refused::TooSoon { earliest_ms }) => {
                prop_assert!(earliest_ms > transition.effective_at_ms);
                let later = Transition { effective_at_ms: earliest_ms, freed_permille: 500, ..transition };
                prop_assert_eq!(phase(&later, &demand).map(|plan| plan.transition().clone()), Ok(later));
            }
            Err(Refused::Request(why)) => {
                prop_assert!(why.contains("31 days") && transition.distance() / transition.slew_per_s > 31 * 86_400 - 1, "{why}");
            }
            Err(refused) => prop_assert!(refused == Refused::Share && transition.freed_permille != 500, "{refused}"),
        }
    }

    #[test]
    fn lines_of_one_window_together_never_hold_more_than_at_its_ends(
        ends in proptest::collection::vec((0_u64..4000, 0_u64..4000), 1..6), standing in 0_u64..1000
    ) {
        let line = |(from, to): &(u64, u64)| {
            phase(&Transition { from: *from, to: *to, guarantee: 0, slew_per_s: 4, ..shrink() }, &Demand::default()).unwrap()
        };
        let lines: Vec<PhasedPlan> = ends.iter().map(line).collect();
        let sum = |end: fn(&(u64, u64)) -> u64| ends.iter().map(end).sum::<u64>() + standing;
        let most = sum(|end| end.0).max(sum(|end| end.1));
        for second in 0..=3600 {
            let held: u64 = lines.iter().map(|line| line.limit_at(START_MS + second * 1000)).sum::<u64>() + standing;
            // Between setpoints each that shrinks may read one unit more than its line: units are whole.
            let shrinking = lines.iter().filter(|line| line.transition().shrinks()).count() as u64;
            let rounded = if second.is_multiple_of(60) { 0 } else { shrinking };
            prop_assert!(held <= most + rounded, "{held} of {most} after {second} s");
        }
    }

    #[test]
    fn a_good_plan_with_one_value_or_instant_off_is_caught((transition, demand) in requests()) {
        let Ok(plan) = phase(&transition, &demand) else { return Ok(()) };
        for mutant in mutants(plan.setpoints(), plan.is_straight()) {
            // One unit off the line: the mutant is the line.
            let taken = check(&transition, &mutant).is_ok_and(|taken| !taken.is_straight() || plan.is_straight());
            prop_assert!(!taken, "{mutant:?}");
        }
    }

    #[test]
    fn whoever_makes_a_plan_anew_starts_at_what_is_and_ends_at_the_same_second(
        (transition, demand) in requests(), gone_permille in 0_u64..1000, actual in proptest::option::of(0_u64..2000)
    ) {
        let Ok(plan) = phase(&transition, &demand) else { return Ok(()) };
        let window_ms = transition.effective_at_ms - transition.starts_at_ms;
        let now_ms = transition.starts_at_ms + window_ms / 1000 * gone_permille + gone_permille % 7;
        match Watch::anew(&plan, now_ms, actual, &demand) {
            Ok(anew) => {
                let starts_at_ms = anew.transition().starts_at_ms;
                prop_assert!(starts_at_ms >= now_ms && starts_at_ms < now_ms + 1000);
                prop_assert_eq!(anew.transition().from, actual.unwrap_or_else(|| plan.limit_at(starts_at_ms)));
                let last = anew.setpoints().last().unwrap();
                prop_assert_eq!((last.at_ms, last.value), (transition.effective_at_ms, transition.to));
            }
            Err(Refused::TooSoon { .. }) => {}
            // What is may be so far off that no slew of the transition reaches the target.
            Err(Refused::Request(why)) => {
                let distance = actual.unwrap_or(transition.from).abs_diff(transition.to);
                prop_assert!(why.contains("31 days") && distance / transition.slew_per_s > 31 * 86_400 - 1, "{why}");
            }
            Err(refused) => prop_assert!(false, "{refused}"),
        }
    }
}

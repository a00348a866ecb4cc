//! Usage at a limit and shortages raise a size, within bounds, and for a while.
#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::forecast::testing::ewma_forecast;
use crate::history::Point;

fn point(used: u64, is_censored: bool) -> Option<Point> {
    Point::new((used, used), 20, is_censored)
}

fn demand(points: &[Option<Point>]) -> Vec<Option<f64>> {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    points.iter().map(|point| point.map(|point| point.mean() as f64)).collect()
}

/// The size of a request whose series has these points.
fn sized_by(asked: u64, class: Class, points: &[Option<Point>], pressure_permille: u16) -> (u64, Reason) {
    let strain = Strain::of(ResourceKind::Cpu, points, pressure_permille);
    let outlook = Outlook { forecast: ewma_forecast(&demand(points)), strain };
    let requested = Resources { cpu_millicores: Some(asked), ..Resources::default() };
    let profile = size(&requested, class, &BTreeMap::from([(ResourceKind::Cpu, outlook)]));
    (profile.resources.cpu_millicores.unwrap(), profile.why[0].1.clone())
}

#[test]
fn usage_at_a_limit_is_a_lower_bound_and_buys_a_margin_that_is_told() {
    let free = vec![point(500, false); 40];
    let mut held = free.clone();
    held[34..].fill(point(500, true));
    let (without, _) = sized_by(1000, Class::Burstable, &free, 0);
    let (with, why) = sized_by(1000, Class::Burstable, &held, 0);
    assert_eq!(without, 600);
    // The newer half of the hour weighs 57 of 78.
    assert_eq!((with, &why.codes[..]), (710, &[ReasonCode::Forecast, ReasonCode::Censored][..]));
    assert_eq!(
        why.to_string(),
        "forecast+censored: ewma from 40 points: the hour's peak is at most 500 with p 0.995; at a limit in 73 % of the \
         last 12 steps, demand at least 500: 22 % more, and 42 % headroom"
    );
}

#[test]
fn the_lower_bound_stands_where_the_forecast_is_below_it() {
    // A spike that was cut an hour's worth of steps ago, and quiet since.
    let mut points = vec![point(100, false); 60];
    points[50] = point(600, true);
    let (with, why) = sized_by(1000, Class::BestEffort, &points, 0);
    assert!(with > 720, "{with}: {why}");
    // Memory is held to its limit by its greatest sample.
    let mut spiky = vec![point(100, false); 11];
    spiky.push(Point::new((100, 800), 20, true));
    assert_eq!(Strain::of(ResourceKind::Memory, &spiky, 0).at_least(), Some(800));
    assert_eq!(Strain::of(ResourceKind::Cpu, &spiky, 0).at_least(), Some(100));
}

#[test]
fn a_shortage_raises_a_size_by_what_is_left_of_it() {
    let points = vec![point(400, false); 40];
    let sizes: Vec<u64> =
        [1000, 500, 250, 125, 10, 0].iter().map(|left| sized_by(1000, Class::Burstable, &points, *left).0).collect();
    assert_eq!(sizes, [680, 580, 528, 504, 500, 500]);
    let (_, why) = sized_by(1000, Class::Burstable, &points, 500);
    assert_eq!(why.codes, [ReasonCode::Forecast, ReasonCode::Pressure]);
    assert!(why.text.contains("pressure 500 of 1000: 25 % more, and 45 % headroom"), "{why}");
}

#[test]
fn what_was_at_a_limit_is_forgotten_within_an_hour_of_steps() {
    let mut points = vec![point(500, false); 40];
    points[39] = point(500, true);
    let mut before = u64::MAX;
    for _ in 0..Strain::STEPS {
        let (now, why) = sized_by(2000, Class::BestEffort, &points, 0);
        assert!(now <= before && why.codes.contains(&ReasonCode::Censored), "{now} after {before}: {why}");
        before = now;
        points.push(point(500, false));
    }
    let (calm, why) = sized_by(2000, Class::BestEffort, &points, 0);
    assert_eq!((calm, &why.codes[..]), (600, &[ReasonCode::Forecast][..]));
    // Silence forgets too.
    points.push(point(500, true));
    points.extend(std::iter::repeat_n(None, Strain::STEPS));
    assert_eq!(Strain::of(ResourceKind::Cpu, &points, 0), Strain::default());
}

/// Sizes an application of a constant demand so many times, each size being the limit of the next step; every size.
fn rounds(true_demand: u64, asked: u64, class: Class, count: usize) -> Vec<u64> {
    let (mut limit, mut pressure) = (percent(asked, floor_percent(class)), 0_u32);
    let mut points = vec![point(true_demand.min(limit), true); 24];
    let mut sizes = Vec::new();
    for _ in 0..count {
        let used = true_demand.min(limit);
        let is_held = u128::from(used) * 100 >= u128::from(limit) * 95;
        points.push(point(used, is_held));
        points.drain(..points.len().saturating_sub(120));
        // Each round at the limit is a kill; between rounds five minutes pass.
        pressure = if used < true_demand { (pressure + 500).min(1000) } else { pressure * 990 / 1000 };
        limit = sized_by(asked, class, &points, u16::try_from(pressure).unwrap()).0;
        sizes.push(limit);
    }
    sizes
}

#[test]
fn a_series_at_its_own_limit_finds_its_demand_and_does_not_run_away() {
    for (true_demand, class) in [(900, Class::BestEffort), (5_000, Class::Burstable), (30_000, Class::BestEffort)] {
        let sizes = rounds(true_demand, 100_000, class, 1000);
        let floor = percent(100_000, floor_percent(class));
        // 20 % headroom, 30 % for the limit, 50 % for shortages: never more than twice what is really wanted.
        assert!(
            sizes.iter().all(|size| *size <= (2 * true_demand).max(floor)),
            "{true_demand}: {:?}",
            sizes.iter().max()
        );
        let last = sizes[999];
        assert!(last >= true_demand && last <= percent(true_demand, 121).max(floor), "{true_demand} ends at {last}");
    }
    // Where the request is below the demand, the request is the end of it.
    let capped = rounds(50_000, 20_000, Class::Burstable, 1000);
    assert!(capped.iter().all(|size| *size <= 20_000) && capped[999] == 20_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn strain_never_lowers_a_size_and_never_doubles_what_was_used(
        used in proptest::collection::vec((0..5_000_u64, any::<bool>()), 24..80),
        asked in 1..20_000_u64,
        pressure in 0..=u16::MAX,
        class in prop_oneof![Just(Class::Guaranteed), Just(Class::Burstable), Just(Class::BestEffort)],
    ) {
        let points: Vec<_> = used.iter().map(|(used, at_limit)| point(*used, *at_limit)).collect();
        let free: Vec<_> = used.iter().map(|(used, _)| point(*used, false)).collect();
        let (with, why) = sized_by(asked, class, &points, pressure);
        let (without, _) = sized_by(asked, class, &free, 0);
        prop_assert!(with >= without, "{with} below {without}: {why}");
        prop_assert!(with <= asked);
        let floor = percent(asked, floor_percent(class));
        let peak = whole(request(&ewma_forecast(&demand(&points)).quantiles, overrun_cost(class)).amount);
        let highest = used.iter().map(|(used, _)| *used).max().unwrap().max(peak);
        prop_assert!(with <= floor.max(2 * highest), "{with} of {highest} at most: {why}");
    }
}

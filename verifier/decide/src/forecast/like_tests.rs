#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn host(id: u8) -> HostId {
    HostId::new([id; 32])
}

/// A series that goes evenly from 0 to `most`.
fn even(most: f64) -> Vec<Option<f64>> {
    (0..=100).map(|n| Some(most * f64::from(n) / 100.0)).collect()
}

fn like(members: &[Member<'_>], host: &HostId) -> Vec<f64> {
    Likes::of(members).for_host(host)
}

fn members<'a>(series: &'a [(u8, Vec<Option<f64>>)]) -> Vec<Member<'a>> {
    series.iter().map(|(id, values)| Member { host: host(*id), values }).collect()
}

#[test]
fn the_middle_of_the_hosts_is_told_level_by_level() {
    let series = [(1, even(100.0)), (2, even(300.0)), (3, even(200.0))];
    let points = like(&members(&series), &host(9));
    assert_eq!(points.len(), 21);
    assert!((points[10] - 100.0).abs() < 1e-9 && (points[20] - 200.0).abs() < 1e-9, "{points:?}");
    assert!(like(&members(&series[..2]), &host(9)).is_empty(), "two have no majority");
    assert!(like(&[], &host(9)).is_empty());
}

#[test]
fn a_host_has_one_say_however_many_series_it_states() {
    let mut series = vec![(1, even(100.0)), (2, even(110.0)), (3, even(120.0))];
    series.extend((0..500).map(|_| (7, even(1e12))));
    let points = like(&members(&series), &host(9));
    assert!(points[20] <= 120.0, "{points:?}");
}

#[test]
fn a_host_by_itself_moves_itself_alone() {
    let series = [(7, even(50.0)), (8, even(70.0))];
    assert!((like(&members(&series), &host(7))[20] - 50.0).abs() < 1e-9);
    assert!((like(&members(&series), &host(8))[20] - 70.0).abs() < 1e-9);
    assert!(like(&members(&series), &host(9)).is_empty());
}

#[test]
fn of_many_hosts_the_first_are_asked_and_none_about_itself_twice() {
    let series: Vec<_> = (0..200).map(|id| (id, even(f64::from(id)))).collect();
    let members = members(&series);
    // Of 0 to 31 the middle is 16; who is among them is left out, and one more is asked.
    assert!((like(&members, &host(250))[20] - 16.0).abs() < 1e-9);
    assert!((like(&members, &host(3))[20] - 16.0).abs() < 1e-9);
    assert!((like(&members, &host(199))[20] - 16.0).abs() < 1e-9);
}

#[test]
fn a_young_series_and_what_is_no_demand_say_nothing() {
    let mut series = vec![(1, vec![Some(5.0); 23]), (2, vec![Some(f64::NAN); 50]), (3, vec![Some(-1.0); 50])];
    assert!(like(&members(&series), &host(1)).is_empty());
    assert!(series.iter().all(|(_, values)| !can_speak(values)));
    series[0].1.push(Some(6.0));
    assert!(can_speak(&series[0].1));
    assert_eq!(like(&members(&series), &host(1)).first(), Some(&5.0));
}

proptest! {
    #[test]
    fn one_poisoned_host_stays_within_what_the_others_say(
        sound in proptest::collection::vec(proptest::collection::vec(0.0_f64..1000.0, 24..60), 3..40),
        poison in proptest::collection::vec(prop_oneof![Just(1e300), Just(0.0), Just(f64::NAN), 0.0_f64..1e9], 24..60),
    ) {
        let mut series: Vec<(u8, Vec<Option<f64>>)> =
            sound.into_iter().zip(1..).map(|(values, id)| (id, values.into_iter().map(Some).collect())).collect();
        series.push((0, poison.into_iter().map(Some).collect()));
        let points = like(&members(&series), &host(200));
        prop_assert!(points.is_sorted() && points.iter().all(|point| (0.0..1000.0).contains(point)), "{points:?}");
        let lowest = series[..series.len() - 1].iter().flat_map(|(_, v)| v).flatten().copied().fold(f64::MAX, f64::min);
        prop_assert!(*points.first().unwrap() >= lowest);
    }
}

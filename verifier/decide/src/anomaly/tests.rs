//! Each kind from a series that shows it; quiet from those that do not; the alarm rate; poison.

use proptest::prelude::*;

use super::*;

const STEP_MS: i64 = 300_000;
const MONTH_POINTS: usize = 8_928;
/// Where the series of the tests turn odd.
const TURN: usize = 3_000;

/// Seeded noise (xorshift).
struct Noise(u64);

impl Noise {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn uniform(&mut self) -> f64 {
        for (shift, is_left) in [(13, true), (7, false), (17, true)] {
            self.0 ^= if is_left { self.0 << shift } else { self.0 >> shift };
        }
        ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// Normal noise around 50 with deviation 3.
fn noise(points: usize, seed: u64) -> Vec<f64> {
    let mut noise = Noise::new(seed);
    (0..points).map(|_| 50.0 + 3.0 * noise.normal()).collect()
}

fn judge_with(detector: &mut Detector, from: usize, values: &[f64]) -> Vec<Judgement> {
    values.iter().enumerate().map(|(at, value)| detector.judge((from + at) as i64 * STEP_MS, Some(*value))).collect()
}

fn judge(values: &[f64]) -> Vec<Judgement> {
    judge_with(&mut Detector::default(), 0, values)
}

/// The alarms from a point on: where, what, and its figures.
fn alarms(judged: &[Judgement], from: usize) -> Vec<(usize, Kind, Figures)> {
    let found = judged.iter().enumerate().skip(from);
    found.filter_map(|(at, judged)| Some((at, judged.kind?, judged.figures?))).collect()
}

/// Judges ten such series; all must be told as `kind` within `within` points of the turn, and hardly any before, in a hundred days of noise.
fn shows(kind: Kind, within: usize, series: impl Fn(u64) -> Vec<f64>) -> Vec<Figures> {
    let mut before = 0;
    let figures = (1..=10)
        .map(|seed| {
            let judged = judge(&series(seed));
            before += alarms(&judged[..TURN], 0).iter().filter(|(_, found, _)| *found == kind).count();
            let found = alarms(&judged, TURN);
            let first = found.iter().find(|(at, found, _)| *found == kind && *at < TURN + within);
            first.unwrap_or_else(|| panic!("series {seed}: no {kind:?} within {within}: {found:?}")).2
        })
        .collect();
    assert!(before <= 2, "{kind:?}: {before} alarms before the turn");
    figures
}

#[test]
fn a_series_holds_no_more_than_its_share_of_memory() {
    let (state, context) = (Detector::STATE_BYTES, Detector::CONTEXT_BYTES);
    assert!(state <= STATE_BYTES_MAX, "{state}");
    assert!(context <= 2_088, "{context}");
    assert_eq!(size_of::<Detector>(), state.next_multiple_of(8) + size_of::<usize>());
}

#[test]
fn a_lone_point_far_off_is_a_spike() {
    let figures = shows(Kind::Spike, 1, |seed| {
        let mut values = noise(TURN + 200, seed);
        values[TURN] = 90.0;
        values
    });
    for figure in figures {
        assert!((figure.expected - 50.0).abs() < 9.0 && figure.points == 1, "{figure:?}");
        assert_eq!(figure.came.to_bits(), 90f64.to_bits());
    }
}

#[test]
fn a_series_that_goes_elsewhere_and_stays_is_a_level_shift() {
    for by in [6.0, -9.0, 30.0] {
        let figures = shows(Kind::LevelShift, 60, |seed| {
            let mut values = noise(TURN + 200, seed);
            values[TURN..].iter_mut().for_each(|value| *value += by);
            values
        });
        for figure in figures {
            assert!((figure.expected - 50.0).abs() < 3.0 && ((figure.came - figure.expected) * by) > 0.0, "{figure:?}");
        }
    }
}

#[test]
fn a_sensor_that_is_stuck_is_a_flatline() {
    let figures = shows(Kind::Flatline, 60, |seed| {
        let mut values = noise(TURN + 200, seed);
        let stuck = values[TURN];
        values[TURN..].fill(stuck);
        values
    });
    assert!(figures.iter().all(|figure| figure.came >= 36.0 && figure.expected <= 2.0), "{figures:?}");
}

#[test]
fn a_slow_climb_without_end_is_a_leak() {
    let figures = shows(Kind::Leak, 700, |seed| {
        let mut values = noise(TURN + 700, seed);
        for (since, value) in values[TURN..].iter_mut().enumerate() {
            *value += 0.05 * since as f64;
        }
        values
    });
    assert!(figures.iter().all(|figure| figure.came > figure.expected && figure.points >= 5 * BLOCK), "{figures:?}");
}

#[test]
fn small_surprises_closer_together_are_an_unusual_density() {
    let figures = shows(Kind::UnusualDensity, 300, |seed| {
        let (mut values, mut when) = (noise(TURN + 400, seed), Noise::new(seed + 100));
        for (at, value) in values.iter_mut().enumerate() {
            // One point in a hundred is off, later every other one.
            if when.uniform() < if at < TURN { 0.01 } else { 0.5 } {
                *value += if when.uniform() < 0.5 { 12.0 } else { -12.0 };
            }
        }
        values
    });
    assert!(figures.iter().all(|figure| figure.came > 2.0 * figure.expected), "{figures:?}");
}

#[test]
fn a_course_like_none_before_is_an_unusual_shape() {
    let figures = shows(Kind::UnusualShape, 60, |seed| {
        let mut noise = Noise::new(seed);
        // A wave of ten points; at the turn it goes on twice as slowly, between the same bounds.
        let wave = |at: usize| if at < TURN { at as f64 / 10.0 } else { (at - TURN) as f64 / 20.0 };
        (0..TURN + 200)
            .map(|at| 50.0 + 10.0 * (std::f64::consts::TAU * wave(at)).sin() + 0.5 * noise.normal())
            .collect()
    });
    assert!(figures.iter().all(|figure| figure.came > 0.0 && figure.points == 16), "{figures:?}");
}

#[test]
fn a_daily_course_is_no_anomaly_but_its_absence_is() {
    let busy = |at: usize| (at % 288) / 24 == 8;
    let series = |seed: u64, skip: Option<usize>| -> Vec<f64> {
        let of = |(at, value): (usize, f64)| if busy(at) && Some(at / 288) != skip { value + 40.0 } else { value };
        noise(288 * 14, seed).into_iter().enumerate().map(of).collect()
    };
    let (mut usual, mut absent) = (0, 0);
    for seed in 1..=5 {
        usual += alarms(&judge(&series(seed, None)), 288 * 3).len();
        let on_day = 288 * 12..288 * 13;
        absent += usize::from(
            alarms(&judge(&series(seed, Some(12))), on_day.start).iter().any(|(at, ..)| on_day.contains(at)),
        );
    }
    assert!(usual <= 3, "{usual} alarms in 55 days of a daily backup");
    assert!(absent >= 4, "the missing backup was seen {absent} times of 5");
}

/// Noises that do not change.
fn stationary(kind: usize, points: usize, seed: u64) -> Vec<f64> {
    let (mut noise, mut level) = (Noise::new(seed), 0.0);
    (0..points)
        .map(|_| match kind {
            0 => 50.0 + 5.0 * noise.normal(),
            1 => noise.normal().exp(),
            2 => {
                level = 0.9 * level + noise.normal();
                level
            }
            3 => noise.uniform(),
            4 => -noise.uniform().ln(),
            _ => (50.0 + 3.0 * noise.normal()).round(),
        })
        .collect()
}

#[test]
fn noise_alarms_about_once_in_the_stated_number_of_points() {
    const MONTHS: usize = 6;
    let (mut at_line, mut at_tenfold) = (0, 0);
    for kind in 0..6 {
        let judged = judge(&stationary(kind, WARMING_POINTS as usize + MONTHS * MONTH_POINTS, kind as u64 + 7));
        let over = |least: f64| judged.iter().filter(|judged| judged.score >= least).count();
        let (of_line, of_tenfold) = (over(LINE_SCORE), over(threshold(MONTH_POINTS as f64 / 10.0)));
        assert!(of_line <= 4 * MONTHS, "noise {kind}: {of_line} alarms in {MONTHS} months");
        at_line += of_line;
        at_tenfold += of_tenfold;
    }
    let (months, line, tenfold) = (6.0 * MONTHS as f64, at_line as f64, at_tenfold as f64);
    assert!((0.2..2.5).contains(&(line / months)), "{} per month at the line", line / months);
    assert!((3.0..25.0).contains(&(tenfold / months)), "{} per month at ten a month", tenfold / months);
}

#[test]
fn rarer_alarms_need_a_higher_score() {
    assert!((threshold(MONTH_POINTS as f64) - LINE_SCORE).abs() < 1e-12);
    let scores = [1.0, 100.0, 8_928.0, 1e5, 1e9].map(threshold);
    assert!(scores.windows(2).all(|pair| pair[0] < pair[1]) && scores[4] < 1.0, "{scores:?}");
    assert!((threshold(f64::NAN) - LINE_SCORE).abs() < 1e-12 && threshold(-1.0) >= 0.0);
}

#[test]
fn nothing_alarms_while_warming_up_and_a_constant_never() {
    let mut values = noise(WARMING_POINTS as usize, 3);
    values[100] = 1e6;
    let judged = judge(&values);
    assert!(judged.iter().all(|judged| judged.score == 0.0 && judged.label() == "warming-up"));
    assert!(
        judge(&[7.0; 5_000])[WARMING_POINTS as usize..]
            .iter()
            .all(|judged| judged.score < 0.25 && judged.label() == "none")
    );
}

#[test]
fn a_lesser_surprise_after_an_alarm_is_part_of_it() {
    let mut values = noise(TURN + 200, 5);
    (values[TURN], values[TURN + 3], values[TURN + 6]) = (90.0, 85.0, 150.0);
    let at: Vec<usize> = alarms(&judge(&values), TURN).iter().map(|(at, ..)| *at).collect();
    assert!(at.contains(&TURN) && !at.contains(&(TURN + 3)) && at.contains(&(TURN + 6)), "{at:?}");
}

#[test]
fn what_a_forecast_expected_is_no_spike() {
    let mut values = noise(TURN + 1, 5);
    values[TURN] = 90.0;
    let mut detector = Detector::default();
    judge_with(&mut detector, 0, &values[..TURN]);
    let beside = |tail| detector.clone().judge_beside(TURN as i64 * STEP_MS, Some(90.0), tail).score;
    assert!(beside(None) >= LINE_SCORE && beside(Some(0.0)) >= LINE_SCORE);
    assert!(beside(Some(0.4)) < LINE_SCORE);
}

#[test]
fn a_judgement_rests_on_what_came_before_alone() {
    let mut values = noise(1_000, 9);
    let before = judge(&values[..700]);
    values[700..].fill(1e9);
    assert_eq!(judge(&values)[..700], before[..]);
}

#[test]
fn a_gap_is_no_zero_no_flatline_and_no_step() {
    let values = noise(TURN, 11);
    let mut detector = Detector::default();
    judge_with(&mut detector, 0, &values);
    let clean = detector.clone();
    for at in TURN..TURN + 500 {
        let judged = detector.judge(at as i64 * STEP_MS, None);
        assert_eq!((judged.score.to_bits(), judged.label()), (0, "none"));
    }
    let after = judge_with(&mut detector, TURN + 500, &noise(100, 12));
    assert!(alarms(&after, 0).is_empty(), "{:?}", alarms(&after, 0));
    // Twenty equal values on both sides of a gap are two runs.
    let mut stuck = clean;
    judge_with(&mut stuck, TURN, &[50.0; 25]);
    stuck.judge((TURN + 25) as i64 * STEP_MS, Some(f64::NAN));
    assert!(alarms(&judge_with(&mut stuck, TURN + 26, &[50.0; 25]), 0).is_empty());
}

#[test]
fn a_value_far_from_the_last_one_is_a_spike_unless_long_passed_between() {
    let mut noise = Noise::new(13);
    // A slow wave: far from its trough in a single step it never was, in half a wave it always is.
    let wave = |at: usize| (std::f64::consts::TAU * at as f64 / 700.0).cos();
    let values: Vec<f64> = (0..2_450).map(|at| 50.0 + 30.0 * wave(at) + noise.normal()).collect();
    let mut detector = Detector::default();
    judge_with(&mut detector, 0, &values);
    let crest = |at: i64| detector.clone().judge(at * STEP_MS, Some(80.0)).score;
    assert!(crest(2_450) >= LINE_SCORE, "at once: {}", crest(2_450));
    assert!(crest(2_450 + 350) < 0.25, "after half a wave: {}", crest(2_450 + 350));
}

/// Whether a detector still sees a plain spike and a plain shift, and is quiet before.
fn sees_again(detector: &mut Detector, from: usize) -> bool {
    let mut values = noise(1_300, 77);
    values[1_000] = 130.0;
    values[1_100..].iter_mut().for_each(|value| *value += 40.0);
    let judged = judge_with(detector, from, &values);
    let is_quiet = alarms(&judged[..1_000], 500).len() <= 1;
    // After many values as far off a spike is less rare: it need not alarm, but stand out.
    let spike = judged[1_000].score >= threshold(MONTH_POINTS as f64 / 10.0);
    is_quiet && spike && alarms(&judged, 1_100).iter().any(|(at, ..)| *at < 1_180)
}

#[test]
fn a_million_fold_jump_alarms_and_is_forgotten() {
    for poison in [vec![5e7], vec![-5e7], vec![1e300, -1e300], vec![5e7; 5]] {
        let mut detector = Detector::default();
        judge_with(&mut detector, 0, &noise(TURN, 21));
        let judged = judge_with(&mut detector, TURN, &poison);
        assert!(judged[0].score > 0.8, "{poison:?}: {:?}", judged[0]);
        assert!(sees_again(&mut detector, TURN + poison.len()), "after {poison:?}");
    }
}

#[test]
fn times_from_the_future_and_the_past_are_forgotten() {
    for poison in [i64::MAX, i64::MIN, 0, (TURN as i64 + 1_000_000) * STEP_MS] {
        let mut detector = Detector::default();
        judge_with(&mut detector, 0, &noise(TURN, 21));
        detector.judge(poison, Some(50.0));
        assert!(sees_again(&mut detector, TURN + 1), "after {poison}");
    }
}

#[test]
fn rows_come_out_as_they_went_in() {
    let values = noise(400, 4);
    let rows: Vec<Row> =
        (0..400).map(|at| Row { time_ms: at as i64 * STEP_MS, value: (at % 7 != 3).then(|| values[at]) }).collect();
    let judged: Vec<JudgedRow> = judge_rows(rows.iter().copied()).collect();
    assert_eq!(judged.iter().map(|judged| judged.row).collect::<Vec<_>>(), rows);
    assert!(
        judged
            .iter()
            .all(|judged| (0.0..=1.0).contains(&judged.score) && (judged.row.value.is_some() || judged.score == 0.0))
    );
    assert_eq!((judged[0].label, judged[399].label), ("warming-up", "none"));
}

/// Whatever may come: numbers, and what is none.
fn anything() -> impl Strategy<Value = (i64, Option<f64>)> {
    let value = prop_oneof![
        4 => (0.0..100.0).prop_map(Some),
        1 => any::<f64>().prop_map(Some),
        1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(f64::MAX), Just(-0.0)].prop_map(Some),
        1 => Just(None),
    ];
    let time = prop_oneof![3 => (0i64..10_000).prop_map(|at| at * STEP_MS), 1 => any::<i64>()];
    (time, value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_comes_scores_are_scores_and_the_detector_sees_again(
        poison in prop::collection::vec(anything(), 1..60),
        known in 0..1_000usize,
    ) {
        let mut detector = Detector::default();
        judge_with(&mut detector, 0, &noise(known, 31));
        for (time_ms, value) in poison {
            let judged = detector.judge(time_ms, value);
            prop_assert!((0.0..=1.0).contains(&judged.score) && judged.nats.is_finite(), "{judged:?}");
        }
        judge_with(&mut detector, known, &noise(2_000, 32));
        prop_assert!(sees_again(&mut detector, known + 2_000));
    }
}

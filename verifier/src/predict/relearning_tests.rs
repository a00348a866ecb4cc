#![expect(clippy::unwrap_used, reason = "tests")]

use quotary_decide::forecast::{Forecast, ModelFault, ModelRef, Past, QuantileModel, Quantiles};

use super::super::testing::{MINUTE_MS, cpu_of, fill};
use super::*;

const HOSTS: u8 = 7;
/// The number of the first minute: no multiple of a lesson.
const FIRST: u64 = 1_000_003;

/// A model that says the mean of the newest ten, with lines around it: often wrong, so that there is something to learn.
struct Ten(ModelRef);

impl QuantileModel for Ten {
    fn reference(&self) -> &ModelRef {
        &self.0
    }
    fn quantiles(&self, pasts: &[Past<'_>]) -> Vec<Result<Quantiles, ModelFault>> {
        let one = |past: &Past<'_>| {
            let newest: Vec<f64> = past.newest(10).iter().flatten().copied().collect();
            let mean = newest.iter().sum::<f64>() / newest.len() as f64;
            let steps = [std::array::from_fn(|level| mean * (0.9 + 0.02 * level as f64)); 12];
            let peaks = [std::array::from_fn(|level| mean * (1.0 + 0.05 * level as f64)); 3];
            Quantiles::from_raw(steps, peaks).ok_or_else(|| ModelFault::Failed("NaN".to_owned()))
        };
        pasts.iter().map(one).collect()
    }
}

/// What a host uses in a minute: a wave, and noise that repeats nowhere.
fn used(host: u8, minute: u64) -> u64 {
    let noise = (minute.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(u64::from(host)) >> 33) % 97;
    500 + 40 * u64::from(host) + (minute % 60) * 3 + noise
}

fn learn(learner: &mut Learner, ladder: &Ladder<'_>, closed: &[super::super::forecaster::Closed<'_>], step: u64) {
    learner.begin_step(step);
    learner.compare(ladder, closed, &pasts(closed, MINUTE_MS));
    learner.end_step();
}

/// Runs on for so many steps, as the service does step by step.
fn ran_on(ladder: &Ladder<'_>, steps: u64) -> (History, Learner) {
    let (mut history, mut learner, mut relearning) =
        (History::new(MINUTE_MS), Learner::default(), Relearning::default());
    for step in FIRST + 1..=FIRST + steps {
        let values = |id| [used(id, step - 1)];
        (0..HOSTS).for_each(|id| fill(&mut history, id, step - 1, &values(id)));
        while !relearning.is_done() {
            relearning.go_on(&History::new(MINUTE_MS), ladder, &mut learner, (FIRST, 0));
            relearning.rest();
        }
        let closed = closed_steps(history.iter(), step * MINUTE_MS);
        learn(&mut learner, ladder, &closed, step);
    }
    (history, learner)
}

/// A verifier that was started anew and read the same back; and how many turns it took.
fn restarted(ladder: &Ladder<'_>, history: &History, step: u64) -> (Learner, u64) {
    let (mut learner, mut relearning, mut turns) = (Learner::default(), Relearning::default(), 0);
    while !relearning.is_done() {
        relearning.go_on(history, ladder, &mut learner, (step, turns * PAUSE_MS));
        turns += 1;
    }
    (learner, turns)
}

impl Relearning {
    fn rest(&mut self) {
        if let Self::At { looked_at_ms, .. } = self {
            *looked_at_ms = u64::MAX;
        }
    }
}

fn forecast(ladder: &Ladder<'_>, history: &History, learner: &Learner, id: u8, step: u64) -> Forecast {
    let key = cpu_of(id);
    let closed = closed_steps(history.iter().filter(|(one, _)| **one == key), step * MINUTE_MS);
    let past = pasts(&closed, MINUTE_MS)[0];
    let rungs = ladder.rungs(&[past]).pop().unwrap().0;
    ladder.answer(&past, &rungs, learner.of(&key), &[], None).unwrap()
}

#[test]
fn a_restarted_verifier_forecasts_as_one_that_ran_on() {
    let model = Ten(ModelRef { name: "ten".to_owned(), sha256: "00".to_owned() });
    for ladder in [Ladder::new(Some(&model)), Ladder::new(None)] {
        for steps in [11, 40, 150, 320] {
            let (mut history, mut ran) = ran_on(&ladder, steps);
            let (mut again, _) = restarted(&ladder, &history, FIRST + steps);
            for id in 0..HOSTS {
                assert_eq!(again.of(&cpu_of(id)), ran.of(&cpu_of(id)), "{id} after {steps}");
                let (a, b) = (&again, &ran);
                let [a, b] = [a, b].map(|learner| forecast(&ladder, &history, learner, id, FIRST + steps));
                assert_eq!(a, b, "{id} after {steps}");
            }
            let lessons = ran.of(&cpu_of(0)).0.lessons();
            assert!(u64::from(lessons) + 3 >= steps / LESSON_STEPS, "{lessons} after {steps}");
            // And they take the next lessons at the same steps.
            for step in FIRST + steps + 1..=FIRST + steps + 15 {
                (0..HOSTS).for_each(|id| fill(&mut history, id, step - 1, &[used(id, step - 1)]));
                let closed = closed_steps(history.iter(), step * MINUTE_MS);
                for learner in [&mut ran, &mut again] {
                    learn(learner, &ladder, &closed, step);
                }
                assert_eq!(again.of(&cpu_of(1)), ran.of(&cpu_of(1)), "{step} after {steps}");
            }
        }
    }
}

#[test]
fn of_a_past_longer_than_the_rings_the_widths_come_close() {
    let model = Ten(ModelRef { name: "ten".to_owned(), sha256: "00".to_owned() });
    let ladder = Ladder::new(Some(&model));
    let steps = 1_500;
    let (history, ran) = ran_on(&ladder, steps);
    let (again, _) = restarted(&ladder, &history, FIRST + steps);
    let none = Learner::default();
    let p95 = |learner: &Learner, id| {
        let forecast = forecast(&ladder, &history, learner, id, FIRST + steps);
        forecast.quantiles.steps()[6][9] - forecast.quantiles.steps()[6][4]
    };
    let off = |learner: &Learner, id| (p95(learner, id) / p95(&ran, id)).ln().abs();
    let (worst, without) = (0..HOSTS)
        .fold((0.0_f64, 0.0_f64), |(worst, without), id| (worst.max(off(&again, id)), without.max(off(&none, id))));
    assert!(worst < 0.2 && worst < without / 2.0, "{worst} with what is learnt again, {without} without");
}

#[test]
fn it_goes_on_by_turns_of_a_bounded_number_of_series_and_pauses_between_them() {
    let ladder = Ladder::new(None);
    let mut history = History::new(MINUTE_MS);
    for id in 0..=255 {
        fill(&mut history, id, FIRST, &[5; 60]);
    }
    let (learner, turns) = restarted(&ladder, &history, FIRST + 60);
    assert!((0..=255).all(|id| learner.of(&cpu_of(id)).0.lessons() == 2), "{:?}", learner.of(&cpu_of(0)));
    // Two full turns for each lesson and one that finds no more, and the last.
    assert_eq!(turns, (LESSONS_MAX + 1) * 3 + 1);
    let (mut learner, mut relearning) = (Learner::default(), Relearning::default());
    relearning.go_on(&history, &ladder, &mut learner, (0, 1_000));
    assert!(matches!(relearning, Relearning::Waiting), "no step has closed yet");
    relearning.go_on(&history, &ladder, &mut learner, (FIRST + 40, 1_000));
    for (now_ms, moves) in [(1_000 + PAUSE_MS - 1, false), (1_000 + PAUSE_MS, true)] {
        let before = format!("{relearning:?}");
        relearning.go_on(&history, &ladder, &mut learner, (FIRST + 40, now_ms));
        assert_eq!(format!("{relearning:?}") != before, moves, "{now_ms}");
    }
}

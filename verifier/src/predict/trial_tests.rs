#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use quotary_common::units::ResourceKind;
use quotary_decide::history::Subject;
use quotary_models::{Model, shipped, shipped_files};

use super::super::testing::cpu_of;
use super::*;

const SERIES: u8 = 24;
/// Steps of five minutes that each forecast sees, and those that come after it.
const PAST: usize = 120;
const STEP_MS: u64 = 300_000;

/// The shipped model with a part of its weights gone: it loads, and forecasts badly.
fn worse() -> Model {
    let (manifest, shipped) = shipped_files();
    let mut manifest: serde_json::Value = serde_json::from_slice(manifest).unwrap();
    manifest["name"] = "worse".into();
    let mut without = |at: usize| {
        let mut onnx = shipped.to_vec();
        onnx[at..at + 40_000].fill(0);
        manifest["sha256"] = Digest::of(&[&onnx]).hex().into();
        Model::load(manifest.to_string().as_bytes(), &onnx).ok()
    };
    // Where that hits no name and no shape.
    (shipped.len() / 2..shipped.len() - 40_000).step_by(10_000).find_map(&mut without).unwrap()
}

/// What a series uses in a step: a wave of its own, and noise that repeats nowhere.
fn used(id: u8, step: usize) -> f64 {
    let noise = ((step as u64).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(u64::from(id) * 77) >> 33) % 101;
    let wave = ((step + 7 * usize::from(id)) as f64 / (9.0 + f64::from(id % 5))).sin();
    1000.0 + 300.0 * wave + noise as f64
}

/// Runs `lessons` hours, learning from each; only the steps that end an hour are looked at.
fn run(trial: &mut Trial, first: usize, lessons: usize) {
    let empty = History::new(STEP_MS);
    let keys: Vec<SeriesKey> = (0..SERIES).map(cpu_of).collect();
    for turn in 0..100 {
        trial.relearn(&empty, 1, turn * 1000);
    }
    for lesson in first..first + lessons {
        let end = (lesson + 20) * 12;
        let values = |id: u8| (end - PAST..end).map(|step| Some(used(id, step))).collect();
        let closed: Vec<Closed<'_>> = keys.iter().zip(0..SERIES).map(|(key, id)| (key, values(id))).collect();
        let pasts: Vec<Past<'_>> =
            closed.iter().map(|(key, values)| Past { measure: key.measure, interval_s: 300, values }).collect();
        trial.score(&closed, &pasts, (end as u64, end as u64 * STEP_MS));
    }
}

/// Hours in which all series jump to fifty times what they were: no line holds.
fn jump(trial: &mut Trial, first: usize, lessons: usize) {
    let keys: Vec<SeriesKey> = (0..SERIES).map(cpu_of).collect();
    for lesson in first..first + lessons {
        let end = (lesson + 20) * 12;
        let value = |id: u8, step: usize| used(id, step) * if step + 12 >= end { 50.0 } else { 1.0 };
        let values = |id: u8| (end - PAST..end).map(|step| Some(value(id, step))).collect();
        let closed: Vec<Closed<'_>> = keys.iter().zip(0..SERIES).map(|(key, id)| (key, values(id))).collect();
        let pasts: Vec<Past<'_>> =
            closed.iter().map(|(key, values)| Past { measure: key.measure, interval_s: 300, values }).collect();
        trial.score(&closed, &pasts, (end as u64, end as u64 * STEP_MS));
    }
}

#[test]
fn a_champion_whose_lines_no_longer_hold_for_a_day_asks_for_the_model_before_and_not_sooner() {
    let (good, bad) = (Arc::new(shipped().unwrap()), Arc::new(worse()));
    let contest = Contest::default();
    contest.set_models(ModelSet { before: Some(Arc::clone(&good)), ..set(&bad, None) });
    let mut trial = Trial::new(contest.clone(), Record::default());
    let (queue, mut commands) = crate::core::Queue::new();
    trial.to(queue.weak());
    run(&mut trial, 0, 10);
    jump(&mut trial, 10, 12);
    assert_eq!(contest.standing().drift, None, "half a day");
    assert!(commands.try_recv().is_err());
    jump(&mut trial, 22, 14);
    assert!(contest.standing().drift.is_some_and(|covered| covered < 0.9), "{:?}", contest.standing().drift);
    match commands.try_recv().unwrap() {
        crate::core::Command::ReturnModel { champion, covered } => {
            assert_eq!(champion, digest_of(&bad));
            assert!(covered < 0.9, "{covered}");
        }
        other => panic!("{other:?}"),
    }
    // It was done: the model before begins with a clean slate.
    contest.set_models(set(&good, None));
    trial.follow();
    assert!(contest.standing().drift.is_none() && trial.champion.scores().measures().next().is_none());
}

fn set(champion: &Arc<Model>, challenger: Option<&Arc<Model>>) -> ModelSet {
    ModelSet { champion: Some(Arc::clone(champion)), challenger: challenger.cloned(), ..ModelSet::default() }
}

#[test]
fn a_better_model_is_found_better_takes_its_learning_with_it_and_a_worse_one_never_is() {
    let (good, bad) = (Arc::new(shipped().unwrap()), Arc::new(worse()));
    let contest = Contest::default();
    contest.set_models(set(&bad, Some(&good)));
    let mut trial = Trial::new(contest.clone(), Record::default());
    run(&mut trial, 0, 10);
    assert!(matches!(contest.standing().outcome, Some(Outcome::Wait(_))), "{:?}", contest.standing().outcome);
    run(&mut trial, 10, 24);
    let standing = contest.standing();
    let record = trial.record.clone();
    assert_eq!(standing.tried, Some(digest_of(&good)));
    assert_eq!(standing.record, Some(Digest::of(&[&record.to_bytes()])));
    match standing.outcome.as_ref().unwrap() {
        Outcome::Better { interval, .. } => assert!(interval.high < 1.0),
        // Coverage is asked of few hours here; the loss must tell them apart all the same.
        Outcome::NotBetter(why) => {
            assert!(!why.iter().any(|one| matches!(one, quotary_decide::contest::Objection::NotBetter(_))), "{why:?}");
        }
        Outcome::Wait(missing) => assert!(missing.hours > 1000, "{missing}"),
    }
    let cpu = standing.champion.iter().find(|one| one.measure == ResourceKind::Cpu.into()).unwrap();
    assert!(cpu.week.forecasts >= 24 * 24 && cpu.day.forecasts >= 20 * 24 && cpu.day.forecasts < cpu.week.forecasts);

    // A restart with the record that was kept comes to the same.
    let mut again = Trial::new(contest.clone(), Record::from_bytes(&record.to_bytes()).unwrap());
    contest.publish(Standing::default());
    for turn in 0..100 {
        again.relearn(&History::new(STEP_MS), 1, turn * 1000);
    }
    again.score(&[], &[], (2, 0));
    assert_eq!(contest.standing().outcome, standing.outcome);

    // Promoted: what it has learnt comes along, the record begins anew.
    let key = cpu_of(3);
    let lessons = trial.challenger.as_ref().unwrap().learner.of(&key).0.lessons();
    contest.set_models(set(&good, None));
    trial.follow();
    assert_eq!(trial.champion.learner.of(&key).0.lessons(), lessons);
    assert!(trial.challenger.is_none() && trial.record == Record::default() && contest.standing().tried.is_none());

    // The other way round there is nothing to promote.
    contest.set_models(set(&good, Some(&bad)));
    trial.follow();
    run(&mut trial, 40, 34);
    assert!(!matches!(contest.standing().outcome, Some(Outcome::Better { .. })), "{:?}", contest.standing().outcome);
}

#[test]
fn gauges_and_what_no_model_forecast_are_scored_but_are_no_part_of_a_contest() {
    let good = Arc::new(shipped().unwrap());
    let contest = Contest::default();
    contest.set_models(set(&good, None));
    let mut trial = Trial::new(contest.clone(), Record::default());
    let requests = quotary_common::metric::Gauge::RequestsPerMinute;
    let key =
        SeriesKey { host: None, subject: Subject::Host, measure: quotary_decide::history::Measure::Gauge(requests) };
    let empty = History::new(STEP_MS);
    for turn in 0..100 {
        trial.relearn(&empty, 1, turn * 1000);
    }
    let values: Vec<Option<f64>> = (0..PAST).map(|step| Some(used(1, step))).collect();
    let closed: Vec<Closed<'_>> = vec![(&key, values)];
    let pasts = vec![Past { measure: key.measure, interval_s: 300, values: &closed[0].1 }];
    trial.score(&closed, &pasts, (1_000, 1_000 * STEP_MS));
    let standing = contest.standing();
    assert_eq!(standing.champion.len(), 1);
    assert_eq!((standing.champion[0].day.forecasts, standing.champion[0].day.steps), (1, 12));
    assert!(standing.champion[0].day.loss_ratio().is_none() && standing.outcome.is_none());
}

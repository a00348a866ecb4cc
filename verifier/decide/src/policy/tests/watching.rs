//! Use against thresholds.

use quotary_common::units::ResourceKind;

use super::*;
use crate::policy::watch::{Finding, HowIdle, Settings, Subject, Watch, Window};
use crate::policy::{Holding, Then};

const WATCHED: &str =
    "[select]\napplication = \"web\"\n[guarantee]\nmemory_bytes = 104857600\n[limit]\nmemory_bytes = 1048576000
[[thresholds]]\nresource = \"memory\"\nabove_percent = 90\nfor_s = 60\nthen = \"review\"
[[thresholds]]\nresource = \"memory\"\nabove_percent = 95\nfor_s = 30\nthen = \"alert\"
[[thresholds]]\nresource = \"memory\"\nbelow_percent = 20\nfor_s = 60\nthen = \"review\"\n";
/// A percent of the limit.
const PERCENT: u64 = 10 * MIB;
const STEP_MS: u64 = 15_000;

struct Scene {
    watch: Watch,
    holding: Holding,
    now_ms: u64,
}

impl Scene {
    fn new() -> Self {
        let policy = policy("p", WATCHED);
        let mut watch = Watch::new(Settings { idle_percent: 10, idle_for_ms: 3_600_000 });
        watch.follow(&map(&[&policy]), 0);
        let (guarantee, limit) = (policy.guarantee, policy.limit);
        Self { watch, holding: Holding { policy, guarantee, limit, class: None, meets_zone: true }, now_ms: 0 }
    }

    fn subject(n: usize) -> Subject {
        Subject { host: host_id(n), target: Target::Unit(name("web.service")) }
    }

    /// One window of unit `n` at so many percent of its limit.
    fn note(&mut self, n: usize, percent: u64, peak: u64) -> Vec<Finding> {
        let window = Window { ends_at_ms: self.now_ms, usage: memory(percent * PERCENT), peak: memory(peak) };
        self.watch.note(&Self::subject(n), &self.holding, &window)
    }

    /// So many windows of unit 0 one after the other; all that they tell.
    fn run(&mut self, windows: usize, percent: u64) -> Vec<Finding> {
        let mut out = Vec::new();
        for _ in 0..windows {
            self.now_ms += STEP_MS;
            out.extend(self.note(0, percent, 0));
        }
        out
    }
}

#[test]
fn one_excursion_opens_one_review_with_a_draft_that_reads() {
    let mut scene = Scene::new();
    assert_eq!(scene.run(10, 85), []);
    let told = scene.run(40, 93);
    let [one] = told.as_slice() else { unreachable!("{told:?}") };
    assert_eq!((one.threshold.then, one.used_percent, one.since_ms), (Then::Review, 93, 11 * STEP_MS));
    let draft = read(one.draft.as_ref().unwrap().as_bytes(), None).unwrap();
    assert_eq!((draft.version, draft.limit.get(ResourceKind::Memory)), (2, Some(1116 * MIB)));
    assert!(scene.run(5, 88).is_empty() && scene.run(20, 93).is_empty(), "it wavers about the line");
    assert!(scene.run(5, 80).is_empty());
    assert_eq!(scene.run(20, 93).len(), 1, "a new excursion after a calm of as long");
}

#[test]
fn an_excursion_shorter_than_its_time_or_with_a_gap_tells_nothing() {
    let mut scene = Scene::new();
    for _ in 0..10 {
        assert_eq!(scene.run(4, 93), []);
        assert_eq!(scene.run(1, 89), []);
    }
    assert_eq!(scene.run(4, 93), []);
    scene.now_ms += 1_000_000;
    assert_eq!(scene.run(4, 93), [], "nobody knows what was in between");
    assert_eq!(scene.run(1, 93).len(), 1);
}

#[test]
fn an_alert_has_no_draft_and_a_window_that_comes_late_counts_no_more() {
    let mut scene = Scene::new();
    let told = scene.run(3, 97);
    assert_eq!(
        told.iter().map(|one| (one.threshold.then, one.draft.is_some())).collect::<Vec<_>>(),
        [(Then::Alert, false)]
    );
    scene.now_ms -= STEP_MS;
    assert_eq!(scene.note(0, 10, 0), []);
}

#[test]
fn too_little_use_is_told_when_all_units_have_it_and_the_greediest_sizes_the_draft() {
    let mut scene = Scene::new();
    let mut told = Vec::new();
    for n in 0..20 {
        scene.now_ms += STEP_MS;
        told.extend(scene.note(0, 5, 0));
        told.extend(scene.note(1, if n < 10 { 50 } else { 15 }, 300 * MIB));
    }
    let [one] = told.as_slice() else { unreachable!("{told:?}") };
    assert_eq!(one.subject, Scene::subject(1));
    let draft = read(one.draft.as_ref().unwrap().as_bytes(), None).unwrap();
    assert_eq!(draft.limit.get(ResourceKind::Memory), Some(360 * MIB));
}

#[test]
fn a_unit_that_is_gone_is_forgotten_and_so_is_what_it_held_open() {
    let mut scene = Scene::new();
    assert_eq!(scene.run(10, 93).len(), 1);
    scene.watch.retain(|_| false);
    assert_eq!(scene.run(10, 93).len(), 1, "another run is another excursion");
}

#[test]
fn policies_that_nobody_needs_are_named() {
    let mut scene = Scene::new();
    let how = |scene: &Scene| scene.watch.idle(scene.now_ms).iter().map(|one| one.how).collect::<Vec<_>>();
    scene.now_ms = 3_599_999;
    assert_eq!(how(&scene), []);
    scene.now_ms += 1;
    assert_eq!(how(&scene), [HowIdle::SelectsNothing]);
    // Under a tenth of the guarantee of 100 MiB, for an hour.
    let _told = scene.run(1, 0);
    assert_eq!(how(&scene), [HowIdle::Unused], "it is selected again, and unused since it came into force");
    let _told = scene.run(1, 1);
    assert_eq!(how(&scene), []);
}

proptest! {
    /// Beside the code: a review is told at most once per calm of a minute, and only after a minute beyond.
    #[test]
    fn a_review_is_told_only_after_its_time_and_once_until_calm(percents in prop::collection::vec(70..100_u64, 1..200)) {
        let mut scene = Scene::new();
        let (mut beyond, mut calm, mut is_open) = (0, 0, false);
        for percent in percents {
            let told = scene.run(1, percent);
            let reviews = told.iter().filter(|one| one.threshold.then == Then::Review).count();
            beyond = if percent > 90 { beyond + 1 } else { 0 };
            calm = if percent <= 85 { calm + 1 } else { 0 };
            let expected = beyond >= 5 && !is_open;
            if beyond >= 5 { is_open = true } else if calm >= 5 { is_open = false }
            prop_assert_eq!(reviews, usize::from(expected));
        }
    }
}

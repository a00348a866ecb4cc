//! A series that behaves oddly: alarm, leaf, event, warning, route and command line; once, over a kill of the verifier too.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use quotary_common::anomaly::AnomalyKind;
use quotary_common::id::HostId;
use quotary_common::leaf::{Decision, Leaf};
use quotary_common::metric::{Metric, MetricWindow, MetricWindows};
use quotary_common::wire::{
    AnomaliesView, AnomalyView, EventKind, HostEvent, ListAnomalies, Nothing, Right, ShowAppraisal, ShowResult,
};
use quotary_tests::host::{DrivenHost, Operator, boottime_ms};
use quotary_tests::world::{Options, PATIENCE, Timing, World};

/// One step, ms: evidence comes several times in each.
const STEP_MS: u64 = 400;
/// How long a series may take to warm up: 160 steps, and those that a busy machine leaves out.
const WARMING: Duration = Duration::from_secs(400);

/// A host that states its load without a pause.
struct Loaded {
    host: DrivenHost,
    stated_until_ms: u64,
    noise: u64,
}

impl Loaded {
    /// One evidence whose windows reach from the one before to now: CPU and memory around a level.
    async fn attest(&mut self, level: u64) {
        self.noise = self.noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let level = level + (self.noise >> 33) % 41;
        let now_ms = boottime_ms().unwrap();
        let start_ms = self.stated_until_ms.max(now_ms.saturating_sub(STEP_MS));
        if now_ms > start_ms {
            let window = |metric, value| MetricWindow {
                metric,
                start_ms,
                duration_ms: now_ms - start_ms,
                samples: 1,
                mean: value,
                max: value,
                p95: value,
                label: None,
            };
            let windows = [window(Metric::CpuMillicores, level), window(Metric::MemoryBytes, level << 16)];
            self.host.load.0 = MetricWindows::new(&windows).unwrap();
            self.stated_until_ms = now_ms;
        }
        self.host.attest().await.unwrap();
    }

    /// Goes on until something is so; what was listed then.
    async fn until(
        &mut self,
        operator: &Operator,
        (what, within): (&str, Duration),
        is_so: impl Fn(&AnomaliesView) -> bool,
    ) -> AnomaliesView {
        let begun = Instant::now();
        loop {
            self.attest(500).await;
            let view = listed(operator, &[]).await;
            if is_so(&view) {
                return view;
            }
            assert!(begun.elapsed() < within, "{what}: {view:?}");
        }
    }

    /// Three steps of ten times the load.
    async fn burst(&mut self) {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(3 * STEP_MS) {
            self.attest(3_500).await;
        }
    }
}

async fn listed(operator: &Operator, query: &[&str]) -> AnomaliesView {
    operator.client.call::<ListAnomalies>(query, &Nothing {}).await.unwrap()
}

/// The alarms of the log that are told, not added to: their leaves.
async fn told(operator: &Operator, host: HostId) -> Vec<(usize, Leaf)> {
    let leaves = operator.leaves(0).await.unwrap().into_iter().enumerate();
    let is_told = |leaf: &Leaf| matches!(&leaf.decision, Decision::Anomaly(a) if a.host == Some(host) && !a.continues);
    leaves.filter(|(_, leaf)| is_told(leaf)).collect()
}

/// The claims of the host's result.
async fn result(operator: &Operator, host: &HostId) -> serde_json::Value {
    let jwt = operator.client.call::<ShowResult>(&[&host.hex()], &Nothing {}).await.unwrap().ear;
    let claims = jwt.split('.').nth(1).unwrap();
    let claims: serde_json::Value =
        serde_json::from_slice(&data_encoding::BASE64URL_NOPAD.decode(claims.as_bytes()).unwrap()).unwrap();
    claims["submods"]["host"].clone()
}

#[test]
fn an_odd_series_is_an_alarm_a_leaf_an_event_and_a_warning_once_over_a_kill() {
    let timing = Timing {
        window_ms: 100,
        nonce_ms: 120_000,
        trust_ms: 200_000,
        lease_ms: 300_000,
        forecast_step_ms: STEP_MS,
        ..Timing::QUICK
    };
    let mut world = World::new(Options { timing, ..Options::quick(0) }).unwrap();
    world.start_verifier().unwrap();
    let runtime = world.runtime().handle().clone();
    let operator = Operator::of(&world).unwrap();
    let host = runtime.block_on(operator.host("a")).unwrap();
    let id = host.id;
    let mut loaded = Loaded { host, stated_until_ms: boottime_ms().unwrap(), noise: 7 };

    let zone = runtime.block_on(async {
        let warm = |view: &AnomaliesView| view.series > 0 && view.warming_up == 0;
        loaded.until(&operator, ("warmed up", WARMING), warm).await;
        // What noise there was is noise; nothing is warned of that was not told.
        let quiet = listed(&operator, &[&id.hex()]).await.anomalies.is_empty();
        assert_eq!(result(&operator, &id).await["ear.status"] == "warning", !quiet);
        operator.view(&id).await.unwrap().zone
    });
    let before = runtime.block_on(listed(&operator, &[])).anomalies.len();
    let is_ours = |one: &AnomalyView| one.host == Some(id) && has_burst(one);
    let alarmed = |view: &AnomaliesView| view.anomalies.iter().any(is_ours);
    let view = runtime.block_on(async {
        loaded.burst().await;
        loaded.until(&operator, ("alarmed", PATIENCE), alarmed).await
    });
    let alarm = view.anomalies.iter().find(|one| is_ours(one)).unwrap().clone();
    assert!(view.anomalies.len() > before, "{view:?}");
    assert_eq!(alarm.findings.len(), 2, "CPU and memory are one alarm: {alarm:?}");
    assert!(alarm.findings.iter().all(|finding| finding.subject == "host" && finding.score >= 0.5), "{alarm:?}");

    // The leaf, and the event of that leaf.
    let leaves = runtime.block_on(told(&operator, id));
    let (index, leaf) = leaves.iter().find(|(_, leaf)| at_of(leaf) == alarm.at_ms).unwrap();
    assert_eq!(leaf.actor.as_str(), "verifier");
    let lines = world.cli_ok(&["events", "--json"]).unwrap();
    let events: Vec<HostEvent> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let event = events.iter().find(|event| event.leaf_index == *index as u64).unwrap();
    assert_eq!((event.kind, &event.host), (EventKind::Anomaly, &id.to_string()));
    assert_eq!(event.anomaly.as_ref().unwrap().at_ms, alarm.at_ms);
    assert!(world.cli_ok(&["audit", "show", &index.to_string()]).unwrap().contains("anomaly"));

    // A warning, and nothing but one.
    runtime.block_on(async {
        let claims = result(&operator, &id).await;
        assert_eq!(claims["ear.status"], "warning");
        assert!(claims["quotary.findings"].as_array().unwrap().contains(&"anomaly".into()), "{claims}");
        let view = operator.view(&id).await.unwrap();
        assert!(view.trusted && view.zone == zone && view.findings.contains(&"anomaly".to_owned()), "{view:?}");
        let why = operator.client.call::<ShowAppraisal>(&[&id.hex()], &Nothing {}).await.unwrap();
        assert!(why.findings.iter().any(|finding| finding.code == "anomaly" && finding.detail.contains(" came, ")));
    });

    // Operators see it; who may not read does not.
    let table = world.cli_ok(&["anomalies", "--host", &id.hex()[..8]]).unwrap();
    assert!(table.contains("cpu_millicores") && table.contains("series are judged"), "{table}");
    let listed_so: AnomaliesView = world.cli_json(&["anomalies", "--since", "1h"]).unwrap();
    assert!(listed_so.anomalies.contains(&alarm), "{listed_so:?}");
    runtime.block_on(async {
        let later = (alarm.told_at_ms + 3_600_000).to_string();
        assert!(listed(&operator, &["", &later]).await.anomalies.is_empty());
        let auditor = operator.operator_token(&[Right::Audit], 60_000).await.unwrap();
        let auditor = operator.with_token(Some(&auditor)).unwrap();
        assert!(auditor.call::<ListAnomalies>(&[], &Nothing {}).await.is_err());
    });

    // Killed, and started again: nothing is told twice, nothing is forgotten, nobody warms up anew.
    let told_before: Vec<u64> = runtime.block_on(told(&operator, id)).iter().map(|(_, leaf)| at_of(leaf)).collect();
    world.kill_verifier();
    world.start_verifier().unwrap();
    assert!(runtime.block_on(listed(&operator, &[])).anomalies.contains(&alarm));
    runtime.block_on(async {
        let of_host = |view: &AnomaliesView| view.series >= 2 && view.warming_up == 0;
        loaded.until(&operator, ("known again", PATIENCE), of_host).await;
        // Long enough that steps are judged aloud again: two are waited for.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(8 * STEP_MS) {
            loaded.attest(500).await;
        }
        let mut told_after: Vec<u64> = told(&operator, id).await.iter().map(|(_, leaf)| at_of(leaf)).collect();
        assert_eq!(told_after[..told_before.len()], told_before);
        told_after.sort_unstable();
        let mut once = told_after.clone();
        once.dedup();
        assert_eq!(once, told_after, "each alarm once");
    });
    // The pool of its zone is a sum, and alarms under its own name.
    let sum = format!("pool:{}", zone.unwrap());
    let view = runtime.block_on(listed(&operator, &[]));
    assert!(view.anomalies.iter().any(|one| one.host.is_none() && one.place == sum), "{view:?}");
    let _report = world.cli_ok(&["audit", "verify"]).unwrap();
}

/// Whether an alarm is of the burst: a spike or a shift far above what was.
fn has_burst(alarm: &AnomalyView) -> bool {
    let is_burst = |kind| matches!(kind, AnomalyKind::Spike | AnomalyKind::LevelShift);
    alarm.findings.iter().any(|finding| is_burst(finding.kind) && finding.came > 2.0 * finding.expected)
}

fn at_of(leaf: &Leaf) -> u64 {
    match &leaf.decision {
        Decision::Anomaly(anomaly) => anomaly.at_ms,
        _ => 0,
    }
}

//! The report of hosts that only watch: what a plan would have limited, from the windows that they attest.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use quotary_common::envelope::{ApplicationReport, BackendKind, CgroupPath, Mode, Name};
use quotary_common::metric::{Metric, MetricWindow, MetricWindows};
use quotary_common::plan::{OnPressure, ShapedControl, Target};
use quotary_common::reason::Reason;
use quotary_common::wire::{
    DraftPlan, ModeCounts, Nothing, PlanRequest, PlanView, ReportHost, ReportLine, ReportView, Right, ShowReport,
};
use quotary_tests::host::{DrivenHost, Operator, backend, boottime_ms, reason_of};
use quotary_tests::world::{Options, Timing, World};

const PATIENT: Timing = Timing { nonce_ms: 120_000, trust_ms: 200_000, lease_ms: 300_000, ..Timing::QUICK };
/// A metric window of this test, ms.
const WINDOW_MS: u64 = 400;
/// Evidence with two windows each.
const ROUNDS: u64 = 4;

async fn watching(operator: &Operator, name: &str, mode: Mode) -> DrivenHost {
    let mut host = operator.host(name).await.unwrap();
    host.backend = backend(BackendKind::Systemd, mode);
    host.attest().await.unwrap();
    host
}

async fn draft(operator: &Operator, host: &DrivenHost) -> PlanView {
    let request = PlanRequest {
        host: Some(host.id.hex()),
        target: Target::Unit(Name::lossy("web.service")),
        values: BTreeMap::from([(ShapedControl::CpuQuota, 500), (ShapedControl::Storage, 1 << 30)]),
        starts_at_ms: None,
        over_ms: 0,
        hold_for_ms: None,
        on_pressure: OnPressure::Hold,
        hold_ms_max: 0,
        overrides: false,
    };
    operator.client.call::<DraftPlan>(&[], &request).await.unwrap()
}

fn cpu(start_ms: u64, millicores: u64) -> MetricWindow {
    MetricWindow {
        metric: Metric::CpuMillicores,
        start_ms,
        duration_ms: WINDOW_MS,
        samples: 4,
        mean: millicores,
        max: millicores,
        p95: millicores,
        label: None,
    }
}

/// Evidence of a load that is over 500m in one window of two.
async fn attest_load(host: &mut DrivenHost) {
    // A little more than the windows cover: none of them reaches into the time before.
    tokio::time::sleep(Duration::from_millis(3 * WINDOW_MS)).await;
    let end_ms = boottime_ms().unwrap();
    let (first_ms, second_ms) = (end_ms - 2 * WINDOW_MS, end_ms - WINDOW_MS);
    let application = ApplicationReport {
        cgroup: CgroupPath::lossy("/system.slice/web.service"),
        unit: Some(Name::lossy("web.service")),
        uid: None,
        grant: None,
        windows: MetricWindows::new(&[cpu(first_ms, 1_500), cpu(second_ms, 100)]).unwrap(),
    };
    let of_host = MetricWindows::new(&[cpu(first_ms, 3_000), cpu(second_ms, 3_000)]).unwrap();
    host.load = (of_host, vec![application]);
    host.attest().await.unwrap();
}

fn line(host: &ReportHost, control: ShapedControl) -> &ReportLine {
    host.lines.iter().find(|line| line.control == control).unwrap()
}

#[test]
fn a_load_that_is_over_its_setpoint_half_of_the_time_is_reported_so_and_nothing_is_limited() {
    let mut world = World::new(Options { timing: PATIENT, ..Options::quick(0) }).unwrap();
    world.start_verifier().unwrap();
    let operator = Operator::of(&world).unwrap();
    let runtime = world.runtime().handle().clone();
    let (mut host, mut enforcing, plan) = runtime.block_on(async {
        let mut host = watching(&operator, "a", Mode::Observe).await;
        let mut enforcing = watching(&operator, "b", Mode::Enforce).await;
        let plan = draft(&operator, &host).await;
        draft(&operator, &enforcing).await;
        host.attest().await.unwrap();
        enforcing.attest().await.unwrap();
        assert_eq!((host.plans.len(), enforcing.plans.len()), (1, 1), "who watches is given plans as well");
        (host, enforcing, plan)
    });
    for round in 1..=ROUNDS {
        if round == 3 {
            // What was counted is kept with the evidence that showed it.
            world.kill_verifier();
            world.start_verifier().unwrap();
        }
        runtime.block_on(attest_load(&mut host));
    }
    runtime.block_on(attest_load(&mut enforcing));

    let view: ReportView = world.cli_json(&["report"]).unwrap();
    assert_eq!(view.modes, ModeCounts { observe: 1, dry_run: 0, enforce: 1, unknown: 0 });
    let (counted, not): (Vec<_>, Vec<_>) = view.hosts.iter().partition(|one| one.host == host.id);
    assert_eq!((counted.len(), not.len(), not[0].lines.len(), not[0].since_ms), (1, 1, 0, None));
    let quota = line(counted[0], ShapedControl::CpuQuota);
    assert_eq!((quota.compared_ms, quota.over_ms), (2 * ROUNDS * WINDOW_MS, ROUNDS * WINDOW_MS));
    assert_eq!(quota.throttled_cpu_ms, Some(ROUNDS * WINDOW_MS), "one core too many, half of the time");
    assert_eq!((quota.limit, quota.used_mean, quota.peaks_ms, quota.excess_max), (Some(500), 800, 0, 1_000));
    assert_eq!((quota.plan, &quota.made_by, quota.subject.as_str()), (Some(plan.plan), &plan.made_by, "web.service"));
    let storage = line(counted[0], ShapedControl::Storage);
    assert_eq!((storage.compared_ms, storage.untold[0].why.as_str()), (0, "not-measured"));
    assert!(counted[0].since_ms.unwrap() < quota.from_ms && counted[0].evidences == ROUNDS + 2);

    // Nothing was limited, and nothing told as if it were.
    let shown: PlanView = world.cli_json(&["plan", "show", &plan.plan.hex()]).unwrap();
    assert!(shown.controls.iter().all(|control| control.last_write.is_none()));
    let document = world.cli_ok(&["report", "--host", &host.id.hex()]).unwrap();
    for part in [
        "# What Quotary would have limited",
        "1 in `observe`, 0 in `dry-run`, 0 in `enforce`",
        "50.0 %",
        "of CPU throttled",
    ] {
        assert!(document.contains(part), "{part}: {document}");
    }
    assert!(world.cli_ok(&["report"]).unwrap().contains("it enforces"));
    runtime.block_on(async {
        let reader = operator.operator_token(&[Right::Read], 60_000).await.unwrap();
        let reader = operator.with_token(Some(&reader)).unwrap();
        let of_one = reader.call::<ShowReport>(&[&host.id.hex()], &Nothing {}).await.unwrap();
        assert_eq!(of_one.hosts.iter().map(|one| one.host).collect::<Vec<_>>(), [host.id]);
        let nobody = reader.call::<ShowReport>(&["h-none"], &Nothing {}).await;
        assert_eq!(reason_of(&nobody), Some(Reason::NotFound));
        let auditor = operator.operator_token(&[Right::Audit], 60_000).await.unwrap();
        let auditor = operator.with_token(Some(&auditor)).unwrap();
        assert_eq!(reason_of(&auditor.call::<ShowReport>(&[], &Nothing {}).await), Some(Reason::Forbidden));
    });
    world.cli_ok(&["audit", "verify"]).unwrap();
}

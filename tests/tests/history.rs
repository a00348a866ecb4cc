//! Metric history: kept over kills, each window once; summed; exported as planners read it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

use quotary_common::metric::{Metric, MetricWindow, MetricWindows};
use quotary_common::wire::{HistoryView, Nothing, Right, ShowHistory};
use quotary_tests::host::{DrivenHost, Operator, boottime_ms};
use quotary_tests::world::{Options, PATIENCE, Timing, World};

/// Samples in each window.
const SAMPLES: u32 = 10;

/// One evidence with one window that ends now.
async fn attest(host: &mut DrivenHost, cpu: u64) {
    let window = MetricWindow {
        metric: Metric::CpuMillicores,
        start_ms: boottime_ms().unwrap() - u64::from(SAMPLES),
        duration_ms: SAMPLES.into(),
        samples: SAMPLES,
        mean: cpu,
        max: cpu + 1,
        p95: cpu,
        label: None,
    };
    host.load.0 = MetricWindows::new(&[window]).unwrap();
    host.attest().await.unwrap();
}

/// The columns of an exported file, a row each.
fn rows(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("timestamp,host,subject,resource,mean,max,samples,censored"));
    lines.map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// Exports to a file, and reads it; what is written is JSON of the number of points and series.
fn exported(world: &World, name: &str, args: &[&str]) -> Vec<Vec<String>> {
    let path = world.path(name);
    let out = path.to_str().unwrap().to_owned();
    world.cli_ok(&[&["history", "export", "--out", &out], args].concat()).unwrap();
    let rows = rows(&path);
    assert!(rows.windows(2).all(|pair| pair[0][1..4] != pair[1][1..4] || pair[0][0] < pair[1][0]), "{rows:?}");
    rows
}

fn samples(rows: &[Vec<String>]) -> u64 {
    rows.iter().map(|row| row[6].parse::<u64>().unwrap()).sum()
}

#[test]
fn each_window_is_there_once_wherever_the_verifier_is_killed_and_sums_and_exports_tell_of_it() {
    let timing = Timing { nonce_ms: 120_000, trust_ms: 200_000, lease_ms: 300_000, ..Timing::QUICK };
    let mut options = Options { timing, ..Options::quick(0) };
    // Fewer than a chunk holds: what stands before those can come from chunks only.
    options.verifier_extra = "[limits]\nevidence_keep_per_host = 100\n".to_owned();
    let mut world = World::new(options).unwrap();
    world.start_verifier().unwrap();
    let runtime = world.runtime().handle().clone();
    let operator = Operator::of(&world).unwrap();
    let mut host = runtime.block_on(operator.host("a")).unwrap();
    let mut evidences = 0;
    for (more, name) in [(60, "from-evidence.csv"), (200, "from-chunk.csv"), (5, "from-both.csv")] {
        for _ in 0..more {
            runtime.block_on(attest(&mut host, 500));
        }
        evidences += more;
        // A chunk that is due is made within a second.
        std::thread::sleep(std::time::Duration::from_millis(2_500));
        let of_host = ["--subject", "host", "--resource", "cpu"];
        let running = exported(&world, &format!("running-{name}"), &of_host);
        assert_eq!(samples(&running), evidences * u64::from(SAMPLES), "running, after {evidences}");
        world.kill_verifier();
        world.start_verifier().unwrap();
        let again = world.wait("the history to be read back", PATIENCE, |world| {
            let _absent = std::fs::remove_file(world.path(name));
            let rows = exported(world, name, &of_host);
            Ok((samples(&rows) >= evidences * u64::from(SAMPLES)).then_some(rows))
        });
        assert_eq!(again.unwrap(), running, "after {evidences}");
        assert!(running.iter().all(|row| row[4] == "500" && row[5] == "501" && row[7] == "0"), "{running:?}");
    }
    // The pool of the zone is a sum, with no host.
    let zone = runtime.block_on(operator.view(&host.id)).unwrap().zone.unwrap();
    let pool = format!("pool:{zone}");
    let summed = world.wait("the pool to be summed", PATIENCE, |world| {
        let _absent = std::fs::remove_file(world.path("pool.csv"));
        let rows = exported(world, "pool.csv", &["--subject", &pool]);
        Ok((!rows.is_empty()).then_some(rows))
    });
    let summed = summed.unwrap();
    assert!(summed.iter().all(|row| row[1].is_empty() && row[4] == "500"), "{summed:?}");
    // A file is not overwritten; a directory has a file for each series.
    let taken = world.path("pool.csv");
    assert!(!world.cli(&["history", "export", "--out", taken.to_str().unwrap()]).unwrap().status.success());
    let directory = format!("{}/", world.path("series").to_str().unwrap());
    world.cli_ok(&["history", "export", "--resolution", "hour", "--days", "2", "--out", &directory]).unwrap();
    let files: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 2, "{files:?}");
    refuses_what_is_none(&operator, &runtime);
}

fn refuses_what_is_none(operator: &Operator, runtime: &tokio::runtime::Handle) {
    runtime.block_on(async {
        let reader = operator.operator_token(&[Right::Read], 600_000).await.unwrap();
        let client = operator.with_token(Some(&reader)).unwrap();
        let garbled: BTreeMap<usize, &str> =
            [(0, "h-none"), (1, "blue"), (2, "gpu"), (3, "week"), (4, "-1"), (5, "sums/x/1")].into();
        for (at, text) in garbled {
            let mut values = [""; 6];
            values[at] = text;
            assert!(client.call::<ShowHistory>(&values, &Nothing {}).await.is_err(), "{text}");
        }
        let page: HistoryView = client.call::<ShowHistory>(&["", "", "", "hour"], &Nothing {}).await.unwrap();
        assert_eq!((page.resolution.as_str(), page.interval_ms), ("hour", 3_600_000));
    });
}

//! A chunk of history that does not read is a gap after a restart: nothing counts twice, and nothing else is lost.
#![expect(clippy::unwrap_used, reason = "tests")]

use quotary_common::metric::{Metric, MetricWindow, MetricWindows};
use quotary_decide::history::{Chunk, Subject};
use quotary_tests::host::{DrivenHost, Operator, boottime_ms};
use quotary_tests::world::{Options, PATIENCE, Timing, World};
use quotary_verifier::store::{Batch, Partition, Reader as _, Row, Scan, SqliteStore, Store as _, Table};

/// Samples in each window.
const SAMPLES: u32 = 10;
const HISTORY: Table = Table::new("history");

/// One evidence with one window that ends now.
async fn attest(host: &mut DrivenHost) {
    let window = MetricWindow {
        metric: Metric::CpuMillicores,
        start_ms: boottime_ms().unwrap() - u64::from(SAMPLES),
        duration_ms: SAMPLES.into(),
        samples: SAMPLES,
        mean: 500,
        max: 501,
        p95: 500,
        label: None,
    };
    host.load.0 = MetricWindows::new(&[window]).unwrap();
    host.attest().await.unwrap();
}

/// Samples of the host's CPU as they are exported.
fn exported(world: &World) -> u64 {
    let path = world.path("history.csv");
    let _absent = std::fs::remove_file(&path);
    let out = path.to_str().unwrap();
    world.cli_ok(&["history", "export", "--out", out, "--subject", "host", "--resource", "cpu"]).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    text.lines().skip(1).map(|line| line.split(',').nth(6).unwrap().parse::<u64>().unwrap()).sum()
}

fn chunks(store: &SqliteStore, host: &DrivenHost) -> Vec<Row> {
    let all = Scan::all(HISTORY).partition(Partition::of_host(&host.id)).prefix(host.id.as_bytes().to_vec());
    store.scan(&all.limit(64)).unwrap()
}

fn samples(chunk: &[u8]) -> u64 {
    let chunk = Chunk::from_bytes(chunk).unwrap();
    chunk
        .points()
        .filter(|(subject, ..)| **subject == Subject::Host)
        .map(|(.., point)| u64::from(point.samples()))
        .sum()
}

#[test]
fn a_chunk_that_does_not_read_is_a_gap_and_the_rest_is_there_once() {
    let timing = Timing { nonce_ms: 120_000, trust_ms: 200_000, lease_ms: 300_000, ..Timing::QUICK };
    let mut options = Options { timing, ..Options::quick(0) };
    // Fewer than a chunk holds: what the first held is nowhere else.
    options.verifier_extra = "[limits]\nevidence_keep_per_host = 100\n".to_owned();
    let mut world = World::new(options).unwrap();
    world.start_verifier().unwrap();
    let runtime = world.runtime().handle().clone();
    let operator = Operator::of(&world).unwrap();
    let mut host = runtime.block_on(operator.host("a")).unwrap();
    for more in [250, 250, 5] {
        for _ in 0..more {
            runtime.block_on(attest(&mut host));
        }
        // A chunk that is due is made within a second.
        std::thread::sleep(std::time::Duration::from_millis(2_500));
    }
    let all = 505 * u64::from(SAMPLES);
    assert_eq!(exported(&world), all);
    world.kill_verifier();

    let mut store = SqliteStore::open(&world.path("verifier")).unwrap();
    let kept = chunks(&store, &host);
    assert_eq!(kept.len(), 2, "two chunks");
    let lost = samples(&kept[0].value);
    assert!(lost >= 240 * u64::from(SAMPLES), "{lost}");
    let mut broken = kept[0].value.clone();
    *broken.last_mut().unwrap() ^= 0xff;
    broken.truncate(broken.len() - 3);
    assert!(Chunk::from_bytes(&broken).is_err());
    let batch = Batch::default().put(HISTORY, Partition::of_host(&host.id), kept[0].key.clone(), broken);
    store.commit(&[batch]).unwrap();
    drop(store);

    world.start_verifier().unwrap();
    let again = world.wait("the rest of the history to be read back", PATIENCE, |world| {
        let found = exported(world);
        Ok((found >= all - lost).then_some(found))
    });
    assert_eq!(again.unwrap(), all - lost);
    // It goes on from there.
    runtime.block_on(attest(&mut host));
    let after = world.wait("new evidence in the history", PATIENCE, |world| {
        let found = exported(world);
        Ok((found > all - lost).then_some(found))
    });
    assert_eq!(after.unwrap(), all - lost + u64::from(SAMPLES));
}

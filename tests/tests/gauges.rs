//! What applications state of themselves: from `quotary run` to the history and the forecasts, and whose word is taken.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use quotary_client::{ClientError, LocalClient};
use quotary_common::envelope::Mode;
use quotary_common::metric::Gauge;
use quotary_common::reason::Reason;
use quotary_common::wire::{ForecastView, GaugeStatement, StateGauges};
use quotary_tests::host::as_uid;
use quotary_tests::world::{Application, Options, PATIENCE, Run, World};

const ALICE: u32 = 10_001;
const MALLORY: u32 = 10_002;
/// What alice's application states: requests, errors, latency.
const STATED: [u64; 3] = [1_200, 3, 8_400];

/// One host whose agent is trusted; the verifier knows alice's application, or whoever we are.
fn scene() -> (World, Option<u32>) {
    let uid = rustix::process::geteuid().is_root().then_some(ALICE);
    let own = uid.unwrap_or_else(|| rustix::process::geteuid().as_raw());
    let applications = vec![Application::of_uid("alpha", "shop", own)];
    let mut world = World::new(Options { applications, ..Options::quick(1) }).unwrap();
    world.start_verifier().unwrap();
    world.start_agent(0).unwrap();
    world.wait_for_trust(0, PATIENCE).unwrap();
    (world, uid)
}

/// Rows of the exported history of a resource: host, subject, resource, mean, after the timestamp.
fn rows(world: &World, resource: &str, subject: Option<&str>) -> Vec<Vec<String>> {
    let path = world.path(&format!("{resource}.csv"));
    let _absent = std::fs::remove_file(&path);
    let mut args = vec!["history", "export", "--resource", resource, "--out", path.to_str().unwrap()];
    args.extend(subject.iter().flat_map(|subject| ["--subject", *subject]));
    world.cli_ok(&args).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

fn newest(rows: &[Vec<String>]) -> Option<&str> {
    rows.iter().map(|row| row[0].as_str()).max()
}

/// What comes of a statement by `uid`, who connects by himself from outside of any grant.
fn stated_by(uid: u32, socket: &Path, grant: &str) -> Result<(), (u16, Reason)> {
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let statement = GaugeStatement { requests_per_minute: Some(999_999), ..GaugeStatement::default() };
        let client = LocalClient::new(socket).with_timeout(Duration::from_secs(30));
        runtime.block_on(async { client.call::<StateGauges>(&[grant], &statement).await })
    };
    match as_uid(uid, work).unwrap() {
        Ok(_) => Ok(()),
        Err(ClientError::Refused { status, error }) => Err((status, error.reason)),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn what_an_application_states_is_its_series_and_what_it_states_no_more_is_a_gap() {
    let (mut world, uid) = scene();
    let quotary = world.path("bin/quotary");
    let socket = world.host(0).socket();
    let say = format!(
        "'{}' gauge --socket '{}' --requests-per-minute {} --errors-per-minute {} --latency-us {}",
        quotary.display(),
        socket.display(),
        STATED[0],
        STATED[1],
        STATED[2]
    );
    // Many at once, a line each, then steadily for a while, then silent.
    let script = format!(
        "echo grant=$QUOTARY_GRANT; for i in $(seq 30); do (said=$({say} 2>&1); echo \"code=$? $said\") & done; wait; \
         for i in $(seq 15); do {say}; sleep 1; done; echo silent; sleep 600; :"
    );
    let asked = ["--cpu", "500m", "--memory", "64M", "--storage", "1G", "--if-unavailable", "fail"];
    let run = world.start_run("alice", &Run::new(0, &asked, ["sh", "-c", &script]).as_uid(uid)).unwrap();

    let grant = world.wait("a grant", PATIENCE, |_| {
        let printed = run.printed()?;
        Ok(printed.lines().find_map(|line| line.strip_prefix("grant=").map(str::to_owned)))
    });
    let grant = grant.unwrap();
    let says_no_storage = |world: &World| -> anyhow::Result<bool> {
        let why: Vec<String> = world.grant_views()?.into_iter().map(|view| view.why).collect();
        Ok(why.iter().any(|why| why.contains("storage_bytes: not_measured: as requested")))
    };
    assert!(says_no_storage(&world).unwrap(), "{:?}", world.grant_views().unwrap());
    if let Some(alice) = uid {
        // Nobody else's word counts, and not even alice's own from outside of the grant.
        assert_eq!(stated_by(MALLORY, &socket, &grant), Err((404, Reason::NotFound)));
        assert_eq!(stated_by(0, &socket, &grant), Err((404, Reason::NotFound)));
        assert_eq!(stated_by(alice, &socket, &grant), Err((403, Reason::NotOwner)));
        assert_eq!(stated_by(alice, &socket, &"7".repeat(64)), Err((404, Reason::NotFound)));
    }
    world.wait("silence", Duration::from_secs(120), |_| Ok(run.printed()?.contains("silent").then_some(()))).unwrap();
    let printed = run.printed().unwrap();
    let codes = |code: &str| printed.lines().filter(|line| line.starts_with(&format!("code={code} "))).count();
    assert!(codes("0") >= 1 && codes("69") >= 1 && codes("0") + codes("69") == 30, "{printed}");
    assert!(printed.contains("state them again in"), "{printed}");

    // Long after the last word: what the kernel counts goes on, what nobody states does not.
    let at_the_end = world.wait("the gap", Duration::from_secs(90), |world| {
        let stated = rows(world, "requests", None);
        let cpu = rows(world, "cpu", None);
        let of_group = stated.iter().find(|row| row[2].starts_with('/')).map(|row| row[2].clone());
        let Some(group) = of_group else { return Ok(None) };
        let counted: Vec<_> = cpu.into_iter().filter(|row| row[2] == group).collect();
        let later = counted.iter().filter(|row| Some(row[0].as_str()) > newest(&stated)).count();
        Ok((later >= 3).then_some(stated))
    });
    let requests = at_the_end.unwrap();
    assert!(requests.iter().all(|row| row[4] == STATED[0].to_string() && row[7] == "0"), "{requests:?}");
    for ((gauge, name), value) in Gauge::ALL.into_iter().zip(["requests", "errors", "latency"]).zip(STATED) {
        let rows = rows(&world, name, None);
        assert!(rows.iter().any(|row| row[2].starts_with('/')), "{name}");
        assert!(rows.iter().all(|row| row[3] == gauge.name() && row[4] == value.to_string()), "{rows:?}");
        // Rates add up over a tenant's applications, latencies do not.
        let is_summed = rows.iter().any(|row| row[2] == "tenant:shop");
        assert_eq!(is_summed, gauge.adds_up(), "{name}: {rows:?}");
    }
    let forecasts: Vec<ForecastView> = serde_json::from_str(&world.cli_ok(&["--json", "forecast"]).unwrap()).unwrap();
    let of_gauges: Vec<_> = forecasts.iter().filter(|one| one.resource == "requests_per_minute").collect();
    assert!(!of_gauges.is_empty() && of_gauges.iter().all(|one| one.model.is_none()), "{of_gauges:?}");
    // The host's filesystems are a series of their own.
    let storage = rows(&world, "storage", Some("host"));
    assert!(storage.iter().all(|row| row[3] == "storage_bytes") && !storage.is_empty(), "{storage:?}");
    // A restart reads back what was stated, each window once.
    let of_groups =
        |rows: Vec<Vec<String>>| -> Vec<_> { rows.into_iter().filter(|row| row[2].starts_with('/')).collect() };
    let before = of_groups(requests);
    world.kill_verifier();
    world.start_verifier().unwrap();
    world
        .wait("the history to be read back", PATIENCE, |world| {
            Ok((of_groups(rows(world, "requests", None)) == before).then_some(()))
        })
        .unwrap();
    run.stop(PATIENCE).unwrap();
    assert_eq!(world.take_down().unwrap(), Vec::<String>::new());
}

#[test]
fn where_nothing_is_enforced_there_is_no_series_to_state_and_the_caller_hears_why() {
    let mut world = World::new(Options { mode: Mode::Observe, ..Options::quick(1) }).unwrap();
    world.start_verifier().unwrap();
    world.start_agent(0).unwrap();
    world.wait_for_trust(0, PATIENCE).unwrap();
    let script = format!(
        "'{}' gauge --socket '{}' --errors-per-minute 7 2>&1; echo code=$?",
        world.path("bin/quotary").display(),
        world.host(0).socket().display()
    );
    let run = world
        .start_run("a", &Run::new(0, &["--cpu", "100m", "--if-unavailable", "fail"], ["sh", "-c", &script]))
        .unwrap();
    run.wait(PATIENCE).unwrap();
    let printed = run.printed().unwrap();
    assert!(printed.contains("nothing is enforced here") && printed.contains("code=69"), "{printed}");
    assert_eq!(rows(&world, "errors", None), Vec::<Vec<String>>::new());
    assert_eq!(world.take_down().unwrap(), Vec::<String>::new());
}

//! What may go wrong: kills, hangs, leaks, neighbours.

use super::*;
use std::net::TcpListener;

#[tokio::test]
async fn four_kills_of_the_tpm_stop_no_quote() {
    for ek in [EkAlgorithm::Rsa2048, EkAlgorithm::EccP384] {
        let mut world = World::new();
        let handle = world.start(ek).await;
        let before = handle.identity().await.unwrap();
        for round in 0..4 {
            handle.quote([round; 32], &boot_pcrs()).await.unwrap();
            let pid = handle.software_child_pid().unwrap();
            signal(pid, Signal::KILL);
            handle.quote([round; 32], &boot_pcrs()).await.unwrap();
            assert_ne!(handle.software_child_pid(), Some(pid), "{ek:?}");
        }
        assert_eq!(handle.identity().await.unwrap(), before);
        let status = handle.status().await.unwrap();
        assert!(!status.in_lockout, "{ek:?}: {status:?}");
        assert_eq!(status.manufacturer, "IBM");
        assert_eq!(status.software_child_pid, handle.software_child_pid());
        activate(&handle).await;
    }
}

#[tokio::test]
async fn a_tpm_killed_in_the_middle_of_anything_costs_no_quote() {
    let mut world = World::new();
    let handle = world.start(EkAlgorithm::Auto).await;
    let selection = boot_pcrs();
    for round in 0..30 {
        let pid = handle.software_child_pid().unwrap();
        let kill = async {
            tokio::time::sleep(Duration::from_micros(200 * u64::from(round))).await;
            signal(pid, Signal::KILL);
        };
        let (quote, ()) = tokio::join!(handle.quote([round; 32], &selection), kill);
        let quote = quote.unwrap();
        assert_eq!(
            Attest::unmarshall(&quote.attest)
                .unwrap()
                .extra_data()
                .value(),
            [round; 32]
        );
        // Leaves the TPM running, or finds it dead.
        handle.quote([round; 32], &selection).await.unwrap();
    }
    assert!(!handle.status().await.unwrap().in_lockout);
}

#[tokio::test]
async fn five_hundred_quotes_and_a_hundred_activations_leak_no_session() {
    let mut world = World::new();
    let handle = world.start(EkAlgorithm::EccP384).await;
    let pid = handle.software_child_pid();
    let identity = handle.identity().await.unwrap();
    let (blob, secret) = make_credential(&identity, &[7; 20]);
    for round in 0..500_u16 {
        let mut data = [0; 32];
        data[..2].copy_from_slice(&round.to_be_bytes());
        handle.quote(data, &boot_pcrs()).await.unwrap();
        if round % 5 == 0 {
            handle.activate(&blob, &secret).await.unwrap();
        }
    }
    assert_eq!(
        handle.software_child_pid(),
        pid,
        "the connection was never lost"
    );
}

#[tokio::test]
async fn a_hanging_tpm_costs_a_caller_its_deadline_and_no_more() {
    let mut world = World::new();
    let access = world.software();
    let deadline = Duration::from_millis(400);
    let config = TpmConfig::check(access, EkAlgorithm::Auto, world.ak_file(), deadline, 2).unwrap();
    let handle = world.start_with(config).await;
    let pid = handle.software_child_pid().unwrap();
    signal(pid, Signal::STOP);
    let started = Instant::now();
    let selection = boot_pcrs();
    let (first, second, third, fourth) = tokio::join!(
        handle.quote([1; 32], &selection),
        async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            handle.quote([2; 32], &selection).await
        },
        async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            handle.quote([3; 32], &selection).await
        },
        async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            handle.quote([4; 32], &selection).await
        },
    );
    for late in [first, second, third] {
        assert!(matches!(late, Err(TpmError::Deadline { .. })), "{late:?}");
    }
    assert!(
        matches!(fourth, Err(TpmError::Busy { capacity: 2 })),
        "{fourth:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(2));
    signal(pid, Signal::CONT);
    let again = loop {
        match handle.quote([5; 32], &boot_pcrs()).await {
            // Until the thread has dropped what nobody waits for.
            Err(TpmError::Busy { .. }) if started.elapsed() < DEADLINE => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            again => break again,
        }
    };
    assert!(again.is_ok(), "{again:?}");
    assert_eq!(handle.software_child_pid(), Some(pid));

    signal(pid, Signal::STOP);
    assert!(matches!(
        handle.shutdown().await,
        Err(TpmError::Deadline { .. })
    ));
    let end = Instant::now() + Duration::from_secs(5);
    while lives(pid) {
        assert!(Instant::now() < end, "a hanging swtpm was left behind");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn swtpm_is_the_leader_of_a_session_with_the_terminal_as_its_own() {
    let mut world = World::new();
    let pid = world
        .start(EkAlgorithm::Auto)
        .await
        .software_child_pid()
        .unwrap();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    assert_eq!(fields[3], pid.to_string(), "session");
    assert_ne!(fields[4], "0", "controlling terminal");
}

#[tokio::test]
async fn a_second_agent_on_the_same_state_is_told_why_it_cannot_start() {
    let mut world = World::new();
    let first = world.start(EkAlgorithm::Auto).await;
    let second = TpmHandle::start(world.config(world.software(), EkAlgorithm::Auto)).await;
    assert!(
        matches!(second, Err(TpmError::SoftwareStart { .. })),
        "{second:?}"
    );
    first.quote([0; 32], &boot_pcrs()).await.unwrap();
}

#[tokio::test]
async fn a_missing_device_is_told() {
    let world = World::new();
    let access = TpmAccess::Device(world.dir.path().join("tpm0"));
    let error = TpmHandle::start(world.config(access, EkAlgorithm::Auto))
        .await
        .unwrap_err();
    assert!(matches!(error, TpmError::Connect { .. }), "{error:?}");
}

/// An agent in a process of its own, to be killed. It says on stdout when its TPM is open.
#[tokio::test]
#[ignore = "started by the tests below, with settings in the environment"]
async fn agent_to_be_killed() {
    let Some(dir) = std::env::var_os("QUOTARY_TEST_DIR").map(PathBuf::from) else {
        return;
    };
    let access = match std::env::var("QUOTARY_TEST_PORT") {
        Ok(port) => TpmAccess::Swtpm {
            host: "127.0.0.1".to_owned(),
            port: port.parse().unwrap(),
        },
        Err(_) => TpmAccess::Software {
            state_dir: dir.join("tpm"),
            setup_config: None,
        },
    };
    let ak_file = dir.join("agent/ak.json");
    let config = TpmConfig::check(access, EkAlgorithm::Auto, ak_file, DEADLINE, 8).unwrap();
    let handle = TpmHandle::start(config).await.unwrap();
    handle.quote([0; 32], &boot_pcrs()).await.unwrap();
    fs::write(
        dir.join("ready"),
        handle.software_child_pid().unwrap_or(0).to_string(),
    )
    .unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
}

/// Starts an agent in a process of its own, and kills it (SIGKILL) once its TPM is open. Returns the
/// pid of its swtpm.
async fn start_and_kill_agent(dir: &Path, port: Option<u16>) -> u32 {
    let ready = dir.join("ready");
    let _ = fs::remove_file(&ready);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--ignored",
            "--exact",
            "tpm::tests::faults::agent_to_be_killed",
        ])
        .env("QUOTARY_TEST_DIR", dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(port) = port {
        command.env("QUOTARY_TEST_PORT", port.to_string());
    }
    let mut agent = Process(command.spawn().unwrap());
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if let Ok(pid) = fs::read_to_string(&ready).unwrap_or_default().parse() {
            return pid;
        }
        assert!(
            Instant::now() < end && agent.0.try_wait().unwrap().is_none(),
            "no agent"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_killed_agents_tpm_dies_with_it_and_does_not_bar_the_next() {
    let mut world = World::new();
    for _ in 0..4 {
        let swtpm = start_and_kill_agent(world.dir.path(), None).await;
        let handle = world.start(EkAlgorithm::Auto).await;
        assert!(!lives(swtpm));
        handle.quote([1; 32], &boot_pcrs()).await.unwrap();
        handle.shutdown().await.unwrap();
    }
    let handle = world.start(EkAlgorithm::Auto).await;
    assert!(!handle.status().await.unwrap().in_lockout);
}

#[tokio::test]
async fn what_killed_agents_left_loaded_in_a_running_swtpm_is_flushed() {
    let mut world = World::new();
    let dir = world.dir.path().to_owned();
    // Made by the room itself, then run by hand as a server.
    let handle = world.start(EkAlgorithm::Auto).await;
    let made = handle.identity().await.unwrap();
    handle.shutdown().await.unwrap();
    // swtpm cannot choose its ports: find two adjacent ones that are free now.
    let port = loop {
        let probe = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = probe.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            break port;
        }
    };
    let _server = Process(
        Command::new("swtpm")
            .args([
                "socket",
                "--tpm2",
                "--flags",
                "not-need-init,startup-clear",
                "--tpmstate",
            ])
            .arg(format!("dir={}", dir.join("tpm/tpm").display()))
            .args([
                "--server",
                &format!("type=tcp,bindaddr=127.0.0.1,port={port}"),
            ])
            .args([
                "--ctrl",
                &format!("type=tcp,bindaddr=127.0.0.1,port={}", port + 1),
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..5 {
        start_and_kill_agent(&dir, Some(port)).await;
    }
    let access = TpmAccess::Swtpm {
        host: "127.0.0.1".to_owned(),
        port,
    };
    let config = world.config(access, EkAlgorithm::Auto);
    let handle = world.start_with(config).await;
    assert_eq!(handle.identity().await.unwrap(), made);
    assert_eq!(handle.software_child_pid(), None);
    handle.quote([1; 32], &boot_pcrs()).await.unwrap();
    handle.shutdown().await.unwrap();
}

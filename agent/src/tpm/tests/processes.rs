//! Agents in processes of their own: killed, or leading a session.

use std::net::TcpListener;

use super::*;

/// An agent in a process of its own, to be killed. It says on stdout when its TPM is open.
#[tokio::test]
#[ignore = "started by the tests below, with settings in the environment"]
async fn agent_to_be_killed() {
    let Some(dir) = std::env::var_os("QUOTARY_TEST_DIR").map(PathBuf::from) else {
        return;
    };
    let access = match std::env::var("QUOTARY_TEST_PORT") {
        Ok(port) => TpmAccess::Swtpm { host: "127.0.0.1".to_owned(), port: port.parse().unwrap() },
        Err(_) => TpmAccess::Software { state_dir: dir.join("tpm"), setup_config: None },
    };
    let ak_file = dir.join("agent/ak.json");
    let config = TpmConfig::check(access, EkAlgorithm::Auto, ak_file, DEADLINE, 8).unwrap();
    let handle = TpmHandle::start(config).await.unwrap();
    handle.quote([0; 32], &boot_pcrs()).await.unwrap();
    fs::write(dir.join("ready"), handle.software_child_pid().unwrap_or(0).to_string()).unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
}

/// Starts an agent in a process of its own, and kills it (SIGKILL) once its TPM is open. Returns the
/// pid of its swtpm.
async fn start_and_kill_agent(dir: &Path, port: Option<u16>) -> u32 {
    let ready = dir.join("ready");
    let _ = fs::remove_file(&ready);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--ignored", "--exact", "tpm::tests::processes::agent_to_be_killed"])
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
        assert!(Instant::now() < end && agent.0.try_wait().unwrap().is_none(), "no agent");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// An agent as systemd runs it: the leader of a session without terminal, and without the right to
/// take a terminal from others.
#[tokio::test]
#[ignore = "started by the test below, with settings in the environment"]
async fn agent_that_leads_a_session() {
    let Some(dir) = std::env::var_os("QUOTARY_TEST_DIR").map(PathBuf::from) else {
        return;
    };
    let access = TpmAccess::Software { state_dir: dir.join("tpm"), setup_config: None };
    let ak_file = dir.join("agent/ak.json");
    let config = TpmConfig::check(access, EkAlgorithm::Auto, ak_file, DEADLINE, 8).unwrap();
    let handle = TpmHandle::start(config).await.unwrap();
    for round in 0..5 {
        signal(handle.software_child_pid().unwrap(), Signal::KILL);
        handle.quote([round; 32], &boot_pcrs()).await.unwrap();
    }
    handle.shutdown().await.unwrap();
    fs::write(dir.join("survived"), "yes").unwrap();
}

#[tokio::test]
async fn a_dying_tpm_does_not_hang_up_an_agent_that_leads_a_session() {
    let world = World::new();
    let mut command = Command::new("setpriv");
    if rustix::process::geteuid().is_root() {
        command.args(["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]);
    } else {
        command.arg("--no-new-privs");
    }
    let agent = command
        .args(["setsid", "--wait"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact"])
        .arg("tpm::tests::processes::agent_that_leads_a_session")
        .env("QUOTARY_TEST_DIR", world.dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(world.dir.path().join("survived").exists(), "{agent:?}");
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
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear", "--tpmstate"])
            .arg(format!("dir={}", dir.join("tpm/tpm").display()))
            .args(["--server", &format!("type=tcp,bindaddr=127.0.0.1,port={port}")])
            .args(["--ctrl", &format!("type=tcp,bindaddr=127.0.0.1,port={}", port + 1)])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..5 {
        start_and_kill_agent(&dir, Some(port)).await;
    }
    let access = TpmAccess::Swtpm { host: "127.0.0.1".to_owned(), port };
    let config = world.config(access, EkAlgorithm::Auto);
    let handle = world.start_with(config).await;
    assert_eq!(handle.identity().await.unwrap(), made);
    assert_eq!(handle.software_child_pid(), None);
    handle.quote([1; 32], &boot_pcrs()).await.unwrap();
    handle.shutdown().await.unwrap();
}

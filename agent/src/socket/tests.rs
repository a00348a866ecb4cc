#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use quotary_client::{LocalClient, LocalConnection};
use quotary_common::envelope::Mode;
use quotary_common::id::GrantId;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::units::{Class, Resources};
use quotary_common::wire::{
    AskGrant, EnterGrant, GaugeStatement, GaugesHeld, GrantRequest, GrantState, LocalGrant, Nothing, ReleaseGrant,
    RequestReply, ShowGrant, StateGauges, WatchGrant,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;

fn grant() -> LocalGrant {
    let id = GrantId::of(&[b"g"]);
    LocalGrant {
        grant: id,
        id: id.to_string(),
        application: "a".to_owned(),
        tenant: "t".to_owned(),
        class: Class::Burstable,
        resources: Resources { cpu_millicores: Some(500), ..Resources::default() },
        lease_left_ms: 1000,
        cgroup: Some("/quotary/run-x".to_owned()),
        backend: None,
        mode: Mode::Enforce,
        state: GrantState::Running,
        controls: vec![],
    }
}

fn request(wait_ms: u64) -> GrantRequest {
    GrantRequest {
        resources: Resources { cpu_millicores: Some(500), ..Resources::default() },
        class: Class::Burstable,
        name: None,
        wait_ms,
    }
}

/// Both sockets, and a loop that gives every peer the one grant that uid 0 owns.
struct Served {
    temp: tempfile::TempDir,
    asked: Arc<AtomicUsize>,
    states: watch::Sender<LocalGrant>,
    stop: CancellationToken,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Served {
    fn start(connections_per_uid_max: usize) -> Self {
        let temp = tempfile::tempdir().unwrap();
        // Another uid must reach the socket.
        std::fs::set_permissions(temp.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let (asks, mut queue, obstacle) = Asks::channel(64);
        obstacle.send("the verifier does not answer".to_owned()).unwrap();
        let (stop, asked) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        for (name, kind) in [("agent.sock", SocketKind::Application), ("admin.sock", SocketKind::Admin)] {
            let listener = Listener::bind(&temp.path().join("run").join(name), kind).unwrap();
            let limits = Limits { connections_per_uid_max };
            tokio::spawn(listener.serve(asks.clone(), PathBuf::from("/"), limits, stop.clone(), stop.clone()));
        }
        let (states, _) = watch::channel(grant());
        let (count, answers) = (Arc::clone(&asked), states.clone());
        tokio::spawn(async move {
            // Keeps the obstacle alive.
            let _obstacle = obstacle;
            let mut waiting = Vec::new();
            while let Some(ask) = queue.recv().await {
                count.fetch_add(1, Ordering::SeqCst);
                answer(ask, &answers, &mut waiting);
            }
        });
        Self { temp, asked, states, stop }
    }
    fn socket(&self) -> PathBuf {
        self.temp.path().join("run/agent.sock")
    }
    fn admin(&self) -> PathBuf {
        self.temp.path().join("run/admin.sock")
    }
    fn client(&self) -> LocalClient {
        LocalClient::new(self.socket())
    }
    /// Sends bytes and gives the status and the whole answer.
    async fn raw(&self, socket: PathBuf, bytes: Vec<u8>) -> (u16, String) {
        tokio::task::spawn_blocking(move || exchange(&socket, &bytes)).await.unwrap()
    }
    async fn refused(&self, bytes: impl Into<Vec<u8>>) -> (u16, Reason) {
        let (status, text) = self.raw(self.socket(), bytes.into()).await;
        (status, reason(&text))
    }
    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn answer(ask: Ask, states: &watch::Sender<LocalGrant>, waiting: &mut Vec<super::ask::Reply<RequestReply>>) {
    let owned = |peer: &Peer, name: &GrantName| {
        let known = grant().grant.is_named(name.as_str()) && peer.uid == 0;
        if known { Ok(grant()) } else { Err(Refusal::new(Reason::NotFound, "you hold no such grant")) }
    };
    match ask {
        Ask::Request { reply, request, .. } if request.class == Class::BestEffort => waiting.push(reply),
        Ask::Request { reply, .. } => drop(reply.send(Ok(RequestReply::Granted { grant: grant() }))),
        Ask::Show { peer, grant, reply } | Ask::Enter { peer, grant, reply } => drop(reply.send(owned(&peer, &grant))),
        Ask::Release { peer, grant, reply } => drop(reply.send(owned(&peer, &grant).map(drop))),
        Ask::Watch { peer, grant, reply } => {
            drop(reply.send(owned(&peer, &grant).map(|_| states.subscribe())));
        }
        Ask::StateGauges { gauges: GaugeStatement { errors_per_minute: Some(7), .. }, reply, .. } => {
            drop(reply.send(Err(Refusal::new(Reason::Busy, "wait"))));
        }
        Ask::StateGauges { peer, grant, reply, .. } => {
            drop(reply.send(owned(&peer, &grant).map(|_| GaugesHeld { held_for_ms: 15_000 })));
        }
        Ask::ShowAgent { reply } => drop(reply.send(Err(Refusal::new(Reason::Unavailable, "asked")))),
        Ask::RestoreAll { reply } => {
            drop(reply.send(Ok(quotary_common::wire::RestoreReply { grants: 0, targets: 0, left: vec![] })))
        }
    }
}

fn exchange(socket: &Path, bytes: &[u8]) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // It may be answered and closed before everything was written.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, text)
}

fn reason(answer: &str) -> Reason {
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_else(|| panic!("no body in {answer:?}"));
    let body = body.trim_start_matches(|c: char| c != '{');
    let error: quotary_common::wire::Error = serde_json::from_str(body.trim_end_matches(|c: char| c != '}')).unwrap();
    error.reason
}

fn http(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

#[tokio::test]
async fn every_route_answers_its_caller() {
    let served = Served::start(64);
    let client = served.client();
    let id = grant().id;
    let RequestReply::Granted { grant: given } = client.call::<AskGrant>(&[], &request(1_000)).await.unwrap() else {
        panic!("it must be granted")
    };
    assert_eq!(given, grant());
    assert_eq!(client.call::<ShowGrant>(&[&id], &Nothing {}).await.unwrap(), grant());
    let mut connection = LocalConnection::open(served.socket()).await.unwrap();
    assert_eq!(connection.call::<EnterGrant>(&[&grant().grant.hex()], &Nothing {}).await.unwrap(), grant());
    let fine = GaugeStatement { requests_per_minute: Some(60), ..GaugeStatement::default() };
    assert_eq!(client.call::<StateGauges>(&[&id], &fine).await.unwrap().held_for_ms, 15_000);
    client.call::<ReleaseGrant>(&[&id], &Nothing {}).await.unwrap();
    let (status, _) = served.raw(served.admin(), http("GET", "/v1/agent", "").into_bytes()).await;
    assert_eq!(status, 503, "the admin socket reaches the loop");
}

#[tokio::test]
async fn a_watcher_sees_each_change_until_the_end() {
    let served = Served::start(64);
    let mut events = served.client().events::<WatchGrant>(&[&grant().id]).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap(), grant());
    served.states.send_modify(|grant| grant.resources.cpu_millicores = Some(250));
    assert_eq!(events.next().await.unwrap().unwrap().resources.cpu_millicores, Some(250));
    served.states.send_modify(|grant| grant.state = GrantState::Ended);
    assert_eq!(events.next().await.unwrap().unwrap().state, GrantState::Ended);
    assert!(events.next().await.unwrap().is_none());
}

#[tokio::test]
async fn without_an_answer_in_time_the_request_is_withdrawn_and_the_obstacle_told() {
    let served = Served::start(64);
    let ask = GrantRequest { class: Class::BestEffort, ..request(50) };
    let RequestReply::NoAnswer { detail, .. } = served.client().call::<AskGrant>(&[], &ask).await.unwrap() else {
        panic!("nobody answers")
    };
    assert_eq!(detail, "the verifier does not answer");
}

#[tokio::test]
async fn malformed_and_oversized_input_is_refused_and_reaches_nobody() {
    let served = Served::start(64);
    let post = |body: &str| http("POST", "/v1/requests", body);
    let good = r#"{"resources":{"cpu_millicores":500},"wait_ms":10}"#;
    for body in [
        "",
        "{",
        "null",
        "[]",
        "{\"resources\":{}}",
        r#"{"resources":{},"wait_ms":10}"#,
        r#"{"resources":{"cpu_millicores":0},"wait_ms":10}"#,
        r#"{"resources":{"cpu_millicores":-1},"wait_ms":10}"#,
        r#"{"resources":{"cpu_millicores":18446744073709551615},"wait_ms":10}"#,
        r#"{"resources":{"cpu_millicores":500},"wait_ms":300001}"#,
        r#"{"resources":{"cpu_millicores":500},"wait_ms":10,"uid":0}"#,
        r#"{"resources":{"cpu_millicores":500},"wait_ms":10,"name":"a\u0007b"}"#,
        r#"{"resources":{"cpu_millicores":500},"wait_ms":10,"class":"royal"}"#,
    ] {
        assert_eq!(served.refused(post(body)).await, (400, Reason::Malformed), "{body}");
    }
    let large = "x".repeat(17 * 1024);
    assert_eq!(served.refused(post(&large)).await, (413, Reason::TooLarge));
    let claimed = "POST /v1/requests HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 99999999999\r\n\r\n";
    assert_eq!(served.refused(claimed).await, (413, Reason::TooLarge));
    let chunks = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    let chunked = format!(
        "POST /v1/requests HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"
    );
    assert_eq!(served.refused(chunked).await, (413, Reason::TooLarge));
    assert_eq!(served.refused(http("GET", "/v1/hosts", "")).await, (404, Reason::NotFound));
    assert_eq!(served.refused(http("GET", "/v1/agent", "")).await, (404, Reason::NotFound), "root's route is not here");
    assert_eq!(served.refused(http("PUT", "/v1/requests", good)).await, (405, Reason::Malformed));
    assert_eq!(served.refused(http("GET", "/v1/grants/..%2f..%2fetc", "")).await, (404, Reason::NotFound));
    assert_eq!(
        served.refused(http("GET", &format!("/v1/grants/{}", "a".repeat(65)), "")).await,
        (404, Reason::NotFound)
    );
    for broken in [
        "\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "POST /v1/requests HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
    ] {
        let (status, _) = served.raw(served.socket(), broken.as_bytes().to_vec()).await;
        assert_eq!(status, 400, "{broken:?}");
    }
    let headers = format!("GET /v1/grants/x HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(64 * 1024));
    let (status, _) = served.raw(served.socket(), headers.into_bytes()).await;
    assert_eq!(status, 431);
    assert_eq!(served.asked(), 0, "nothing of it reached the loop");
    assert_eq!(served.raw(served.socket(), post(good).into_bytes()).await.0, 200, "and the socket still serves");
}

#[tokio::test]
async fn a_statement_of_gauges_is_bounded_and_too_many_are_told_to_wait() {
    let served = Served::start(64);
    let path = format!("/v1/grants/{}/gauges", grant().grant.hex());
    for body in [
        "",
        "{}",
        r#"{"requests_per_minute":null}"#,
        r#"{"requests_per_minute":-1}"#,
        r#"{"requests_per_minute":1.5}"#,
        r#"{"requests_per_minute":"60"}"#,
        r#"{"requests_per_minute":1000000000001}"#,
        r#"{"errors_per_minute":18446744073709551615}"#,
        r#"{"errors_per_minute":1e3}"#,
        r#"{"request_latency_microseconds":86400000001}"#,
        r#"{"requests_per_minute":1,"requests_per_minute":2}"#,
        r#"{"requests_per_minute":1,"uid":0}"#,
        r#"{"requests_per_minute":1,"cgroup":"/other"}"#,
    ] {
        assert_eq!(served.refused(http("POST", &path, body)).await, (400, Reason::Malformed), "{body}");
    }
    assert_eq!(served.asked(), 0, "nothing of it reached the loop");
    let most = r#"{"requests_per_minute":1000000000000,"request_latency_microseconds":86400000000}"#;
    assert_eq!(served.raw(served.socket(), http("POST", &path, most).into_bytes()).await.0, 200);
    let (status, text) =
        served.raw(served.socket(), http("POST", &path, r#"{"errors_per_minute":7}"#).into_bytes()).await;
    assert_eq!((status, reason(&text)), (429, Reason::Busy));
    assert!(text.to_ascii_lowercase().contains("\r\nretry-after: 1\r\n"), "{text}");
    let none = http("POST", "/v1/grants/7777/gauges", r#"{"requests_per_minute":1}"#);
    assert_eq!(served.refused(none).await, (404, Reason::NotFound));
}

#[tokio::test]
async fn one_uid_has_so_many_connections_and_no_more() {
    let served = Served::start(2);
    let held = [UnixStream::connect(served.socket()).unwrap(), UnixStream::connect(served.socket()).unwrap()];
    // They are accepted in order, so the third finds both.
    assert_eq!(served.refused(http("GET", "/v1/grants/x", "")).await, (429, Reason::Busy));
    drop(held);
    for _ in 0..100 {
        if served.raw(served.socket(), http("GET", "/v1/grants/x", "").into_bytes()).await.0 == 404 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("closed connections give their places back");
}

#[tokio::test]
async fn sockets_have_their_modes_replace_a_stale_file_and_spare_anything_else() {
    let served = Served::start(4);
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(served.socket()), mode(served.admin())), (0o666, 0o600));
    assert!(matches!(Listener::bind(&served.socket(), SocketKind::Application), Err(SocketError::InUse { .. })));
    let directory = served.temp.path().join("run");
    let stale = directory.join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let listener = Listener::bind(&stale, SocketKind::Admin).unwrap();
    drop(listener);
    assert!(!stale.exists(), "the file goes with the listener");
    std::fs::write(&stale, b"precious").unwrap();
    assert!(matches!(Listener::bind(&stale, SocketKind::Admin), Err(SocketError::NotASocket { .. })));
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777)).unwrap();
    let open = Listener::bind(&directory.join("x.sock"), SocketKind::Admin);
    assert!(matches!(open, Err(SocketError::Directory { .. })));
}

/// Not a test of its own: what [`as_another_uid`] runs.
#[test]
#[ignore = "run by the tests of other uids, in a process of that uid"]
fn in_a_process_of_another_uid() {
    let Ok(socket) = std::env::var("QUOTARY_TEST_SOCKET") else { return };
    let bytes = std::env::var("QUOTARY_TEST_BYTES").unwrap();
    let (status, answer) = exchange(Path::new(&socket), bytes.as_bytes());
    println!("STATUS {status}\n{answer}");
}

/// Sends `bytes` from a process of uid 65534; the status and what was printed.
fn as_another_uid(served: &Served, socket: &Path, bytes: &str) -> (u16, String) {
    // The other uid may not enter the directory of the test binary.
    let program = served.temp.path().join("child");
    if !program.exists() {
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    }
    let output = std::process::Command::new(&program)
        .args(["--exact", "socket::tests::in_a_process_of_another_uid", "--ignored", "--nocapture"])
        .env("QUOTARY_TEST_SOCKET", socket)
        .env("QUOTARY_TEST_BYTES", bytes)
        .current_dir("/")
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let status = text.split("STATUS ").nth(1).and_then(|rest| rest.split('\n').next()?.parse().ok());
    (status.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr))), text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_uid_sees_no_grant_but_its_own_and_never_the_admin_routes() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can start a process of another uid");
        return;
    }
    let served = Served::start(64);
    for (method, path) in [
        ("GET", format!("/v1/grants/{}", grant().grant.hex())),
        ("DELETE", format!("/v1/grants/{}", grant().id)),
        ("GET", format!("/v1/grants/{}/events", grant().id)),
        ("POST", format!("/v1/grants/{}/enter", grant().id)),
        ("POST", format!("/v1/grants/{}/gauges", grant().id)),
    ] {
        let body = if path.ends_with("gauges") { r#"{"requests_per_minute":1}"# } else { "" };
        let (status, text) = as_another_uid(&served, &served.socket(), &http(method, &path, body));
        assert_eq!(status, 404, "{method} {path}");
        assert!(!text.contains("/quotary/run-x"), "nothing of it shows");
    }
    let before = served.asked();
    // Even when somebody opens the file's mode, who connects is what counts.
    std::fs::set_permissions(served.admin(), std::fs::Permissions::from_mode(0o666)).unwrap();
    for (method, path) in [("GET", "/v1/agent"), ("POST", "/v1/restore")] {
        let (status, text) = as_another_uid(&served, &served.admin(), &http(method, path, ""));
        assert_eq!((status, reason(text.split("STATUS ").nth(1).unwrap())), (403, Reason::Forbidden));
    }
    assert_eq!(served.asked(), before, "root's loop was not asked");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_bytes_get_a_4xx_or_nothing_and_never_reach_the_loop(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (status, asked) = runtime.block_on(async {
            let served = Served::start(64);
            let mut sent = b"POST /v1/requests HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: ".to_vec();
            sent.extend(format!("{}\r\n\r\n", bytes.len()).into_bytes());
            sent.extend(&bytes);
            (served.raw(served.socket(), sent).await.0, served.asked())
        });
        prop_assert!((400..500).contains(&status), "{}", status);
        prop_assert_eq!(asked, 0);
    }
}

//! The agent's local sockets: whose a grant is, what is no request, and who is not root.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use quotary_client::{ClientError, LocalClient};
use quotary_common::limits::SOCKET_BODY_BYTES_MAX;
use quotary_common::reason::Reason;
use quotary_common::wire::{
    self, ADMIN_ROUTES, EnterGrant, GrantState, LOCAL_ROUTES, LocalGrant, Method, Nothing, ReleaseGrant, RouteInfo,
    ShowGrant, WatchGrant,
};
use quotary_tests::host::as_uid;
use quotary_tests::world::{Application, Options, PATIENCE, Run, World};

const ALICE: u32 = 10_001;
const MALLORY: u32 = 10_002;
const TIMEOUT: Duration = Duration::from_secs(30);

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("note: not root, so nobody else can be tried: only what one user can see is tested");
    }
    is_root
}

/// One host whose agent is trusted; the verifier knows both users.
fn scene() -> World {
    let applications = vec![Application::of_uid("alpha", "shop", ALICE), Application::of_uid("beta", "bank", MALLORY)];
    let mut world = World::new(Options { applications, ..Options::quick(1) }).unwrap();
    world.start_verifier().unwrap();
    world.start_agent(0).unwrap();
    world.wait_for_trust(0, PATIENCE).unwrap();
    world
}

/// What `call` brings to user `uid`, who connects by himself.
fn calls<T: Send, F: Future<Output = T>>(uid: u32, call: impl FnOnce() -> F + Send) -> T {
    let work = || {
        // One thread: the connection must be made by the one that became somebody else.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(call())
    };
    as_uid(uid, work).unwrap()
}

/// What was tried, and with what status, reason and detail it was refused.
type Tried = (&'static str, Option<(u16, Reason, String)>);

/// Each thing that one may do to a grant, tried on the grant called `name` by `uid`: what was refused, and how.
fn tries(socket: &Path, uid: u32, name: &str) -> Vec<Tried> {
    let said = |result: Result<(), ClientError>| match result {
        Ok(()) => None,
        Err(ClientError::Refused { status, error }) => Some((status, error.reason, error.detail)),
        Err(other) => panic!("{other:?}"),
    };
    let client = LocalClient::new(socket).with_timeout(TIMEOUT);
    let name = [name];
    calls(uid, || async {
        let none = Nothing {};
        vec![
            ("show", said(client.call::<ShowGrant>(&name, &none).await.map(drop))),
            ("watch", said(client.events::<WatchGrant>(&name).await.map(drop))),
            ("enter", said(client.call::<EnterGrant>(&name, &none).await.map(drop))),
            ("release", said(client.call::<ReleaseGrant>(&name, &none).await.map(drop))),
        ]
    })
}

#[test]
fn a_grant_is_nobodys_but_that_of_the_user_who_asked_for_it() {
    if !is_root() {
        return;
    }
    let world = scene();
    let asked = ["--cpu", "200m", "--memory", "64M", "--if-unavailable", "fail"];
    let command = ["sh", "-c", "echo grant=$QUOTARY_GRANT; sleep 600; :"];
    let run = world.start_run("alice", &Run::new(0, &asked, command).as_uid(Some(ALICE))).unwrap();
    let hex = world.wait("alice's grant", PATIENCE, |_| {
        let printed = run.printed()?;
        Ok(printed.lines().find_map(|line| line.strip_prefix("grant=").map(str::to_owned)))
    });
    let hex = hex.unwrap();
    let socket = world.host(0).socket();
    let show = || -> LocalGrant {
        let client = LocalClient::new(&socket).with_timeout(TIMEOUT);
        calls(ALICE, || async { client.call::<ShowGrant>(&[&hex], &Nothing {}).await }).unwrap()
    };
    let before = show();
    assert_eq!((before.state, before.application.as_str()), (GrantState::Running, "alpha"));
    // Another user, root as a mere user of this socket, and a group mate (the gid is nothing).
    let unknown = tries(&socket, MALLORY, &"7".repeat(64));
    for uid in [MALLORY, 0] {
        for name in [&hex, &before.id] {
            let refused = tries(&socket, uid, name);
            assert!(refused.iter().all(|(_, said)| matches!(said, Some((404, Reason::NotFound, _)))), "{refused:?}");
            assert_eq!(refused, unknown, "the answer tells whether there is such a grant");
        }
    }
    let after = show();
    assert_eq!(LocalGrant { lease_left_ms: before.lease_left_ms, ..after }, before);
    // Nobody was moved into the group, and the verifier knows of one grant.
    if let Some(group) = &before.cgroup {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        assert!(!own.contains(group.as_str()), "{own}");
    }
    assert_eq!(world.grant_views().unwrap().len(), 1);

    // It is alice's to give back; what ran under it runs on.
    let released = tries(&socket, ALICE, &hex).pop();
    assert_eq!(released, Some(("release", None)));
    world
        .wait("the grant to be gone", PATIENCE, |world| {
            let gone = world.agent_view(0)?.grants.is_empty() && world.grant_views()?.is_empty();
            Ok(gone.then_some(()))
        })
        .unwrap();
    assert!(run.ended().unwrap().is_none());
    run.stop(PATIENCE).unwrap();
    assert_eq!(world.take_down().unwrap(), Vec::<String>::new());
}

/// Sends bytes, and reads until the agent closes or `TIMEOUT`: the status, and the reason where there is one.
fn speak(socket: &Path, bytes: &[u8]) -> (u16, Option<Reason>) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    // Who refuses early does not read to the end.
    let _refused_early = stream.write_all(bytes).is_err();
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    let deadline = Instant::now() + TIMEOUT;
    while let Ok(read @ 1..) = stream.read(&mut part) {
        answer.extend_from_slice(&part[..read]);
        assert!(Instant::now() < deadline, "no end: {}", String::from_utf8_lossy(&answer));
    }
    let text = String::from_utf8_lossy(&answer);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no HTTP answer: `{text}` to {}", String::from_utf8_lossy(bytes)));
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    // What is no HTTP is answered by the HTTP library, without a body.
    let reason = (!body.is_empty()).then(|| {
        let error: wire::Error = serde_json::from_str(&body).unwrap_or_else(|why| panic!("{why}: {text}"));
        error.reason
    });
    (status, reason)
}

fn request(method: Method, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let head =
        format!("{} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{length}{headers}\r\n", method.name());
    [head.as_bytes(), body].concat()
}

fn path(route: &RouteInfo) -> String {
    wire::path_with(route.path, &[&"7".repeat(64)])
}

/// Everything that is no request on one socket: each must be refused with 4xx.
fn malformed(socket: &Path, routes: &[RouteInfo]) {
    let large = vec![b' '; SOCKET_BODY_BYTES_MAX + 1];
    for route in routes {
        let (path, method) = (path(route), route.method);
        if method == Method::Post {
            for body in [&b"{"[..], b"null", b"\"text\"", b"7", b"\xff\xfe", b"{\"surprise\":1}", b"{}{}"] {
                let answer = speak(socket, &request(method, &path, "", body));
                assert_eq!(answer, (400, Some(Reason::Malformed)), "{} {}", route.name, String::from_utf8_lossy(body));
            }
            let answer = speak(socket, &request(method, &path, "", &large));
            assert_eq!(answer, (413, Some(Reason::TooLarge)), "{}", route.name);
            // Announced, and never sent.
            let announced = request(method, &path, "content-length: 99999999999\r\n", b"");
            assert_eq!(speak(socket, &announced), (413, Some(Reason::TooLarge)), "{}", route.name);
            // Never announced, and sent.
            let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", large.len(), " ".repeat(large.len()));
            let chunked = request(method, &path, "transfer-encoding: chunked\r\n", b"");
            let answer = speak(socket, &[&chunked, chunk.as_bytes()].concat());
            assert_eq!(answer, (413, Some(Reason::TooLarge)), "{}", route.name);
        }
        for other in [Method::Get, Method::Post, Method::Delete] {
            if !routes.iter().any(|known| known.path == route.path && known.method == other) {
                assert_eq!(speak(socket, &request(other, &path, "", b"")).0, 405, "{} {path}", other.name());
            }
        }
        // Heads that are too large or too many.
        let long = format!("x-long: {}\r\n", "a".repeat(64 * 1024));
        let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
        for headers in [long, many] {
            let (status, _) = speak(socket, &request(method, &path, &headers, b""));
            assert!((400..500).contains(&status), "{status} {}", route.name);
        }
    }
    for path in ["/", "/v1", "/v1/requests/x", "/v1/grants/", "/v1/grants/%00", "/v1/grants/..%2f..", "/v2/agent"] {
        assert_eq!(speak(socket, &request(Method::Get, path, "", b"")), (404, Some(Reason::NotFound)), "{path}");
    }
    let long = format!("/v1/grants/{}", "7".repeat(4096));
    assert_eq!(speak(socket, &request(Method::Get, &long, "", b"")), (404, Some(Reason::NotFound)));
    for garbage in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"HELO there\r\n\r\n", b"GET /\r\n\r\n", &[0; 64]]
    {
        let (status, _) = speak(socket, garbage);
        assert!((400..500).contains(&status), "{status}");
    }
}

#[test]
fn what_is_no_request_is_refused_on_both_sockets_and_root_alone_is_served_on_the_admin_socket() {
    let world = scene();
    let (socket, admin) = (world.host(0).socket(), world.host(0).admin_socket());
    let before = world.agent_view(0).unwrap();
    malformed(&socket, LOCAL_ROUTES);
    malformed(&admin, ADMIN_ROUTES);
    for body in [
        r#"{"resources":{},"wait_ms":1}"#,
        r#"{"resources":{"cpu_millicores":0},"wait_ms":1}"#,
        r#"{"resources":{"cpu_millicores":-1},"wait_ms":1}"#,
        r#"{"resources":{"cpu_millicores":1.5},"wait_ms":1}"#,
        r#"{"resources":{"cpu_millicores":18446744073709551616},"wait_ms":1}"#,
        r#"{"resources":{"cpu_millicores":18446744073709551615},"wait_ms":1}"#,
        r#"{"resources":{"cpu":100},"wait_ms":1}"#,
        r#"{"resources":{"cpu_millicores":100},"wait_ms":300001}"#,
        r#"{"resources":{"cpu_millicores":100},"wait_ms":1,"class":"royal"}"#,
        r#"{"resources":{"cpu_millicores":100},"wait_ms":1,"name":"a\u0000b"}"#,
        r#"{"resources":{"cpu_millicores":100},"wait_ms":1,"uid":0}"#,
        r#"{"resources":{"cpu_millicores":100}}"#,
    ] {
        let answer = speak(&socket, &request(Method::Post, "/v1/requests", "", body.as_bytes()));
        assert_eq!(answer, (400, Some(Reason::Malformed)), "{body}");
    }
    if is_root() {
        others_at_roots_socket(&admin);
    }
    // Nothing came of all that, and the agent goes on.
    world.wait_for_evidence(0, 1, PATIENCE).unwrap();
    let after = world.agent_view(0).unwrap();
    assert_eq!((after.grants.len(), after.mode, after.host), (0, before.mode, before.host));
    assert_eq!((world.grant_views().unwrap().len(), world.host_view(0).unwrap().refused), (0, 0));
    assert_eq!(world.take_down().unwrap(), Vec::<String>::new());
}

fn others_at_roots_socket(admin: &Path) {
    let mode = std::fs::metadata(admin).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let connected = as_uid(MALLORY, || UnixStream::connect(admin).map(drop)).unwrap();
    assert_eq!(connected.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    // Even where somebody has opened the file to all, the agent looks who it is.
    std::fs::set_permissions(admin, Permissions::from_mode(0o666)).unwrap();
    for route in ADMIN_ROUTES {
        let bytes = request(route.method, &path(route), "", b"");
        let answer = as_uid(MALLORY, || speak(admin, &bytes)).unwrap();
        assert_eq!(answer, (403, Some(Reason::Forbidden)), "{}", route.name);
    }
    std::fs::set_permissions(admin, mode).unwrap();
}

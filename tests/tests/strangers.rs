//! What strangers cannot do: hold connections that enrolled hosts need, or see one nonce twice.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quotary_tests::host::Operator;
use quotary_tests::world::{Options, World};
use tokio::net::{TcpSocket, TcpStream};

/// Far more than the verifier serves at once.
const IDLE_CONNECTIONS: usize = 300;
/// What it serves at once: without shares, strangers would take all.
const CONNECTIONS_MAX: usize = 64;
const NONCES: usize = 2_000;

/// A connection from `from` that never says a word.
async fn idle(from: &str, to: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), socket.connect(to)).await.ok()?.ok()
}

#[test]
fn a18_connections_that_never_finish_their_handshake_keep_no_host_out() {
    let verifier_extra = format!("[limits]\nconnections_max = {CONNECTIONS_MAX}\n");
    let mut world = World::new(Options { verifier_extra, ..Options::quick(0) }).unwrap();
    world.start_verifier().unwrap();
    let operator = Operator::of(&world).unwrap();
    world.runtime().block_on(async {
        let mut host = operator.host("a").await.unwrap();
        host.attest().await.unwrap();
        let mut held = Vec::new();
        for _ in 0..IDLE_CONNECTIONS {
            held.extend(idle("127.0.0.2", operator.address).await);
        }
        // A new connection of the host, from elsewhere, while the others hang on.
        let start = Instant::now();
        host.client = operator.with_key(&host.tls).unwrap();
        host.attest().await.unwrap();
        operator.candidate("b").await.unwrap().enrol().await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}: it waited for handshakes to end", start.elapsed());
        assert!(!held.is_empty());
    });
}

#[test]
fn a13_no_nonce_comes_twice() {
    let mut world = World::new(Options::quick(0)).unwrap();
    world.start_verifier().unwrap();
    let operator = Operator::of(&world).unwrap();
    world.runtime().block_on(async {
        let host = operator.host("a").await.unwrap();
        let mut seen = BTreeSet::new();
        for _ in 0..NONCES {
            let nonce = host.nonce().await.unwrap().nonce.0;
            assert_eq!(nonce.len(), 32);
            // The random part alone: the MAC would differ with the expiry.
            assert!(seen.insert(nonce[8..16].to_vec()), "a random part came twice");
        }
        assert_eq!(seen.len(), NONCES);
    });
}

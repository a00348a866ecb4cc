//! The road between a host and the verifier: bytes pass as they are, until somebody turns it elsewhere.
//!
//! To a host this is what a network is to a real one: it knows an address, and not who sits on the way.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const AFTER_A_FAILED_ACCEPT: Duration = Duration::from_millis(50);

/// A road; closed when dropped.
#[derive(Debug)]
pub struct Road {
    address: SocketAddr,
    leads_to: watch::Sender<SocketAddr>,
    keeper: JoinHandle<()>,
}

impl Road {
    /// Opens a road on a port that the kernel chooses.
    ///
    /// # Errors
    /// When no port is to be had.
    pub fn open(runtime: &Handle, leads_to: SocketAddr) -> Result<Self> {
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).context("no port for a road")?;
        let address = listener.local_addr()?;
        let (leads_to, target) = watch::channel(leads_to);
        let keeper = runtime.spawn(keep(listener, target));
        Ok(Self { address, leads_to, keeper })
    }

    /// What a host thinks the verifier's address is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Turns the road: connections that are open are cut, new ones lead there.
    pub fn turn_to(&self, target: SocketAddr) {
        self.leads_to.send_replace(target);
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

async fn keep(listener: TcpListener, target: watch::Receiver<SocketAddr>) {
    loop {
        match listener.accept().await {
            Ok((from, _)) => {
                tokio::spawn(carry(from, target.clone()));
            }
            Err(_) => tokio::time::sleep(AFTER_A_FAILED_ACCEPT).await,
        }
    }
}

async fn carry(mut from: TcpStream, mut target: watch::Receiver<SocketAddr>) {
    let address = *target.borrow_and_update();
    // A verifier that is away looks to the host as it would without a road: the connection ends.
    let Ok(mut to) = TcpStream::connect(address).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut from, &mut to) => {}
        // Turned, or the road is gone: both ends are closed.
        _ = target.changed() => {}
    }
}

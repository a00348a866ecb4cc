//! Somebody who receives webhooks over TLS, and notes them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use quotary_common::wire::EventBatch;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::free_address;

const TIMEOUT: Duration = Duration::from_secs(20);

/// What was posted once.
#[derive(Debug, Clone)]
pub struct Posted {
    /// When it was there whole.
    pub at: Instant,
    /// The request's head, in lower case.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
    /// What was answered.
    pub status: u16,
}

impl Posted {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
    /// The body, read.
    ///
    /// # Errors
    /// When it is not what a webhook posts.
    pub fn batch(&self) -> Result<EventBatch> {
        Ok(serde_json::from_slice(&self.body)?)
    }
}

/// A receiver with a certificate of a CA of its own.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    ca_pem: String,
    tls: Arc<ServerConfig>,
    status: Arc<AtomicU16>,
    posted: Arc<Mutex<Vec<Posted>>>,
}

impl Receiver {
    /// A receiver that does not listen yet, and will answer 200.
    ///
    /// # Errors
    /// When no key or certificate can be made, or no port is free.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let address = free_address()?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.subject_alt_names = vec![SanType::IpAddress(address.ip())];
        let certificate = params.signed_by(&key, &ca)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        let status = Arc::new(AtomicU16::new(200));
        Ok(Self { address, ca_pem: ca.pem(), tls: Arc::new(tls), status, posted: Arc::default() })
    }

    /// Listens from now on, until the process ends.
    ///
    /// # Errors
    /// When somebody else took the port.
    pub fn listen(&self) -> Result<()> {
        let listener = TcpListener::bind(self.address).with_context(|| format!("{} is taken", self.address))?;
        let (tls, status, posted) = (Arc::clone(&self.tls), Arc::clone(&self.status), Arc::clone(&self.posted));
        std::thread::Builder::new().name("receiver".to_owned()).spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Ok(one) = receive(stream, &tls, &status) {
                    posted.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                }
            }
        })?;
        Ok(())
    }

    /// What it answers from now on.
    pub fn answer(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }
    /// Where it is posted to.
    pub fn url(&self) -> String {
        format!("https://{}/quotary", self.address)
    }
    /// The certificate of its CA, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }
    /// Everything that was posted so far.
    pub fn posted(&self) -> Vec<Posted> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn receive(stream: TcpStream, tls: &Arc<ServerConfig>, status: &AtomicU16) -> Result<Posted> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(tls))?, stream);
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    let (head, body) = loop {
        let count = stream.read(&mut part)?;
        anyhow::ensure!(count > 0, "the request was cut off");
        bytes.extend_from_slice(&part[..count]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec())?.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
        if bytes.len() == end + 4 + length.parse::<usize>()? {
            break (head, bytes.split_off(end + 4));
        }
    };
    let (at, status) = (Instant::now(), status.load(Ordering::Relaxed));
    write!(stream, "HTTP/1.1 {status} so\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    stream.flush()?;
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(Posted { at, head, body, status })
}

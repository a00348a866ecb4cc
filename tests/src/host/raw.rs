//! HTTP over TLS, byte by byte, for what the client would never send.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use quotary_client::PinnedCa;
use quotary_common::id::Digest;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConnection, StreamOwned};

use super::TlsKey;

const TIMEOUT: Duration = Duration::from_secs(60);

/// A reply as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawReply {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// One TLS connection to the verifier.
pub struct RawTls(StreamOwned<ClientConnection, TcpStream>);

impl RawTls {
    /// Connects, with a client certificate or without one.
    ///
    /// # Errors
    /// When no TLS connection comes about.
    pub fn connect(address: SocketAddr, ca_pin: Digest, key: Option<&TlsKey>) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(PinnedCa::new(ca_pin, provider)));
        let config = match key {
            None => builder.with_no_client_auth(),
            Some(key) => builder.with_client_auth_cert(
                vec![CertificateDer::from(key.certificate_der.clone())],
                PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.key_pkcs8.clone())),
            )?,
        };
        let connection = ClientConnection::new(Arc::new(config), ServerName::from(address.ip()))?;
        let stream = TcpStream::connect(address).with_context(|| format!("nobody listens on {address}"))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self(StreamOwned::new(connection, stream)))
    }

    /// Sends a request that asks the server to close afterwards.
    ///
    /// # Errors
    /// When the server closed before all was sent.
    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: verifier\r\nconnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        self.0.write_all(head.as_bytes())?;
        self.0.write_all(body)?;
        Ok(self.0.flush()?)
    }

    /// Reads the reply until the server closes.
    ///
    /// # Errors
    /// When what came is no HTTP reply.
    pub fn receive(mut self) -> Result<RawReply> {
        let (mut bytes, mut part) = (Vec::new(), [0; 16 * 1024]);
        // A server that refuses early may cut the connection: what came before counts.
        while let Ok(read @ 1..) = self.0.read(&mut part) {
            bytes.extend_from_slice(&part[..read]);
        }
        parse(&bytes).ok_or_else(|| anyhow!("no HTTP reply: {}", String::from_utf8_lossy(&bytes)))
    }

    /// One request on a connection of its own. A server may answer before it has read everything.
    ///
    /// # Errors
    /// When no reply came.
    pub fn ask(mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<RawReply> {
        let sent = self.send(method, path, headers, body);
        self.receive().map_err(|error| sent.err().unwrap_or(error))
    }
}

fn parse(bytes: &[u8]) -> Option<RawReply> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(RawReply { status, body: bytes.get(end + 4..)?.to_vec() })
}

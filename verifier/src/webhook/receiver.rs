//! Who receives: a checked url, the authorities of its certificate, the kinds that it wants, and the shared secret.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use axum::http::Uri;
use quotary_common::id::Digest;
use quotary_common::wire::EventKind;
use ring::hmac;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

/// Longest url, in bytes.
const URL_BYTES_MAX: usize = 2048;
/// Where systems keep the authorities that they trust, as one PEM file.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A receiver that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiverFault {
    /// The url is not one that is posted to.
    #[error("the url {0}")]
    Url(&'static str),
    /// The authorities cannot be used.
    #[error("{0}")]
    Authorities(String),
}

/// Where to post: `https://`, or `http://` to a loopback address.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// SHA-256 of the url: by this its place in the log is kept.
    pub(super) key: Digest,
    /// Scheme, host and port: what may be shown.
    pub(super) shown: String,
    pub(super) host: String,
    pub(super) port: u16,
    /// `Host` of the request.
    pub(super) authority: String,
    pub(super) path_and_query: String,
    /// The name that its certificate must have; absent over plain HTTP.
    pub(super) tls_name: Option<ServerName<'static>>,
}

impl Receiver {
    /// Reads a url.
    ///
    /// # Errors
    /// [`ReceiverFault::Url`]
    pub fn parse(url: &str) -> Result<Self, ReceiverFault> {
        let fault = |why| Err(ReceiverFault::Url(why));
        if url.len() > URL_BYTES_MAX {
            return fault("is longer than 2048 bytes");
        }
        let Ok(uri) = url.parse::<Uri>() else { return fault("cannot be read") };
        let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
            return fault("names no host");
        };
        if authority.as_str().contains('@') || url.contains('#') {
            return fault("must have no user and no fragment");
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let (port, tls_name) = match uri.scheme_str() {
            Some("https") => match ServerName::try_from(host.clone()) {
                Ok(name) => (443, Some(name)),
                Err(_) => return fault("names no host that a certificate could be for"),
            },
            // A name could lead anywhere tomorrow.
            Some("http") if host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()) => (80, None),
            _ => return fault("must begin with https://; http:// is for 127.0.0.1 and [::1] only"),
        };
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => port,
            Some(rest) => match rest.strip_prefix(':').and_then(|port| port.parse().ok()) {
                None | Some(0) => return fault("has no port between 1 and 65535"),
                Some(port) => port,
            },
            None => return fault("cannot be read"),
        };
        let scheme = if tls_name.is_some() { "https" } else { "http" };
        Ok(Self {
            key: Digest::of(&[url.as_bytes()]),
            shown: format!("{scheme}://{authority}"),
            host,
            port,
            authority: authority.to_string(),
            path_and_query: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            tls_name,
        })
    }

    /// SHA-256 of the url.
    pub fn key(&self) -> Digest {
        self.key
    }
    /// Scheme, host and port.
    pub fn shown(&self) -> &str {
        &self.shown
    }
    /// Whether it is spoken to over TLS.
    pub fn is_https(&self) -> bool {
        self.tls_name.is_some()
    }
}

/// A webhook of the configuration.
#[derive(Debug, Clone)]
pub struct Webhook {
    pub(super) receiver: Receiver,
    pub(super) kinds: BTreeSet<EventKind>,
    pub(super) secret: hmac::Key,
    pub(super) tls: Option<Arc<ClientConfig>>,
}

impl Webhook {
    /// A webhook for events of `kinds`, signed with `secret`; `authorities` (PEM) certify an https receiver.
    ///
    /// # Errors
    /// [`ReceiverFault::Authorities`] when they hold no certificate that can be used.
    pub fn new(
        receiver: Receiver,
        kinds: BTreeSet<EventKind>,
        secret: &[u8],
        authorities: &[u8],
    ) -> Result<Self, ReceiverFault> {
        let tls = receiver.is_https().then(|| client_config(authorities)).transpose()?;
        Ok(Self { receiver, kinds, secret: hmac::Key::new(hmac::HMAC_SHA256, secret), tls })
    }

    /// Where it posts.
    pub fn receiver(&self) -> &Receiver {
        &self.receiver
    }
    /// The kinds of events that it is told.
    pub fn kinds(&self) -> &BTreeSet<EventKind> {
        &self.kinds
    }
}

/// The first file of authorities that this system has.
///
/// # Errors
/// [`ReceiverFault::Authorities`] when it has none.
pub fn system_authorities() -> Result<Vec<u8>, ReceiverFault> {
    SYSTEM_AUTHORITIES.iter().find_map(|path| std::fs::read(Path::new(path)).ok()).ok_or_else(|| {
        let looked = SYSTEM_AUTHORITIES.join(", ");
        ReceiverFault::Authorities(format!("this system has no file of authorities ({looked}): name one with ca_file"))
    })
}

/// TLS 1.3 and 1.2 with trust in these authorities and in nobody else.
fn client_config(authorities: &[u8]) -> Result<Arc<ClientConfig>, ReceiverFault> {
    let fault = |why: String| ReceiverFault::Authorities(why);
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(authorities)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| fault(format!("the authorities are no PEM file: {error}")))?;
    let (usable, _) = roots.add_parsable_certificates(certificates);
    if usable == 0 {
        return Err(fault("no certificate of an authority is in it".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fault(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_into_whom_to_call_and_what_may_be_shown() {
        let receiver = Receiver::parse("https://hooks.example/T0/secret?x=1").unwrap();
        assert_eq!((receiver.shown(), receiver.port, receiver.is_https()), ("https://hooks.example", 443, true));
        assert_eq!(receiver.path_and_query, "/T0/secret?x=1");
        let receiver = Receiver::parse("https://[2001:db8::1]:8443").unwrap();
        assert_eq!((&*receiver.host, receiver.port, &*receiver.path_and_query), ("2001:db8::1", 8443, "/"));
        let receiver = Receiver::parse("http://[::1]:8080/a").unwrap();
        assert_eq!((receiver.shown(), receiver.is_https()), ("http://[::1]:8080", false));
        assert!(!Receiver::parse("http://127.0.0.9/a").unwrap().is_https());
        let [one, other] = ["https://a/1", "https://a/2"].map(|url| Receiver::parse(url).unwrap().key());
        assert_ne!(one, other);
    }

    #[test]
    fn plain_http_stays_on_this_machine_and_odd_urls_are_refused() {
        for url in [
            "http://hooks.example/",
            "http://localhost/",
            "http://192.0.2.1/",
            "http://[::ffff:192.0.2.1]/",
            "ftp://127.0.0.1/",
            "127.0.0.1:80",
            "/path",
            "",
            "https://",
            "https://user@hooks.example/",
            "https://hooks.example/#part",
            "https://hooks.example:0/",
            "https://hooks.example:70000/",
            "https://hooks.example:/",
            "https://ho oks/",
            "https://-./",
        ] {
            assert!(Receiver::parse(url).is_err(), "{url}");
        }
        assert!(Receiver::parse(&format!("https://a/{}", "x".repeat(URL_BYTES_MAX))).is_err());
    }

    #[test]
    fn authorities_without_a_certificate_are_refused_and_plain_http_needs_none() {
        let [https, http] = ["https://a/", "http://127.0.0.1/"].map(|url| Receiver::parse(url).unwrap());
        for authorities in [&b""[..], b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(Webhook::new(https.clone(), BTreeSet::new(), b"secret", authorities).is_err());
        }
        assert!(Webhook::new(http, BTreeSet::new(), b"secret", b"").is_ok());
    }
}

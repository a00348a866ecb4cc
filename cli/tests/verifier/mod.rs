//! A small verifier for the tests of what asks one: pinned TLS, and answers as it is told.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use quotary_common::id::Digest;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose, SanType};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Status and body for what is asked (method, path and query) with this body.
type Answer = Box<dyn Fn(&str, &str) -> (u16, String) + Send + Sync>;

/// It, until it is dropped.
pub(crate) struct Verifier {
    /// The credentials of somebody who is logged in to it.
    pub(crate) credentials: PathBuf,
    notes: Arc<Mutex<Vec<(String, String)>>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Verifier {
    /// Starts one that keeps its credentials file in the directory, with this root key pinned.
    pub(crate) fn start(
        directory: &Path,
        root_key: Option<&str>,
        answer: impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let key = KeyPair::generate().unwrap();
        let pin = Digest::of(&[&rcgen::PublicKeyData::subject_public_key_info(&key)]);
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let chain = vec![certificate.der().to_vec(), issuer.der().to_vec()];
        let acceptor = acceptor(chain, key.serialize_der());

        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let notes = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (noted, answer): (_, Answer) = (Arc::clone(&notes), Box::new(answer));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! { () = serve(listener, acceptor, noted, Arc::new(answer)) => {}, _ = stopped => {} }
            });
        });

        let credentials = directory.join("credentials.toml");
        let root_key = root_key.map(|key| format!("root_key = '{key}'\n")).unwrap_or_default();
        let token = format!("qot1.{}", "A".repeat(43));
        let text = format!("verifier = 'https://{address}'\nca_spki = '{}'\n{root_key}token = '{token}'\n", pin.hex());
        std::fs::write(&credentials, text).unwrap();
        std::fs::set_permissions(&credentials, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        Self { credentials, notes, stop: Some(stop), thread: Some(thread) }
    }

    /// What was asked so far, with the bodies.
    pub(crate) fn notes(&self) -> Vec<(String, String)> {
        self.notes.lock().unwrap().clone()
    }

    /// The bodies that were sent so.
    pub(crate) fn sent(&self, asked: &str) -> Vec<String> {
        self.notes().into_iter().filter(|(one, _)| one == asked).map(|(_, body)| body).collect()
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn acceptor(chain: Vec<Vec<u8>>, key: Vec<u8>) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(
    listener: std::net::TcpListener,
    acceptor: TlsAcceptor,
    notes: Arc<Mutex<Vec<(String, String)>>>,
    answer: Arc<Answer>,
) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(stream) = acceptor.accept(stream).await else { continue };
        let (notes, answer) = (Arc::clone(&notes), Arc::clone(&answer));
        let service = service_fn(move |request: Request<Incoming>| {
            let (notes, answer) = (Arc::clone(&notes), Arc::clone(&answer));
            async move {
                let place = request.uri().path_and_query().map_or("", |place| place.as_str());
                let asked = format!("{} {place}", request.method());
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let body = String::from_utf8(body.to_vec()).unwrap();
                let (status, text) = answer(&asked, &body);
                notes.lock().unwrap().push((asked, body));
                let response = Response::builder().status(status).header("content-type", "application/json");
                Ok::<_, Infallible>(response.body(Full::new(Bytes::from(text))).unwrap())
            }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::convert::Infallible;
use std::sync::Mutex;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use quotary_common::reason::Reason;
use quotary_common::wire::{self, ListHosts, Nothing, ShowTile};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose, SanType};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::UnixTime;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::Told;

/// A CA and what it issues.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pin: Digest,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let pin = Digest::of(&[&spki(&key)]);
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap(), pin }
    }

    /// A leaf for `ip`, after `change`, and its key.
    fn leaf(&self, ip: &str, change: impl FnOnce(&mut CertificateParams)) -> Served {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.subject_alt_names = vec![SanType::IpAddress(ip.parse().unwrap())];
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Served { chain: vec![certificate.der().to_vec(), self.issuer.der().to_vec()], key: key.serialize_der() }
    }
}

fn spki(key: &KeyPair) -> Vec<u8> {
    rcgen::PublicKeyData::subject_public_key_info(key)
}

/// What a server presents.
struct Served {
    chain: Vec<Vec<u8>>,
    key: Vec<u8>,
}

type Seen = Arc<Mutex<Vec<String>>>;

/// A TLS server on a free port, ended when it is dropped.
struct Server {
    url: String,
    seen: Seen,
    task: tokio::task::JoinHandle<()>,
}
impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes any client certificate: who may do what is not what is tested here.
#[derive(Debug)]
struct AnyClient(Arc<rustls::crypto::CryptoProvider>);
impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What is answered to a path.
type Answer = fn(&str) -> Response<Full<Bytes>>;

/// Serves `answer` to every request, and notes each: method, path, authorization, client certificate.
async fn serve(served: Served, answer: Answer) -> Server {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = served.chain.into_iter().map(CertificateDer::from).collect();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(served.key));
    let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(Arc::new(AnyClient(provider)))
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let notes = Arc::clone(&seen);
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            notes.lock().unwrap().push("connection".to_owned());
            let client = stream.get_ref().1.peer_certificates().map_or(0, |c| c.len());
            let notes = Arc::clone(&notes);
            let service = service_fn(move |request: Request<Incoming>| {
                let bearer = request.headers().get("authorization").map_or("-", |v| v.to_str().unwrap());
                let path = request.uri().path().to_owned();
                notes.lock().unwrap().push(format!("{} {path} {bearer} {client}", request.method()));
                async move { Ok::<_, Infallible>(answer(&path)) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    Server { url, seen, task }
}

fn json(status: u16, text: &'static str) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(Full::new(Bytes::from_static(text.as_bytes()))).unwrap()
}

fn client(url: &str, pin: Digest) -> Client {
    Client::new(ClientConfig {
        base_url: url.to_owned(),
        ca_pin: pin,
        identity: None,
        bearer: Some(Zeroizing::new("qot1.secret\n".to_owned())),
        timeout: Duration::from_secs(5),
    })
    .unwrap()
}

async fn hosts(client: &Client) -> Result<Vec<wire::HostView>, ClientError> {
    client.call::<ListHosts>(&[], &Nothing {}).await
}

/// The advice of the TLS error that a call to what is served gives.
async fn tls_advice(served: Served, pin: Digest, url_host: &str) -> String {
    let server = serve(served, |_| json(200, "[]")).await;
    let url = server.url.replace("127.0.0.1", url_host);
    match hosts(&client(&url, pin)).await {
        Err(ClientError::Tls { advice, .. }) => advice,
        other => panic!("expected a TLS error, got {other:?}"),
    }
}

#[tokio::test]
async fn the_pinned_ca_is_trusted_and_the_connection_is_kept() {
    let ca = Authority::new();
    let server = serve(ca.leaf("127.0.0.1", |_| {}), |_| json(200, "[]")).await;
    let client = client(&server.url, ca.pin);
    assert_eq!(hosts(&client).await.unwrap().len(), 0);
    assert_eq!(hosts(&client).await.unwrap().len(), 0);
    let request = "GET /v1/hosts Bearer qot1.secret 0";
    assert_eq!(*server.seen.lock().unwrap(), ["connection", request, request]);
}

#[tokio::test]
async fn another_pin_is_refused_and_named() {
    let ca = Authority::new();
    let pin = Authority::new().pin;
    let advice = tls_advice(ca.leaf("127.0.0.1", |_| {}), pin, "127.0.0.1").await;
    assert!(advice.contains(&pin.hex()), "{advice}");
}

#[tokio::test]
async fn a_leaf_issued_by_another_ca_beside_the_pinned_one_is_refused() {
    let (ca, other) = (Authority::new(), Authority::new());
    let mut served = other.leaf("127.0.0.1", |_| {});
    served.chain[1] = ca.issuer.der().to_vec();
    let advice = tls_advice(served, ca.pin, "127.0.0.1").await;
    assert!(advice.contains("not issued by the pinned CA"), "{advice}");
}

#[tokio::test]
async fn a_self_signed_leaf_is_not_its_own_authority() {
    for presented_twice in [false, true] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let chain = if presented_twice { vec![der.clone(), der] } else { vec![der] };
        let pin = Digest::of(&[&spki(&key)]);
        let advice = tls_advice(Served { chain, key: key.serialize_der() }, pin, "127.0.0.1").await;
        assert!(advice.contains("no CA with the pinned key"), "{advice}");
    }
}

#[tokio::test]
async fn a_key_that_may_not_sign_certificates_is_no_authority() {
    let ca = Authority::new();
    let middle = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![]).unwrap();
    let middle_der = params.signed_by(&middle, &ca.issuer).unwrap().der().to_vec();
    let pin = Digest::of(&[&spki(&middle)]);
    let mut served = ca.leaf("127.0.0.1", |_| {});
    served.chain.push(middle_der);
    let advice = tls_advice(served, pin, "127.0.0.1").await;
    assert!(advice.contains("no CA with the pinned key"), "{advice}");
}

#[tokio::test]
async fn a_leaf_for_another_address_is_refused() {
    let ca = Authority::new();
    let advice = tls_advice(ca.leaf("127.0.0.2", |_| {}), ca.pin, "127.0.0.1").await;
    assert!(advice.contains("another name"), "{advice}");
    let advice = tls_advice(ca.leaf("127.0.0.1", |_| {}), ca.pin, "localhost").await;
    assert!(advice.contains("another name"), "{advice}");
}

#[tokio::test]
async fn an_expired_leaf_is_refused() {
    let ca = Authority::new();
    let expired = ca.leaf("127.0.0.1", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let advice = tls_advice(expired, ca.pin, "127.0.0.1").await;
    assert!(advice.contains("expired"), "{advice}");
}

#[tokio::test]
async fn the_client_certificate_is_presented() {
    let ca = Authority::new();
    let server = serve(ca.leaf("127.0.0.1", |_| {}), |_| json(200, "[]")).await;
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap();
    let identity =
        Identity { certificate_der: certificate.der().to_vec(), key_pkcs8: Zeroizing::new(key.serialize_der()) };
    let client = Client::new(ClientConfig {
        base_url: server.url.clone(),
        ca_pin: ca.pin,
        identity: Some(identity),
        bearer: None,
        timeout: Duration::from_secs(5),
    })
    .unwrap();
    hosts(&client).await.unwrap();
    assert_eq!(server.seen.lock().unwrap()[1], "GET /v1/hosts - 1");
}

#[tokio::test]
async fn a_refusal_keeps_its_status_and_reason_and_loses_control_characters() {
    let ca = Authority::new();
    let server = serve(ca.leaf("127.0.0.1", |_| {}), |_| {
        json(429, r#"{"reason":"busy","detail":"later\u001b[2J","retry":true}"#)
    })
    .await;
    let error = hosts(&client(&server.url, ca.pin)).await.unwrap_err();
    assert!(error.may_retry());
    assert_eq!(error.to_string(), "busy: later?[2J");
    assert!(matches!(error, ClientError::Refused { status: 429, error } if error.reason == Reason::Busy));
}

#[tokio::test]
async fn an_answer_that_is_no_reply_or_too_large_is_a_protocol_error() {
    let ca = Authority::new();
    let answer = |path: &str| match path {
        "/v1/hosts" => json(200, "<html>a very different server</html>"),
        _ => json(502, "bad gateway"),
    };
    let server = serve(ca.leaf("127.0.0.1", |_| {}), answer).await;
    let client = client(&server.url, ca.pin);
    assert!(matches!(hosts(&client).await, Err(ClientError::Protocol { .. })));
    let error = client.call::<ShowTile>(&["0/000"], &Nothing {}).await.unwrap_err();
    assert!(error.to_string().contains("status 502"), "{error}");
    let error = hosts(&client.with_reply_bytes_max(8)).await.unwrap_err();
    assert!(error.to_string().contains("more than 8 bytes"), "{error}");
}

#[tokio::test]
async fn a_tile_may_come_as_json_text_or_as_bare_bytes() {
    let ca = Authority::new();
    let answer = |path: &str| match path {
        "/v1/audit/tile/0/000" => json(200, r#""AQI=""#),
        _ => {
            let response = Response::builder().header("content-type", "application/octet-stream");
            response.body(Full::new(Bytes::from_static(&[1, 2]))).unwrap()
        }
    };
    let server = serve(ca.leaf("127.0.0.1", |_| {}), answer).await;
    let client = client(&server.url, ca.pin);
    for path in ["0/000", "entries/x001/234"] {
        assert_eq!(client.call::<ShowTile>(&[path], &Nothing {}).await.unwrap().0, [1, 2]);
    }
}

#[tokio::test]
async fn a_server_that_never_answers_is_a_timeout_and_a_closed_port_is_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let mut silent = client(&url, Digest::of(&[]));
    silent.timeout = Duration::from_millis(50);
    assert!(matches!(hosts(&silent).await, Err(ClientError::Timeout { after_ms: 50, .. })));
    drop(listener);
    let error = hosts(&client(&url, Digest::of(&[]))).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error:?}");
    assert!(error.may_retry());
}

#[test]
fn only_a_plain_https_origin_is_an_address() {
    assert_eq!(origin("https://v.example:8443/").unwrap(), "https://v.example:8443");
    assert_eq!(origin("https://[::1]:1").unwrap(), "https://[::1]:1");
    for bad in ["http://v", "v:1", "", "https://", "https://u@v", "https://v/a", "https://v/?q", "https://v v"] {
        assert!(matches!(origin(bad), Err(ClientError::Url { .. })), "{bad}");
    }
}

#[test]
fn neither_token_nor_key_shows_in_debug_output() {
    let config = ClientConfig {
        base_url: "https://v".to_owned(),
        ca_pin: Digest::of(&[]),
        identity: Some(Identity { certificate_der: vec![1], key_pkcs8: Zeroizing::new(b"hidden".to_vec()) }),
        bearer: Some(Zeroizing::new("hidden".to_owned())),
        timeout: Duration::from_secs(1),
    };
    let shown = format!("{config:?}");
    assert!(!shown.contains("hidden") && !shown.contains("104"), "{shown}");
}

const STREAM: &str = concat!(
    "retry: 2000\n\n: a comment\n\nid: 4\n\n",
    "id: 7\r\nevent: revoked\r\ndata: {\"leaf_index\":7,\"time_ms\":1,\"kind\":\"revoked\",\r\n",
    "data:\"host\":\"h-a\",\"reasons\":[]}\r\n\r\n",
    "unknown\nid: 9\n\nid: 12",
);

fn streamed(text: &'static str) -> Response<Full<Bytes>> {
    Response::builder().header("content-type", "text/event-stream").body(Full::new(text.into())).unwrap()
}

#[tokio::test]
async fn events_come_block_by_block_and_a_block_that_is_cut_off_is_none() {
    let ca = Authority::new();
    let server = serve(ca.leaf("127.0.0.1", |_| {}), |_| streamed(STREAM)).await;
    let client = client(&server.url, ca.pin);
    let mut stream = client.watch::<wire::WatchEvents>(&["4"], None, Duration::from_secs(5)).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), Told { last_id: Some(4), event: None });
    let told = stream.next().await.unwrap().unwrap();
    let event = told.event.unwrap();
    assert_eq!((told.last_id, event.leaf_index, event.kind), (Some(7), 7, wire::EventKind::Revoked));
    assert_eq!(stream.next().await.unwrap().unwrap(), Told { last_id: Some(9), event: None });
    assert_eq!(stream.next().await.unwrap(), None);
}

#[tokio::test]
async fn what_is_no_event_or_refused_is_told_apart() {
    let ca = Authority::new();
    let answers: [Answer; 2] = [|_| streamed("data: {}\n\n"), |_| streamed("id: x\n\n")];
    for answer in answers {
        let server = serve(ca.leaf("127.0.0.1", |_| {}), answer).await;
        let client = client(&server.url, ca.pin);
        let mut stream = client.watch::<wire::WatchEvents>(&["0"], None, Duration::from_secs(5)).await.unwrap();
        assert!(matches!(stream.next().await, Err(ClientError::Protocol { .. })));
    }
    let busy = |_: &str| json(429, r#"{"reason":"busy","detail":"no place","retry":true}"#);
    let server = serve(ca.leaf("127.0.0.1", |_| {}), busy).await;
    let refused = client(&server.url, ca.pin).watch::<wire::WatchEvents>(&[], Some(3), Duration::from_secs(5)).await;
    assert!(matches!(refused, Err(ClientError::Refused { status: 429, .. })));
}

//! Every route of the verifier's table, tried without, with a wrong and with an expired credential, and with bodies
//! that are none. The tests go through the table: a new route is covered by being in it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use quotary_common::id::Digest;
use quotary_common::leaf::Decision;
use quotary_common::reason::Reason;
use quotary_common::token::operator::to_text;
use quotary_common::wire::{self, Base64, EnrolmentRequest, Inventory, JoinTokenRequest, MakeJoinToken};
use quotary_common::wire::{Method, Right, RouteInfo, VERIFIER_ROUTES};
use quotary_tests::host::{Candidate, DrivenHost, Operator, RawReply, RawTls, TlsKey};
use quotary_tests::world::{Options, Timing, World, ZONE_JOINED};

const OPERATORS: [Right; 4] = [Right::Read, Right::Audit, Right::Admin, Right::Change];

/// A world with two enrolled hosts, one of which has replaced its TLS key.
struct Scene {
    host: DrivenHost,
    other: DrivenHost,
    replaced: TlsKey,
    operator: Operator,
    /// A token that may all, in the name of a person on the roster.
    person: String,
    world: World,
}

/// Somebody who decides, so that changes can be asked for, of what another would ask for; the tests' tokens are in the first one's name.
const ROSTER: &str = "version = 1
[[people]]
name = 'test'
roles = ['operator']
[[people.keys]]
key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH'
[[people]]
name = 'other'
roles = ['operator']
";
const RULES: &str = "version = 1
[criticality.critical]
approvals = 1
approvers = ['operator']
approve_within_s = 60
apply_within_s = 60
";

impl Scene {
    fn new() -> Self {
        let timing = Timing { nonce_ms: 120_000, trust_ms: 200_000, lease_ms: 300_000, ..Timing::QUICK };
        let mut world =
            World::new(Options { timing, authority: Some((ROSTER.to_owned(), RULES.to_owned())), ..Options::quick(0) })
                .unwrap();
        world.start_verifier().unwrap();
        let operator = Operator::of(&world).unwrap();
        let (host, other, replaced) = world.runtime().block_on(async {
            let DrivenHost { tpm, tls: replaced, .. } = operator.host("a").await.unwrap();
            let again = Candidate::new(tpm, operator.join_token().await.unwrap()).unwrap();
            let mut host = again.enrol().await.unwrap();
            host.attest().await.unwrap();
            (host, operator.host("b").await.unwrap(), replaced)
        });
        let person = world.runtime().block_on(operator.operator_token(&OPERATORS, 600_000)).unwrap();
        Self { host, other, replaced, operator, person, world }
    }

    /// One request; what is no success must be a [`wire::Error`].
    fn ask(&self, route: (Method, &str), by: &Credential<'_>, body: &[u8]) -> (u16, Option<Reason>) {
        let connection = RawTls::connect(self.operator.address, self.operator.ca_pin, by.key).unwrap();
        let bearer = by.bearer.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> = bearer.iter().map(|value| ("authorization", value.as_str())).collect();
        let RawReply { status, body } = connection.ask(route.0.name(), route.1, &headers, body).unwrap();
        if (200..300).contains(&status) {
            return (status, None);
        }
        let text = String::from_utf8_lossy(&body);
        let error: wire::Error = serde_json::from_slice(&body).unwrap_or_else(|why| panic!("{route:?}: {why}: {text}"));
        assert!(!error.detail.is_empty(), "{route:?}");
        (status, Some(error.reason))
    }

    fn token(&self, rights: &[Right], valid_for_ms: u64) -> String {
        self.world.runtime().block_on(self.operator.operator_token(rights, valid_for_ms)).unwrap()
    }

    fn path(&self, route: &RouteInfo) -> String {
        let host = self.host.id.hex();
        wire::path_with(route.path, &[&host, "latest"])
    }

    /// Runs `attempts`, after which hosts and grants are as before, and the log has nothing new but refusals.
    fn unchanged(&self, attempts: impl FnOnce()) {
        let runtime = self.world.runtime();
        let facts = || {
            runtime.block_on(async {
                let hosts = self.operator.hosts().await.unwrap();
                let hosts: Vec<_> =
                    hosts.into_iter().map(|h| (h.host, h.sequence, h.epoch, h.evidence, h.zone)).collect();
                let status = self.operator.status().await.unwrap();
                (hosts, self.operator.grants().await.unwrap().len(), status.accepted)
            })
        };
        let size = runtime.block_on(self.operator.status()).unwrap().audit.size;
        let before = facts();
        attempts();
        assert_eq!(facts(), before);
        let leaves = runtime.block_on(self.operator.leaves(size)).unwrap();
        assert!(leaves.iter().all(|leaf| matches!(leaf.decision, Decision::Refused(_))), "{leaves:?}");
    }

    /// What opens a route: the full credential of its right.
    fn good(&self, right: Right) -> Credential<'_> {
        match right {
            Right::Read | Right::Audit | Right::Admin | Right::Change => Credential::bearer(&self.person),
            Right::Host | Right::Join => Credential::key(&self.host.tls),
            Right::Peer => panic!("the verifier has no local socket"),
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Credential<'a> {
    key: Option<&'a TlsKey>,
    bearer: Option<&'a str>,
}

impl<'a> Credential<'a> {
    fn bearer(token: &'a str) -> Self {
        Self { bearer: Some(token), key: None }
    }
    fn key(key: &'a TlsKey) -> Self {
        Self { key: Some(key), bearer: None }
    }
}

#[test]
fn no_route_opens_without_its_credential() {
    let scene = Scene::new();
    let (wrong, expired) = (to_text(&[0x5a; 32]), scene.token(&OPERATORS, 1));
    let lacking = OPERATORS
        .map(|right| (right, scene.token(&OPERATORS.map(|o| if o == right { other_than(right) } else { o }), 600_000)));
    let stranger = TlsKey::make().unwrap();
    let bad_tokens = ["", "qot1.", "qjt1.AAAA", "Basic dXNlcg==", wrong.as_str(), expired.as_str()];
    let unauthorised = (401, Some(Reason::Unauthorised));
    scene.unchanged(|| {
        for route in VERIFIER_ROUTES {
            let at = (route.method, &*scene.path(route));
            let refused = |by: Credential<'_>| scene.ask(at, &by, b"");
            assert_eq!(refused(Credential::default()), unauthorised, "{}", route.name);
            match route.right {
                Right::Read | Right::Audit | Right::Admin | Right::Change => {
                    for token in bad_tokens {
                        assert_eq!(refused(Credential::bearer(token)), unauthorised, "{} {token}", route.name);
                    }
                    // A host's key is no operator's token.
                    assert_eq!(refused(Credential::key(&scene.host.tls)), unauthorised, "{}", route.name);
                    let (_, token) = lacking.iter().find(|(right, _)| *right == route.right).unwrap();
                    assert_eq!(refused(Credential::bearer(token)), (403, Some(Reason::Forbidden)), "{}", route.name);
                }
                Right::Host => {
                    for key in [&stranger, &scene.other.tls, &scene.replaced] {
                        assert_eq!(refused(Credential::key(key)), (403, Some(Reason::TlsKey)), "{}", route.name);
                    }
                    // An operator may not speak for a host.
                    assert_eq!(refused(Credential::bearer(&scene.operator.token)), unauthorised, "{}", route.name);
                    let nobody = Digest::new([9; 32]).hex();
                    let nobody = wire::path_with(route.path, &[&nobody, &nobody]);
                    let answer = scene.ask((route.method, &nobody), &Credential::key(&stranger), b"");
                    assert_eq!(answer, (404, Some(Reason::UnknownHost)), "{}", route.name);
                }
                Right::Join => {
                    assert_eq!(refused(Credential::bearer(&scene.operator.token)), unauthorised, "{}", route.name);
                }
                Right::Peer => panic!("{} is no route of the verifier", route.name),
            }
            // It was the credential: with it the route opens, whatever it then says of the request.
            let (status, reason) = refused(scene.good(route.right));
            let closed = matches!(reason, Some(Reason::Unauthorised | Reason::Forbidden | Reason::TlsKey));
            assert!(!closed && status != 401, "{}: {status} {reason:?}", route.name);
        }
    });
}

/// A right in the place of `right`, so that lists of rights keep their length.
fn other_than(right: Right) -> Right {
    if right == Right::Read { Right::Audit } else { Right::Read }
}

#[test]
fn a_join_secret_that_is_wrong_expired_or_absent_begins_nothing() {
    let scene = Scene::new();
    let key = TlsKey::make().unwrap();
    let identity = scene.world.runtime().block_on(async {
        let mut candidate = scene.operator.candidate("c").await.unwrap();
        candidate.request().await.unwrap()
    });
    let expired = scene.world.runtime().block_on(async {
        let inventory = Inventory { labels: Default::default(), capacity: Default::default() };
        let request = JoinTokenRequest { zone: ZONE_JOINED.to_owned(), inventory, valid_for_ms: 1 };
        let reply = scene.operator.client.call::<MakeJoinToken>(&[], &request).await.unwrap();
        quotary_common::token::JoinToken::parse(&reply.token).unwrap().secret.to_vec()
    });
    let operators = quotary_common::token::operator::parse(&scene.operator.token).unwrap().to_vec();
    let at = (Method::Post, "/v1/enrolments");
    scene.unchanged(|| {
        for secret in [vec![0x5a; 32], expired, operators, Vec::new(), vec![1; 31]] {
            let request = EnrolmentRequest { join_secret: Base64(secret), ..identity.clone() };
            let body = serde_json::to_vec(&request).unwrap();
            assert_eq!(scene.ask(at, &Credential::key(&key), &body), (401, Some(Reason::JoinToken)));
        }
        // An answer to no enrolment.
        let path = format!("/v1/enrolments/{}/activation", Digest::new([3; 32]).hex());
        let answer = scene.ask((Method::Post, &path), &Credential::key(&key), br#"{"secret":"AAAA"}"#);
        assert_eq!(answer, (403, Some(Reason::Activation)));
    });
}

#[test]
fn what_is_no_request_is_refused_and_changes_nothing() {
    let scene = Scene::new();
    let bodies: [&[u8]; 7] =
        [b"{", b"[]", b"null", b"\xff\xfe", b"{\"surprise\":1}", b"\"text\"", b"{\"evidence\":\"not base64!\"}"];
    scene.unchanged(|| {
        for route in VERIFIER_ROUTES.iter().filter(|route| route.method == Method::Post) {
            let (path, by) = (scene.path(route), scene.good(route.right));
            for body in bodies {
                let answer = scene.ask((route.method, &path), &by, body);
                assert_eq!(answer, (400, Some(Reason::Malformed)), "{} {}", route.name, String::from_utf8_lossy(body));
            }
            let large = vec![b'7'; route.body_bytes_max + 1];
            let answer = scene.ask((route.method, &path), &by, &large);
            assert_eq!(answer, (413, Some(Reason::TooLarge)), "{}", route.name);
        }
        for route in VERIFIER_ROUTES {
            let path = scene.path(route);
            for method in [Method::Get, Method::Post, Method::Delete] {
                // Another route may have this path with another query, or without one.
                let bare = |path: &'static str| path.split_once("{?").map_or(path, |(bare, _)| bare);
                let known =
                    VERIFIER_ROUTES.iter().any(|other| bare(other.path) == bare(route.path) && other.method == method);
                if !known {
                    let (status, reason) = scene.ask((method, &path), &scene.good(route.right), b"");
                    assert_eq!((status, reason), (405, Some(Reason::NotFound)), "{} {path}", method.name());
                }
            }
        }
        for path in ["/", "/v1", "/v2/hosts", "/v1/hosts/", "/v1/hosts/../status", "/v1/Hosts"] {
            let (status, reason) = scene.ask((Method::Get, path), &scene.good(Right::Admin), b"");
            assert_eq!((status, reason), (404, Some(Reason::NotFound)), "{path}");
        }
    });
}

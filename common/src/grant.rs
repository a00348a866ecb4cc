//! Grant sets: what one reply gives a host, signed, bound to the evidence that it answers.

use minicbor::{Decode, Encode};

use crate::cbor::Bounded;
use crate::envelope::{Envelope, Name};
use crate::id::{BootId, DeploymentId, Digest, GrantId, HostId, RequestId};
use crate::keys::VerifiedKeys;
use crate::lease::Lease;
use crate::limits::{GRANTS_MAX, LEASE_MS_MAX, REQUESTS_MAX};
use crate::reason::{Reason, Refusal};
use crate::sign::{Signed, SignedForm};
use crate::units::{Class, Resources};

/// Versions of the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum GrantSetVersion {
    /// It comes without plans: as older agents read it.
    #[n(1)]
    GrantsAlone,
    /// It names the plans that come with it.
    #[n(2)]
    WithPlans,
}

impl GrantSetVersion {
    /// The version of a set that names these plans.
    pub const fn naming(plans: Option<&Digest>) -> Self {
        match plans {
            None => Self::GrantsAlone,
            Some(_) => Self::WithPlans,
        }
    }
}

/// A grant set, version 1 and 2: everything that a host may use, as of one evidence.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct GrantSet {
    /// Form version.
    #[n(0)]
    pub version: GrantSetVersion,
    /// The deployment.
    #[n(1)]
    pub deployment: DeploymentId,
    /// The host.
    #[n(2)]
    pub host: HostId,
    /// The boot that it holds for.
    #[n(3)]
    pub boot_id: BootId,
    /// The sequence number that it answers.
    #[n(4)]
    pub sequence: u64,
    /// SHA-256 of the envelope that it answers.
    #[n(5)]
    pub envelope: Digest,
    /// The host's fencing number.
    #[n(6)]
    pub epoch: u64,
    /// One more for each set given to this host.
    #[n(7)]
    pub generation: u64,
    /// How long the grants hold from the building of that envelope, ms on `CLOCK_BOOTTIME`.
    #[n(8)]
    pub lease_ms: u64,
    /// All grants of the host; one that is missing has ended.
    #[n(9)]
    pub grants: Bounded<Grant, GRANTS_MAX>,
    /// Requests of that envelope that got nothing, and why.
    #[n(10)]
    pub refusals: Bounded<RequestRefusal, REQUESTS_MAX>,
    /// SHA-256 of the evidence that was accepted with that envelope: the name under which it is kept. An agent cannot
    /// hold its own evidence against it, since a lost reply may answer an earlier quote over the same envelope.
    #[n(11)]
    pub evidence: Digest,
    /// What [`crate::plan::digest_of`] gives for the plans that come with it; absent, there are none. All plans of the
    /// host: one that is missing is over.
    #[n(12)]
    pub plans: Option<Digest>,
}

impl SignedForm for GrantSet {
    const FORM: &'static str = "grant-set";
}

/// One application's grant.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Grant {
    /// Derived from host and request.
    #[n(0)]
    pub id: GrantId,
    /// The request that it answers.
    #[n(1)]
    pub request: RequestId,
    /// The application, by the verifier's rule.
    #[n(2)]
    pub application: Name,
    /// The tenant who pays.
    #[n(3)]
    pub tenant: Name,
    /// The service class.
    #[n(4)]
    pub class: Class,
    /// What it may use.
    #[n(5)]
    pub resources: Resources,
}

/// A request that got nothing.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RequestRefusal {
    /// The request.
    #[n(0)]
    pub request: RequestId,
    /// Why.
    #[n(1)]
    pub refusal: Refusal,
}

/// What an agent accepted last: a later set must not be older.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accepted {
    /// The epoch of the last set.
    pub epoch: u64,
    /// Its generation.
    pub generation: u64,
}

/// A grant set that holds for this host, this boot and this envelope: made only by [`verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedGrantSet {
    set: GrantSet,
    lease: Lease,
}

impl VerifiedGrantSet {
    /// The set.
    pub fn set(&self) -> &GrantSet {
        &self.set
    }
    /// Until when it holds.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }
}

/// Checks what came back for `sent` (the envelope, with its digest) against the keys that the root certified.
///
/// # Errors
/// A [`Refusal`]: `grant-signature` when it is not signed by this deployment's verifier, or is not for this
/// deployment, host, boot or envelope; `epoch` when it is older than what was accepted.
pub fn verify(
    signed: &Signed,
    keys: &VerifiedKeys,
    sent: (&Envelope, &Digest),
    last: Accepted,
) -> Result<VerifiedGrantSet, Refusal> {
    let (envelope, digest) = sent;
    let refuse =
        |what: &str| Refusal::new(Reason::GrantSignature, format!("the grant set is not for us: {what} differs"));
    let set = signed
        .verify::<GrantSet>(&keys.certificate().grant_key)
        .map_err(|error| Refusal::new(Reason::GrantSignature, error.to_string()))?;
    if set.version != GrantSetVersion::naming(set.plans.as_ref()) {
        return Err(Refusal::new(Reason::GrantSignature, "the grant set is not what its version says"));
    }
    if set.deployment != envelope.deployment {
        return Err(refuse("the deployment"));
    }
    if set.host != envelope.host {
        return Err(refuse("the host"));
    }
    if set.boot_id != envelope.boot_id {
        return Err(refuse("the boot"));
    }
    if set.sequence != envelope.sequence || set.envelope != *digest {
        return Err(refuse("the envelope that it answers"));
    }
    if set.epoch < last.epoch || (set.epoch == last.epoch && set.generation < last.generation) {
        return Err(Refusal::new(
            Reason::Epoch,
            format!(
                "the grant set has epoch {} and generation {}, we already hold epoch {} and generation {}",
                set.epoch, set.generation, last.epoch, last.generation
            ),
        ));
    }
    if set.lease_ms > LEASE_MS_MAX {
        let detail = format!("its lease of {} ms is longer than {LEASE_MS_MAX} ms", set.lease_ms);
        return Err(Refusal::new(Reason::GrantSignature, detail));
    }
    let lease =
        Lease { boot_id: set.boot_id, epoch: set.epoch, start_ms: envelope.built_at_ms, lease_ms: set.lease_ms };
    Ok(VerifiedGrantSet { set, lease })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::Ed25519KeyPair;

    use super::*;
    use crate::cbor::Version;
    use crate::envelope::{Backend, BackendKind, EnvelopeVersion, Hierarchy, HostFacts, Mode};
    use crate::keys::{KeyCertificate, deployment_of};
    use crate::metric::MetricWindows;
    use crate::sign::SigningKey;

    fn key() -> SigningKey {
        SigningKey::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap().as_ref()).unwrap()
    }

    struct Case {
        grant_key: SigningKey,
        keys: VerifiedKeys,
        envelope: Envelope,
        digest: Digest,
    }

    impl Case {
        fn new() -> Self {
            let (root, grant_key) = (key(), key());
            let deployment = deployment_of(&root.public());
            let certificate = KeyCertificate {
                version: Version,
                deployment,
                verifier: Name::lossy("v"),
                grant_key: grant_key.public(),
                log_key: root.public(),
                not_after_ms: 10,
                result_key: root.public(),
            };
            let keys = crate::keys::verify(&root.sign(&certificate), &root.public(), 5).unwrap();
            let envelope = Envelope {
                version: EnvelopeVersion::WindowGroups,
                deployment,
                host: HostId::new([1; 32]),
                boot_id: BootId::new([2; 16]),
                sequence: 7,
                predecessor: Digest::new([0; 32]),
                tls_key: Digest::new([0; 32]),
                checkpoint: None,
                agent_version: Name::lossy("0"),
                built_at_ms: 1000,
                backend: Backend {
                    kind: BackendKind::None,
                    mode: Mode::Observe,
                    hierarchy: Hierarchy::None,
                    controls: Bounded::default(),
                },
                host_windows: MetricWindows::default(),
                applications: Bounded::default(),
                events: Bounded::default(),
                writes: Bounded::default(),
                requests: Bounded::default(),
                held: Bounded::default(),
                facts: HostFacts {
                    hostname: Name::lossy("h"),
                    kernel: Name::lossy("k"),
                    cpu_millicores: 1,
                    memory_bytes: 1,
                    os: None,
                },
            };
            let digest = envelope.clone().seal().unwrap().digest();
            Self { grant_key, keys, envelope, digest }
        }

        fn set(&self) -> GrantSet {
            GrantSet {
                version: GrantSetVersion::GrantsAlone,
                deployment: self.envelope.deployment,
                host: self.envelope.host,
                boot_id: self.envelope.boot_id,
                sequence: 7,
                envelope: self.digest,
                epoch: 2,
                generation: 3,
                lease_ms: 300,
                grants: Bounded::default(),
                refusals: Bounded::default(),
                evidence: Digest::new([9; 32]),
                plans: None,
            }
        }

        fn check(&self, set: &GrantSet, last: Accepted) -> Result<VerifiedGrantSet, Reason> {
            verify(&self.grant_key.sign(set), &self.keys, (&self.envelope, &self.digest), last).map_err(|r| r.reason)
        }
    }

    #[test]
    fn a_set_that_answers_the_envelope_gives_a_lease_from_its_building() {
        let case = Case::new();
        let verified = case.check(&case.set(), Accepted { epoch: 2, generation: 3 }).unwrap();
        assert_eq!((verified.lease().start_ms, verified.lease().end_ms()), (1000, 1300));
    }

    #[test]
    fn a_set_for_anyone_or_anything_else_is_refused() {
        let case = Case::new();
        let last = Accepted { epoch: 2, generation: 3 };
        let changed = |change: &dyn Fn(&mut GrantSet)| {
            let mut set = case.set();
            change(&mut set);
            case.check(&set, last).unwrap_err()
        };
        assert_eq!(changed(&|s| s.deployment = crate::id::DeploymentId::new([9; 32])), Reason::GrantSignature);
        assert_eq!(changed(&|s| s.host = HostId::new([9; 32])), Reason::GrantSignature);
        assert_eq!(changed(&|s| s.boot_id = BootId::new([9; 16])), Reason::GrantSignature);
        assert_eq!(changed(&|s| s.sequence = 8), Reason::GrantSignature);
        assert_eq!(changed(&|s| s.version = GrantSetVersion::WithPlans), Reason::GrantSignature);
        assert_eq!(changed(&|s| s.plans = Some(Digest::new([9; 32]))), Reason::GrantSignature);
        assert_eq!(changed(&|s| s.envelope = Digest::new([9; 32])), Reason::GrantSignature);
        assert_eq!(changed(&|s| s.lease_ms = LEASE_MS_MAX + 1), Reason::GrantSignature);
        assert_eq!(changed(&|s| s.epoch = 1), Reason::Epoch);
        assert_eq!(changed(&|s| s.generation = 2), Reason::Epoch);
        let forged = Case { grant_key: key(), ..case };
        assert_eq!(forged.check(&forged.set(), last).unwrap_err(), Reason::GrantSignature);
    }
}

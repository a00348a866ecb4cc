//! The way from a leaf up to an authority: breadth first, so that the shortest chain is the one that is found. Every
//! certificate is entered once and signatures have a budget, so certificates that were made to confuse cost little.

use quotary_common::envelope::Name;
use quotary_common::id::Digest;
use quotary_common::limits::EK_CHAIN_MAX;
use x509_parser::prelude::X509Certificate;

use super::certificate::{ChainCertificate, Stored, name_key, parse};
use super::fault::ChainFault;
use super::roots::{Anchor, TrustRoots};
use super::rules::check_issuer;
use super::signature::{self, SignatureFault};

/// Most CAs below the authority.
const DEPTH_MAX: usize = EK_CHAIN_MAX;
/// Most signatures that are checked for one chain: a chain of eight needs eight, some more for namesakes.
const SIGNATURES_MAX: usize = 32;

/// A certificate on the way up.
struct Step<'c> {
    certificate: X509Certificate<'c>,
    /// The step that it issued; `None` for the leaf.
    issued: Option<usize>,
    /// Certificates below it.
    depth: usize,
    /// Intermediates below its own issuer that count for path lengths: those that are not self-issued.
    below: u32,
}

/// Where the way up ended.
pub(super) struct Climbed<'c> {
    /// From the leaf up, the authority last when there is one.
    pub(super) chain: Vec<ChainCertificate>,
    /// SHA-256 of the SubjectPublicKeyInfo of the CAs of the chain.
    pub(super) issuer_keys: Vec<Digest>,
    pub(super) end: Result<&'c Anchor, ChainFault>,
}

pub(super) struct Climb<'c> {
    roots: &'c TrustRoots,
    now_unix_s: i64,
    steps: Vec<Step<'c>>,
    signatures: usize,
    fault: Option<ChainFault>,
}

impl<'c> Climb<'c> {
    pub(super) fn new(leaf: X509Certificate<'c>, roots: &'c TrustRoots, now_unix_s: i64) -> Self {
        let leaf = Step { certificate: leaf, issued: None, depth: 0, below: 0 };
        Self { roots, now_unix_s, steps: vec![leaf], signatures: 0, fault: None }
    }

    /// Climbs; `sent` are the certificates that came along, in any order.
    pub(super) fn run(mut self, sent: &'c [Stored]) -> Climbed<'c> {
        let pool: Vec<&'c Stored> = sent.iter().chain(&self.roots.intermediates).collect();
        let mut entered = vec![false; pool.len()];
        let mut at = 0;
        while at < self.steps.len() {
            if let Some(anchor) = self.authority_above(at) {
                return self.finish(at, Some(anchor));
            }
            let mut above = Vec::new();
            let issuer = name_key(self.steps[at].certificate.issuer());
            for (known, entered) in pool.iter().zip(&mut entered) {
                if *entered {
                    continue;
                }
                let Some(candidate) = named(known, &issuer) else { continue };
                if self.holds(at, &candidate, false) {
                    *entered = true;
                    above.push(candidate);
                }
            }
            for certificate in above {
                self.enter(at, certificate);
                let entered = self.steps.len() - 1;
                if let Some(anchor) = self.same_key_as_authority(entered) {
                    return self.finish(entered, Some(anchor));
                }
            }
            at += 1;
        }
        let deepest = (0..self.steps.len()).max_by_key(|at| self.steps[*at].depth).unwrap_or(0);
        self.finish(deepest, None)
    }

    fn enter(&mut self, issued: usize, certificate: X509Certificate<'c>) {
        let from = &self.steps[issued];
        let depth = from.depth + 1;
        let counts = name_key(certificate.subject()) != name_key(certificate.issuer());
        let below = from.below + u32::from(counts);
        self.steps.push(Step { certificate, issued: Some(issued), depth, below });
    }

    /// An authority that issued this step's certificate.
    fn authority_above(&mut self, at: usize) -> Option<&'c Anchor> {
        let roots = self.roots;
        let issuer = name_key(self.steps[at].certificate.issuer());
        roots.anchors.iter().find(|anchor| {
            let candidate = named(&anchor.certificate, &issuer);
            candidate.is_some_and(|candidate| self.holds(at, &candidate, true))
        })
    }

    /// An authority whose key this step's certificate certifies as well (a cross-signed copy): the key is what is trusted.
    fn same_key_as_authority(&mut self, at: usize) -> Option<&'c Anchor> {
        let key = Digest::of(&[self.steps[at].certificate.public_key().raw]);
        let below = self.steps[at].issued.map_or(0, |issued| self.steps[issued].below);
        let roots = self.roots;
        roots.anchors.iter().filter(|anchor| anchor.certificate.spki == key).find(|anchor| {
            let Ok(certificate) = parse(&anchor.certificate.der) else { return false };
            self.noted(check_issuer(&certificate, below, self.now_unix_s, true))
        })
    }

    /// Whether `issuer` signed the certificate of step `at` and may do so.
    fn holds(&mut self, at: usize, issuer: &X509Certificate<'_>, configured: bool) -> bool {
        let step = &self.steps[at];
        let name = Name::lossy(&issuer.subject().to_string());
        if self.signatures == SIGNATURES_MAX || !configured && step.depth >= DEPTH_MAX {
            let detail = format!("more certificates of `{name}` than a chain may have: send the chain alone");
            return self.noted(Err(ChainFault::Chain(detail)));
        }
        self.signatures += 1;
        let below = step.below;
        let signed = signature::check(&step.certificate, issuer).map_err(|fault| {
            let which = match step.issued {
                None => "the EK certificate".to_owned(),
                Some(_) => format!("`{}`", Name::lossy(&step.certificate.subject().to_string())),
            };
            let signature = format!("the signature by `{name}` on {which}");
            match fault {
                SignatureFault::Weak => ChainFault::Chain(format!("{signature} is made with SHA-1 or MD5")),
                SignatureFault::Wrong => {
                    ChainFault::Chain(format!("{signature} does not hold: send the chain as its issuer gives it"))
                }
                SignatureFault::Unsupported(what) => ChainFault::Algorithm(format!(
                    "{signature} cannot be checked: {what} (RSA, P-256 and P-384 are); add the CA below `{name}` to the \
                     EK authorities"
                )),
            }
        });
        let now = self.now_unix_s;
        self.noted(signed.and_then(|()| check_issuer(issuer, below, now, configured)))
    }

    /// Keeps the fault that says most.
    fn noted(&mut self, checked: Result<(), ChainFault>) -> bool {
        let Err(fault) = checked else { return true };
        if self.fault.as_ref().is_none_or(|known| known.weight() <= fault.weight()) {
            self.fault = Some(fault);
        }
        false
    }

    fn finish(self, last: usize, anchor: Option<&'c Anchor>) -> Climbed<'c> {
        let mut chain = Vec::new();
        let mut issuer_keys = Vec::new();
        let mut at = Some(last);
        while let Some(step) = at.and_then(|at| self.steps.get(at)) {
            chain.push(ChainCertificate::of(&step.certificate, false));
            issuer_keys.push(Digest::of(&[step.certificate.public_key().raw]));
            at = step.issued;
        }
        chain.reverse();
        // The leaf's own key is no issuer's.
        issuer_keys.pop();
        let end = match anchor {
            Some(anchor) => {
                issuer_keys.push(anchor.certificate.spki);
                if let Ok(certificate) = parse(&anchor.certificate.der) {
                    chain.push(ChainCertificate::of(&certificate, true));
                }
                Ok(anchor)
            }
            None => Err(self.fault.unwrap_or_else(|| {
                let issuer = chain.last().map_or("", |last| last.issuer.as_str());
                let detail =
                    format!("the chain ends at `{issuer}`, which is not configured: add it to the EK authorities");
                ChainFault::Unanchored(detail)
            })),
        };
        Climbed { chain, issuer_keys, end }
    }
}

/// The certificate, if its subject is the issuer that is looked for: only then it is parsed again.
fn named<'c>(stored: &'c Stored, issuer: &[u8]) -> Option<X509Certificate<'c>> {
    (stored.subject == issuer).then(|| parse(&stored.der).ok()).flatten()
}

//! The check of a quote by itself beside bare ring: signature, form, qualified signer, `extraData`, PCR selection, PCR
//! digest; without envelope, nonce and clock.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use quotary_common::cbor::Bounded;
use quotary_common::evidence::{Evidence, EvidenceVersion, extra_data};
use quotary_common::id::Digest;
use quotary_common::nonce::Nonce;
use quotary_common::tpm::{AkKey, PcrSelection, Quote};
use quotary_decide::attest::{Signer, prove_quote};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use rsa::traits::PublicKeyParts as _;
use serde::Serialize;

use super::super::report::{Line, median, progress, short};
use super::super::software_tpm::{SoftwareTpm, pcr_values};
use super::super::{ROUNDS, cpu};

/// Quotes of one key that are checked in turn.
const QUOTES: u8 = 64;
/// Checks of one kind between two readings of the clock.
const TURN: usize = 16;
const RSA_BITS: usize = 2048;
/// A restricted RSASSA key with SHA-256, fixed to its TPM (`TPMT_PUBLIC` up to the modulus).
const RSA_HEAD: [u8; 22] = [0, 1, 0, 0x0B, 0, 5, 4, 0x72, 0, 0, 0, 0x10, 0, 0x14, 0, 0x0B, 8, 0, 0, 0, 0, 0];

/// One algorithm.
#[derive(Debug, Clone, Serialize)]
pub struct QuoteCheck {
    /// `ecdsa-p256` or `rsassa-2048`.
    pub algorithm: &'static str,
    /// Median over the rounds: checks per second of CPU time.
    pub checks_per_core_second: f64,
    /// Median over the rounds: bare signature checks per second of CPU time.
    pub bare_per_core_second: f64,
    /// Median over the rounds of the one to the other, each from one round.
    pub ratio_to_bare: f64,
}

impl QuoteCheck {
    pub(super) fn gate_name(&self) -> &'static str {
        if self.algorithm == P256 { "quote beside bare ring P-256" } else { "quote beside bare ring RSA-2048" }
    }
    pub(super) fn line(&self) -> Line {
        let value = format!(
            "{} /s and core; bare {} /s; ratio {}",
            short(self.checks_per_core_second),
            short(self.bare_per_core_second),
            short(self.ratio_to_bare)
        );
        Line::new(format!("quote by itself, {}", self.algorithm), value)
    }
}

const P256: &str = "ecdsa-p256";
const RSA: &str = "rsassa-2048";

/// A key with quotes by it.
struct Cases {
    algorithm: &'static str,
    ak: AkKey,
    qualified_signer: Vec<u8>,
    bare: UnparsedPublicKey<Vec<u8>>,
    quotes: Vec<Case>,
    required: PcrSelection,
    envelope: Digest,
}

struct Case {
    evidence: Evidence,
    bare_signature: Vec<u8>,
}

pub(super) fn measure(round: Duration) -> anyhow::Result<Vec<QuoteCheck>> {
    [Cases::p256()?, Cases::rsa()?].iter().map(|cases| cases.measure(round)).collect()
}

impl Cases {
    fn p256() -> anyhow::Result<Self> {
        let tpm = SoftwareTpm::new()?;
        let ak = AkKey::from_public_bytes(tpm.ak_public())?;
        let bare = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, tpm.ak_point().to_vec());
        Self::new(P256, ak, bare, &tpm, |_| Ok(None))
    }

    /// The structure is the same; an RSA key signs it.
    fn rsa() -> anyhow::Result<Self> {
        let tpm = SoftwareTpm::new()?;
        let key = rsa::RsaPrivateKey::new(&mut Chance(SystemRandom::new()), RSA_BITS)?;
        let pair = RsaKeyPair::from_der(key.to_pkcs1_der()?.as_bytes()).map_err(|why| anyhow!("RSA key: {why}"))?;
        let modulus = key.n().to_bytes_be();
        let public = [&RSA_HEAD[..], &u16::try_from(modulus.len())?.to_be_bytes(), &modulus].concat();
        let ak = AkKey::from_public_bytes(&public)?;
        let bare = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public().as_ref().to_vec());
        Self::new(RSA, ak, bare, &tpm, |attest| {
            let mut signature = vec![0; pair.public().modulus_len()];
            let signed = pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), attest, &mut signature);
            signed.map_err(|_| anyhow!("the random source failed"))?;
            let length = u16::try_from(signature.len())?.to_be_bytes();
            let structure = [&[0, 0x14, 0, 0x0B][..], &length, &signature].concat();
            Ok(Some((structure, signature)))
        })
    }

    /// `sign` gives `TPMT_SIGNATURE` and bare signature, if another key than the TPM's signs.
    fn new(
        algorithm: &'static str,
        ak: AkKey,
        bare: UnparsedPublicKey<Vec<u8>>,
        tpm: &SoftwareTpm,
        sign: impl Fn(&[u8]) -> anyhow::Result<Option<(Vec<u8>, Vec<u8>)>>,
    ) -> anyhow::Result<Self> {
        let envelope = Digest::of(&[b"an envelope"]);
        let mut quotes = Vec::new();
        let mut qualified_signer = Vec::new();
        for number in 0..QUOTES {
            let nonce = [number; 32];
            let extra_data = extra_data(&Nonce::new(nonce), &envelope);
            let quoted = tpm.quote(&extra_data, &pcr_values(), 1_000 + u64::from(number))?;
            let (signature, bare_signature) =
                sign(&quoted.attest)?.unwrap_or((quoted.signature, quoted.bare_signature));
            qualified_signer = Quote::parse(&quoted.attest)?.qualified_signer.to_vec();
            let evidence = Evidence {
                version: EvidenceVersion::WithoutLogs,
                nonce,
                envelope: Vec::new(),
                attest: quoted.attest,
                signature,
                pcr_values: Bounded::truncating(pcr_values()).0,
                boot_log: None,
                ima: None,
                measure_log: None,
            };
            quotes.push(Case { evidence, bare_signature });
        }
        Ok(Self { algorithm, ak, qualified_signer, bare, quotes, required: PcrSelection::firmware(), envelope })
    }

    fn check(&self, evidence: Evidence) -> anyhow::Result<()> {
        let signer = Signer { ak: &self.ak, qualified_signer: &self.qualified_signer };
        let proven = prove_quote(evidence, &self.envelope, signer, &self.required);
        black_box(proven.map_err(|refusal| anyhow!("{refusal}"))?);
        Ok(())
    }

    fn measure(&self, round: Duration) -> anyhow::Result<QuoteCheck> {
        progress(&format!("quotes by themselves, {}", self.algorithm));
        self.run(Duration::from_millis(200))?; // warms caches and clocks up
        let rounds = (0..ROUNDS).map(|_| self.run(round)).collect::<anyhow::Result<Vec<_>>>()?;
        let of = |pick: fn(&(f64, f64)) -> f64| median(rounds.iter().map(pick));
        Ok(QuoteCheck {
            algorithm: self.algorithm,
            checks_per_core_second: of(|(check, _)| 1.0 / check),
            bare_per_core_second: of(|(_, bare)| 1.0 / bare),
            ratio_to_bare: of(|(check, bare)| bare / check),
        })
    }

    /// Seconds of a check and of a bare one.
    fn run(&self, for_so_long: Duration) -> anyhow::Result<(f64, f64)> {
        let (mut checks, mut bares, mut turns) = (Duration::ZERO, Duration::ZERO, 0_u32);
        let started = Instant::now();
        let mut next = self.quotes.iter().cycle();
        while started.elapsed() < for_so_long {
            let turn: Vec<&Case> = next.by_ref().take(TURN).collect();
            // The check takes evidence as decoding made it, so it is made before.
            let made: Vec<Evidence> = turn.iter().map(|case| case.evidence.clone()).collect();
            let begin = cpu::of_this_thread();
            for evidence in made {
                self.check(black_box(evidence))?;
            }
            let checked = cpu::of_this_thread();
            for case in &turn {
                let held = self.bare.verify(black_box(&case.evidence.attest), black_box(&case.bare_signature));
                held.map_err(|_| anyhow!("the bare signature does not hold"))?;
            }
            let end = cpu::of_this_thread();
            checks += checked.saturating_sub(begin);
            bares += end.saturating_sub(checked);
            turns += 1;
        }
        let count = f64::from(turns) * TURN as f64;
        let (check, bare) = (checks.as_secs_f64() / count, bares.as_secs_f64() / count);
        ensure!(check > 0.0 && bare > 0.0, "the round was too short to measure");
        Ok((check, bare))
    }
}

/// `ring`'s random source in the form that `rsa` takes.
struct Chance(SystemRandom);

impl rsa::rand_core::RngCore for Chance {
    fn next_u32(&mut self) -> u32 {
        rsa::rand_core::impls::next_u32_via_fill(self)
    }
    fn next_u64(&mut self) -> u64 {
        rsa::rand_core::impls::next_u64_via_fill(self)
    }
    fn fill_bytes(&mut self, to: &mut [u8]) {
        assert!(self.try_fill_bytes(to).is_ok(), "the random source failed");
    }
    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        let failed = |_| rsa::rand_core::Error::from(std::num::NonZeroU32::MIN);
        ring::rand::SecureRandom::fill(&self.0, to).map_err(failed)
    }
}

impl rsa::rand_core::CryptoRng for Chance {}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_quote_holds_and_a_changed_one_does_not() {
        for cases in [Cases::p256().unwrap(), Cases::rsa().unwrap()] {
            let mut evidence = cases.quotes[1].evidence.clone();
            cases.check(evidence.clone()).unwrap();
            evidence.attest[50] ^= 1;
            assert!(cases.check(evidence).is_err(), "{}", cases.algorithm);
        }
    }
}

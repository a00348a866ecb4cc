//! Quotes by a key whose signature holds over whatever it is told: everything but the signature must stop them.

use quotary_common::cbor::Bounded;
use quotary_common::envelope::{Backend, BackendKind, Envelope, EnvelopeVersion, Hierarchy, HostFacts, Mode, Name};
use quotary_common::evidence::extra_data;
use quotary_common::id::{BootId, DeploymentId, Digest, HostId};
use quotary_common::metric::MetricWindows;
use quotary_common::nonce::Nonce;
use quotary_common::tpm::{Attributes, GENERATED_VALUE, HashAlg, TYPE_QUOTE};

use super::*;
use crate::attest::tests::software_tpm::{AK_ATTRIBUTES, Pair, Shape};
use crate::inspect::envelope;

/// A quote over PCRs 0, 7 and 10 of the SHA-256 bank, whose values are 32 times their index.
struct Forge {
    pair: Pair,
    shape: Shape,
    attributes: u32,
    pcrs: Vec<u8>,
}

const SELECTION: [u8; 10] = [0, 0, 0, 1, 0, 0x0B, 3, 0x81, 0x04, 0];

impl Forge {
    fn new() -> Self {
        let values: Vec<Vec<u8>> = [0_u8, 7, 10].iter().map(|index| vec![*index; 32]).collect();
        let shape = Shape {
            magic: GENERATED_VALUE,
            kind: TYPE_QUOTE,
            qualified_signer: vec![0, 0x0B],
            extra_data: None,
            clock_ms: 1,
            reset_count: 2,
            restart_count: 3,
            safe: 1,
            selection: SELECTION.to_vec(),
            pcr_digest: HashAlg::Sha256.digest(values.iter().map(Vec::as_slice)).as_ref().to_vec(),
            trailing: Vec::new(),
        };
        Self { pair: Pair::new(), shape, attributes: AK_ATTRIBUTES, pcrs: serialized(0x0B, [0x81, 4, 0], &values) }
    }
    fn files(&self) -> Files {
        let message = self.shape.marshal(b"nonce");
        Files {
            ak: self.pair.ak_public(self.attributes),
            signature: self.pair.sign(&message),
            message,
            pcrs: Some(self.pcrs.clone()),
            nonce: Some(b"nonce".to_vec()),
            envelope: None,
        }
    }
}

/// The serialized form of one bank.
fn serialized(alg: u16, select: [u8; 3], values: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![1, 0, 0, 0];
    out.extend([&alg.to_le_bytes()[..], &[3], &select, &[0, 0]].concat());
    out.resize(4 + 16 * 8, 0);
    let lists = values.chunks(8);
    out.extend(u32::try_from(lists.len()).unwrap().to_le_bytes());
    for list in lists {
        out.extend(u32::try_from(list.len()).unwrap().to_le_bytes());
        for slot in 0..8 {
            let value = list.get(slot).cloned().unwrap_or_default();
            out.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
            out.extend(value.iter().chain(std::iter::repeat(&0)).take(64));
        }
    }
    out
}

#[test]
fn the_unchanged_quote_holds() {
    let report = Forge::new().files().report();
    assert!(report.verified, "{:?}", report.reasons);
    let indices: Vec<u8> = report.pcrs["sha256"].keys().copied().collect();
    assert_eq!((indices, report.pcrs["sha256"][&10].as_str()), (vec![0, 7, 10], "0a".repeat(32).as_str()));
}

#[test]
fn a1_values_relabelled_to_other_pcrs_are_refused() {
    let values: Vec<Vec<u8>> = [0_u8, 7, 10].iter().map(|index| vec![*index; 32]).collect();
    for (what, select) in [
        ("10 as 11", [0x81, 8, 0]),
        ("10 as the resettable 16", [0x81, 0, 1]),
        ("10 as the resettable 23", [0x81, 0, 0x80]),
        ("0 as 1", [0x82, 4, 0]),
        ("one more", [0x83, 4, 0]),
        ("one less", [0x81, 0, 0]),
    ] {
        let mut forge = Forge::new();
        forge.pcrs = serialized(0x0B, select, &values);
        assert_eq!(forge.files().codes(), ["pcr-selection"], "{what}");
    }
    let mut forge = Forge::new();
    forge.pcrs = serialized(0x12, [0x81, 4, 0], &values);
    assert_eq!(forge.files().codes(), ["pcr-selection"], "as another bank of the same length");
}

#[test]
fn a1_a_quote_of_a_resettable_pcr_is_told_under_its_own_number() {
    let mut forge = Forge::new();
    // The attacker extended PCR 16 to what PCR 10 should be, and has it quoted.
    forge.shape.selection = vec![0, 0, 0, 1, 0, 0x0B, 3, 0, 0, 1];
    forge.shape.pcr_digest = HashAlg::Sha256.digest([&[10; 32][..]]).as_ref().to_vec();
    forge.pcrs = vec![10; 32];
    let report = forge.files().report();
    assert!(report.verified);
    assert_eq!(report.pcrs["sha256"].keys().copied().collect::<Vec<u8>>(), [16]);
    forge.pcrs = serialized(0x0B, [0, 4, 0], &[vec![10; 32]]);
    assert_eq!(forge.files().codes(), ["pcr-selection"]);
}

#[test]
fn a2_what_no_tpm_generated_or_is_no_quote_is_refused_under_a_good_signature() {
    let mut forge = Forge::new();
    for magic in [0, 0xFF54_4346, 0x4743_54FF] {
        forge.shape.magic = magic;
        assert_eq!(forge.files().codes(), ["not-a-quote"], "magic {magic:x}");
    }
    let mut forge = Forge::new();
    // Certify, creation, time, NV, session and command audit.
    for kind in [0x8017, 0x801A, 0x8019, 0x8014, 0x8016, 0x8015] {
        forge.shape.kind = kind;
        assert_eq!(forge.files().codes(), ["not-a-quote"], "type {kind:x}");
    }
}

#[test]
fn a3_a_quote_over_no_or_some_pcrs_proves_no_others() {
    let mut forge = Forge::new();
    forge.shape.selection = vec![0, 0, 0, 1, 0, 0x0B, 3, 0, 0, 0];
    assert_eq!(forge.files().codes(), ["not-a-quote"], "an empty bank");
    forge.shape.selection = vec![0, 0, 0, 0];
    assert_eq!(forge.files().codes(), ["not-a-quote"], "no bank");
    let mut forge = Forge::new();
    forge.shape.selection = vec![0, 0, 0, 1, 0, 0x0B, 3, 1, 0, 0];
    forge.shape.pcr_digest = HashAlg::Sha256.digest([&[0; 32][..]]).as_ref().to_vec();
    assert_eq!(forge.files().codes(), ["pcr-selection"], "PCR 0 alone is signed, serialized values of three");
    forge.pcrs = [[0; 32], [7; 32], [10; 32]].concat();
    assert_eq!(forge.files().codes(), ["pcr-selection"], "values of three");
    forge.pcrs = vec![0; 32];
    assert_eq!(forge.files().codes(), [""; 0], "its own value");
    let mut without = forge.files();
    without.pcrs = None;
    let report = without.report();
    assert!(report.verified && report.pcrs.is_empty(), "without values none is told");
}

#[test]
fn values_of_another_digest_are_refused_in_both_forms() {
    let mut forge = Forge::new();
    let at = forge.pcrs.len() - 532 + 4 + 2;
    forge.pcrs[at] ^= 1;
    assert_eq!(forge.files().codes(), ["pcr-digest"]);
    forge.pcrs = [[0; 32], [10; 32], [7; 32]].concat();
    assert_eq!(forge.files().codes(), ["pcr-digest"], "two values exchanged");
    forge.pcrs = [[0; 32], [7; 32], [10; 32]].concat();
    assert_eq!(forge.files().codes(), [""; 0]);
}

#[test]
fn a23_a_quote_of_the_sha1_bank_is_refused_with_or_without_values() {
    let mut forge = Forge::new();
    forge.shape.selection = vec![0, 0, 0, 1, 0, 4, 3, 1, 0, 0];
    forge.shape.pcr_digest = HashAlg::Sha256.digest([&[0; 20][..]]).as_ref().to_vec();
    forge.pcrs = vec![0; 20];
    assert_eq!(forge.files().codes(), ["pcr-selection"]);
    assert_eq!(Files { pcrs: None, ..forge.files() }.codes(), ["pcr-selection"]);
}

#[test]
fn a6_a_signature_of_the_other_kind_of_key_is_refused() {
    let forge = Forge::new();
    let (ecc, rsa) = (forge.files(), Files::of("keylime-rsa2048-sha256"));
    for bare in [true, false] {
        let mut mixed = ecc.clone();
        mixed.signature = rsa.signature.clone();
        if bare {
            mixed.ak = data("tpm2-tools/ecdsa-p256/ak.pem");
        }
        assert_eq!(mixed.codes(), ["signature"], "an ECC key with an RSA signature, bare: {bare}");
        let mut mixed = Files { nonce: None, ..rsa.clone() };
        mixed.signature = ecc.signature.clone();
        if !bare {
            mixed.ak = data("tpm2-tools/rsassa-sha384/ak.tpm2b");
        }
        assert!(mixed.codes().contains(&"signature"), "an RSA key with an ECC signature, bare: {bare}");
    }
}

#[test]
fn a14_a_good_quote_over_another_nonce_or_envelope_is_refused() {
    let envelope_bytes = |sequence| an_envelope(sequence).seal().unwrap().bytes().to_vec();
    let (ours, other) = (envelope_bytes(1), envelope_bytes(2));
    let mut forge = Forge::new();
    let digest = envelope(&ours).unwrap().digest;
    forge.shape.extra_data = Some(extra_data(&Nonce::new([7; 32]), &digest).to_vec());
    let with = |nonce: &[u8], envelope: Option<&Vec<u8>>| {
        let files = Files { nonce: Some(nonce.to_vec()), envelope: envelope.cloned(), ..forge.files() };
        files.codes()
    };
    assert_eq!(with(&[7; 32], Some(&ours)), [""; 0]);
    assert_eq!(with(&[8; 32], Some(&ours)), ["extra-data"], "replayed into another session");
    assert_eq!(with(&[7; 32], Some(&other)), ["extra-data"], "another envelope");
    assert_eq!(with(&[7; 32], None), ["extra-data"], "the nonce alone is not what it covers");
}

#[test]
fn a15_a_wrong_signature_is_a_reason_and_never_verified() {
    let forge = Forge::new();
    let mut files = forge.files();
    files.ak = Pair::new().ak_public(AK_ATTRIBUTES);
    assert_eq!(files.codes(), ["signature"]);
    let mut forge = Forge::new();
    forge.shape.extra_data = Some(b"other".to_vec());
    let mut files = forge.files();
    files.ak = Pair::new().ak_public(AK_ATTRIBUTES);
    assert_eq!(files.codes(), ["signature", "extra-data"], "everything that is wrong is told");
}

#[test]
fn a23_a_key_that_could_sign_what_no_tpm_made_is_refused_where_its_public_area_says_so() {
    for missing in [Attributes::RESTRICTED, Attributes::FIXED_TPM, Attributes::FIXED_PARENT, Attributes::SIGN] {
        let mut forge = Forge::new();
        forge.attributes &= !missing;
        assert_eq!(forge.files().codes(), ["ak-attributes"], "without 0x{missing:x}");
    }
}

#[test]
fn a25_odd_encodings_of_message_and_signature_are_refused() {
    let mut forge = Forge::new();
    forge.shape.trailing = vec![0];
    assert_eq!(forge.files().codes(), ["not-a-quote"], "a byte after the message");
    let mut forge = Forge::new();
    for (what, selection) in [
        ("sizeofSelect 4", vec![0, 0, 0, 1, 0, 0x0B, 4, 0x81, 4, 0, 0]),
        ("sizeofSelect 2", vec![0, 0, 0, 1, 0, 0x0B, 2, 0x81, 4]),
        ("17 banks", [&[0, 0, 0, 17][..], &SELECTION[4..].repeat(17)].concat()),
        ("a bank twice", [&[0, 0, 0, 2][..], &SELECTION[4..].repeat(2)].concat()),
    ] {
        forge.shape.selection = selection;
        assert_eq!(forge.files().codes(), ["not-a-quote"], "{what}");
    }
    let forge = Forge::new();
    let good = forge.files();
    let with = |signature: Vec<u8>| Files { signature, ..good.clone() }.codes();
    let (r, s) = (&good.signature[6..38], &good.signature[40..]);
    let signature = |r: &[u8], s: &[u8]| {
        let sized = |n: &[u8]| [&u16::try_from(n.len()).unwrap().to_be_bytes()[..], n].concat();
        [vec![0, 0x18, 0, 0x0B], sized(r), sized(s)].concat()
    };
    assert_eq!(with(signature(r, s)), [""; 0]);
    assert_eq!(with([good.signature.clone(), vec![0]].concat()), ["signature"], "a trailing byte");
    assert_eq!(with(signature(&[&[0], r].concat(), s)), ["signature"], "r of 33 bytes");
    assert_eq!(with(signature(r, &[])), ["signature"], "no s");
    assert_eq!(with(good.signature[..good.signature.len() - 1].to_vec()), ["signature"], "cut off");
}

#[test]
fn a25_a_wrong_count_of_digests_is_refused() {
    let values: Vec<Vec<u8>> = [0_u8, 7, 10].iter().map(|index| vec![*index; 32]).collect();
    let mut forge = Forge::new();
    forge.pcrs = serialized(0x0B, [0x81, 4, 0], &values[..2]);
    assert_eq!(forge.files().codes(), ["pcr-selection"], "a digest too few");
    forge.pcrs = serialized(0x0B, [0x81, 4, 0], &[values.clone(), vec![vec![1; 32]]].concat());
    assert_eq!(forge.files().codes(), ["pcr-selection"], "a digest too many");
    let mut size = serialized(0x0B, [0x81, 4, 0], &values);
    assert_eq!(size[6], 3, "sizeofSelect");
    size[6] = 5;
    forge.pcrs = size;
    assert_eq!(forge.files().codes(), ["pcr-selection"], "a selection of five bytes");
    let mut short = values;
    short[1].pop();
    forge.pcrs = serialized(0x0B, [0x81, 4, 0], &short);
    assert_eq!(forge.files().codes(), ["pcr-selection"], "a digest too short");
}

fn an_envelope(sequence: u64) -> Envelope {
    Envelope {
        version: EnvelopeVersion::WindowGroups,
        deployment: DeploymentId::of(&[b"deployment"]),
        host: HostId::of(&[b"host"]),
        boot_id: BootId::new([1; 16]),
        sequence,
        predecessor: Digest::new([0; 32]),
        tls_key: Digest::of(&[b"tls"]),
        checkpoint: None,
        agent_version: Name::new("0.1.0").unwrap(),
        built_at_ms: 5,
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
            hostname: Name::new("host-1").unwrap(),
            kernel: Name::new("6.1.0").unwrap(),
            cpu_millicores: 2000,
            memory_bytes: 1 << 30,
            os: None,
        },
    }
}

#[test]
fn an_envelopes_report_says_what_it_claims() {
    let sealed = an_envelope(9).seal().unwrap();
    let report = serde_json::to_value(envelope(sealed.bytes()).unwrap()).unwrap();
    assert_eq!(report["digest"], serde_json::to_value(sealed.digest()).unwrap());
    assert_eq!((&report["sequence"], &report["facts"]["hostname"]), (&9.into(), &"host-1".into()));
    assert_eq!(report.as_object().unwrap().len(), 17 + 2, "a name for each key but the version");
    assert_eq!(report["bytes"], sealed.bytes().len());
    assert!(envelope(&sealed.bytes()[1..]).is_err());
}

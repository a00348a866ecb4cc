//! Exports of quotes that a key of ours signed, checked by the tools themselves where they are installed.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::process::{Command, Output};

use proptest::prelude::*;
use quotary_common::cbor::{Bounded, BoundedBytes, Text};
use quotary_common::envelope::{Backend, BackendKind, Envelope, EnvelopeVersion, Hierarchy, HostFacts, Mode};
use quotary_common::evidence::{EvidenceVersion, ImaForm, ImaIncrement, PcrValue, extra_data};
use quotary_common::id::{BootId, DeploymentId, HostId, TokenId};
use quotary_common::leaf::{Decision, Enrolled};
use quotary_common::metric::MetricWindows;
use quotary_common::nonce::Nonce;
use quotary_common::tpm::PcrSelection;
use quotary_decide::inspect::SuppliedPcrs;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

use super::*;
use crate::audit::copy::tests::{Log, ROOT, copied, signing_key};

/// A key that signs as a TPM's would.
struct Ak {
    pair: EcdsaKeyPair,
    public: Vec<u8>,
}

impl Ak {
    fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        // ECC, SHA-256, a restricted signing key, no policy, ECDSA with SHA-256, P-256.
        let head = hex("0023000b00050072000000100018000b00030010");
        let public = [&head[..], &[0, 32], x, &[0, 32], y].concat();
        Self { pair, public }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let fixed = self.pair.sign(&SystemRandom::new(), message).unwrap();
        let (r, s) = fixed.as_ref().split_at(32);
        [&hex("0018000b")[..], &[0, 32], r, &[0, 32], s].concat()
    }
}

fn hex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
}

fn envelope(sequence: u64) -> Vec<u8> {
    let envelope = Envelope {
        version: EnvelopeVersion::WindowGroups,
        deployment: DeploymentId::of(&[b"d"]),
        host: host(),
        boot_id: BootId::new([1; 16]),
        sequence,
        predecessor: Digest::new([0; 32]),
        tls_key: Digest::of(&[b"tls"]),
        checkpoint: None,
        agent_version: Text::lossy("0.1.0"),
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
            hostname: Text::lossy("edge"),
            kernel: Text::lossy("6.1"),
            cpu_millicores: 2_000,
            memory_bytes: 1 << 30,
            os: None,
        },
    };
    envelope.seal().unwrap().bytes().to_vec()
}

fn host() -> HostId {
    HostId::of(&[b"an EK"])
}

/// Evidence over ten PCRs; `magic` is what it begins with.
fn evidence(ak: &Ak, sequence: u64, magic: &str) -> Vec<u8> {
    let (envelope, nonce) = (envelope(sequence), [7; 32]);
    let covered = extra_data(&Nonce::new(nonce), &Digest::of(&[&envelope]));
    let values: Vec<Vec<u8>> = (0..10_u8).map(|index| vec![index; 32]).collect();
    let attest = [
        hex(magic),
        hex("80180022000b"),
        vec![1; 32],
        hex("0020"),
        covered.to_vec(),
        hex("0000000000001000000000010000000001"),
        hex("0102030405060708"),
        hex("00000001000b03ff0300"),
        hex("0020"),
        Digest::of(&[&values.concat()]).as_bytes().to_vec(),
    ]
    .concat();
    let pcr = |(index, value)| PcrValue { hash_alg: 0x000B, index, value };
    let evidence = Evidence {
        version: EvidenceVersion::WithMeasureLog,
        nonce,
        envelope,
        signature: ak.sign(&attest),
        attest,
        pcr_values: Bounded::new((0..).zip(values).map(pcr).collect()).unwrap(),
        boot_log: BoundedBytes::new(b"boot log".to_vec()),
        ima: BoundedBytes::new(b"entries".to_vec()).map(|bytes| ImaIncrement {
            form: ImaForm::BinarySha1,
            offset_bytes: 0,
            bytes,
            has_more: false,
        }),
        measure_log: BoundedBytes::new(b"records".to_vec()),
    };
    evidence.to_bytes()
}

fn enrolled(ak_public: &[u8]) -> Decision {
    Decision::Enrolled(Enrolled {
        host: host(),
        ek_public: vec![1],
        ak_public: ak_public.to_vec(),
        tls_key: Digest::of(&[b"tls"]),
        ek_issuer: None,
        token: TokenId::of(&[b"t"]),
        replaced: false,
        epoch: 1,
    })
}

/// A copy of a log in which the host enrolled twice, with evidence after each: both evidences, and the second key.
async fn a_copy(directory: &Path) -> ([Vec<u8>; 2], Ak) {
    let (first, second) = (Ak::new(), Ak::new());
    let evidences = [evidence(&first, 1, "ff544347"), evidence(&second, 2, "ff544347")];
    let mut log = Log::of(200);
    log.push(enrolled(&first.public));
    log.accept_of(host(), &evidences[0], true);
    for decision in Log::of(300).into_decisions().into_iter().skip(1) {
        log.push(decision);
    }
    log.push(enrolled(&second.public));
    log.accept_of(HostId::of(&[b"another"]), b"other", false);
    log.accept_of(host(), &evidences[1], true);
    copied(&log, &Directory::create(directory).unwrap()).await;
    (evidences, second)
}

fn wanted(id: impl AsRef<str>) -> Wanted {
    exactly(id.as_ref()).unwrap()
}

fn root() -> PublicKey {
    signing_key(ROOT).public()
}

#[tokio::test]
async fn a_host_means_its_newest_evidence_and_the_key_it_had_then() {
    let temporary = tempfile::tempdir().unwrap();
    let (evidences, second) = a_copy(&temporary.path().join("copy")).await;
    let copy = Directory::open(&temporary.path().join("copy")).unwrap();
    let to = |name: &str| temporary.path().join(name);
    let newest = write(&copy, Some(&root()), wanted(host().hex()), &to("newest")).await.unwrap();
    assert!(newest.verified && newest.reasons.is_empty(), "{:?}", newest.reasons);
    assert_eq!((newest.evidence, newest.sequence), (Evidence::digest(&evidences[1]), 1));
    assert_eq!(std::fs::read(to("newest/ak.tpm2b")).unwrap()[2..], second.public);
    let old = Evidence::digest(&evidences[0]);
    let older = write(&copy, Some(&root()), wanted(old.hex()), &to("older")).await.unwrap();
    assert!(older.verified, "under the key of the first enrolment");
    assert_eq!((older.evidence, older.enrolled_leaf, older.verdict_leaf), (old, 200, 201));
    assert!(newest.enrolled_leaf > older.verdict_leaf);
    assert_eq!(std::fs::read(to("older/evidence.cbor")).unwrap(), evidences[0]);
    assert_eq!(std::fs::read(to("older/quote.values")).unwrap().len(), 320);
    assert_eq!(std::fs::read(to("older/boot.log")).unwrap(), b"boot log");
    assert_eq!(std::fs::read(to("older/ima.part")).unwrap(), b"entries");
    let short = meant(&hosts(&copy, Some(&root())).await.unwrap(), &host().to_string()[..12]).unwrap();
    assert_eq!(short, wanted(host().hex()));
}

#[tokio::test]
async fn what_is_not_named_not_kept_swapped_or_in_the_way_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let (evidences, _) = a_copy(&temporary.path().join("copy")).await;
    let copy = Directory::open(&temporary.path().join("copy")).unwrap();
    let to = temporary.path().join("export");
    let export = async |id: String| write(&copy, Some(&root()), wanted(id), &to).await.unwrap_err();
    let unknown = export(Digest::of(&[b"unknown"]).hex()).await;
    assert!(unknown.code() == 1 && unknown.message().contains("no accepted evidence"), "{}", unknown.message());
    let not_enrolled = export(HostId::of(&[b"another"]).hex()).await;
    assert!(not_enrolled.code() == 1 && not_enrolled.message().contains("no leaf before it enrols"));
    let name = Evidence::digest(&evidences[1]);
    let path = quotary_decide::audit::evidence_path(&name);
    copy.write(&path, &evidences[0]).unwrap();
    assert!(export(name.hex()).await.message().contains("another SHA-256"));
    std::fs::remove_file(temporary.path().join("copy").join(&path)).unwrap();
    assert!(export(name.hex()).await.message().contains("not kept any more"));
    assert!(!to.exists(), "nothing is made for what is refused");
    std::fs::create_dir(&to).unwrap();
    std::fs::write(to.join("mine"), b"").unwrap();
    let in_the_way = export(Evidence::digest(&evidences[0]).hex()).await;
    assert!(in_the_way.code() == 64 && in_the_way.message().contains("is not empty"), "{}", in_the_way.message());
    let other = signing_key(9).public();
    assert_eq!(write(&copy, Some(&other), wanted(name.hex()), &to).await.unwrap_err().code(), 1);
}

/// An export of one evidence, whatever it is worth.
async fn an_export(temporary: &Path, change: impl FnOnce(&mut Vec<u8>)) -> (Exported, PathBuf) {
    let ak = Ak::new();
    let mut bytes = evidence(&ak, 1, "ff544347");
    change(&mut bytes);
    an_export_of(temporary, &ak.public, &bytes).await
}

async fn an_export_of(temporary: &Path, ak_public: &[u8], bytes: &[u8]) -> (Exported, PathBuf) {
    let mut log = Log::of(1);
    log.push(enrolled(ak_public));
    log.accept_of(host(), bytes, true);
    let copy = Directory::create(&temporary.join("copy")).unwrap();
    copied(&log, &copy).await;
    let to = temporary.join("export");
    (write(&copy, None, wanted(host().hex()), &to).await.unwrap(), to)
}

fn check(directory: &Path) -> (Output, String) {
    let output = Command::new("sh").arg(directory.join("check.sh")).output().unwrap();
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    (output, said)
}

fn tools_are_missing() -> bool {
    let is_there = |tool: &&str| Command::new(*tool).arg("--version").output().is_ok();
    let missing = !["tpm2_checkquote", "tpm2_print", "openssl", "sha256sum", "od"].iter().all(is_there);
    if missing {
        eprintln!("skipped: tools/install-packages installs tpm2-tools and openssl");
    }
    missing
}

#[tokio::test]
async fn stock_tools_accept_what_is_exported() {
    if tools_are_missing() {
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let (exported, to) = an_export(temporary.path(), |_| ()).await;
    assert!(exported.verified, "{:?}", exported.reasons);
    let (output, said) = check(&to);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("ok ")).count(), 8, "{said}");
    let listed: Vec<String> =
        std::fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(listed.len(), exported.files.len());
    let readme = std::fs::read_to_string(to.join("README.txt")).unwrap();
    assert!(!readme.contains('@'), "every placeholder is filled");
    let mut others = exported.files.iter().filter(|name| **name != "README.txt");
    assert!(others.all(|name| readme.contains(name)), "every file is explained");
}

#[tokio::test]
async fn the_script_finds_relabelled_pcrs_and_a_changed_envelope_whatever_the_tool_misses() {
    if tools_are_missing() {
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let (_, to) = an_export(temporary.path(), |_| ()).await;
    let failing = || {
        let (output, said) = check(&to);
        assert_eq!(output.status.code(), Some(1), "{said}");
        said.lines().filter(|line| line.starts_with("FAILED")).map(str::to_owned).collect::<Vec<_>>().join("\n")
    };
    let pcrs = std::fs::read(to.join("quote.pcrs")).unwrap();
    let mut relabelled = pcrs.clone();
    // PCRs 8 and 9 become 16 and 17.
    (relabelled[8], relabelled[9]) = (0, 3);
    std::fs::write(to.join("quote.pcrs"), relabelled).unwrap();
    let found = failing();
    assert!(found.contains("PCR numbers that are signed") && found.contains("those that were exported"), "{found}");
    std::fs::write(to.join("quote.pcrs"), pcrs).unwrap();
    std::fs::write(to.join("envelope.cbor"), envelope(2)).unwrap();
    assert!(failing().contains("extraData covers nonce and envelope"));
}

#[tokio::test]
async fn a_quote_that_does_not_verify_is_written_and_both_say_so() {
    let temporary = tempfile::tempdir().unwrap();
    // The very last byte of the signature's `s`: PCR values follow it.
    let (exported, to) = an_export(temporary.path(), |bytes| {
        let s = bytes.windows(4).rposition(|window| window == [0x00, 0x18, 0x00, 0x0b]).unwrap() + 40;
        bytes[s + 31] ^= 1;
    })
    .await;
    assert!(!exported.verified && exported.text().contains("DOES NOT VERIFY"));
    assert_eq!(exported.reasons[0].code, "signature");
    assert!(to.join("quote.sig").exists());
    if !tools_are_missing() {
        let (output, said) = check(&to);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("FAILED   openssl") && said.contains("FAILED   tpm2_checkquote"), "{said}");
    }
}

#[tokio::test]
async fn real_quotes_of_every_algorithm_pass_the_tools_but_cover_no_envelope() {
    if tools_are_missing() {
        return;
    }
    for (folder, selection, checkquote) in [
        ("ecdsa-p384", "sha256:0,10+sha384:0,7", "ok       tpm2_checkquote"),
        ("rsassa-sha384", "sha384:0,1,2,3,4,5,6,7,8", "ok       tpm2_checkquote"),
        ("rsapss-2048", "sha256:0,10", "skipped  tpm2_checkquote"),
    ] {
        let vectors =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/attestation/tpm2-tools").join(folder);
        let read = |name: &str| std::fs::read(vectors.join(name)).unwrap();
        let selection: PcrSelection = selection.parse().unwrap();
        let values = SuppliedPcrs::read(&read("quote.values"), &selection).unwrap();
        let evidence = Evidence {
            version: EvidenceVersion::WithoutLogs,
            nonce: [7; 32],
            envelope: envelope(1),
            attest: read("quote.msg"),
            signature: read("quote.sig"),
            pcr_values: Bounded::new(values.values().to_vec()).unwrap(),
            boot_log: None,
            ima: None,
            measure_log: None,
        };
        let temporary = tempfile::tempdir().unwrap();
        let tpm2b = read("ak.tpm2b");
        let (exported, to) = an_export_of(temporary.path(), &tpm2b[2..], &evidence.to_bytes()).await;
        let codes: Vec<&str> = exported.reasons.iter().map(|reason| reason.code).collect();
        assert_eq!(codes, ["extra-data"], "{folder}: what tpm2_quote covered is no envelope");
        assert!(!to.join("boot.log").exists() && !to.join("ima.part").exists());
        for name in ["ak.pem", "ak.tpm2b", "quote.msg", "quote.sig", "quote.pcrs", "quote.values"] {
            assert!(std::fs::read(to.join(name)).unwrap() == read(name), "{folder}: {name} is as tpm2-tools wrote it");
        }
        let (output, said) = check(&to);
        let failed: Vec<&str> = said.lines().filter(|line| line.starts_with("FAILED")).collect();
        assert_eq!((output.status.code(), failed.len()), (Some(1), 1), "{folder}: {said}");
        assert!(failed[0].contains("extraData covers") && said.contains(checkquote), "{folder}: {said}");
        assert!(
            said.contains("ok       openssl") && said.contains("ok       tpm2_print: quote.pcrs"),
            "{folder}: {said}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn evidence_changed_in_what_the_quote_covers_is_exported_or_refused_and_never_verified(at in any::<prop::sample::Index>(), byte in 1..=u8::MAX) {
        let ak = Ak::new();
        // The quote covers logs by the PCRs that they replay to alone.
        let logless = Evidence::from_bytes(&evidence(&ak, 1, "ff544347")).unwrap();
        let logless = Evidence { version: EvidenceVersion::WithoutLogs, boot_log: None, ima: None, measure_log: None, ..logless };
        let good = logless.to_bytes();
        let mut bytes = good.clone();
        bytes[at.index(good.len())] ^= byte;
        let Decision::Enrolled(enrolled) = enrolled(&ak.public) else { return Ok(()) };
        let verdict = quotary_common::leaf::Verdict { host: host(), sequence: 1, evidence: Evidence::digest(&bytes) };
        let found = find::Found { verdict, verdict_leaf: 2, enrolled, enrolled_leaf: 1 };
        prop_assert!(content(&good, &found).unwrap().report.verified);
        if let Ok(content) = content(&bytes, &found) {
            prop_assert!(!content.report.verified);
            prop_assert!(content.files.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() < 4 * good.len() + 64 * 1024);
        }
    }
}

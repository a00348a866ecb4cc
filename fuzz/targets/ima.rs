//! IMA lists: both binary forms have one encoding, an ASCII list says what its binary form says, a list comes to the same
//! however it is cut, and an allow-list reads what it writes.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use quotary_common::id::Digest;
use quotary_decide::ima::{
    Aggregate, AllowList, Entries, Entry, FINDINGS_MAX, Increment, ListForm, Outcome, Reference, SignerKey, SignerKeys,
    Template, fold, inspect,
};

static REFERENCE: LazyLock<Reference> = LazyLock::new(|| {
    let keys = [
        &include_bytes!("../../tests/data/attestation/ima/keys/rsa2048pub.pem")[..],
        include_bytes!("../../tests/data/attestation/ima/keys/secp256k1pub.pem"),
    ];
    let keys = keys.map(|pem| SignerKey::from_pem(pem).expect("a real key"));
    let allowed = AllowList::new(vec![(b"/usr/bin/dd".to_vec(), Digest::new([1; 32]))]).expect("one pair");
    let signers = SignerKeys::new(keys.to_vec()).expect("two keys");
    Reference::new(allowed, signers, vec![b"/tmp/".to_vec()], vec![b"/usr/bin/dd".to_vec()]).expect("absolute paths")
});

fuzz_target!(|data: &[u8]| {
    if let Ok(list) = AllowList::parse(data) {
        assert_eq!(AllowList::parse(&list.to_text()).as_ref(), Ok(&list), "an allow-list reads what it writes");
    }
    for form in [ListForm::Ascii, ListForm::BinarySha1, ListForm::BinarySha256] {
        let whole = check_entries(form, data);
        check_fold(form, data, whole);
    }
    if let Ok(report) = inspect(data) {
        assert!(report.problems.len() <= FINDINGS_MAX && report.violations <= report.entries);
        assert!(report.entries as usize <= data.len());
    }
});

/// Reads all entries; how many whole ones there are, if nothing is malformed.
fn check_entries(form: ListForm, data: &[u8]) -> Option<usize> {
    let mut entries = Entries::new(form, data);
    let (mut count, mut is_whole) = (0, true);
    loop {
        let start = entries.consumed();
        let Some(entry) = entries.next() else { break };
        let Ok(entry) = entry else {
            assert!(entries.next().is_none(), "nothing is read after what is malformed");
            is_whole = false;
            break;
        };
        let read = &data[start..entries.consumed()];
        assert!(!read.is_empty() && entry.pcr < 24);
        assert!(entry.data.len() <= read.len().max(276), "more out than in");
        let _ = entry.measured();
        if let Some(binary) = encode(&entry) {
            let form =
                if entry.listed_hash.as_bytes().len() == 20 { ListForm::BinarySha1 } else { ListForm::BinarySha256 };
            let again = Entries::new(form, &binary).next().expect("whole").expect("its own encoding reads");
            assert_eq!(again, entry, "the binary form says what the list says");
        }
        if form != ListForm::Ascii
            && let Some(binary) = encode(&entry)
        {
            assert_eq!(binary, read, "a binary entry has one encoding");
        }
        count += 1;
    }
    assert_eq!(entries.consumed() + entries.rest().len(), data.len());
    is_whole.then_some(count)
}

/// The binary form; `None` for a template whose name is not kept.
fn encode(entry: &Entry<'_>) -> Option<Vec<u8>> {
    let name: &[u8] = match entry.template {
        Template::Ima => b"ima",
        Template::ImaNg => b"ima-ng",
        Template::ImaSig => b"ima-sig",
        Template::ImaBuf => b"ima-buf",
        Template::ImaModsig => b"ima-modsig",
        Template::ImaNgV2 => b"ima-ngv2",
        Template::ImaSigV2 => b"ima-sigv2",
        Template::Other => return None,
    };
    let length = |length: usize| u32::try_from(length).expect("it was read as such").to_le_bytes();
    let mut out = entry.pcr.to_le_bytes().to_vec();
    out.extend_from_slice(entry.listed_hash.as_bytes());
    out.extend_from_slice(&length(name.len()));
    out.extend_from_slice(name);
    if entry.template == Template::Ima {
        let (digest, path) = entry.data.split_at(20);
        let end = path.iter().position(|byte| *byte == 0).expect("it is padded");
        out.extend_from_slice(digest);
        out.extend_from_slice(&length(end));
        out.extend_from_slice(&path[..end]);
    } else {
        out.extend_from_slice(&length(entry.data.len()));
        out.extend_from_slice(&entry.data);
    }
    Some(out)
}

/// Whole, and cut at a place that the bytes themselves choose.
fn check_fold(form: ListForm, data: &[u8], whole: Option<usize>) {
    let reference = &*REFERENCE;
    let start = Aggregate::start(1, form, reference.digest());
    let increment = |state: &Aggregate, end: usize| {
        let from = usize::try_from(state.offset_bytes()).expect("within the bytes");
        Increment { reset_count: 1, form, offset_bytes: state.offset_bytes(), bytes: &data[from..end], has_more: true }
    };
    let never = Digest::new([1; 32]);
    let at_once = fold(&start, increment(&start, data.len()), &never, reference);
    assert!(at_once.findings.told().len() <= FINDINGS_MAX);
    assert_ne!(at_once.outcome, Outcome::Proven, "a PCR that nothing replays to");
    let Some(count) = whole else {
        assert_eq!(at_once.outcome, Outcome::Refused);
        return;
    };
    assert_eq!((at_once.outcome, at_once.state.entries()), (Outcome::Behind, count as u64));
    let cut = data.iter().fold(0_usize, |sum, byte| sum + usize::from(*byte)) % (data.len() + 1);
    let first = fold(&start, increment(&start, cut), &never, reference);
    if first.outcome == Outcome::Behind {
        let second = fold(&first.state, increment(&first.state, data.len()), &never, reference);
        assert_eq!(second.state, at_once.state, "cut at {cut}");
        assert_eq!(first.findings.count() + second.findings.count(), at_once.findings.count());
    }
    let quoted = at_once.state.pcr10_sha256();
    let proven = fold(&start, increment(&start, data.len()), &quoted, reference);
    assert_eq!((proven.outcome, proven.state.pcr10_sha256()), (Outcome::Proven, quoted));
}

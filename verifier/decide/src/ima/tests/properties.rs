//! Any bytes at all: no panic, no more out than went in, and the same answer however a list is cut.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const FORMS: [ListForm; 3] = [ListForm::Ascii, ListForm::BinarySha1, ListForm::BinarySha256];

/// Real entries, some bytes of which are changed.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let lists: Vec<Vec<u8>> = [vector!("ima-sig-combined.txt"), vector!("ima-buf-keyring.txt")]
        .into_iter()
        .flat_map(|list| {
            [list.to_vec(), to_binary(list, ListForm::BinarySha1), to_binary(list, ListForm::BinarySha256)]
        })
        .collect();
    (prop::sample::select(lists), vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)).prop_map(
        |(mut list, changes)| {
            for (at, to) in changes {
                let at = at.index(list.len());
                list[at] = to;
            }
            list
        },
    )
}

fn check(bytes: &[u8]) {
    let reference = allowing(vec![(b"/usr/bin/dd".to_vec(), Digest::new([1; 32]))]);
    for form in FORMS {
        let mut entries = Entries::new(form, bytes);
        let mut last = 0;
        while let Some(entry) = entries.next() {
            if let Ok(entry) = entry {
                assert!(entries.consumed() > last, "each entry takes bytes");
                assert!(entry.data.len() <= (entries.consumed() - last).max(276), "no more out than in");
                let _ = entry.measured();
                last = entries.consumed();
            }
        }
        assert_eq!(entries.consumed() + entries.rest().len(), bytes.len());
        let start = Aggregate::start(1, form, reference.digest());
        let increment = Increment { reset_count: 1, form, offset_bytes: 0, bytes, has_more: true };
        let folded = fold(&start, increment, &Digest::new([1; 32]), &reference);
        assert!(folded.findings.told().len() <= FINDINGS_MAX);
        assert!(folded.findings.told().iter().all(|finding| finding.detail.len() < 4096));
        assert_ne!(folded.outcome, Outcome::Proven);
    }
    let _ = inspect(bytes);
}

proptest! {
    #[test]
    fn no_bytes_make_a_panic(bytes in vec(any::<u8>(), 0..600)) {
        check(&bytes);
    }
    #[test]
    fn no_damaged_list_makes_a_panic(bytes in damaged()) {
        check(&bytes);
    }
    #[test]
    fn a_damaged_list_never_replays_to_the_pcr_of_another(bytes in damaged()) {
        let report = |bytes: &[u8]| inspect(bytes).ok().map(|report| report.pcr10.sha256);
        let good = [vector!("ima-sig-combined.txt"), vector!("ima-buf-keyring.txt")];
        if let Some(pcr) = report(&bytes)
            && let Some(list) = good.iter().find(|list| report(list) == Some(pcr.clone()))
        {
            // Only what the PCR does not cover may differ: the listed hash, and how a number is written.
            let data = |bytes: &[u8]| -> Vec<Vec<u8>> {
                Entries::new(ListForm::detect(bytes), bytes).flatten().map(|entry| entry.data.into_owned()).collect()
            };
            prop_assert_eq!(data(&bytes), data(list));
        }
    }
    #[test]
    fn no_text_makes_the_allow_list_panic_and_what_it_reads_it_writes(text in vec(any::<u8>(), 0..300)) {
        if let Ok(list) = AllowList::parse(&text) {
            prop_assert_eq!(AllowList::parse(&list.to_text()).unwrap(), list);
        }
    }
    #[test]
    fn any_pairs_come_back_from_their_text(paths in vec(vec(1_u8..=255, 1..40), 0..20)) {
        let pairs: Vec<_> = paths.iter().map(|path| (path.clone(), Digest::of(&[path]))).collect();
        let list = AllowList::new(pairs.clone()).unwrap();
        prop_assert_eq!(AllowList::parse(&list.to_text()).unwrap(), list.clone());
        prop_assert!(pairs.iter().all(|(path, digest)| list.contains(path, digest)));
        prop_assert!(list.iter().all(|(path, digest)| pairs.contains(&(path.to_vec(), digest))));
    }
    #[test]
    fn no_bytes_make_a_key_or_a_signature_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = SignerKey::from_spki(&bytes);
        let _ = SignerKey::from_pem(&bytes);
        let key = SignerKey::from_pem(vector!("keys/secp256k1pub.pem")).unwrap();
        let digest = FileDigest { algorithm: b"sha256", bytes: &[1; 32] };
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        let signature = [&[3, 2, 4][..], &key.id(), &length, &bytes].concat();
        prop_assert!(SignerKeys::new(vec![key]).unwrap().verify(&signature, digest).is_err());
    }
}

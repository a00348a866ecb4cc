//! The root puts people in force, and others once more.
#![expect(clippy::unwrap_used, reason = "tests")]

use quotary_common::quorum::roster::Roster;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::*;
use crate::store::{MemoryStore, Reader as _, Scan};

const RULES: &str = "version = 1
[criticality.critical]
approvals = 1
approvers = ['operator']
approve_within_s = 3600
apply_within_s = 7200
delay_s_min = 60
";

fn roster(version: u64, name: &str) -> String {
    let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let pair = Ed25519KeyPair::from_seed_unchecked(&quotary_common::id::sha256(&[name.as_bytes()])).unwrap();
    let key = [&b"ssh-ed25519"[..], pair.public_key().as_ref()].map(string).concat();
    let key = data_encoding::BASE64.encode(&key);
    format!(
        "version = {version}\n[[people]]\nname = '{name}'\nroles = ['operator']\n[[people.keys]]\nkey = 'ssh-ed25519 {key}'\n\
         [[people]]\nname = '{name}-too'\nroles = ['operator']\n"
    )
}

fn documents(version: u64, name: &str) -> Documents {
    Documents {
        roster: Roster::parse(roster(version, name).as_bytes()).unwrap(),
        rules: Rules::parse(RULES.as_bytes()).unwrap(),
    }
}

#[test]
fn the_root_puts_others_in_force_only_when_it_is_told_that_it_is_again() {
    let directory = tempfile::tempdir().unwrap();
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let root = SigningKey::from_pkcs8(key.as_ref()).unwrap();
    let root_key = directory.path().join("root.pk8");
    std::fs::write(&root_key, key.as_ref()).unwrap();
    std::fs::write(directory.path().join(crate::keyring::file::ROOT_PUBLIC), root.public().hex()).unwrap();
    let mut store = MemoryStore::new();
    let mut put = |documents: &Documents, again| adopt(&mut store, directory.path(), &root_key, (documents, again));

    let (first, second) = (documents(1, "alice"), documents(2, "bob"));
    assert!(matches!(put(&first, true), Err(AuthorityError::NotInForce)));
    assert_eq!(put(&first, false).unwrap().number, 0);
    assert!(matches!(put(&second, false), Err(AuthorityError::InForce)));
    assert_eq!(put(&second, true).unwrap().number, 1);

    let now = governing(&store).unwrap().unwrap();
    assert_eq!((now.pin().number, now.roster().digest()), (1, second.roster.digest()));
    // Hosts know the root alone.
    let signed = quotary_common::sign::Signed::from_bytes(now.genesis_signed()).unwrap();
    let pinned = Authority::genesis(&signed, &root.public(), &deployment_of(&root.public())).unwrap();
    assert_eq!(pinned, *now.pin());
    assert_eq!(store.scan(&Scan::all(tables::AUTHORITY)).unwrap().len(), 1);
    let leaves = store.leaves(0, 10).unwrap();
    let numbers = leaves.iter().filter_map(|leaf| match Leaf::from_bytes(leaf).unwrap().decision {
        Decision::AuthoritySet(set) => Some(set.authority.number),
        _ => None,
    });
    assert_eq!(numbers.collect::<Vec<_>>(), [0, 1]);
}

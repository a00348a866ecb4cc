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

#[test]
fn first_rules_that_nobody_can_meet_are_refused_with_all_that_is_too_much() {
    let directory = tempfile::tempdir().unwrap();
    let (roster_file, rules_file) = (directory.path().join("roster.toml"), directory.path().join("quorum.toml"));
    let read = |roster: &str, rules: &str| {
        std::fs::write(&roster_file, roster).unwrap();
        std::fs::write(&rules_file, rules).unwrap();
        Documents::read(&roster_file, &rules_file, 1_790_000_000_000)
    };
    let level = |name: &str, approvals: usize, more: &str| {
        let clocks = "approve_within_s = 3600\napply_within_s = 7200\ndelay_s_min = 60";
        format!("[criticality.{name}]\napprovals = {approvals}\n{clocks}\n{more}\n")
    };
    let of = |levels: &[String]| format!("version = 1\n{}", levels.concat());
    let critical = level("critical", 1, "approvers = ['operator']");
    // The other one asks for it, and who has a key approves.
    read(&roster(1, "alice"), &of(std::slice::from_ref(&critical))).unwrap();

    let glass =
        "[break_glass]\nrole = 'rescue'\napprovals = 1\nlasts_s_max = 60\nreview_within_s = 60\nreview_approvals = 1\n";
    let too_many = of(&[level("critical", 2, "approvers = ['operator']"), critical.replace(".critical", ".high")]);
    let nobodys = of(&[level("critical", 1, "approvers = ['nobody']")]);
    let excluded = of(&[level("critical", 1, "approvers = ['operator']\nexclude = ['alice']")]);
    let in_haste = of(&[critical.replace("7200", "60")]);
    for (rules, whys) in [
        (too_many, &["`critical`: one person may vote on it, and that lacks 1 more person"][..]),
        (nobodys, &["`critical`: nobody may vote on it, and that lacks 1 more person"]),
        (excluded, &["`critical`: nobody may"]),
        (
            in_haste.clone(),
            &["`critical`: `delay_s_min` (60 s) leaves no effective time within `apply_within_s` (60 s)"],
        ),
        (in_haste.replace("'operator'", "'nobody'"), &["(60 s) of an approval; nobody may vote on it"]),
        (of(&[critical.clone(), glass.to_owned()]), &["break the glass (`break_glass`): nobody may"]),
        (
            of(&[level("critical", 2, "approvers = ['nobody']"), level("low", 1, "approvers = ['nobody']")]),
            &["`low`: nobody may", "`critical`: nobody may vote on it, and that lacks 2 more people"],
        ),
    ] {
        let refused = read(&roster(1, "alice"), &rules).unwrap_err();
        assert!(matches!(refused, AuthorityError::Unmeetable { .. }), "{refused:?}");
        let told = refused.to_string();
        assert!(whys.iter().all(|why| told.contains(why)), "{rules}: {told}");
        assert_eq!(told.matches("nobody could").count(), whys.len(), "{told}");
    }

    // One has a key: who breaks the glass, or holds, is the only one who could look at it afterwards.
    let emergencies = |role: &str| {
        format!(
            "[break_glass]\nrole = '{role}'\napprovals = 1\nlasts_s_max = 60\nreview_within_s = 60\nreview_approvals = 1\n\
             [freeze]\nrole = '{role}'\nlasts_s_max = 60\nreview_within_s = 60\nreview_approvals = 1\n"
        )
    };
    let refused = read(&roster(1, "alice"), &of(&[critical.clone(), emergencies("operator")])).unwrap_err().to_string();
    assert!(
        refused.contains(
            "a broken glass of criticality `low` could never be reviewed (`break_glass`): one person is missing"
        ),
        "{refused}"
    );
    assert!(refused.contains("a freeze of criticality `low` could never be reviewed (`freeze`)"), "{refused}");
    assert_eq!(refused.matches("could never").count(), 2, "{refused}");
    let rescuer = roster(1, "bob").replace("version = 1\n", "").replace("operator", "rescue");
    let read = read(&(roster(1, "alice") + &rescuer), &of(&[critical, emergencies("rescue")])).unwrap();
    assert!(read.rules.break_glass().is_some() && read.rules.freeze().is_some());
}

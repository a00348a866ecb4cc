//! The documents of the story: who decides, by which rules, and the policy.

use std::fmt::Write as _;

/// The change's delay window: what somebody asks for by `--in`.
pub(super) const DELAY_WINDOW: &str = "3m";
/// That of the revocation: somewhat more than the rule's least delay.
pub(super) const WAY_BACK: &str = "90s";
/// The policy's name.
pub(super) const POLICY: &str = "even-shares";
/// What each run may have under it.
pub(super) const LIMIT_BYTES: u64 = 128 << 20;
/// What is kept for each: below it nobody's limit goes without the quorum.
pub(super) const GUARANTEE_BYTES: u64 = 48 << 20;

/// A person of the roster.
#[derive(Debug, Clone, Copy)]
pub(super) struct Person {
    pub(super) name: &'static str,
    pub(super) roles: &'static [&'static str],
    /// How many keys.
    pub(super) keys: usize,
}

/// Who asks.
pub(super) const ALICE: &str = "alice";
/// Who has two keys.
pub(super) const BOB: &str = "bob";
/// Who use nothing but `ssh-keygen`.
pub(super) const WITH_SSH_KEYGEN: [&str; 2] = ["carol", "dave"];

/// Everybody who has a say.
pub(super) const PEOPLE: [Person; 4] = [
    Person { name: ALICE, roles: &["operator"], keys: 1 },
    Person { name: BOB, roles: &["operator"], keys: 2 },
    Person { name: WITH_SSH_KEYGEN[0], roles: &["security"], keys: 1 },
    Person { name: WITH_SSH_KEYGEN[1], roles: &["operator"], keys: 1 },
];

/// What a change takes, whatever its criticality: three people, one of them of security, and a minute between their word and the limits.
pub(super) const RULES: &str = "version = 1

[criticality.critical]
approvals = 3
roles = { security = 1 }
approvers = ['operator', 'security']
approve_within_s = 3600
apply_within_s = 3600
delay_s_min = 60
";

/// The roster, from the public keys of each person.
pub(super) fn roster<'k>(people: impl IntoIterator<Item = (&'k Person, Vec<&'k str>)>) -> String {
    let mut text = "version = 1\n".to_owned();
    for (person, keys) in people {
        let _infallible = write!(text, "\n[[people]]\nname = {:?}\nroles = {:?}\n", person.name, person.roles);
        for key in keys {
            let _infallible = write!(text, "[[people.keys]]\nkey = {key:?}\n");
        }
    }
    text
}

/// The policy: whoever runs on these hosts may have as much memory as the other.
pub(super) fn policy() -> String {
    format!(
        "name = {POLICY:?}\nversion = 1\ncriticality = \"high\"\n\
         description = \"Both tenants have the same: the shop gives half of its memory away, the lab gets twice what it had.\"\n\n\
         [select]\n\n[guarantee]\nmemory_bytes = {GUARANTEE_BYTES}\n\n[limit]\nmemory_bytes = {LIMIT_BYTES}\n"
    )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use quotary_common::quorum::criticality::Criticality;
    use quotary_common::quorum::roster::Roster;
    use quotary_common::quorum::rules::Rules;
    use quotary_common::units::ResourceKind;
    use quotary_decide::policy;
    use quotary_tests::world::{KeyKind, Signer};

    use super::*;
    use crate::policy::ramp::APPLICATIONS;

    #[test]
    fn the_policy_halves_what_one_tenant_has_and_grows_what_the_other_has() {
        let policy = policy::read(super::policy().as_bytes(), None).unwrap();
        assert_eq!((policy.name.as_str(), policy.criticality), (POLICY, Criticality::High));
        let limit = policy.limit.get(ResourceKind::Memory).unwrap();
        let [shop, lab] = APPLICATIONS;
        assert_eq!(shop.memory_bytes, 2 * limit);
        assert!(lab.memory_bytes < limit);
        // What they use fits: nobody is to be squeezed.
        assert!(APPLICATIONS.iter().all(|one| one.load_bytes * 3 / 2 < limit.min(one.memory_bytes)));
    }

    #[test]
    fn who_decides_is_read_by_the_program_as_it_is_written_here() {
        let temp = tempfile::tempdir().unwrap();
        let signers: Vec<Signer> =
            ["a", "b"].map(|name| Signer::make(temp.path(), name, KeyKind::Ed25519).unwrap()).to_vec();
        let keys = |person: &Person| signers.iter().take(person.keys).map(Signer::public).collect::<Vec<_>>();
        let roster = Roster::parse(roster([(&PEOPLE[1], keys(&PEOPLE[1]))]).as_bytes()).unwrap();
        assert_eq!(roster.people().next().unwrap().keys.len(), 2);
        let rules = Rules::parse(RULES.as_bytes()).unwrap();
        let rule = rules.rule(Criticality::High);
        // Everybody but who asks is needed, each once.
        assert_eq!(rule.approvals, PEOPLE.len() - 1);
        assert_eq!(PEOPLE.iter().filter(|person| person.roles.contains(&"security")).count(), 1);
        assert_eq!(rule.delay_ms_min, 60_000);
    }
}

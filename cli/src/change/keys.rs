//! Which key of the ssh-agent votes: the one that is on the roster.

use std::process::{Command, Stdio};

use quotary_common::quorum::roster::Roster;
use quotary_common::quorum::ssh::SshKey;

use super::sign::missing;
use crate::exit::{Code, Failure};

/// The program that lists an agent's keys.
const SSH_ADD: &str = "ssh-add";
/// Keys of an agent that are looked at.
const KEYS_MAX: usize = 256;

/// The keys that the agent offers; those of kinds that nothing here can check are left out.
///
/// # Errors
/// There is no agent.
pub(super) fn offered() -> Result<Vec<SshKey>, Failure> {
    if std::env::var_os("SSH_AUTH_SOCK").is_none_or(|socket| socket.is_empty()) {
        let what = "no key to sign with: give --key FILE, or start an ssh-agent (SSH_AUTH_SOCK is not set)";
        return Err(Failure::new(Code::Usage, what));
    }
    let mut command = Command::new(SSH_ADD);
    let listed = command.arg("-L").stdin(Stdio::null()).output().map_err(|error| missing(SSH_ADD, &error))?;
    // It ends with 1 where the agent has no key at all.
    if !matches!(listed.status.code(), Some(0 | 1)) {
        let what = format!("the ssh-agent does not answer ({SSH_ADD} -L, {}): give --key FILE", listed.status);
        return Err(Failure::new(Code::Unavailable, what));
    }
    let text = String::from_utf8_lossy(&listed.stdout);
    Ok(text.lines().take(KEYS_MAX).filter_map(|line| SshKey::parse(line.trim_end()).ok()).collect())
}

/// The one key that is on the roster and counts now.
///
/// # Errors
/// None is, or several are: which.
pub(super) fn choose(offered: Vec<SshKey>, roster: &Roster, now_ms: u64) -> Result<SshKey, String> {
    let count = offered.len();
    let holder = |key: &SshKey| roster.holder(&key.fingerprint());
    let (known, _): (Vec<SshKey>, Vec<SshKey>) = offered.into_iter().partition(|key| holder(key).is_some());
    let told = |keys: &[SshKey]| -> String {
        let line =
            |key: &SshKey| holder(key).map(|(person, _)| format!("\n  {} of {}", key.fingerprint(), person.name));
        keys.iter().filter_map(line).collect()
    };
    let is_valid = |key: &SshKey| holder(key).is_some_and(|(_, on_roster)| on_roster.is_valid_at(now_ms));
    let mut valid: Vec<SshKey> = known.iter().filter(|key| is_valid(key)).cloned().collect();
    match (valid.pop(), valid.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            valid.push(last);
            Err(format!(
                "several keys of the ssh-agent are on the roster; say which with --key FILE.pub:{}",
                told(&valid)
            ))
        }
        (None, _) if known.is_empty() => Err(format!(
            "none of the {count} keys of the ssh-agent is on the roster in force (version {}): `ssh-add` the right one, or \
             give --key FILE",
            roster.version()
        )),
        (None, _) => Err(format!("the keys of the ssh-agent that are on the roster do not count now:{}", told(&known))),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::policy::document::tests::roster as roster_text;

    fn roster(until: &str) -> Roster {
        let text = roster_text(3, &[("alice", "operator"), ("bob", "operator")]) + until;
        Roster::parse(text.as_bytes()).unwrap()
    }

    fn key(roster: &Roster, name: &str) -> SshKey {
        roster.people().find(|person| person.name.as_str() == name).unwrap().keys[0].key.clone()
    }

    #[test]
    fn exactly_one_key_on_the_roster_is_taken_and_several_are_told_apart() {
        let roster = roster("");
        let stranger = key(&Roster::parse(roster_text(1, &[("eve", "none")]).as_bytes()).unwrap(), "eve");
        let (alice, bob) = (key(&roster, "alice"), key(&roster, "bob"));
        assert_eq!(choose(vec![stranger.clone(), alice.clone()], &roster, 0), Ok(alice.clone()));
        let several = choose(vec![alice, bob.clone()], &roster, 0).unwrap_err();
        assert!(several.contains("of alice") && several.contains("of bob") && several.contains("--key"), "{several}");
        let none = choose(vec![stranger], &roster, 0).unwrap_err();
        assert!(none.contains("none of the 1 keys") && none.contains("version 3"), "{none}");
        assert!(choose(Vec::new(), &roster, 0).is_err());
    }

    #[test]
    fn a_key_whose_time_is_over_is_not_taken() {
        let roster = roster("valid_until = 2026-01-01T00:00:00Z\n");
        let (alice, bob) = (key(&roster, "alice"), key(&roster, "bob"));
        let now_ms = 1_795_330_800_000;
        assert_eq!(choose(vec![alice.clone(), bob.clone()], &roster, now_ms), Ok(alice));
        let over = choose(vec![bob], &roster, now_ms).unwrap_err();
        assert!(over.contains("do not count now") && over.contains("of bob"), "{over}");
    }
}

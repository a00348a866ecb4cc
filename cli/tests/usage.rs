//! Exit codes and help of the program as it is started.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

fn quotary(home: &std::path::Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quotary"));
    command.args(words).env_clear().env("HOME", home).stdin(Stdio::null()).output().unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_wrong_command_line_is_64_and_help_is_0() {
    let home = tempfile::tempdir().unwrap();
    for words in [
        &[][..],
        &["nonsense"],
        &["host"],
        &["run"],
        &["run", "--cpu", "much", "--", "true"],
        &["token", "join"],
        &["evidence", "show", "h-a", "no-digest"],
        &["login"],
    ] {
        let output = quotary(home.path(), words);
        // Without any words the help is shown, which is no success either.
        assert_eq!(output.status.code(), Some(64), "{words:?}: {}", errors(&output));
        assert!(!errors(&output).is_empty());
    }
    for words in [&["--help"][..], &["--version"], &["run", "--help"], &["audit", "verify", "--help"]] {
        let output = quotary(home.path(), words);
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert!(!output.stdout.is_empty());
    }
}

#[test]
fn not_logged_in_is_77_and_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let output = quotary(home.path(), &["status"]);
    assert_eq!(output.status.code(), Some(77));
    assert!(errors(&output).contains("quotary login"), "{}", errors(&output));
}

#[test]
fn an_unreadable_credentials_file_is_2_and_an_open_one_77() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("c.toml");
    std::fs::write(&path, "nothing = 1\n").unwrap();
    for (mode, code) in [(0o600, 2), (0o644, 77)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let output = quotary(home.path(), &["--credentials", path.to_str().unwrap(), "status"]);
        assert_eq!(output.status.code(), Some(code), "{}", errors(&output));
    }
}

#[test]
fn login_keeps_a_pasted_token_and_an_unreachable_verifier_is_69() {
    let home = tempfile::tempdir().unwrap();
    let token = home.path().join("token");
    std::fs::write(&token, format!("qot1.{}\n", "A".repeat(43))).unwrap();
    let pin = "ab".repeat(32);
    // Nobody listens on the discard port of this machine.
    let words = |offline: bool| {
        let mut words = vec!["login", "--verifier", "https://127.0.0.1:9", "--ca-pin", &pin, "--token-file"];
        words.push(token.to_str().unwrap());
        words.extend(offline.then_some("--offline"));
        words
    };
    let output = quotary(home.path(), &words(false));
    assert_eq!(output.status.code(), Some(69), "{}", errors(&output));
    let kept = home.path().join(".config/quotary/credentials.toml");
    assert!(!kept.exists(), "what was not taken is not kept");
    let output = quotary(home.path(), &words(true));
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    let output = quotary(home.path(), &["host", "list"]);
    assert_eq!(output.status.code(), Some(69), "{}", errors(&output));
    std::fs::write(&token, "not a token\n").unwrap();
    assert_eq!(quotary(home.path(), &words(true)).status.code(), Some(2));
}

#[test]
fn a_directory_that_is_no_copy_of_a_log_is_2() {
    let home = tempfile::tempdir().unwrap();
    let output = quotary(home.path(), &["audit", "verify", home.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
    assert!(errors(&output).contains("quotary audit fetch"), "{}", errors(&output));
    let output = quotary(home.path(), &["audit", "verify", "/nonexistent", "--root-key", "xyz"]);
    assert_eq!(output.status.code(), Some(64), "{}", errors(&output));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let home = tempfile::tempdir().unwrap();
    let script = format!("{} --help | true", env!("CARGO_BIN_EXE_quotary"));
    let output = Command::new("sh").args(["-c", &script]).env("HOME", home.path()).output().unwrap();
    assert_eq!(errors(&output), "");
}

#[test]
fn documents_are_checked_and_compared_without_asking_anybody() {
    let home = tempfile::tempdir().unwrap();
    let policy = "name = 'gold'\nversion = 3\ncriticality = 'high'\n[select]\ntenant = 'shop'\n[limit]\nmemory_bytes = 536870912\n";
    let write = |name: &str, text: &str| {
        let path = home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = write("gold.toml", policy);
    let next = write("next.toml", &policy.replace("= 3", "= 4").replace("536870912", "268435456"));
    let bad = write("bad.toml", &policy.replace("'high'", "'huge'").replace("= 3", "= 0"));
    let output = quotary(home.path(), &["policy", "check", &good, &next]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let output = quotary(home.path(), &["policy", "check", &good, &bad]);
    let told = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}{}", errors(&output));
    for part in ["gold.toml: policy gold, version 3, no fault\n", "bad.toml:2: version: ", "bad.toml:3: criticality: "]
    {
        assert!(told.contains(part), "{part} in {told}");
    }
    let output = quotary(home.path(), &["--json", "policy", "check", &bad]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json[0]["faults"][0]["field"], &json[0]["faults"][1]["line"]), (&"version".into(), &3.into()));
    assert_eq!(quotary(home.path(), &["policy", "check", "/nonexistent.toml"]).status.code(), Some(2));
    let output = quotary(home.path(), &["--json", "policy", "diff", &good, &next]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        json["changes"][0],
        serde_json::json!({"field": "limit.memory_bytes", "old": 536_870_912, "new": 268_435_456})
    );
    assert_eq!(
        quotary(home.path(), &["policy", "diff", &good]).status.code(),
        Some(77),
        "in force is what the verifier says"
    );
}

#[test]
fn help_of_each_vote_has_its_own_examples_and_namespace() {
    let home = tempfile::tempdir().unwrap();
    let help = |verb: &str| String::from_utf8(quotary(home.path(), &["change", verb, "--help"]).stdout).unwrap();
    for (verb, namespace) in [
        ("approve", "quotary-approval-v1@"),
        ("reject", "quotary-rejection-v1@"),
        ("withdraw-vote", "quotary-withdrawal-v1@"),
        ("break-glass", "quotary-break-glass-v1@"),
        ("review", "quotary-review-v1@"),
    ] {
        let told = help(verb);
        assert!(told.contains(&format!("  quotary change {verb} c-4f2a --key ~/.ssh/id ")), "{told}");
        assert!(told.contains(&format!("ssh-keygen -Y sign -n {namespace}")), "{told}");
        assert!(help("export").contains(namespace), "{verb}");
    }
    assert!(help("withdraw-vote").contains("final"));
    assert!(help("edit").contains("quotary change edit [OPTIONS] <ID> <FILE|--revoke <NAME>>"));
}

#[test]
fn faults_are_told_although_another_file_is_not_there() {
    let home = tempfile::tempdir().unwrap();
    let bad = home.path().join("bad.toml");
    std::fs::write(&bad, "name = 'gold'\nversion = 0\n").unwrap();
    let output = quotary(home.path(), &["policy", "check", "/nonexistent/roster.toml", bad.to_str().unwrap()]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("/nonexistent/roster.toml: ") && told.contains("bad.toml:2: version: "), "{told}");
}

//! The house's rules that a test can hold (docs/ARCHITECTURE.md).
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

struct Source {
    /// Below the workspace's root.
    path: String,
    text: String,
}

impl Source {
    /// The code before the file's own tests: `#[cfg(test)]` before a `mod` with a body, at the margin.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let begins_tests = |at: &usize| {
            let after = lines[at + 1..].iter().find(|line| !line.starts_with("#["));
            lines[*at] == "#[cfg(test)]" && after.is_some_and(|line| line.contains("mod ") && line.ends_with('{'))
        };
        let end = (0..lines.len()).find(begins_tests).unwrap_or(lines.len());
        let code = lines.into_iter().take(end).enumerate().map(|(n, line)| (n + 1, line.trim_start()));
        code.filter(|(_, line)| !line.starts_with("//"))
    }
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/") || self.path.contains("tests.rs")
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().unwrap() != "target" {
            walk(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    for room in ["common", "agent", "verifier", "cli", "models", "tests"] {
        walk(&root().join(room), &mut paths);
    }
    assert!(paths.len() > 100, "the walk found {} files only", paths.len());
    let read = |path: PathBuf| Source {
        text: std::fs::read_to_string(&path).unwrap(),
        path: path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(),
    };
    paths.into_iter().map(read).collect()
}

fn offences(of: impl Fn(&Source) -> Vec<String>) {
    let found: Vec<String> = sources().iter().flat_map(of).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn lines_with(source: &Source, words: &[&str]) -> Vec<String> {
    let hit = |line: &str| words.iter().any(|word| line.contains(word));
    source.code().filter(|(_, line)| hit(line)).map(|(n, line)| format!("{}:{n}: {line}", source.path)).collect()
}

#[test]
fn what_must_be_pure_reads_no_clock_file_socket_or_chance() {
    let banned = [
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "SystemTime",
        "Instant::now",
        "tokio::",
        "SystemRandom::new",
        "std::thread",
        "rustix",
    ];
    offences(|source| {
        let rooms = ["common/src/", "verifier/decide/src/", "agent/src/shape/controller/"];
        let pure = rooms.iter().any(|room| source.path.starts_with(room));
        if pure && !source.is_test() { lines_with(source, &banned) } else { Vec::new() }
    });
}

#[test]
fn crates_import_only_whom_they_may() {
    for (manifest, banned) in [
        ("common/Cargo.toml", &["quotary-", "tokio", "hyper", "rustls"][..]),
        ("common/client/Cargo.toml", &["quotary-agent", "quotary-decide", "quotary-verifier", "quotary-models"]),
        ("agent/Cargo.toml", &["quotary-decide", "quotary-verifier", "quotary-models"]),
        (
            "verifier/decide/Cargo.toml",
            &["quotary-agent", "quotary-client", "quotary-verifier", "quotary-models", "tokio"],
        ),
        ("verifier/Cargo.toml", &["quotary-agent", "quotary-client", "tss-esapi"]),
        ("cli/Cargo.toml", &["quotary-agent", "quotary-verifier", "quotary-models", "tract"]),
        ("models/Cargo.toml", &["quotary-agent", "quotary-client", "quotary-verifier", "quotary-cli", "tokio"]),
    ] {
        let text = std::fs::read_to_string(root().join(manifest)).unwrap();
        let dependencies = text.split("[dependencies]").nth(1).unwrap().split("[dev-dependencies]").next().unwrap();
        for word in banned {
            let found = dependencies.lines().find(|line| line.starts_with(word));
            assert!(found.is_none(), "{manifest} imports {found:?}");
        }
    }
}

#[test]
fn nothing_is_unsafe() {
    offences(|source| {
        lines_with(source, &[concat!("unsafe", " {"), concat!("unsafe", " fn"), concat!("unsafe", " impl")])
    });
}

#[test]
fn no_file_is_a_giant_or_a_drawer() {
    offences(|source| {
        let mut found = Vec::new();
        let (lines, cap) = (source.text.lines().count(), if source.is_test() { 600 } else { 500 });
        if lines > cap {
            found.push(format!("{}: {lines} lines, at most {cap}", source.path));
        }
        let name = source.path.rsplit('/').next().unwrap();
        if ["util", "helper", "misc", "manager", "common.rs"].iter().any(|word| name.contains(word)) {
            found.push(format!("{}: name it by what it does", source.path));
        }
        found
    });
}

#[test]
fn every_door_says_what_it_does() {
    offences(|source| {
        let name = source.path.rsplit('/').next().unwrap();
        let is_door = ["mod.rs", "lib.rs", "main.rs"].contains(&name);
        if is_door && !source.text.starts_with("//!") {
            vec![format!("{} has no header", source.path)]
        } else {
            Vec::new()
        }
    });
}

#[test]
fn nothing_is_left_for_later() {
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("unimplemented", "!("),
        concat!("to", "do!("),
    ];
    offences(|source| {
        let hit = |line: &str| words.iter().any(|word| line.contains(word));
        let lines = source.text.lines().enumerate().filter(|(_, line)| hit(line));
        lines.map(|(n, line)| format!("{}:{}: {line}", source.path, n + 1)).collect()
    });
}

#[test]
fn every_test_that_the_list_of_attacks_names_is_there() {
    let page = std::fs::read_to_string(root().join("docs/ATTACKS.md")).unwrap();
    let text: String = sources().into_iter().map(|source| source.text).collect();
    // A name in backticks, all small letters: the tests' column has no others.
    let named: Vec<&str> = page.split('`').skip(1).step_by(2).filter(|name| name.contains('_')).collect();
    assert!(named.len() > 40, "{} tests are named only", named.len());
    for attack in 1..=25 {
        assert!(page.contains(&format!("\n| A{attack} |")), "A{attack} is missing");
    }
    let missing: Vec<&str> = named.into_iter().filter(|name| !text.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_wiring_alone_names_real_adapters() {
    offences(|source| {
        let allowed = ["verifier/src/wiring.rs", "verifier/src/init.rs"].contains(&source.path.as_str())
            || !source.path.starts_with("verifier/src/")
            || source.path.starts_with("verifier/src/store/");
        if allowed || source.is_test() { Vec::new() } else { lines_with(source, &["SqliteStore::open"]) }
    });
}

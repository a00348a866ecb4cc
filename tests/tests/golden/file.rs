//! A form held against the bytes that are kept.

use std::path::{Path, PathBuf};

pub(super) fn golden(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    let text = if name.ends_with(".hex") {
        let hex = data_encoding::HEXLOWER.encode(bytes);
        hex.as_bytes().chunks(96).map(|line| format!("{}\n", std::str::from_utf8(line).unwrap())).collect::<String>()
    } else {
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    if !path.exists() && std::env::var_os("QUOTARY_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_else(|error| panic_missing(&path, &error));
    assert_eq!(text, kept, "the form of {name} changed: it needs a new version");
}

#[expect(clippy::panic, reason = "a test that cannot go on")]
fn panic_missing(path: &Path, error: &std::io::Error) -> String {
    panic!("{}: {error}", path.display())
}

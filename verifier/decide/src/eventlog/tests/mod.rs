//! Tests of the room, over logs of real machines and logs made to deceive.

mod bounds;
mod build;
mod hostile;
mod judge;
mod property;
mod stages;
mod vectors;

use std::path::PathBuf;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/attestation").join(name)
}
fn read(folder_name: &str, file: &str) -> Vec<u8> {
    let path = folder(folder_name).join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

//! A working state over a store in memory, for tests of the writer's parts.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use quotary_common::id::DeploymentId;
use quotary_common::leaf::{Decision, Leaf};
use quotary_common::sign::SigningKey;
use quotary_decide::registry::Admission;
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;

use super::standing::Ground;
use super::state::{Settings, State, Step};
use crate::config;
use crate::store::{MemoryStore, Store as _};

/// When tests are.
pub(super) const NOW_MS: u64 = 1_700_000_000_000;

const CONFIGURATION: &str = r#"
    name = "v1"
    data_dir = "data"
    listen = "127.0.0.1:0"
    url = "https://localhost:7443"
    [[zone]]
    name = "measured"
"#;

/// The state that a store holds, as after a start.
pub(super) fn load(store: &MemoryStore) -> State {
    let config = config::parse(CONFIGURATION, Path::new("/x"), Path::new("verifier.toml")).unwrap();
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let (zones, rules) = (Arc::new(config.zones), Arc::new(config.rules));
    let ground = Ground { rules, zones, forecasts: Default::default() };
    let settings = Settings {
        deployment: DeploymentId::of(&[b"tests"]),
        grant_key: SigningKey::from_pkcs8(key.as_ref()).unwrap(),
        admission: Admission::default(),
        ground,
        timing: config.timing,
        evidence_keep_per_host: 1,
        history_keep_ms: 86_400_000,
        contest: Default::default(),
        tell: crate::teller::Teller::new(Vec::new(), Default::default()).1,
    };
    super::load(Arc::new(settings), store, NOW_MS).unwrap()
}

/// Makes a step durable; what its leaves say.
pub(super) fn commit(store: &mut MemoryStore, step: &Step) -> Vec<Decision> {
    let outcomes = store.commit(std::slice::from_ref(&step.batch)).unwrap();
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    step.batch.leaves.iter().map(|leaf| Leaf::from_bytes(leaf).unwrap().decision).collect()
}

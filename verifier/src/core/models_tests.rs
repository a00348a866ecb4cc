//! Models in the writer: what is committed, and what a start makes of it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use tokio::sync::oneshot;

use super::super::testing::{NOW_MS, commit, load};
use super::*;
use crate::store::{MemoryStore, Scan};

fn built_in() -> Arc<Model> {
    let (manifest, onnx) = quotary_models::shipped_files();
    Arc::new(Model::load(manifest, onnx).unwrap())
}

/// The shipped model with a note at its end (`doc_string`, field 6 of ONNX's `ModelProto`), and its two files.
fn another() -> (Arc<Model>, Vec<u8>, Vec<u8>) {
    let (manifest, onnx) = quotary_models::shipped_files();
    let onnx = [onnx, &[6 << 3 | 2, 4], b"site"].concat();
    let mut manifest: serde_json::Value = serde_json::from_slice(manifest).unwrap();
    manifest["sha256"] = Digest::of(&[&onnx]).hex().into();
    manifest["name"] = "site".into();
    let manifest = manifest.to_string().into_bytes();
    (Arc::new(Model::load(&manifest, &onnx).unwrap()), manifest, onnx)
}

fn change(state: &mut State, change: &ModelsChange) -> Step {
    let (answer, _answered) = oneshot::channel();
    state.change_models(change, "token t-1", answer, NOW_MS)
}

/// A start on what the store holds.
fn restarted(store: &MemoryStore) -> State {
    let mut state = load(store);
    state.use_models(load_models(store, Some(built_in())).unwrap());
    state
}

#[test]
fn a_champion_that_drifts_gives_its_place_back_with_a_leaf_and_a_restart_keeps_to_it() {
    let mut store = MemoryStore::new();
    let mut state = restarted(&store);
    let (model, manifest, onnx) = another();
    let (new, old) = (digest_of(&model), digest_of(&built_in()));
    let shadow = change(&mut state, &ModelsChange::Shadow { model, manifest, onnx });
    let _shadowed = commit(&mut store, &shadow);
    let record: Arc<[u8]> = Record::default().to_bytes().into();
    let promotion = ModelsChange::Promote { challenger: new, champion: Some(old), record, why: "figures".to_owned() };
    let promoted = change(&mut state, &promotion);
    let _promoted = commit(&mut store, &promoted);

    let mut state = restarted(&store);
    let of = |model: &Option<Arc<Model>>| model.as_deref().map(digest_of);
    assert_eq!((of(&state.models.champion), of(&state.models.before)), (Some(new), Some(old)));
    // Drift that was measured of another champion moves nothing.
    let stale = state.return_model(&old, 0.5, NOW_MS);
    assert!(stale.batch.leaves.is_empty() && stale.batch.puts.is_empty());

    let returned = state.return_model(&new, 0.512, NOW_MS);
    let [Decision::ModelChanged(told)] = &commit(&mut store, &returned)[..] else { panic!("one leaf of one kind") };
    assert_eq!((told.change, told.model, told.champion), (ModelChange::Returned, new, Some(old)));
    assert!(told.why.as_str().contains("0.512"), "{}", told.why.as_str());
    // Told again before the forecaster knows: nothing more happens.
    assert!(state.return_model(&new, 0.512, NOW_MS).batch.leaves.is_empty());

    let state = restarted(&store);
    assert_eq!((of(&state.models.champion), of(&state.models.before)), (Some(old), None));
    let rows = store.scan(&Scan::all(tables::MODELS)).unwrap();
    let names: Vec<String> =
        rows.iter().map(|row| String::from_utf8_lossy(&row.key[..row.key.len().min(5)]).into_owned()).collect();
    assert!(names.iter().all(|name| name.starts_with("set") || name.starts_with("proof")), "{names:?}");
}

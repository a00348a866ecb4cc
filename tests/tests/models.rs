//! Models: tried beside the one that forecasts, promoted on proof alone, rolled back; over restarts, each a leaf.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use quotary_common::id::Digest;
use quotary_common::leaf::{Decision, ModelChange};
use quotary_common::units::ResourceKind;
use quotary_common::wire::{ListModels, ModelsView, Nothing, Right, ShowStatus};
use quotary_decide::contest::{Record, SeriesHour};
use quotary_tests::host::Operator;
use quotary_tests::world::{Options, PATIENCE, World};
use quotary_verifier::store::{Batch, Partition, Reader as _, Scan, SqliteStore, Store as _, Table};

const MODELS: Table = Table::new("models");

/// The two files of a model that is another by name and digest: the shipped one with a note at its end (`doc_string`, field 6 of ONNX's
/// `ModelProto`, of which the last counts).
fn another(world: &World, name: &str) -> (PathBuf, PathBuf, Digest) {
    let (manifest, onnx) = quotary_models::shipped_files();
    let onnx = [onnx, &[6 << 3 | 2, u8::try_from(name.len()).unwrap()], name.as_bytes()].concat();
    let sha256 = Digest::of(&[&onnx]);
    let mut manifest: serde_json::Value = serde_json::from_slice(manifest).unwrap();
    manifest["sha256"] = sha256.hex().into();
    manifest["name"] = name.into();
    let (manifest_path, onnx_path) = (world.path(&format!("{name}.json")), world.path(&format!("{name}.onnx")));
    std::fs::write(&manifest_path, manifest.to_string()).unwrap();
    std::fs::write(&onnx_path, onnx).unwrap();
    (manifest_path, onnx_path, sha256)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn models(world: &World) -> ModelsView {
    world.cli_json(&["model", "list"]).unwrap()
}

/// What proves the second model better: 200 hours of two series.
fn proof() -> Record {
    let mut record = Record::default();
    for hour in 0..200_u64 {
        for series in 0..2_u64 {
            let loss = 1.0 + ((hour * 7 + series) % 5) as f64 / 10.0;
            let champion = SeriesHour { loss, steps: 12, covered: 11, peak_share: 0.9, mean_share: 0.5 };
            let covered = 11 + u32::try_from((hour + series) % 2).unwrap();
            record.add(
                ResourceKind::Cpu.into(),
                hour,
                &champion,
                &SeriesHour { loss: loss * 0.8, covered, ..champion },
            );
        }
    }
    record
}

#[test]
fn a_model_is_tried_promoted_on_proof_alone_and_rolled_back() {
    let mut world = World::new(Options::quick(0)).unwrap();
    world.start_verifier().unwrap();
    let runtime = world.runtime().handle().clone();
    let operator = Operator::of(&world).unwrap();
    let built_in = models(&world).champion.unwrap();
    assert!(models(&world).challenger.is_none() && models(&world).contest.is_none());

    // Offline first: what cannot be used is told, with its reason.
    let (manifest, onnx, sha256) = another(&world, "site-1");
    let verify = |manifest: &Path| {
        let mut offline = std::process::Command::new(world.binaries().path("quotary-offline"));
        offline.args(["model", "verify", text(manifest), text(&onnx)]).output().unwrap()
    };
    let told = String::from_utf8(verify(&manifest).stdout).unwrap();
    assert!(told.contains("site-1 can be used") && told.contains(&sha256.hex()), "{told}");
    let (shipped, _) = quotary_models::shipped_files();
    std::fs::write(world.path("wrong.json"), shipped).unwrap();
    let shadow = world.cli(&["model", "shadow", text(&world.path("wrong.json")), text(&onnx)]).unwrap();
    for refused in [verify(&world.path("wrong.json")), shadow] {
        assert_eq!(refused.status.code(), Some(1));
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(error.contains(&sha256.hex()), "it says which digest it found: {error}");
    }
    // The one that forecasts cannot be tried against itself; nothing is there to promote or to go back to.
    std::fs::write(world.path("same.onnx"), quotary_models::shipped_files().1).unwrap();
    let (same, hex) = ([world.path("wrong.json"), world.path("same.onnx")], sha256.hex());
    let refusals: [&[&str]; 4] = [
        &["model", "shadow", text(&same[0]), text(&same[1])],
        &["model", "promote", &hex],
        &["model", "rollback", "--why", "nothing"],
        &["model", "withdraw"],
    ];
    for refused in refusals {
        assert_eq!(world.cli(refused).unwrap().status.code(), Some(1), "{refused:?}");
    }
    assert_eq!(models(&world).champion.unwrap().sha256, built_in.sha256);

    // Tried: it takes nobody's place without proof, and a reader may not change anything.
    let _tried = world.cli_ok(&["model", "shadow", text(&manifest), text(&onnx)]).unwrap();
    let view = models(&world);
    assert_eq!((view.challenger.unwrap().sha256, view.champion.unwrap().sha256), (sha256, built_in.sha256));
    assert!(!view.contest.unwrap().may_promote && models(&world).challenger.unwrap().since_ms.is_some());
    // One trial at a time: another would end this one unseen.
    let (other, other_onnx, _) = another(&world, "site-2");
    assert_eq!(world.cli(&["model", "shadow", text(&other), text(&other_onnx)]).unwrap().status.code(), Some(1));
    let unproven = world.cli(&["model", "promote", &sha256.hex()]).unwrap();
    assert_eq!(unproven.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unproven.stderr).contains("not proven better"));
    runtime.block_on(async {
        let reader = operator.operator_token(&[Right::Read], 60_000).await.unwrap();
        let reader = operator.with_token(Some(&reader)).unwrap();
        assert!(reader.call::<ListModels>(&[], &Nothing {}).await.is_ok());
        assert!(reader.call::<quotary_common::wire::WithdrawModel>(&[], &Nothing {}).await.is_err());
    });

    // Killed; while it is down its contest's record becomes one that proves it better.
    world.kill_verifier();
    let mut store = SqliteStore::open(&world.path("verifier")).unwrap();
    let key = [b"record".as_slice(), built_in.sha256.as_bytes(), sha256.as_bytes()].concat();
    let batch = Batch::default().put(MODELS, Partition::Deployment, key, proof().to_bytes());
    store.commit(&[batch]).unwrap();
    drop(store);
    world.start_verifier().unwrap();
    assert_eq!(models(&world).challenger.unwrap().sha256, sha256, "a trial goes on over a restart");
    let proven = world.wait("the proof to be judged", PATIENCE, |world| {
        let contest: ModelsView = world.cli_json(&["model", "list"])?;
        Ok(contest.contest.filter(|contest| contest.may_promote))
    });
    assert!(proven.unwrap().record.is_some());
    let _promoted = world.cli_ok(&["model", "promote", &sha256.hex()[..8]]).unwrap();
    let view = models(&world);
    let (champion, before) = (view.champion.unwrap(), view.before.unwrap());
    assert_eq!((champion.sha256, before.sha256), (sha256, built_in.sha256));
    assert!(champion.since_ms.is_some() && view.challenger.is_none() && view.contest.is_none());
    let status = runtime.block_on(operator.client.call::<ShowStatus>(&[], &Nothing {})).unwrap();
    assert!(status.model.contains("site-1"), "{}", status.model);

    // It is the champion after a restart too, until an operator goes back.
    world.kill_verifier();
    world.start_verifier().unwrap();
    assert_eq!(models(&world).champion.unwrap().sha256, sha256);
    let _back = world.cli_ok(&["model", "rollback", "--why", "a try"]).unwrap();
    let view = models(&world);
    assert_eq!(view.champion.unwrap().sha256, built_in.sha256);
    assert!(view.before.is_none() && view.challenger.is_none());

    let leaves = runtime.block_on(operator.leaves(0)).unwrap();
    let told: Vec<(ModelChange, Option<Digest>)> = leaves
        .iter()
        .filter_map(|leaf| match &leaf.decision {
            Decision::ModelChanged(changed) if changed.model == sha256 => Some((changed.change, changed.champion)),
            _ => None,
        })
        .collect();
    let expected = [
        (ModelChange::Shadowed, Some(built_in.sha256)),
        (ModelChange::Promoted, Some(sha256)),
        (ModelChange::RolledBack, Some(built_in.sha256)),
    ];
    assert_eq!(told, expected);
    // Files that nobody names are not kept.
    world.kill_verifier();
    let store = SqliteStore::open(&world.path("verifier")).unwrap();
    let rows = store.scan(&Scan::all(MODELS).limit(64)).unwrap();
    let proof = [b"proof".as_slice(), Digest::of(&[&proof().to_bytes()]).as_bytes()].concat();
    assert_eq!(rows.iter().map(|row| row.key.as_slice()).collect::<Vec<_>>(), [proof.as_slice(), b"set"]);
}

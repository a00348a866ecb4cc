//! Models that must be refused.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn manifest_with(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut manifest: Value = serde_json::from_slice(SHIPPED_MANIFEST).unwrap();
    change(&mut manifest);
    manifest.to_string().into_bytes()
}

fn manifest_pinning(onnx: &[u8]) -> Vec<u8> {
    let sha256 = data_encoding::HEXLOWER.encode(digest(&SHA256, onnx).as_ref());
    manifest_with(|manifest| manifest["sha256"] = json!(sha256))
}

#[test]
fn a_file_with_another_digest_is_refused() {
    let mut altered = SHIPPED_ONNX.to_vec();
    altered[500_000] ^= 1;
    assert!(matches!(Model::load(SHIPPED_MANIFEST, &altered), Err(ModelError::Digest { .. })));
    let wrong = manifest_with(|manifest| manifest["sha256"] = json!("00".repeat(32)));
    assert!(matches!(Model::load(&wrong, SHIPPED_ONNX), Err(ModelError::Digest { .. })));
}

#[test]
fn a_truncated_file_is_refused_even_when_the_manifest_pins_it() {
    for length in [0, 1, 100, 5_000, SHIPPED_ONNX.len() / 2, SHIPPED_ONNX.len() - 1] {
        let truncated = &SHIPPED_ONNX[..length];
        assert!(matches!(Model::load(SHIPPED_MANIFEST, truncated), Err(ModelError::Digest { .. })));
        let error = Model::load(&manifest_pinning(truncated), truncated).unwrap_err();
        assert!(matches!(error, ModelError::Load { .. } | ModelError::Opset { .. }), "{length}: {error}");
    }
}

#[test]
fn a_file_that_makes_the_engine_panic_is_refused() {
    // Renames an input in the graph's list of inputs, so that nodes name a tensor that is nowhere.
    let mut damaged = SHIPPED_ONNX.to_vec();
    let at = damaged.windows(8).rposition(|window| window == b"features").unwrap();
    damaged[at] = b'x';
    let error = Model::load(&manifest_pinning(&damaged), &damaged).unwrap_err();
    assert!(matches!(error, ModelError::Load { .. }), "{error}");
}

#[test]
fn a_graph_with_an_unknown_operator_or_a_large_attribute_is_refused() {
    let mut unknown = SHIPPED_ONNX.to_vec();
    let at = unknown.windows(8).position(|window| window == b"Softplus").unwrap();
    unknown[at..at + 8].copy_from_slice(b"Softsign");
    let error = Model::load(&manifest_pinning(&unknown), &unknown).unwrap_err();
    assert!(error.to_string().contains("Softsign"), "{error}");

    // Axis -1 as a varint is nine bytes 0xff and one 0x01; with its last bits changed it is a huge negative number.
    let mut large = SHIPPED_ONNX.to_vec();
    let minus_one = [0xff_u8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let at = large.windows(10).position(|window| window == minus_one).unwrap();
    large[at + 8] = 0xbf;
    let error = Model::load(&manifest_pinning(&large), &large).unwrap_err();
    assert!(error.to_string().contains("axis"), "{error}");
}

#[test]
fn a_graph_that_would_grow_without_end_is_refused_before_anything_runs() {
    use tract_onnx::pb::{ModelProto, NodeProto};
    use tract_onnx::prelude::Framework as _;

    let framework = tract_onnx::onnx();
    let grown = |joins: usize, width: usize| {
        let mut proto: ModelProto = framework.proto_model_for_read(&mut &*SHIPPED_ONNX).unwrap();
        let graph = proto.graph.as_mut().unwrap();
        let mut name = "features".to_owned();
        let mut nodes = Vec::new();
        for at in 0..joins {
            let next = format!("grown_{at}");
            let mut join = NodeProto { op_type: "Concat".to_owned(), ..NodeProto::default() };
            join.input = vec![name; width];
            join.output = vec![next.clone()];
            let axis = graph.node.iter().flat_map(|node| &node.attribute).find(|one| one.name == "axis").unwrap();
            let mut axis = axis.clone();
            axis.i = 0;
            join.attribute = vec![axis];
            nodes.push(join);
            name = next;
        }
        nodes.append(&mut graph.node);
        graph.node = nodes;
        proto
    };
    for (joins, width) in [(30, 2), (1, 30)] {
        let manifest = crate::manifest::Manifest::check(SHIPPED_MANIFEST).unwrap();
        let refused = format!("{:?}", crate::graph::check(&manifest, &grown(joins, width)).unwrap_err());
        assert!(refused.contains("joins"), "{refused}");
    }
}

#[test]
fn an_oversized_file_is_refused() {
    let large = vec![0; MAX_MODEL_BYTES + 1];
    assert!(matches!(Model::load(&manifest_pinning(&large), &large), Err(ModelError::ModelTooLarge { .. })));
}

#[test]
fn a_manifest_that_does_not_fit_the_file_is_refused() {
    let opset = manifest_with(|manifest| manifest["opset"] = json!(18));
    assert!(matches!(Model::load(&opset, SHIPPED_ONNX), Err(ModelError::Opset { .. })));

    // Everything in the manifest agrees on three kinds of resource; the file has four.
    let narrow = manifest_with(|manifest| {
        manifest["resources"] = json!(["cpu", "memory", "disk"]);
        manifest["sections"][8][1] = json!(3);
        manifest["inputs"][0]["shape"][1] = json!(manifest["inputs"][0]["shape"][1].as_u64().unwrap() - 1);
    });
    let error = Model::load(&narrow, SHIPPED_ONNX).unwrap_err();
    assert!(matches!(error, ModelError::Load { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// The engine panics on some of these and says so on stderr; the error is contained.
    #[test]
    fn a_damaged_file_that_the_manifest_pins_is_refused_or_forecasts_soundly(at in 0..6_000_usize, byte: u8, front: bool) {
        let mut damaged = SHIPPED_ONNX.to_vec();
        let at = if front { at } else { damaged.len() - 1 - at };
        damaged[at] = byte;
        if let Ok(model) = Model::load(&manifest_pinning(&damaged), &damaged) {
            match model.forecast(&of(ResourceKind::Cpu, &[Some(1.0), Some(2.0)])) {
                Ok(quantiles) => prop_assert!(quantiles.steps().iter().flatten().all(|value| value.is_finite())),
                Err(error) => prop_assert!(matches!(error, ModelError::NotFinite { .. }), "{}", error),
            }
        }
    }
}

//! `quotary model verify`: loads a model as the verifier would.

use quotary_cli::args::ModelFiles;
use quotary_cli::exit::{Code, Failure};
use quotary_cli::input::read;
use quotary_models::{MAX_MANIFEST_BYTES, MAX_MODEL_BYTES, Model};
use serde::Serialize;

/// What a model that can be used is.
#[derive(Debug, Serialize)]
struct Verified {
    name: String,
    sha256: String,
    onnx_bytes: usize,
    wql_ratio_to_ewma: f64,
    #[serde(rename = "coverage_0.9")]
    coverage_p90: f64,
    #[serde(rename = "coverage_0.95")]
    coverage_p95: f64,
    #[serde(rename = "coverage_0.99")]
    coverage_p99: f64,
}

/// Loads it and tells what it is.
pub(crate) fn verify(files: &ModelFiles, json: bool) -> Result<(), Failure> {
    let manifest = read(&files.manifest, MAX_MANIFEST_BYTES)?;
    let onnx = read(&files.onnx, MAX_MODEL_BYTES)?;
    let model = Model::load(&manifest, &onnx).map_err(|error| Failure::of(Code::Refused, &error))?;
    let (reference, held_out) = (model.reference(), model.held_out());
    let verified = Verified {
        name: reference.name.clone(),
        sha256: reference.sha256.clone(),
        onnx_bytes: onnx.len(),
        wql_ratio_to_ewma: held_out.wql_ratio_to_ewma,
        coverage_p90: held_out.coverage_p90,
        coverage_p95: held_out.coverage_p95,
        coverage_p99: held_out.coverage_p99,
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&verified).unwrap_or_default());
        return Ok(());
    }
    let Verified { name, sha256, onnx_bytes, wql_ratio_to_ewma, coverage_p90, coverage_p95, coverage_p99 } = verified;
    println!("{name} can be used: {onnx_bytes} bytes, SHA-256 {sha256}");
    println!(
        "By its manifest, on data that it was not trained on: loss {wql_ratio_to_ewma:.3} of the EWMA rule's; its .90, .95 and .99 lines"
    );
    println!(
        "cover {coverage_p90:.3}, {coverage_p95:.3} and {coverage_p99:.3} before calibration. `quotary model shadow` tries it on your own load."
    );
    Ok(())
}

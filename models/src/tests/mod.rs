//! Tests of the loaded model, and what they share.

#![expect(clippy::unwrap_used, reason = "tests")]

mod forecast;
mod refusal;

use super::*;

fn assert_near<'a>(
    what: &str,
    found: impl IntoIterator<Item = f64>,
    expected: impl IntoIterator<Item = &'a f64>,
    relative: f64,
) {
    let found: Vec<f64> = found.into_iter().collect();
    let expected: Vec<f64> = expected.into_iter().copied().collect();
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().fold(0.0_f64, |size, value| size.max(value.abs()));
    for (index, (one, other)) in found.iter().zip(&expected).enumerate() {
        let room = relative * other.abs().max(size * 0.01);
        assert!((one - other).abs() <= room, "{what}, value {index}: {one} here, {other} expected");
    }
}

fn of(resource: ResourceKind, values: &[Option<f64>]) -> Past<'_> {
    Past { measure: resource.into(), interval_s: 300, values }
}

fn some(values: &[f64]) -> Vec<Option<f64>> {
    values.iter().copied().map(Some).collect()
}

/// Loading per case would make the property tests slow.
fn shipped_once() -> &'static Model {
    static MODEL: std::sync::OnceLock<Model> = std::sync::OnceLock::new();
    MODEL.get_or_init(|| shipped().unwrap())
}

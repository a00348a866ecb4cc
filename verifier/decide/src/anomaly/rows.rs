//! The verb's core: rows in, the same rows with score and kind out.

use super::{Detector, Figures, Kind};

/// A row: Unix milliseconds and a value; `None` where it is missing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// When, Unix milliseconds.
    pub time_ms: i64,
    /// What; a value that is missing or no number is a gap.
    pub value: Option<f64>,
}

/// A row and what is said of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct JudgedRow {
    /// The row.
    pub row: Row,
    /// 0 to 1; see [`super::Judgement::score`].
    pub score: f64,
    /// What is odd, where something is.
    pub kind: Option<Kind>,
    /// The figures behind the kind.
    pub figures: Option<Figures>,
    /// The column `kind`: the kind's name, `warming-up`, or `none`.
    pub label: &'static str,
}

/// Judges rows in their order, each by those before it alone: one row out per row in, as they come.
pub fn judge_rows(rows: impl IntoIterator<Item = Row>) -> impl Iterator<Item = JudgedRow> {
    let mut detector = Detector::default();
    rows.into_iter().map(move |row| {
        let judged = detector.judge(row.time_ms, row.value);
        JudgedRow { row, score: judged.score, kind: judged.kind, figures: judged.figures, label: judged.label() }
    })
}

//! Scores of many series together.

use std::collections::BTreeMap;

use super::Method;
use super::rules::SizingRule;
use super::run::{SeriesScores, Window};

/// The share of hours that may overrun when ways to size are compared.
const OVERRUN: f64 = 0.05;

/// One method over many series.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodFigures {
    /// Series that it answered, each wholly.
    pub series: u64,
    /// Median over series of the scaled absolute error.
    pub mase_median: Option<f64>,
    /// Mean over series of its WQL, of those of which anything but zeros came.
    pub wql_mean: Option<f64>,
    /// Geometric mean over series of its WQL over the last value's.
    pub wql_ratio_to_last_value: Option<f64>,
    /// The same over EWMA's.
    pub wql_ratio_to_ewma: Option<f64>,
    /// The same over the seasonal naive rule's, where it answers.
    pub wql_ratio_to_seasonal_naive: Option<f64>,
    /// Pinball loss at .90, .95 and .99 over what came, mean over series.
    pub pinball: [f64; 3],
    /// Share of steps at or below the .90, .95 and .99 lines.
    pub coverage: [f64; 3],
}

/// One way to size over many windows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SizingFigures {
    /// Share of hours whose peak exceeds the request.
    pub overrun: f64,
    /// Mean over hours of the share of the request that stays unused.
    pub slack: f64,
    /// The same when all requests are multiplied by `factor`, so that exactly 5 % of hours overrun.
    pub slack_at_overrun: f64,
    /// That factor.
    pub factor: f64,
}

/// All figures of a set of series.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Series scored.
    pub series: u64,
    /// Series left out since every value is the same.
    pub constant: u64,
    /// Series left out since none of their windows could be scored.
    pub unscored: u64,
    /// Windows scored.
    pub windows: u64,
    /// Origins with gaps in what came: what is known of them is scored, their hour is not sized.
    pub gaps: u64,
    /// By method.
    pub methods: BTreeMap<Method, MethodFigures>,
    /// By rule.
    pub sizing: BTreeMap<SizingRule, SizingFigures>,
}

/// Puts series together.
pub fn summarise<'a>(all: impl IntoIterator<Item = &'a SeriesScores>) -> Summary {
    let all: Vec<&SeriesScores> = all.into_iter().collect();
    let scored: Vec<&SeriesScores> =
        all.iter().copied().filter(|series| !series.constant && series.is_scored()).collect();
    let windows: Vec<&Window> = scored.iter().flat_map(|series| &series.windows).collect();
    let constant = all.iter().filter(|series| series.constant).count();
    Summary {
        series: scored.len() as u64,
        constant: constant as u64,
        unscored: (all.len() - scored.len() - constant) as u64,
        windows: windows.len() as u64,
        gaps: all.iter().map(|series| series.gaps).sum(),
        methods: Method::ALL.into_iter().filter_map(|method| Some((method, figures(&scored, method)?))).collect(),
        sizing: SizingRule::ALL.into_iter().filter_map(|rule| Some((rule, decision(&windows, rule)?))).collect(),
    }
}

fn figures(all: &[&SeriesScores], method: Method) -> Option<MethodFigures> {
    let with: Vec<(&SeriesScores, _)> =
        all.iter().filter_map(|series| Some((*series, *series.methods.get(&method)?))).collect();
    let (mut steps, mut covered) = (0_u64, [0_u64; 3]);
    for (_, sums) in &with {
        steps += sums.steps;
        for (sum, one) in covered.iter_mut().zip(sums.covered) {
            *sum += one;
        }
    }
    let mut scaled: Vec<f64> = with
        .iter()
        .filter_map(|(series, sums)| Some(sums.absolute_error / count(sums.steps) / series.scale?))
        .collect();
    let pinball = |column: usize| {
        let losses: Vec<f64> = with
            .iter()
            .filter(|(_, sums)| sums.came > 0.0)
            .map(|(_, sums)| sums.losses[8 + column] / sums.came)
            .collect();
        losses.iter().sum::<f64>() / count(losses.len().max(1) as u64)
    };
    (steps > 0).then(|| MethodFigures {
        series: with.len() as u64,
        mase_median: median(&mut scaled),
        wql_mean: mean(with.iter().filter_map(|(_, sums)| sums.wql())),
        wql_ratio_to_last_value: ratio(&with, Method::LastValue),
        wql_ratio_to_ewma: ratio(&with, Method::Ewma),
        wql_ratio_to_seasonal_naive: ratio(&with, Method::SeasonalNaive),
        pinball: [0, 1, 2].map(pinball),
        coverage: covered.map(|covered| count(covered) / count(steps)),
    })
}

/// Geometric mean over series of WQL over the reference's; series where either is 0 have no ratio.
fn ratio(with: &[(&SeriesScores, super::run::Sums)], reference: Method) -> Option<f64> {
    let logarithms: Vec<f64> = with
        .iter()
        .filter_map(|(series, sums)| Some(sums.wql()? / series.methods.get(&reference)?.wql()?))
        .filter(|ratio| ratio.is_finite() && *ratio > 0.0)
        .map(f64::ln)
        .collect();
    (!logarithms.is_empty()).then(|| (logarithms.iter().sum::<f64>() / count(logarithms.len() as u64)).exp())
}

fn decision(windows: &[&Window], rule: SizingRule) -> Option<SizingFigures> {
    let requests: Vec<f64> = windows.iter().map(|window| window.request(rule)).collect();
    // What each request would have to be multiplied by to hold the hour's peak.
    let mut needs: Vec<f64> = windows
        .iter()
        .zip(&requests)
        .map(|(window, request)| if window.peak > 0.0 { window.peak / request.max(f64::MIN_POSITIVE) } else { 0.0 })
        .collect();
    let overrun =
        count(needs.iter().filter(|need| **need > 1.0 + 1e-12).count() as u64) / count(windows.len().max(1) as u64);
    needs.sort_unstable_by(f64::total_cmp);
    let factor = *needs.get(rank(needs.len(), 1.0 - OVERRUN))?;
    let slack = |factor: f64| {
        let unused = windows.iter().zip(&requests).map(|(window, request)| {
            let room = request * factor;
            if room > 0.0 { (1.0 - window.mean / room).max(0.0) } else { 0.0 }
        });
        unused.sum::<f64>() / count(windows.len() as u64)
    };
    Some(SizingFigures { overrun, slack: slack(1.0), slack_at_overrun: slack(factor), factor })
}

/// The index at which a share of sorted values lies at or before it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a rank in a slice"
)]
fn rank(length: usize, share: f64) -> usize {
    ((share * length as f64).ceil() as usize).saturating_sub(1).min(length.saturating_sub(1))
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, number) = values.fold((0.0, 0), |(sum, number), value| (sum + value, number + 1));
    (number > 0).then(|| sum / count(number))
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get((values.len() - 1) / 2)?;
    Some(lower / 2.0 + upper / 2.0)
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn count(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

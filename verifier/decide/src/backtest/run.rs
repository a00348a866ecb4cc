//! One series: the rolling origin.

use std::collections::BTreeMap;

use quotary_common::units::ResourceKind;

use super::Method;
use super::rules::{SizingRule, day_steps, highest_p99, request as rule_request, seasonal_naive};
use crate::forecast::{
    Calibration, Came, Forecast, LEARN_STEPS, Ladder, Past, QUANTILE_LEVELS, Quantiles, Rungs, STEPS, is_demand,
    smoothed,
};
use crate::profile::request;

/// A recorded series.
#[derive(Debug, Clone, Copy)]
pub struct Recorded<'a> {
    /// How reports call it.
    pub name: &'a str,
    /// What it measures.
    pub resource: ResourceKind,
    /// One step, seconds.
    pub interval_s: u64,
    /// Its steps, oldest first; gaps are `None`.
    pub values: &'a [Option<f64>],
}

/// Where the origin goes.
#[derive(Debug, Clone, Copy)]
pub struct Origins {
    /// The first origin: the first row that is forecast, at least 1.
    pub from: usize,
    /// Rows between origins, at least 1.
    pub stride: usize,
    /// Hours that calibration learns from before each origin.
    pub lessons: usize,
}

/// What an hour beyond its request costs beside one that leaves all of it unused, in the decision measure: at this cost some 5 % of hours
/// overrun, at which all are compared. The service asks with the class's cost, which is higher, and headroom; the rule is the same.
const OVERRUN_COST: f64 = 1.25;
/// A series with fewer days than this before the first origin is scaled by the last value's error.
const SEASONAL_DAYS_MIN: usize = 3;

/// One window: what came, and what each sizing rule would have asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// The row of the origin.
    pub origin_row: usize,
    /// The highest step.
    pub peak: f64,
    /// The mean of all steps.
    pub mean: f64,
    /// By [`SizingRule::ALL`].
    pub requests: [f64; SizingRule::ALL.len()],
}

/// Sums of one method over one series' windows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sums {
    /// Steps scored.
    pub steps: u64,
    /// Pinball losses by level.
    pub losses: [f64; QUANTILE_LEVELS.len()],
    /// Distance from the median.
    pub absolute_error: f64,
    /// Steps at or below the .90, .95 and .99 lines.
    pub covered: [u64; 3],
    /// What came, summed.
    pub came: f64,
}

impl Sums {
    fn add(&mut self, quantiles: &Quantiles, came: &Came) {
        for (sum, loss) in self.losses.iter_mut().zip(came.losses(quantiles)) {
            *sum += loss;
        }
        self.absolute_error += came.absolute_error(quantiles);
        for (ahead, value) in came.known() {
            self.steps += 1;
            self.came += value;
            for (covered, line) in self.covered.iter_mut().zip(&quantiles.steps()[ahead][QUANTILE_LEVELS.len() - 3..]) {
                *covered += u64::from(value <= *line);
            }
        }
    }

    /// The weighted quantile loss over .1 to .9 beside what came; `None` where nothing but zeros came.
    pub fn wql(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "nine levels")]
        let levels = (QUANTILE_LEVELS.len() - 2) as f64;
        let loss: f64 = self.losses.iter().take(QUANTILE_LEVELS.len() - 2).sum();
        (self.came > 0.0).then(|| 2.0 * loss / levels / self.came)
    }
}

/// One series' scores.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesScores {
    /// Its name.
    pub name: String,
    /// What it measures.
    pub resource: ResourceKind,
    /// By method; a method that could not answer every window is not there.
    pub methods: BTreeMap<Method, Sums>,
    /// Every window scored.
    pub windows: Vec<Window>,
    /// The in-sample error that MASE divides by, if it is not 0.
    pub scale: Option<f64>,
    /// Whether that is the seasonal naive rule's.
    pub seasonal: bool,
    /// Origins with gaps in what came: what is known of them is scored, their hour is not sized.
    pub gaps: u64,
    /// Whether every value is the same: nothing to score.
    pub constant: bool,
}

/// Rolls over a series; `each` is given every origin's row and forecast, scored or not.
pub fn run(
    ladder: &Ladder<'_>,
    recorded: &Recorded<'_>,
    origins: &Origins,
    mut each: impl FnMut(usize, &Forecast),
) -> SeriesScores {
    let mut known = recorded.values.iter().flatten();
    let first = known.next();
    let constant = known.all(|value| Some(value) == first);
    let (scale, seasonal) = scale(recorded, origins.from);
    let mut scores = SeriesScores {
        name: recorded.name.to_owned(),
        resource: recorded.resource,
        methods: Method::ALL.map(|method| (method, Sums::default())).into(),
        windows: Vec::new(),
        scale,
        seasonal,
        gaps: 0,
        constant,
    };
    let first_known = recorded.values.iter().position(|value| value.is_some_and(is_demand)).unwrap_or(usize::MAX);
    let mut rungs = Remembered { ladder, recorded, rows: BTreeMap::new(), first_known };
    let mut origin = origins.from.max(1);
    while origin + STEPS <= recorded.values.len() {
        let calibration = rungs.learnt(origin, origins.lessons);
        let past = rungs.past(origin);
        let found = rungs.at(origin).clone();
        if let Some(forecast) = ladder.answer(&past, &found, (&calibration, &Calibration::default()), &[], None) {
            each(origin, &forecast);
            scores.score(origin, &past, &found, &forecast, &recorded.values[origin..origin + STEPS]);
        }
        rungs.forget_before(origin.saturating_sub(origins.lessons * LEARN_STEPS));
        origin += origins.stride.max(1);
    }
    scores
}

impl SeriesScores {
    /// Whether any step was scored.
    pub fn is_scored(&self) -> bool {
        self.methods.get(&Method::Quotary).is_some_and(|sums| sums.steps > 0)
    }

    fn score(&mut self, origin_row: usize, past: &Past<'_>, rungs: &Rungs, forecast: &Forecast, came: &[Option<f64>]) {
        let came = Came::from_steps(came);
        let Some(mean) = came.mean() else {
            self.gaps += 1;
            return;
        };
        let naive = seasonal_naive(past);
        let last_value = smoothed(past, 1.0);
        for method in Method::ALL {
            let quantiles = match method {
                Method::Quotary => Some(&forecast.quantiles),
                Method::Model => rungs.model.as_ref(),
                Method::Ewma => rungs.ewma.as_ref(),
                Method::LastValue => last_value.as_ref(),
                Method::SeasonalNaive => naive.as_ref(),
            };
            match (quantiles, self.methods.get_mut(&method)) {
                (Some(quantiles), Some(sums)) => sums.add(quantiles, &came),
                // All methods are compared on the same windows, or not at all; the seasonal rule alone may begin once there is a day.
                (None, Some(sums)) if method == Method::SeasonalNaive && sums.steps == 0 => {}
                (None, _) => drop(self.methods.remove(&method)),
                (Some(_), None) => {}
            }
        }
        // An hour's peak is known only where the whole hour is.
        let Some(peak) = came.peaks()[2] else {
            self.gaps += 1;
            return;
        };
        let peaks = forecast.quantiles.longest_peak();
        let requests = SizingRule::ALL.map(|rule| match rule {
            SizingRule::Quotary => request(&forecast.quantiles, OVERRUN_COST).amount,
            SizingRule::QuotaryPeak95 => peaks[2],
            SizingRule::QuotaryPeak99 => peaks[3],
            SizingRule::EwmaP99 => rungs.ewma.as_ref().map_or(0.0, highest_p99),
            // Without a day before, the rule has no season: the naive one is what is left of it.
            SizingRule::SeasonalNaiveP99 => {
                let naive = naive.as_ref().or(last_value.as_ref()).map(highest_p99);
                naive.or_else(|| rule_request(SizingRule::MaximumOfDay, past)).unwrap_or_default()
            }
            SizingRule::Oracle => peak,
            rule => rule_request(rule, past).unwrap_or_default(),
        });
        self.windows.push(Window { origin_row, peak, mean, requests });
    }
}

/// What the upper rungs said, row by row: calibration asks for the same rows again and again.
struct Remembered<'a, 'm> {
    ladder: &'a Ladder<'m>,
    recorded: &'a Recorded<'a>,
    rows: BTreeMap<usize, Rungs>,
    /// The first row that holds a demand.
    first_known: usize,
}

impl<'a> Remembered<'a, '_> {
    fn past(&self, origin: usize) -> Past<'a> {
        let Recorded { resource, interval_s, values, .. } = *self.recorded;
        Past { measure: resource.into(), interval_s, values: values.get(..origin).unwrap_or(values) }
    }

    fn at(&mut self, origin: usize) -> &Rungs {
        let (past, ladder) = (self.past(origin), self.ladder);
        self.rows.entry(origin).or_insert_with(|| {
            let mut answers = ladder.rungs(std::slice::from_ref(&past));
            answers.pop().map(|(rungs, _)| rungs).unwrap_or_default()
        })
    }

    /// As [`Ladder::learnt`].
    fn learnt(&mut self, origin: usize, lessons: usize) -> Calibration {
        let rows: Vec<usize> = (1..=lessons).rev().filter_map(|back| origin.checked_sub(back * LEARN_STEPS)).collect();
        let missing: Vec<usize> = rows.iter().copied().filter(|row| !self.rows.contains_key(row)).collect();
        let pasts: Vec<Past<'_>> = missing.iter().map(|row| self.past(*row)).collect();
        let fresh: Vec<Rungs> = self.ladder.rungs(&pasts).into_iter().map(|(rungs, _)| rungs).collect();
        self.rows.extend(missing.into_iter().zip(fresh));
        let mut calibration = Calibration::default();
        for row in rows {
            if row <= self.first_known {
                continue;
            }
            let came = Came::from_steps(self.recorded.values.get(row..).unwrap_or_default());
            let rungs = self.at(row).clone();
            calibration.learn(&rungs, &Calibration::default(), &came);
        }
        calibration
    }

    fn forget_before(&mut self, row: usize) {
        self.rows = self.rows.split_off(&row);
    }
}

/// The in-sample error of the seasonal naive rule before the first origin, or of the last value where there are no three days.
fn scale(recorded: &Recorded<'_>, from: usize) -> (Option<f64>, bool) {
    let values = recorded.values.get(..from).unwrap_or(recorded.values);
    let past = Past { measure: recorded.resource.into(), interval_s: recorded.interval_s, values };
    let day = day_steps(&past);
    let seasonal = values.len() >= SEASONAL_DAYS_MIN * day;
    let lag = if seasonal { day } else { 1 };
    let later = values.get(lag..).unwrap_or_default();
    let errors = later.iter().zip(values).filter_map(|(later, before)| Some(((*later)? - (*before)?).abs()));
    let (sum, count) = errors.fold((0.0, 0.0), |(sum, count), error| (sum + error, count + 1.0));
    ((sum > 0.0).then(|| sum / count), seasonal)
}

impl Window {
    /// What a sizing rule would have asked for.
    pub fn request(&self, rule: SizingRule) -> f64 {
        SizingRule::ALL.iter().position(|one| *one == rule).map_or(0.0, |at| self.requests[at])
    }
}

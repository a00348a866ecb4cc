//! From forecast, class and declared request to the size of a grant.

use std::collections::BTreeMap;

use quotary_common::units::{Class, ResourceKind, Resources};

use super::reason::{Reason, ReasonCode};
use super::request::request;
use super::strain::Strain;
use crate::forecast::{Forecast, Method};

/// What an application will need, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The amounts; only what was asked for has one.
    pub resources: Resources,
    /// The reason for each amount.
    pub why: Vec<(ResourceKind, Reason)>,
    /// SHA-256, hexadecimal, of the model whose forecast an amount rests on.
    pub model_sha256: Option<String>,
}

/// What is expected of one series, and what says that it wanted more than is recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlook {
    /// Quantiles of what is recorded.
    pub forecast: Forecast,
    /// Demand that was not met.
    pub strain: Strain,
}

impl From<Forecast> for Outlook {
    fn from(forecast: Forecast) -> Self {
        Self { forecast, strain: Strain::default() }
    }
}

/// Room above the forecast peak, in percent: forecasts err, and limits that bite hide the demand behind them.
const HEADROOM_PERCENT: u64 = 20;

/// What an hour beyond its size costs an application of a class, beside an hour that leaves all of it unused.
const fn overrun_cost(class: Class) -> f64 {
    match class {
        Class::Guaranteed => 20.0,
        Class::Burstable => 4.0,
        Class::BestEffort => 1.5,
    }
}

/// The least that a class keeps of its request, in percent, however idle it is.
const fn floor_percent(class: Class) -> u64 {
    match class {
        Class::Guaranteed => 100,
        Class::Burstable => 50,
        Class::BestEffort => 25,
    }
}

/// The size that `requested` deserves, given the outlook of each series that the application uses.
///
/// Without a forecast the declared request stands. With one, the request of least expected cost and some headroom stand, between the
/// class's floor and what was requested; more of it where the recent past was at a limit, or short. No host states yet what an
/// application stores: there the request stands, and says so.
pub fn size(requested: &Resources, class: Class, outlooks: &BTreeMap<ResourceKind, Outlook>) -> Profile {
    let mut profile = Profile { resources: Resources::default(), why: Vec::new(), model_sha256: None };
    for kind in ResourceKind::ALL {
        let Some(asked) = requested.get(kind) else { continue };
        let floor = percent(asked, floor_percent(class));
        let unknown = |text: String| (asked, Reason::of(ReasonCode::InsufficientHistory, text));
        let (amount, why) = match outlooks.get(&kind) {
            _ if class == Class::Guaranteed => (asked, Reason::of(ReasonCode::Guaranteed, "as requested")),
            // No kernel counts what an application stores, unless somebody counts it by project (docs/decisions/0016).
            None if kind == ResourceKind::Storage => (asked, Reason::of(ReasonCode::NotMeasured, "as requested")),
            None => unknown(format!("{}, as requested", Method::Declared.name())),
            Some(Outlook { forecast, .. }) if forecast.is_insufficient() => {
                let (method, rows) = (forecast.method.name(), forecast.history_rows);
                unknown(format!("{method} from {rows} points, as requested"))
            }
            Some(outlook) => {
                let model = outlook.forecast.model.as_ref().map(|model| model.sha256.clone());
                profile.model_sha256 = profile.model_sha256.or(model);
                sized(asked, floor, class, outlook)
            }
        };
        profile.resources.set(kind, Some(amount));
        profile.why.push((kind, why));
    }
    profile
}

/// An amount between the class's floor and what was asked for, and why.
fn sized(asked: u64, floor: u64, class: Class, outlook: &Outlook) -> (u64, Reason) {
    let Outlook { forecast, strain } = outlook;
    let request = request(&forecast.quantiles, overrun_cost(class));
    let peak = whole(request.amount);
    let (method, rows) = (forecast.method.name(), forecast.history_rows);
    let mut text =
        format!("{method} from {rows} points: the hour's peak is at most {peak} with p {:.3}", request.level);
    let (mut base, mut room, mut codes) = (peak, HEADROOM_PERCENT, Vec::new());
    if let Some(at_least) = strain.at_least() {
        let more = strain.censored_percent();
        let share = strain.censored_permille().div_ceil(10);
        text += &format!(
            "; at a limit in {share} % of the last {} steps, demand at least {at_least}: {more} % more",
            Strain::STEPS
        );
        (base, room) = (base.max(at_least), room + more);
        codes.push(ReasonCode::Censored);
    }
    if strain.pressure_percent() > 0 {
        let more = strain.pressure_percent();
        text += &format!("; pressure {} of 1000: {more} % more", strain.pressure_permille());
        room += more;
        codes.push(ReasonCode::Pressure);
    }
    let need = percent(base, 100 + room);
    let (amount, code) = match need {
        need if need >= asked => (asked, ReasonCode::Request),
        need if need <= floor => (floor, ReasonCode::Floor),
        need => (need, ReasonCode::Forecast),
    };
    text += &match code {
        ReasonCode::Request => format!("; with {room} % headroom it reaches the request"),
        ReasonCode::Floor => format!("; the floor of {class} stands"),
        _ => format!(", and {room} % headroom"),
    };
    codes.insert(0, code);
    (amount, Reason { codes, text })
}

fn percent(amount: u64, percent: u64) -> u64 {
    u64::try_from(u128::from(amount) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "float to integer casts saturate; NaN gives 0"
)]
fn whole(value: f64) -> u64 {
    value.ceil() as u64
}

#[cfg(test)]
#[path = "strain_tests.rs"]
mod strain_tests;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::forecast::testing::ewma_forecast;

    fn cpu(asked: u64, class: Class, used: Option<f64>) -> u64 {
        let requested = Resources { cpu_millicores: Some(asked), ..Resources::default() };
        let outlook = |used| (ResourceKind::Cpu, ewma_forecast(&[Some(used); 40]).into());
        let forecasts = used.map(outlook).into_iter().collect();
        size(&requested, class, &forecasts).resources.cpu_millicores.unwrap()
    }

    #[test]
    fn the_request_stands_without_a_forecast_and_for_the_guaranteed_class() {
        assert_eq!(cpu(800, Class::Burstable, None), 800);
        assert_eq!(cpu(800, Class::Guaranteed, Some(10.0)), 800);
    }

    #[test]
    fn some_idle_minutes_take_nothing_from_a_fresh_application() {
        let requested = Resources { cpu_millicores: Some(800), ..Resources::default() };
        let forecasts = [(ResourceKind::Cpu, ewma_forecast(&[Some(1.0); 3]).into())].into_iter().collect();
        let profile = size(&requested, Class::BestEffort, &forecasts);
        assert_eq!(profile.resources.cpu_millicores, Some(800));
        assert_eq!(profile.why[0].1.codes, [ReasonCode::InsufficientHistory]);
        assert_eq!(profile.why[0].1.to_string(), "insufficient_history: climatology from 3 points, as requested");
    }

    #[test]
    fn a_forecast_moves_the_size_between_the_floor_and_the_request() {
        assert_eq!(cpu(800, Class::Burstable, Some(500.0)), 600);
        assert_eq!(cpu(800, Class::Burstable, Some(10.0)), 400);
        assert_eq!(cpu(800, Class::BestEffort, Some(10.0)), 200);
        assert_eq!(cpu(800, Class::Burstable, Some(799.0)), 800);
    }

    #[test]
    fn storage_is_sized_where_there_is_a_series_and_else_stands_as_requested() {
        let requested = Resources { storage_bytes: Some(1_000), ..Resources::default() };
        let unmeasured = size(&requested, Class::Burstable, &BTreeMap::new());
        assert_eq!(unmeasured.resources, requested);
        assert_eq!(unmeasured.why[0].1.to_string(), "not_measured: as requested");
        let forecasts = [(ResourceKind::Storage, ewma_forecast(&[Some(600.0); 40]).into())].into_iter().collect();
        let measured = size(&requested, Class::Burstable, &forecasts);
        assert_eq!(measured.resources.storage_bytes, Some(720));
        assert!(measured.why[0].1.text.starts_with("ewma from 40 points"), "{:?}", measured.why);
        assert_eq!(size(&requested, Class::Guaranteed, &forecasts).resources, requested);
    }

    #[test]
    fn what_was_not_asked_for_is_not_given() {
        let profile = size(&Resources::default(), Class::Burstable, &BTreeMap::new());
        assert_eq!(profile.resources, Resources::default());
        assert!(profile.why.is_empty());
    }
}

//! From forecast, class and declared request to the size of a grant.

use std::collections::BTreeMap;

use quotary_common::units::{Class, ResourceKind, Resources};

use super::request::request;
use crate::forecast::{Forecast, Method};

/// What an application will need, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The amounts; only what was asked for has one.
    pub resources: Resources,
    /// The reason for each amount.
    pub why: Vec<(ResourceKind, String)>,
    /// SHA-256, hexadecimal, of the model whose forecast an amount rests on.
    pub model_sha256: Option<String>,
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

/// The size that `requested` deserves, given the forecasts of what the application uses.
///
/// Without a forecast the declared request stands. With one, the request of least expected cost and some headroom stand, between the
/// class's floor and what was requested.
pub fn size(requested: &Resources, class: Class, forecasts: &BTreeMap<ResourceKind, Forecast>) -> Profile {
    let mut profile = Profile { resources: Resources::default(), why: Vec::new(), model_sha256: None };
    for kind in ResourceKind::ALL {
        let Some(asked) = requested.get(kind) else { continue };
        let floor = percent(asked, floor_percent(class));
        let (amount, why) = match forecasts.get(&kind) {
            _ if class == Class::Guaranteed => (asked, "guaranteed: as requested".to_owned()),
            None => (asked, "insufficient_history: as requested".to_owned()),
            Some(forecast) if matches!(forecast.method, Method::Climatology | Method::Declared) => {
                (asked, "insufficient_history: as requested".to_owned())
            }
            Some(forecast) => {
                profile.model_sha256 =
                    profile.model_sha256.or(forecast.model.as_ref().map(|model| model.sha256.clone()));
                sized(asked, floor, class, forecast)
            }
        };
        profile.resources.set(kind, Some(amount));
        profile.why.push((kind, why));
    }
    profile
}

/// An amount between the class's floor and what was asked for, and why.
fn sized(asked: u64, floor: u64, class: Class, forecast: &Forecast) -> (u64, String) {
    let request = request(&forecast.quantiles, overrun_cost(class));
    let peak = whole(request.amount);
    let need = percent(peak, 100 + HEADROOM_PERCENT);
    let (method, rows) = (forecast.method.name(), forecast.history_rows);
    let found = format!("{method} from {rows} points: the hour's peak is at most {peak} with p {:.3}", request.level);
    if need >= asked {
        (asked, format!("{found}; with {HEADROOM_PERCENT} % headroom it reaches the request"))
    } else if need <= floor {
        (floor, format!("{found}; the floor of {class} stands"))
    } else {
        (need, format!("{found}, and {HEADROOM_PERCENT} % headroom"))
    }
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
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::forecast::testing::ewma_forecast;

    fn cpu(asked: u64, class: Class, used: Option<f64>) -> u64 {
        let requested = Resources { cpu_millicores: Some(asked), ..Resources::default() };
        let forecasts = used.map(|used| (ResourceKind::Cpu, ewma_forecast(&[Some(used); 40]))).into_iter().collect();
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
        let forecasts = [(ResourceKind::Cpu, ewma_forecast(&[Some(1.0); 3]))].into_iter().collect();
        let profile = size(&requested, Class::BestEffort, &forecasts);
        assert_eq!(profile.resources.cpu_millicores, Some(800));
        assert!(profile.why[0].1.starts_with("insufficient_history"), "{:?}", profile.why);
    }

    #[test]
    fn a_forecast_moves_the_size_between_the_floor_and_the_request() {
        assert_eq!(cpu(800, Class::Burstable, Some(500.0)), 600);
        assert_eq!(cpu(800, Class::Burstable, Some(10.0)), 400);
        assert_eq!(cpu(800, Class::BestEffort, Some(10.0)), 200);
        assert_eq!(cpu(800, Class::Burstable, Some(799.0)), 800);
    }

    #[test]
    fn what_was_not_asked_for_is_not_given() {
        let profile = size(&Resources::default(), Class::Burstable, &BTreeMap::new());
        assert_eq!(profile.resources, Resources::default());
        assert!(profile.why.is_empty());
    }
}

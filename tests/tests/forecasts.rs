//! Forecasts as operators ask for them: of what was granted and not seen yet, and hour by hour.
#![expect(clippy::unwrap_used, reason = "tests")]

use quotary_common::wire::{ForecastView, HourlyForecasts, ListHourlyForecasts, Nothing, Right};
use quotary_tests::host::{Operator, request};
use quotary_tests::world::{Options, World};

#[test]
fn a_grant_without_a_window_is_forecast_as_declared_and_hours_are_asked_for_by_number() {
    let mut world = World::new(Options::quick(0)).unwrap();
    world.start_verifier().unwrap();
    let runtime = world.runtime().handle().clone();
    let operator = Operator::of(&world).unwrap();
    let mut host = runtime.block_on(operator.host("a")).unwrap();
    host.requests.push(request("r", 300, 64 << 20));
    runtime.block_on(host.attest()).unwrap();
    let grants = world.grant_views().unwrap();
    assert_eq!(grants.len(), 1);

    let forecasts: Vec<ForecastView> = world.cli_json(&["forecast"]).unwrap();
    let declared: Vec<_> = forecasts.iter().filter(|one| one.grant == Some(grants[0].grant)).collect();
    assert_eq!(declared.len(), 2, "{forecasts:?}");
    for (one, amount) in declared.iter().zip([300.0, f64::from(64 << 20)]) {
        assert_eq!((one.method.as_str(), one.insufficient_history, one.history_rows), ("declared", true, 0));
        assert!(one.steps.iter().flatten().all(|value| (value - amount).abs() < 1e-6), "{one:?}");
        assert_eq!((one.host, one.model.as_ref()), (Some(host.id), None));
    }
    let text = world.cli_ok(&["forecast"]).unwrap();
    assert!(text.contains("declared (insufficient_history)") && text.contains("grant g-"), "{text}");

    let hours: HourlyForecasts = world.cli_json(&["forecast", "--hours", "168"]).unwrap();
    assert_eq!((hours.interval_s, hours.start_ms % 3_600_000, hours.next), (3600, 0, None));
    assert!(hours.series.iter().all(|series| series.steps.len() == 168));
    let text = world.cli_ok(&["forecast", "--hours", "24"]).unwrap();
    assert!(text.starts_with("hour by hour from "), "{text}");
    for bad in ["0", "169", "-1"] {
        assert!(!world.cli(&["forecast", "--hours", bad]).unwrap().status.success(), "{bad}");
    }
    runtime.block_on(async {
        let reader = operator.operator_token(&[Right::Read], 600_000).await.unwrap();
        let client = operator.with_token(Some(&reader)).unwrap();
        let good = ["", "host", "cpu", "2", ""];
        client.call::<ListHourlyForecasts>(&good, &Nothing {}).await.unwrap();
        for (at, text) in [(0, "h-none"), (1, "blue"), (2, "gpu"), (3, "169"), (3, "0"), (4, "sums/cpu")] {
            let mut values = good;
            values[at] = text;
            assert!(client.call::<ListHourlyForecasts>(&values, &Nothing {}).await.is_err(), "{text}");
        }
    });
}

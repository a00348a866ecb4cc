"""Scores the model and two simple rungs on the same held-out windows."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from . import normaliser
from .form import HISTORY_STEPS, HORIZON_STEPS, PEAK_LEVELS, PEAK_STEPS, QUANTILE_LEVELS
from .network import predict
from .series import GRID_S
from .windows import DAY_S, Origin, histories_of

BASELINE_HISTORY_STEPS = 288
EWMA_WEIGHT = 0.3
WQL_LEVELS = tuple(q for q in QUANTILE_LEVELS if q <= 0.9)
Forecast = tuple[np.ndarray, np.ndarray]  # (n, steps, levels), (n, peak lengths, peak levels), series' own unit


def run_mapped(outputs: Forecast, mapped: normaliser.Mapped) -> Forecast:
    """From network outputs to the caller's unit, as the loader does it."""
    steps = normaliser.denormalise(outputs[0], mapped.median, mapped.scale)
    peaks = normaliser.denormalise(outputs[1], mapped.median, mapped.scale)
    return steps, normaliser.raise_peaks(steps, peaks, QUANTILE_LEVELS, PEAK_LEVELS, PEAK_STEPS)


def model_forecast(parameters, origins: list[Origin], history_steps: int = HISTORY_STEPS) -> Forecast:
    """The model on every origin, seeing at most `history_steps` of history."""
    days = np.full(len(origins), DAY_S // GRID_S)
    mapped = normaliser.normalise(histories_of(origins, history_steps), days)
    features = normaliser.with_resource(mapped, [o.series.resource for o in origins])
    return run_mapped(predict(parameters, features), mapped)


def _filled(history: np.ndarray) -> np.ndarray:
    """The last steps with gaps filled by the value before them, as a rung without a mask sees them."""
    values = history[-BASELINE_HISTORY_STEPS:].copy()
    known = np.flatnonzero(~np.isnan(values))
    values = values[known[0] :]
    index = np.where(np.isnan(values), 0, np.arange(len(values)))
    return values[np.maximum.accumulate(index)]


def baseline_forecast(origins: list[Origin], weight: float) -> Forecast:
    """EWMA level plus empirical residual quantiles per step ahead; weight 1 is the last value."""
    steps = np.empty((len(origins), HORIZON_STEPS, len(QUANTILE_LEVELS)))
    peaks = np.empty((len(origins), len(PEAK_STEPS), len(PEAK_LEVELS)))
    for i, origin in enumerate(origins):
        values = _filled(origin.history)
        level = values.copy()
        for t in range(1, len(values)):
            level[t] = weight * values[t] + (1 - weight) * level[t - 1]
        ahead = sliding_window_view(values[1:], HORIZON_STEPS) if len(values) > HORIZON_STEPS else values[None, :0]
        if ahead.size == 0:
            steps[i], peaks[i] = level[-1], level[-1]
            continue
        base = level[: len(ahead), None]
        steps[i] = level[-1] + np.quantile(ahead - base, QUANTILE_LEVELS, axis=0).T
        for h, length in enumerate(PEAK_STEPS):
            residual = ahead[:, :length].max(axis=1) - base[:, 0]
            peaks[i, h] = level[-1] + np.quantile(residual, PEAK_LEVELS)
    return np.maximum(steps, 0.0), np.maximum(peaks, 0.0)


def _pinball(target, predicted, levels) -> np.ndarray:
    error = target[..., None] - predicted
    levels = np.asarray(levels)
    return np.maximum(levels * error, (levels - 1) * error)


def _per_series(origins: list[Origin], losses: np.ndarray, future: np.ndarray) -> dict[tuple, float]:
    """Sum of losses over sum of |what came|, per series."""
    sums: dict[tuple, list[float]] = {}
    for origin, loss, came in zip(origins, losses, np.abs(future).sum(axis=1)):
        total = sums.setdefault((origin.series.group, origin.series.name, origin.series.resource), [0.0, 0.0])
        total[0] += float(loss)
        total[1] += float(came)
    return {key: a / b for key, (a, b) in sums.items() if b > 0}


def _scores(origins: list[Origin], forecast: Forecast, future: np.ndarray) -> dict:
    steps, peaks = forecast
    by_level = _pinball(future, steps, QUANTILE_LEVELS)
    wql = _per_series(origins, 2 * by_level[..., : len(WQL_LEVELS)].mean(axis=2).sum(axis=1), future)
    pinball = _per_series(origins, by_level.mean(axis=2).sum(axis=1), future)
    came = np.stack([future[:, :n].max(axis=1) for n in PEAK_STEPS], axis=1)
    out = {"wql": float(np.mean(list(wql.values()))), "pinball": float(np.mean(list(pinball.values())))}
    for level in (0.9, 0.95, 0.99):
        out[f"coverage_{level}"] = float((future <= steps[..., QUANTILE_LEVELS.index(level)]).mean())
    for level in (0.95, 0.99):
        out[f"peak_coverage_{level}"] = float((came <= peaks[..., PEAK_LEVELS.index(level)]).mean())
    peak_loss = _pinball(came, peaks, PEAK_LEVELS).mean(axis=2).sum(axis=1)
    out["peak_pinball"] = float(np.mean(list(_per_series(origins, peak_loss, came).values())))
    return out | {"_wql_by_series": wql}


def _compare(origins: list[Origin], forecasts: dict[str, Forecast]) -> dict:
    """One table: every method, and the geometric mean over series of its WQL over EWMA's."""
    future = np.array([o.future for o in origins])
    table = {name: _scores(origins, forecast, future) for name, forecast in forecasts.items()}
    by_series = {name: row.pop("_wql_by_series") for name, row in table.items()}
    reference = by_series["ewma"]
    for name, row in table.items():
        ratios = [by_series[name][k] / v for k, v in reference.items() if v > 0 and by_series[name][k] > 0]
        row["wql_ratio_to_ewma"] = float(np.exp(np.mean(np.log(ratios))))
    for row in table.values():
        row.update({key: round(value, 4) for key, value in row.items()})
    return {"windows": len(origins), "series": len(reference), "methods": table}


def evaluate(parameters, origins: list[Origin]) -> dict:
    """Metrics of model, EWMA and last value: together, by resource, by group, and on short contexts."""
    forecasts = {
        "model": model_forecast(parameters, origins),
        "ewma": baseline_forecast(origins, EWMA_WEIGHT),
        "last_value": baseline_forecast(origins, 1.0),
    }

    def part(keep) -> dict:
        rows = np.array([i for i, o in enumerate(origins) if keep(o)])
        chosen = {name: (f[0][rows], f[1][rows]) for name, f in forecasts.items()}
        return _compare([origins[i] for i in rows], chosen)

    resources = sorted({o.series.resource for o in origins})
    groups = sorted({o.series.group for o in origins})
    short = forecasts | {"model": model_forecast(parameters, origins, 12)}
    return {
        "what": "held-out parts, 12 steps ahead; wql and pinball relative to mean |demand|, averaged over series; "
        "ewma and last_value have empirical residual quantiles of up to 288 steps",
        "all": part(lambda o: True),
        "by_resource": {r: part(lambda o, r=r: o.series.resource == r) for r in resources},
        "by_group": {g: part(lambda o, g=g: o.series.group == g) for g in groups},
        "model_sees_12_steps": _compare(origins, short),
    }

"""Test vectors: what onnxruntime says, for the Rust loader to agree with (`models/src/tests/forecast.rs`)."""

import numpy as np
import onnxruntime

from . import normaliser
from .evaluate import run_mapped
from .form import CONTEXT_STEPS, HISTORY_STEPS
from .series import GRID_S
from .windows import DAY_S, Origin


def _cases(origins: list[Origin]) -> list[tuple[str, str, np.ndarray]]:
    """(what it shows, resource, history oldest first with NaN in gaps)."""
    cases = []
    for resource in ("cpu", "memory", "disk", "network"):
        of_kind = [o for o in origins if o.series.resource == resource]
        for o in (of_kind[len(of_kind) // 3], of_kind[2 * len(of_kind) // 3]):
            cases.append((f"held-out {o.series.group} {o.series.name}", resource, o.history[-HISTORY_STEPS:]))
    rng = np.random.default_rng(5)
    wave = 1e15 * (2 + np.sin(np.arange(CONTEXT_STEPS) / 7) + 0.1 * rng.standard_normal(CONTEXT_STEPS))
    gappy = np.where(rng.random(CONTEXT_STEPS) < 0.4, np.nan, wave / 1e12)
    idle = np.zeros(CONTEXT_STEPS)
    idle[[20, 21, 70]] = (5e6, 3e6, 9e6)
    return cases + [
        ("huge values", "network", wave),
        ("gaps", "cpu", gappy),
        ("three points", "memory", np.array([512.0, 640.0, 600.0])),
        ("one point", "disk", np.array([7.5])),
        ("constant", "memory", np.full(CONTEXT_STEPS, 4096.0)),
        ("zeros", "disk", np.zeros(CONTEXT_STEPS)),
        ("idle with bursts", "disk", idle),
        ("longer than what is seen", "cpu", np.abs(rng.standard_normal(HISTORY_STEPS + 30)).cumsum()),
        ("old points alone beside one new one", "network", np.where(np.arange(250) < 249, 3e6, 9e6)),
    ]


def parity_vectors(onnx_bytes: bytes, origins: list[Origin]) -> list[dict]:
    """Each case with the mapped inputs, onnxruntime's raw outputs and the forecast in the case's own unit."""
    session = onnxruntime.InferenceSession(onnx_bytes, providers=["CPUExecutionProvider"])
    vectors = []
    for what, resource, values in _cases(origins):
        values = np.array([float(f"{v:.6g}") for v in values])
        history = np.full((1, HISTORY_STEPS), np.nan)
        kept = values[-HISTORY_STEPS:]
        history[0, HISTORY_STEPS - len(kept) :] = kept
        mapped = normaliser.normalise(history, np.array([DAY_S // GRID_S]))
        feed = {"features": normaliser.with_resource(mapped, [resource])}
        outputs = session.run(["steps", "peaks"], feed)
        steps, peaks = run_mapped((outputs[0], outputs[1]), mapped)
        vectors.append(
            {
                "what": what,
                "resource": resource,
                "values": [None if np.isnan(v) else v for v in values.tolist()],
                "interval_s": GRID_S,
                "features": _short(feed["features"][0]),
                "raw_steps": _short(outputs[0][0]),
                "raw_peaks": _short(outputs[1][0]),
                "steps": _short(steps[0]),
                "peaks": _short(peaks[0]),
            }
        )
    return vectors


def _short(array: np.ndarray) -> list:
    """Nine significant digits: enough for f32."""
    if array.ndim == 1:
        return [float(f"{v:.9g}") for v in array.tolist()]
    return [_short(row) for row in array]

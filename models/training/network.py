"""The network and its training: a residual MLP with a head for steps and a head for peaks."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from .form import FEATURES, HORIZON_STEPS, MEDIAN_INDEX, PEAK_LEVELS, PEAK_STEPS, QUANTILE_LEVELS, SECTIONS, STATISTICS
from .windows import Windows

STEP_OUTPUTS = HORIZON_STEPS * len(QUANTILE_LEVELS)
PEAK_OUTPUTS = len(PEAK_STEPS) * len(PEAK_LEVELS)
WIDTH = 128
BLOCKS = 2
NORM_EPSILON = 1e-5
PEAK_WEIGHT = 2.0
LAST = sum(list(SECTIONS.values())[: list(SECTIONS).index("statistics")]) + STATISTICS.index("last")
"""Where the last value stands among the features: medians are told as distances from it."""


def initial_parameters(seed: int) -> dict[str, np.ndarray]:
    """He-initialised weights; the head starts small, so that training starts from the last value."""
    rng = np.random.default_rng(seed)

    def dense(fan_in: int, fan_out: int, gain: float) -> np.ndarray:
        return (rng.standard_normal((fan_in, fan_out)) * gain / np.sqrt(fan_in)).astype(np.float32)

    parameters = {"in_w": dense(FEATURES, WIDTH, 1.0), "in_b": np.zeros(WIDTH, np.float32)}
    for i in range(BLOCKS):
        parameters |= {
            f"b{i}_norm_g": np.ones(WIDTH, np.float32),
            f"b{i}_norm_b": np.zeros(WIDTH, np.float32),
            f"b{i}_up_w": dense(WIDTH, WIDTH, 1.4),
            f"b{i}_up_b": np.zeros(WIDTH, np.float32),
            f"b{i}_down_w": dense(WIDTH, WIDTH, 0.5),
            f"b{i}_down_b": np.zeros(WIDTH, np.float32),
        }
    bias = np.full(STEP_OUTPUTS + PEAK_OUTPUTS, -2.0, np.float32)
    bias[:STEP_OUTPUTS : len(QUANTILE_LEVELS)] = 0.0  # medians
    bias[STEP_OUTPUTS :: len(PEAK_LEVELS)] = 0.0
    return parameters | {
        "out_norm_g": np.ones(WIDTH, np.float32),
        "out_norm_b": np.zeros(WIDTH, np.float32),
        "out_w": dense(WIDTH, STEP_OUTPUTS + PEAK_OUTPUTS, 0.05),
        "out_b": bias,
    }


def _layer_norm(x, gain, shift):
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(axis=-1, keepdims=True) + NORM_EPSILON) * gain + shift


def forward(p, features):
    """Mapped quantiles: (batch, steps, levels) and (batch, peak lengths, peak levels)."""
    h = features @ p["in_w"] + p["in_b"]
    for i in range(BLOCKS):
        n = _layer_norm(h, p[f"b{i}_norm_g"], p[f"b{i}_norm_b"])
        n = jax.nn.relu(n @ p[f"b{i}_up_w"] + p[f"b{i}_up_b"])
        h = h + n @ p[f"b{i}_down_w"] + p[f"b{i}_down_b"]
    raw = _layer_norm(h, p["out_norm_g"], p["out_norm_b"]) @ p["out_w"] + p["out_b"]
    last = features[:, LAST][:, None, None]
    raw_steps = raw[:, :STEP_OUTPUTS].reshape(-1, HORIZON_STEPS, len(QUANTILE_LEVELS))
    # Index 0 is the median's distance from the last value; the rest are gaps between neighbouring quantiles.
    median = last + raw_steps[:, :, :1]
    below = jax.nn.softplus(raw_steps[:, :, 1 : 1 + MEDIAN_INDEX])
    above = jax.nn.softplus(raw_steps[:, :, 1 + MEDIAN_INDEX :])
    lower = median - jnp.cumsum(below[:, :, ::-1], axis=2)[:, :, ::-1]
    steps = jnp.concatenate([lower, median, median + jnp.cumsum(above, axis=2)], axis=2)
    raw_peaks = raw[:, STEP_OUTPUTS:].reshape(-1, len(PEAK_STEPS), len(PEAK_LEVELS))
    gaps = jnp.concatenate([last + raw_peaks[:, :, :1], jax.nn.softplus(raw_peaks[:, :, 1:])], axis=2)
    return steps, jnp.cumsum(gaps, axis=2)


def _pinball(target, predicted, levels):
    error = target[..., None] - predicted
    return jnp.maximum(levels * error, (levels - 1) * error)


def _loss(p, batch):
    features, targets = batch
    steps, peaks = forward(p, features)
    known = ~jnp.isnan(targets)
    clean = jnp.where(known, targets, 0.0)
    by_step = _pinball(clean, steps, jnp.array(QUANTILE_LEVELS)).mean(axis=-1)
    step_loss = (by_step * known).sum() / jnp.maximum(known.sum(), 1)
    lengths = [jnp.where(known[:, :n], clean[:, :n], -jnp.inf).max(axis=1) for n in PEAK_STEPS]
    whole = jnp.stack([known[:, :n].all(axis=1) for n in PEAK_STEPS], axis=1)
    came = jnp.where(whole, jnp.stack(lengths, axis=1), 0.0)
    by_peak = _pinball(came, peaks, jnp.array(PEAK_LEVELS)).mean(axis=-1)
    return step_loss + PEAK_WEIGHT * (by_peak * whole).sum() / jnp.maximum(whole.sum(), 1)


@jax.jit
def _update(state, batch, rate):
    p, first, second, average, count = state
    loss, gradient = jax.value_and_grad(_loss)(p, batch)
    norm = jnp.sqrt(sum((g**2).sum() for g in jax.tree.leaves(gradient)))
    gradient = jax.tree.map(lambda g: g * jnp.minimum(1.0, 1.0 / (norm + 1e-9)), gradient)
    count = count + 1
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradient)

    def adam(w, m, v):
        step = (m / (1 - 0.9**count)) / (jnp.sqrt(v / (1 - 0.999**count)) + 1e-8)
        return w - rate * (step + (0.01 * w if w.ndim == 2 else 0.0))

    p = jax.tree.map(adam, p, first, second)
    average = jax.tree.map(lambda a, w: 0.999 * a + 0.001 * w, average, p)
    return (p, first, second, average, count), loss


def train(windows: Windows, steps: int, batch: int, seed: int, top_rate: float = 1.5e-3) -> dict[str, np.ndarray]:
    """AdamW on pinball loss in the mapped space, cosine rate with warm-up; returns averaged weights."""
    p = jax.tree.map(jnp.asarray, initial_parameters(seed))
    zeros = jax.tree.map(jnp.zeros_like, p)
    state = (p, zeros, zeros, p, jnp.zeros((), jnp.float32))
    rng = np.random.default_rng(seed + 1)
    began, total = time.monotonic(), 0.0
    for step in range(steps):
        rate = top_rate * min(1.0, (step + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / steps)))
        rows = rng.integers(0, len(windows.features), batch)
        state, loss = _update(state, tuple(part[rows] for part in windows), np.float32(rate))
        total += float(loss)
        if (step + 1) % 500 == 0:
            print(f"step {step + 1} of {steps}: loss {total / 500:.4f}, {time.monotonic() - began:.0f} s", flush=True)
            total = 0.0
    return {name: np.asarray(value) for name, value in state[3].items()}


def predict(p, features: np.ndarray, batch: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    """Mapped outputs for any number of rows."""
    run = jax.jit(forward)
    parts = []
    for at in range(0, len(features), batch):
        parts.append(run(p, features[at : at + batch]))
    return np.concatenate([np.asarray(s) for s, _ in parts]), np.concatenate([np.asarray(k) for _, k in parts])

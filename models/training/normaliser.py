"""Normaliser, version 1. `models/src/normaliser.rs` is the same in Rust; parity.json holds both together.

A context is mapped by asinh((x - median) / scale), with
scale = max(1.4826 * MAD, 0.5 * mean absolute deviation, 0.01 * |median|) over its valid values.
Multiplying a series by c > 0 multiplies median and scale by c and leaves the mapped values as they are: the
model never sees a unit. The second term keeps zero-inflated series (MAD = 0) usable, the third constant ones.
A context of zeros has scale 0: it maps to zeros and its forecast is zero.
"""

from typing import NamedTuple

import numpy as np

VERSION = 1
MAD_TO_DEVIATION = 1.4826
MEAN_DEVIATION_SHARE = 0.5
MEDIAN_SHARE = 0.01
# Forecasts beyond sinh(10) = 11,013 scales are cut: no series seen has moved so far.
MAPPED_LIMIT = 10.0


class Mapped(NamedTuple):
    """A batch of mapped contexts: what the network takes, and what maps its outputs back."""

    context: np.ndarray  # (batch, context steps) f32, 0 in gaps
    mask: np.ndarray  # (batch, context steps) f32, 1 where valid
    statistics: np.ndarray  # (batch, 4) f32: zero level, last valid, minimum, maximum; mapped
    median: np.ndarray  # (batch,) f64
    scale: np.ndarray  # (batch,) f64


def _row_median(values: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Median of the valid values of each row; `values` has NaN in gaps, `count` >= 1 valid ones."""
    ordered = np.sort(values, axis=1)  # NaN sorts last
    rows = np.arange(len(values))
    return ordered[rows, (count - 1) // 2] / 2 + ordered[rows, count // 2] / 2


def normalise(contexts: np.ndarray) -> Mapped:
    """Maps (batch, context steps) with NaN in gaps, oldest first, at least one valid value in a row."""
    valid = ~np.isnan(contexts)
    count = valid.sum(axis=1)
    median = _row_median(contexts, count)
    deviation = np.abs(contexts - median[:, None])
    mad = _row_median(deviation, count)
    mean = np.nansum(deviation / count[:, None], axis=1)
    scale = np.maximum.reduce([MAD_TO_DEVIATION * mad, MEAN_DEVIATION_SHARE * mean, MEDIAN_SHARE * np.abs(median)])
    divisor = np.where(scale > 0, scale, 1.0)
    mapped = np.arcsinh((contexts - median[:, None]) / divisor[:, None])
    last_index = contexts.shape[1] - 1 - np.argmax(valid[:, ::-1], axis=1)
    statistics = np.stack(
        [
            np.arcsinh(-median / divisor) * (scale > 0),
            mapped[np.arange(len(mapped)), last_index],
            np.nanmin(mapped, axis=1),
            np.nanmax(mapped, axis=1),
        ],
        axis=1,
    )
    return Mapped(
        np.where(valid, mapped, 0.0).astype(np.float32),
        valid.astype(np.float32),
        statistics.astype(np.float32),
        median,
        scale,
    )


def map_targets(targets: np.ndarray, median: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Maps what came, (batch, steps) with NaN in gaps, onto the scale of its context."""
    divisor = np.where(scale > 0, scale, 1.0)[:, None]
    mapped = np.arcsinh((targets - median[:, None]) / divisor)
    return np.clip(mapped, -MAPPED_LIMIT, MAPPED_LIMIT).astype(np.float32)


def denormalise(outputs: np.ndarray, median: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Maps network outputs (batch, ..., levels) back to the caller's unit, at least 0, monotone along levels."""
    shape = (-1,) + (1,) * (outputs.ndim - 1)
    bounded = np.clip(outputs.astype(np.float64), -MAPPED_LIMIT, MAPPED_LIMIT)
    values = np.maximum(0.0, median.reshape(shape) + scale.reshape(shape) * np.sinh(bounded))
    return np.maximum.accumulate(values, axis=-1)


def raise_peaks(steps: np.ndarray, peaks: np.ndarray, quantile_levels, peak_levels, peak_steps) -> np.ndarray:
    """Makes peaks agree with steps: a maximum is at least each member at a common level, and at least a shorter maximum."""
    peaks = peaks.copy()
    for p, level in enumerate(peak_levels):
        if level in quantile_levels:
            q = quantile_levels.index(level)
            for h, length in enumerate(peak_steps):
                peaks[:, h, p] = np.maximum(peaks[:, h, p], steps[:, :length, q].max(axis=1))
    return np.maximum.accumulate(np.maximum.accumulate(peaks, axis=1), axis=2)

"""Normaliser, version 2. `models/src/normaliser.rs` is the same in Rust; parity.json holds both together.

A history is mapped by asinh((x - median) / scale), with median and MAD over the valid values of the context (the newest
steps) and scale = max(1.4826 * MAD, 0.5 * mean absolute deviation, 0.3 * median of the deviations in the whole history that
are not 0, 0.01 * |median|). Mapped values are cut at 10: one absurd value before
the context blinds the model to nothing but itself; within the context it does for as long as it is there.
Multiplying a series by c > 0 multiplies median and scale by c and leaves the mapped values as they are: the model never sees
a unit. The second term keeps zero-inflated series (MAD = 0) usable, the third those that rest before the next burst, the
fourth constant ones. A history of zeros has scale 0: it maps to zeros and its forecast is zero.

What the network sees of it (`form.SECTIONS`): the context step by step; the steps before it in blocks, their means and
maxima; the day before around the hour that is forecast, where the interval divides a day and history reaches back; statistics.
"""

import warnings
from typing import NamedTuple

import numpy as np

from .form import (
    BLOCK_STEPS,
    CONTEXT_STEPS,
    DAY_BEFORE_STEPS,
    DAY_STEPS,
    FEATURES,
    HISTORY_STEPS,
    PAST_STEPS,
    PEAK_BLOCK_STEPS,
    RESOURCES,
    SECTIONS,
)

VERSION = 2
MAD_TO_DEVIATION = 1.4826
MEAN_DEVIATION_SHARE = 0.5
LONG_DEVIATION_SHARE = 0.3
MEDIAN_SHARE = 0.01
LEVEL_FACTOR = 0.3
# sinh(10) = 11,013 scales: no series seen has moved so far.
MAPPED_LIMIT = 10.0
PEAK_QUANTILES = (0.5, 0.75, 0.9)
RISE_QUANTILES = (0.5, 0.75, 0.9, 1.0)


class Mapped(NamedTuple):
    """A batch of mapped histories: what the network takes, and what maps its outputs back."""

    features: np.ndarray  # (batch, features) f32, but for the resource's section, which is zero here
    median: np.ndarray  # (batch,) f64
    scale: np.ndarray  # (batch,) f64


def _row_median(values: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Median of the valid values of each row; `values` has NaN in gaps, `count` >= 1 valid ones."""
    ordered = np.sort(values, axis=1)  # NaN sorts last
    rows = np.arange(len(values))
    return ordered[rows, (count - 1) // 2] / 2 + ordered[rows, count // 2] / 2


def _row_quantile(values: np.ndarray, quantile: float) -> np.ndarray:
    """The valid value at rank floor(quantile * (n - 1)) of each row; 0 where there is none."""
    count = (~np.isnan(values)).sum(axis=1)
    ordered = np.sort(values, axis=1)
    rank = np.floor(quantile * np.maximum(count - 1, 0)).astype(int)
    return np.where(count > 0, ordered[np.arange(len(values)), rank], 0.0)


def _blocks(values: np.ndarray, steps: int) -> np.ndarray:
    return values.reshape(len(values), -1, steps)


def _quiet(function, values: np.ndarray, axis: int) -> np.ndarray:
    """A reduction that leaves gaps out; NaN where all are gaps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return function(values, axis=axis)


def _day(history: np.ndarray, day_steps: np.ndarray) -> np.ndarray:
    """(batch, DAY_STEPS): the steps around one day before the next ones; NaN where history does not reach."""
    first = HISTORY_STEPS - day_steps[:, None] - DAY_BEFORE_STEPS
    index = first + np.arange(DAY_STEPS)[None, :]
    inside = (day_steps[:, None] > 0) & (index >= 0) & (index < HISTORY_STEPS)
    found = np.take_along_axis(history, np.clip(index, 0, HISTORY_STEPS - 1), axis=1)
    return np.where(inside, found, np.nan)


def _rises(whole: np.ndarray, peaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The level now, and by how much each block's peak lay above the level before that block; all mapped."""
    level = np.full(len(whole), np.nan)
    rises = np.full(peaks.shape, np.nan)
    for t in range(HISTORY_STEPS):
        if t % PEAK_BLOCK_STEPS == 0:
            rises[:, t // PEAK_BLOCK_STEPS] = peaks[:, t // PEAK_BLOCK_STEPS] - level
        now = whole[:, t]
        moved = np.where(np.isnan(level), now, level + LEVEL_FACTOR * (now - level))
        level = np.where(np.isnan(now), level, moved)
    return level, rises


def normalise(history: np.ndarray, day_steps: np.ndarray) -> Mapped:
    """Maps (batch, HISTORY_STEPS) with NaN in gaps, oldest first, at least one valid value in each context.

    `day_steps` (batch,) is how many steps a day has, 0 where they do not fit.
    """
    context = history[:, PAST_STEPS:]
    valid = ~np.isnan(context)
    count = valid.sum(axis=1)
    median = _row_median(context, count)
    deviation = np.abs(context - median[:, None])
    mad = _row_median(deviation, count)
    mean = np.nansum(deviation / count[:, None], axis=1)
    long_count = (~np.isnan(history)).sum(axis=1)
    moved = np.abs(history - median[:, None])
    moved[moved == 0] = np.nan
    moved_count = (~np.isnan(moved)).sum(axis=1)
    long_deviation = np.where(moved_count > 0, _row_median(moved, np.maximum(moved_count, 1)), 0.0)
    scale = np.maximum.reduce(
        [
            MAD_TO_DEVIATION * mad,
            MEAN_DEVIATION_SHARE * mean,
            LONG_DEVIATION_SHARE * long_deviation,
            MEDIAN_SHARE * np.abs(median),
        ]
    )
    divisor = np.where(scale > 0, scale, 1.0)

    def mapped(values: np.ndarray) -> np.ndarray:
        shape = (-1,) + (1,) * (values.ndim - 1)
        found = np.arcsinh((values - median.reshape(shape)) / divisor.reshape(shape)) * (scale > 0).reshape(shape)
        return np.clip(found, -MAPPED_LIMIT, MAPPED_LIMIT)

    whole = mapped(history)
    near = whole[:, PAST_STEPS:]
    level = np.full(len(history), np.nan)
    change, changes, before = np.zeros(len(history)), np.zeros(len(history)), np.full(len(history), np.nan)
    for t in range(CONTEXT_STEPS):
        known, now = valid[:, t], near[:, t]
        first = known & np.isnan(before)
        later = known & ~np.isnan(before)
        level = np.where(first, now, np.where(later, level + LEVEL_FACTOR * (now - level), level))
        change = np.where(later, change + np.abs(now - before), change)
        changes += later
        before = np.where(known, now, before)
    past = _blocks(whole[:, :PAST_STEPS], BLOCK_STEPS)
    means, maxima = _quiet(np.nanmean, past, 2), _quiet(np.nanmax, past, 2)
    day = _day(whole, day_steps)
    peaks = _quiet(np.nanmax, _blocks(whole, PEAK_BLOCK_STEPS), 2)
    end_level, rises = _rises(whole, peaks)
    statistics = np.stack(
        [
            mapped(np.zeros(len(history))),
            before,
            np.nanmin(near, axis=1),
            np.nanmax(near, axis=1),
            level,
            change / np.maximum(changes, 1),
            count / CONTEXT_STEPS,
            np.nanmin(whole, axis=1),
            np.nanmax(whole, axis=1),
            np.nansum(whole, axis=1) / long_count,
            long_count / HISTORY_STEPS,
            *(_row_quantile(peaks, quantile) for quantile in PEAK_QUANTILES),
            *(end_level + _row_quantile(rises, quantile) for quantile in RISE_QUANTILES),
        ],
        axis=1,
    )
    sections = [
        np.where(valid, near, 0.0),
        valid,
        np.nan_to_num(means),
        np.nan_to_num(maxima),
        (~np.isnan(past)).mean(axis=2),
        np.nan_to_num(day),
        ~np.isnan(day),
        statistics,
        np.zeros((len(history), len(RESOURCES))),
    ]
    features = np.concatenate([section.astype(np.float32) for section in sections], axis=1)
    assert [s.shape[1] for s in sections] == list(SECTIONS.values()) and features.shape[1] == FEATURES
    return Mapped(features, median, scale)


def with_resource(mapped: Mapped, resources) -> np.ndarray:
    """The features with the kind of resource of each row set."""
    features = mapped.features.copy()
    features[:, -len(RESOURCES) :] = np.eye(len(RESOURCES), dtype=np.float32)[[RESOURCES.index(r) for r in resources]]
    return features


def map_targets(targets: np.ndarray, median: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Maps what came, (batch, steps) with NaN in gaps, onto the scale of its history."""
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

"""Cuts windows: contexts with what came after them, for training (augmented) and for validation (as they are)."""

from typing import NamedTuple

import numpy as np

from .form import CONTEXT_STEPS, HORIZON_STEPS, RESOURCES
from .normaliser import map_targets, normalise
from .series import Series

SPAN = CONTEXT_STEPS + HORIZON_STEPS
GROUP_SHARE = {
    "google2011_vm": 0.40,
    "google2019_fleet": 0.06,
    "azure2019_fleet": 0.04,
    "nab_aws": 0.20,
    "synthetic": 0.30,
}
COARSENING = (1, 1, 1, 1, 2, 3, 4, 6)
MIX_SHARE = 0.15
OTHER_KIND_SHARE = 0.15


class Windows(NamedTuple):
    """Mapped windows ready for the network."""

    context: np.ndarray
    mask: np.ndarray
    statistics: np.ndarray
    resource: np.ndarray  # (n, 4) one-hot f32
    targets: np.ndarray  # (n, horizon steps) mapped, NaN in gaps


def one_hot(resources) -> np.ndarray:
    """(n, 4) from resource names."""
    return np.eye(len(RESOURCES), dtype=np.float32)[[RESOURCES.index(r) for r in resources]]


def _coarsen(values: np.ndarray, factor: int) -> np.ndarray:
    """Means of `factor` neighbours (gaps left out): the same series at a longer interval."""
    if factor == 1:
        return values
    blocks = values[: len(values) // factor * factor].reshape(-1, factor)
    count = (~np.isnan(blocks)).sum(axis=1)
    return np.where(count > 0, np.nansum(blocks, axis=1) / np.maximum(count, 1), np.nan)


def _cut(rng: np.random.Generator, series: Series) -> np.ndarray:
    """One span of the training part, at a random interval, front-padded with gaps if the series is short."""
    known = series.values[: series.train_until]
    factor = int(rng.choice(COARSENING))
    if len(known) // factor < SPAN:
        factor = 1
    values = _coarsen(known, factor)
    end = int(rng.integers(min(SPAN, len(values)), len(values) + 1))
    if rng.random() < 0.1:  # the start of a series, as a young host has it
        end = int(rng.integers(HORIZON_STEPS + 3, SPAN))
    span = np.full(SPAN, np.nan)
    part = values[max(0, end - SPAN) : end]
    span[SPAN - len(part) :] = part
    return span


def _thin(rng: np.random.Generator, span: np.ndarray) -> None:
    """Short contexts and gaps, in place; targets stay."""
    if rng.random() < 0.4:
        keep = int(np.exp(rng.uniform(np.log(2), np.log(CONTEXT_STEPS))))
        span[: CONTEXT_STEPS - keep] = np.nan
    chance = rng.random()
    if chance < 0.15:
        span[:CONTEXT_STEPS][rng.random(CONTEXT_STEPS) < rng.uniform(0.01, 0.4)] = np.nan
    elif chance < 0.25:
        start = int(rng.integers(0, CONTEXT_STEPS))
        span[start : min(CONTEXT_STEPS, start + int(rng.integers(1, 24)))] = np.nan


def training_windows(series: list[Series], count: int, seed: int) -> Windows:
    """`count` augmented windows, groups by GROUP_SHARE, none reading past `train_until`."""
    rng = np.random.default_rng(seed)
    groups = {g: [s for s in series if s.group == g and s.train_until > 0] for g in GROUP_SHARE}
    names, shares = list(GROUP_SHARE), np.array(list(GROUP_SHARE.values()))
    spans, kinds = np.empty((count, SPAN)), []
    filled = 0
    while filled < count:
        members = groups[names[rng.choice(len(names), p=shares)]]
        chosen = members[rng.integers(len(members))]
        span = _cut(rng, chosen)
        if rng.random() < MIX_SHARE:
            other = _cut(rng, members[rng.integers(len(members))])
            weight = rng.uniform(0.1, 0.9)
            own_level, other_level = np.nanmean(span), np.nanmean(other)
            if own_level > 0 and other_level > 0:
                span = weight * span / own_level + (1 - weight) * other / other_level
        _thin(rng, span)
        if np.isnan(span[:CONTEXT_STEPS]).all() or np.isnan(span[CONTEXT_STEPS:]).all():
            continue
        spans[filled] = span
        swapped = rng.random() < OTHER_KIND_SHARE
        kinds.append(RESOURCES[rng.integers(len(RESOURCES))] if swapped else chosen.resource)
        filled += 1
    mapped = normalise(spans[:, :CONTEXT_STEPS])
    keep = mapped.scale > 0  # a context of zeros has no scale: its forecast is zero by definition
    targets = map_targets(spans[:, CONTEXT_STEPS:], mapped.median, mapped.scale)
    return Windows(mapped.context[keep], mapped.mask[keep], mapped.statistics[keep], one_hot(kinds)[keep], targets[keep])


class Origin(NamedTuple):
    """A validation window in the series' own unit: all history up to the origin, and what came."""

    series: Series
    history: np.ndarray
    future: np.ndarray


def validation_origins(series: list[Series], stride: int = HORIZON_STEPS) -> list[Origin]:
    """Rolling origins whose future lies wholly in the validation part and has no gap."""
    origins = []
    for one in series:
        if one.train_until >= len(one.values):
            continue
        for at in range(max(one.train_until, CONTEXT_STEPS), len(one.values) - HORIZON_STEPS + 1, stride):
            history, future = one.values[:at], one.values[at : at + HORIZON_STEPS]
            if np.isnan(future).any() or np.isnan(history[-CONTEXT_STEPS:]).all():
                continue
            origins.append(Origin(one, history, future))
    return origins


def contexts_of(origins: list[Origin], steps: int = CONTEXT_STEPS) -> np.ndarray:
    """(n, context steps): the last `steps` of each history, gaps before them."""
    out = np.full((len(origins), CONTEXT_STEPS), np.nan)
    for row, origin in zip(out, origins):
        row[CONTEXT_STEPS - steps :] = origin.history[-steps:]
    return out

"""Cuts windows: contexts with what came after them, for training (augmented) and for validation (as they are)."""

from typing import NamedTuple

import numpy as np

from . import site
from .form import CONTEXT_STEPS, HISTORY_STEPS, HORIZON_STEPS, PAST_STEPS, RESOURCES
from .normaliser import map_targets, normalise, with_resource
from .series import GRID_S, Series

SPAN = HISTORY_STEPS + HORIZON_STEPS
DAY_S = 86_400
GROUP_SHARE = {
    "google2011_vm": 0.32,
    "google2019_fleet": 0.06,
    "azure2019_fleet": 0.04,
    "nab_aws": 0.18,
    "synthetic": 0.40,
}
SITE_SHARE = 0.4
"""Of the windows, where there is a site's own history; the other groups share the rest as before."""
COARSENING = (1, 1, 1, 1, 2, 3, 4, 6)
MIX_SHARE = 0.15
OTHER_KIND_SHARE = 0.15
DAY_KNOWN_SHARE = 0.9


class Windows(NamedTuple):
    """Mapped windows ready for the network."""

    features: np.ndarray
    targets: np.ndarray  # (n, horizon steps) mapped, NaN in gaps


def _coarsen(values: np.ndarray, factor: int) -> np.ndarray:
    """Means of `factor` neighbours (gaps left out): the same series at a longer interval."""
    if factor == 1:
        return values
    blocks = values[: len(values) // factor * factor].reshape(-1, factor)
    count = (~np.isnan(blocks)).sum(axis=1)
    return np.where(count > 0, np.nansum(blocks, axis=1) / np.maximum(count, 1), np.nan)


def _cut(rng: np.random.Generator, series: Series) -> tuple[np.ndarray, int]:
    """One span of the training part at a random interval, front-padded with gaps where the series begins; steps in a day."""
    known = series.values[: series.train_until]
    factor = int(rng.choice(COARSENING))
    if len(known) // factor < CONTEXT_STEPS + HORIZON_STEPS:
        factor = 1
    values = _coarsen(known, factor)
    end = int(rng.integers(min(CONTEXT_STEPS + HORIZON_STEPS, len(values)), len(values) + 1))
    if rng.random() < 0.1:  # the start of a series, as a young host has it
        end = int(rng.integers(HORIZON_STEPS + 3, min(CONTEXT_STEPS + HORIZON_STEPS, len(values))))
    span = np.full(SPAN, np.nan)
    part = values[max(0, end - SPAN) : end]
    span[SPAN - len(part) :] = part
    return span, DAY_S // (GRID_S * factor)


def _thin(rng: np.random.Generator, span: np.ndarray) -> None:
    """Short contexts and gaps, in place; targets stay."""
    if rng.random() < 0.4:
        keep = int(np.exp(rng.uniform(np.log(2), np.log(HISTORY_STEPS))))
        span[: HISTORY_STEPS - keep] = np.nan
    chance = rng.random()
    if chance < 0.15:
        span[:HISTORY_STEPS][rng.random(HISTORY_STEPS) < rng.uniform(0.01, 0.4)] = np.nan
    elif chance < 0.25:
        start = int(rng.integers(0, HISTORY_STEPS))
        span[start : min(HISTORY_STEPS, start + int(rng.integers(1, 48)))] = np.nan


def training_windows(series: list[Series], count: int, seed: int) -> Windows:
    """`count` augmented windows, groups by GROUP_SHARE (and SITE_SHARE), none reading past `train_until`."""
    rng = np.random.default_rng(seed)
    share = dict(GROUP_SHARE)
    if any(s.group == site.GROUP for s in series):
        share = {g: (1 - SITE_SHARE) * part for g, part in share.items()} | {site.GROUP: SITE_SHARE}
    groups = {g: [s for s in series if s.group == g and s.train_until > 0] for g in share}
    names, shares = list(share), np.array(list(share.values()))
    spans, kinds, days = np.empty((count, SPAN)), [], np.zeros(count, int)
    filled = 0
    while filled < count:
        members = groups[names[rng.choice(len(names), p=shares)]]
        chosen = members[rng.integers(len(members))]
        span, day_steps = _cut(rng, chosen)
        if rng.random() < MIX_SHARE:
            other, other_day = _cut(rng, members[rng.integers(len(members))])
            day_steps = day_steps if day_steps == other_day else 0
            weight = rng.uniform(0.1, 0.9)
            own_level, other_level = np.nanmean(span), np.nanmean(other)
            if own_level > 0 and other_level > 0:
                span = weight * span / own_level + (1 - weight) * other / other_level
        _thin(rng, span)
        if np.isnan(span[PAST_STEPS:HISTORY_STEPS]).all() or np.isnan(span[HISTORY_STEPS:]).all():
            continue
        spans[filled] = span
        days[filled] = day_steps if rng.random() < DAY_KNOWN_SHARE else 0
        swapped = rng.random() < OTHER_KIND_SHARE
        kinds.append(RESOURCES[rng.integers(len(RESOURCES))] if swapped else chosen.resource)
        filled += 1
    mapped = normalise(spans[:, :HISTORY_STEPS], days)
    keep = mapped.scale > 0  # a history of zeros has no scale: its forecast is zero by definition
    targets = map_targets(spans[:, HISTORY_STEPS:], mapped.median, mapped.scale)
    return Windows(with_resource(mapped, kinds)[keep], targets[keep])


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


def histories_of(origins: list[Origin], steps: int = HISTORY_STEPS) -> np.ndarray:
    """(n, history steps): the last `steps` of each history, gaps before them."""
    out = np.full((len(origins), HISTORY_STEPS), np.nan)
    for row, origin in zip(out, origins):
        kept = origin.history[-steps:]
        row[HISTORY_STEPS - len(kept) :] = kept
    return out

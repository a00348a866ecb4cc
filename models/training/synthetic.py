"""Seeded synthetic telemetry: the kinds of series that the traces lack (disk, network, leaks, batch, jobs by the clock).

A series is five days of 288 steps. Some rhythms follow the day (business hours, backups, jobs by the clock), some have a
period of their own, from 6 steps to a week.
"""

import numpy as np

from .form import RESOURCES
from .series import Series

DAY = 288
LENGTH = 5 * DAY
CLOCK_PERIODS = (6, 12, 12, 36, 72, 144, DAY, DAY, DAY, DAY, DAY, DAY)


def _wave(rng: np.random.Generator, t: np.ndarray, period: float) -> np.ndarray:
    wave = np.zeros(len(t))
    for harmonic in range(1, rng.integers(1, 4) + 1):
        wave += rng.uniform(0.2, 1) / harmonic * np.sin(2 * np.pi * harmonic * t / period + rng.uniform(0, 2 * np.pi))
    return wave


def _periodic(rng: np.random.Generator, t: np.ndarray) -> np.ndarray:
    return _wave(rng, t, np.exp(rng.uniform(np.log(6), np.log(2016))))


def _business_day(rng: np.random.Generator, t: np.ndarray) -> np.ndarray:
    """A daily wave, or office hours with soft edges; on some days much less of it."""
    if rng.random() < 0.5:
        shape = _wave(rng, t, DAY)
    else:
        begins, length, edge = rng.uniform(0, DAY), rng.uniform(0.15, 0.7) * DAY, rng.uniform(2, 30)
        phase = (t - begins) % DAY
        shape = 1.5 / (1 + np.exp(-np.minimum(phase, length - phase) / edge))
    weight = np.where(rng.random(LENGTH // DAY + 1) < 0.2, rng.uniform(0, 0.5), 1.0)
    return shape * weight[t // DAY]


def _by_the_clock(rng: np.random.Generator, length: int) -> np.ndarray:
    """Jobs at fixed times: a backup each night, a job each hour; size and instant vary a little, some are left out."""
    out = np.zeros(length)
    for _ in range(rng.integers(1, 6)):
        period = int(rng.choice(CLOCK_PERIODS))
        lasts = int(min(period - 1, np.exp(rng.uniform(0, np.log(24)))))
        size, spread = rng.pareto(2.0) + 1, rng.choice([0.02, 0.1, 0.4])
        jitter, missing = int(rng.choice([0, 0, 0, 1, 3])), rng.choice([0, 0, 0, 0.1, 0.3])
        for at in range(int(rng.integers(period)), length, period):
            if rng.random() < missing:
                continue
            begin = max(0, at + int(rng.integers(-jitter, jitter + 1)))
            out[begin : begin + max(1, lasts)] += size * np.exp(spread * rng.standard_normal())
    return np.minimum(out, 200.0)


def _autoregressive(rng: np.random.Generator, length: int) -> np.ndarray:
    decay = rng.choice([0.0, 0.5, 0.8, 0.95, 0.99, 1.0])
    shocks = rng.standard_t(rng.choice([3, 5, 30]), length)
    noise = np.empty(length)
    level = 0.0
    for i, shock in enumerate(shocks):
        level = decay * level + shock
        noise[i] = level
    return noise / (noise.std() + 1e-9)


def _bursts(rng: np.random.Generator, length: int) -> np.ndarray:
    """Poisson arrivals of Pareto size that decay."""
    rate = np.exp(rng.uniform(np.log(0.003), np.log(0.2)))
    tail = rng.uniform(1.2, 4)
    fade = rng.choice([0.0, 0.3, 0.7, 0.9])
    arrivals = rng.poisson(rate, length) * (rng.pareto(tail, length) + 1)
    out = np.empty(length)
    level = 0.0
    for i, arrival in enumerate(arrivals):
        level = fade * level + arrival
        out[i] = level
    return np.minimum(out, 200.0)


def _on_off(rng: np.random.Generator, length: int) -> np.ndarray:
    """Batch work: on and off runs of geometric length, or on a timetable."""
    if rng.random() < 0.5:
        period, share = rng.integers(6, DAY + 1), rng.uniform(0.05, 0.8)
        return ((np.arange(length) + rng.integers(period)) % period < share * period).astype(float)
    state, out = rng.random() < 0.5, np.empty(length)
    leave = (1 / rng.uniform(3, 80), 1 / rng.uniform(2, 40))
    for i in range(length):
        if rng.random() < leave[int(state)]:
            state = not state
        out[i] = float(state)
    return out


def _shifts(rng: np.random.Generator, length: int) -> np.ndarray:
    """Level shifts and, at times, a leak that ends in a restart."""
    out = np.zeros(length)
    for at in rng.integers(0, length, rng.integers(0, 6)):
        out[at:] += rng.normal(0, 1.5)
    if rng.random() < 0.3:
        cycle = rng.integers(40, length)
        out += rng.uniform(0.5, 4) * ((np.arange(length) + rng.integers(cycle)) % cycle) / cycle
    return out


def _one(rng: np.random.Generator, resource: str) -> np.ndarray:
    t = np.arange(LENGTH)
    busy = resource in ("disk", "network")
    value = np.full(LENGTH, rng.uniform(0, 1) ** 3 * 8)
    if rng.random() < 0.3:
        value += rng.uniform(0.2, 2) * _periodic(rng, t)
    if rng.random() < 0.45:
        value += rng.uniform(0.2, 3) * _business_day(rng, t)
    if rng.random() < (0.6 if busy else 0.5):
        value += rng.uniform(0.2, 8) * _by_the_clock(rng, LENGTH)
    if rng.random() < (0.8 if busy else 0.7):
        value += np.exp(rng.uniform(np.log(0.01), np.log(1.5))) * _autoregressive(rng, LENGTH)
    if rng.random() < 0.3:
        value += _shifts(rng, LENGTH)
    if rng.random() < (0.6 if busy else 0.35):
        value += rng.uniform(0.2, 4) * _bursts(rng, LENGTH)
    if rng.random() < 0.25:
        value += rng.uniform(0.5, 6) * _on_off(rng, LENGTH)
    if busy and rng.random() < 0.35:  # mostly idle
        value = np.where(rng.random(LENGTH) < rng.uniform(0.2, 0.9), 0.0, value)
    if rng.random() < 0.2:  # multiplicative noise
        value = value * np.exp(rng.uniform(0.02, 0.6) * rng.standard_normal(LENGTH))
    if rng.random() < 0.2:  # a ceiling, as a limit makes one
        value = np.minimum(value, np.quantile(value, rng.uniform(0.7, 0.98)))
    if rng.random() < 0.15:  # coarse counters
        grain = rng.uniform(0.05, 1)
        value = np.round(value / grain) * grain
    if rng.random() < 0.05:
        value = np.full(LENGTH, value[0])
    return np.maximum(value, 0.0)


def synthetic_series(count: int, seed: int) -> list[Series]:
    """`count` series of five days, kinds in turn; the same seed gives the same series."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(count):
        resource = RESOURCES[i % len(RESOURCES)]
        out.append(Series("synthetic", f"synthetic-{i}", resource, _one(rng, resource), LENGTH))
    return out

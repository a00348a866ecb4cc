"""Reads a site's own history, as `quotary history export` writes it."""

import csv
import sys
from datetime import datetime
from pathlib import Path

import numpy as np

from .form import CONTEXT_STEPS, HORIZON_STEPS
from .series import GRID_S, TRAIN_SHARE, Series

GROUP = "site"
COLUMNS = ("timestamp", "host", "subject", "resource", "mean", "censored")
RESOURCE = {
    "cpu_millicores": "cpu",
    "memory_bytes": "memory",
    "disk_bytes_per_second": "disk",
    "network_bits_per_second": "network",
}
"""What a model forecasts; series of anything else are left out."""
STEPS_MIN = round((CONTEXT_STEPS + HORIZON_STEPS) / TRAIN_SHARE)
"""A shorter series shows no course."""
STEPS_MAX = 366 * 86_400 // GRID_S
"""What reaches further is a clock that was wrong."""


class HistoryFault(ValueError):
    """A file that is no history; says where and why."""


def _points(path: Path):
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise HistoryFault(f"{path}: no column {', '.join(missing)}: make it with `quotary history export --resolution step`")
        for row in reader:
            if any(row[name] is None for name in COLUMNS):
                raise HistoryFault(f"{path}, line {reader.line_num}: the row is cut: export it again")
            try:
                at = datetime.fromisoformat(row["timestamp"].replace("Z", "+00:00")).timestamp()
                value = float(row["mean"])
            except ValueError as fault:
                raise HistoryFault(f"{path}, line {reader.line_num}: {fault}") from fault
            if not (np.isfinite(value) and value >= 0):
                raise HistoryFault(f"{path}, line {reader.line_num}: {row['mean']} is no demand")
            # Usage at a limit says how much there was at least, not how much was wanted: no example of demand.
            if row["censored"] != "1" and row["resource"] in RESOURCE:
                yield (row["host"], row["subject"], row["resource"]), int(at // GRID_S), value


def read_history(path: Path) -> list[Series]:
    """All series of a file that are long enough, in a fixed order, on the grid of the traces; the mean where a step has several points.

    Raises HistoryFault where the file is none, or none of its series is long enough.
    """
    slots: dict[tuple[str, str, str], dict[int, list[float]]] = {}
    for key, slot, value in _points(path):
        slots.setdefault(key, {}).setdefault(slot, []).append(value)
    series, left_out = [], 0
    for key, points in sorted(slots.items()):
        first, steps = min(points), max(points) - min(points) + 1
        if not STEPS_MIN <= steps <= STEPS_MAX or len(points) < STEPS_MIN // 2:
            left_out += 1
            continue
        values = np.full(steps, np.nan)
        for slot, found in points.items():
            values[slot - first] = sum(found) / len(found)
        series.append(Series(GROUP, " ".join(key), RESOURCE[key[2]], values, int(steps * TRAIN_SHARE)))
    if left_out:
        print(f"{path}: {left_out} series are too short (or reach over years) and are left out", file=sys.stderr)
    if not series:
        raise HistoryFault(f"{path}: no series of {STEPS_MIN} steps of {GRID_S} s or more")
    return series

"""Reads the traces and says which part trains and which part validates."""

import csv
import hashlib
import lzma
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

TRAIN_SHARE = 0.75
GRID_S = 300

FILES = (
    "google2011_vm_300s_train.csv.xz",
    "google2011_vm_300s_valid.csv.xz",
    "google2019_fleet_mean_300s_percent.csv.xz",
    "azure2019_fleet_sum_300s.csv.xz",
    "nab_aws_300s.csv.xz",
)
# Longest prefix wins; a series that is none of the four kinds counts as the one that it moves with.
NAB_RESOURCE = (
    ("ec2_cpu", "cpu"),
    ("rds_cpu", "cpu"),
    ("grok_asg", "cpu"),
    ("ec2_disk", "disk"),
    ("ec2_network", "network"),
    ("iio_", "network"),
    ("elb_request", "network"),
)


class Series(NamedTuple):
    """One series on a regular grid: NaN in gaps; `train_until` is the first index that training never reads."""

    group: str
    name: str
    resource: str
    values: np.ndarray
    train_until: int


def _rows(path: Path):
    with lzma.open(path, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _split(group: str, name: str, resource: str, values: np.ndarray) -> Series:
    return Series(group, name, resource, values, int(len(values) * TRAIN_SHARE))


def _google_vms(path: Path, train: bool) -> list[Series]:
    by_vm: dict[str, list[tuple[float, float]]] = {}
    for row in _rows(path):
        by_vm.setdefault(row["vm"], []).append((float(row["cpu_percent"]), float(row["mem_percent"])))
    series = []
    for vm, points in by_vm.items():
        table = np.array(points)
        until = len(table) if train else 0
        series.append(Series("google2011_vm", vm, "cpu", table[:, 0], until))
        series.append(Series("google2011_vm", vm, "memory", table[:, 1], until))
    return series


def _fleet(path: Path, group: str, columns: tuple[tuple[str, str], ...]) -> list[Series]:
    rows = list(_rows(path))
    return [_split(group, c, r, np.array([float(row[c] or "nan") for row in rows])) for c, r in columns]


def _nab(path: Path) -> list[Series]:
    points: dict[str, dict[int, list[float]]] = {}
    for row in _rows(path):
        at = datetime.strptime(row["timestamp"], "%Y-%m-%d %H:%M:%S")
        slot = round((at - datetime(2010, 1, 1)).total_seconds() / GRID_S)
        points.setdefault(row["series"], {}).setdefault(slot, []).append(float(row["value"]))
    series = []
    for name, slots in points.items():
        first = min(slots)
        values = np.full(max(slots) - first + 1, np.nan)
        for slot, found in slots.items():
            values[slot - first] = sum(found) / len(found)
        resource = next(kind for prefix, kind in NAB_RESOURCE if name.startswith(prefix))
        series.append(_split("nab_aws", name, resource, values))
    return series


def read_traces(directory: Path) -> list[Series]:
    """All series of the directory in a fixed order."""
    train, valid, google, azure, nab = (directory / name for name in FILES)
    fleet_google = (("cpu_util_percent", "cpu"), ("mem_util_percent", "memory"), ("assigned_mem_percent", "memory"))
    return (
        _google_vms(train, train=True)
        + _google_vms(valid, train=False)
        + _fleet(google, "google2019_fleet", fleet_google)
        + _fleet(azure, "azure2019_fleet", (("cpu_usage", "cpu"), ("assigned_mem", "memory")))
        + _nab(nab)
    )


def file_digests(directory: Path) -> dict[str, str]:
    """SHA-256 of each trace file, in hexadecimal."""
    return {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in FILES}

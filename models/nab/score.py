"""Scores an anomaly detector by the rules of the Numenta Anomaly Benchmark (NAB), over all 58 files.

Reads a directory of result files (CSV with the columns `timestamp` and `anomaly_score`; others are not looked at), laid
out as the labels name them (`realTweets/Twitter_volume_IBM.csv`), and `combined_windows.json`.

The rules are those of Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms: the Numenta Anomaly
Benchmark" (ICMLA 2015), as `nab/sweeper.py` and `nab/runner.py` of numenta/NAB apply them:

- the first 15 % of a file's rows, of 5,000 rows at most, are not scored (probation);
- a window is worth the best of the alarms in it, by place: sigma(y) = 2 / (1 + e^(5 y)) - 1, y = -1 at its first row;
  over sigma(-1), so that an alarm on the first row is worth 1; without an alarm it costs the profile's FN weight;
- an alarm outside costs the FP weight, less so shortly after a window: -sigma(y), y = rows past the end / (width - 1);
- one threshold for all files: the one with the greatest sum, per profile;
- score = 100 * (sum - sum of a detector that says nothing) / (sum of a perfect one - that of the silent one).

The threshold is so chosen on the very files it is scored on, as in the published table. Beside it stands the split-half
figure: the threshold of one half of the files, scored on the other, both ways. There is no point-adjusted figure.

Usage: score.py RESULTS [--labels FILE] [--threshold T] [--json]
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

PROBATION_SHARE = 0.15
PROBATION_ROWS = 5_000
# Weights (false alarm, missed window) of the published profiles; a window that is found is worth 1.
PROFILES = {
    "standard": (0.11, 1.0),
    "reward_low_fp": (0.22, 1.0),
    "reward_low_fn": (0.11, 2.0),
}
# Above every score: no alarm at all.
SILENT = 1.1
DAY_S = 86_400.0


class Refused(Exception):
    """What was given cannot be scored; says which file and why."""


@dataclass(frozen=True)
class Series:
    """One file: its rows' times (seconds) and scores, and its windows as (first row, last row)."""

    name: str
    times: list[float]
    scores: list[float]
    windows: list[tuple[int, int]]


@dataclass(frozen=True)
class Point:
    """A row that counts: its score, its window (None: outside), and what an alarm there is worth before the FP weight."""

    score: float
    window: tuple[str, int] | None
    worth: float


def sigma(place: float) -> float:
    """The worth of an alarm at a place relative to a window: -1 its first row, 0 its end, 3 and more: far behind."""
    return -1.0 if place > 3.0 else 2.0 / (1.0 + math.exp(5.0 * place)) - 1.0


def probation(rows: int) -> int:
    """How many of the first rows are not scored."""
    return math.floor(min(math.floor(PROBATION_SHARE * rows), PROBATION_SHARE * PROBATION_ROWS))


def points(series: Series) -> list[Point]:
    """The rows that count, each with what an alarm there is worth."""
    out: list[Point] = []
    start = probation(len(series.scores))
    windows = iter(series.windows)
    coming, before = next(windows, None), None
    for row, score in enumerate(series.scores):
        if coming is not None and row > coming[1]:
            coming, before = next(windows, None), coming
        if row < start:
            continue
        if coming is not None and row >= coming[0]:
            first, last = coming
            place = -(last - row + 1) / (last - first + 1)
            out.append(Point(score, (series.name, first), sigma(place) / sigma(-1.0)))
        elif before is None:
            out.append(Point(score, None, -1.0))
        else:
            first, last = before
            out.append(Point(score, None, sigma((row - last) / max(last - first, 1))))
    return out


def raw(scored: list[Point], threshold: float, fp_weight: float, fn_weight: float) -> float:
    """The sum at one threshold: windows found, windows missed, alarms outside."""
    best = {point.window: -fn_weight for point in scored if point.window is not None}
    outside = 0.0
    for point in scored:
        if point.score < threshold:
            continue
        if point.window is None:
            outside += fp_weight * point.worth
        else:
            best[point.window] = max(best[point.window], point.worth)
    return sum(best.values()) + outside


def sweep(scored: list[Point], fp_weight: float, fn_weight: float) -> tuple[float, float]:
    """The threshold with the greatest sum, the highest of equals, and that sum."""
    best = {point.window: -fn_weight for point in scored if point.window is not None}
    total = sum(best.values())
    found, top = SILENT, total
    ordered = sorted(scored, key=lambda point: -point.score)
    for at, point in enumerate(ordered):
        if point.window is None:
            total += fp_weight * point.worth
        elif point.worth > best[point.window]:
            total += point.worth - best[point.window]
            best[point.window] = point.worth
        is_last_of_equals = at + 1 == len(ordered) or ordered[at + 1].score != point.score
        if is_last_of_equals and total > top:
            found, top = point.score, total
    return found, top


def normalised(total: float, windows: int, fn_weight: float) -> float:
    """0 for a detector that says nothing, 100 for a perfect one."""
    return 100.0 * (total + windows * fn_weight) / (windows * (1.0 + fn_weight)) if windows else 0.0


def windows_of(scored: list[Point]) -> int:
    """How many windows have a row that counts."""
    return len({point.window for point in scored if point.window is not None})


def split_half(files: list[list[Point]]) -> dict[str, float]:
    """Standard profile, the threshold of one half scored on the other: of the files by name, each second one."""
    fp_weight, fn_weight = PROFILES["standard"]
    halves = [[point for file in files[start::2] for point in file] for start in (0, 1)]
    thresholds = [sweep(half, fp_weight, fn_weight)[0] for half in halves]
    on_second, on_first = (
        normalised(raw(half, threshold, fp_weight, fn_weight), windows_of(half), fn_weight)
        for half, threshold in zip(reversed(halves), thresholds, strict=True)
    )
    return {
        "threshold_of_first": thresholds[0],
        "on_second": on_second,
        "threshold_of_second": thresholds[1],
        "on_first": on_first,
        "mean": (on_first + on_second) / 2.0,
    }


def field(all_series: list[Series], threshold: float) -> dict[str, float | int | None]:
    """At one fixed threshold: windows found, alarms outside per series and day, rows from a window's start to its alarm."""
    delays, windows, outside, days = [], 0, 0, 0.0
    for series in all_series:
        start = probation(len(series.scores))
        days += max(series.times[-1] - series.times[start], 0.0) / DAY_S
        inside: set[int] = set()
        for first, last in series.windows:
            windows += 1
            rows = range(max(first, start), last + 1)
            inside.update(rows)
            alarm = next((row for row in rows if series.scores[row] >= threshold), None)
            if alarm is not None:
                delays.append(alarm - first)
        outside += sum(
            score >= threshold and row >= start and row not in inside for row, score in enumerate(series.scores)
        )
    delays.sort()
    return {
        "threshold": threshold,
        "windows": windows,
        "windows_found": len(delays),
        "alarms_outside": outside,
        "series_days": days,
        "alarms_outside_per_series_day": outside / days if days else 0.0,
        "median_delay_rows": delays[len(delays) // 2] if delays else None,
    }


def report(all_series: list[Series], threshold: float) -> dict[str, object]:
    """All figures."""
    files = [points(series) for series in all_series]
    everything = [point for file in files for point in file]
    windows = windows_of(everything)
    profiles = {}
    for name, (fp_weight, fn_weight) in PROFILES.items():
        chosen, total = sweep(everything, fp_weight, fn_weight)
        profiles[name] = {"score": normalised(total, windows, fn_weight), "threshold": chosen}
    return {
        "files": len(all_series),
        "rows": sum(len(series.scores) for series in all_series),
        "windows": windows,
        "profiles": profiles,
        "split_half": split_half(files),
        "field": field(all_series, threshold),
    }


def time_of(text: str) -> float:
    """Seconds of `YYYY-MM-DD HH:MM:SS[.ffffff]` (as UTC), RFC 3339, or Unix seconds."""
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def read_series(path: Path, name: str, limits: list[list[str]]) -> Series:
    """One result file with its windows."""
    times, scores = [], []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                times.append(time_of(row["timestamp"]))
                scores.append(float(row["anomaly_score"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise Refused(f"{path}: {error!r} near row {len(scores)}") from error
    if not scores:
        raise Refused(f"{path}: no rows")
    if not all(0.0 <= score <= 1.0 for score in scores):
        raise Refused(f"{path}: a score is not in 0..1")
    row_at: dict[float, int] = {}
    for row, time in enumerate(times):
        row_at.setdefault(time, row)
    try:
        windows = [(row_at[time_of(first)], row_at[time_of(last)]) for first, last in limits]
    except KeyError as error:
        raise Refused(f"{path}: a window's limit, {error} s, is not among its rows") from error
    return Series(name, times, scores, windows)


def read(results: Path, labels: Path) -> list[Series]:
    """All result files that the labels name, in the order of their names; one that is missing is refused."""
    try:
        limits = json.loads(labels.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(f"{labels}: {error}") from error
    return [read_series(results / name, name, limits[name]) for name in sorted(limits)]


def text(figures: dict) -> str:
    """The figures as a person reads them."""
    lines = [f"NAB: {figures['files']} files, {figures['rows']} rows, {figures['windows']} windows"]
    for name, figure in figures["profiles"].items():
        lines.append(f"  {name:<14} {figure['score']:6.2f}   threshold {figure['threshold']:.4f}")
    half, at = figures["split_half"], figures["field"]
    lines.append(
        f"  {'split-half':<14} {half['mean']:6.2f}   (standard; {half['on_second']:.2f} and {half['on_first']:.2f}, "
        f"thresholds {half['threshold_of_first']:.4f} and {half['threshold_of_second']:.4f})"
    )
    lines.append(
        f"  at {at['threshold']}: {at['windows_found']} of {at['windows']} windows found, "
        f"{at['alarms_outside_per_series_day']:.3f} alarms outside per series and day, "
        f"median delay {at['median_delay_rows']} rows"
    )
    return "\n".join(lines)


GATE_STANDARD = 60
GATE_SPLIT_HALF = 55


def main() -> int:
    """Exit codes: 0 scored, 1 refused or below the gate, 2 usage."""
    parser = argparse.ArgumentParser(description="Scores result files by the rules of the Numenta Anomaly Benchmark.")
    parser.add_argument("results", type=Path, help="directory of result files, laid out as the labels name them")
    parser.add_argument("--labels", type=Path, default=Path("labels/combined_windows.json"), help="combined_windows.json")
    parser.add_argument("--threshold", type=float, default=0.5, help="for the field figures (default 0.5)")
    parser.add_argument("--json", action="store_true", help="prints one JSON object")
    parser.add_argument("--gate", action="store_true", help=f"exit 1 below {GATE_STANDARD} standard or {GATE_SPLIT_HALF} split-half")
    arguments = parser.parse_args()
    try:
        figures = report(read(arguments.results, arguments.labels), arguments.threshold)
    except Refused as refused:
        print(f"score.py: {refused}", file=sys.stderr)
        return 1
    print(json.dumps(figures, indent=2) if arguments.json else text(figures))
    held = figures["profiles"]["standard"]["score"] >= GATE_STANDARD and figures["split_half"]["mean"] >= GATE_SPLIT_HALF
    if arguments.gate:
        print(f"{'held' if held else 'MISSED'}: at least {GATE_STANDARD} standard and {GATE_SPLIT_HALF} split-half")
    return 0 if held or not arguments.gate else 1


if __name__ == "__main__":
    sys.exit(main())

"""Hand-made cases of the scorer. Run: python3 -m unittest discover -s models/nab

sigma(y) = 2 / (1 + e^(5 y)) - 1, by hand:
  sigma(-1)   = 2 / (1 + e^-5)   - 1 = 2 / 1.006737947 - 1 = 0.986614298
  sigma(-0.5) = 2 / (1 + e^-2.5) - 1 = 2 / 1.082084999 - 1 = 0.848283640
  sigma(-0.1) = 2 / (1 + e^-0.5) - 1 = 2 / 1.606530660 - 1 = 0.244918662
  sigma(0)    = 0
  sigma(1)    = -sigma(-1)
"""

import json
import tempfile
import unittest
from pathlib import Path

import score
from score import PROFILES, Refused, Series, field, normalised, points, probation, raw, read, sigma, split_half, sweep

STANDARD = PROFILES["standard"]


def series(rows: int, windows: list[tuple[int, int]], alarms: dict[int, float], name: str = "a") -> Series:
    """Rows of score 0, one a minute, but for the alarms."""
    return Series(name, [60.0 * row for row in range(rows)], [alarms.get(row, 0.0) for row in range(rows)], windows)


class Rules(unittest.TestCase):
    def test_sigma_is_as_published(self) -> None:
        for place, worth in [(-1.0, 0.986614298), (-0.5, 0.848283640), (-0.1, 0.244918662), (0.0, 0.0)]:
            self.assertAlmostEqual(sigma(place), worth, places=8)
            self.assertAlmostEqual(sigma(-place), -worth, places=8)
        self.assertEqual(sigma(3.1), -1.0)

    def test_probation_is_15_percent_of_at_most_5000_rows(self) -> None:
        self.assertEqual([probation(rows) for rows in (100, 1127, 4032, 5000, 22695)], [15, 169, 604, 750, 750])

    def test_an_alarm_on_the_first_row_of_a_window_is_worth_one_and_on_the_last_little(self) -> None:
        # Window of rows 50..59: ten rows. Row 50: y = -(59 - 50 + 1) / 10 = -1. Row 55: y = -0.5. Row 59: y = -0.1.
        for row, worth in [(50, 1.0), (55, 0.848283640 / 0.986614298), (59, 0.244918662 / 0.986614298)]:
            scored = points(series(100, [(50, 59)], {row: 0.9}))
            self.assertAlmostEqual(raw(scored, 0.9, *STANDARD), worth, places=8)

    def test_of_several_alarms_in_a_window_the_best_counts_once(self) -> None:
        scored = points(series(100, [(50, 59)], {50: 0.9, 55: 0.9, 59: 0.9}))
        self.assertAlmostEqual(raw(scored, 0.5, *STANDARD), 1.0, places=8)

    def test_false_alarms_cost_by_their_place_behind_a_window(self) -> None:
        # Before any window: -1. Row 68, window 50..59: y = (68 - 59) / (10 - 1) = 1: -0.986614298. Row 95: y = 4: -1.
        for row, cost in [(40, 1.0), (68, 0.986614298), (95, 1.0)]:
            scored = points(series(100, [(50, 59)], {50: 0.9, row: 0.9}))
            self.assertAlmostEqual(raw(scored, 0.5, 0.11, 1.0), 1.0 - 0.11 * cost, places=8)
            self.assertAlmostEqual(raw(scored, 0.5, 0.22, 1.0), 1.0 - 0.22 * cost, places=8)

    def test_rows_in_probation_neither_cost_nor_count(self) -> None:
        scored = points(series(100, [(50, 59)], {3: 0.9, 14: 0.9}))
        self.assertEqual(len(scored), 85)
        self.assertAlmostEqual(raw(scored, 0.5, *STANDARD), -1.0, places=8)

    def test_a_missed_window_costs_twice_where_misses_are_dear(self) -> None:
        scored = points(series(100, [(50, 59), (80, 84)], {}))
        self.assertAlmostEqual(raw(scored, 0.5, *PROFILES["standard"]), -2.0, places=8)
        self.assertAlmostEqual(raw(scored, 0.5, *PROFILES["reward_low_fn"]), -4.0, places=8)

    def test_silence_is_zero_and_perfection_a_hundred_in_every_profile(self) -> None:
        for _, fn_weight in PROFILES.values():
            self.assertAlmostEqual(normalised(-116.0 * fn_weight, 116, fn_weight), 0.0)
            self.assertAlmostEqual(normalised(116.0, 116, fn_weight), 100.0)
        # The form of the published table: 100 * (raw + 116) / 232.
        self.assertAlmostEqual(normalised(46.0, 116, 1.0), 100.0 * 162.0 / 232.0)


class Thresholds(unittest.TestCase):
    def test_the_sweep_finds_the_threshold_that_pays(self) -> None:
        # 0.9: one false alarm, no window: -1 - 0.11. 0.8: the window too: 1 - 0.11. 0.7: one more false alarm: 1 - 0.22.
        scored = points(series(100, [(50, 59)], {30: 0.9, 50: 0.8, 35: 0.7}))
        threshold, total = sweep(scored, *STANDARD)
        self.assertEqual(threshold, 0.8)
        self.assertAlmostEqual(total, 0.89, places=8)
        self.assertAlmostEqual(raw(scored, threshold, *STANDARD), total, places=8)

    def test_where_no_alarm_pays_the_detector_is_silent(self) -> None:
        # Ten false alarms of one score with the window's: 1 - 1.1 is more than -1; twenty: 1 - 2.2 is less.
        few = points(series(200, [(150, 159)], {row: 0.9 for row in [*range(40, 50), 150]}))
        many = points(series(200, [(150, 159)], {row: 0.9 for row in [*range(40, 60), 150]}))
        self.assertEqual(sweep(few, *STANDARD)[0], 0.9)
        self.assertEqual(sweep(many, *STANDARD), (score.SILENT, -1.0))

    def test_equal_scores_are_taken_together(self) -> None:
        scored = points(series(100, [(50, 59)], {50: 0.9, 30: 0.9}))
        self.assertAlmostEqual(sweep(scored, *STANDARD)[1], 0.89, places=8)

    def test_split_half_scores_each_half_at_the_threshold_of_the_other(self) -> None:
        # a at its own threshold 0.9 finds its window; b's only score there is 0.5, so a's threshold misses it: 0.
        # b's threshold 0.5 on a: the window, and one false alarm at 0.6: (1 - 0.11 + 1) / 2 = 94.5 %.
        a = points(series(100, [(50, 59)], {50: 0.9, 30: 0.6}, "a"))
        b = points(series(100, [(50, 59)], {50: 0.5}, "b"))
        half = split_half([a, b])
        self.assertEqual((half["threshold_of_first"], half["threshold_of_second"]), (0.9, 0.5))
        self.assertAlmostEqual(half["on_second"], 0.0, places=6)
        self.assertAlmostEqual(half["on_first"], 94.5, places=6)
        self.assertAlmostEqual(half["mean"], 47.25, places=6)

    def test_the_field_figures_count_every_alarm_at_one_threshold(self) -> None:
        at = field([series(2_880, [(2_000, 2_009)], {2_003: 0.6, 1_000: 0.7, 10: 0.9, 1_500: 0.4})], 0.5)
        self.assertEqual((at["windows"], at["windows_found"], at["alarms_outside"]), (1, 1, 1))
        self.assertEqual(at["median_delay_rows"], 3)
        # Rows 432..2879, one a minute.
        self.assertAlmostEqual(at["series_days"], 2_447 / 1_440, places=8)


class Files(unittest.TestCase):
    def setUp(self) -> None:
        self.home = tempfile.TemporaryDirectory()
        self.root = Path(self.home.name)
        self.labels = self.root / "labels.json"
        self.labels.write_text(json.dumps({"a.csv": [["2014-02-14 00:01:00.000000", "2014-02-14 00:02:00.000000"]]}))

    def tearDown(self) -> None:
        self.home.cleanup()

    def write(self, rows: list[str]) -> None:
        (self.root / "a.csv").write_text("timestamp,value,anomaly_score,kind\n" + "\n".join(rows) + "\n")

    def test_all_three_forms_of_time_are_one(self) -> None:
        for times in (
            ["2014-02-14 00:00:00", "2014-02-14 00:01:00", "2014-02-14 00:02:00"],
            ["2014-02-14T00:00:00Z", "2014-02-14T00:01:00Z", "2014-02-14T01:02:00+01:00"],
            ["1392336000", "1392336060", "1392336120"],
        ):
            self.write([f"{time},1,0.5," for time in times])
            self.assertEqual(read(self.root, self.labels)[0].windows, [(1, 2)])

    def test_what_cannot_be_scored_is_refused(self) -> None:
        good = ["2014-02-14 00:00:00,1,0.5,", "2014-02-14 00:01:00,1,0.5,", "2014-02-14 00:02:00,1,0.5,"]
        for bad in ([], good[:2], [*good[:2], "2014-02-14 00:02:00,1,1.5,"], [*good, "2014-02-14 00:03:00,1,,"]):
            self.write(bad)
            with self.assertRaises(Refused):
                read(self.root, self.labels)
        (self.root / "a.csv").unlink()
        with self.assertRaises(Refused):
            read(self.root, self.labels)


if __name__ == "__main__":
    unittest.main()

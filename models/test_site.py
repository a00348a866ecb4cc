"""Tests of a site's own history: `python -B -m unittest discover -s models -p 'test_*.py'` with the environment of train.sh."""

import tempfile
import unittest
from pathlib import Path

import numpy as np

from training.site import STEPS_MIN, HistoryFault, read_history

HEADER = "timestamp,host,subject,resource,mean,max,samples,censored\n"


def _row(step: int, mean="100", resource="cpu_millicores", censored="0", second=0) -> str:
    minutes = 5 * step
    at = f"2026-11-{1 + minutes // 1440:02}T{minutes // 60 % 24:02}:{minutes % 60:02}:{second:02}Z"
    return f"{at},h-1,host,{resource},{mean},200,10,{censored}\n"


class History(unittest.TestCase):
    def read(self, text: str):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "site.csv"
            path.write_text(text)
            return read_history(path)

    def test_series_stand_on_the_grid_with_gaps_as_gaps(self):
        rows = [_row(step, str(step)) for step in range(300) if step != 7]
        # Two points of one step count by their mean; usage at a limit is no example of demand.
        rows += [_row(20, "40", second=30), _row(300, "9000", censored="1"), _row(301, "1")]
        (series,) = self.read(HEADER + "".join(rows))
        self.assertEqual((series.resource, series.group, len(series.values)), ("cpu", "site", 302))
        self.assertTrue(np.isnan(series.values[[7, 300]]).all())
        self.assertEqual((series.values[6], series.values[20], series.values[301]), (6, 30, 1))
        self.assertEqual(series.train_until, 226)

    def test_what_no_model_forecasts_and_what_is_short_is_left_out(self):
        long = "".join(_row(step) for step in range(STEPS_MIN))
        short = "".join(_row(step, resource="memory_bytes") for step in range(STEPS_MIN - 1))
        gauge = "".join(_row(step, resource="requests_per_minute") for step in range(STEPS_MIN))
        self.assertEqual([one.resource for one in self.read(HEADER + long + short + gauge)], ["cpu"])
        with self.assertRaisesRegex(HistoryFault, "no series of"):
            self.read(HEADER + short)

    def test_what_is_no_history_is_refused_with_its_line(self):
        with self.assertRaisesRegex(HistoryFault, "no column timestamp"):
            self.read("time,value\n1,2\n")
        for bad in ("nan", "-1", "many", "inf"):
            with self.assertRaisesRegex(HistoryFault, "line 3"):
                self.read(HEADER + _row(0) + _row(1, bad))
        with self.assertRaisesRegex(HistoryFault, "line 3: the row is cut"):
            self.read(HEADER + _row(0) + _row(1)[:40])
        with self.assertRaisesRegex(HistoryFault, "line 2"):
            self.read(HEADER + _row(0).replace("2026", "year"))


if __name__ == "__main__":
    unittest.main()

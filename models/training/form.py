"""The form of the model: what goes in and what comes out.

The manifest states these numbers and the loader (`models/src`) takes them from there. How the features are made is the
normaliser's (`normaliser.py`), which the manifest names by version.
"""

RESOURCES = ("cpu", "memory", "disk", "network")
CONTEXT_STEPS = 96
"""The newest steps, each seen by itself."""
PAST_STEPS = 216
"""The steps before them, seen in blocks."""
HISTORY_STEPS = PAST_STEPS + CONTEXT_STEPS
BLOCK_STEPS = 6
DAY_STEPS = 24
"""Steps seen of the day before, around the hour that is forecast."""
DAY_BEFORE_STEPS = 6
"""So many of them lie before the hour that is forecast."""
PEAK_BLOCK_STEPS = 12
HORIZON_STEPS = 12
QUANTILE_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
PEAK_STEPS = (3, 6, 12)
PEAK_LEVELS = (0.5, 0.9, 0.95, 0.99, 0.995)
STATISTICS = (
    "zero_level",
    "last",
    "minimum",
    "maximum",
    "level",
    "roughness",
    "known",
    "long_minimum",
    "long_maximum",
    "long_mean",
    "long_known",
    "peak_median",
    "peak_p75",
    "peak_p90",
    "rise_median",
    "rise_p75",
    "rise_p90",
    "rise_maximum",
)
MEDIAN_INDEX = QUANTILE_LEVELS.index(0.5)
NAME = "demand-2"
OPSET = 17
IR_VERSION = 8
SECTIONS = {
    "context": CONTEXT_STEPS,
    "context_mask": CONTEXT_STEPS,
    "block_means": PAST_STEPS // BLOCK_STEPS,
    "block_maxima": PAST_STEPS // BLOCK_STEPS,
    "block_mask": PAST_STEPS // BLOCK_STEPS,
    "day": DAY_STEPS,
    "day_mask": DAY_STEPS,
    "statistics": len(STATISTICS),
    "resource": len(RESOURCES),
}
"""The sections of the one input, in order."""
FEATURES = sum(SECTIONS.values())

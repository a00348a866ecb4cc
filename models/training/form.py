"""The form of the model: what goes in and what comes out.

The manifest states these numbers and the loader (`models/src`) takes them from there, so that a
later model may change them without a change of code.
"""

RESOURCES = ("cpu", "memory", "disk", "network")
CONTEXT_STEPS = 96
HORIZON_STEPS = 12
QUANTILE_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
PEAK_STEPS = (3, 6, 12)
PEAK_LEVELS = (0.5, 0.9, 0.95, 0.99, 0.995)
STATISTICS = ("zero_level", "last", "minimum", "maximum")
MEDIAN_INDEX = QUANTILE_LEVELS.index(0.5)
NAME = "demand-1"
OPSET = 17
IR_VERSION = 8

"""What a feature is: a name, a unit, a range and the value that stands for "not measurable"."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Feature:
    """One number measured on a CCD image.

    Values are compressed (logarithm, ``asinh``) as `unit` says and then limited to
    [`low`, `high`], so that a min-max scaler is never ruled by one strange image.
    `neutral` is what an image gets that offers nothing to measure the feature on.
    """

    name: str
    unit: str
    low: float
    high: float
    neutral: float
    meaning: str

    def limit(self, value: float | None) -> float:
        """`value` inside the feature's range; `neutral` when it is None or not a number."""
        if value is None or math.isnan(value):
            return self.neutral
        return min(max(value, self.low), self.high)


def log_fraction(fraction: float, floor: float = 1e-3) -> float:
    """log10 of a share, flat below `floor`, where a single star or column would dominate."""
    return math.log10(floor + max(fraction, 0.0))


def log_excess(amplitude: float, floor: float) -> float:
    """log10 of an amplitude, flat below `floor`, which is what pure noise reaches."""
    return math.log10(math.hypot(amplitude, floor))

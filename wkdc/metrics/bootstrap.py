"""Bootstrap confidence intervals of a mean."""

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

RESAMPLES = 1000
"""Bootstrap samples of an interval."""


@dataclass(frozen=True)
class Interval:
    """A mean over images, and its 95 % confidence interval."""

    mean: float
    low: float
    high: float


def bootstrap_interval(values: Sequence[float], seed: int) -> Interval:
    """The mean of `values`, one or more, with the percentile bootstrap's interval (Efron 1979)."""
    rng = random.Random(seed)
    means = sorted(statistics.fmean(rng.choices(values, k=len(values))) for _ in range(RESAMPLES))
    low, high = means[round(0.025 * RESAMPLES)], means[round(0.975 * RESAMPLES) - 1]
    return Interval(statistics.fmean(values), low, high)

"""Gain over the baseline, paired by seed, with an interval over report rows and seeds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Metric = Callable[[Any, Any], float]

RESAMPLES = 400
LEVEL = 0.95


@dataclass(frozen=True)
class Gain:
    """Report score minus the baseline's.

    Attributes:
        mean: over seeds, in score units.
        std: over seeds' differences; 0 for one seed.
        low: lower end of the 95 % interval.
        high: upper end.
        n: seeds.
    """

    mean: float
    std: float
    low: float
    high: float
    n: int


def paired_gain(
    scores: list[float], baseline: list[float], logits: Floats, baseline_logits: Floats,
    labels: NDArray[np.generic], metric: Metric, seed: int = 0,
) -> Gain:  # fmt: skip
    """The gain of a configuration over the baseline's.

    Args:
        scores: [K] report scores, by seed.
        baseline: [K] the baseline's, same seeds.
        logits: [K, N, C] of the report rows.
        baseline_logits: [K, N, C] the baseline's.
        labels: [N].
        metric: function of logits [N, C] and labels [N].
        seed: of the bootstrap.

    Returns:
        The gain; its interval resamples rows and seeds together, the same for both sides, and is a
        percentile interval.

    Raises:
        ValueError: if the two sides do not have the same seeds.
    """
    if len(scores) != len(baseline):
        raise ValueError(
            f"gains are paired by seed, but there are {len(scores)} scores and {len(baseline)} of the baseline"
        )
    differences = np.subtract(scores, baseline)
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(RESAMPLES):
        rows = generator.integers(len(labels), size=len(labels))
        seeds = generator.integers(len(scores), size=len(scores))
        ours = np.mean([metric(logits[k][rows], labels[rows]) for k in seeds])
        theirs = np.mean([metric(baseline_logits[k][rows], labels[rows]) for k in seeds])
        drawn.append(ours - theirs)
    low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Gain(float(differences.mean()), spread(list(differences)), float(low), float(high), len(scores))


def spread(values: list[float]) -> float:
    """Standard deviation of a sample; 0 for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0

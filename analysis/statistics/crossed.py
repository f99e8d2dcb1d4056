"""How sure a difference of two scores is: over report rows and training seeds at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from analysis.statistics.gains import LEVEL, NONE, Floats, Gain

FEWEST = 3
"""Configurations below which their own deviations say nothing of how different deviations are."""


@dataclass(frozen=True)
class SeedNoise:
    """The variance over training seeds that configurations of a target share.

    Attributes:
        variance: of one configuration's score over seeds, what all share in a seed left out; 0 or more.
        weight: how many degrees of freedom this counts beside a pair's own; infinite where configurations do not
            differ in it, 0 where nothing is known.
        most: degrees of freedom that a variance has at most.
    """

    variance: float
    weight: float
    most: int


UNKNOWN = SeedNoise(0.0, 0.0, 0)


def seed_noise(scores: Floats) -> SeedNoise:
    """The variance over seeds, learnt from all configurations of a target.

    Two to five seeds say little of the variance of one pair; those of many pairs say much. How far they may be
    taken for one another is read off how far they differ.

    Args:
        scores: [C, K] report scores by configuration and seed.

    Returns:
        Nothing known of fewer than FEWEST configurations or two seeds.

    Source: Smyth (2004), moderated t-statistics (limma), section 6.2; the residuals are those of a layout
    configuration × seed without replication.
    Deviation: the shared variance is their mean, not the one that fits their logarithms, with which intervals cover
    91 to 93 % where deviations differ or there are two seeds.
    """
    configurations, seeds = scores.shape
    if configurations < FEWEST or seeds < 2:
        return UNKNOWN
    residuals = scores - scores.mean(axis=0) - scores.mean(axis=1, keepdims=True) + scores.mean()
    degrees = seeds - 1
    own = (residuals**2).sum(axis=1) / degrees * configurations / (configurations - 1)
    if not own.any():
        return SeedNoise(0.0, math.inf, (configurations - 1) * degrees)
    logs = np.log(np.maximum(own, 1e-5 * np.median(own[own > 0])))
    excess = float(logs.var(ddof=1)) - float(special.polygamma(1, degrees / 2))
    weight = 2 * _inverse_trigamma(excess) if excess > 0 else math.inf
    return SeedNoise(float(own.mean()), weight, (configurations - 1) * degrees)


def _inverse_trigamma(value: float) -> float:
    """Where the trigamma function has a value; it falls from infinity to 0."""
    return math.exp(optimize.brentq(lambda x: float(special.polygamma(1, math.exp(x))) - value, -20, 20))


def gain(ours: Floats, theirs: Floats, noise: SeedNoise = UNKNOWN) -> Gain:
    """The difference of two scores on the same rows with the same seeds, its interval and its p-value.

    The variance of the mean difference has two parts: seeds, with what rows and seeds do together; and rows, as
    far as a row's difference is the same for all seeds. Of one seed it is that of rows alone.

    Args:
        ours: [K, N] what each report row adds to the score, by seed.
        theirs: [K, N] the other's.
        noise: of the target's seeds, which moderates what this pair's few seeds say.

    Raises:
        ValueError: if the two do not have the same seeds and rows.

    Source: Satterthwaite (1946) for the degrees of freedom; Smyth (2004), equation 3, for the moderated variance.
    Deviation: a difference is never taken for surer than half a row.
    """
    if ours.shape != theirs.shape or not ours.size:
        raise ValueError(
            f"gains are paired by seed and row, but one side has {list(ours.shape)} and the other {list(theirs.shape)}"
        )
    difference = ours - theirs
    seeds, rows = difference.shape
    by_seed = difference.mean(axis=1)
    mean = float(by_seed.mean())
    parts = _over_rows(difference) if seeds == 1 else [_over_seeds(by_seed, noise), *_beside_seeds(difference)]
    variance = max(math.fsum(part for part, _ in parts), (0.5 / rows) ** 2)
    lost = math.fsum(part**2 / degrees for part, degrees in parts)
    degrees = min(variance**2 / lost, 1e9) if lost > 0 else max(1.0, rows - 1.0)
    if (
        seeds == 2 and not noise.most
    ):  # a variance of two seeds is often far too small: its own t covers 95 %, Satterthwaite's 90
        degrees = min(degrees, 1.0)
    half = float(stats.t.ppf((1 + LEVEL) / 2, degrees)) * math.sqrt(variance)
    p = float(2 * stats.t.sf(abs(mean) / math.sqrt(variance), degrees))
    spread = float(by_seed.std(ddof=1)) if seeds > 1 else 0.0
    return Gain(mean, spread, mean - half, mean + half, max(p, np.finfo(float).tiny), seeds)


Part = tuple[float, float]
"""A variance of the mean difference, and its degrees of freedom."""


def _over_rows(difference: Floats) -> list[Part]:
    rows = difference.shape[1]
    return [(float(difference.var(ddof=1)) / rows, rows - 1)] if rows > 1 else []


def _over_seeds(by_seed: Floats, noise: SeedNoise) -> Part:
    seeds = len(by_seed)
    own, shared = float(by_seed.var(ddof=1)), 2 * noise.variance
    if math.isinf(noise.weight):
        return shared / seeds, noise.most
    degrees = noise.weight + seeds - 1
    moderated = (noise.weight * shared + (seeds - 1) * own) / degrees
    return moderated / seeds, min(degrees, max(noise.most, seeds - 1))


def _beside_seeds(difference: Floats) -> list[Part]:
    """What rows add that all seeds share: the mean square of rows above that of rows and seeds together."""
    seeds, rows = difference.shape
    if rows < 2:
        return []
    by_row, by_seed = difference.mean(axis=0), difference.mean(axis=1, keepdims=True)
    together = float(((difference - by_row - by_seed + difference.mean()) ** 2).sum()) / ((seeds - 1) * (rows - 1))
    excess = (seeds * float(by_row.var(ddof=1)) - together) / (seeds * rows)
    return [(excess, rows - 1)] if excess > 0 else []


def gains(scores: Sequence[Floats], baseline: Floats) -> list[Gain]:
    """The gains of a target's configurations over its baseline, each moderated by all.

    Args:
        scores: [K, N] each, what each report row adds to the score.
        baseline: [K, N] the same of the baseline, which may be one of them.

    Returns:
        One each, NONE where it is the baseline's own rows.
    """
    others = [one for one in scores if one is not baseline]
    noise = seed_noise(np.stack([one.mean(axis=1) for one in (baseline, *others)]))
    return [NONE if one is baseline else gain(one, baseline, noise) for one in scores]

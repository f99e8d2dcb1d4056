"""Spearman's coefficient of many draws at once: intervals by bootstrap, p-values by permutation."""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.statistics.gains import LEVEL, RESAMPLES, ROUNDING, Floats

Interval = tuple[float, float]

PERMUTATIONS = 5040
"""Relabellings that are drawn where there are more; of up to 7 sources all are tried, and p is exact."""
AT_ONCE = 2_000_000
"""Numbers that one step holds in memory, per array."""


def ranks(values: Floats, weights: Floats) -> Floats:
    """Ranks of values of which each stands there as often as its weight says, ties in the middle.

    Args:
        values: [N] finite.
        weights: [B, N] not negative, for B draws.

    Returns:
        [B, N] from 1; meaningless where the weight is 0.
    """
    levels, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(levels)))
    counts = np.add.reduceat(weights[:, order], starts, axis=1)  # [B, levels]
    middle: Floats = (np.cumsum(counts, axis=1) - counts / 2 + 0.5)[:, place]
    return middle


def pearson(a: Floats, b: Floats, weights: Floats) -> Floats:
    """Pearson's coefficient of each draw, in [-1, 1]; NaN where a side does not vary.

    Args:
        a: [B, N] of each draw.
        b: [B, N].
        weights: [B, N] how often each stands there.
    """
    total = weights.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (side - (weights * side).sum(axis=1, keepdims=True) / total for side in (a, b))
        spreads = [(weights * side**2).sum(axis=1) for side in (a, b)]
        found = (weights * a * b).sum(axis=1) / np.sqrt(spreads[0] * spreads[1])
    flat = np.minimum(*spreads) <= ROUNDING  # ranks of two different values are half a rank apart or more
    return np.where(flat, np.nan, found)


def spearman(x: Floats, y: Floats, weights: Floats) -> Floats:
    """[B] Spearman's coefficient of x [N] and y [N] under weights [B, N]; NaN where a side does not vary."""
    return pearson(ranks(x, weights), ranks(y, weights), weights)


def pooled_interval(x: Floats, y: Floats, seed: int) -> Interval | None:
    """The interval of Spearman's coefficient of all pairs, over targets and sources.

    Each draw resamples the targets, then the sources, the same sources for all targets. With one target it
    speaks of the sources alone.

    Args:
        x: [S, T] similarities; NaN where there is no pair.
        y: [S, T] values; NaN at the same places.
        seed: of the draws.

    Returns:
        Percentiles; None where most draws have no coefficient.
    """
    known = np.isfinite(x)
    sources, targets = _drawn(x, seed)

    def part(draws: slice) -> Floats:
        weights = sources[draws, :, None] * targets[draws, None, :]
        return spearman(x[known], y[known], weights[:, known])

    return _interval(_in_parts(part, len(sources), known.sum()))


def mean_interval(x: Floats, y: Floats, seed: int) -> Interval | None:
    """The interval of the mean of the targets' coefficients, over targets and sources, as `pooled_interval`."""
    sources, targets = _drawn(x, seed)

    def part(draws: slice) -> Floats:
        each = [
            spearman(column[known], values[known], sources[draws][:, known])
            for column, values, known in zip(x.T, y.T, np.isfinite(x.T), strict=True)
        ]
        found = np.stack(each, axis=1)  # [B, T]
        weights = np.where(np.isnan(found), 0, targets[draws])
        with np.errstate(invalid="ignore"):
            mean: Floats = np.nansum(weights * found, axis=1) / weights.sum(axis=1)
        return mean

    return _interval(_in_parts(part, len(sources), len(x)))


def _drawn(x: Floats, seed: int) -> tuple[Floats, Floats]:
    """[B, S] and [B, T] how often each source and each target is drawn."""
    generator = np.random.default_rng(seed)
    by_target, by_source = (generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) for n in reversed(x.shape))
    return by_source.astype(float), by_target.astype(float)


def _interval(found: Floats) -> Interval | None:
    if np.isnan(found).mean() > 0.5:
        return None
    low, high = np.nanquantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Permuted:
    """What a coefficient is worth where the sources' names are permuted.

    Attributes:
        p: two-sided, in (0, 1].
        adjusted: that, corrected for the number of similarities.
    """

    p: float
    adjusted: float


def permutations(similarities: Mapping[str, Floats], y: Floats, seed: int) -> dict[str, Permuted]:
    """p-values of Spearman's coefficients of all pairs, were the sources' names without meaning.

    Each draw gives every source the similarities of another, the same other for all targets and similarities: the
    pairs of a source are not independent, and stay together. A pair that a draw leaves without one of its two
    values is not in that draw. What targets differ by stays in every draw, so that draws need not centre on 0: p
    is twice the smaller tail. Of several similarities the smallest p of each draw is what each must stay below.

    Args:
        similarities: name -> [S, T]; NaN where unknown.
        y: [S, T] values; NaN where unknown, not always at the same places.
        seed: of the draws; without influence where all relabellings are tried.

    Source: Westfall and Young (1993), section 2.3: adjusted p-values of the smallest p of each permutation.
    """
    labels = _labels(len(y), seed)
    drawn = {
        name: _in_parts(partial(_relabelled, x, y, labels), len(labels), x.size) for name, x in similarities.items()
    }
    ps = {name: _two_sided(found) for name, found in drawn.items()}
    smallest = np.min(list(ps.values()), axis=0) if ps else np.ones(1)
    return {
        name: Permuted(float(own[0]), max(float(own[0]), float((smallest <= own[0] + ROUNDING).mean())))
        for name, own in ps.items()
    }


def _labels(sources: int, seed: int) -> NDArray[np.intp]:
    """[B, S] relabellings, the first of which changes nothing: all of them, or as many as are drawn."""
    if math.factorial(sources) <= PERMUTATIONS:
        return np.array(list(itertools.permutations(range(sources))), np.intp)
    generator = np.random.default_rng(seed)
    drawn = generator.permuted(np.tile(np.arange(sources), (PERMUTATIONS, 1)), axis=1)
    return np.concatenate([np.arange(sources)[None], drawn]).astype(np.intp)


def _relabelled(x: Floats, y: Floats, labels: NDArray[np.intp], draws: slice) -> Floats:
    """[B] Spearman's coefficient with the similarities of another source for each; NaN where there is none."""
    known_x, known_y, label = np.isfinite(x), np.isfinite(y), labels[draws]
    here_x, here_y = np.where(known_x, x, 0).ravel(), np.where(known_y, y, 0).ravel()
    at_y = (known_x[label] & known_y).astype(float)  # [B, S, T] by the source that has the value
    at_x = (known_x & known_y[np.argsort(label, axis=1)]).astype(float)  # by the one that has the similarity
    by_x = ranks(here_x, at_x.reshape(len(label), -1)).reshape(at_x.shape)
    weights = at_y.reshape(len(label), -1)
    moved = np.take_along_axis(by_x, label[:, :, None], axis=1).reshape(weights.shape)
    found: Floats = (pearson(moved, ranks(here_y, weights), weights) / ROUNDING).round()
    return found  # equal but for rounding is equal


def _two_sided(drawn: Floats) -> Floats:
    """[B] twice the share of draws on the smaller side of each; a draw without coefficient counts on both."""
    known = np.sort(drawn[np.isfinite(drawn)])
    without = len(drawn) - len(known)
    above = len(known) - np.searchsorted(known, drawn, "left") + without
    below = np.searchsorted(known, drawn, "right") + without
    both: Floats = np.minimum(1.0, 2 * np.minimum(above, below) / len(drawn))
    return np.where(np.isfinite(drawn), both, 1.0)


def best_by_chance(similarities: Mapping[str, Floats], y: Floats, seed: int) -> float | None:
    """What the best similarity's mean coefficient over targets comes to where the sources' names are permuted.

    The best of seven similarities has a coefficient above 0 also where none knows anything.

    Args:
        similarities: name -> [S, T]; NaN where unknown.
        y: [S, T] values; NaN where unknown.
        seed: of the permutations, where not all are tried.

    Returns:
        The mean over permutations of the largest; None where no target has two sources that differ.
    """
    labels, ours = _labels(len(y), seed), _standard_ranks(y)
    means = []
    for x in similarities.values():
        theirs = _standard_ranks(x)
        targets = int(((theirs != 0).any(axis=0) & (ours != 0).any(axis=0)).sum())
        if targets:
            means.append(np.array([(theirs[label] * ours).sum() for label in labels]) / targets)
    return float(np.max(means, axis=0).mean()) if means else None


def _standard_ranks(grid: Floats) -> Floats:
    """[S, T] ranks within each target, centred and of length 1; 0 where unknown or all alike."""
    known = np.isfinite(grid)
    if not grid.size:
        return np.zeros(grid.shape)
    ranked = np.where(known, np.stack([stats.rankdata(column, nan_policy="omit") for column in grid.T], axis=1), 0)
    centred = np.where(known, ranked - ranked.sum(axis=0) / np.maximum(known.sum(axis=0), 1), 0)
    length = np.sqrt((centred**2).sum(axis=0))
    standard: Floats = np.where(length > ROUNDING, centred / np.maximum(length, ROUNDING), 0)
    return standard


def _in_parts(compute: Callable[[slice], Floats], draws: int, size: int) -> Floats:
    """[draws] computed in parts that fit into memory; `size`: numbers per draw."""
    length = max(1, AT_ONCE // max(1, int(size)))
    return np.concatenate([compute(slice(first, first + length)) for first in range(0, draws, length)])

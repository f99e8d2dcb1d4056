"""Whether a similarity knows anything of the pair, beyond which source and which target it is."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.statistics.coefficients import shares
from analysis.statistics.gains import ROUNDING, Floats
from analysis.statistics.resampling import pearson

DRAWS = 1999
"""Relabellings that are drawn."""
FEWEST_SOURCES, FEWEST_TARGETS = 3, 2
"""Below, nothing is left once means are removed."""
SWEEPS = 20
"""Rounds in which means are removed: of complete tables the first does it."""


@dataclass(frozen=True)
class PairEffect:
    """One similarity against one measure, ranks within targets, means of sources removed from both.

    Attributes:
        coefficient: Pearson's, of what is left, in [-1, 1].
        p: two-sided, corrected for the number of similarities, in (0, 1].
        chance: what the best of these similarities comes to by chance on average.
    """

    coefficient: float
    p: float
    chance: float


def pair_effects(similarities: Mapping[str, Floats], values: Floats, seed: int = 0) -> dict[str, PairEffect]:
    """The coefficient of each similarity after removing source means, with its p-value.

    A good source helps every target, and may be similar to every target too: a similarity earns a coefficient so
    without knowing anything of the pair. What is left after the means of sources are removed, from ranks within
    targets, is of the pair alone. What is left of each source's values is permuted over its targets, for all
    similarities alike, and the largest coefficient among them is what each must exceed. Permuted so, each source
    keeps its own spread: ranks of the best and the worst source vary less than others, on both sides, which
    permuting sources would take for agreement.

    Args:
        similarities: name -> [S, T]; NaN where there is no pair.
        values: [S, T] of the measure; NaN where unknown.
        seed: of the permutations.

    Returns:
        Those that have one: at least 3 sources and 2 targets, and something left that varies.

    Source: Westfall and Young (1993), the largest statistic of each permutation. Deviation from the quadratic
    assignment procedure (Krackhardt 1988): pairs of different sources are taken for independent.
    """
    if values.shape[0] < FEWEST_SOURCES or values.shape[1] < FEWEST_TARGETS:
        return {}
    y = residuals(values)
    left = {name: residuals(grid) for name, grid in similarities.items()}
    moved = _relabelled(y, seed)  # [1 + DRAWS, S, T], the first as it is
    found = {name: _coefficients(x, moved) for name, x in left.items()}
    found = {name: drawn for name, drawn in found.items() if np.isfinite(drawn[0])}
    if not found:
        return {}
    every = np.nan_to_num(np.stack(list(found.values())))
    largest, plain = np.abs(every).max(axis=0), every.max(axis=0)
    return {
        name: PairEffect(float(drawn[0]), float((largest >= abs(drawn[0]) - ROUNDING).mean()), float(plain[1:].mean()))
        for name, drawn in found.items()
    }


def _relabelled(grid: Floats, seed: int) -> Floats:
    """[1 + DRAWS, S, T] residuals as they are, and with each source's own permuted over its targets; NaN stays."""
    generator = np.random.default_rng(seed)
    moved = np.full((1 + DRAWS, *grid.shape), np.nan)
    moved[0] = grid
    for source, own in enumerate(grid):
        known = np.flatnonzero(~np.isnan(own))
        moved[1:, source, known] = generator.permuted(np.tile(own[known], (DRAWS, 1)), axis=1)
    return _without_means(moved)


def _coefficients(x: Floats, moved: Floats) -> Floats:
    """[B] Pearson's coefficient with each of some grids, of the cells that both have; NaN where a side does not vary."""
    weights = (~np.isnan(moved) & ~np.isnan(x)).astype(float).reshape(len(moved), -1)
    flat = np.nan_to_num(moved).reshape(len(moved), -1)
    return pearson(np.broadcast_to(np.nan_to_num(x).ravel(), flat.shape), flat, weights)


def residuals(grid: Floats) -> Floats:
    """[S, T] ranks within targets without the means of sources and targets; NaN stays."""
    return _without_means(np.stack([shares(column) for column in grid.T], axis=1))


def _without_means(grids: Floats) -> Floats:
    """[…, S, T] without the means of rows and columns; NaN stays."""
    known = ~np.isnan(grids)
    left = np.where(known, grids, 0)
    for _ in range(1 if known.all() else SWEEPS):
        for axis in (-2, -1):
            mean = left.sum(axis=axis, keepdims=True) / np.maximum(known.sum(axis=axis, keepdims=True), 1)
            left = np.where(known, left - mean, 0)
    return np.where(known, left, np.nan)


def source_only(values: Floats) -> float | None:
    """How well a source's mean rank on the other targets orders a target's sources: mean Spearman over targets.

    What one gets who knows which sources are good, and nothing of the target.

    Args:
        values: [S, T] of the measure; NaN where unknown.

    Returns:
        In [-1, 1]; None of fewer than 2 targets or where nothing varies.
    """
    if values.shape[1] < FEWEST_TARGETS:
        return None
    ranks, found = np.stack([shares(column) for column in values.T], axis=1), []
    for target in range(values.shape[1]):
        others = np.delete(ranks, target, axis=1)
        counts = (~np.isnan(others)).sum(axis=1)
        mean = np.where(counts > 0, np.nansum(others, axis=1) / np.maximum(counts, 1), np.nan)
        known = ~np.isnan(mean) & ~np.isnan(ranks[:, target])
        one = _coefficients(shares(np.where(known, mean, np.nan))[known], ranks[known, target][None])[0]
        if known.sum() >= FEWEST_SOURCES and np.isfinite(one):
            found.append(float(one))
    return float(np.mean(found)) if found else None

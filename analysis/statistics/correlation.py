"""How well a similarity predicts a measure: per target, their mean, pooled; with intervals, p-values and a ceiling."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
from scipy import stats

from analysis.statistics.coefficients import EXACT, coefficients, exact_p, levels, shares
from analysis.statistics.gains import Floats
from analysis.statistics.reliability import noise_ceiling
from analysis.statistics.resampling import Interval, mean_interval, permutation_p, pooled_interval

MINIMUM = 4
"""Sources below which there is no coefficient."""


@dataclass(frozen=True)
class Point:
    """One pair under one similarity and one measure.

    Attributes:
        source: the source task.
        target: the target task.
        similarity: NaN where unknown.
        value: of the measure, mean over seeds; NaN where unknown; infinite values have ranks and no Pearson coefficient.
        seeds: the value of every seed, in the same order for all pairs; NaN where a seed is missing.
    """

    source: str
    target: str
    similarity: float
    value: float
    seeds: tuple[float, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether both values are there."""
        return not (math.isnan(self.similarity) or math.isnan(self.value))


@dataclass(frozen=True)
class OfTarget:
    """The coefficients of one target over its sources.

    Attributes:
        spearman: in [-1, 1]; None with a note.
        spearman_p: two-sided, SciPy's approximation: too small below some ten sources.
        pearson: in [-1, 1].
        pearson_p: two-sided, SciPy's.
        n: sources with both values.
        note: why there is no coefficient; empty where there is.
        spearman_exact: two-sided p by trying every order; None of more than EXACT sources.
    """

    spearman: float | None
    spearman_p: float | None
    pearson: float | None
    pearson_p: float | None
    n: int
    note: str
    spearman_exact: float | None = None

    @property
    def p(self) -> float | None:
        """The p-value of Spearman's coefficient to show: exact where that can be had."""
        return self.spearman_p if self.spearman_exact is None else self.spearman_exact


@dataclass(frozen=True)
class Pooled:
    """The coefficients of all pairs, values normalised within their target.

    Attributes:
        spearman: in [-1, 1]; None with a note.
        spearman_p: SciPy's, which takes pairs for independent: too small. `p_permutation` does not.
        pearson: in [-1, 1].
        pearson_p: SciPy's, too small as well.
        n: pairs.
        spearman_interval: 95 %, over targets and sources.
        p_permutation: two-sided, the sources' names permuted jointly over targets. It asks whether it matters
            which source it is: a share of `spearman` that comes from targets alone does not count.
        p_adjusted: that, corrected for the number of similarities; None before `adjusted`.
        note: why there is no coefficient, and which targets are left out.
    """

    spearman: float | None
    spearman_p: float | None
    pearson: float | None
    pearson_p: float | None
    n: int
    spearman_interval: Interval | None
    p_permutation: float | None
    p_adjusted: float | None
    note: str


@dataclass(frozen=True)
class Correlation:
    """One similarity against one measure of one method.

    Attributes:
        similarity: its name.
        measure: its name.
        method: whose values.
        targets: target -> its coefficients, by name.
        spearman_mean: over the targets that have one; None where none has.
        pearson_mean: the same.
        mean_interval: 95 % of `spearman_mean`, over targets and sources.
        pooled: over all pairs.
        ceiling: what `spearman_mean` would be with another measurement of the same values in place of the
            similarity, with as many other seeds, in [0, 1]; None with fewer than 2 seeds. A predictor free
            of noise could reach its square root.
        missing: pairs without one of the two values.
        self_pairs: pairs of a task with itself that are in.
        note: what is to be known of the values; empty where nothing is.
    """

    similarity: str
    measure: str
    method: str
    targets: Mapping[str, OfTarget]
    spearman_mean: float | None
    pearson_mean: float | None
    mean_interval: Interval | None
    pooled: Pooled
    ceiling: float | None
    missing: int
    self_pairs: int
    note: str = ""


def correlation(
    points: Sequence[Point],
    *,
    similarity: str,
    measure: str,
    method: str,
    exclude_self: bool = False,
    seed: int = 0,
    relative_to: Mapping[str, float] | None = None,
    pool: Collection[str] | None = None,
) -> Correlation:
    """A similarity against a measure.

    Pooled values are normalised within their target, else easy targets would stand above hard ones whatever
    the source. Without `relative_to` a value becomes its rank: the share of the target's pairs below it. Ranks
    rather than z-scores, since one collapsed source would set a z-score's unit for its whole target.
    Similarities stay as they are, as in the papers: normalised too, pooling would repeat the mean of targets,
    while so it also asks whether one level of similarity means the same for all of them. The normalised
    value counts as measured: resampling does not normalise again.

    Args:
        points: one per pair, in any order; a pair without a value may be absent or NaN.
        similarity: its name, for the result.
        measure: its name.
        method: whose values.
        exclude_self: leaves out the pairs of a task with itself.
        seed: of bootstrap, permutations and, where there are many, splits of seeds.
        relative_to: target -> what its values are divided by for pooling, instead of ranks; a target
            that is absent or has 0 or less stays out of pooled figures.
        pool: targets of the pooled figures, as those with signal; None: all.

    Raises:
        ValueError: if a pair is there twice.
    """
    asked = sorted(
        (point for point in points if not (exclude_self and point.source == point.target)),
        key=lambda point: (point.target, point.source),
    )
    if len({(point.source, point.target) for point in asked}) < len(asked):
        raise ValueError(f"a pair has one point under {similarity} and {measure}, but some have several")
    known = [point for point in asked if point.is_known]
    names = sorted({point.target for point in asked})
    of_target = {name: _of_target([point for point in known if point.target == name]) for name in names}
    clear = [point for point in known if of_target[point.target].spearman is not None]
    return Correlation(
        similarity=similarity,
        measure=measure,
        method=method,
        targets=of_target,
        spearman_mean=_mean(found.spearman for found in of_target.values()),
        pearson_mean=_mean(found.pearson for found in of_target.values()),
        mean_interval=mean_interval(*_grids(clear), seed) if clear else None,
        pooled=_pooled(asked, relative_to, pool, seed),
        ceiling=noise_ceiling([(p.target, p.seeds) for p in known], MINIMUM, seed),
        missing=len(asked) - len(known),
        self_pairs=sum(point.source == point.target for point in known),
    )


def _mean(found: Iterable[float | None]) -> float | None:
    values = [value for value in found if value is not None]
    return fmean(values) if values else None


def _of_target(points: Sequence[Point]) -> OfTarget:
    found, why = coefficients(*_sides(points), len(points), MINIMUM)
    exact = exact_p(*_sides(points)) if not why and len(points) <= EXACT else None
    return OfTarget(*found, len(points), why, exact)


def _sides(points: Sequence[Point]) -> tuple[Floats, Floats]:
    return np.array([point.similarity for point in points]), np.array([point.value for point in points])


def _pooled(
    points: Sequence[Point], relative_to: Mapping[str, float] | None, pool: Collection[str] | None, seed: int
) -> Pooled:
    reasons = {name: _left_out(name, relative_to, pool) for name in dict.fromkeys(point.target for point in points)}
    normal = _normalised([point for point in points if not reasons[point.target]], relative_to)
    known = [point for point in normal if point.is_known]
    found, why = coefficients(*_sides(known), len({point.source for point in known}), MINIMUM)
    left_out = [f"{name} is left out: {reason}" for name, reason in reasons.items() if reason]
    return Pooled(
        *found,
        len(known),
        spearman_interval=None if why else pooled_interval(*_grids(known), seed),
        p_permutation=None if why else permutation_p(*_grids(normal), seed),
        p_adjusted=None,
        note="; ".join([*filter(None, [why]), *left_out]),
    )


def _left_out(target: str, relative_to: Mapping[str, float] | None, pool: Collection[str] | None) -> str:
    """Why a target is not in pooled figures; empty where it is."""
    if pool is not None and target not in pool:
        return "no signal"
    if relative_to is not None and target not in relative_to:
        return "nothing to be relative to"
    if relative_to is not None and not relative_to[target] > 0:
        return f"values cannot be relative to {relative_to[target]:g}"
    return ""


def _normalised(points: Sequence[Point], relative_to: Mapping[str, float] | None) -> list[Point]:
    """The points with their values normalised within the target."""
    if relative_to is not None:
        return [replace(point, value=point.value / relative_to[point.target]) for point in points]
    groups = ([p for p in points if p.target == name] for name in dict.fromkeys(point.target for point in points))
    return [
        replace(point, value=float(share))
        for group in groups
        for point, share in zip(group, shares(_sides(group)[1]), strict=True)
    ]


def _grids(points: Sequence[Point]) -> tuple[Floats, Floats]:
    """[S, T] levels of similarities and of values, by names; NaN where unknown."""
    sources = {name: i for i, name in enumerate(sorted({point.source for point in points}))}
    targets = {name: i for i, name in enumerate(sorted({point.target for point in points}))}
    grids = np.full((2, len(sources), len(targets)), np.nan)
    rows, columns = [sources[point.source] for point in points], [targets[point.target] for point in points]
    for grid, side in zip(grids, _sides(points), strict=True):
        grid[rows, columns] = levels(side)
    return grids[0], grids[1]


def adjusted(found: Sequence[Correlation]) -> list[Correlation]:
    """The same with `pooled.p_adjusted`, over the similarities of each measure and method.

    Source: Benjamini and Hochberg (1995), of the permutation p-values; controls the share of false findings.
    """
    families: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for i, one in enumerate(found):
        if one.pooled.p_permutation is not None:
            families.setdefault((one.measure, one.method), []).append((i, one.pooled.p_permutation))
    result = list(found)
    for family in families.values():
        corrected = stats.false_discovery_control([p for _, p in family], method="bh")
        for (i, _), p in zip(family, corrected, strict=True):
            result[i] = replace(found[i], pooled=replace(found[i].pooled, p_adjusted=float(p)))
    return result

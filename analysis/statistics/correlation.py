"""How well a similarity predicts a measure: per target, their mean, pooled; with intervals, p-values and a ceiling."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

import numpy as np

from analysis.statistics.coefficients import EXACT, coefficients, exact_p, levels, shares
from analysis.statistics.gains import Floats
from analysis.statistics.pair_effects import PairEffect, pair_effects, source_only
from analysis.statistics.reliability import noise_ceiling
from analysis.statistics.resampling import (
    Interval,
    Permuted,
    best_by_chance,
    mean_interval,
    permutations,
    pooled_interval,
)

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
        rows: [K, N] what each report row adds to the value of each seed; None where it is not known, and a repeated
            measurement then is one with other seeds on the same rows.
    """

    source: str
    target: str
    similarity: float
    value: float
    seeds: tuple[float, ...] = ()
    rows: Floats | None = field(default=None, compare=False)

    @property
    def repeated(self) -> Floats:
        """[K, N] what a repeated measurement is estimated from."""
        return np.array(self.seeds)[:, None] if self.rows is None else self.rows

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
        pearson: in [-1, 1].
        n: pairs.
        spearman_interval: 95 %, over targets and sources.
        p_permutation: two-sided, the sources' names permuted jointly over targets. It asks whether it matters
            which source it is: a share of `spearman` that comes from targets alone does not count.
        p_adjusted: that, corrected for the number of similarities.
        note: why there is no coefficient, and which targets are left out.
    """

    spearman: float | None
    pearson: float | None
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
            similarity, with as many other seeds and report rows, in [0, 1]; None with fewer than 2 seeds. A
            predictor free of noise could reach its square root.
        pair: what it knows of the pair, beyond which source it is; None where that cannot be said.
        source_only: `spearman_mean` of who knows how good a source is for the other targets, and nothing else.
        by_chance: what the best of the similarities has for `spearman_mean` by chance on average.
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
    pair: PairEffect | None = None
    source_only: float | None = None
    by_chance: float | None = None
    note: str = ""

    @property
    def pair_coefficient(self) -> float | None:
        """Of `pair`."""
        return self.pair.coefficient if self.pair else None

    @property
    def pair_p(self) -> float | None:
        """Of `pair`."""
        return self.pair.p if self.pair else None


def correlations(
    points: Mapping[str, Sequence[Point]],
    *,
    measure: str,
    method: str,
    exclude_self: bool = False,
    seed: int = 0,
    relative_to: Mapping[str, float] | None = None,
    pool: Collection[str] | None = None,
) -> list[Correlation]:
    """Similarities against a measure, in the order given.

    Pooled pairs are ranks within their target, on both sides: the share of the target's pairs below each. Else easy
    targets would stand above hard ones whatever the source. Ranks rather than z-scores, since one collapsed source
    would set a z-score's unit for its whole target. With `relative_to`, values are divided by the target's
    and similarities stay as they are, as in the papers. The normalised values count as measured: resampling does
    not normalise again.

    Args:
        points: similarity -> one per pair, in any order; a pair without a value may be absent or NaN.
        measure: its name.
        method: whose values.
        exclude_self: leaves out the pairs of a task with itself.
        seed: of bootstrap, permutations and splits.
        relative_to: target -> what its values are divided by for pooling, instead of ranks; a target
            that is absent or has 0 or less stays out of pooled figures.
        pool: targets of the pooled figures, as those with signal; None: all.

    Raises:
        ValueError: if a pair is there twice.
    """
    asked = {name: _asked(name, own, measure, exclude_self) for name, own in points.items()}
    normal = {name: _normalised(_pooled_of(own, relative_to, pool), relative_to) for name, own in asked.items()}
    of_source, of_target = (
        sorted({getattr(p, part) for own in asked.values() for p in own}) for part in ("source", "target")
    )
    pooled = {name: _grids(own, of_source, of_target) for name, own in normal.items()}
    whole = {name: _grids(own, of_source, of_target) for name, own in asked.items()}
    if not asked:
        return []
    fullest = max(whole, key=lambda name: np.isfinite(whole[name][1]).sum())
    values, xs = whole[fullest][1], {name: grids[0] for name, grids in whole.items()}
    permuted = permutations({name: grids[0] for name, grids in pooled.items()}, pooled[fullest][1], seed)
    pairs, only = pair_effects(xs, values, seed), source_only(values)
    chance = best_by_chance(xs, values, seed)
    return [
        replace(
            _correlation(asked[name], normal[name], permuted[name], relative_to, pool, seed), similarity=name, measure=measure,
            method=method, pair=pairs.get(name), source_only=only, by_chance=chance,
        )
        for name in points
    ]  # fmt: skip


def _asked(similarity: str, points: Sequence[Point], measure: str, exclude_self: bool) -> list[Point]:
    asked = sorted(
        (point for point in points if not (exclude_self and point.source == point.target)),
        key=lambda point: (point.target, point.source),
    )
    if len({(point.source, point.target) for point in asked}) < len(asked):
        raise ValueError(f"a pair has one point under {similarity} and {measure}, but some have several")
    return asked


def _correlation(
    asked: Sequence[Point], normal: Sequence[Point], permuted: Permuted, relative_to: Mapping[str, float] | None,
    pool: Collection[str] | None, seed: int,
) -> Correlation:  # fmt: skip
    """One similarity, still without its name."""
    known = [point for point in asked if point.is_known]
    names = sorted({point.target for point in asked})
    of_target = {name: _of_target([point for point in known if point.target == name]) for name in names}
    clear = [point for point in known if of_target[point.target].spearman is not None]
    return Correlation(
        similarity="",
        measure="",
        method="",
        targets=of_target,
        spearman_mean=_mean(found.spearman for found in of_target.values()),
        pearson_mean=_mean(found.pearson for found in of_target.values()),
        mean_interval=mean_interval(*_grids(clear), seed) if clear else None,
        pooled=_pooled(asked, normal, permuted, relative_to, pool, seed),
        ceiling=noise_ceiling([(p.target, p.repeated) for p in known], MINIMUM, seed),
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


def _pooled_of(
    points: Sequence[Point], relative_to: Mapping[str, float] | None, pool: Collection[str] | None
) -> list[Point]:
    return [point for point in points if not _left_out(point.target, relative_to, pool)]


def _pooled(
    points: Sequence[Point], normal: Sequence[Point], permuted: Permuted, relative_to: Mapping[str, float] | None,
    pool: Collection[str] | None, seed: int,
) -> Pooled:  # fmt: skip
    reasons = {name: _left_out(name, relative_to, pool) for name in dict.fromkeys(point.target for point in points)}
    known = [point for point in normal if point.is_known]
    (spearman, _, pearson, _), why = coefficients(*_sides(known), len({point.source for point in known}), MINIMUM)
    left_out = [f"{name} is left out: {reason}" for name, reason in reasons.items() if reason]
    return Pooled(
        spearman,
        pearson,
        len(known),
        spearman_interval=None if why else pooled_interval(*_grids(known), seed),
        p_permutation=None if why else permuted.p,
        p_adjusted=None if why else permuted.adjusted,
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
        replace(point, similarity=float(x), value=float(y))
        for group in groups
        for point, x, y in zip(group, *map(shares, _known_together(group)), strict=True)
    ]


def _known_together(points: Sequence[Point]) -> tuple[Floats, Floats]:
    """Both sides of a target's pairs; NaN on both where one is not known, so that ranks are of the same pairs."""
    x, y = _sides(points)
    missing = np.isnan(x) | np.isnan(y)
    return np.where(missing, np.nan, x), np.where(missing, np.nan, y)


def _grids(
    points: Sequence[Point], of_source: Sequence[str] = (), of_target: Sequence[str] = ()
) -> tuple[Floats, Floats]:
    """[S, T] levels of similarities and of values, by names; NaN where unknown."""
    sources = {name: i for i, name in enumerate(of_source or sorted({point.source for point in points}))}
    targets = {name: i for i, name in enumerate(of_target or sorted({point.target for point in points}))}
    grids = np.full((2, len(sources), len(targets)), np.nan)
    rows, columns = [sources[point.source] for point in points], [targets[point.target] for point in points]
    for grid, side in zip(grids, _sides(points), strict=True):
        grid[rows, columns] = levels(side)
    return grids[0], grids[1]

"""Anyone's transfer results: scores and similarities from CSV files, and how they correlate."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from analysis.external.csv_rows import Unreadable, shortened
from analysis.external.results import Pair, Scores, read_scores, read_similarities
from analysis.statistics.correlation import Correlation, Point
from analysis.statistics.correlation import correlations as of_points

RANKS = "ranks"
RELATIVE_TO = (RANKS, "self", "baseline", "none")
MEASURE = "score"
POOLED = ("spearman", "pearson", "n", "p_permutation", "p_adjusted")


def correlate(
    scores: Path,
    similarities: Path,
    relative_to: str = RANKS,
    exclude_self: bool = False,
    seed: int = 0,
    method: str | None = None,
) -> dict[str, Any]:
    """How well each similarity predicts the scores, as plain data.

    Args:
        scores: CSV with `source,target,score` and, where there are, `method` and `seed`; seeds are averaged;
            a row without source is the target's baseline.
        similarities: CSV with `source,target,metric,similarity`, for each direction of a pair.
        relative_to: what is pooled: `ranks` of scores and similarities within their target; or similarities as they
            are with scores divided by the target's score with its own prompt (`self`), by its `baseline`, or as
            they are (`none`), so that easy targets stand above hard ones.
        exclude_self: leaves out the pairs of a task with itself.
        seed: of the bootstrap.
        method: whose scores; must be given where the file has several, so that the answer is always one.

    Returns:
        `{metric: {"per_target": {"spearman_mean", "pearson_mean", "targets": {target: {"spearman", "spearman_p",
        "pearson", "pearson_p", "n"}}}, "pooled": {"spearman", "pearson", "n", "p_permutation", "p_adjusted",
        "spearman_interval": [low, high]}, "pair": {"coefficient", "p", "chance"}, "source_only"}}`; None where there is no coefficient. `correlations` says why, and more.

    Raises:
        Unreadable: with every mistake of a file, its line and what to do.
        ValueError: for an unknown `relative_to`.
    """
    return as_json(correlations(scores, similarities, relative_to, exclude_self, seed, method))


def as_json(found: Iterable[Correlation]) -> dict[str, Any]:
    """Correlations in the shape of `correlate`."""
    return {one.similarity: _plain(one) for one in found}


def _plain(found: Correlation) -> dict[str, Any]:
    names = ("spearman", "spearman_p", "pearson", "pearson_p", "n")
    interval = found.pooled.spearman_interval
    return {
        "per_target": {
            "spearman_mean": found.spearman_mean,
            "pearson_mean": found.pearson_mean,
            "targets": {target: {n: getattr(one, n) for n in names} for target, one in found.targets.items()},
        },
        "pooled": {
            **{name: getattr(found.pooled, name) for name in POOLED},
            "spearman_interval": list(interval) if interval else None,
        },
        "pair": asdict(found.pair) if found.pair else None,
        "source_only": found.source_only,
    }


def correlations(
    scores: Path,
    similarities: Path,
    relative_to: str = RANKS,
    exclude_self: bool = False,
    seed: int = 0,
    method: str | None = None,
) -> list[Correlation]:
    """What `correlate` says and more: intervals, permutation p-values, ceilings, counts and notes, by metric.

    Args and errors are those of `correlate`. A pair is missing if it has a score and no similarity, or a
    similarity and no score though its source and its target have others.
    """
    if relative_to not in RELATIVE_TO:
        raise ValueError(f"scores are relative to {', '.join(RELATIVE_TO)}, got {relative_to!r}")
    measured, similar = read_scores(scores, method), read_similarities(similarities)
    _check_common(scores, measured, similarities, similar)
    references = _references(scores, measured, relative_to)
    found = of_points(
        {metric: _points(measured, similar[metric]) for metric in sorted(similar)}, measure=MEASURE,
        method=measured.method, exclude_self=exclude_self, seed=seed, relative_to=references,
    )  # fmt: skip
    return [replace(one, note=_uneven(measured)) for one in found]


def _uneven(scores: Scores) -> str:
    """Which seeds are averaged where pairs have different ones."""
    told = (f"{target} ({', '.join(scores.shared(target)) or 'none: each pair its own'})" for target in scores.uneven)
    named = ", ".join(told)
    return f"pairs have different seeds; averaged are those that all of a target have: {named}" if named else ""


def _points(scores: Scores, similar: Mapping[Pair, float]) -> list[Point]:
    sources, targets = {source for source, _ in scores.of_pair}, set(scores.targets)
    without = {(source, target) for source, target in similar if source in sources and target in targets}
    return [
        Point(
            *pair, similar.get(pair, math.nan), scores.mean(pair),
            tuple(scores.of_pair.get(pair, {}).get(seed, math.nan) for seed in scores.seeds),
        )
        for pair in sorted({*scores.of_pair, *without})
    ]  # fmt: skip


def _check_common(
    scores: Path, measured: Scores, similarities: Path, similar: Mapping[str, Mapping[Pair, float]]
) -> None:
    pairs = {pair for metric in similar.values() for pair in metric}
    if not pairs:
        raise Unreadable(f"{similarities}: has no similarity")
    if pairs & set(measured.of_pair):
        return
    one, other = min(measured.of_pair), min(pairs)
    turned = sum((target, source) in measured.of_pair for source, target in pairs)
    advice = (
        f"; with source and target exchanged {turned} would be" if turned else "; names are matched letter by letter"
    )
    raise Unreadable(
        f"{similarities}: no pair of it is in {scores}, whose pairs are as {shortened(one[1])} ← {shortened(one[0])}, "
        f"here as {shortened(other[1])} ← {shortened(other[0])}{advice}"
    )


def _references(file: Path, scores: Scores, relative_to: str) -> dict[str, float] | None:
    """Target -> what its scores are divided by; None: ranks."""
    if relative_to == RANKS:
        return None
    if relative_to == "none":
        return dict.fromkeys(scores.targets, 1.0)
    own = {target: scores.mean((target, target)) for target in scores.targets if (target, target) in scores.of_pair}
    references = own if relative_to == "self" else dict(scores.baselines)
    if without := [target for target in scores.targets if target not in references]:
        needed = "a row with the target as its own source" if relative_to == "self" else "a row without source"
        raise Unreadable(
            f"{file}: --relative-to {relative_to} needs {needed} for every target; missing for {', '.join(without)}"
        )
    return references

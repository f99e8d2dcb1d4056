"""Coefficients of correlation as tables for a terminal, and as CSV."""

import csv
from collections.abc import Iterator, Sequence
from io import StringIO
from typing import Any

from analysis.statistics.correlation import Correlation, OfTarget
from analysis.wording import guarded
from tuning.layout import UNKNOWN, Grid, wrapped

PER_SIMILARITY = (
    "similarity", "mean ρ", "interval", "mean r", "pooled ρ", "interval", "pooled r", "p", "adjusted p", "pair r", "pair p",
    "noise ceiling", "pairs", "missing", "self-pairs",
)  # fmt: skip
COLUMNS = (
    "similarity", "measure", "method", "scope", "target", "spearman", "spearman_p", "spearman_exact", "pearson", "pearson_p", "n", "low",
    "high", "p_permutation", "p_adjusted", "pair", "pair_p", "source_only", "by_chance", "ceiling", "missing", "self_pairs", "note",
)  # fmt: skip
"""Of the CSV. Scope: `target`, `mean` of targets, or `pooled`."""

RELATIVE = {
    "ranks": "pooled: scores and similarities as ranks within their target",
    "none": "pooled: unscaled scores, higher on easy than on hard targets",
    "self": "pooled: scores divided by the target's score with its own prompt",
    "baseline": "pooled: scores divided by the target's baseline",
}
"""What pooled scores are divided by -> its note below the table."""


def correlation_table(found: Sequence[Correlation], relative_to: str = "ranks", width: int | None = None) -> str:
    """A line per similarity, then Spearman's coefficients by target, then notes; folded to a terminal's columns."""
    names = " · ".join(filter(None, (found[0].measure, found[0].method)))
    overview = Grid(f"Correlation of similarity and {names}", PER_SIMILARITY, tuple(_line(one) for one in found), 1)
    targets = sorted({name for one in found for name in one.targets})
    rows = [[name, *(_of_target(one.targets.get(name)) for one in found)] for name in targets]
    head = ("target", *(one.similarity for one in found))
    by_target = Grid("ρ (p) of each target over its sources", head, tuple(rows), 1)
    notes_below = wrapped(_captions(found, relative_to), width)
    return "\n".join([overview.text(width), by_target.text(width), *notes_below])


def _line(one: Correlation) -> list[str]:
    pooled = one.pooled
    return [
        one.similarity,
        signed(one.spearman_mean),
        _interval(one.mean_interval),
        signed(one.pearson_mean),
        signed(pooled.spearman),
        _interval(pooled.spearman_interval),
        signed(pooled.pearson),
        chance(pooled.p_permutation),
        chance(pooled.p_adjusted),
        signed(one.pair_coefficient),
        chance(one.pair_p),
        signed(one.ceiling),
        *(str(count) for count in (pooled.n, one.missing, one.self_pairs)),
    ]


def _of_target(one: OfTarget | None) -> str:
    if one is None or one.spearman is None:
        return UNKNOWN
    return f"{signed(one.spearman)} ({chance(one.p)})"


def signed(value: float | None) -> str:
    """A coefficient with two decimals and its sign."""
    return UNKNOWN if value is None else f"{value:+.2f}"


def chance(p: float | None) -> str:
    """A p-value with three decimals, never 0."""
    return UNKNOWN if p is None else "<.001" if p < 0.0005 else f"{p:.3f}"


def _interval(ends: tuple[float, float] | None) -> str:
    return f"{signed(ends[0])} to {signed(ends[1])}" if ends else UNKNOWN


def _captions(found: Sequence[Correlation], relative_to: str) -> Iterator[str]:
    yield "ρ: Spearman, r: Pearson; mean: over targets; 95 % intervals over targets and sources"
    yield (
        "p: of pooled ρ, source labels permuted jointly over targets; "
        "adjusted for the number of similarities (the smallest p of each permutation)"
    )
    yield (
        "pair r: of ranks within targets without the means of sources: what a similarity knows of the pair; its p with "
        "each source permuted over targets, adjusted for the number of similarities"
    )
    first = found[0]
    if first.source_only is not None:
        yield f"knowing only a source's mean rank on the other targets has a mean ρ of {signed(first.source_only)}"
    if len(found) > 1 and first.by_chance is not None:
        yield f"by chance alone the best of {len(found)} similarities has a mean ρ of {signed(first.by_chance)}"
    yield RELATIVE[relative_to]
    if any(one.ceiling is not None for one in found):
        yield "noise ceiling: mean ρ between two measurements of the same scores, estimated from halves of the seeds, which share their test rows, so that it is an upper bound"
    yield from notes(found)


def notes(found: Sequence[Correlation]) -> list[str]:
    """What is missing and why, one line each."""
    told: dict[str, list[str]] = {}
    for one in found:
        for about, why in _reasons(one):
            told.setdefault(f"{about}: {why}", []).append(one.similarity)
    everywhere = len(found)
    return [
        text if len(similarities) == everywhere else f"{', '.join(similarities)}: {text}"
        for text, similarities in told.items()
    ]


def _reasons(one: Correlation) -> Iterator[tuple[str, str]]:
    for name, target in one.targets.items():
        if target.note:
            yield f"no coefficient of {name}", target.note
    if one.pooled.note:
        yield "pooled" if one.pooled.spearman is not None else "no pooled coefficient", one.pooled.note
    if one.note:
        yield "seeds", one.note
    if one.missing:
        yield "missing", f"{one.missing} pair{'s' * (one.missing != 1)} without score or similarity"


def correlation_csv(found: Sequence[Correlation]) -> str:
    """All coefficients as CSV: per similarity one row per target, one for the mean over targets, one pooled."""
    text = StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: guarded(value) for name, value in row.items()} for one in found for row in _rows(one))
    return text.getvalue()


def _rows(one: Correlation) -> Iterator[dict[str, Any]]:
    of = {"similarity": one.similarity, "measure": one.measure, "method": one.method}
    for name, target in one.targets.items():
        yield {**of, "scope": "target", "target": name, **vars(target)}
    whole = {**of, "missing": one.missing, "self_pairs": one.self_pairs}
    yield {
        **whole, "scope": "mean", "spearman": one.spearman_mean, "pearson": one.pearson_mean, "ceiling": one.ceiling,
        "pair": one.pair_coefficient, "pair_p": one.pair_p, "source_only": one.source_only,
        "by_chance": one.by_chance,
        "n": sum(target.spearman is not None for target in one.targets.values()), **_ends(one.mean_interval),
    }  # fmt: skip
    pooled = {name: value for name, value in vars(one.pooled).items() if name != "spearman_interval"}
    yield {**whole, "scope": "pooled", **pooled, **_ends(one.pooled.spearman_interval)}


def _ends(interval: tuple[float, float] | None) -> dict[str, float]:
    return dict(zip(("low", "high"), interval or (), strict=False))

"""Scores and similarities as others' files tell them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any

from analysis.external.csv_rows import Mistakes, Row, Unreadable, near, rows_of
from analysis.statistics.gains import ROUNDING

Pair = tuple[str, str]
"""Source and target."""

SCORES, SIMILARITIES = ("source", "target", "score"), ("source", "target", "metric", "similarity")
BOUNDS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {**dict.fromkeys(("task_embedding", "c_mean", "c_pair", "c_concat", "c_mean_change", "c_concat_change"), (-1, 1)),
     **dict.fromkeys(("e_concat", "e_avg", "e_avg_change", "on"), (0, 1)), "logme": (-math.inf, math.inf), "leep": (-math.inf, 0),
     **dict.fromkeys(("source_size", "label_entropy"), (0, math.inf))}
)  # fmt: skip
"""Similarity that we know -> its least and largest value."""
ABOVE_LEAST = ("e_concat", "e_avg", "e_avg_change")
"""Similarities that never have their least value."""
SLACK = 1000 * ROUNDING
"""How far single precision may carry a similarity over its bound."""


@dataclass(frozen=True)
class Scores:
    """What a file of scores says of one method.

    Attributes:
        method: its name; "" where the file names none.
        seeds: that any pair has, by name; [""] where the file has none.
        of_pair: pair -> seed -> score.
        baselines: target -> its baseline's score, mean over seeds.
    """

    method: str
    seeds: Sequence[str]
    of_pair: Mapping[Pair, Mapping[str, float]]
    baselines: Mapping[str, float]

    def mean(self, pair: Pair) -> float:
        """Over the seeds that all pairs of its target have, or over its own where there is none; NaN without a score.

        Seeds differ in how well they do: pairs compare on the same ones only.
        """
        if pair not in self.of_pair:
            return math.nan
        own, shared = self.of_pair[pair], self.shared(pair[1])
        return fmean(own[seed] for seed in shared or own)

    def shared(self, target: str) -> list[str]:
        """The seeds that all pairs of a target have."""
        pairs = [values for (_, of), values in self.of_pair.items() if of == target]
        return sorted(set.intersection(*map(set, pairs))) if pairs else []

    @property
    def uneven(self) -> list[str]:
        """Targets whose pairs have different seeds, by name."""
        return [
            target
            for target in self.targets
            if any(sorted(values) != self.shared(target) for (_, of), values in self.of_pair.items() if of == target)
        ]

    @property
    def targets(self) -> list[str]:
        """Those that have a score with a source, by name."""
        return sorted({target for _, target in self.of_pair})


def read_scores(file: Path, method: str | None = None) -> Scores:
    """The scores of one method.

    A baseline belongs to all methods, whatever its row calls it, unless the method has a baseline of its own.

    Args:
        file: the CSV file.
        method: whose; None where the file has one only.

    Raises:
        Unreadable: with every mistake, its line and what to do.
    """
    mistakes, found = Mistakes(file), dict[tuple[str, str, str, str], tuple[float, int]]()
    for row in rows_of(file, SCORES):
        key = row["method"], row["source"], mistakes.name(row, "target"), row["seed"]
        _add(mistakes, found, row, key, mistakes.number(row, "score"), "; columns `method` and `seed` tell rows apart")
    mistakes.refuse()
    chosen = _method(file, sorted({key[0] for key in found if key[1]}), method)
    of_pair: dict[Pair, dict[str, float]] = {}
    baselines: dict[str, dict[str, dict[str, float]]] = {}
    for (whose, source, target, seed), (value, _) in found.items():
        if not source:
            baselines.setdefault(target, {}).setdefault(whose, {})[seed] = value
        elif whose == chosen:
            of_pair.setdefault((source, target), {})[seed] = value
    seeds = sorted({seed for values in of_pair.values() for seed in values})
    return Scores(chosen, seeds, of_pair, {t: _baseline(file, t, chosen, b) for t, b in baselines.items()})


def _add(
    mistakes: Mistakes, found: dict[Any, tuple[float, int]], row: Row, key: Any, value: float, advice: str = ""
) -> None:
    if key in found:
        mistakes.add(row.line, f"{_arrow(row)} stands in line {found[key][1]} already{advice}")
    found.setdefault(key, (value, row.line))


def _arrow(row: Row) -> str:
    return f"{row['target']} ← {row['source']}" if row["source"] else f"the baseline of {row['target']}"


def _method(file: Path, there: Sequence[str], asked: str | None) -> str:
    if not there:
        raise Unreadable(f"{file}: has no row with a source")
    listed = ", ".join(name or "(none)" for name in there)
    if asked is not None and asked not in there:
        raise Unreadable(f"{file}: has no scores of the method {asked}{near(asked, there)}; it has {listed}")
    if asked is None and len(there) > 1:
        raise Unreadable(f"{file}: has scores of several methods ({listed}); choose one with --method")
    return there[0] if asked is None else asked


def _baseline(file: Path, target: str, method: str, by_method: Mapping[str, Mapping[str, float]]) -> float:
    others = [method] if method in by_method else sorted(by_method)
    if len(others) > 1:
        raise Unreadable(f"{file}: {target} has several baselines ({', '.join(others)}), none of them of {method}")
    return fmean(by_method[others[0]].values())


def read_similarities(file: Path) -> dict[str, dict[Pair, float]]:
    """Metric -> pair -> similarity.

    Raises:
        Unreadable: with every mistake, its line and what to do.
    """
    mistakes, found = Mistakes(file), dict[tuple[str, str, str], tuple[float, int]]()
    for row in rows_of(file, SIMILARITIES):
        key = mistakes.name(row, "metric"), mistakes.name(row, "source"), mistakes.name(row, "target")
        value = mistakes.number(row, "similarity")
        if broken := _broken_bound(row["metric"], value):
            mistakes.add(row.line, broken)
        _add(mistakes, found, row, key, value, f" under {row['metric']}")
    mistakes.refuse()
    similar: dict[str, dict[Pair, float]] = {}
    for (metric, source, target), (value, _) in found.items():
        similar.setdefault(metric, {})[source, target] = value
    return similar


def _broken_bound(metric: str, value: float) -> str:
    """What is wrong with a similarity; empty where it is possible, or we do not know the metric."""
    low, high = BOUNDS.get(metric, (-math.inf, math.inf))
    least = value > low if metric in ABOVE_LEAST else value >= low - SLACK
    if math.isnan(value) or (least and value <= high + SLACK):
        return ""
    bounds = f"{'(' if metric in ABOVE_LEAST else '['}{low:g}, {high:g}]"
    return f"similarity {metric} lies in {bounds}, got {value:g}"

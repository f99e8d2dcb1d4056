"""What the search itself says, beside what `importance` and `contrasts` do: slices, and scores against their cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from analysis.findings.comparisons import MethodComparison, comparisons
from analysis.findings.contrasts import Contrast, contrasts, interval
from analysis.findings.equal_cost import EqualCost, equal_cost
from analysis.findings.importance import LEAST, Importance, centred, importances
from analysis.records.evidence import Evidence
from analysis.records.studies import TrialRecord
from analysis.statistics.gains import LEVEL, RESAMPLES
from analysis.statistics.means import FEWEST
from analysis.statistics.resampling import Interval

Floats = NDArray[np.float64]
SLICED = ("learning_rate", "lambda", "teacher_steps")
"""Knobs that are shown against the score."""
BINS = 4
COSTS: Mapping[str, str] = {"steps": "steps of training", "seconds": "seconds"}
GRID = 60


@dataclass(frozen=True)
class Bin:
    """Trials whose knob lies near one value.

    Attributes:
        middle: mean of the knob, on the scale that is drawn.
        mean: of the centred scores, in score units.
        interval: its 95 %, over trials; None for fewer than three.
        n: trials.
    """

    middle: float
    mean: float
    interval: Interval | None
    n: int


@dataclass(frozen=True)
class Slice:
    """One knob of one method against the score.

    Attributes:
        knob: its name.
        method: the method.
        values: [N] of the knob.
        scores: [N] centred within their study, in score units.
        bins: means of neighbours.
        studies: how many.
        is_log: whether the values span more than a factor of ten.
    """

    knob: str
    method: str
    values: tuple[float, ...]
    scores: tuple[float, ...]
    bins: tuple[Bin, ...]
    studies: int
    is_log: bool


def slices(trials: Sequence[TrialRecord], seed: int = 0) -> list[Slice]:
    """Every knob of SLICED of every method that varied it, by knob and method: complete trials only, and LEAST of them."""
    known = centred(trials)
    found = []
    for knob in SLICED:
        for method in sorted({trial.method for trial, _ in known}):
            own = [(t, s) for t, s in known if t.method == method and isinstance(t.knobs.get(knob), float)]
            if len(own) >= LEAST and len({trial.knobs[knob] for trial, _ in own}) > 1:
                found.append(_slice(knob, method, own, seed))
    return found


def _slice(knob: str, method: str, known: Sequence[tuple[TrialRecord, float]], seed: int) -> Slice:
    values = np.array([float(trial.knobs[knob]) for trial, _ in known])
    scores = np.array([score for _, score in known])
    is_log = bool(values.min() > 0 and values.max() / values.min() > 10)
    groups = [part for part in _groups(values) if len(part)]
    bins = tuple(
        Bin(
            float(np.exp(np.log(values[part]).mean()) if is_log else values[part].mean()), float(scores[part].mean()),
            interval([float(s) for s in scores[part]], seed), len(part),
        )
        for part in groups
    )  # fmt: skip
    return Slice(
        knob,
        method,
        tuple(map(float, values)),
        tuple(map(float, scores)),
        bins,
        len({t.study for t, _ in known}),
        is_log,
    )


def _groups(values: Floats) -> list[NDArray[np.intp]]:
    """Equal values together where they are few, else neighbours in groups of one size; BINS at most."""
    different = np.unique(values)
    if len(different) <= BINS:
        return [np.flatnonzero(values == value) for value in different]
    return list(np.array_split(np.argsort(values, kind="stable"), BINS))


@dataclass(frozen=True)
class Progress:
    """What a method's searches found for their cost, beyond the published setting.

    Attributes:
        method: the method.
        cost: of COSTS.
        spent: [G] cost since the start of a study.
        above: [G] best score so far minus the first trial's, mean over studies, in score units.
        band: [G] 95 % over studies, low and high; None for fewer than three.
        studies: how many.
        left_out: studies whose first trial has no score.
    """

    method: str
    cost: str
    spent: tuple[float, ...]
    above: tuple[float, ...]
    band: tuple[tuple[float, ...], tuple[float, ...]] | None
    studies: int
    left_out: int


def progress(trials: Sequence[TrialRecord], cost: str, seed: int = 0) -> list[Progress]:
    """The progress of every method that searched, by name.

    Every trial costs, the stopped and the failed ones too, as far as they ran; only complete ones can be
    the best. Trials count in the order in which they were suggested.

    Args:
        trials: of all studies.
        cost: of COSTS.
        seed: of the bootstrap over studies.
    """
    methods: dict[str, dict[str, list[TrialRecord]]] = {}
    for trial in sorted(trials, key=lambda t: (t.study, t.number)):
        methods.setdefault(trial.method, {}).setdefault(trial.study, []).append(trial)
    found = [_progress(method, list(studies.values()), cost, seed) for method, studies in sorted(methods.items())]
    return [one for one in found if one is not None]


def _progress(method: str, studies: Sequence[Sequence[TrialRecord]], cost: str, seed: int) -> Progress | None:
    usable = [own for own in studies if own[0].number == 0 and own[0].is_complete]
    paths = [_path(own, cost) for own in usable]
    if not paths or max(len(own) for own in usable) < 2:
        return None
    end = max(spent[-1] for spent, _ in paths)
    start = fmean(spent[0] for spent, _ in paths)
    grid = np.linspace(start, max(end, start), GRID)
    table = np.array([_along(grid, spent, above) for spent, above in paths])  # [S, G]
    band = None
    if len(table) >= FEWEST:
        weights = np.random.default_rng(seed).multinomial(
            len(table), np.full(len(table), 1 / len(table)), size=RESAMPLES
        )
        low, high = np.quantile(weights @ table / len(table), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        band = tuple(map(float, low)), tuple(map(float, high))
    return Progress(
        method,
        cost,
        tuple(map(float, grid)),
        tuple(map(float, table.mean(axis=0))),
        band,
        len(table),
        len(studies) - len(usable),
    )


def _path(trials: Sequence[TrialRecord], cost: str) -> tuple[Floats, Floats]:
    """[N] cost after each trial of a study, and best score so far minus the first trial's."""
    spent = np.cumsum([float(trial.step if cost == "steps" else trial.seconds or 0.0) for trial in trials])
    scores = [trial.score if trial.is_complete and trial.score is not None else -np.inf for trial in trials]
    return spent, np.maximum.accumulate(scores) - scores[0]


def _along(grid: Floats, spent: Floats, above: Floats) -> Floats:
    """A study's progress at each cost of a grid: what it had by then, and in the end what it ended with."""
    place = np.clip(np.searchsorted(spent, grid + 1e-9, side="right") - 1, 0, len(spent) - 1)
    reached: Floats = above[place]
    return reached


@dataclass(frozen=True)
class SearchHistory:
    """All that the search says.

    Attributes:
        importances: of each method.
        slices: of the knobs of SLICED.
        progress: cost -> that of each method.
        contrasts: of fusions and partners.
        comparisons: methods against what they are to beat.
        equal_cost: methods at equal cost.
    """

    importances: tuple[Importance, ...]
    slices: tuple[Slice, ...]
    progress: Mapping[str, tuple[Progress, ...]]
    contrasts: tuple[Contrast, ...]
    comparisons: tuple[MethodComparison, ...]
    equal_cost: EqualCost


def search_history(evidence: Evidence) -> SearchHistory:
    """What the search of an experiment says, on targets with a signal."""
    trials = evidence.trials_with_signal
    return SearchHistory(
        tuple(importances(trials)),
        tuple(slices(trials)),
        {cost: tuple(progress(trials, cost)) for cost in COSTS},
        tuple(contrasts(trials)),
        tuple(comparisons(evidence)),
        equal_cost(evidence),
    )

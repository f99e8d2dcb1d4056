"""Which hyperparameter mattered: Optuna's importances of a method, over all its studies."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from analysis.records.studies import TrialRecord

LEAST = 10
"""Complete trials below which an importance is an accident."""
DRAWS, TREES = 4, 32
"""Chance knobs that are tried, and trees of a forest: the shares are stable to a few points."""
CHANCE = "(chance)"
STABLE = 0.05
"""How far a share may move from forest to forest: closer to chance than that says nothing."""


@dataclass(frozen=True)
class Importance:
    """What share of a method's differences between trials each knob explains.

    Attributes:
        method: the method.
        shares: knob -> share of the explained variance in [0, 1], largest first; empty with a note.
        chance: the share that a knob without any influence gets beside them, mean over some such knobs.
        constant: knobs that were not varied, or not in every trial.
        trials: complete ones, of studies with two or more.
        studies: whose.
        note: why there are no shares; empty where there are.
    """

    method: str
    shares: Mapping[str, float]
    chance: float
    constant: tuple[str, ...]
    trials: int
    studies: int
    note: str = ""


def centred(trials: Sequence[TrialRecord]) -> list[tuple[TrialRecord, float]]:
    """Complete trials with their score minus the mean of their study's, so that studies can stand together.

    A study with a single complete trial says nothing of its knobs and is left out.
    """
    studies: dict[str, list[tuple[TrialRecord, float]]] = {}
    for trial in trials:
        if trial.state == "complete" and trial.score is not None:
            studies.setdefault(trial.study, []).append((trial, trial.score))
    return [
        (trial, score - fmean(s for _, s in own)) for own in studies.values() if len(own) > 1 for trial, score in own
    ]


def importances(trials: Sequence[TrialRecord], seed: int = 0) -> list[Importance]:
    """The importances of every method that has hyperparameters, by name."""
    methods = sorted({trial.method for trial in trials if trial.knobs})
    return [importance(method, [trial for trial in trials if trial.method == method], seed) for method in methods]


def importance(method: str, trials: Sequence[TrialRecord], seed: int = 0) -> Importance:
    """The importances of one method.

    Scores are centred within their study; early stopped trials are left out, since their score is of another
    step. Beside the knobs stands one that is drawn by chance: what it gets is what nothing gets.

    Args:
        method: its name.
        trials: its own, of all studies.
        seed: of the forest and of the chance knobs.

    Source: fANOVA (Hutter et al., 2014) as Optuna has it, of a random forest.
    """
    known = centred(trials)
    studies = len({trial.study for trial, _ in known})
    names = list(dict.fromkeys(name for trial in trials for name in trial.knobs))
    varied = [name for name in names if _varies([trial.knobs.get(name) for trial, _ in known])]
    constant = tuple(name for name in names if name not in varied)
    note = _obstacle(len(known), varied, [score for _, score in known])
    if note:
        return Importance(method, {}, 0.0, constant, len(known), studies, note)
    generator = np.random.default_rng(seed)
    found = [_once(known, varied, generator, seed + draw) for draw in range(DRAWS)]
    shares = {name: fmean(one[name] for one in found) for name in varied}
    ordered = dict(sorted(shares.items(), key=lambda pair: (-pair[1], pair[0])))
    return Importance(method, ordered, fmean(one[CHANCE] for one in found), constant, len(known), studies)


def _varies(values: Sequence[Any]) -> bool:
    return None not in values and len(set(values)) > 1


def _obstacle(count: int, varied: Sequence[str], scores: Sequence[float]) -> str:
    if count < LEAST:
        return f"{count} complete trials that can be compared: at least {LEAST} are needed"
    if not varied:
        return "no hyperparameter was varied in every trial"
    return "all scores of a study are the same" if np.ptp(scores) == 0 else ""


def _once(
    known: Sequence[tuple[TrialRecord, float]], varied: Sequence[str], generator: np.random.Generator, seed: int
) -> dict[str, float]:
    """The shares beside one chance knob."""
    import optuna
    from optuna.distributions import FloatDistribution
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    domains = {name: _domain([trial.knobs[name] for trial, _ in known]) for name in varied}
    chances = generator.uniform(size=len(known))
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        [
            optuna.trial.create_trial(
                value=score, params={**{name: trial.knobs[name] for name in varied}, CHANCE: float(chance)},
                distributions={**domains, CHANCE: FloatDistribution(0.0, 1.0)},
            )
            for (trial, score), chance in zip(known, chances, strict=True)
        ]
    )  # fmt: skip
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(n_trees=TREES, seed=seed))


def _domain(values: Sequence[Any]) -> Any:
    """A domain that holds all values; on a log scale where they span more than a factor of ten."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if any(isinstance(value, str) for value in values):
        return CategoricalDistribution(sorted({*values}, key=str))
    low, high = min(values), max(values)
    return FloatDistribution(low, high, log=low > 0 and math.log10(high / low) > 1)

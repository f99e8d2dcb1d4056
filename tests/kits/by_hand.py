"""Plays Tune: drives a StudySearcher by hand, with or without losing it in the middle."""

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial
from ray.tune.search import Searcher

from panda_trainable.result import TrialResult
from search_spaces.defaults import SPACES
from tuning.engine.journal import Journal, StudyHandle, results_of
from tuning.engine.searcher import SearchPolicy, StudySearcher

EVERY, STEPS = 2, 8
IDS = itertools.count()
Score = Callable[[dict[str, Any], int], float]


def studies(folder: Path, budget: int, methods: tuple[str, ...] = ("panda", "spot")) -> list[StudyHandle]:
    """Small studies with their journals in a folder."""
    return [StudyHandle(m, folder / f"{m}.journal", SPACES[m].resolved(STEPS, 2), budget, STEPS) for m in methods]


def score(config: dict[str, Any], step: int) -> float:
    """A score that the knobs decide and that grows with the steps, at different speeds."""
    knobs = config["knobs"]
    distance = abs(math.log10(knobs["learning_rate"]) + 2) + abs(math.log10(knobs.get("lambda", 1.0))) / 4
    return 0.9 - distance / 2 - 0.05 * knobs["partners"] + 0.01 * step / (1 + distance)


def result(step: int, score: float, **fields: Any) -> TrialResult:
    """An evaluation with one seed, whose loss falls as its score rises."""
    return TrialResult(step, float(step), "host/1", {"accuracy": {0: score}}, {0: 1 - score}, **fields)


def play(
    searched: list[StudyHandle],
    policy: SearchPolicy,
    results: int | None = None,
    score: Score = score,
    live: list[str] | None = None,
) -> StudySearcher:
    """Gives results in turn to all live trials, until nothing is left or so many were given."""
    searcher = StudySearcher(searched, policy)
    running: dict[str, tuple[dict[str, Any], Iterator[int]]] = {}
    given = 0
    while True:
        suggested = None
        while (
            suggested != Searcher.FINISHED and (suggested := searcher.suggest(name := f"trial-{next(IDS)}")) is not None
        ):
            if isinstance(suggested, dict):
                running[name] = (suggested, iter(range(EVERY, STEPS + 1, EVERY)))
        if live is not None:
            live.append(" ".join(sorted(config["study"] for config, _ in running.values())))
        if not running:
            assert suggested == Searcher.FINISHED
            return searcher
        for trial_id, (config, steps) in list(running.items()):
            if given == results:
                return searcher
            step = next(steps)
            found = result(step, score(config, step))
            given += 1
            if searcher.should_stop(trial_id, found):
                searcher.on_trial_complete(trial_id=trial_id, result=found.as_ray(), error=False)
                del running[trial_id]


def history(searched: list[StudyHandle]) -> dict[str, list[tuple[Any, ...]]]:
    """Study -> what its journal holds of each trial: parameters, state, value and whole results."""
    return {s.key: [content_of(trial) for trial in Journal(s.key, s.journal).trials] for s in searched}


def content_of(trial: FrozenTrial) -> tuple[Any, ...]:
    """What of a trial must be the same after a restart."""
    assert [result.score for result in results_of(trial)] == [v for _, v in sorted(trial.intermediate_values.items())]
    return trial.number, trial.params, trial.state.name, trial.value, trial.intermediate_values, trial.user_attrs

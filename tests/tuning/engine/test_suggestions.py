"""Suggestions follow a study as its trials begin and end in any order, and depend on nothing else."""

import random
import zlib
from pathlib import Path

import optuna
import pytest
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from panda_trainable.result import TrialResult
from search_spaces.defaults import SPACES
from search_spaces.space import Space
from tests.kits.by_hand import STEPS, result
from tuning.engine.journal import Journal
from tuning.engine.suggestions import Suggestions

SEED, TRIALS, LIVE = 3, 32, 3


def sampler_of(kind: str, number: int) -> BaseSampler:
    """The documented sampler of a trial."""
    seed = zlib.crc32(f"{SEED}/study/{number}".encode())
    if kind == "random":
        return RandomSampler(seed=seed)
    return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


def by_optuna(kind: str, space: Space, trials: list[FrozenTrial]) -> dict[str, object]:
    """What Optuna suggests in a study that is made of all these trials."""
    study = optuna.create_study(direction="maximize", sampler=sampler_of(kind, len(trials)))
    study.add_trials(trials)
    if not trials:
        study.enqueue_trial(space.first())
    trial = study.ask()
    space(trial)
    return trial.params


def end(journal: Journal, number: int, rng: random.Random, most: str) -> None:
    """Ends a trial as trials do end: complete, stopped at a rung, or failed with or without a result."""
    kind = rng.choice([most, most, most, most, "complete", "stopped", "failed", "lost"])
    steps = {"complete": range(2, STEPS + 1, 2), "stopped": range(2, rng.choice([4, 8]), 2), "failed": [2], "lost": []}
    found = [result(step, rng.random()) for step in steps[kind]]
    for one in found:
        journal.record(number, one)
    failed = kind in ("failed", "lost")
    journal.end(number, TrialResult.failed("broken") if failed else found[-1], stopped=kind == "stopped")


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("most", ["complete", "stopped"])  # TPE ranks those that were stopped where few are complete
@pytest.mark.parametrize("method", ["panda", "prompt_tuning"])  # with conditional knobs, and one knob
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_those_that_follow_a_study_are_those_of_its_trials_alone_and_optunas_own(
    tmp_path: Path, sampler: str, method: str, most: str, seed: int
) -> None:
    space = SPACES[method].resolved(STEPS, 2)
    rng, journal = random.Random(seed), Journal("study", tmp_path / "journal")
    followed = Suggestions("study", space, SEED, sampler)
    for number in range(TRIALS):
        suggested = followed.next(journal.trials).params
        assert suggested == by_optuna(sampler, space, journal.trials)
        assert suggested == Suggestions("study", space, SEED, sampler).next(journal.trials).params
        journal.add(followed.next(journal.trials))  # asked twice, it says the same twice
        assert journal.trials[number].params == suggested
        live = [trial.number for trial in journal.trials if not trial.state.is_finished()]
        for ended in rng.sample(live, max(len(live) - LIVE, rng.randint(0, 1))):
            end(journal, ended, rng, most)
    assert {trial.state for trial in journal.trials} == set(TrialState) - {TrialState.WAITING}

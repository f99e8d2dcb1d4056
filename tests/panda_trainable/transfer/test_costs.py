"""What a trial costs beside its own steps is what an empty library holds after it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from panda_trainable.config.methods import TRAITS
from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.transfer.costs import runs_of, training_runs
from panda_trainable.transfer.lineage import Lineage
from panda_trainable.transfer.methods import METHODS, open_trainer

Trial = Callable[..., TrialConfig]


def trained_steps(library: PromptLibrary) -> int:
    """Steps of all runs that left something in a library, those of every seed counted; not those of projectors."""
    longest: dict[str, int] = {}
    for card in library.cards():
        if "steps" in card and "holds" not in card:
            run = str([card["kind"], card["task"], card["plm"], card["start"], card["learning_rate"], card["seed"]])
            longest[run] = max(longest.get(run, 0), card["steps"])
    return sum(longest.values())


@pytest.mark.own_library
@pytest.mark.parametrize("method", METHODS)
def test_the_runs_of_a_trial_are_those_that_an_empty_library_makes(
    library: PromptLibrary, trial: Trial, method: str
) -> None:
    config = trial(method, sources=1 if TRAITS[method].shares_head else 2)
    open_trainer(library, config)
    projector = config.projection.steps * len(config.seeds) if config.projection else 0
    assert sum(training_runs(config).values()) == trained_steps(library) + projector


@pytest.mark.parametrize(("fusion", "teachers"), [("early", 1), ("late", 2)])
def test_the_runs_of_a_distilled_trial_by_hand(trial: Trial, fusion: str, teachers: int) -> None:
    """Two sources of 6 steps and teachers that go on to the longest candidate, 4, each with two seeds."""
    config = trial("panda", sources=2, fusion=fusion, teacher_steps=2)
    assert sorted(training_runs(config).values()) == sorted([12, 12, *[8] * teachers])


def test_trials_have_in_common_what_is_trained_once(trial: Trial) -> None:
    panda, spot = trial("panda", sources=2), trial("spot", sources=1)
    assert training_runs(spot).keys() < training_runs(panda).keys()
    for change in ({"lambda_": 0.3}, {"learning_rate": 0.1}, {"teacher_steps": 2}, {"steps": 4}):
        assert training_runs(replace(panda, **change)) == training_runs(panda)
    assert training_runs(trial("prompt_tuning")) == {}


def test_the_longest_snapshot_of_a_run_counts(trial: Trial) -> None:
    config = trial()
    run = Lineage.of_target(config.setting, config.target, 8, 0.02)
    assert list(runs_of([run.at(2), run, run.at(4)], 3).values()) == [24]

"""The conformance kit of spaces: every method's, so that a new row is tested the day it is added."""

import pickle
from dataclasses import replace
from typing import Any

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import FixedTrial

from panda_trainable.config import KNOBS, SOURCELESS, Plm, Setting, Source, TrialConfig
from panda_trainable.tasks import TASKS
from search_spaces.defaults import SPACES
from search_spaces.space import Choice, Float, Int

STEPS = 40
BASE = TrialConfig(
    Setting(Plm("anywhere", "files")), TASKS["rte"], "prompt_tuning", seeds=(0,), steps=STEPS, learning_rate=0.01
)


def base(method: str, partners: int) -> TrialConfig:
    sources = tuple(Source(replace(TASKS["sst2"], name=f"s{i}"), 0.5) for i in range(1 + partners))
    transfer = {"sources": sources, "source_steps": 1, "source_learning_rate": 0.01, "teacher_steps": 1}
    return BASE if method in SOURCELESS else replace(BASE, method=method, **transfer)


def contains(domain: Any, value: Any) -> bool:
    if isinstance(domain, Choice):
        return value in domain.values
    whole = isinstance(domain, Float) or isinstance(value, int)
    return whole and domain.low <= value <= domain.high


def test_every_method_has_a_space() -> None:
    assert SPACES.keys() == KNOBS.keys()


@pytest.mark.parametrize("method", SPACES)
def test_a_space_has_its_methods_knobs_and_no_others(method: str) -> None:
    assert tuple(knob.name for knob in SPACES[method].knobs) == KNOBS[method]


@pytest.mark.parametrize("method", SPACES)
def test_a_condition_names_an_earlier_knob(method: str) -> None:
    names = KNOBS[method]
    assert all(k.when in names[: names.index(k.name)] for k in SPACES[method].knobs if k.when)


@pytest.mark.parametrize("partners", [0, 1, 3])
@pytest.mark.parametrize("method", SPACES)
def test_the_first_point_lies_inside_every_domain(method: str, partners: int) -> None:
    space = SPACES[method].resolved(STEPS, partners)
    first = space.first()
    assert first.keys() == set(KNOBS[method])
    assert [name for name, value in first.items() if not contains(space.domain(name), value)] == []


@pytest.mark.parametrize("method", SPACES)
def test_the_first_point_of_all_methods_that_train_prompts_has_one_rate_and_no_partners(method: str) -> None:
    """All weights are trained with a usual rate of fine-tuning, which lies far below those of prompts."""
    first = SPACES[method].resolved(STEPS, 2).first()
    assert (first["learning_rate"], first.get("partners", 0)) == (5e-5 if method == "model_tuning" else 1e-2, 0)


def test_tuning_for_longer_is_searched_as_prompt_tuning_is() -> None:
    assert SPACES["prompt_tuning_longer"] == SPACES["prompt_tuning"]


@pytest.mark.parametrize("method", SPACES)
def test_a_space_is_the_same_after_pickling(method: str) -> None:
    space = SPACES[method].resolved(STEPS, 2)
    assert pickle.loads(pickle.dumps(space)) == space


@pytest.mark.parametrize("method", SPACES)
def test_a_fixed_trial_gives_the_fixed_values(method: str) -> None:
    space = SPACES[method].resolved(STEPS, 2)
    values = {**space.first(), **({"partners": 1} if "partners" in KNOBS[method] else {})}
    assert space(FixedTrial(values)) == values


@pytest.mark.parametrize("partners", [0, 2])
@pytest.mark.parametrize("method", SPACES)
def test_every_value_that_a_study_draws_makes_a_trial(method: str, partners: int) -> None:
    space = SPACES[method].resolved(STEPS, partners)
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    for _ in range(30):
        knobs = space(study.ask())
        config = base(method, partners).with_knobs(knobs)
        assert [name for name, value in knobs.items() if not contains(space.domain(name), value)] == []
        assert ("fusion" in knobs) == ("fusion" in KNOBS[method] and knobs["partners"] > 0)
        assert config.learning_rate == knobs["learning_rate"]
        assert len(config.sources) == (0 if method in SOURCELESS else 1 + knobs.get("partners", 0))
        assert {"lambda": config.lambda_, "teacher_steps": config.teacher_steps}.items() >= {
            (name, knobs[name]) for name in ("lambda", "teacher_steps") if name in knobs
        }


@pytest.mark.parametrize("method", SPACES)
def test_a_study_draws_more_than_one_value_of_every_searched_knob(method: str) -> None:
    space = SPACES[method].resolved(STEPS, 2)
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    drawn = [space(study.ask()) for _ in range(30)]
    assert all(len({knobs.get(name) for knobs in drawn}) > 1 for name in KNOBS[method])


def test_whole_numbers_are_searched_as_such() -> None:
    assert isinstance(SPACES["spot"].resolved(STEPS, 2).domain("partners"), Int)

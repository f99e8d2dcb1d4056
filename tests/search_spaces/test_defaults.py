"""The conformance kit of spaces: every method's, so that a new row is tested the day it is added."""

import math
import pickle
from dataclasses import replace
from typing import Any

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import FixedTrial

from panda_trainable.config.methods import KNOBS, TRAITS
from panda_trainable.config.setting import Plm, PromptSettings, Setting
from panda_trainable.config.trial import Projection, Relative, Source, TeacherPlm, TrialConfig
from panda_trainable.data.task_table import TASKS
from search_spaces.defaults import SPACES
from search_spaces.space import Choice, Float, Int

STEPS = 40
BASE = TrialConfig(
    Setting(Plm("anywhere", "files")), TASKS["rte"], "prompt_tuning", seeds=(0,), steps=STEPS, learning_rate=0.01
)


OTHER = Plm("elsewhere", "other files")
POINTS = (
    "plain_template", "zero_shot", "random_prompt", "panda_as_released", "tpt_model_zero_shot", "tpt_relative_zero_shot",
)  # fmt: skip
"""Methods that have one configuration: nothing of them is searched."""


def base(method: str, partners: int) -> TrialConfig:
    """A trial of a method with what its traits ask for, as a plan makes it."""
    traits = TRAITS[method]
    sources = tuple(Source(replace(TASKS["sst2"], name=f"s{i}"), 0.5) for i in range(1 + partners))
    return replace(
        BASE, method=method, steps=0 if traits.trains == "nothing" else STEPS,
        sources=() if traits.sources == "none" else sources, source_steps=1, source_learning_rate=0.01, teacher_steps=1,
        attention_temperature=1.0,
        teacher_plm=TeacherPlm(OTHER) if traits.another == "teacher_plm" else None,
        projection=Projection(OTHER, (TASKS["sst2"],)) if traits.moves == "projector" else None,
        relative=Relative(OTHER) if traits.moves == "relative" else None,
        setting=replace(BASE.setting, prompt=PromptSettings(form=traits.forms[-1])),
    )  # fmt: skip


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


PUBLISHED: dict[str, dict[str, Any]] = {
    "prompt_tuning": {"learning_rate": 1e-2},
    "prompt_tuning_longer": {"learning_rate": 1e-2},
    "plain_template": {},
    "model_tuning": {"learning_rate": 5e-5},
    "multitask_model_tuning": {"learning_rate": 5e-5},
    "linear_probe": {"learning_rate": 1e-2},
    "spot": {"learning_rate": 1e-2, "partners": 0},
    "spot_mixture": {"learning_rate": 1e-2, "partners": 0},
    "attempt": {"learning_rate": 1e-2, "attention_temperature": math.e},
    "mpt": {"learning_rate": 1e-2},
    "zero_shot": {},
    "random_prompt": {},
    "panda": {"learning_rate": 1e-2, "lambda": 0.1, "teacher_steps": 4, "partners": 0, "fusion": "early"},
    "panda_as_released": {"learning_rate": 7e-3, "lambda": 0.01, "teacher_steps": 40},
    "distill": {"learning_rate": 1e-2, "lambda": 0.0, "inter_class": 1.0, "inter_instance": 1.0, "temperature": 1.0},
    "panda_distill": {
        "learning_rate": 1e-2, "lambda": 0.1, "teacher_steps": 4, "partners": 0, "fusion": "early",
        "inter_class": 1.0, "inter_instance": 1.0, "temperature": 1.0,
    },
    "tpt_model": {"learning_rate": 1e-2},
    "tpt_model_zero_shot": {},
    "tpt_relative": {"learning_rate": 1e-2},
    "tpt_relative_zero_shot": {},
}  # fmt: skip
"""Method -> its first trial of 40 steps: the published setting, one rate for all that start a prompt the same way."""


@pytest.mark.parametrize("method", SPACES)
def test_the_first_point_is_the_published_setting(method: str) -> None:
    assert SPACES[method].resolved(STEPS, 2).first() == PUBLISHED[method]


@pytest.mark.parametrize("method", SPACES)
def test_a_space_is_a_single_point_where_the_method_has_one_configuration(method: str) -> None:
    size = SPACES[method].resolved(STEPS, 2).size
    assert size == (1 if method in POINTS else math.inf)


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
        asked = {"none": 0, "pair": 1 + knobs.get("partners", 0), "all": 1 + partners}
        assert len(config.sources) == asked[TRAITS[method].sources]
        told = {"lambda": config.lambda_, "partners": len(config.sources) - 1}
        assert {name: told.get(name, getattr(config, name, None)) for name in knobs} == knobs


@pytest.mark.parametrize("method", SPACES)
def test_a_study_draws_more_than_one_value_of_every_searched_knob(method: str) -> None:
    space = SPACES[method].resolved(STEPS, 2)
    fixed = {name for name in KNOBS[method] if space.domain(name) == Choice((PUBLISHED[method][name],))}
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    drawn = [space(study.ask()) for _ in range(30)]
    assert {name for name in KNOBS[method] if len({knobs.get(name) for knobs in drawn}) == 1} == fixed
    assert fixed == (set(KNOBS[method]) if method in POINTS else {"lambda"} if method == "distill" else set())


def test_whole_numbers_are_searched_as_such() -> None:
    assert isinstance(SPACES["spot"].resolved(STEPS, 2).domain("partners"), Int)

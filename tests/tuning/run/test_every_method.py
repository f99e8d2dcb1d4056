"""The conformance kit of methods as the planner sees them: a new row is planned, pinned and trained again the day it is added."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from panda_trainable.config.methods import BASELINE, KNOBS, TRAITS
from panda_trainable.config.task import MIXING_CAP, Mixture
from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import PromptLibrary
from tests.kits.small import UNUSUAL, WITH_HEADS, every_method, plan_of, studies_of
from tuning.experiment.experiment import Experiment
from tuning.experiment.loading import load
from tuning.experiment.pinned import pinned
from tuning.planning.plan import Plan, Study
from tuning.planning.results import confirm_key, twin
from tuning.run.confirm import jobs_of
from tuning.run.train import pinned_trial

Plms = Callable[[str], Path]
Plans = Callable[..., Plan]
VALUES = {
    "learning_rate": 0.0123456789, "lambda": 1.5, "teacher_steps": 2, "partners": 1, "fusion": "late",
    "inter_class": 0.3, "inter_instance": 2.5, "temperature": 2.0, "attention_temperature": 0.7,
}  # fmt: skip
"""Knobs of winners, none at its first value."""


def studies(plan: Plan, method: str) -> list[Study]:
    return [study for study in studies_of(plan).values() if study.pair.method == method]


@dataclass(frozen=True)
class Planned:
    """A plan of all methods, with the studies of each."""

    plan: Plan
    studies: Mapping[str, Sequence[Study]]


def planned_in(folder: Path, plms: Plms, **changes: Any) -> Planned:
    plan = plan_of(folder, plms("bert"), **every_method(plms, **changes))
    made = list(studies_of(plan).values())
    return Planned(plan, {method: [study for study in made if study.pair.method == method] for method in WITH_HEADS})


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory, plms: Plms) -> Planned:
    """All methods with the defaults of the file."""
    return planned_in(tmp_path_factory.mktemp("usual"), plms)


@pytest.fixture(scope="module")
def unusual(tmp_path_factory: pytest.TempPathFactory, plms: Plms) -> Planned:
    """All methods with no setting of theirs at its default."""
    return planned_in(tmp_path_factory.mktemp("unusual"), plms, **UNUSUAL)


def winner(study: Study, **changed: Any) -> TrialConfig:
    """A confirmed configuration of a study; `fusion` is asked for only where there are partners."""
    knobs = {name: value for name, value in {**VALUES, **changed}.items() if study.space.domain(name) is not None}
    if not knobs.get("partners"):
        knobs.pop("fusion", None)
    return replace(study.base.with_knobs(knobs), seeds=(10, 11))


def filed(folder: Path, plan: Plan, config: TrialConfig, source: str | None) -> Experiment:
    """The winner, printed as a file somewhere else and read again."""
    folder.mkdir(parents=True)
    file = folder / "pinned.yaml"
    file.write_text(yaml.safe_dump(pinned(plan.experiment, config, source)), encoding="utf-8")
    return load(file)


@pytest.mark.parametrize("method", WITH_HEADS)
def test_a_method_has_a_study_of_each_source_or_of_the_target_as_its_traits_say(usual: Planned, method: str) -> None:
    pairs = [study.pair.source for study in usual.studies[method]]
    assert pairs == (["s1", "s2", "pool"] if TRAITS[method].sources == "pair" else [None])


@pytest.mark.parametrize("method", WITH_HEADS)
def test_a_study_has_what_its_method_takes_and_nothing_else(unusual: Planned, method: str) -> None:
    traits = TRAITS[method]
    for study in unusual.studies[method]:
        base, distils = study.base, "lambda" in traits.knobs and not traits.fixed_loss
        sources = {"none": [], "pair": [study.pair.source], "all": ["s1", "s2", "pool"]}[traits.sources]
        assert [source.task.name for source in base.sources][: len(sources)] == sources
        assert len(base.sources) == len(sources) + (2 if "partners" in traits.knobs else 0)
        assert (base.teacher_plm is not None) == (traits.another == "teacher_plm")
        assert (base.projection is not None) == (traits.moves == "projector")
        assert (base.relative is not None) == (traits.moves == "relative")
        assert (base.kd, base.lambda_schedule) == (("kl", "decay") if distils else ("mse", "constant"))
        assert base.relation == ("gram" if "inter_instance" in traits.knobs else "inter_instance")
        assert base.mixing_cap == (40 if traits.mixes else MIXING_CAP)
        assert base.partner_weights == ("uniform" if "partners" in traits.knobs else "similarity")
        assert (base.steps == 0) == (traits.trains == "nothing")
        assert study.budget == (1 if study.space.size == 1 else 2)


@pytest.mark.parametrize("method", WITH_HEADS)
def test_the_first_trial_of_a_study_learns_from_every_source_that_it_takes(usual: Planned, method: str) -> None:
    for study in usual.studies[method]:
        first = study.base.with_knobs(study.space.first())
        if TRAITS[method].sources == "all":
            assert first.sources == study.base.sources
        else:
            assert [source.task.name for source in first.sources] == ([study.pair.source] if study.pair.source else [])


@pytest.mark.parametrize("method", WITH_HEADS)
def test_the_sources_beside_its_own_are_told_and_all_of_them_where_it_has_none_of_its_own(
    usual: Planned, method: str
) -> None:
    study = usual.studies[method][0]
    told = {"none": [], "pair": ["pool", "s2"] if "partners" in KNOBS[method] else [], "all": ["s1", "s2", "pool"]}
    assert study.partners_in(study.base) == told[TRAITS[method].sources]


@pytest.mark.parametrize("method", WITH_HEADS)
def test_a_winner_of_any_method_printed_as_a_file_is_the_same_trial_again(
    usual: Planned, unusual: Planned, tmp_path: Path, method: str
) -> None:
    """With the defaults from the mixture and alone; with no default from one source, and with partners."""
    asked = [(usual, usual.studies[method][-1], 0), (unusual, unusual.studies[method][0], 0)]
    if "partners" in KNOBS[method]:
        asked += [(usual, usual.studies[method][0], 1), (unusual, unusual.studies[method][0], 2)]
    for number, (planned, study, partners) in enumerate(asked):
        config, there = winner(study, partners=partners), tmp_path / str(number)
        again = pinned_trial(filed(there, planned.plan, config, study.pair.source), PromptLibrary(there / "library"))
        # Trained anew, tuning for longer is tuning with the steps that it had.
        expected = replace(config, method=BASELINE) if TRAITS[method].as_long_as else config
        assert replace(again, candidates=()) == replace(expected, candidates=())
        assert confirm_key(again) == confirm_key(expected)


def test_a_winner_that_had_itself_as_a_partner_is_the_same_trial_again(planned: Plans, tmp_path: Path) -> None:
    plan = planned(sources=["s1", "t"], self_pairs="include", methods=["spot"])
    (study,) = (study for study in studies(plan, "spot") if study.pair.source == "s1")
    config = winner(study, partners=1)
    assert [source.task.name for source in config.sources] == ["s1", "t"]
    assert pinned_trial(filed(tmp_path / "there", plan, config, "s1"), PromptLibrary(tmp_path / "there/l")) == config


@pytest.mark.parametrize("method", WITH_HEADS)
def test_a_winner_is_compared_with_itself_without_what_is_transferred(usual: Planned, method: str) -> None:
    config = winner(usual.studies[method][0])
    without = twin(config)
    if "lambda" in KNOBS[method]:
        assert without is not None
        assert (without.method, without.sources, without.teacher_plm) == (BASELINE, (), None)
        assert (without.learning_rate, without.steps, without.seeds) == (0.0123456789, 8, (10, 11))
    elif TRAITS[method].shares_head and method != "random_prompt":
        assert without is not None
        assert (without.method, without.sources) == ("random_prompt", config.sources)
        assert (without.projection, without.relative) == (None, None)
    else:
        assert without is None


@pytest.mark.parametrize("method", ["zero_shot", "tpt_model_zero_shot", "tpt_relative_zero_shot"])
def test_the_twin_of_a_prompt_with_its_head_is_the_random_prompts_own_study(usual: Planned, method: str) -> None:
    """So that it is trained once, and neither waits for the other."""
    whole, alone = usual.studies[method][0], usual.studies["random_prompt"][0]
    assert twin(whole.base) == alone.base


@pytest.mark.parametrize("method", WITH_HEADS)
def test_what_a_study_needs_beforehand_is_asked_for_with_its_own_seeds(unusual: Planned, method: str) -> None:
    plan, traits = unusual.plan, TRAITS[method]
    config = winner(unusual.studies[method][-1])
    jobs = jobs_of([config, config])
    assert {job.seeds for job in jobs} <= {(10, 11)}
    assert len(jobs) == len(set(jobs))
    own, teacher_plm, foreign = plan.setting.plm, plan.teacher_plm, plan.source_plm
    asked = {(job.lineage.setting.plm, job.lineage.task.name, job.lineage.trains) for job in jobs}
    sources = {source.task.name for source in config.sources}
    # A mixture of sources and target depends on how many partners take part: the trials make it.
    expected = {(own, name, "prompt") for name in sources if traits.sources == "pair" and method != "spot_mixture"}
    if traits.sources == "all":
        mixed = {"multitask_model_tuning": "model", "mpt": "product"}
        of_each = {(own, name, "prompt") for name in sources}
        expected |= {(own, "s1+s2", mixed[method])} if method in mixed else of_each
    if traits.another == "teacher_plm":
        expected |= {(teacher_plm, "t", "model")}
    if traits.moves:
        expected |= {(foreign, "t", "prompt")}
    if traits.moves == "projector":
        expected |= {
            *((plm, name, "prompt") for plm in (own, foreign) for name in ("s1", "s2")),
        }
    assert asked == expected


def test_a_mixture_is_a_source_with_its_tasks_and_the_cap_of_the_file(unusual: Planned) -> None:
    plan = unusual.plan
    assert plan.source("pool") == Mixture("pool", (plan.tasks["s1"], plan.tasks["s2"]), 40)
    (study,) = (study for study in unusual.studies["spot"] if study.pair.source == "pool")
    assert study.base.sources[0].task == plan.source("pool")
    assert plan.measured == [("s1", "t"), ("s2", "t"), ("pool", "t")]
    assert [source.name for source in plan.sources] == ["s1", "s2", "pool"]


def test_all_sources_of_multitask_tuning_and_of_the_authors_code_weigh_one(usual: Planned) -> None:
    for method in ("multitask_model_tuning", "panda_as_released"):
        assert {source.similarity for study in usual.studies[method] for source in study.base.sources} == {1.0}
    (spot, *_) = usual.studies["spot"]
    assert [(source.task.name, source.similarity) for source in spot.base.sources] == [
        ("s1", 0.8), ("pool", 0.6), ("s2", 0.4),
    ]  # fmt: skip


def test_the_authors_code_is_taught_by_a_source_whatever_its_similarity(usual: Planned) -> None:
    names = {study.pair.name for study in studies_of(usual.plan, s1=-0.5).values()}
    assert "t ← s1 · panda_as_released" in names
    assert not {"t ← s1 · panda", "t ← s1 · panda_distill"} & names


def test_a_larger_plm_is_tuned_as_long_as_students_are_and_at_the_rate_of_its_kind(planned: Plans, plms: Plms) -> None:
    def teacher_plm(**said: Any) -> tuple[str, int, float]:
        made = studies(planned(**every_method(plms, teacher_train=said)), "distill")[0].base.teacher_plm
        assert made is not None
        return made.trains, made.steps, made.learning_rate

    assert teacher_plm() == ("prompt", 8, 0.01)
    assert teacher_plm(trains="model") == ("model", 8, 5e-5)
    assert teacher_plm(trains="model", steps=3, learning_rate=1e-3) == ("model", 3, 1e-3)


def test_all_weights_are_tuned_on_the_sources_at_the_published_rate_whatever_the_target_is_tuned_at(
    planned: Plans, plms: Plms
) -> None:
    """One model of the sources serves all trials of a study, and the file of its winner."""
    fixed = {"multitask_model_tuning": {"learning_rate": 2e-4}}
    for space in ({}, fixed):
        (study,) = studies(planned(**every_method(plms, space=space)), "multitask_model_tuning")
        assert winner(study).source_learning_rate == 5e-5


def test_a_projector_is_trained_on_all_single_sources_but_the_target(planned: Plans, plms: Plms) -> None:
    def tasks(**changes: Any) -> dict[str, list[str]]:
        made = studies(planned(**every_method(plms, **changes)), "tpt_model")
        return {study.pair.target: [task.name for task in study.base.projection.tasks] for study in made}

    assert tasks() == {"t": ["s1", "s2"]}
    assert tasks(targets=["t", "s1"]) == {"t": ["s1", "s2"], "s1": ["s2"]}
    assert tasks(sources=["s1", "s2", "t"], mixtures={}, self_pairs="include") == {"t": ["s1", "s2"]}
    assert tasks(projector={"tasks": ["s2"]}) == {"t": ["s2"]}
    assert tasks(pairs={"t": ["s1"]}) == {"t": ["s1", "s2"]}

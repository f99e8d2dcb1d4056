"""Projected starts: which prompts a projector is made of and for, and that it is made once."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from panda_trainable.config.setting import Plm, Setting
from panda_trainable.config.trial import Projection, TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.transfer.lineage import Lineage, tuned_prompts
from panda_trainable.transfer.methods import open_trainer
from panda_trainable.transfer.projector import (
    FILE,
    FORMS,
    Projector,
    fitted,
    on_own_plm,
    on_source_plm,
    projected_prompts,
    projector_key,
)
from tests.kits.trainers import loss_curve, same

pytestmark = pytest.mark.own_library  # these tests look at what is made in it

Trial = Callable[..., TrialConfig]
CLOSE: Mapping[str, Any] = {"rtol": 0, "atol": 1e-5}


def files(library: PromptLibrary) -> dict[str, int]:
    """Every file of the library, and when it was written."""
    return {str(path): path.stat().st_mtime_ns for path in library.root.rglob("*") if path.is_file()}


@pytest.fixture(params=["prefix", "input"])
def projecting(
    trial: Trial, setting: Setting, wide_plm: Plm, request: pytest.FixtureRequest
) -> Callable[..., TrialConfig]:
    """A trial that starts from the wide PLM's prompts: projecting("token", "distance")."""

    def make(form: Any, objective: Any, method: str = "tpt_model", **changes: Any) -> TrialConfig:
        config = trial(method, setting=replace(setting, prompt=replace(setting.prompt, form=request.param)), **changes)
        how = Projection(wide_plm, config.projection.tasks, form=form, objective=objective, hidden=8, steps=5)
        return replace(config, projection=how)

    return make


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("objective", ["distance", "task"])
def test_a_student_starts_at_the_projection_of_the_targets_prompt_on_the_other_plm(
    library: PromptLibrary, projecting: Callable[..., TrialConfig], wide_plm: Plm, form: str, objective: str
) -> None:
    config = projecting(form, objective)
    trainer = open_trainer(library, config)
    there = Lineage(replace(config.setting, plm=wide_plm), config.target, 6, 0.02)
    for k, seed in enumerate(config.seeds):
        (own,) = tuned_prompts(library, there, (seed,))
        shape = tuple(trainer.student.prompt().shape[1:])
        parameters = load_file(library.get("projectors", projector_key(config, seed)) / FILE)
        made = Projector(form, tuple(own.prompt.shape), shape, 8)(
            {name: tensor[None] for name, tensor in parameters.items()}, own.prompt[None, None]
        )
        torch.testing.assert_close(trainer.student.prompt()[k], made[0, 0], **CLOSE)
    assert loss_curve(trainer, 8).isfinite().all()


def stacked(library: PromptLibrary, lineages: list[Lineage]) -> Tensor:
    """[2, M, …] what each lineage tuned."""
    return torch.stack([torch.stack([p.prompt for p in tuned_prompts(library, n, (0, 1))]) for n in lineages], 1)


def test_a_projector_is_fitted_to_the_prompts_of_its_tasks_on_both_plms(
    library: PromptLibrary, projecting: Callable[..., TrialConfig], wide_plm: Plm
) -> None:
    config = projecting("token", "distance")
    projected_prompts(library, config)
    lineages = [Lineage(config.setting, task, 6, 0.02) for task in config.projection.tasks]
    wanted = stacked(library, lineages)
    given = stacked(library, [replace(n, setting=replace(n.setting, plm=wide_plm)) for n in lineages])
    projector = Projector("token", tuple(given.shape[2:]), tuple(wanted.shape[2:]), 8)
    expected = fitted(projector, given, wanted, (0, 1), 5, config.projection.learning_rate)
    for k, seed in enumerate(config.seeds):
        kept = load_file(library.get("projectors", projector_key(config, seed)) / FILE)
        assert same(kept, {name: tensor[k] for name, tensor in expected.items()})


@pytest.mark.parametrize("objective", ["distance", "task"])
def test_a_projector_is_made_once_for_all_targets_and_students(
    library: PromptLibrary, projecting: Callable[..., TrialConfig], task: Callable[..., Any], objective: str
) -> None:
    config = projecting("token", objective)
    first, known = projected_prompts(library, config), files(library)
    assert len(list(library.root.glob("projectors/*"))) == 2  # one of each seed
    assert torch.equal(projected_prompts(library, config), first)
    projected_prompts(library, replace(config, steps=3, learning_rate=0.5))
    assert files(library) == known
    projected_prompts(library, replace(config, target=task("another", seed=21)))
    assert len(list(library.root.glob("projectors/*"))) == 2
    assert files(library).items() >= known.items()
    projected_prompts(library, replace(config, seeds=(0, 1, 2)))
    assert len(list(library.root.glob("projectors/*"))) == 3
    assert files(library).items() >= known.items()


def test_a_projector_never_sees_the_target(library: PromptLibrary, projecting: Callable[..., TrialConfig]) -> None:
    config = projecting("token", "task", "tpt_model_zero_shot")
    open_trainer(library, config)
    own = Lineage(config.setting, config.target, 6, 0.02)
    assert not library.has("prompts", own.key(0))
    assert library.has("prompts", on_source_plm(config, config.target, target=True).key(0))


@pytest.mark.parametrize(
    "change",
    [
        {"tasks": ()}, {"form": "flat"}, {"objective": "task"}, {"hidden": 9}, {"steps": 6}, {"learning_rate": 0.1},
        {"plm": Plm("another", "c0ffee")},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_all_that_decides_a_projector_is_in_its_key(projecting: Callable[..., TrialConfig], change: Any) -> None:
    config = projecting("token", "distance")
    assert projector_key(replace(config, projection=replace(config.projection, **change)), 0) != projector_key(
        config, 0
    )
    assert projector_key(config, 1) != projector_key(config, 0)
    assert projector_key(replace(config, source_steps=7), 0) != projector_key(config, 0)
    assert projector_key(replace(config, steps=7, learning_rate=0.5), 0) == projector_key(config, 0)


def test_shots_of_the_target_and_of_sources_are_those_of_their_prompts(
    library: PromptLibrary, trial: Trial, wide_plm: Plm
) -> None:
    config = trial("tpt_model")
    config = replace(config, setting=replace(config.setting, shots=4, source_shots=6))
    there = replace(config.setting, plm=wide_plm)
    target = on_source_plm(config, config.target, target=True)
    assert target.setting == replace(there, source_shots=0)
    source = on_source_plm(config, config.projection.tasks[0], target=False)
    assert source.setting == replace(there, shots=6, source_shots=0)
    assert on_own_plm(config, config.projection.tasks[0]).setting == replace(config.setting, shots=6, source_shots=0)
    assert open_trainer(library, config).student.prompt().shape[0] == 2

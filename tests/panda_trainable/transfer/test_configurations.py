"""What every trial keeps, whatever its method, task, prompt, PLM and loss: over configurations that cover their pairs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from panda_trainable.config.methods import TRAITS
from panda_trainable.config.setting import Plm
from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.training.model_student import ModelStudent
from panda_trainable.training.trainer import Trainer
from panda_trainable.transfer.methods import open_trainer
from tests.kits.configurations import CONFIGURATIONS, Configuration, expected_pairs
from tests.kits.trainers import loss_curve, said_of_selection, same, state_of_trained

STOP = 3
"""The step after which a run is interrupted."""


@dataclass
class Run:
    """A run from its first step to its last: what it was and came to."""

    configuration: Configuration
    config: TrialConfig
    library: PromptLibrary
    trainer: Trainer
    before: dict[str, Tensor]
    frozen: dict[str, Tensor]
    interrupted: Path
    curve: Tensor
    after: dict[str, Tensor]
    said: list[np.ndarray]
    scores: dict[str, list[float]]

    @property
    def trains(self) -> str:
        return TRAITS[self.configuration.method].trains


def bias_is_free(run: Run) -> bool:
    """Whether no softmax depends on the bias, which moves all choices, or all tokens of an end, alike.

    Adam makes whole steps of the rounding of its gradient, of a teacher's bias too, and what compares logits themselves
    sees them: how far they lead depends on the processor.
    """
    return run.configuration.kind in ("multiple_choice", "extractive_qa")


def steps_of(trainer: Trainer, first: int, last: int) -> Tensor:
    steps, replicas = max(0, min(last, trainer.recipe.steps) - first), len(trainer.student.seeds)
    return loss_curve(trainer, steps).reshape(steps, replicas)


@pytest.fixture(scope="module", params=CONFIGURATIONS, ids=lambda c: f"{c.method}-{c.kind}-{c.form}-{c.family}-{c.kd}")
def run(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    plms: Callable[[str], Path],
    wide_plm: Plm,
) -> Run:
    configuration: Configuration = request.param
    folder = tmp_path_factory.mktemp("run")
    config = replace(configuration.trial(folder / "data", plms, wide_plm), seeds=(0, 5))
    library = PromptLibrary(folder / "library")
    torch.manual_seed(1)
    np.random.seed(1)
    trainer = open_trainer(library, config)
    model = trainer.student.encoder.model
    before, frozen = state_of_trained(trainer), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first = steps_of(trainer, 0, STOP)
    save_file(trainer.state(), folder / "state")
    curve = torch.cat([first, steps_of(trainer, STOP, config.steps)])
    after, logits, scores = state_of_trained(trainer), said_of_selection(trainer), trainer.select()
    return Run(configuration, config, library, trainer, before, frozen, folder / "state", curve, after, logits, scores)


def test_the_configurations_cover_all_methods_and_all_pairs_of_settings_that_could_meet() -> None:
    assert expected_pairs() <= set().union(*(configuration.pairs() for configuration in CONFIGURATIONS))
    assert {configuration.method for configuration in CONFIGURATIONS} == set(TRAITS)


def test_an_interrupted_run_ends_as_the_uninterrupted_one_bit_for_bit(run: Run) -> None:
    again = open_trainer(run.library, run.config)
    again.advance(1)  # whatever it has done is forgotten
    again.restore(load_file(run.interrupted))
    assert torch.equal(steps_of(again, STOP, run.config.steps), run.curve[STOP:])
    assert same(state_of_trained(again), run.after)
    assert again.select() == run.scores


def test_seeds_together_are_the_seeds_alone_with_sources_of_their_own(run: Run, tmp_path: Path) -> None:
    torch.manual_seed(2)
    np.random.seed(2)
    for k, seed in enumerate(run.config.seeds):
        alone = open_trainer(PromptLibrary(tmp_path / str(seed)), replace(run.config, seeds=(seed,)))
        curve = steps_of(alone, 0, run.config.steps)
        sees_bias = bias_is_free(run) and run.configuration.kd == "mse"
        torch.testing.assert_close(curve[:, 0], run.curve[:, k], rtol=0, atol=5e-2 if sees_bias else 1e-5)
        if not bias_is_free(run):
            np.testing.assert_allclose(said_of_selection(alone)[0], run.said[k], rtol=0, atol=1e-4)
            for name, values in alone.select().items():
                assert values[0] == pytest.approx(run.scores[name][k], abs=1e-5)


def test_what_a_method_trains_moves_and_nothing_else(run: Run) -> None:
    moved = {name for name in run.before if not torch.equal(run.before[name], run.after[name])}
    if isinstance(run.trainer.student, ModelStudent):
        assert len(moved) > 0.8 * len(run.before)
    elif run.trains == "nothing":
        assert not moved
    else:
        may_stay = {"bias"} if bias_is_free(run) else set()
        trained = set(run.before) if run.trains == "prompt" else {"weight", "bias"}
        assert trained - may_stay <= moved <= trained
        assert not any(
            torch.equal(run.before[name][k], run.after[name][k]) for name in moved - may_stay for k in (0, 1)
        )


def test_the_plm_stays_its_file_bit_for_bit(run: Run) -> None:
    model = run.trainer.student.encoder.model
    assert same(run.frozen, model.state_dict())
    file = load_file(Path(run.config.setting.plm.source) / "model.safetensors")
    assert all(torch.equal(run.frozen[name], tensor) for name, tensor in file.items())
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())

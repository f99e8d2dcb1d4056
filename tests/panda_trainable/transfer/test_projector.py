"""Projectors: prompts of one PLM made into prompts of another, by hand, replica by replica, and once."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.prompt.soft_prompt import of_tokens, tokens_of
from panda_trainable.training.losses import cross_entropy
from panda_trainable.training.trainer import Trainer
from panda_trainable.transfer.lineage import Lineage, tuned_prompts
from panda_trainable.transfer.projector import FORMS, Projector, fitted, on_own_plm, on_source_plm, projector_trainer
from panda_trainable.worker import load_encoder
from tests.kits.trainers import loss_curve, prompt_trainer, same, trained

pytestmark = pytest.mark.own_library  # these tests look at what is made in it

Trial = Callable[..., TrialConfig]
CLOSE: Mapping[str, Any] = {"rtol": 0, "atol": 1e-5}
every_form = pytest.mark.parametrize("form", FORMS)
objectives = pytest.mark.parametrize("objective", ["distance", "task"])
PREFIXES = (3, 2, 3, 4, 8), (2, 2, 2, 4, 8)  # [L, 2, heads, P, d]: 144 and 64 values of each token
INPUTS = (4, 12), (4, 16)
SHAPES = pytest.mark.parametrize(
    ("source", "target"), [PREFIXES, INPUTS, INPUTS[::-1]], ids=["prefix", "input", "back"]
)


def drawn(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return torch.empty(shape).normal_(0, scale, generator=torch.Generator().manual_seed(seed))


def files(library: PromptLibrary) -> dict[str, int]:
    """Every file of the library, and when it was written."""
    return {str(path): path.stat().st_mtime_ns for path in library.root.rglob("*") if path.is_file()}


# what one computes


@pytest.mark.parametrize("shape", [*PREFIXES, *INPUTS], ids=str)
def test_tokens_of_a_prompt_and_the_prompt_of_tokens_undo_one_another(shape: tuple[int, ...]) -> None:
    prompts = drawn(2, 3, *shape)
    tokens = torch.stack([torch.stack([tokens_of(prompt) for prompt in of]) for of in prompts])
    assert tokens.shape == (2, 3, 4, prompts[0, 0].numel() // 4)
    assert torch.equal(of_tokens(tokens, shape), prompts)
    assert torch.equal(tokens_of(prompts[1, 2])[3], prompts[1, 2].select(-2, 3).flatten())  # all of the fourth token


@every_form
@SHAPES
def test_a_projected_prompt_has_the_shape_of_the_other_plms(
    form: str, source: tuple[int, ...], target: tuple[int, ...]
) -> None:
    projector = Projector(form, source, target, 7)
    parameters = projector.drawn((0, 1))
    wide, narrow = (int(np.prod(shape)) // 4 for shape in (source, target))
    layers = [(narrow, wide)] if form == "token" else [(7, 4 * wide), (4 * narrow, 7)]
    assert {name: tuple(t.shape) for name, t in parameters.items()} == {
        **{f"weight_{i}": (2, *shape) for i, shape in enumerate(layers)},
        **{f"bias_{i}": (2, shape[0]) for i, shape in enumerate(layers)},
    }
    assert projector(parameters, drawn(2, 5, *source)).shape == (2, 5, *target)


def test_the_token_form_maps_every_token_alike_by_hand() -> None:
    projector = Projector("token", (2, 3), (2, 2), 0)
    weight = torch.tensor([[[1.0, 0.0, 2.0], [0.0, -1.0, 0.0]]])
    prompt = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])
    made = projector({"weight_0": weight, "bias_0": torch.tensor([[10.0, 20.0]])}, prompt)
    assert made.tolist() == [[[[17.0, 18.0], [26.0, 15.0]]]]


def test_the_flat_form_is_two_layers_over_the_whole_prompt_by_hand() -> None:
    projector = Projector("flat", (2, 2), (2, 1), 2)
    parameters = {
        "weight_0": torch.tensor([[[1.0, 1.0, 1.0, 1.0], [-1.0, 0.0, 0.0, 0.0]]]),
        "bias_0": torch.tensor([[0.0, -1.0]]),
        "weight_1": torch.tensor([[[1.0, 0.0], [0.0, 100.0]]]),
        "bias_1": torch.tensor([[0.5, 0.0]]),
    }
    made = projector(parameters, torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
    assert made.flatten().tolist() == [10.5, pytest.approx(-2.0)]  # a slope of 0.01 below zero


@every_form
def test_a_prefix_is_projected_as_its_tokens_are(form: str) -> None:
    source, target = PREFIXES
    projector = Projector(form, source, target, 7)
    parameters, prompts = projector.drawn((3, 4)), drawn(2, 2, *source)
    made = projector(parameters, prompts)
    for k in (0, 1):
        own = {name: tensor[k] for name, tensor in parameters.items()}
        for m in (0, 1):
            tokens = tokens_of(prompts[k, m])
            if form == "token":
                expected = tokens @ own["weight_0"].T + own["bias_0"]
            else:
                inner = leaky_relu(tokens.flatten() @ own["weight_0"].T + own["bias_0"])
                expected = (inner @ own["weight_1"].T + own["bias_1"]).view(4, -1)
            torch.testing.assert_close(tokens_of(made[k, m]), expected, **CLOSE)


def test_the_seed_alone_decides_what_is_drawn() -> None:
    projector = Projector("flat", *INPUTS, 7)
    torch.manual_seed(1)
    both = projector.drawn((0, 5))
    torch.manual_seed(2)
    assert same({name: tensor[1:] for name, tensor in both.items()}, projector.drawn((5,)))
    assert not any(torch.equal(*tensor) for tensor in both.values())


def test_prompts_of_different_lengths_are_not_projected() -> None:
    with pytest.raises(ValueError, match="prompts of one length are projected, got 4 and 3 tokens"):
        Projector("token", (4, 12), (3, 16), 0)


# the distance objective


@every_form
@SHAPES
def test_fitting_comes_near_a_map_that_exists(form: str, source: tuple[int, ...], target: tuple[int, ...]) -> None:
    projector, truth = (Projector(form, source, target, 32) for _ in range(2))
    given = drawn(2, 2, *source, scale=0.3)
    wanted = truth(truth.drawn((8, 9)), given)
    before = distance(projector, projector.drawn((0, 1)), given, wanted)
    after = distance(projector, fitted(projector, given, wanted, (0, 1), 800, 0.005), given, wanted)
    assert (after < 0.05 * before).all()


def distance(projector: Projector, parameters: Mapping[str, Tensor], given: Tensor, wanted: Tensor) -> Tensor:
    """[K] mean distance over the tasks."""
    return (projector(parameters, given) - wanted).flatten(2).norm(dim=2).mean(1)


def test_the_first_step_of_fitting_follows_the_mean_distance_by_hand() -> None:
    projector = Projector("token", (1, 1), (1, 1), 0)
    given, wanted = torch.tensor([[[[2.0]], [[4.0]]]]), torch.tensor([[[[100.0]], [[-100.0]]]])
    start = projector.drawn((0,))
    made = fitted(projector, given, wanted, (0,), 1, 0.25)
    # The mean distance falls with the slope 2·w at the first task and rises with 4·w at the second: by w, +1; by b, 0.
    assert float(made["weight_0"] - start["weight_0"]) == pytest.approx(-0.25)
    assert torch.equal(made["bias_0"], start["bias_0"])


@every_form
def test_replicas_are_fitted_together_as_alone(form: str) -> None:
    projector = Projector(form, *PREFIXES, 7)
    given, wanted = drawn(3, 2, *PREFIXES[0]), drawn(3, 2, *PREFIXES[1], seed=1)
    together = fitted(projector, given, wanted, (0, 4, 9), 30, 0.005)
    for k, seed in enumerate((0, 4, 9)):
        alone = fitted(projector, given[k, None], wanted[k, None], (seed,), 30, 0.005)
        for name, tensor in alone.items():
            torch.testing.assert_close(together[name][k, None], tensor, **CLOSE)


def test_fitting_changes_no_prompt() -> None:
    projector = Projector("token", *INPUTS, 0)
    given, wanted = drawn(1, 2, *INPUTS[0]), drawn(1, 2, *INPUTS[1])
    copies = given.clone(), wanted.clone()
    fitted(projector, given, wanted, (0,), 5, 0.1)
    assert torch.equal(given, copies[0]) and torch.equal(wanted, copies[1])
    assert not given.requires_grad and given.grad is None


# the task objective


@pytest.fixture
def task_tuned(library: PromptLibrary, trial: Trial) -> Callable[..., Trainer]:
    """A trainer that trains a projector by the losses of two tasks: task_tuned("token", seeds=(0, 1), steps=10)."""

    def make(
        form: str, seeds: tuple[int, ...] = (0, 1), steps: int = 10, rate: float = 0.005, **changes: Any
    ) -> Trainer:
        config = trial("tpt_model", seeds=seeds, **changes)
        tasks = config.projection.tasks
        given = stacked(library, [on_source_plm(config, each, target=False) for each in tasks], seeds, "prompt")
        own = [on_own_plm(config, each) for each in tasks]
        shape = load_encoder(config.setting.plm).prompt_shape(3, config.setting.prompt.form)
        projector = Projector(form, tuple(given.shape[2:]), shape, 8)
        heads = tuple(stacked(library, own, seeds, part).flatten(1, 2) for part in ("weight", "bias"))
        how = replace(config.projection, steps=steps, learning_rate=rate)
        return projector_trainer(library, replace(config, projection=how), projector, given, heads, seeds)

    return make


def stacked(library: PromptLibrary, lineages: list[Lineage], seeds: tuple[int, ...], part: str) -> Tensor:
    """[K, M, …] a part of what each lineage tuned."""
    made = [[getattr(prompt, part) for prompt in tuned_prompts(library, lineage, seeds)] for lineage in lineages]
    return torch.stack([torch.stack(of) for of in made], 1)


@every_form
def test_tuning_by_tasks_moves_the_projector_alone(
    library: PromptLibrary, task_tuned: Callable[..., Trainer], form: str
) -> None:
    trainer = task_tuned(form)
    before, given, heads = (
        trained(trainer),
        trainer.student.source.given.clone(),
        {n: t.clone() for n, t in trainer.student.heads.items()},
    )
    frozen, known = {n: t.clone() for n, t in trainer.student.encoder.model.state_dict().items()}, files(library)
    trainer.advance(10)
    assert before.keys() == set(trainer.student.source.projector.drawn((0,)))
    assert not any(torch.equal(now[k], before[name][k]) for name, now in trained(trainer).items() for k in (0, 1))
    assert torch.equal(trainer.student.source.given, given) and trainer.student.source.given.grad is None
    assert same(trainer.student.heads, heads) and all(tensor.grad is None for tensor in trainer.student.heads.values())
    assert same(frozen, trainer.student.encoder.model.state_dict())
    assert files(library).items() >= known.items()


@every_form
def test_tuning_by_tasks_lowers_their_losses(task_tuned: Callable[..., Trainer], form: str) -> None:
    trainer = task_tuned(form, steps=120, rate=0.02, source_steps=80, source_learning_rate=0.1)
    before = of_all_rows(trainer)
    trainer.advance(120)
    after = of_all_rows(trainer)
    assert (after < before).all()
    assert after.mean() < 0.85 * before.mean()


def of_all_rows(trainer: Trainer) -> Tensor:
    """[K] the loss of all rows that are trained on, mean over the tasks."""
    losses = []
    for number, part in enumerate(trainer.data.parts):
        rows = [of.train for of in part.rows]
        labels = torch.stack([part.table.labels[of] for of in rows])
        losses.append(
            cross_entropy(torch.from_numpy(np.stack(trainer.student.logits(part.table, rows, number))), labels)
        )
    return torch.stack(losses).mean(0)


def test_each_task_is_asked_behind_its_own_projected_prompt_with_its_own_head_by_hand(
    library: PromptLibrary, task_tuned: Callable[..., Trainer]
) -> None:
    trainer = task_tuned("token", steps=3)
    for step in range(3):
        prompts, expected = (
            trainer.student.source.projector(trained(trainer), trainer.student.source.given),
            torch.zeros(2),
        )
        for number, part in enumerate(trainer.data.parts):
            rows = part.order[:, part.at(step)]
            heads = tuple(
                trainer.student.heads[name][:, trainer.student.readouts[number].outputs] for name in ("weight", "bias")
            )
            plain = prompt_trainer(
                library, trainer.data.setting, part.task, (0, 1), prompts[:, number].contiguous(), steps=1,
                learning_rate=0.1, heads=heads,
            )  # fmt: skip
            said = torch.from_numpy(np.stack(plain.student.logits(part.table, list(rows.numpy()))))
            mine = trainer.student.logits(part.table, list(rows.numpy()), number)
            np.testing.assert_allclose(np.stack(mine), said.numpy(), rtol=0, atol=1e-5)
            labels = part.table.labels[rows]
            expected += torch.stack(
                [torch.nn.functional.cross_entropy(said[k], labels[k], reduction="sum") for k in (0, 1)]
            )
        torch.testing.assert_close(loss_curve(trainer, 1)[0].float(), expected / 4, **CLOSE)


def test_replicas_are_tuned_by_tasks_together_as_alone(task_tuned: Callable[..., Trainer]) -> None:
    together = loss_curve(task_tuned("flat", (0, 6)), 10)
    alone = torch.cat([loss_curve(task_tuned("flat", (seed,)), 10) for seed in (0, 6)], 1)
    torch.testing.assert_close(together, alone, **CLOSE)

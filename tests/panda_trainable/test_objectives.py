"""Losses: values worked by hand, batch splits, and shapes that broadcasting would hide."""

from math import log

import pytest
import torch

from panda_trainable.config import KD_KINDS
from panda_trainable.objectives import (
    KD_LOSSES,
    TASK_LOSSES,
    cross_entropy,
    distillation_kl,
    distillation_mse,
    squared_error,
    total,
)
from panda_trainable.tasks import KINDS


def test_every_kind_of_task_and_of_distillation_has_its_loss() -> None:
    assert set(TASK_LOSSES) == set(KINDS)
    assert set(KD_LOSSES) == set(KD_KINDS)


def test_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[[0.0, 0.0], [log(3), 0.0]], [[0.0, log(7)], [0.0, log(7)]]])
    labels = torch.tensor([[0, 0], [1, 0]])
    expected = [(log(2) + log(4 / 3)) / 2, (log(8 / 7) + log(8)) / 2]
    torch.testing.assert_close(cross_entropy(logits, labels), torch.tensor(expected))


def test_squared_error_by_hand() -> None:
    logits, labels = torch.tensor([[[1.0], [3.0]], [[0.0], [0.5]]]), torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    assert squared_error(logits, labels).tolist() == [2.5, 0.125]


def test_distillation_mse_by_hand() -> None:
    student = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]]])
    assert distillation_mse(student, torch.ones(2, 2, 2)).tolist() == [(0 + 1 + 4 + 9) / 4, 0.0]


def test_distillation_kl_by_hand_at_temperature_two() -> None:
    teacher, student = torch.tensor([[[2 * log(3), 0.0]]]), torch.zeros(1, 1, 2)  # softened: 3/4 and 1/4; 1/2 and 1/2
    expected = 2**2 * (3 / 4 * log(3 / 2) + 1 / 4 * log(1 / 2))
    torch.testing.assert_close(distillation_kl(student, teacher), torch.tensor([expected]))


def test_total_adds_each_teacher_by_its_weight() -> None:
    task, first, second = torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0]), torch.tensor([100.0, 0.0])
    assert total(task, [(0.5, first), (0.01, second)]).tolist() == [7.0, 12.0]
    assert total(task, []).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("loss", KD_LOSSES.values(), ids=KD_LOSSES)
def test_a_student_like_its_teacher_loses_nothing_and_another_loses(loss: object) -> None:
    logits = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
    assert loss(logits, logits).abs().max() < 1e-6
    assert (loss(logits, logits.flip(1)) > 0).all()


@pytest.mark.parametrize("loss", KD_LOSSES.values(), ids=KD_LOSSES)
@pytest.mark.parametrize("shape", [(2, 1, 3), (1, 4, 3), (2, 4, 1), (2, 3, 4)])
def test_logits_of_another_shape_are_refused_with_both_shapes(loss: object, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"one shape, got \[2, 4, 3\] and \[{', '.join(map(str, shape))}\]"):
        loss(torch.zeros(2, 4, 3), torch.zeros(shape))


@pytest.mark.parametrize("name", [*TASK_LOSSES, *KD_LOSSES])
def test_a_batch_split_in_two_halves_has_the_mean_of_their_losses(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    classes = 1 if name == "regression" else 3
    logits = torch.randn(2, 8, classes, generator=generator)
    other = {
        "classification": torch.randint(3, (2, 8), generator=generator),
        "regression": torch.randn(2, 8, generator=generator),
    }.get(name, torch.randn(2, 8, classes, generator=generator))
    loss = {**TASK_LOSSES, **KD_LOSSES}[name]
    halves = [loss(a, b) for a, b in zip(logits.split(4, 1), other.split(4, 1), strict=True)]
    torch.testing.assert_close(loss(logits, other), torch.stack(halves).mean(0))


@pytest.mark.parametrize("name", [*TASK_LOSSES, *KD_LOSSES])
def test_a_replica_that_is_not_finite_leaves_the_loss_of_the_other(name: str) -> None:
    logits = torch.zeros(2, 3, 1 if name == "regression" else 2)
    logits[1] = torch.nan
    other = torch.zeros(2, 3, dtype=torch.long) if name in TASK_LOSSES else torch.zeros_like(logits)
    assert {**TASK_LOSSES, **KD_LOSSES}[name](logits, other).isfinite().tolist() == [True, False]

"""Losses: values worked by hand, batch splits, padding that counts for nothing, shapes that broadcasting would hide."""

from collections.abc import Callable
from math import log

import pytest
import torch
from torch import Tensor

from panda_trainable.config import KD_KINDS
from panda_trainable.metrics import MASKED
from panda_trainable.objectives import (
    IGNORED,
    KD_LOSSES,
    TASK_LOSSES,
    cross_entropy,
    distillation_kl,
    distillation_mse,
    kd_asked,
    shares,
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


def test_the_cross_entropy_of_tags_by_hand() -> None:
    # two replicas of one sentence of three words; of the second replica's only the first word is asked
    logits = torch.zeros(2, 1, 3, 2)
    logits[0, 0] = torch.tensor([[log(3), 0.0], [0.0, log(7)], [9.0, -9.0]])
    logits[1, 0, 0] = torch.tensor([0.0, log(4)])
    labels = torch.tensor([[[0, 0, IGNORED]], [[1, IGNORED, IGNORED]]])
    expected = [(log(4 / 3) + log(8)) / 2, log(5 / 4)]
    torch.testing.assert_close(cross_entropy(logits, labels), torch.tensor(expected))


def test_the_mean_over_tags_is_over_words_and_not_over_sentences() -> None:
    logits = torch.zeros(1, 2, 3, 2)
    logits[0, 0, 0] = torch.tensor([0.0, log(3)])
    labels = torch.tensor([[[1, IGNORED, IGNORED], [0, 0, 1]]])  # log(4/3) once, and log(2) three times
    torch.testing.assert_close(cross_entropy(logits, labels), torch.tensor([(log(4 / 3) + 3 * log(2)) / 4]))


def test_the_cross_entropy_of_an_answer_by_hand() -> None:
    # the passage has two tokens of four: start log(2 / 1) (both alike), end log(4 / 3)
    logits = torch.full((1, 1, 2, 4), MASKED)
    logits[0, 0, :, 1:3] = torch.tensor([[5.0, 5.0], [0.0, log(3)]])
    assert cross_entropy(logits, torch.tensor([[[1, 2]]])).tolist() == pytest.approx([(log(2) + log(4 / 3)) / 2])
    behind_the_cut = torch.cat((logits, logits), 1)
    labels = torch.tensor([[[1, 2], [IGNORED, IGNORED]]])
    assert cross_entropy(behind_the_cut, labels).tolist() == pytest.approx([(log(2) + log(4 / 3)) / 2])


def test_where_nothing_is_asked_nothing_is_lost() -> None:
    logits = torch.randn(2, 1, 3, 2, requires_grad=True)
    labels = torch.tensor([[[0, 1, 1]], [[IGNORED] * 3]])
    loss = cross_entropy(logits, labels)
    loss.sum().backward()
    assert loss[1] == 0
    assert not logits.grad[1].any()
    assert logits.grad[0].any()


ASKED = torch.tensor([[[True, True, False], [True, False, False]]])  # [1, 2, 3]: words of two sentences


@pytest.mark.parametrize("name", ["cross_entropy", *KD_LOSSES])
def test_padded_words_change_no_loss_and_get_no_gradient(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, teacher = (torch.randn(1, 2, 3, 4, generator=generator) for _ in range(2))
    labels = torch.randint(4, (1, 2, 3), generator=generator).masked_fill(~ASKED, IGNORED)

    def loss(said: Tensor, known: Tensor) -> Tensor:
        return cross_entropy(said, labels) if name == "cross_entropy" else KD_LOSSES[name](said, known, ASKED)

    noise = 50 * torch.randn(1, 2, 3, 4, generator=generator) * ~ASKED[..., None]
    leaf = logits.clone().requires_grad_()
    loss(leaf, teacher).sum().backward()
    assert torch.equal(loss(logits + noise, teacher - noise), loss(logits, teacher))
    assert not leaf.grad[~ASKED].any()
    assert leaf.grad[ASKED].any(-1).all()


@pytest.mark.parametrize("name", ["cross_entropy", *KD_LOSSES])
def test_tokens_beside_the_passage_change_no_loss_and_get_no_gradient(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    passage = torch.tensor([[False, True, True, True, False], [False, False, True, True, False]])[None, :, None]
    raw, teacher = (torch.randn(1, 2, 2, 5, generator=generator) for _ in range(2))
    labels = torch.tensor([[[1, 3], [2, 2]]])
    asked = torch.ones_like(labels, dtype=torch.bool)
    known = teacher.masked_fill(~passage, MASKED)

    def loss(said: Tensor) -> Tensor:  # as the head gives them
        masked = said.masked_fill(~passage, MASKED)
        return cross_entropy(masked, labels) if name == "cross_entropy" else KD_LOSSES[name](masked, known, asked)

    leaf = raw.clone().requires_grad_()
    loss(leaf).sum().backward()
    noise = 50 * torch.randn(raw.shape, generator=generator) * ~passage
    assert torch.equal(loss(raw + noise), loss(raw))
    everywhere = passage.expand_as(raw)
    assert not leaf.grad[~everywhere].any()
    assert leaf.grad[everywhere].all()


def test_distillation_of_tags_by_hand() -> None:
    student, teacher = torch.zeros(1, 2, 3, 2), torch.zeros(1, 2, 3, 2)
    student[0, 0, 0] = torch.tensor([1.0, 3.0])  # squares 1 and 9
    student[0, 1, 0] = torch.tensor([0.0, 2.0])  # 4
    student[0, 1, 2] = 100.0  # padding
    assert distillation_mse(student, teacher, ASKED).tolist() == pytest.approx([(1 + 9 + 4) / (3 * 2)])
    student, teacher = torch.zeros(1, 2, 3, 2), torch.zeros(1, 2, 3, 2)
    teacher[0, 0, 1] = torch.tensor([2 * log(3), 0.0])  # softened: 3/4 and 1/4 against 1/2 and 1/2
    teacher[0, 1, 2] = torch.tensor([90.0, 0.0])  # padding
    expected = 2**2 * (3 / 4 * log(3 / 2) + 1 / 4 * log(1 / 2)) / 3
    assert distillation_kl(student, teacher, ASKED).tolist() == pytest.approx([expected])


def test_distillation_of_an_answer_by_hand() -> None:
    student, teacher = torch.full((1, 1, 2, 4), MASKED), torch.full((1, 1, 2, 4), MASKED)
    student[..., 1:3], teacher[..., 1:3] = 0.0, torch.tensor([[2 * log(3), 0.0], [0.0, 0.0]])
    asked = torch.ones(1, 1, 2, dtype=torch.bool)
    mse = (2 * log(3)) ** 2 / 4  # two tokens of the passage, start and end
    assert distillation_mse(student, teacher, asked).tolist() == pytest.approx([mse])
    kl = 2**2 * (3 / 4 * log(3 / 2) + 1 / 4 * log(1 / 2)) / 2  # start and end
    assert distillation_kl(student, teacher, asked).tolist() == pytest.approx([kl])


@pytest.mark.parametrize("loss", KD_LOSSES.values(), ids=KD_LOSSES)
@pytest.mark.parametrize("shape", [(2, 4, 3), (2, 4, 5, 3)])
def test_a_distillation_that_asks_everywhere_is_the_plain_mean(
    loss: Callable[..., Tensor], shape: tuple[int, ...]
) -> None:
    generator = torch.Generator().manual_seed(3)
    student, teacher = (torch.randn(shape, generator=generator) for _ in range(2))
    everywhere = torch.ones(shape[:-1], dtype=torch.bool)
    pairs = zip(student.flatten(1, -2).split(1, 1), teacher.flatten(1, -2).split(1, 1), strict=True)
    torch.testing.assert_close(loss(student, teacher), torch.stack([loss(*pair) for pair in pairs]).mean(0))
    torch.testing.assert_close(loss(student, teacher, everywhere), loss(student, teacher))


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
    shape = {"regression": (2, 8, 1), "tagging": (2, 8, 5, 3), "extractive_qa": (2, 8, 2, 3)}.get(name, (2, 8, 3))
    logits = torch.randn(shape, generator=generator)
    other = torch.randint(3, shape[:-1], generator=generator)
    if name == "regression" or name in KD_LOSSES:
        other = torch.randn(shape if name in KD_LOSSES else shape[:-1], generator=generator)
    loss = {**TASK_LOSSES, **KD_LOSSES}[name]
    halves = [loss(a, b) for a, b in zip(logits.split(4, 1), other.split(4, 1), strict=True)]
    torch.testing.assert_close(loss(logits, other), torch.stack(halves).mean(0))


@pytest.mark.parametrize("name", [*TASK_LOSSES, *KD_LOSSES])
def test_a_replica_that_is_not_finite_leaves_the_loss_of_the_other(name: str) -> None:
    logits = torch.zeros(2, 3, 1 if name == "regression" else 2)
    logits[1] = torch.nan
    other = torch.zeros(2, 3, dtype=torch.long) if name in TASK_LOSSES else torch.zeros_like(logits)
    assert {**TASK_LOSSES, **KD_LOSSES}[name](logits, other).isfinite().tolist() == [True, False]


def test_the_share_of_an_example_is_how_often_it_is_asked() -> None:
    asked = torch.tensor([[[True, True, False], [True, False, False]], [[False] * 3, [False] * 3]])
    assert shares(asked).tolist() == [[pytest.approx(2 / 3), pytest.approx(1 / 3)], [0.0, 0.0]]
    assert shares(torch.tensor([[True, True], [True, False]])).tolist() == [[0.5, 0.5], [1.0, 0.0]]


@pytest.mark.parametrize("kd", KD_LOSSES)
def test_examples_by_their_shares_are_the_mean_of_the_batch(kd: str) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 2, 3, 4, 5, generator=generator)
    teacher[0, 0, 1, 2] = MASKED
    asked = torch.rand(2, 3, 4, generator=generator) > 0.3
    parts = shares(kd_asked(kd, teacher, asked))
    alone = KD_LOSSES[kd](student.flatten(0, 1)[:, None], teacher.flatten(0, 1)[:, None], asked.flatten(0, 1)[:, None])
    torch.testing.assert_close((parts.flatten() * alone).view(2, 3).sum(1), KD_LOSSES[kd](student, teacher, asked))
    labels = torch.where(asked, torch.randint(5, (2, 3, 4), generator=generator), IGNORED)
    alone = cross_entropy(student.flatten(0, 1)[:, None], labels.flatten(0, 1)[:, None])
    torch.testing.assert_close((shares(asked).flatten() * alone).view(2, 3).sum(1), cross_entropy(student, labels))

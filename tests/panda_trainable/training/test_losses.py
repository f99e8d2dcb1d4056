"""Losses: values worked by hand, batch splits, padding that counts for nothing, shapes that broadcasting would hide."""

from collections.abc import Callable
from itertools import pairwise
from math import inf, log, nan, sqrt

import pytest
import torch
from torch import Tensor

from panda_trainable.config.kinds import KINDS
from panda_trainable.config.methods import INSTANCE_RELATIONS, KD_KINDS, LAMBDA_SCHEDULES
from panda_trainable.data.gold import IGNORED, MASKED
from panda_trainable.training.distillation import (
    KD_LOSSES,
    RAMPS,
    Distillation,
    averaged_over,
    distillation_kl,
    distillation_mse,
)
from panda_trainable.training.losses import TASK_LOSSES, cross_entropy, shares, squared_error, total

every_row = pytest.mark.parametrize("kd", KD_LOSSES)
JOINT = [kd for kd, row in KD_LOSSES.items() if row.joint]
SEPARABLE = [kd for kd, row in KD_LOSSES.items() if not row.joint]
WORDWISE = [kd for kd, row in KD_LOSSES.items() if "tagging" in KD_KINDS[kd]]
OUTPUTS = [
    (kd, outputs)
    for kd, row in KD_LOSSES.items()
    for outputs in (1, 2, 3)
    if outputs > 1 or "regression" in KD_KINDS[kd]
]
SOFTENED = ("kl", "inter_class", "inter_instance")
CORRELATED = ("inter_class", "inter_instance", "gram")


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Student and teacher."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, *shape, generator=generator, dtype=dtype)
    return student, teacher


def gradient(loss: Callable[[Tensor], Tensor], student: Tensor) -> Tensor:
    leaf = student.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf).sum(), leaf)[0]


def test_every_kind_of_task_and_of_distillation_has_its_loss() -> None:
    assert set(TASK_LOSSES) == set(KINDS)
    assert set(KD_LOSSES) == set(KD_KINDS)
    assert set(JOINT) == set(INSTANCE_RELATIONS)
    assert set(RAMPS) == set(LAMBDA_SCHEDULES)


@every_row
def test_a_row_says_what_it_is(kd: str) -> None:
    row = KD_LOSSES[kd]
    assert isinstance(row, Distillation)
    assert row.reads == ("hidden" if kd == "hidden" else "logits")
    assert row.temperature > 0
    assert row.origin


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
    torch.testing.assert_close(KD_LOSSES["kl"](student, teacher), torch.tensor([expected]))
    at_four = KD_LOSSES["kl"](student, 2 * teacher, temperature=4.0)  # softened to the same
    torch.testing.assert_close(at_four, torch.tensor([4 * expected]))


def test_distillation_of_pooled_vectors_by_hand() -> None:
    student = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    assert KD_LOSSES["hidden"](student, torch.ones(1, 2, 2)).tolist() == [(0 + 1 + 4 + 9) / 4]
    choices = student[:, :, None]  # [1, 2, 1, 2]: of one choice each
    assert KD_LOSSES["hidden"](choices, torch.ones(1, 2, 1, 2)).tolist() == [(0 + 1 + 4 + 9) / 4]


def test_inter_class_by_hand() -> None:
    # centred, up to scale: (2, -1, -1) against (-1, 2, -1), ρ = -3 / 6; (2, -1, -1) against (1, 0, -1), ρ = 3 / √12
    student = torch.tensor([[[1 / 2, 1 / 4, 1 / 4], [1 / 2, 1 / 4, 1 / 4]]]).log()
    teacher = torch.tensor([[[1 / 4, 1 / 2, 1 / 4], [1 / 2, 1 / 3, 1 / 6]]]).log()
    expected = (3 / 2 + 1 - sqrt(3) / 2) / 2
    assert KD_LOSSES["inter_class"](student, teacher).tolist() == pytest.approx([expected])
    at_two = KD_LOSSES["inter_class"](2 * student, 2 * teacher, temperature=2.0)  # softened to the same
    assert at_two.tolist() == pytest.approx([4 * expected])


def test_inter_instance_by_hand() -> None:
    # first class, centred, up to scale: (3, -1, -2) against (-1, 0, 1), ρ = -5 / √28; the second class: both negated
    first = torch.tensor([[0.6, 0.2, 0.1], [0.2, 0.4, 0.6]])
    student, teacher = torch.stack([first, 1 - first], -1).log()[:, None]
    assert KD_LOSSES["inter_instance"](student, teacher).tolist() == pytest.approx([1 + 5 / sqrt(28)])
    at_two = KD_LOSSES["inter_instance"](2 * student, 2 * teacher, temperature=2.0)
    assert at_two.tolist() == pytest.approx([4 * (1 + 5 / sqrt(28))])
    # three classes of two examples: both fall, 0; the teacher's is constant, 1; the student's is constant, 1
    student = torch.tensor([[[1 / 2, 1 / 4, 1 / 4], [1 / 4, 1 / 2, 1 / 4]]]).log()
    teacher = torch.tensor([[[1 / 2, 1 / 4, 1 / 4], [1 / 4, 1 / 4, 1 / 2]]]).log()
    assert KD_LOSSES["inter_instance"](student, teacher).tolist() == pytest.approx([2 / 3])


def test_inter_instance_of_a_regression_correlates_the_predictions_by_hand() -> None:
    student, teacher = torch.tensor([[[1.0], [2.0], [3.0]]]), torch.tensor([[[5.0], [2.0], [2.0]]])
    for temperature in (None, 4.0):  # centred: (-1, 0, 1) and (2, -1, -1), ρ = -3 / √12
        loss = KD_LOSSES["inter_instance"](student, teacher, temperature=temperature)
        assert loss.tolist() == pytest.approx([1 + sqrt(3) / 2])


def test_gram_by_hand() -> None:
    east, north = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    student = torch.stack([2 * east, north, -east, 3 * east])[None]
    teacher = torch.stack([east, 5 * east, north, north / 2])[None]
    # cosines to the others, student against teacher, and what the row loses:
    # 1: (0, -1, 1) and (1, 0, 0): ρ = 0; 2: (0, 0, 0), constant; 3: (-1, 0, -1) and (0, 0, 1), centred and up to scale
    # (-1, 2, -1) and (-1, -1, 2): ρ = -3 / 6; 4: (1, 0, -1) and (0, 0, 1): ρ = -3 / √12
    expected = (1 + 1 + 3 / 2 + 1 + sqrt(3) / 2) / 4
    assert KD_LOSSES["gram"](student, teacher).tolist() == pytest.approx([expected])


def test_distance_by_hand() -> None:
    # 5, 0, 5 over their mean 10 / 3: 3/2, 0, 3/2; 1, 3, 2 over 2: 1/2, 3/2, 1; apart by 1, 3/2, 1/2
    student = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]]])
    teacher = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]]])
    expected = (1 / 2 + (3 / 2 - 1 / 2) + 1 / 8) / 3
    assert KD_LOSSES["distance"](student, teacher).tolist() == pytest.approx([expected])


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


@pytest.mark.parametrize("name", ["cross_entropy", *WORDWISE])
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


@pytest.mark.parametrize("name", ["cross_entropy", *WORDWISE])
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


@pytest.mark.parametrize("kd", WORDWISE)
@pytest.mark.parametrize("shape", [(2, 4, 3), (2, 4, 5, 3)])
def test_a_distillation_that_asks_everywhere_is_the_plain_mean(kd: str, shape: tuple[int, ...]) -> None:
    loss = KD_LOSSES[kd]
    student, teacher = drawn(*shape, seed=3)
    everywhere = torch.ones(shape[:-1], dtype=torch.bool)
    pairs = zip(student.flatten(1, -2).split(1, 1), teacher.flatten(1, -2).split(1, 1), strict=True)
    torch.testing.assert_close(loss(student, teacher), torch.stack([loss(*pair) for pair in pairs]).mean(0))
    torch.testing.assert_close(loss(student, teacher, everywhere), loss(student, teacher))


def test_total_adds_each_teacher_by_its_weight() -> None:
    task, first, second = torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0]), torch.tensor([100.0, 0.0])
    assert total(task, [(0.5, first), (0.01, second)]).tolist() == [7.0, 12.0]
    assert total(task, []).tolist() == [1.0, 2.0]


APART = torch.tensor([[2.0, -1.0, 0.5], [-1.5, 1.0, 3.0], [0.5, 2.0, -2.0], [-1.0, -2.0, 1.0]])
"""[B, C] no two classes of an example are almost even: there the eps of a correlation would count."""


@pytest.mark.parametrize(("kd", "outputs"), OUTPUTS)
def test_a_student_like_its_teacher_loses_nothing(kd: str, outputs: int) -> None:
    logits = torch.stack([APART, -APART, APART / 2])[..., :outputs]
    assert KD_LOSSES[kd](logits, logits).abs().max() < 1e-6


@every_row
def test_a_student_unlike_its_teacher_loses(kd: str) -> None:
    logits = drawn(3, 6, 3)[0]
    assert (KD_LOSSES[kd](logits, logits.flip(1)) > 0.01).all()


@every_row
@pytest.mark.parametrize("shape", [(2, 1, 3), (1, 4, 3), (2, 4, 1), (2, 3, 4)])
def test_logits_of_another_shape_are_refused_with_both_shapes(kd: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"one shape, got \[2, 4, 3\] and \[{', '.join(map(str, shape))}\]"):
        KD_LOSSES[kd](torch.zeros(2, 4, 3), torch.zeros(shape))


@every_row
@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_not_positive_is_refused(kd: str, temperature: float) -> None:
    with pytest.raises(ValueError, match=f"temperature must be positive, got {temperature}"):
        KD_LOSSES[kd](*drawn(1, 4, 3), temperature=temperature)


@every_row
def test_without_a_temperature_the_published_one_is_taken(kd: str) -> None:
    row, pair = KD_LOSSES[kd], drawn(2, 6, 3)
    assert row.temperature == (2.0 if kd == "kl" else 1.0)
    assert torch.equal(row(*pair), row(*pair, temperature=row.temperature))
    assert torch.equal(row(*pair), row(*pair, temperature=4.0)) == (kd not in SOFTENED)


@pytest.mark.parametrize(("kd", "outputs"), OUTPUTS)
def test_the_gradient_of_every_row_is_its_derivative(kd: str, outputs: int) -> None:
    student, teacher = drawn(2, 6, outputs, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda said: KD_LOSSES[kd](said, teacher), student.requires_grad_())


@every_row
def test_replicas_that_are_distilled_together_lose_what_each_loses_alone(kd: str) -> None:
    student, teacher = drawn(3, 6, 4)
    alone = [KD_LOSSES[kd](*pair) for pair in zip(student.split(1), teacher.split(1), strict=True)]
    torch.testing.assert_close(KD_LOSSES[kd](student, teacher), torch.cat(alone))


@every_row
def test_the_order_of_the_examples_changes_no_distillation(kd: str) -> None:
    student, teacher = drawn(2, 6, 3)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(KD_LOSSES[kd](student[:, order], teacher[:, order]), KD_LOSSES[kd](student, teacher))


BY_EXAMPLE = torch.tensor([0.2, 7.0, 1.0, 3.0, 0.5, 2.0])[:, None]
BY_CLASS = torch.tensor([5.0, -1.0, 0.3])
INVARIANCES: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "mse": lambda student, teacher: (student + BY_CLASS, teacher + BY_CLASS),
    "hidden": lambda student, teacher: (student + BY_CLASS, teacher + BY_CLASS),
    "kl": lambda student, teacher: (student + BY_EXAMPLE, teacher - BY_EXAMPLE),  # no softmax sees it
    "inter_class": lambda student, teacher: (student + BY_EXAMPLE, teacher - BY_EXAMPLE),
    "inter_instance": lambda student, teacher: (student + BY_EXAMPLE, teacher - BY_EXAMPLE),
    "gram": lambda student, teacher: (student * BY_EXAMPLE, teacher / BY_EXAMPLE),
    "distance": lambda student, teacher: (7 * student + BY_CLASS, teacher / 3 - BY_CLASS),
}


@every_row
def test_what_a_row_does_not_look_at_does_not_change_it(kd: str) -> None:
    student, teacher = drawn(2, 6, 3, dtype=torch.float64)
    loss = KD_LOSSES[kd](student, teacher)
    torch.testing.assert_close(KD_LOSSES[kd](*INVARIANCES[kd](student, teacher)), loss)
    assert not torch.allclose(KD_LOSSES[kd](student * BY_CLASS, teacher), loss)


def test_a_regression_is_correlated_whatever_its_scale_and_mean() -> None:
    student, teacher = drawn(2, 6, 1, dtype=torch.float64)
    loss = KD_LOSSES["inter_instance"]
    torch.testing.assert_close(loss(7 * student - 5, teacher / 3 + 1), loss(student, teacher))
    torch.testing.assert_close(loss(-student, teacher), 2 - loss(student, teacher))


@pytest.mark.parametrize("kd", [kd for kd in KD_LOSSES if kd not in ("hidden", *WORDWISE)])
def test_what_is_asked_plays_no_part_where_an_example_has_one_answer(kd: str) -> None:
    student, teacher = drawn(2, 6, 3)
    nowhere = torch.zeros(2, 6, dtype=torch.bool)
    assert torch.equal(KD_LOSSES[kd](student, teacher, nowhere), KD_LOSSES[kd](student, teacher))


def test_two_classes_give_inter_class_almost_no_gradient_and_inter_instance_one() -> None:
    student, teacher = drawn(1, 16, 2)
    norms = {kd: gradient(lambda said, kd=kd: KD_LOSSES[kd](said, teacher), student).norm() for kd in CORRELATED}
    assert norms["inter_class"] < norms["inter_instance"] / 1000
    student, teacher = drawn(1, 16, 3)
    norms = {kd: gradient(lambda said, kd=kd: KD_LOSSES[kd](said, teacher), student).norm() for kd in CORRELATED}
    assert norms["inter_class"] > norms["inter_instance"] / 10


CONSTANT = {
    "zeros": torch.zeros(1, 7, 3),
    "one answer to all": torch.tensor([0.3, -2.0, 0.7]).expand(1, 7, 3),
    "one answer up to scale": torch.tensor([0.3, -2.0, 0.7]) * torch.linspace(0.1, 3, 7)[None, :, None],
}
FLAT = [  # where a correlation has a constant side
    ("inter_class", "zeros"), ("inter_instance", "zeros"), ("gram", "zeros"),
    ("inter_instance", "one answer to all"), ("gram", "one answer to all"), ("gram", "one answer up to scale"),
]  # fmt: skip


@pytest.mark.parametrize(("kd", "which"), FLAT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_constant_correlates_with_nothing_and_gets_no_gradient(kd: str, which: str, dtype: torch.dtype) -> None:
    student, teacher = CONSTANT[which].to(dtype), drawn(1, 7, 3, dtype=dtype)[1]
    for pair in ((student, teacher), (teacher, student), (student, student)):
        assert KD_LOSSES[kd](*pair).tolist() == pytest.approx([1.0])
    assert not gradient(lambda said: KD_LOSSES[kd](said, teacher), student).any()
    assert not gradient(lambda said: KD_LOSSES[kd](said, student), teacher).any()


@pytest.mark.parametrize("value", [0.0, 0.7, -1e5])
def test_constant_predictions_correlate_with_nothing(value: float) -> None:
    student, teacher = torch.full((1, 7, 1), value), drawn(1, 7, 1)[1]
    assert KD_LOSSES["inter_instance"](student, teacher).tolist() == [1.0]
    assert not gradient(lambda said: KD_LOSSES["inter_instance"](said, teacher), student).any()


def test_a_thousandth_part_is_no_constant() -> None:
    student, teacher = torch.tensor([[[999.0], [1000.0], [1001.0]]]), torch.tensor([[[5.0], [2.0], [2.0]]])
    assert KD_LOSSES["inter_instance"](student, teacher).tolist() == pytest.approx([1 + sqrt(3) / 2])


@every_row
@pytest.mark.parametrize("which", CONSTANT)
def test_constant_logits_have_a_finite_loss_and_gradient(kd: str, which: str) -> None:
    student, teacher = CONSTANT[which], drawn(1, 7, 3)[1]
    for pair in ((student, teacher), (teacher, student), (student, student)):
        assert KD_LOSSES[kd](*pair).isfinite().all()
        steep = gradient(lambda said, kd=kd, known=pair[1]: KD_LOSSES[kd](said, known), pair[0])
        assert steep.abs().max() < 100


def test_examples_with_the_same_logits_have_a_finite_gradient_of_their_distance() -> None:
    student, teacher = drawn(2, 5, 3)
    student[:, 3] = student[:, 1]
    steep = gradient(lambda said: KD_LOSSES["distance"](said, teacher), student)
    assert steep.isfinite().all()
    assert steep.any()
    assert KD_LOSSES["distance"](
        torch.ones(1, 3, 2), torch.tensor([[[0.0], [1.0], [3.0]]]).expand(1, 3, 2)
    ).tolist() == (
        pytest.approx([((1 / 2) ** 2 / 2 + (3 / 2 - 1 / 2) + 1 / 2) / 3])  # 0, 0, 0 against 1/2, 3/2, 1
    )


@pytest.mark.parametrize(("kd", "least"), [("inter_instance", 2), ("gram", 3), ("distance", 2)])
def test_too_few_examples_to_compare_lose_nothing(kd: str, least: int) -> None:
    student, teacher = drawn(2, least - 1, 3)
    assert KD_LOSSES[kd](student, teacher).tolist() == [0.0, 0.0]
    assert not gradient(lambda said: KD_LOSSES[kd](said, teacher), student).any()
    student[1, 0, 0] = nan
    assert KD_LOSSES[kd](student, teacher).isfinite().tolist() == [True, False]


@pytest.mark.parametrize("kd", SEPARABLE)
def test_a_separable_row_is_the_mean_over_examples_of_the_loss_of_each(kd: str) -> None:
    student, teacher = drawn(2, 6, 3)
    alone = KD_LOSSES[kd](student.flatten(0, 1)[:, None], teacher.flatten(0, 1)[:, None])
    torch.testing.assert_close(alone.view(2, 6).mean(1), KD_LOSSES[kd](student, teacher))


@pytest.mark.parametrize("kd", JOINT)
def test_a_joint_row_is_not_the_mean_of_what_parts_of_the_batch_lose(kd: str) -> None:
    student, teacher = drawn(2, 12, 3)
    whole = KD_LOSSES[kd](student, teacher)
    for part in (1, 6):
        parts = [KD_LOSSES[kd](*pair) for pair in zip(student.split(part, 1), teacher.split(part, 1), strict=True)]
        assert ((torch.stack(parts).mean(0) - whole).abs() > 1e-3).all()


@pytest.mark.parametrize("name", [*TASK_LOSSES, *SEPARABLE])
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


@every_row
@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize("whose", ["student", "teacher"])
@pytest.mark.parametrize("known", ["drawn", "constant"])
def test_one_logit_that_is_not_finite_shows_in_its_replica_alone(kd: str, value: float, whose: str, known: str) -> None:
    broken, other = drawn(3, 6, 3)
    broken[1, 2, 0] = value
    other = other if known == "drawn" else torch.zeros_like(other)
    student, teacher = (broken, other) if whose == "student" else (other, broken)
    assert KD_LOSSES[kd](student, teacher).isfinite().tolist() == [True, False, True]
    steep = gradient(lambda said: KD_LOSSES[kd](said, teacher), student)
    assert steep[[0, 2]].isfinite().all()


@pytest.mark.parametrize(
    ("name", "factors"),
    [
        ("constant", [1, 1, 1, 1, 1, 1]),
        ("decay", [1, 0.95, 0.9, 0.75, 0.45, 0.01]),
        ("warmup_decay", [0, 0.5, 1, 0.75 / 0.9, 0.5, 0.01 / 0.9]),
    ],
)
def test_the_factor_of_lambda_by_hand(name: str, factors: list[float]) -> None:
    assert [RAMPS[name](share) for share in (0.0, 0.05, 0.1, 0.25, 0.55, 0.99)] == pytest.approx(factors)


@pytest.mark.parametrize("name", RAMPS)
def test_a_ramp_stays_between_nothing_and_lambda(name: str) -> None:
    factors = [RAMPS[name](step / 1000) for step in range(1000)]
    assert 0 <= min(factors) <= max(factors) == 1
    assert max(abs(a - b) for a, b in pairwise(factors)) < 0.0101  # it never jumps


def test_the_share_of_an_example_is_how_often_it_is_asked() -> None:
    asked = torch.tensor([[[True, True, False], [True, False, False]], [[False] * 3, [False] * 3]])
    assert shares(asked).tolist() == [[pytest.approx(2 / 3), pytest.approx(1 / 3)], [0.0, 0.0]]
    assert shares(torch.tensor([[True, True], [True, False]])).tolist() == [[0.5, 0.5], [1.0, 0.0]]


@pytest.mark.parametrize("kd", WORDWISE)
def test_examples_by_their_shares_are_the_mean_of_the_batch(kd: str) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 2, 3, 4, 5, generator=generator)
    teacher[0, 0, 1, 2] = MASKED
    asked = torch.rand(2, 3, 4, generator=generator) > 0.3
    parts = shares(averaged_over(kd, teacher, asked))
    alone = KD_LOSSES[kd](student.flatten(0, 1)[:, None], teacher.flatten(0, 1)[:, None], asked.flatten(0, 1)[:, None])
    torch.testing.assert_close((parts.flatten() * alone).view(2, 3).sum(1), KD_LOSSES[kd](student, teacher, asked))
    labels = torch.where(asked, torch.randint(5, (2, 3, 4), generator=generator), IGNORED)
    alone = cross_entropy(student.flatten(0, 1)[:, None], labels.flatten(0, 1)[:, None])
    torch.testing.assert_close((shares(asked).flatten() * alone).view(2, 3).sum(1), cross_entropy(student, labels))

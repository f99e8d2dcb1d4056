"""What teachers add to a student's loss, worked by hand: of its own PLM, of another, by logits, vectors and relations."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from panda_trainable.config.methods import KD_KINDS
from panda_trainable.config.task import TaskSpec
from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.training import forward as module
from panda_trainable.training.distillation import KD_LOSSES
from panda_trainable.training.distillation_terms import Teacher
from panda_trainable.training.losses import cross_entropy
from panda_trainable.training.trainer import Trainer
from panda_trainable.transfer.lineage import Lineage, tuned_prompts
from panda_trainable.transfer.methods import open_trainer
from panda_trainable.transfer.teachers import source_lineage
from tests.kits.tasks import HEADED
from tests.kits.trainers import first_gradients, loss_curve, order_of, same, trained

Trial = Callable[..., TrialConfig]
KindTask = Callable[..., TaskSpec]
CLOSE: Mapping[str, Any] = {"rtol": 0, "atol": 1e-5}
JOINT = [name for name, loss in KD_LOSSES.items() if loss.joint]

HIDDEN = tuple(kind for kind in KD_KINDS["hidden"] if kind in HEADED)
"""Kinds of which the vectors that a trained head reads are compared."""


def asked(trainer: Trainer, step: int = 0) -> tuple[Tensor, Tensor]:
    """[K, B, C] the student's logits of the rows of a step, and their labels [K, B]."""
    rows = order_of(trainer)[step]
    return torch.from_numpy(
        np.stack(trainer.student.logits(trainer.data.parts[0].table, list(rows.numpy())))
    ), trainer.data.parts[0].table.labels[rows]


def known(trainer: Trainer, teacher: Teacher, step: int = 0) -> Tensor:
    """[K, B, …] what a teacher says of them."""
    return torch.stack([table[row] for table, row in zip(teacher.outputs, order_of(trainer)[step], strict=True)])


def pooled(trainer: Trainer, step: int = 0) -> Tensor:
    """[K, B, H] the vectors that the student's head reads of them."""
    return torch.from_numpy(
        np.stack(trainer.student.pooled(trainer.data.parts[0].table, list(order_of(trainer)[step].numpy())))
    )


def assert_next_loss(trainer: Trainer, expected: Tensor) -> None:
    torch.testing.assert_close(loss_curve(trainer, 1)[0].float(), expected, **CLOSE)


@pytest.mark.parametrize("kd", ["mse", "kl", "inter_class", *JOINT])
def test_pandas_loss_is_the_task_loss_and_lambda_times_similarity_times_distillation(
    library: PromptLibrary, trial: Trial, kd: str
) -> None:
    trainer = open_trainer(library, trial("panda", lambda_=3.0, kd=kd))  # its source is 0.5 similar
    student, labels = asked(trainer)
    term = KD_LOSSES[kd](student, known(trainer, trainer.recipe.teachers[0]))
    assert_next_loss(trainer, cross_entropy(student, labels) + 3.0 * 0.5 * term)


def test_late_logits_compares_the_student_with_the_average_of_what_the_teachers_say(
    library: PromptLibrary, trial: Trial
) -> None:
    config = trial("panda", sources=2, lambda_=3.0)  # 0.5 and 0.25 similar: shares of 2/3 and 1/3
    late, logits = (open_trainer(library, replace(config, fusion=f)) for f in ("late", "late_logits"))
    first, second = (known(late, teacher) for teacher in late.recipe.teachers)
    student, labels = asked(logits)
    weight = 3.0 * (2 / 3 * 0.5 + 1 / 3 * 0.25)
    assert_next_loss(
        logits, cross_entropy(student, labels) + weight * (student - (2 * first + second) / 3).square().mean((1, 2))
    )
    assert len(logits.recipe.teachers) == 1


def test_late_logits_leaves_out_a_source_that_is_not_similar(library: PromptLibrary, trial: Trial) -> None:
    config = trial("panda", sources=2, fusion="late_logits", partner_weights="uniform")
    config = replace(config, sources=(config.sources[0], replace(config.sources[1], similarity=-0.25)))
    alone = trial("panda")
    (teacher,), (expected,) = (open_trainer(library, c).recipe.teachers for c in (config, alone))
    assert teacher.weight == expected.weight / 2
    for a, b in zip(teacher.outputs, expected.outputs, strict=True):
        assert torch.equal(a.nan_to_num(), b.nan_to_num())


def test_late_logits_averages_those_that_teach_by_shares_that_sum_to_one(library: PromptLibrary, trial: Trial) -> None:
    config = trial("panda", sources=3, partner_weights="uniform")
    config = replace(config, sources=(*config.sources[:2], replace(config.sources[2], similarity=0.0)))
    late, logits = (open_trainer(library, replace(config, fusion=f)) for f in ("late", "late_logits"))
    first, second = (known(late, teacher) for teacher in late.recipe.teachers)
    (teacher,) = logits.recipe.teachers
    torch.testing.assert_close(known(logits, teacher), (first + second) / 2, **CLOSE)
    assert teacher.weight == pytest.approx((0.5 + 0.25) / 3)


def test_uniform_partners_start_and_teach_alike(library: PromptLibrary, trial: Trial) -> None:
    changes = {"sources": 2, "partner_weights": "uniform"}
    start = open_trainer(library, trial("spot", **changes)).student.prompt()
    config = trial("panda", **changes, fusion="late", lambda_=2.0)
    parents = [[p.prompt for p in tuned_prompts(library, source_lineage(config, i), (0, 1))] for i in (0, 1)]
    for mine, one, other in zip(start, *parents, strict=True):
        torch.testing.assert_close(mine, (one + other) / 2, rtol=0, atol=1e-7)
    assert [teacher.weight for teacher in open_trainer(library, config).recipe.teachers] == [
        2 * 0.5 * 0.5,
        2 * 0.5 * 0.25,
    ]


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", [1.0] * 20),
        ("decay", [1 - t / 20 for t in range(20)]),
        ("warmup_decay", [0.0, 0.5, 1.0, *((1 - t / 20) / 0.9 for t in range(3, 20))]),
    ],
)
def test_a_step_weighs_its_teachers_by_the_schedule(
    library: PromptLibrary, trial: Trial, schedule: str, factors: list[float]
) -> None:
    trainer = open_trainer(library, trial("panda", steps=20, lambda_=4.0, lambda_schedule=schedule))
    for step, factor in enumerate(factors):
        student, labels = asked(trainer, step)
        term = mse_loss(student, known(trainer, trainer.recipe.teachers[0], step), reduction="none").mean((1, 2))
        assert_next_loss(trainer, cross_entropy(student, labels) + factor * 4.0 * 0.5 * term)


def test_a_schedule_weighs_every_teacher(library: PromptLibrary, trial: Trial) -> None:
    trainer = open_trainer(library, trial("panda_distill", steps=10, lambda_schedule="warmup_decay"))
    student, labels = asked(trainer)
    assert len(trainer.recipe.teachers) == 3
    assert_next_loss(trainer, cross_entropy(student, labels))  # the first step's factor is 0


# vectors


@pytest.mark.parametrize("kind", HIDDEN)
def test_hidden_distillation_compares_the_vectors_that_heads_read(
    library: PromptLibrary, trial: Trial, kind_task: KindTask, kind: str
) -> None:
    config = trial("panda", target=kind_task(kind), lambda_=3.0, kd="hidden")
    trainer, plain = open_trainer(library, config), open_trainer(library, trial(target=config.target))
    vectors, said = pooled(trainer), known(trainer, trainer.recipe.teachers[0])
    assert vectors.shape == said.shape == (2, 4, *((3,) if kind == "multiple_choice" else ()), 16)
    assert "map" not in trainer.trainables
    alone = loss_curve(plain, 1)[0].float()
    assert_next_loss(trainer, alone + 3.0 * 0.5 * (vectors - said).square().flatten(1).mean(1))


@pytest.mark.parametrize("kind", HIDDEN)
def test_vectors_of_another_width_are_compared_through_a_map_that_is_trained(
    library: PromptLibrary, trial: Trial, kind_task: KindTask, kind: str
) -> None:
    config = trial("distill", target=kind_task(kind), lambda_=3.0, kd="hidden", inter_class=0.0, inter_instance=0.0)
    trainer, plain = open_trainer(library, config), open_trainer(library, trial(target=config.target))
    maps = trainer.trainables["map"].detach().clone()
    assert maps.shape == (2, 24, 16)
    assert not torch.equal(maps[0], maps[1])
    (teacher,) = trainer.recipe.teachers
    files = {path: path.stat().st_mtime_ns for path in library.root.rglob("*") if path.is_file()}
    frozen = {name: tensor.clone() for name, tensor in trainer.student.encoder.model.state_dict().items()}
    before, said = trained(trainer), [table.clone() for table in teacher.outputs]
    vectors = torch.stack([x @ m.T for x, m in zip(pooled(trainer), maps, strict=True)])  # [K, B, …, 24]
    term = (vectors - known(trainer, teacher)).square().flatten(1).mean(1)
    assert_next_loss(trainer, loss_curve(plain, 1)[0].float() + 3.0 * term)
    trainer.advance(7)
    assert before.keys() == {"prompt", "weight", "bias", "map"}
    assert not any(torch.equal(now[k], before[name][k]) for name, now in trained(trainer).items() for k in (0, 1))
    assert same(frozen, trainer.student.encoder.model.state_dict())
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(teacher.outputs, said, strict=True))
    assert (
        files.items() <= {path: path.stat().st_mtime_ns for path in library.root.rglob("*") if path.is_file()}.items()
    )


def test_the_map_is_decided_by_the_seed_and_restored(library: PromptLibrary, trial: Trial) -> None:
    config = trial("distill", kd="hidden")
    whole, alone = open_trainer(library, config), open_trainer(library, replace(config, seeds=(1,)))
    assert torch.equal(whole.trainables["map"][1:], alone.trainables["map"])
    loss_curve(whole, 3)
    state, rest = whole.state(), loss_curve(whole, 5)
    again = open_trainer(library, config)
    again.restore(state)
    assert torch.equal(loss_curve(again, 5), rest)


# relations


@pytest.mark.parametrize("tokens", [9, 10**6])
@pytest.mark.parametrize("relation", JOINT)
@pytest.mark.parametrize("kind", ["classification", "regression", "multiple_choice"])
def test_a_loss_of_the_whole_batch_is_the_same_however_rows_are_grouped(
    library: PromptLibrary, trial: Trial, kind_task: KindTask, monkeypatch: pytest.MonkeyPatch,
    kind: str, relation: str, tokens: int,
) -> None:  # fmt: skip
    if kind not in KD_KINDS[relation]:
        with pytest.raises(ValueError, match=f"{relation} is not defined for a {kind}"):
            trial("distill", target=kind_task(kind), inter_instance=2.0, relation=relation)
        return
    weights = {"lambda_": 0.0, "inter_class": 0.0, "inter_instance": 2.0}
    config = trial("distill", target=kind_task(kind), relation=relation, **weights)
    trainer, plain = open_trainer(library, config), open_trainer(library, trial(target=config.target))
    monkeypatch.setitem(module.BUCKET_VALUES, "cpu", 16 * tokens)
    student = asked(trainer)[0]
    term = KD_LOSSES[relation](student, known(trainer, trainer.recipe.teachers[0]))
    assert (term > 1e-3).all()
    assert_next_loss(trainer, loss_curve(plain, 1)[0].float() + 2.0 * term)


@pytest.mark.parametrize("tokens", [1, 40])
def test_the_gradient_of_a_whole_batch_is_the_same_however_rows_are_grouped(
    library: PromptLibrary, trial: Trial, monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    config = trial("distill", lambda_=0.0, inter_instance=2.0, relation="distance")
    whole, parted = open_trainer(library, config), open_trainer(library, config)
    whole.advance(1)
    monkeypatch.setitem(module.BUCKET_VALUES, "cpu", 16 * tokens)
    parted.advance(1)
    for name, gradient in first_gradients(whole).items():
        torch.testing.assert_close(first_gradients(parted)[name], gradient, **CLOSE)


@pytest.mark.parametrize("relation", JOINT)
@pytest.mark.parametrize("temperature", [0.0, 3.0])
def test_panda_and_a_larger_teacher_contribute_to_one_loss(
    library: PromptLibrary, trial: Trial, relation: str, temperature: float
) -> None:
    weights = {"lambda_": 3.0, "inter_class": 0.7, "inter_instance": 1.3}
    config = trial("panda_distill", relation=relation, temperature=temperature, **weights)
    trainer = open_trainer(library, config)
    teacher, classes, instances = trainer.recipe.teachers
    student, labels = asked(trainer)
    terms = (
        cross_entropy(student, labels),
        3.0 * 0.5 * (student - known(trainer, teacher)).square().mean((1, 2)),
        0.7 * KD_LOSSES["inter_class"](student, known(trainer, classes), None, temperature or None),
        1.3 * KD_LOSSES[relation](student, known(trainer, instances), None, temperature or None),
    )
    assert_next_loss(trainer, sum(terms))
    own = Lineage(config.setting, config.target, 4, 0.02, ((1.0, source_lineage(config, 0)),))
    assert library.sound("teachers", own.key(0))
    assert not torch.equal(known(trainer, teacher), known(trainer, classes))
    assert torch.equal(known(trainer, instances), known(trainer, classes))

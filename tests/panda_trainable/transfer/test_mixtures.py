"""Mixtures: several tasks train one prompt, each with a head of its own, as often as their sizes say."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from panda_trainable.config.setting import Setting
from panda_trainable.config.task import MIXING_CAP, Mixture, TaskSpec
from panda_trainable.data.locate import fingerprinted
from panda_trainable.data.splits import data_order, mixture_schedule, replica_rows
from panda_trainable.library import CARD, PromptLibrary
from panda_trainable.training import forward as module
from panda_trainable.training.forward import encoded
from panda_trainable.training.losses import TASK_LOSSES
from panda_trainable.training.trainer import Trainer
from panda_trainable.transfer.lineage import MODEL_FILE, Lineage, tuned
from tests.kits.tasks import HEADED
from tests.kits.trainers import loss_curve, model_trainer, prompt_trainer, random_starts, same, trained

Task = Callable[..., TaskSpec]
Opened = Callable[..., Trainer]
CLOSE: Mapping[str, Any] = {"rtol": 0, "atol": 1e-5}


# a trainer of several tasks


def prompt_and_heads(trainer: Trainer) -> dict[str, Tensor]:
    return {**trained(trainer), **{name: tensor.detach().clone() for name, tensor in trainer.student.heads.items()}}


@pytest.mark.parametrize("kind", HEADED)
def test_a_mixture_of_one_task_is_the_task(opened: Opened, kind_task: Task, kind: str) -> None:
    spec = kind_task(kind)
    plain, mixture = opened(spec, (0, 3)), opened(Mixture("m", (spec,)), (0, 3))
    assert torch.equal(loss_curve(plain, 10), loss_curve(mixture, 10))
    assert same(trained(plain), trained(mixture))
    assert plain.select() == mixture.select()
    for one, other in zip(plain.prompts(), mixture.prompts(), strict=True):
        assert same(one.tensors, other.tensors)


def test_a_mixture_of_one_task_is_the_task_for_whole_models_too(
    library: PromptLibrary, setting: Setting, task: Task
) -> None:
    trainers = [
        model_trainer(library, setting, each, (0, 1), steps=6, learning_rate=0.003)
        for each in (task("t"), Mixture("m", (task("t"),)))
    ]
    curves = [loss_curve(trainer, 6) for trainer in trainers]
    assert torch.equal(*curves)
    assert same(*(read(trainer) for trainer in trainers))


def read(trainer: Trainer) -> dict[str, Tensor]:
    """All weights but the pooler's, which nothing reads and the file lacks."""
    return {name: tensor for name, tensor in trainer.state().items() if ".pooler." not in name}


@pytest.fixture
def uneven(task: Task) -> Mixture:
    """120, 60 and 42 rows of two, two and three classes."""
    return Mixture("m", (task("a", n=120), task("b", n=60, seed=1), task("c", n=42, seed=2, classes=3)))


@pytest.mark.parametrize("tokens", [9, 10**6])
def test_a_step_of_a_mixture_is_the_mean_over_all_its_rows_by_hand(
    opened: Opened, uneven: Mixture, monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    monkeypatch.setitem(module.BUCKET_VALUES, "cpu", 16 * tokens)
    trainer = opened(uneven, (0, 1), steps=6)
    for step in range(6):
        expected, count = torch.zeros(2), 0
        for number, part in enumerate(trainer.data.parts):
            rows = part.order[:, part.at(step)]
            if rows.shape[1]:
                said = torch.from_numpy(np.stack(trainer.student.logits(part.table, list(rows.numpy()), number)))
                expected += torch.nn.functional.cross_entropy(
                    said.flatten(0, 1), part.table.labels[rows].flatten(), reduction="none"
                ).view(2, -1).sum(1)  # fmt: skip
                count += rows.shape[1]
        assert count == 4
        torch.testing.assert_close(loss_curve(trainer, 1)[0].float(), expected / 4, **CLOSE)


def test_logits_of_a_task_are_those_of_its_own_outputs(opened: Opened, uneven: Mixture) -> None:
    trainer = opened(uneven, (0, 1))
    trainer.advance(5)
    weight, bias = trainer.student.heads["weight"].detach(), trainer.student.heads["bias"].detach()
    assert weight.shape == (2, 7, 16) and bias.shape == (2, 7)
    assert [readout.outputs for readout in trainer.student.readouts] == [slice(0, 2), slice(2, 4), slice(4, 7)]
    for number, part in enumerate(trainer.data.parts):
        rows = [np.arange(9)] * 2
        alone = opened(
            part.task,
            (0, 1),
            start=trainer.student.prompt().detach(),
            heads=tuple(tensor[:, trainer.student.readouts[number].outputs] for tensor in (weight, bias)),
        )
        for mine, expected in zip(
            trainer.student.logits(part.table, rows, number),
            alone.student.logits(alone.data.parts[0].table, rows),
            strict=True,
        ):
            assert mine.shape == (9, part.task.outputs)
            np.testing.assert_allclose(mine, expected, rtol=0, atol=1e-5)


def test_a_tasks_head_gets_no_gradient_from_another_task(opened: Opened, uneven: Mixture) -> None:
    trainer = opened(uneven, (0, 1), steps=12)
    for step in range(12):
        if trainer.data.parts[0].order[:, trainer.data.parts[0].at(step)].numel():
            trainer._task_gradients(trainer.blocks[0], step, 0, trainer.student.prompt())
        gradient = trainer.student.heads["weight"].grad
        assert gradient is None or not gradient[:, 2:].any()
        for tensor in trainer.trainables.values():
            tensor.grad = None
        trainer.done = step + 1
    assert trainer.data.parts[0].step_offsets[-1] > 0


def test_a_task_that_is_not_met_in_a_run_keeps_its_head(opened: Opened, task: Task) -> None:
    rare = Mixture("m", (task("often", n=300), task("rare", n=40, seed=1)))
    trainer = opened(rare, (0, 1), steps=1)
    assert [part.step_offsets for part in trainer.data.parts] == [(0, 4), (0, 0)]
    before = prompt_and_heads(trainer)
    trainer.advance(1)
    after = prompt_and_heads(trainer)
    assert torch.equal(before["weight"][:, 2:], after["weight"][:, 2:])
    assert not torch.equal(before["weight"][:, :2], after["weight"][:, :2])
    assert set(trainer.select(1)) == {"accuracy"}


def test_every_task_meets_its_own_rows_in_its_own_order_and_never_those_it_holds_out(
    opened: Opened, library: PromptLibrary, setting: Setting, uneven: Mixture
) -> None:
    trainer = opened(uneven, (0, 5), steps=120)
    counts = [part.step_offsets[-1] for part in trainer.data.parts]
    assert counts == np.bincount(mixture_schedule([120, 60, 42], MIXING_CAP, 480)).tolist()
    for part in trainer.data.parts:
        assert len(part.step_offsets) == 121
        for replica, seed in enumerate((0, 5)):
            own = replica_rows(library, setting, part.task, seed)
            assert part.order[replica].tolist() == data_order(own.train, seed, part.step_offsets[-1]).tolist()
            assert set(part.order[replica].tolist()) == set(own.train.tolist())  # more than an epoch
            assert not set(part.order[replica].tolist()) & set(own.selection.tolist())
    steps = torch.tensor([part.step_offsets for part in trainer.data.parts]).diff(dim=1)
    assert (steps.sum(0) == 4).all()


def test_no_task_of_a_mixture_trains_on_a_row_that_shares_a_text_with_the_report_rows_of_a_target(
    opened: Opened, task: Task
) -> None:
    one, other, target = task("t"), task("u", seed=3), task("target", seed=5)
    shared = {3, 10, 24, 41}
    rows = Path(one.origin.place("train")).read_text().splitlines()
    Path(target.origin.place("validation")).write_text("".join(rows[i] + "\n" for i in sorted(shared)))
    target = fingerprinted(target)
    mixture = Mixture("m", (one, other, target))
    apart, whole = (opened(mixture, (0, 1), steps=180, exclude_overlap_with=of) for of in (target, None))
    assert not shared & set(apart.data.parts[0].order.flatten().tolist())
    assert shared <= set(whole.data.parts[0].order.flatten().tolist())
    for mine, theirs in zip(
        apart.data.parts[1:], whole.data.parts[1:], strict=True
    ):  # the target itself is not held apart
        assert mine.order.tolist() == theirs.order.tolist()


def test_each_task_of_a_mixture_has_its_own_shots(opened: Opened, uneven: Mixture, setting: Setting) -> None:
    few = replace(uneven, shots=(4, 0, 3))  # 0: all but those that are held out
    trainer = opened(few, (0, 1), steps=120, setting=replace(setting, shots=6))
    assert [len(part.rows[0].train) for part in trainer.data.parts] == [2 * 4, 60 - 12, 3 * 3]
    for part in trainer.data.parts:
        for replica, rows in enumerate(part.rows):
            assert set(part.order[replica].tolist()) == set(rows.train.tolist())
    alike = opened(uneven, (0, 1), steps=120, setting=replace(setting, shots=6))
    assert [len(part.rows[0].train) for part in alike.data.parts] == [2 * 6, 2 * 6, 3 * 6]


@pytest.fixture
def of_all_kinds(kind_task: Task) -> Mixture:
    return Mixture("all", tuple(kind_task(kind, kind, seed=seed) for seed, kind in enumerate(HEADED)))


def test_tasks_of_all_kinds_train_one_prompt_and_each_learns(opened: Opened, of_all_kinds: Mixture) -> None:
    trainer = opened(of_all_kinds, (0, 1), steps=300, learning_rate=0.1)
    before = prompt_and_heads(trainer)
    assert before["weight"].shape == (2, sum(task.outputs for task in of_all_kinds.tasks), 16)
    first = [trainer.select(number)[part.task.metrics[0]] for number, part in enumerate(trainer.data.parts)]
    losses = loss_curve(trainer, 300)
    assert (losses[-50:].mean(0) < 0.8 * losses[:50].mean(0)).all()
    last = [trainer.select(number)[part.task.metrics[0]] for number, part in enumerate(trainer.data.parts)]
    assert np.mean(last) > np.mean(first) + 0.2
    for readout in trainer.student.readouts:
        for k in (0, 1):
            moved = before["weight"][k, readout.outputs] != trainer.student.heads["weight"][k, readout.outputs]
            assert moved.any(1).all()


def test_the_loss_of_a_mixture_of_all_kinds_is_the_mean_of_its_rows_losses_by_hand(
    opened: Opened, of_all_kinds: Mixture
) -> None:
    trainer = opened(of_all_kinds, (0, 1), steps=10)
    for step in range(10):
        expected = torch.zeros(2)
        for number, part in enumerate(trainer.data.parts):
            rows = part.order[:, part.at(step)]
            if rows.shape[1]:
                said = torch.from_numpy(np.stack(trainer.student.logits(part.table, list(rows.numpy()), number)))
                labels = torch.stack([own[row] for own, row in zip(part.labels, rows, strict=True)])
                expected += TASK_LOSSES[part.task.kind](said, labels) * rows.shape[1] / 4
        torch.testing.assert_close(loss_curve(trainer, 1)[0].float(), expected, **CLOSE)


def test_replicas_of_a_mixture_together_are_the_replicas_alone(opened: Opened, of_all_kinds: Mixture) -> None:
    together, alone = opened(of_all_kinds, (0, 8)), [opened(of_all_kinds, (seed,)) for seed in (0, 8)]
    curves = torch.cat([loss_curve(trainer, 10) for trainer in alone], 1)
    torch.testing.assert_close(loss_curve(together, 10), curves, **CLOSE)


def test_a_restored_mixture_goes_on_as_the_uninterrupted_one(opened: Opened, uneven: Mixture) -> None:
    whole, again = opened(uneven, (0, 1)), opened(uneven, (0, 1))
    loss_curve(whole, 4)
    again.restore(whole.state())
    assert torch.equal(loss_curve(whole, 6), loss_curve(again, 6))


# whole models


def test_whole_models_train_on_a_mixture_as_prompts_do(
    library: PromptLibrary, setting: Setting, of_all_kinds: Mixture
) -> None:
    trainer = model_trainer(library, setting, of_all_kinds, (0, 1), steps=10, learning_rate=0.003)
    frozen = {name: tensor.clone() for name, tensor in trainer.student.encoder.model.state_dict().items()}
    prompted = prompt_trainer(
        library, setting, of_all_kinds, (0, 1), random_starts(setting, (0, 1)), steps=10, learning_rate=0.1
    )
    assert [p.order.tolist() for p in trainer.data.parts] == [p.order.tolist() for p in prompted.data.parts]
    expected = torch.zeros(2)
    for number, part in enumerate(trainer.data.parts):
        rows = part.order[:, part.at(0)]
        if rows.shape[1]:
            said = torch.from_numpy(np.stack(trainer.student.logits(part.table, list(rows.numpy()), number)))
            labels = torch.stack([own[row] for own, row in zip(part.labels, rows, strict=True)])
            expected += TASK_LOSSES[part.task.kind](said, labels) * rows.shape[1] / 4
    losses = loss_curve(trainer, 10)
    torch.testing.assert_close(losses[0].float(), expected, **CLOSE)
    assert losses.isfinite().all()
    assert all(isfinite(score) for number in range(5) for score in next(iter(trainer.select(number).values())))
    assert same(frozen, trainer.student.encoder.model.state_dict())


def test_a_whole_model_answers_a_task_with_the_outputs_of_its_own_head(
    library: PromptLibrary, setting: Setting, uneven: Mixture
) -> None:
    trainer = model_trainer(library, setting, uneven, (0, 1), steps=6, learning_rate=0.003)
    trainer.advance(6)
    for number, outputs in enumerate((slice(0, 2), slice(2, 4), slice(4, 7))):
        table, rows = trainer.data.parts[number].table, torch.arange(9)
        for k, said in enumerate(trainer.student.logits(table, [rows.numpy()] * 2, number)):
            pooled = encoded(trainer.student.copies[k], table, None, rows, torch.zeros_like(rows))
            weight, bias = trainer.student.own_heads[k]
            expected = (pooled @ weight[outputs].T + bias[outputs]).detach()
            torch.testing.assert_close(torch.from_numpy(said), expected, **CLOSE)


def test_a_whole_model_learns_all_tasks_of_a_mixture(library: PromptLibrary, setting: Setting, uneven: Mixture) -> None:
    trainer = model_trainer(library, setting, uneven, (0,), steps=160, learning_rate=0.003)
    losses = loss_curve(trainer, 160)
    assert losses[-20:].mean() < 0.6 * losses[:20].mean()
    assert min(trainer.select(number)["accuracy"][0] for number in range(3)) > 0.6


@pytest.mark.own_library
def test_a_lineage_of_whole_models_keeps_them_and_what_starts_from_them_starts_as_they_ended(
    library: PromptLibrary, setting: Setting, uneven: Mixture
) -> None:
    lineage = Lineage(setting, uneven, 5, 0.003, trains="model")
    folders = tuned(library, lineage, (0, 1), also=(2,))
    assert lineage.kind == "models"
    assert len(list(library.root.glob("models/*"))) == 4  # two steps of two seeds
    how: dict[str, Any] = {"steps": 5, "learning_rate": 0.003}
    run = model_trainer(library, setting, uneven, (0, 1), schedule="constant", **how)
    run.advance(5)
    files = [folder / MODEL_FILE for folder in folders]
    again = model_trainer(library, setting, uneven.tasks[0], (0, 1), weights=files, **how)
    for k, file in enumerate(files):
        kept, ended = load_file(file), dict(run.student.copies[k].model.named_parameters())
        started = dict(again.student.copies[k].model.named_parameters())
        assert kept.keys() == {*ended, "head.weight", "head.bias"}
        for name, tensor in started.items():
            assert torch.equal(tensor, kept[name])
            assert torch.equal(tensor, ended[name]) or name.startswith("pooler.")
        assert torch.equal(kept["head.weight"], run.student.own_heads[k][0])
        assert torch.equal(kept["head.bias"], run.student.own_heads[k][1])
    before = {path: path.stat().st_mtime_ns for path in library.root.rglob("*") if path.is_file()}
    tuned(library, lineage, (0, 1))
    assert {path: path.stat().st_mtime_ns for path in library.root.rglob("*") if path.is_file()} == before


def test_a_source_that_is_a_mixture_is_scored_by_the_mean_of_its_tasks(
    library: PromptLibrary, setting: Setting, uneven: Mixture, opened: Opened
) -> None:
    lineage = Lineage(setting, uneven, 5, 0.02)
    (folder,) = tuned(library, lineage, (0,))
    run = opened(uneven, (0,), steps=5, schedule="constant")
    run.advance(5)
    card = json.loads((folder / CARD).read_text())
    assert card["task"] == "m"
    assert card["score"] == pytest.approx(np.mean([run.select(number)["accuracy"][0] for number in range(3)]))
    assert card["majority"] == pytest.approx((1 / 2 + 1 / 2 + 1 / 3) / 3, abs=0.02)

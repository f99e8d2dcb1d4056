"""Trainer: replicas are independent, batching does not change results, and the PLM stays frozen."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import isfinite, isnan
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from panda_trainable.config.setting import Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.data.locate import fingerprinted
from panda_trainable.data.tokens import TokenTable, token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.training import forward as module
from panda_trainable.training.forward import encoded, length_buckets
from panda_trainable.training.metrics import METRICS
from panda_trainable.training.trainer import Trainer
from panda_trainable.worker import load_encoder
from tests.kits.tasks import rows_of, write_task
from tests.kits.trainers import first_gradients, loss_curve, order_of, prompt_trainer, random_starts, same, trained

Task = Callable[..., TaskSpec]
Opened = Callable[..., Trainer]
CLOSE = {"rtol": 0, "atol": 1e-5}
KINDS = pytest.mark.parametrize("kind", ["classification", "regression"])


def table_of(ids: torch.Tensor, lengths: torch.Tensor) -> TokenTable:
    """A table of sequences without anything beside."""
    n = len(ids)
    return TokenTable(
        ids=ids, types=torch.zeros_like(ids), lengths=lengths, labels=torch.zeros(n), slots=torch.zeros(n, 0),
        answers=torch.zeros(n, 0), offsets=np.zeros((n, 0, 2), np.int32), groups=np.arange(n),
        texts=np.zeros((n, 1), np.uint64), questions=np.arange(n), truncated=0.0, gold=Path(),
    )  # fmt: skip


@KINDS
def test_replicas_together_are_the_replicas_alone(opened: Opened, task: Task, kind: str) -> None:
    spec, seeds = task("t", kind=kind), (0, 3, 8)
    together, alone = opened(spec, seeds), [opened(spec, (seed,)) for seed in seeds]
    first = torch.cat([loss_curve(trainer, 1) for trainer in alone], 1)
    torch.testing.assert_close(loss_curve(together, 1), first, **CLOSE)
    for name, gradient in first_gradients(together).items():
        torch.testing.assert_close(gradient, torch.cat([first_gradients(s)[name] for s in alone]), **CLOSE)
    rest = torch.cat([loss_curve(trainer, 9) for trainer in alone], 1)
    torch.testing.assert_close(loss_curve(together, 9), rest, **CLOSE)


@pytest.mark.parametrize("start", [torch.nan, torch.inf, 1e30])
def test_a_replica_that_diverges_leaves_the_others_alone(
    opened: Opened, task: Task, setting: Setting, start: float
) -> None:
    spec, seeds = task("t"), (0, 1, 2)
    starts = random_starts(setting, seeds)
    starts[1] = start
    healthy, faulty = opened(spec, seeds), opened(spec, seeds, start=starts)
    curves = [loss_curve(trainer, 6)[:, [0, 2]] for trainer in (healthy, faulty)]
    torch.testing.assert_close(*curves, **CLOSE)
    assert healthy.select()["accuracy"][::2] == faulty.select()["accuracy"][::2]


def test_a_replica_that_is_not_finite_is_told_by_its_loss_and_its_score(
    opened: Opened, task: Task, setting: Setting
) -> None:
    starts = random_starts(setting, (0, 1))
    starts[1] = torch.nan
    trainer = opened(task("t"), (0, 1), start=starts)
    trainer.advance(3)
    assert [isfinite(loss) for loss in trainer.losses()] == [True, False]
    assert [isnan(score) for score in trainer.select()["accuracy"]] == [False, True]


@pytest.mark.parametrize("tokens", [1, 9, 40, 10**6])
def test_the_size_of_bucket_slices_changes_no_loss(
    opened: Opened, task: Task, monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    spec = task("t")
    expected = loss_curve(opened(spec, (0, 1)), 6)
    monkeypatch.setitem(module.BUCKET_VALUES, "cpu", 16 * tokens)
    torch.testing.assert_close(loss_curve(opened(spec, (0, 1)), 6), expected, **CLOSE)


@pytest.mark.parametrize("tokens", [1, 30, 10**6])
def test_neither_grouping_nor_padding_nor_the_order_of_rows_changes_an_encoding(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    monkeypatch.setitem(module.BUCKET_VALUES, "cpu", 16 * tokens)
    encoder, generator = load_encoder(setting.plm), torch.Generator().manual_seed(0)
    lengths = torch.tensor([16, 1, 5, 1, 16, 9, 2])
    ids = torch.randint(5, 45, (7, 16), generator=generator)
    table = table_of(ids, lengths)
    prefix, owner = 50 * random_starts(setting, (0, 1)), torch.tensor([0, 1, 1, 0, 1, 0, 0])
    rows = torch.arange(7)
    found = encoded(encoder, table, prefix, rows, owner)
    alone = [
        encoder.encode(ids[i, None, :n], ids[i, None, :n] * 0, n[None], prefix, owner[i, None])
        for i, n in enumerate(lengths)
    ]
    torch.testing.assert_close(found, torch.cat(alone), **CLOSE)
    order = torch.tensor([4, 2, 2, 0, 6])
    torch.testing.assert_close(encoded(encoder, table, prefix, order, owner[order]), found[order], **CLOSE)


@pytest.mark.parametrize("tokens", [1, 30, 10**6])
def test_every_token_has_the_vector_it_would_have_alone_whatever_the_grouping(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    monkeypatch.setitem(module.BUCKET_VALUES, "cpu", 16 * tokens)
    encoder, generator = load_encoder(setting.plm), torch.Generator().manual_seed(0)
    lengths, owner = torch.tensor([16, 1, 5, 16, 9]), torch.tensor([0, 1, 1, 0, 1])
    ids = torch.randint(5, 45, (5, 16), generator=generator)
    prefix, rows = 50 * random_starts(setting, (0, 1)), torch.tensor([4, 2, 2, 0, 1])

    found: list[torch.Tensor] = [torch.empty(0)] * len(rows)
    for hidden, at, whose, which in length_buckets(
        encoder, table_of(ids, lengths), prefix, rows, owner[rows], partial(encoder.encode, tokens=True)
    ):
        assert hidden.shape[1] == lengths[at].max()
        assert torch.equal(at, rows[which])
        assert torch.equal(whose, owner[at])
        for made, number in zip(hidden, which.tolist(), strict=True):
            found[number] = made
    for made, row in zip(found, rows.tolist(), strict=True):
        n = int(lengths[row])
        own = ids[row, None, :n]
        alone = encoder.encode(own, own * 0, lengths[row, None], prefix, owner[row, None], tokens=True)
        torch.testing.assert_close(made[:n], alone[0], **CLOSE)


def test_a_restored_trainer_with_a_constant_rate_continues_like_the_uninterrupted_one(
    opened: Opened, task: Task, tmp_path: Path
) -> None:
    spec, schedule = task("t"), "constant"
    whole, killed = (opened(spec, (0, 1), schedule=schedule) for _ in range(2))
    killed.advance(4)
    save_file(killed.state(), tmp_path / "state")
    again = opened(spec, (0, 1), schedule=schedule)
    again.restore(load_file(tmp_path / "state"))
    assert torch.equal(loss_curve(again, 6), loss_curve(whole, 10)[4:])
    assert same(trained(again), trained(whole))
    assert again.select() == whole.select()


def test_a_state_stays_what_it_was_while_training_goes_on(opened: Opened, task: Task) -> None:
    trainer = opened(task("t"))
    loss_curve(trainer, 3)
    state, expected = trainer.state(), loss_curve(trainer, 4)
    trainer.restore(state)
    assert torch.equal(loss_curve(trainer, 4), expected)


def test_losses_after_a_restore_are_those_of_what_follows(opened: Opened, task: Task) -> None:
    spec = task("t")
    trainer, other = opened(spec), opened(spec)
    state = {name: tensor.clone() for name, tensor in trainer.state().items()}
    trainer.advance(5)
    trainer.restore(state)
    assert loss_curve(trainer, 1).tolist() == loss_curve(other, 1).tolist()


@KINDS
def test_a_run_depends_on_its_seed_and_on_no_name_path_or_global_state(opened: Opened, task: Task, kind: str) -> None:
    first, renamed = (opened(task(name, kind=kind), (4,)) for name in ("t", "renamed"))
    torch.manual_seed(1)
    np.random.seed(1)
    expected = loss_curve(first, 5)
    torch.manual_seed(2)
    np.random.seed(2)
    assert torch.equal(loss_curve(renamed, 5), expected)
    assert same(trained(first), trained(renamed))
    assert not torch.equal(loss_curve(opened(task("t", kind=kind), (5,)), 5), expected)


def test_the_seed_decides_fold_order_and_head_each(opened: Opened, task: Task, setting: Setting) -> None:
    one, other = (opened(task("t"), (seed,), start=random_starts(setting, (0,))) for seed in (0, 1))
    assert one.data.parts[0].rows[0].selection.tolist() != other.data.parts[0].rows[0].selection.tolist()
    assert not torch.equal(order_of(one), order_of(other))
    assert not torch.equal(one.trainables["weight"], other.trainables["weight"])


def test_no_replica_trains_on_a_row_that_selects_it(opened: Opened, task: Task) -> None:
    trainer = opened(task("t"), (0, 1, 2), steps=40)
    for replica, rows in enumerate(trainer.data.parts[0].rows):
        assert not set(order_of(trainer)[:, replica].flatten().tolist()) & set(rows.selection.tolist())


def test_no_replica_trains_on_a_row_that_shares_a_text_with_the_report_rows_of_a_target(
    opened: Opened, task: Task
) -> None:
    spec, target = task("t"), task("target", seed=5)
    shared = {3, 10, 24, 41}
    rows = Path(spec.origin.place("train")).read_text().splitlines()
    Path(target.origin.place("validation")).write_text("".join(rows[i] + "\n" for i in sorted(shared)))
    target = fingerprinted(target)
    apart, whole = (opened(spec, (0, 1, 2), steps=60, exclude_overlap_with=of) for of in (target, None))
    assert not shared & set(order_of(apart).flatten().tolist())
    assert shared <= set(order_of(whole).flatten().tolist())
    assert apart.select().keys() == whole.select().keys()
    for one, other in zip(apart.data.parts[0].rows, whole.data.parts[0].rows, strict=True):
        assert one.selection.tolist() == other.selection.tolist()


def test_few_shots_are_all_that_a_trainer_trains_on(opened: Opened, task: Task, setting: Setting) -> None:
    trainer = opened(task("t"), (0, 1), steps=20, setting=replace(setting, shots=4))
    for replica, rows in enumerate(trainer.data.parts[0].rows):
        assert set(order_of(trainer)[:, replica].flatten().tolist()) == set(rows.train.tolist())
        assert len(rows.train) == 8
    trainer.advance(20)
    assert all(isfinite(loss) for loss in trainer.losses())


def test_the_rate_falls_linearly_to_zero_or_stays(opened: Opened, task: Task) -> None:
    linear, constant = (opened(task("t"), steps=4, learning_rate=0.1, schedule=s) for s in ("linear", "constant"))
    rates = []
    for _ in range(4):
        rates.append((linear.recipe.rate(linear.done), constant.recipe.rate(constant.done)))
        linear.advance(1)
        constant.advance(1)
    assert rates == [(pytest.approx(0.1 * left), 0.1) for left in (1, 0.75, 0.5, 0.25)]


def test_a_trainer_ends_at_its_last_step(opened: Opened, task: Task) -> None:
    trainer = opened(task("t"), steps=3)
    trainer.advance(100)
    last = trained(trainer)
    trainer.advance(1)
    assert trainer.done == 3
    assert same(trained(trainer), last)


def test_losses_are_means_since_they_were_last_asked_for(opened: Opened, task: Task) -> None:
    spec = task("t")
    steps, whole = loss_curve(opened(spec), 6), opened(spec)
    for span in (slice(0, 4), slice(4, 6)):
        whole.advance(span.stop - span.start)
        assert whole.losses() == pytest.approx(steps[span].mean(0).tolist(), abs=1e-6)


@KINDS
def test_selection_scores_the_rows_that_each_replica_holds_out(opened: Opened, task: Task, kind: str) -> None:
    trainer = opened(task("t", kind=kind), (0, 1))
    trainer.advance(5)
    rows = [replica.selection for replica in trainer.data.parts[0].rows]
    logits, labels = (
        trainer.student.logits(trainer.data.parts[0].table, rows),
        trainer.data.parts[0].table.labels.numpy(),
    )
    name = trainer.data.parts[0].task.metrics[0]
    assert trainer.select()[name] == [METRICS[name](x, labels[r]) for x, r in zip(logits, rows, strict=True)]


def test_a_regression_is_trained_on_values_scaled_by_train_rows_alone(opened: Opened, task: Task) -> None:
    trainer = opened(task("t", kind="regression"), (0, 1))
    for labels, rows in zip(trainer.data.parts[0].labels, trainer.data.parts[0].rows, strict=True):
        known = labels[rows.train]
        assert float(known.mean()) == pytest.approx(0, abs=1e-5)
        assert float(known.std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert not torch.equal(trainer.data.parts[0].labels[0], trainer.data.parts[0].labels[1])


@pytest.mark.parametrize(("protocol", "split"), [("held_out", "test"), ("paper", "test")])
def test_the_report_reads_the_test_split_and_every_row_of_it(
    library: PromptLibrary, setting: Setting, task: Task, tmp_path: Path, protocol: str, split: str
) -> None:
    spec = task("t")
    write_task(tmp_path / "extra", rows_of(4), rows_of(10, seed=5))
    (tmp_path / "extra" / "validation.jsonl").rename(Path(spec.origin.place()) / "test.jsonl")
    spec = fingerprinted(spec)
    paper = replace(setting, protocol=protocol)
    trainer = prompt_trainer(library, paper, spec, (0, 1), random_starts(setting, (0, 1)), steps=2, learning_rate=0.1)
    scores, logits, labels = trainer.report()
    assert logits.shape == (2, 10, 2)
    assert labels.tolist() == token_table(library, paper, spec, split).labels.tolist()
    assert scores["accuracy"] == [METRICS["accuracy"](x, labels) for x in logits]


def test_prompt_and_text_longer_than_the_positions_are_refused(opened: Opened, task: Task, setting: Setting) -> None:
    long = replace(setting, train=replace(setting.train, max_length=62))
    with pytest.raises(ValueError, match=r"prompt length 3 \+ max_length 62 is over the 64 positions of BertModel"):
        prompt_trainer(
            opened(task("t")).data.library,
            long,
            task("t"),
            (0,),
            random_starts(setting, (0,)),
            steps=1,
            learning_rate=1,
        )

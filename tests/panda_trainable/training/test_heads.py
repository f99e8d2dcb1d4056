"""Heads: a linear layer per replica, arranged as each kind's logits, and the reference that ignores the text."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import linear

from panda_trainable.config.kinds import KINDS
from panda_trainable.config.task import TaskSpec
from panda_trainable.data.gold import MASKED
from panda_trainable.data.tokens import TokenTable
from panda_trainable.training.heads import HEADS, WEIGHT_STD, outputs, random_head
from panda_trainable.training.losses import TASK_LOSSES
from panda_trainable.training.trainer import Trainer
from tests.kits.tasks import HEADED
from tests.kits.trainers import random_prompt

Task = Callable[..., TaskSpec]
Opened = Callable[..., Trainer]
every_kind = pytest.mark.parametrize("kind", HEADED)


def table_of(slots: list[list[int]] = (), answers: list[list[int]] = (), sequences: int = 1, n: int = 2) -> TokenTable:
    """A table of what heads look at."""
    return TokenTable(
        ids=torch.zeros(n * sequences, 6, dtype=torch.long), types=torch.zeros(n * sequences, 6),
        lengths=torch.full((n * sequences,), 6), labels=torch.zeros(n),
        slots=torch.tensor(slots or [[]] * n), answers=torch.tensor(answers or [[]] * n, dtype=torch.bool),
        offsets=np.zeros((n, 0, 2), np.int32), groups=np.arange(n), texts=np.zeros((n, 1), np.uint64),
        questions=np.arange(n), truncated=0.0, gold=Path(),
    )  # fmt: skip


def test_a_random_head_is_decided_by_the_seed_alone_and_is_no_copy_of_the_prompt() -> None:
    torch.manual_seed(1)
    weight, bias = random_head(2, 16, 7)
    torch.manual_seed(3)
    assert torch.equal(random_head(2, 16, 7)[0], weight)
    assert not torch.equal(random_head(2, 16, 8)[0], weight)
    assert not torch.equal(random_prompt((2, 16), 7), weight)
    assert not bias.any()
    assert float(random_head(100, 100, 0)[0].std()) == pytest.approx(WEIGHT_STD, rel=0.05)


def test_each_replica_has_its_own_head() -> None:
    pooled, weight = torch.ones(3, 2), torch.tensor([[[1.0, 2.0]], [[0.0, 10.0]]])
    made = outputs(pooled, weight, torch.tensor([[0.5], [0.0]]), torch.tensor([1, 0, 1]))
    assert made.tolist() == [[10.0], [3.5], [10.0]]


@pytest.mark.parametrize("shape", [(5, 8), (5, 4, 8)], ids=["vectors", "tokens"])
def test_outputs_are_the_linear_layer_of_every_rows_own_replica(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    encodings = torch.randn(shape, generator=generator)
    weight, bias = torch.randn(3, 2, 8, generator=generator), torch.randn(3, 2, generator=generator)
    owner = torch.tensor([2, 0, 0, 1, 2])
    expected = torch.stack([linear(x, weight[k], bias[k]) for x, k in zip(encodings, owner, strict=True)])
    torch.testing.assert_close(outputs(encodings, weight, bias, owner), expected, rtol=0, atol=1e-5)


def test_every_kind_has_its_head() -> None:
    assert set(HEADS) | {"generation"} == set(KINDS) == set(TASK_LOSSES)
    assert {head.reads for head in HEADS.values()} == {"pooled", "tokens"}


def test_the_logits_of_choices_are_one_output_of_each_sequence() -> None:
    made = torch.arange(6.0)[:, None]  # two examples of three choices
    found = HEADS["multiple_choice"].arrange(made, table_of(sequences=3), torch.tensor([0, 1]))
    assert found.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_the_logits_of_words_are_those_of_their_first_tokens_and_zero_where_no_word_is() -> None:
    made = torch.arange(2 * 4 * 2.0).view(2, 4, 2)  # two sentences, four tokens, two tags
    table = table_of(slots=[[1, -1, -1], [1, 2, 3], [3, -1, 1]], n=3)
    found = HEADS["tagging"].arrange(made, table, torch.tensor([1, 2]))
    assert found.tolist() == [[[2, 3], [4, 5], [6, 7]], [[14, 15], [0, 0], [10, 11]]]


def test_the_logits_of_an_answer_are_those_of_the_passages_tokens() -> None:
    made = torch.arange(2 * 3 * 2.0).view(2, 3, 2)  # two passages, of a group three tokens long; start and end
    table = table_of(answers=[[0, 1, 1, 0, 0], [0, 0, 1, 0, 0]])
    found = HEADS["extractive_qa"].arrange(made, table, torch.tensor([1, 0]))
    far = MASKED
    assert found.tolist() == [
        [[far, far, 4, far, far], [far, far, 5, far, far]],
        [[far, 8, 10, far, far], [far, 9, 11, far, far]],
    ]


def test_a_word_without_a_token_and_a_token_beside_the_passage_get_no_gradient() -> None:
    for kind, table in (
        ("tagging", table_of(slots=[[1, -1], [2, 1]])),
        ("extractive_qa", table_of(answers=[[0, 1, 0, 0], [0, 1, 1, 0]])),
    ):
        made = torch.randn(2, 4, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
        HEADS[kind].arrange(made, table, torch.tensor([0, 1])).square().sum().backward()
        assert made.grad.any(-1).tolist() == [[False, True, False, False], [False, True, True, False]]


@every_kind
def test_logits_have_the_shape_that_their_head_tells(opened: Opened, kind_task: Task, kind: str) -> None:
    trainer = opened(kind_task(kind), (0, 1))
    rows = [replica.selection for replica in trainer.data.parts[0].rows]
    shape = HEADS[kind].shape(trainer.data.parts[0].table, trainer.data.parts[0].task.outputs)
    assert [said.shape for said in trainer.student.logits(trainer.data.parts[0].table, rows)] == [
        (len(r), *shape) for r in rows
    ]

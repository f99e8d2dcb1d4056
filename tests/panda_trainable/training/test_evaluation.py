"""The reference that ignores the text: the best constant answer under the metric, chosen on train rows."""

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from panda_trainable.config.kinds import METRIC_NAMES
from panda_trainable.config.setting import Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.data.gold import MASKED
from panda_trainable.data.splits import replica_rows, selection_split
from panda_trainable.data.tokens import gold_of, token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.training.evaluation import CHOSEN_KINDS, best_constant, constant_logits, constant_scores
from panda_trainable.training.heads import HEADS
from panda_trainable.training.metrics import METRICS
from tests.kits.tasks import HEADED

Task = Callable[..., TaskSpec]
every_kind = pytest.mark.parametrize("kind", HEADED)


@every_kind
def test_the_reference_of_a_kind_is_scored_without_a_warning_and_beaten_by_perfection(
    library: PromptLibrary, setting: Setting, kind_task: Task, kind: str
) -> None:
    spec = kind_task(kind, metrics=tuple(m for m in METRIC_NAMES[kind] if m != "question_match"))
    table, rows = token_table(library, setting, spec, "train"), np.arange(40)
    logits = constant_logits(spec, best_constant(spec, table, rows), table, rows)
    assert logits.shape == (40, *HEADS[kind].shape(table, spec.outputs))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = {name: METRICS[name](logits, gold_of(table, spec, rows)) for name in spec.metrics}
    assert all(-1 <= score < 1 for score in scores.values())


@pytest.mark.parametrize(
    ("metric", "labels", "best"),
    [
        ("accuracy", [0, 0, 1], 0),
        ("accuracy", [1, 1, 0], 1),
        ("f1", [0, 0, 0, 1], 1),  # "no" to all finds nothing: F1 0; "yes" to all: 2/5
        ("matthews", [1, 1, 0], 1),  # every constant has 0: the most frequent
    ],
)
def test_the_best_constant_is_the_best_under_the_metric_on_the_given_rows(
    library: PromptLibrary, setting: Setting, kind_task: Task, metric: str, labels: list[int], best: int
) -> None:
    spec = kind_task("classification", metrics=(metric,))
    table = replace(token_table(library, setting, spec, "train"), labels=torch.tensor([*labels, 0, 0, 0, 0, 1, 1, 1]))
    rows = np.arange(len(labels))
    assert best_constant(spec, table, rows) == best
    assert constant_logits(spec, best, table, np.array([3, 0])).argmax(1).tolist() == [best] * 2


def test_the_best_constant_is_never_worse_on_its_rows_than_any_other(
    library: PromptLibrary, setting: Setting, kind_task: Task
) -> None:
    for kind in CHOSEN_KINDS:
        for name in METRIC_NAMES[kind]:
            if name == "question_match":
                continue
            spec, rows = kind_task(kind, metrics=(name,)), np.arange(30)
            table = token_table(library, setting, spec, "train")
            gold, count = gold_of(table, spec, rows), HEADS[kind].shape(table, spec.outputs)[-1]
            scores = [METRICS[name](constant_logits(spec, c, table, rows), gold) for c in range(count)]
            assert scores[best_constant(spec, table, rows)] == max(scores)


def test_the_reference_of_an_answer_is_the_passages_first_token(
    library: PromptLibrary, setting: Setting, kind_task: Task
) -> None:
    spec = kind_task("extractive_qa")
    table, rows = token_table(library, setting, spec, "train"), np.array([4, 9])
    logits = constant_logits(spec, best_constant(spec, table, rows), table, rows)
    firsts = table.answers[rows].int().argmax(1)
    assert logits[:, 0].argmax(1).tolist() == logits[:, 1].argmax(1).tolist() == firsts.tolist()
    assert ((logits == MASKED) == ~table.answers.numpy()[rows][:, None]).all()


def test_the_reference_of_a_regression_is_one_value_for_all(
    library: PromptLibrary, setting: Setting, kind_task: Task
) -> None:
    spec = kind_task("regression")
    table = token_table(library, setting, spec, "train")
    assert len(np.unique(constant_logits(spec, 0, table, np.arange(7)))) == 1


def test_each_seeds_constant_is_scored_on_its_own_selection_rows(
    library: PromptLibrary, setting: Setting, kind_task: Task
) -> None:
    spec = kind_task("classification")
    table = token_table(library, setting, spec, selection_split(setting, spec))
    replicas = [replica_rows(library, setting, spec, seed) for seed in (0, 1)]
    expected = []
    for rows in replicas:
        most = np.bincount(token_table(library, setting, spec, "train").labels.numpy()[rows.train]).argmax()
        expected.append(float((table.labels.numpy()[rows.selection] == most).mean()))
    assert constant_scores(library, setting, spec, replicas) == pytest.approx(expected)


def test_the_kinds_that_choose_are_those_of_classes_choices_and_tags() -> None:
    assert set(CHOSEN_KINDS) == set(HEADED) - {"regression", "extractive_qa"}

"""Scores of a student on rows of a task: what prediction needs, without a trainer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panda_trainable.config.setting import Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.data.tokens import gold_of, token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.training.metrics import METRICS
from panda_trainable.training.student import Student

Scores = dict[str, list[float]]
"""Metric -> [K]."""


def scores_on(
    student: Student, library: PromptLibrary, setting: Setting, split: str, rows: Sequence[NDArray[np.int64]],
    number: int = 0,
) -> tuple[Scores, list[NDArray[np.float32]]]:  # fmt: skip
    """Scores of each replica on its own rows, NaN where a logit is not finite, and [K] arrays of logits [n, …].

    Args:
        student: who predicts.
        library: where token tables come from.
        setting: PLM and rows.
        split: of the task.
        rows: [K] of the split.
        number: of the task, in a mixture.
    """
    task = student.task.tasks[number]
    table = token_table(library, setting, task, split)
    logits = student.logits(table, rows, number)
    pairs = [(made, gold_of(table, task, chosen)) for made, chosen in zip(logits, rows, strict=True)]
    finite = [bool(np.isfinite(made).all()) for made in logits]
    scores = {
        name: [METRICS[name](*pair) if ok else float("nan") for pair, ok in zip(pairs, finite, strict=True)]
        for name in task.metrics
    }
    return scores, logits


def report_scores(
    student: Student, library: PromptLibrary, setting: Setting
) -> tuple[Scores, NDArray[np.float32], NDArray[Any]]:
    """Scores on all report rows: metric -> [K], logits [K, N, …], gold [N]. For `confirm` and `train` alone."""
    task: TaskSpec = student.task.tasks[0]
    table = token_table(library, setting, task, task.report_split)
    rows = np.arange(len(table))
    scores, logits = scores_on(student, library, setting, task.report_split, [rows] * len(student.seeds))
    return scores, np.stack(logits), gold_of(table, task, rows)

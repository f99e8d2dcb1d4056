"""Scores on rows of a task, of a student and of the best constant answer: what prediction needs, without a trainer."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panda_trainable.config.setting import Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.data.gold import MASKED, UNWRITTEN
from panda_trainable.data.splits import Rows, selection_split
from panda_trainable.data.tokens import TokenTable, gold_of, token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.training.heads import HEADS
from panda_trainable.training.metrics import METRICS
from panda_trainable.training.student import Student

Scores = dict[str, list[float]]
"""Metric -> [K]."""


def scores_on(
    student: Student, library: PromptLibrary, setting: Setting, split: str, rows: Sequence[NDArray[np.int64]],
    number: int = 0,
) -> tuple[Scores, list[NDArray[Any]]]:  # fmt: skip
    """Scores of each replica on its own rows, NaN where a logit is not finite, and [K] arrays of logits [n, …] or texts [n].

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
    most = longest_answer(library, setting, task)
    said = student.predictions(table, rows, number, most=most)
    pairs = [(made, gold_of(table, task, chosen)) for made, chosen in zip(said, rows, strict=True)]
    finite = [is_finite(made) for made in said]
    scores = {
        name: [METRICS[name](*pair) if ok else float("nan") for pair, ok in zip(pairs, finite, strict=True)]
        for name in task.metrics
    }
    return scores, said


def is_finite(said: NDArray[Any]) -> bool:
    """Whether all logits are finite, or all texts come from such."""
    return bool((said != UNWRITTEN).all() if said.dtype.kind == "U" else np.isfinite(said).all())


def longest_answer(library: PromptLibrary, setting: Setting, task: TaskSpec) -> int:
    """Tokens that are written at most: of the longest answer that there is to learn; 0 where nothing is written."""
    if task.readout != "generation":
        return 0
    return token_table(library, setting, task, "train").labels.shape[1]


def report_scores(
    student: Student, library: PromptLibrary, setting: Setting
) -> tuple[Scores, NDArray[Any], NDArray[Any]]:
    """Scores on all report rows: metric -> [K], logits [K, N, …] or texts [K, N], gold [N]. For `confirm` and `train` alone."""
    task: TaskSpec = student.task.tasks[0]
    table = token_table(library, setting, task, task.report_split)
    rows = np.arange(len(table))
    scores, said = scores_on(student, library, setting, task.report_split, [rows] * len(student.seeds))
    return scores, np.stack(said), gold_of(table, task, rows)


CHOSEN_KINDS = ("classification", "multiple_choice", "tagging")
"""Kinds that have constant answers to choose from; others have one: a value, the passage's first token, or a text."""

Constant = int | str
"""A class, choice or tag, or the text that is written."""


def best_constant(task: TaskSpec, table: TokenTable, rows: NDArray[np.int64]) -> Constant:
    """The class, choice or tag that scores best when it is the answer to every train row; 0 of other kinds.

    Of texts that are written the most frequent, and of such the first. Under accuracy that is the most frequent one. Under a metric that gives it 0, as F1 does with the negative
    class, it is another. Among equals the most frequent.

    Args:
        task: its first metric decides.
        table: of the train split.
        rows: [n] its rows that may be looked at.
    """
    if task.kind == "generation":
        return Counter(gold.answers[0] for gold in gold_of(table, task, rows)).most_common(1)[0][0]
    if task.kind not in CHOSEN_KINDS:
        return 0
    labels = table.labels.numpy()[rows]
    outputs = _shape(task, table)[-1]
    frequent = np.bincount(labels[labels >= 0].ravel(), minlength=outputs)
    gold, metric = gold_of(table, task, rows), METRICS[task.metrics[0]]
    scores = [metric(constant_logits(task, answer, table, rows), gold) for answer in range(outputs)]
    return max(range(outputs), key=lambda answer: (scores[answer], frequent[answer]))


def constant_logits(task: TaskSpec, answer: Constant, table: TokenTable, rows: NDArray[np.int64]) -> NDArray[Any]:
    """[n, …] logits that give one answer to every row, whatever it says; or [n] the text.

    Args:
        task: the task.
        answer: of `best_constant`.
        table: whose rows are answered.
        rows: [n] of the table.
    """
    if isinstance(answer, str):
        return np.full(len(rows), answer)
    logits = np.zeros((len(rows), *_shape(task, table)), np.float32)
    if task.kind in CHOSEN_KINDS:
        logits[..., answer] = 1
    if task.kind == "extractive_qa":
        logits[~np.broadcast_to(table.answers.numpy()[rows][:, None], logits.shape)] = MASKED
    return logits


def _shape(task: TaskSpec, table: TokenTable) -> tuple[int, ...]:
    """The shape of one example's logits; a language model's own head scores classes or choices, or gives a value."""
    return (len(task.strata) or 1,) if task.asked else HEADS[task.kind].shape(table, task.outputs)


def constant_scores(library: PromptLibrary, setting: Setting, task: TaskSpec, replicas: Sequence[Rows]) -> list[float]:
    """[K] selection score of the best constant answer, chosen on each seed's train rows.

    Args:
        library: where token tables come from.
        setting: PLM and rows.
        task: the task.
        replicas: [K] their rows.
    """
    train = token_table(library, setting, task, "train")
    selected = token_table(library, setting, task, selection_split(setting, task))
    metric, scores = METRICS[task.metrics[0]], []
    for rows in replicas:
        logits = constant_logits(task, best_constant(task, train, rows.train), selected, rows.selection)
        scores.append(metric(logits, gold_of(selected, task, rows.selection)))
    return scores

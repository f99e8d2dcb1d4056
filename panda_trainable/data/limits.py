"""Rows of a split within the limit: whole questions, drawn without replacement."""

import numpy as np
from numpy.typing import NDArray

from panda_trainable.config.task import TaskSpec
from panda_trainable.data.rows import Example, Findings, examples, fingerprint
from panda_trainable.origins.texts import numbered


def kept_rows(task: TaskSpec, split: str, limit: int | None) -> tuple[list[Example], NDArray[np.int64]]:
    """The rows of a split within the limit, and the numbers of their questions."""
    found = list(examples(task, split, Findings()))
    if fingerprint(found) != dict(task.fingerprints)[split]:
        raise ValueError(f"{task.origin.place(split)}: changed since the plan was made; start the search again")
    questions = numbered([example.question for example in found]) if task.question else np.arange(len(found))
    kept = capped(questions, limit)
    return [found[i] for i in kept], questions[kept]


def capped(questions: NDArray[np.int64], limit: int | None) -> NDArray[np.int64]:
    """At most `limit` rows, drawn without replacement, the same each time, in file order, by whole questions.

    Args:
        questions: [N] rows of one number stay together.
        limit: None keeps all.
    """
    n = len(questions)
    if limit is None or limit >= n:
        return np.arange(n)
    names, members = np.unique(questions, return_inverse=True)
    sizes = np.bincount(members)
    drawn = np.random.default_rng(0).permutation(len(names))
    fits = np.cumsum(sizes[drawn]) <= limit
    fits[0] = True
    return np.flatnonzero(np.isin(members, drawn[fits]))

"""Train and selection rows of each replica, and the order in which it sees its training examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from panda_trainable.config.setting import Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.data.overlap import split_text_hashes
from panda_trainable.data.tokens import token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.origins.part import group_members, stratified_part

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

FOLD_PER_REPLICA_BELOW = 2000
"""Below this number of train rows each replica holds out its own fold, to average over the choice of a small fold."""

REGRESSION_STRATA = 5
"""Quantile bins of the labels of a regression, used as strata."""


@dataclass(frozen=True)
class Rows:
    """Which rows of the train table a replica trains on and which it holds out.

    Attributes:
        train: row numbers of the train table.
        selection: row numbers of the table used for selection: train, or validation with `protocol: paper`.
    """

    train: Indices
    selection: Indices


def replica_rows(
    library: PromptLibrary, setting: Setting, task: TaskSpec, seed: int, exclude_overlap_with: TaskSpec | None = None
) -> Rows:
    """The train and selection rows of a replica.

    Below 2,000 train rows each seed holds out its own fold, otherwise all seeds hold out the same one.
    With `protocol: paper` the whole train split is used for training and validation for selection. With
    shots each seed samples that many rows per class for training, and as many others for selection.

    Args:
        library: provides the token tables.
        setting: limits, protocol and selection fraction.
        task: the task to split.
        seed: of the replica.
        exclude_overlap_with: a target; rows that share a text with its report rows are excluded from training.

    Raises:
        ValueError: if a class has too few rows.
    """
    table = token_table(library, setting, task, "train")
    strata = _strata(task, table.labels)
    paper = setting.protocol == "paper"
    eligible: Mask = np.ones(len(table), bool)
    if exclude_overlap_with is not None:
        overlaps = np.isin(
            table.texts, split_text_hashes(library, exclude_overlap_with, exclude_overlap_with.report_split, None)
        )
        eligible = ~np.asarray(overlaps.any(axis=1))
    if setting.shots:
        train, held_out = sample_few_shot(
            task, strata, table.groups, setting.shots, seed, with_selection=not paper, eligible=eligible
        )
    elif paper:
        train, held_out = eligible, np.zeros(len(table), bool)
    else:
        fold = seed if len(table) < FOLD_PER_REPLICA_BELOW else 0
        holdout_size = min(round(setting.selection.fraction * len(table)), setting.selection.max_rows)
        held_out = held_out_rows(strata, table.groups, holdout_size, fold, task.strata)
        train = ~held_out & eligible
    if exclude_overlap_with is not None and set(strata[train]) != set(strata):
        raise ValueError(
            f"without the {int((~eligible).sum())} rows of {task.name} that share a text with {exclude_overlap_with.name}'s "
            "report rows a class would have no row left; use overlap: warn, or leave the pair out"
        )
    if paper:
        selection = np.arange(len(token_table(library, setting, task, selection_split(setting, task))))
        return Rows(np.flatnonzero(train), selection)
    return Rows(np.flatnonzero(train), np.flatnonzero(held_out))


def selection_split(setting: Setting, task: TaskSpec) -> str:
    """The split that contains the selection rows."""
    splits = dict(task.fingerprints)
    if setting.protocol != "paper":
        return "train"
    return "validation" if "validation" in splits else "test"


def _strata(task: TaskSpec, labels: Tensor) -> Indices:
    """[N] stratum of each row: class or choice, quintile of a regression label, otherwise a single stratum."""
    values = labels.numpy()
    if task.strata:
        return np.asarray(values)
    if task.kind != "regression":
        return np.zeros(len(values), np.int64)
    edges = np.quantile(values, np.linspace(0, 1, REGRESSION_STRATA + 1)[1:-1])
    return np.searchsorted(edges, values, side="right")


def sample_few_shot(
    task: TaskSpec,
    strata: Indices,
    groups: Indices,
    shots: int,
    seed: int,
    *,
    with_selection: bool,
    eligible: Mask | None = None,
) -> tuple[Mask, Mask]:
    """Few-shot train and selection sets, stratified by class; rows that share a text stay in one set.

    Args:
        task: for error messages.
        strata: [N] class of each row; quintiles for regression, one stratum for tagging and question answering.
        groups: [N] group of each row; a group is sampled into one set only.
        shots: rows per class.
        seed: of the sample.
        with_selection: whether to sample a selection set too.
        eligible: [N] rows that may be sampled; None: all.

    Returns:
        [N] masks of the train set and of the selection set.

    Raises:
        ValueError: if a class has too few rows.

    Source: Gao et al., LM-BFF (arXiv:2012.15723): K rows per class, and a development set of the same size.
    """
    classes, strata = np.unique(strata, return_inverse=True)
    subsets = np.zeros((2, len(strata)), bool)  # train and selection
    quota = np.full((2, len(classes)), shots)
    quota[1] *= with_selection
    generator, members = np.random.default_rng([seed, 3]), group_members(groups)
    for group in generator.permutation(len(members)):
        rows = members[group] if eligible is None else members[group][eligible[members[group]]]
        class_counts = np.bincount(strata[rows], minlength=len(classes))
        subset = int(np.minimum(quota, class_counts).sum(1).argmax())  # the one that can use more of these rows
        for row in generator.permutation(rows):
            if quota[subset, strata[row]]:
                quota[subset, strata[row]] -= 1
                subsets[subset, row] = True
    if quota.any():
        short = int(quota.max(0).argmax())
        available = int((strata == short).sum())
        stratum = f"class {task.strata[int(classes[short])]}" if task.strata else f"a fifth of {task.name}'s values"
        stratum = stratum if task.strata or task.kind == "regression" else task.name
        raise ValueError(
            f"shots.per_class {shots} needs {shots} rows to train on{' and as many to select on' if with_selection else ''}, "
            f"but {stratum} has {available}, of which some share a text or are taken; lower shots.per_class"
        )
    return subsets[0], subsets[1]


def held_out_rows(strata: Indices, groups: Indices, size: int, seed: int, names: Sequence[str] = ()) -> Mask:
    """A stratified random holdout of whole groups.

    Args:
        strata: [N] class of each row.
        groups: [N] rows of one group stay together.
        size: rows to hold out, proportionally from each class, at least one.
        seed: of the sample.
        names: of the classes, for error messages.

    Returns:
        [N] mask of the held-out rows.

    Raises:
        ValueError: if no row of a class could be held out, or none would be left to train on.
    """
    held_out = stratified_part(strata, groups, size, seed)
    classes, strata = np.unique(strata, return_inverse=True)
    counts = np.bincount(strata)
    missing = [c for c in range(len(classes)) if not held_out[strata == c].any() or held_out[strata == c].all()]
    if missing:
        class_name = names[int(classes[missing[0]])] if names else classes[missing[0]]
        raise ValueError(
            f"selection and training both need rows of every class, but class {class_name} has "
            f"{counts[missing[0]]} rows, of which {int(held_out[strata == missing[0]].sum())} would be held out; "
            + (
                "bring more rows of it, say rare_classes: drop or other, or use protocol: paper"
                if counts[missing[0]] < 2
                else "raise selection.fraction or limit.train, or use protocol: paper"
            )
        )
    return held_out


def batches(rows: Indices, seed: int, steps: int, batch_size: int) -> Indices:
    """[steps, B] row numbers: consecutive epochs, each a new permutation of all rows, determined by the seed."""
    return data_order(rows, seed, steps * batch_size).reshape(steps, batch_size)


def data_order(rows: Indices, seed: int, count: int) -> Indices:
    """[count] row numbers in the order in which a replica trains on them, reshuffled every epoch by the seed."""
    generator = np.random.default_rng([seed, 2])
    epochs = -(-count // len(rows))
    return np.concatenate([rows[:0], *(generator.permutation(rows) for _ in range(epochs))])[:count]


def mixing_size(task: TaskSpec, rows: int, shots: int) -> int:
    """Size of a task for examples-proportional mixing: its train rows, or the few-shot sample of one seed."""
    strata = len(task.strata) or (REGRESSION_STRATA if task.kind == "regression" else 1)
    return min(rows, shots * strata) if shots else rows


def mixture_schedule(sizes: Sequence[int], cap: int, count: int) -> Indices:
    """[count] task number of each example of a mixture.

    Tasks are sampled in proportion to their capped sizes and spread evenly: after any number of examples
    each is within one example of its share. All replicas use this one order.

    Args:
        sizes: [M] rows of each task, > 0.
        cap: upper limit on the size of a task, K in the equation below.
        count: number of examples.

    Source: T5 and SPoT (arXiv:2110.07904), examples-proportional mixing: rate_m = min(N_m, K) / Σ min(N_j, K).
    Deviation: evenly spaced instead of random; docs/deviations.md#mixtures.
    """
    capped = [min(size, cap) for size in sizes]
    total = sum(capped)
    scheduled, task_numbers = [0] * len(capped), np.zeros(count, np.int64)
    # Earliest deadline first: the j-th example of a task (from 0) is released once the task's share reaches j, and due
    # before its share exceeds j + 1. Every deadline is met, since the shares sum to 1.
    released = [(-(-total // size), task) for task, size in enumerate(capped)]  # heap of (deadline, task)
    heapify(released)
    waiting: list[tuple[int, int]] = []  # heap of (release time, task)
    for position in range(count):
        while waiting and waiting[0][0] <= position:
            task = heappop(waiting)[1]
            heappush(released, (-(-(scheduled[task] + 1) * total // capped[task]), task))
        task_numbers[position] = task = heappop(released)[1]
        scheduled[task] += 1
        heappush(waiting, (scheduled[task] * total // capped[task], task))
    return task_numbers

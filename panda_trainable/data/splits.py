"""Which rows of a task a replica trains on, which it holds out, and in which order it sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from panda_trainable.config.setting import Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.data.overlap import used_texts
from panda_trainable.data.tokens import token_table
from panda_trainable.library import PromptLibrary

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]

FOLD_PER_REPLICA_BELOW = 2000
"""Train rows below which each replica holds out its own fold: one small fold would decide too much."""

REGRESSION_STRATA = 5


@dataclass(frozen=True)
class Rows:
    """Which rows of the train table a replica trains on and which it holds out.

    Attributes:
        train: row numbers of the train table.
        selection: row numbers of the table that selection reads: train, or validation for `paper`.
    """

    train: Numbers
    selection: Numbers


def replica_rows(
    library: PromptLibrary, setting: Setting, task: TaskSpec, seed: int, exclude_overlap_with: TaskSpec | None = None
) -> Rows:
    """The train and selection rows of a replica.

    Below 2,000 train rows each seed holds out its own fold, else all seeds the same one. With
    `protocol: paper` all of train is trained on and validation selects. With shots each seed draws
    so many rows of each class to train on, and as many others to select on.

    Args:
        library: where token tables come from.
        setting: how rows are limited and split.
        task: whose rows.
        seed: of the replica.
        exclude_overlap_with: a target; rows that share a text with its report rows are not trained on.

    Raises:
        ValueError: if a class is too small for its share.
    """
    table = token_table(library, setting, task, "train")
    strata = _strata(task, table.labels)
    paper = setting.protocol == "paper"
    usable: Flags = np.ones(len(table), bool)
    if exclude_overlap_with is not None:
        shared = np.isin(
            table.texts, used_texts(library, exclude_overlap_with, exclude_overlap_with.report_split, None)
        )
        usable = ~np.asarray(shared.any(axis=1))
    if setting.shots:
        train, held_out = drawn_shots(task, strata, table.groups, setting.shots, seed, selects=not paper, usable=usable)
    elif paper:
        train, held_out = usable, np.zeros(len(table), bool)
    else:
        fold = seed if len(table) < FOLD_PER_REPLICA_BELOW else 0
        wanted = min(round(setting.selection.fraction * len(table)), setting.selection.max_rows)
        held_out = held_out_rows(strata, table.groups, wanted, fold, task.strata)
        train = ~held_out & usable
    if exclude_overlap_with is not None and set(strata[train]) != set(strata):
        raise ValueError(
            f"without the {int((~usable).sum())} rows of {task.name} that share a text with {exclude_overlap_with.name}'s report rows "
            "a class would have no row left; use overlap: warn, or leave the pair out"
        )
    if paper:
        selection = np.arange(len(token_table(library, setting, task, selection_split(setting, task))))
        return Rows(np.flatnonzero(train), selection)
    return Rows(np.flatnonzero(train), np.flatnonzero(held_out))


def selection_split(setting: Setting, task: TaskSpec) -> str:
    """The split whose rows the search looks at."""
    splits = dict(task.fingerprints)
    if setting.protocol != "paper":
        return "train"
    return "validation" if "validation" in splits else "test"


def _strata(task: TaskSpec, labels: Tensor) -> Numbers:
    """[N] class or choice numbers, fifths of the values of a regression, else one stratum."""
    values = labels.numpy()
    if task.strata:
        return np.asarray(values)
    if task.kind != "regression":
        return np.zeros(len(values), np.int64)
    edges = np.quantile(values, np.linspace(0, 1, REGRESSION_STRATA + 1)[1:-1])
    return np.searchsorted(edges, values, side="right")


def drawn_shots(
    task: TaskSpec,
    strata: Numbers,
    groups: Numbers,
    shots: int,
    seed: int,
    *,
    selects: bool,
    usable: Flags | None = None,
) -> tuple[Flags, Flags]:
    """Few rows of each class to train on, and as many to select on; rows that share a text stay on one side.

    Args:
        task: for messages.
        strata: [N] class of each row; regressions have fifths, tagging and answers one stratum.
        groups: [N] rows of one group are drawn for one side only.
        shots: rows of each class.
        seed: of the draw.
        selects: whether selection rows are wanted.
        usable: [N] rows that may be drawn; None: all.

    Returns:
        [N] booleans: trained on, and held out.

    Raises:
        ValueError: if a class has too few rows.

    Source: Gao et al., LM-BFF (arXiv:2012.15723): K rows of each class, and a development set of the same size.
    """
    classes, strata = np.unique(strata, return_inverse=True)
    sides = np.zeros((2, len(strata)), bool)
    left = np.full((2, len(classes)), shots)
    left[1] *= selects
    generator, members = np.random.default_rng([seed, 3]), _members(groups)
    for group in generator.permutation(len(members)):
        rows = members[group] if usable is None else members[group][usable[members[group]]]
        brought = np.bincount(strata[rows], minlength=len(classes))
        side = int(np.minimum(left, brought).sum(1).argmax())  # the one that needs more of it
        for row in generator.permutation(rows):
            if left[side, strata[row]]:
                left[side, strata[row]] -= 1
                sides[side, row] = True
    if left.any():
        short = int(left.max(0).argmax())
        there = int((strata == short).sum())
        named = f"class {task.strata[int(classes[short])]}" if task.strata else f"a fifth of {task.name}'s values"
        named = named if task.strata or task.kind == "regression" else task.name
        raise ValueError(
            f"shots.per_class {shots} needs {shots} rows to train on{' and as many to select on' if selects else ''}, but "
            f"{named} has {there}, of which some share a text or are taken; lower shots.per_class"
        )
    return sides[0], sides[1]


def _members(groups: Numbers) -> list[Numbers]:
    """Group number -> its rows."""
    return np.split(np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))[:-1])


def held_out_rows(strata: Numbers, groups: Numbers, wanted: int, seed: int, names: Sequence[str] = ()) -> Flags:
    """A stratified draw of whole groups.

    Args:
        strata: [N] class of each row.
        groups: [N] rows of one group stay together.
        wanted: rows to hold out; each class gets its share, at least one row.
        seed: of the draw.
        names: of the classes, for messages.

    Returns:
        [N] booleans: held out.

    Raises:
        ValueError: if no row of a class could be held out, or none would be left to train on.
    """
    classes, strata = np.unique(strata, return_inverse=True)
    counts = np.bincount(strata)
    quota = np.maximum(np.round(counts * wanted / len(strata)), 1).astype(int)
    members = _members(groups)
    held_out = np.zeros(len(strata), bool)
    for group in np.random.default_rng([seed, 1]).permutation(len(members)):
        brought = np.bincount(strata[members[group]], minlength=len(counts))
        if (brought <= quota).all():
            held_out[members[group]] = True
            quota = quota - brought
    missing = [c for c in range(len(classes)) if not held_out[strata == c].any() or held_out[strata == c].all()]
    if missing:
        named = names[int(classes[missing[0]])] if names else classes[missing[0]]
        raise ValueError(
            f"selection and training both need rows of every class, but class {named} has "
            f"{counts[missing[0]]} rows, of which {int(held_out[strata == missing[0]].sum())} would be held out; "
            "raise selection.fraction or limit.train, or use protocol: paper"
        )
    return held_out


def batches(rows: Numbers, seed: int, steps: int, batch_size: int) -> Numbers:
    """[steps, B] row numbers: epoch after epoch, each a new order of all rows, decided by the seed."""
    return stream(rows, seed, steps * batch_size).reshape(steps, batch_size)


def stream(rows: Numbers, seed: int, count: int) -> Numbers:
    """[count] row numbers in the order in which a replica meets them; the seed decides it."""
    generator = np.random.default_rng([seed, 2])
    epochs = -(-count // len(rows))
    return np.concatenate([rows[:0], *(generator.permutation(rows) for _ in range(epochs))])[:count]


def mixing_size(task: TaskSpec, rows: int, shots: int) -> int:
    """Rows of a task that count where tasks are mixed: all of its train table, or those that a seed draws."""
    strata = len(task.strata) or (REGRESSION_STRATA if task.kind == "regression" else 1)
    return min(rows, shots * strata) if shots else rows


def mixed(sizes: Sequence[int], cap: int, count: int) -> Numbers:
    """[count] the task of each example of a mixture, by number.

    Tasks take part in proportion to their sizes, and evenly over time: after any number of examples
    each is within one of its share. All replicas meet the tasks in this one order.

    Args:
        sizes: [M] rows of each task, > 0.
        cap: rows of a task that count at most.
        count: examples.

    Source: T5 and SPoT (arXiv:2110.07904), examples-proportional mixing: rate_m = min(N_m, K) / Σ min(N_j, K).
    Deviation: drawn evenly instead of at random; docs/deviations.md#mixtures.
    """
    capped = [min(size, cap) for size in sizes]
    whole = sum(capped)
    met, owners = [0] * len(capped), np.zeros(count, np.int64)
    # The j-th example of a task, from 0, may come once its share has passed j and must before it passes j + 1: of
    # those that may come the most pressing does. All then are in time, since the shares sum to 1.
    pressing = [(-(-whole // size), task) for task, size in enumerate(capped)]
    heapify(pressing)
    later: list[tuple[int, int]] = []
    for at in range(count):
        while later and later[0][0] <= at:
            task = heappop(later)[1]
            heappush(pressing, (-(-(met[task] + 1) * whole // capped[task]), task))
        owners[at] = task = heappop(pressing)[1]
        met[task] += 1
        heappush(later, (met[task] * whole // capped[task], task))
    return owners

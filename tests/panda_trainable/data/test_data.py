"""Rows: split honestly, drawn in an order that the seed alone decides, few of each class, and apart from a target's."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from panda_trainable.config.setting import Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.data.splits import (
    FOLD_PER_REPLICA_BELOW,
    batches,
    held_out_rows,
    replica_rows,
    sample_few_shot,
    selection_split,
)
from panda_trainable.data.tokens import token_table
from panda_trainable.library import PromptLibrary
from tests.kits.tasks import HEADED, own_task

Task = Callable[..., TaskSpec]
SINGLE = TaskSpec("s", "classification", ("a",), "label", ("red", "green"), ("accuracy",))
THREE = replace(SINGLE, classes=("red", "green", "blue"))


def classed(counts: Sequence[int], texts: Callable[[int], str] = lambda i: f"w{i} x{i}") -> list[dict[str, object]]:
    """So many rows of each class, in a mixed order, each with a text of its own."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    return [{"a": texts(i), "label": int(label)} for i, label in enumerate(labels)]


# folds


@pytest.mark.parametrize("seed", range(4))
def test_selection_rows_are_disjoint_from_train_rows_and_stratified(
    library: PromptLibrary, setting: Setting, task: Task, seed: int
) -> None:
    spec = task("t", classes=3)
    rows, labels = replica_rows(library, setting, spec, seed), token_table(library, setting, spec, "train").labels
    assert sorted([*rows.train, *rows.selection]) == list(range(60))
    assert np.bincount(labels[rows.selection]).tolist() == [4, 4, 4]


@pytest.mark.parametrize("kind", HEADED)
def test_every_kind_is_split_and_each_seed_has_its_own_fold(
    library: PromptLibrary, setting: Setting, kind_task: Task, kind: str
) -> None:
    spec = kind_task(kind)
    folds = [replica_rows(library, setting, spec, seed) for seed in (0, 1)]
    for rows in folds:
        assert sorted([*rows.train, *rows.selection]) == list(range(60))
        assert len(rows.selection) == {"regression": 5 * 2}.get(kind, 12)  # a fifth, of a regression's fifths each
    assert folds[0].selection.tolist() != folds[1].selection.tolist()


def test_a_multiple_choice_is_stratified_by_the_number_of_the_right_choice(
    library: PromptLibrary, setting: Setting, kind_task: Task
) -> None:
    spec = kind_task("multiple_choice")
    labels = token_table(library, setting, spec, "train").labels
    assert np.bincount(labels[replica_rows(library, setting, spec, 0).selection]).tolist() == [4, 4, 4]


@pytest.mark.parametrize("seed", range(10))
def test_rows_that_share_a_text_stay_together(seed: int) -> None:
    generator = np.random.default_rng(seed)
    groups = np.unique(generator.integers(0, 60, 120), return_inverse=True)[1]
    strata = generator.integers(0, 3, 120)
    held_out = held_out_rows(strata, groups, 24, seed)
    assert (np.bincount(strata[held_out]) <= np.round(np.bincount(strata) * 24 / 120)).all()
    assert held_out.sum() > 12
    assert not set(groups[held_out]) & set(groups[~held_out])


def test_a_class_too_rare_to_be_held_out_is_refused_with_its_count() -> None:
    strata = np.array([0] * 20 + [1])
    with pytest.raises(ValueError, match=r"class 1 has 1 rows, of which 1 would be held out; bring more"):
        held_out_rows(strata, np.arange(21), 4, 0)


def test_a_class_too_rare_to_be_held_out_is_refused_by_its_name(
    library: PromptLibrary, setting: Setting, tmp_path: Path
) -> None:
    spec = own_task(tmp_path / "own", THREE, classed([20, 1, 20]))
    with pytest.raises(ValueError, match=r"but class green has 1 rows, of which 1 would be held out; bring more"):
        replica_rows(library, setting, spec, 0)
    choices = replace(SINGLE, kind="multiple_choice", classes=(), choices=("left", "right"))
    rows = [{**row, "left": f"w{i}", "right": f"w{i} w1"} for i, row in enumerate(classed([20, 1]))]
    with pytest.raises(ValueError, match=r"but class right has 1 rows"):
        replica_rows(library, setting, own_task(tmp_path / "own", replace(choices, name="c"), rows), 0)


def test_a_class_whose_rows_are_one_text_is_refused_by_its_name(
    library: PromptLibrary, setting: Setting, tmp_path: Path
) -> None:
    rows = [{"a": f"w1 x{i}" if i % 2 else "the same", "label": i % 2} for i in range(40)]
    with pytest.raises(ValueError, match=r"but class red has 20 rows, of which 0 would be held out"):
        replica_rows(library, setting, own_task(tmp_path / "own", SINGLE, rows), 0)


def test_a_regression_is_held_out_from_every_fifth_of_its_values(
    library: PromptLibrary, setting: Setting, task: Task
) -> None:
    spec = task("r", kind="regression")
    values = token_table(library, setting, spec, "train").labels.numpy()
    chosen = np.argsort(np.argsort(values))[replica_rows(library, setting, spec, 0).selection] // 12
    assert np.bincount(chosen, minlength=5).tolist() == [2] * 5


def test_below_the_bound_each_replica_has_its_own_fold_and_above_all_have_one(
    library: PromptLibrary, setting: Setting, task: Task
) -> None:
    few, many = (task(f"n{n}", n=n) for n in (FOLD_PER_REPLICA_BELOW - 1, FOLD_PER_REPLICA_BELOW))
    folds = {
        spec.name: [tuple(replica_rows(library, setting, spec, s).selection) for s in (0, 1)] for spec in (few, many)
    }
    assert folds[few.name][0] != folds[few.name][1]
    assert folds[many.name][0] == folds[many.name][1]


def test_the_number_of_selection_rows_is_bounded(library: PromptLibrary, setting: Setting, task: Task) -> None:
    rows = replica_rows(library, replace(setting, selection=replace(setting.selection, max_rows=6)), task("t"), 0)
    assert len(rows.selection) == 6
    assert len(rows.train) == 54


def test_protocol_paper_trains_on_all_rows_and_selects_on_validation(
    library: PromptLibrary, setting: Setting, task: Task
) -> None:
    paper, spec = replace(setting, protocol="paper"), task("t")
    rows = replica_rows(library, paper, spec, 0)
    assert rows.train.tolist() == list(range(60))
    assert rows.selection.tolist() == list(range(24))
    assert (selection_split(setting, spec), selection_split(paper, spec)) == ("train", "validation")


# few shots


@pytest.mark.parametrize("shots", [1, 4, 10])
def test_shots_are_exactly_so_many_rows_of_each_class_on_both_sides(
    library: PromptLibrary, setting: Setting, tmp_path: Path, shots: int
) -> None:
    spec, few = own_task(tmp_path / "own", THREE, classed([20, 31, 60])), replace(setting, shots=shots)
    labels, draws = token_table(library, setting, spec, "train").labels, []
    for seed in range(3):
        rows = replica_rows(library, few, spec, seed)
        assert np.bincount(labels[rows.train]).tolist() == [shots] * 3
        assert np.bincount(labels[rows.selection]).tolist() == [shots] * 3
        assert not set(rows.train) & set(rows.selection)
        draws.append((rows.train.tolist(), rows.selection.tolist()))
        again = replica_rows(library, few, spec, seed)
        assert (again.train.tolist(), again.selection.tolist()) == draws[-1]
    assert draws[0] != draws[1] != draws[2]


@pytest.mark.parametrize(
    ("kind", "strata"), [("regression", 5), ("multiple_choice", 3), ("tagging", 1), ("extractive_qa", 1)]
)
def test_shots_of_other_kinds_are_of_fifths_choices_or_all(
    library: PromptLibrary, setting: Setting, kind_task: Task, kind: str, strata: int
) -> None:
    rows = replica_rows(library, replace(setting, shots=3), kind_task(kind), 0)
    assert (len(rows.train), len(rows.selection)) == (3 * strata, 3 * strata)


def test_shots_of_a_regression_are_of_every_fifth_of_its_values(
    library: PromptLibrary, setting: Setting, kind_task: Task
) -> None:
    spec = kind_task("regression")
    values = token_table(library, setting, spec, "train").labels.numpy()
    rows = replica_rows(library, replace(setting, shots=3), spec, 0)
    for side in (rows.train, rows.selection):
        assert np.bincount(np.argsort(np.argsort(values))[side] // 12).tolist() == [3] * 5


def test_shots_under_protocol_paper_draw_train_rows_and_select_on_validation(
    library: PromptLibrary, setting: Setting, task: Task
) -> None:
    rows = replica_rows(
        library, replace(setting, shots=30, protocol="paper"), task("t"), 0
    )  # all 30 rows of each class
    assert rows.train.tolist() == list(range(60))
    assert rows.selection.tolist() == list(range(24))


@pytest.mark.parametrize("seed", range(5))
def test_shots_that_need_every_row_are_drawn(seed: int) -> None:
    strata = np.repeat([0, 1, 2], 8)
    train, held_out = sample_few_shot(THREE, strata, np.arange(24), 4, seed, with_selection=True)
    assert (train ^ held_out).all()
    assert np.bincount(strata[train]).tolist() == [4, 4, 4]
    triples = np.tile(np.arange(8), 3)  # a premise with a hypothesis of each class
    train, held_out = sample_few_shot(THREE, strata, triples, 4, seed, with_selection=True)
    assert np.bincount(strata[train]).tolist() == [4, 4, 4]
    assert not set(triples[train]) & set(triples[held_out])


@pytest.mark.parametrize("seed", range(10))
def test_shots_that_share_a_text_stay_on_one_side(seed: int) -> None:
    generator = np.random.default_rng(seed)
    groups = np.unique(generator.integers(0, 150, 200), return_inverse=True)[1]
    strata = generator.integers(0, 2, 200)
    train, held_out = sample_few_shot(SINGLE, strata, groups, 8, seed, with_selection=True)
    assert np.bincount(strata[train]).tolist() == np.bincount(strata[held_out]).tolist() == [8, 8]
    assert not set(groups[train]) & set(groups[held_out])


def test_shots_of_rows_that_share_texts_in_large_groups_are_drawn() -> None:
    # ten passages of six questions each, as MultiRC and SQuAD have them: no passage fits four rows whole
    groups, strata = np.repeat(np.arange(10), 6), np.tile([0, 1], 30)
    train, held_out = sample_few_shot(SINGLE, strata, groups, 4, 0, with_selection=True)
    assert np.bincount(strata[train]).tolist() == np.bincount(strata[held_out]).tolist() == [4, 4]
    assert not set(groups[train]) & set(groups[held_out])
    train, _ = sample_few_shot(SINGLE, strata, groups, 2, 0, with_selection=False)
    assert np.bincount(strata[train]).tolist() == [2, 2]


def test_a_class_of_too_few_rows_for_its_shots_is_refused_by_its_name(
    library: PromptLibrary, setting: Setting, tmp_path: Path
) -> None:
    spec, few = own_task(tmp_path / "own", THREE, classed([20, 7, 20])), replace(setting, shots=4)
    told = (
        r"shots.per_class 4 needs 4 rows to train on and as many to select on, but class green has 7, .*"
        r"lower shots.per_class"
    )
    with pytest.raises(ValueError, match=told):
        replica_rows(library, few, spec, 0)
    assert len(replica_rows(library, replace(few, protocol="paper"), spec, 0).train) == 12
    with pytest.raises(ValueError, match=r"needs 8 rows to train on, but class green has 7"):
        replica_rows(library, replace(few, shots=8, protocol="paper"), spec, 0)


@pytest.mark.parametrize("kind", ["tagging", "extractive_qa"])
def test_too_few_rows_of_a_task_without_classes_are_refused_without_a_class(
    library: PromptLibrary, setting: Setting, kind_task: Task, kind: str
) -> None:
    with pytest.raises(ValueError, match=r"shots.per_class 31 needs 31 rows .* 60") as refusal:
        replica_rows(library, replace(setting, shots=31), kind_task(kind), 0)
    assert "of the values" not in str(refusal.value)


def test_shots_and_source_shots_are_those_of_the_role(library: PromptLibrary, setting: Setting, task: Task) -> None:
    both = replace(setting, shots=2, source_shots=5)
    assert len(replica_rows(library, both.of_targets, task("t"), 0).train) == 2 * 2
    assert len(replica_rows(library, both.of_sources, task("t"), 0).train) == 2 * 5


# apart from a target


@pytest.fixture
def overlapping(tmp_path: Path) -> tuple[TaskSpec, TaskSpec]:
    """A source of 20 rows, and a target whose report rows have the texts of its rows 3, 4 and 11."""
    source = [{"a": f"W{i} source", "label": i % 2} for i in range(20)]
    shared = [{"a": text, "label": 1} for text in ("w3 SOURCE.", " w4  source", "w11 source", "w5 target")]
    target = [{"a": f"w{i} target", "label": i % 2} for i in range(12)]
    return (
        own_task(tmp_path / "own", replace(SINGLE, name="source"), source),
        own_task(tmp_path / "own", replace(SINGLE, name="target"), target, [*shared, {"a": "w6 target", "label": 0}]),
    )


@pytest.mark.parametrize("seed", range(4))
def test_rows_shared_with_a_targets_report_rows_are_dropped_from_train_and_nothing_else(
    library: PromptLibrary, setting: Setting, overlapping: tuple[TaskSpec, TaskSpec], seed: int
) -> None:
    source, target = overlapping
    whole = replica_rows(library, setting, source, seed)
    apart = replica_rows(library, setting, source, seed, target)
    assert apart.train.tolist() == [row for row in whole.train if row not in (3, 4, 11)]
    assert apart.selection.tolist() == whole.selection.tolist()


def test_under_protocol_paper_all_shared_rows_are_dropped(
    library: PromptLibrary, setting: Setting, overlapping: tuple[TaskSpec, TaskSpec]
) -> None:
    source, target = overlapping
    rows = replica_rows(library, replace(setting, protocol="paper"), source, 0, target)
    assert rows.train.tolist() == [row for row in range(20) if row not in (3, 4, 11)]
    assert len(rows.selection) == 20


def test_report_rows_beyond_the_limit_count_too(
    library: PromptLibrary, setting: Setting, overlapping: tuple[TaskSpec, TaskSpec]
) -> None:
    source, target = overlapping
    few = replace(setting, limit=replace(setting.limit, report=1), protocol="paper")
    assert len(replica_rows(library, few, source, 0, target).train) == 17


def test_shots_apart_from_a_target_are_still_so_many_of_each_class(
    library: PromptLibrary, setting: Setting, overlapping: tuple[TaskSpec, TaskSpec]
) -> None:
    source, target = overlapping
    labels = token_table(library, setting, source, "train").labels
    for seed in range(4):
        rows = replica_rows(library, replace(setting, shots=4), source, seed, target)
        assert not set(rows.train) & {3, 4, 11}
        assert np.bincount(labels[rows.train]).tolist() == [4, 4]


@pytest.mark.parametrize("text", [0, 1])
def test_a_row_is_shared_where_either_of_its_texts_is(
    library: PromptLibrary, setting: Setting, tmp_path: Path, text: int
) -> None:
    pair = replace(SINGLE, text=("a", "b"))
    source = [{"a": f"left {i}", "b": f"right {i}", "label": i % 2} for i in range(20)]
    shared = ["left 7", "right 7"][text]
    target = [{"a": f"w{i}", "b": shared if i == 4 else f"x{i}", "label": i % 2} for i in range(8)]
    specs = [own_task(tmp_path / "own", replace(pair, name=n), rows) for n, rows in (("s", source), ("t", target))]
    rows = replica_rows(library, replace(setting, protocol="paper"), specs[0], 0, specs[1])
    assert rows.train.tolist() == [row for row in range(20) if row != 7]


def test_a_category_that_both_tasks_have_is_no_shared_text(
    library: PromptLibrary, setting: Setting, tmp_path: Path
) -> None:
    def rows(name: str) -> list[dict[str, object]]:
        return [{"a": f"{name} {i}", "topic": f"topic {i % 3}", "label": i % 2} for i in range(30)]

    specs = [own_task(tmp_path / "own", replace(SINGLE, name=n, text=("topic", "a")), rows(n)) for n in ("s", "t")]
    apart = replica_rows(library, replace(setting, protocol="paper"), specs[0], 0, specs[1])
    assert len(apart.train) == 30  # grouping leaves a field out that ties a quarter of the rows


def test_a_class_that_would_vanish_is_refused_with_both_tasks(
    library: PromptLibrary, setting: Setting, tmp_path: Path
) -> None:
    source = own_task(tmp_path / "own", replace(SINGLE, name="source"), classed([10, 10]))
    rows = [{"a": f"w{i} x{i}", "label": i % 2} for i in range(20)]
    red = {row["a"] for row in classed([10, 10]) if row["label"] == 0}
    target = own_task(tmp_path / "own", replace(SINGLE, name="target"), rows, [r for r in rows if r["a"] in red])
    told = (
        r"without the 10 rows of source that share a text with target's report rows a class would have no row left; "
        r"use overlap: warn, or leave the pair out"
    )
    with pytest.raises(ValueError, match=told):
        replica_rows(library, replace(setting, protocol="paper"), source, 0, target)


@pytest.mark.parametrize("kind", HEADED)
def test_a_task_that_is_all_in_the_report_rows_is_refused_whatever_its_kind(
    library: PromptLibrary, setting: Setting, kind_task: Task, tmp_path: Path, kind: str
) -> None:
    spec = kind_task(kind)
    train = Path(spec.origin.place("train"))
    own = kind_task(kind, "same")
    Path(own.origin.place("validation")).write_text(train.read_text())
    fingerprints = (("train", ""), ("validation", dict(spec.fingerprints)["train"]))
    with pytest.raises(ValueError, match=r"rows of k that share a text with same's report rows a class would have no"):
        replica_rows(library, setting, spec, 0, replace(own, fingerprints=fingerprints))


# order


def test_an_epoch_shows_every_row_once_and_the_next_in_another_order() -> None:
    rows = np.array([3, 5, 8, 13, 21, 34])
    order = batches(rows, seed=0, steps=6, batch_size=2).reshape(2, 6)
    assert all(sorted(epoch) == rows.tolist() for epoch in order)
    assert order[0].tolist() != order[1].tolist()


def test_the_data_order_depends_on_the_seed_alone_and_a_longer_run_begins_as_a_shorter() -> None:
    rows = np.arange(50)
    np.random.seed(1)
    order = batches(rows, seed=0, steps=20, batch_size=4)
    np.random.seed(2)
    assert batches(rows, seed=0, steps=33, batch_size=4)[:20].tolist() == order.tolist()
    assert batches(rows, seed=1, steps=20, batch_size=4).tolist() != order.tolist()

"""Rows: tokenised once, split honestly, and drawn in an order that the seed alone decides."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from panda_trainable.config import Plm, Setting
from panda_trainable.data import (
    FOLD_PER_REPLICA_BELOW,
    batches,
    capped,
    held_out_rows,
    replica_rows,
    selection_split,
    sharing_a_text,
    token_table,
    tokens_key,
)
from panda_trainable.library import PromptLibrary
from panda_trainable.plm import plm_files
from panda_trainable.tasks import TaskSpec, located
from tests.conftest import write_task

Task = Callable[..., TaskSpec]


@pytest.fixture
def typed(setting: Setting, tmp_path: Path) -> Setting:
    """The setting on a bert whose tokenizer gives token types, as BERT's own does."""
    folder = shutil.copytree(setting.plm.source, tmp_path / "typed")
    file = folder / "tokenizer_config.json"
    names = ["input_ids", "token_type_ids", "attention_mask"]
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_input_names": names}))
    return replace(setting, plm=Plm(str(folder), plm_files(folder)))


def test_a_table_holds_ids_types_lengths_and_labels(library: PromptLibrary, typed: Setting, tmp_path: Path) -> None:
    rows = [{"a": "w0 w1", "b": "w2", "label": 1}, {"a": "w3", "b": "w4", "label": 0}]
    write_task(tmp_path / "p", rows, rows)
    pair = located(TaskSpec("p", "classification", ("a", "b"), "label", ("n", "y"), ("accuracy",)), tmp_path)
    table = token_table(library, typed, pair, "train")
    assert table.ids.tolist() == [[3, 5, 6, 4, 7, 4], [3, 8, 4, 9, 4, 0]]
    assert table.types.tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]]
    assert table.lengths.tolist() == [6, 5]
    assert table.labels.tolist() == [1, 0]
    assert table.truncated == 0


def test_the_share_of_truncated_rows_is_known(library: PromptLibrary, setting: Setting, tmp_path: Path) -> None:
    rows = [{"a": " ".join(["w1"] * n), "label": n % 2} for n in (1, 13, 14, 15, 30)]  # and two special tokens
    write_task(tmp_path / "t", rows, rows)
    task = located(TaskSpec("t", "classification", ("a",), "label", ("n", "y"), ("accuracy",)), tmp_path)
    table = token_table(library, setting, task, "train")
    assert table.lengths.tolist() == [3, 15, 16, 16, 16]
    assert table.truncated == 2 / 5


def test_a_table_is_made_once_and_shared_by_tasks_of_the_same_data(
    library: PromptLibrary, setting: Setting, task: Task
) -> None:
    made = [token_table(library, setting, task(name), "train") for name in ("t", "u")]
    assert len(list(library.root.glob("tokens/*"))) == 1
    assert made[0].ids.tolist() == made[1].ids.tolist()


@pytest.mark.parametrize(
    ("change", "split", "matters"),
    [
        ({"max_length": 12}, "train", True), ({"limit_train": 30}, "train", True), ({"batch_size": 2}, "train", False),
        ({"limit_report": 9}, "train", False), ({"limit_report": 9}, "validation", True),
        ({"eval_every": 1}, "train", False),
    ],
)  # fmt: skip
def test_the_key_of_a_table_is_what_decides_its_rows(
    setting: Setting, task: Task, change: dict[str, int], split: str, matters: bool
) -> None:
    spec = task("t")
    assert (tokens_key(replace(setting, **change), spec, split) != tokens_key(setting, spec, split)) == matters


def test_a_limit_draws_rows_once_for_all_and_keeps_their_order(
    library: PromptLibrary, setting: Setting, task: Task
) -> None:
    drawn = capped(60, 20)
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    assert capped(60, 20).tolist() == drawn.tolist() != list(range(20))
    assert capped(60, 60).tolist() == capped(60, None).tolist() == list(range(60))
    whole = token_table(library, setting, task("t"), "train")
    part = token_table(library, replace(setting, limit_train=20), task("t"), "train")
    assert part.labels.tolist() == whole.labels[drawn].tolist()


@pytest.mark.parametrize("seed", range(4))
def test_selection_rows_are_disjoint_from_train_rows_and_stratified(
    library: PromptLibrary, setting: Setting, task: Task, seed: int
) -> None:
    spec = task("t", classes=3)
    rows, labels = replica_rows(library, setting, spec, seed), token_table(library, setting, spec, "train").labels
    assert sorted([*rows.train, *rows.selection]) == list(range(60))
    assert np.bincount(labels[rows.selection]).tolist() == [4, 4, 4]


@pytest.mark.parametrize("seed", range(10))
def test_rows_that_share_a_text_stay_together(seed: int) -> None:
    generator = np.random.default_rng(seed)
    groups = np.unique(generator.integers(0, 60, 120), return_inverse=True)[1]
    strata = generator.integers(0, 3, 120)
    held_out = held_out_rows(strata, groups, 24, seed)
    assert (np.bincount(strata[held_out]) <= np.round(np.bincount(strata) * 24 / 120)).all()
    assert held_out.sum() > 12
    assert not set(groups[held_out]) & set(groups[~held_out])


def test_rows_share_a_text_whatever_its_case_and_spaces_also_by_way_of_others() -> None:
    texts = [("A cat", "x"), ("dog", "y"), ("a  CAT", "z"), ("bird", "Z "), ("fish", "v")]
    groups = sharing_a_text(texts)
    assert groups[0] == groups[2] == groups[3]
    assert len({groups[0], groups[1], groups[4]}) == 3


def test_a_class_too_rare_to_be_held_out_is_refused_with_its_count() -> None:
    strata = np.array([0] * 20 + [1])
    with pytest.raises(ValueError, match=r"class 1 has 1 rows, of which 1 would be held out; raise selection.fraction"):
        held_out_rows(strata, np.arange(21), 4, 0)


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
    rows = replica_rows(library, replace(setting, selection_rows=6), task("t"), 0)
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

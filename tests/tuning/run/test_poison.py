"""Poison: whatever stands in the report split, nothing that is searched or chosen changes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from panda_trainable.config.methods import CHANGES, COMPARISONS, SCORES, SIMILARITY_NAMES
from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.similarity.representations import task_embedding
from panda_trainable.transfer.methods import open_trainer
from tuning.planning.jobs import source_jobs, target_jobs
from tuning.planning.plan import Plan
from tuning.planning.results import Confirmed, read_confirmed
from tuning.planning.studies import make_studies
from tuning.run.confirm import confirm_trial
from tuning.run.jobs import make, measure

KNOBS = {"learning_rate": 0.02, "lambda": 2.0, "partners": 1, "fusion": "late"}
TASKS = ("s1", "s2", "t")


def poison(data: Path) -> None:
    """Other words and flipped labels in every row of the report split."""
    for task in TASKS:
        path = data / task / "validation.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        spoilt = [
            {"a": f"poison w{i % 40} {'w39 ' * (i % 9)}", "label": 1 - row["label"]} for i, row in enumerate(rows)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in spoilt))


def searched(plan: Plan, library: PromptLibrary) -> tuple[TrialConfig, dict[str, Any]]:
    """A panda trial with all that leads to it, and every number of it that a search may look at."""
    jobs = [*source_jobs(plan), *target_jobs(plan)]
    for job in jobs:
        make(library, job)
    similarities = measure(library, plan)
    study = next(s for s in make_studies(plan, similarities)[0] if s.pair.name == "t ← s1 · panda")
    config = study.base.with_knobs({**KNOBS, "teacher_steps": study.base.candidates[-1]})
    trainer = open_trainer(library, config)
    trainer.advance(config.steps)
    return config, {
        "similarities": similarities,
        "embeddings": [task_embedding(library, job.early, seed) for job in jobs for seed in job.seeds],
        "teachers": [said.numpy() for teacher in trainer.recipe.teachers for said in teacher.outputs],
        "weights": [teacher.weight for teacher in trainer.recipe.teachers],
        "losses": trainer.losses(),
        "selection": trainer.select(),
        "prompts": [prompt.prompt.numpy() for prompt in trainer.prompts()],
    }


def splits(library: PromptLibrary) -> set[tuple[str, str]]:
    return {(card["task"], card["split"]) for card in library.cards() if card["kind"] == "tokens"}


def confirmed(library: PromptLibrary, config: TrialConfig) -> Confirmed:
    fresh = replace(config, seeds=(10, 11))
    confirm_trial(library, fresh)
    return read_confirmed(library, fresh)


def test_a_search_never_sees_a_report_row_and_only_confirm_reads_them(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    trained = {(task, "train") for task in TASKS}
    numbers, ends = [], []
    for name in ("clean", "spoilt"):
        library = PromptLibrary(tmp_path / name)
        config, found = searched(planned(similarities=[*COMPARISONS, *CHANGES, *SCORES]), library)
        assert set(found["similarities"]["s1", "t"]) == set(SIMILARITY_NAMES)
        assert splits(library) == trained
        numbers.append(found)
        ends.append(confirmed(library, config))
        assert splits(library) == trained | {("t", "validation")}
        poison(tmp_path / "data")
    np.testing.assert_equal(numbers[1], numbers[0])
    assert len(numbers[0]["teachers"]) == 4  # two sources, two seeds
    assert ends[0].selection == ends[1].selection
    assert not np.array_equal(ends[0].rows(), ends[1].rows())
    labels, flipped = (end.rows()[..., 0] for end in ends)  # [K, N] the class of every row
    assert (labels == 1 - flipped).all()


def test_rows_that_changed_since_the_plan_are_refused_and_not_kept_under_the_old_key(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = planned(methods=[], sources=[])
    poison(tmp_path / "data")
    library = PromptLibrary(tmp_path / "library")
    with pytest.raises(ValueError, match=r"validation.jsonl.*changed"):
        confirm_trial(library, make_studies(plan, {})[0][0].base)
    assert ("t", "validation") not in splits(library)


def test_the_protocol_of_the_papers_selects_on_report_rows_as_it_says(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    scores = []
    for spoil in (False, True):
        plan = planned(protocol="paper", methods=[], sources=[])
        library = PromptLibrary(tmp_path / f"library-{spoil}")
        trainer = open_trainer(library, make_studies(plan, {})[0][0].base)
        trainer.advance(8)
        scores.append((trainer.losses(), trainer.select(), trainer.report()[0]))
        poison(tmp_path / "data")
    assert scores[0][1] == scores[0][2]
    assert scores[0][0] == scores[1][0]
    assert scores[0][1] != scores[1][1]


@pytest.mark.parametrize("split", ["test", "validation"])
def test_the_test_split_is_the_report_split_where_there_is_one(
    planned: Callable[..., Plan], tmp_path: Path, split: str
) -> None:
    planned()
    if split == "test":
        (tmp_path / "data/t/test.jsonl").write_bytes((tmp_path / "data/s1/validation.jsonl").read_bytes())
    plan = planned(methods=[], sources=[])
    assert plan.tasks["t"].report_split == split
    library = PromptLibrary(tmp_path / "library")
    trainer = open_trainer(library, make_studies(plan, {})[0][0].base)
    trainer.select()
    assert splits(library) == {("t", "train")}
    trainer.report()
    assert splits(library) == {("t", "train"), ("t", split)}

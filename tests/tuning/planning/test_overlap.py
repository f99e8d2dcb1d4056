"""Texts that a source's train rows share with a target's report rows: counted, dropped, told or refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from panda_trainable.data.splits import replica_rows
from panda_trainable.library import PromptLibrary
from tests.kits.command import panda_tune_here
from tests.kits.small import OWN, like, rewritten
from tests.kits.tasks import rows_of, write_task
from tuning.experiment.loading import load
from tuning.experiment.pinned import pinned
from tuning.experiment.problems import Misuse, Problem
from tuning.planning.jobs import source_lineage_of
from tuning.planning.overlap import overlap_problems, shared_texts
from tuning.planning.plan import Plan, Study
from tuning.planning.preflight import check_plan
from tuning.planning.results import confirm_key
from tuning.planning.studies import make_studies
from tuning.run.confirm import jobs_of
from tuning.run.dry_run import describe
from tuning.run.train import pinned_trial
from tuning.tracking.study_runs import study_tags

Planned = Callable[..., Plan]
SHARED = 5
ALL = ("t · prompt_tuning", "t ← s1 · spot", "t ← s2 · spot", "t ← s1 · panda", "t ← s2 · panda")


def rows(folder: Path, task: str, split: str) -> list[dict[str, Any]]:
    text = (folder / "data" / task / f"{split}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def overlapping(folder: Path, count: int = SHARED) -> None:
    """Gives s1 so many texts of t's report rows; case and spaces do not matter."""
    write_task(folder / "data/t", rows_of(60, 2, seed=2), rows_of(24, 2, seed=101))
    shared = [{**row, "a": f"  {row['a'].upper()} "} for row in rows(folder, "t", "validation")[:count]]
    write_task(folder / "data/s1", [*rows_of(60, 2, seed=0), *shared], rows_of(24, 2, seed=99))


def studies(plan: Plan, library: PromptLibrary | None) -> dict[str, Study]:
    """Studies with what is shared, or as if nothing were."""
    shared = shared_texts(library, plan) if library else {}
    measured = {pair: like({"s1": 0.8, "s2": 0.4}[pair[0]]) for pair in plan.measured}
    return {study.pair.name: study for study in make_studies(plan, measured, shared)[0]}


def test_shared_texts_are_counted_whatever_their_case_and_spaces(
    planned: Planned, tmp_path: Path, library: PromptLibrary
) -> None:
    overlapping(tmp_path)
    assert shared_texts(library, planned()) == {("s1", "t"): SHARED}


def test_a_field_that_is_empty_here_and_there_is_no_shared_text(
    planned: Planned, tmp_path: Path, library: PromptLibrary
) -> None:
    """Of a template one field may be empty: that says nothing of where a row comes from."""
    for number, task in enumerate(("s1", "s2", "t")):
        train, report = rows_of(60, 2, seed=number), rows_of(24, 2, seed=number + 99)
        for i, row in enumerate([*train, *report]):
            row["title"] = "" if i % 3 == 0 else f"title {task} {i}"
        write_task(tmp_path / "data" / task, train, report)
    plan = planned(tasks={task: {**OWN, "text": ["{title}: {a}"]} for task in ("s1", "s2", "t")})
    assert shared_texts(library, plan) == {}
    held_out = replica_rows(library, plan.setting, plan.tasks["t"], 0).selection
    assert any(row % 3 == 0 for row in held_out)  # such rows are no group that must stay together


def test_a_text_that_stands_in_many_rows_is_one_text(planned: Planned, tmp_path: Path, library: PromptLibrary) -> None:
    overlapping(tmp_path, 1)
    path = tmp_path / "data/s1/train.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] * 1 + "\n", encoding="utf-8")
    assert shared_texts(library, planned()) == {("s1", "t"): 1}


def test_only_train_rows_of_a_source_and_report_rows_of_a_target_are_compared(
    planned: Planned, tmp_path: Path, library: PromptLibrary
) -> None:
    write_task(tmp_path / "data/t", rows_of(60, 2, seed=2), rows_of(24, 2, seed=101))
    theirs = rows(tmp_path, "t", "validation")
    # The same texts in s1's own report rows, and t's train rows in s1's train rows, harm nobody.
    write_task(tmp_path / "data/s1", [*rows_of(60, 2, seed=0), *rows(tmp_path, "t", "train")[:9]], theirs)
    assert shared_texts(library, planned()) == {}
    (tmp_path / "data/t/test.jsonl").write_text(json.dumps(rows(tmp_path, "s1", "train")[0]) + "\n" + "".join(
        json.dumps(row) + "\n" for row in rows_of(10, 2, seed=55)
    ))  # fmt: skip
    assert shared_texts(library, planned()) == {("s1", "t"): 1}  # now test is the report split


def test_texts_beyond_the_limit_of_train_rows_are_not_counted(
    planned: Planned, tmp_path: Path, library: PromptLibrary
) -> None:
    overlapping(tmp_path, 20)
    assert shared_texts(library, planned())["s1", "t"] == 20
    assert shared_texts(library, planned(limit={"train": 40}))["s1", "t"] < 20


def test_pairs_that_the_file_leaves_out_are_not_compared(
    planned: Planned, tmp_path: Path, library: PromptLibrary
) -> None:
    overlapping(tmp_path)
    assert shared_texts(library, planned(pairs={"t": ["s2"]})) == {}


def test_drop_keeps_a_source_apart_wherever_it_takes_part_and_nowhere_else(
    planned: Planned, tmp_path: Path, library: PromptLibrary
) -> None:
    overlapping(tmp_path)
    plan = planned()
    before, after = studies(plan, None), studies(plan, library)
    assert tuple(after) == ALL
    for name, study in after.items():
        assert [source.drop_overlap for source in study.base.sources] == [
            s.task.name == "s1" for s in study.base.sources
        ]
        assert (study.key != before[name].key) is any(source.drop_overlap for source in study.base.sources)
    assert after["t · prompt_tuning"].key == before["t · prompt_tuning"].key
    assert {name: study.overlap for name, study in after.items() if study.overlap} == {
        "t ← s1 · spot": SHARED, "t ← s1 · panda": SHARED,
    }  # fmt: skip


def test_warn_leaves_all_as_it_is_but_for_what_is_told(
    planned: Planned, tmp_path: Path, library: PromptLibrary
) -> None:
    overlapping(tmp_path)
    plan = planned(overlap="warn")
    before, after = studies(plan, None), studies(plan, library)
    assert {name: study.key for name, study in after.items()} == {name: study.key for name, study in before.items()}
    assert not any(source.drop_overlap for study in after.values() for source in study.base.sources)
    assert study_tags(after["t ← s1 · spot"])["overlap"] == str(SHARED)
    assert study_tags(after["t ← s2 · spot"])["overlap"] == "0"
    assert f"note: s1 and t share {SHARED} texts" in describe(plan.experiment)


def test_refuse_names_the_pairs_and_how_many_texts_they_share(
    planned: Planned, tmp_path: Path, library: PromptLibrary
) -> None:
    overlapping(tmp_path)
    plan = planned(overlap="refuse")
    (problem,) = overlap_problems(plan, shared_texts(library, plan))
    assert str(problem) == (
        "overlap: refuse: texts of train rows of a source stand in report rows of a target: s1 and t (5); "
        "leave the pairs out, or use overlap: drop"
    )


def test_refuse_refuses_nothing_where_nothing_is_shared(planned: Planned, library: PromptLibrary) -> None:
    assert check_plan(library, planned(overlap="refuse")) == []


def test_refuse_is_said_before_anything_is_trained(planned: Planned, tmp_path: Path) -> None:
    overlapping(tmp_path)
    planned()
    file = rewritten(tmp_path / "experiment.yaml", overlap="refuse")
    said = panda_tune_here("search", file, code=2).stderr
    assert "s1 and t (5); leave the pairs out, or use overlap: drop" in said
    assert "Traceback" not in said
    assert not (tmp_path / "runs/library/prompts").exists()


def test_a_prompt_that_is_kept_apart_is_another_one_and_only_for_its_target(
    planned: Planned, tmp_path: Path, library: PromptLibrary
) -> None:
    overlapping(tmp_path)
    plan = planned()
    config = replace(studies(plan, library)["t ← s1 · spot"].base, seeds=(10, 11))
    jobs = {job.lineage.task.name: job.lineage for job in jobs_of([config])}
    plain = {name: source_lineage_of(plan, plan.tasks[name]) for name in ("s1", "s2")}
    assert jobs["s2"] == plain["s2"]
    assert jobs["s1"] == replace(plain["s1"], exclude_overlap_with=plan.tasks["t"])
    assert jobs["s1"].key(10) != plain["s1"].key(10)
    kept = replica_rows(library, plan.setting.of_sources, plan.tasks["s1"], 10, plan.tasks["t"]).train
    assert len(kept) > 0
    assert not set(kept) & set(range(60, 60 + SHARED))  # the shared rows are the file's last


def test_a_source_that_would_lose_a_class_is_refused_before_anything_starts(
    planned: Planned, tmp_path: Path, library: PromptLibrary
) -> None:
    planned()
    theirs = [row for row in rows(tmp_path, "t", "validation") if row["label"] == 1]
    ours = [row for row in rows(tmp_path, "s1", "train") if row["label"] == 0]
    write_task(tmp_path / "data/s1", [*ours, *theirs], rows_of(24, 2, seed=99))
    (problem,) = check_plan(library, planned())
    assert str(problem).startswith("task s1: without the 12 rows of s1 that share a text with t's report rows")


def filed(folder: Path, file: dict[str, Any]) -> Path:
    folder.mkdir()
    path = folder / "pinned.yaml"
    path.write_text(yaml.safe_dump(file), encoding="utf-8")
    return path


@pytest.mark.parametrize("overlap", ["drop", "warn"])
@pytest.mark.parametrize("name", ["t ← s1 · spot", "t ← s2 · spot"])
def test_a_winner_printed_as_a_file_keeps_the_same_sources_apart(
    planned: Planned, tmp_path: Path, library: PromptLibrary, overlap: str, name: str
) -> None:
    """As pair and as partner: else `train` would train another configuration, and on report texts."""
    overlapping(tmp_path)
    plan = planned(overlap=overlap)
    study = studies(plan, library)[name]
    config = replace(study.base.with_knobs({"learning_rate": 0.02, "partners": 1}), seeds=(10, 11))
    file = filed(tmp_path / "there", pinned(plan.experiment, config, study.pair.source))
    again = pinned_trial(load(file), PromptLibrary(tmp_path / "there/library"))
    assert [(source.task.name, source.drop_overlap) for source in again.sources] == [
        (source.task.name, source.drop_overlap) for source in config.sources
    ]
    assert confirm_key(again) == confirm_key(config)


PROJECTED: dict[str, Any] = {"methods": ["tpt_model"], "pairs": {"t": ["s2"]}}


def projected(planned: Planned, plms: Callable[[str], Path], **changes: Any) -> Plan:
    return planned(**PROJECTED, source_plm={"from": str(plms("roberta"))}, **changes)


@pytest.mark.parametrize(("overlap", "tasks"), [("drop", ["s2"]), ("warn", ["s1", "s2"])])
def test_a_projector_learns_from_no_task_that_shares_texts_with_the_target(
    planned: Planned,
    plms: Callable[[str], Path],
    tmp_path: Path,
    library: PromptLibrary,
    overlap: str,
    tasks: list[str],
) -> None:
    """Nor from one that the target is not paired with."""
    overlapping(tmp_path)
    plan = projected(planned, plms, overlap=overlap)
    shared = shared_texts(library, plan)
    assert shared == {("s1", "t"): SHARED}
    study = next(s for s in make_studies(plan, {("s2", "t"): like(0.4)}, shared)[0] if s.pair.method == "tpt_model")
    assert study.base.projection is not None
    assert [task.name for task in study.base.projection.tasks] == tasks
    there = filed(tmp_path / "there", pinned(plan.experiment, study.base, None) | {"data": str(tmp_path / "data")})
    said = yaml.safe_load(there.read_text())
    assert said["projector"]["tasks"] == said["sources"] == tasks


def test_a_projector_that_is_left_without_tasks_is_refused_before_anything_starts(
    planned: Planned, plms: Callable[[str], Path], tmp_path: Path, library: PromptLibrary
) -> None:
    overlapping(tmp_path)
    said = "projector: every task shares texts with the report rows of t; name others, or use overlap: warn"
    assert [str(problem) for problem in check_plan(library, projected(planned, plms, projector={"tasks": ["s1"]}))] == [
        said
    ]
    warned = check_plan(library, projected(planned, plms, projector={"tasks": ["s1"]}, overlap="warn"))
    assert not [finding for finding in warned if isinstance(finding, Problem)]


def test_a_mixture_shares_the_texts_of_its_tasks_but_not_those_of_the_target_itself(
    planned: Planned, tmp_path: Path, library: PromptLibrary
) -> None:
    overlapping(tmp_path)
    mixed = {"mixtures": {"pool": ["s1", "s2"], "own": ["s2", "t"]}, "sources": ["s2", "pool", "own"]}
    plan = planned(**mixed, methods=["spot"], self_pairs="include")
    assert shared_texts(library, plan) == {("pool", "t"): SHARED}
    made, _ = make_studies(plan, {pair: like(0.5) for pair in plan.measured}, shared_texts(library, plan))
    apart = {study.pair.source: study.base.sources[0].drop_overlap for study in made if study.pair.source}
    assert apart == {"s2": False, "pool": True, "own": False}


def test_a_refused_overlap_ends_a_dry_run_too(planned: Planned, tmp_path: Path) -> None:
    overlapping(tmp_path)
    planned()
    file = rewritten(tmp_path / "experiment.yaml", overlap="refuse")
    with pytest.raises(Misuse, match=r"s1 and t \(5\)"):
        describe(load(file))

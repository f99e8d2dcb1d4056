"""Keys of studies: made of what decides their numbers, and of nothing else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.tuning.small import MEASURED, OWN, like, studies_of
from tuning.plan import Plan, make_studies

Planned = Callable[..., Plan]
ALL = {"prompt_tuning", "spot", "panda"}


def train(**changes: Any) -> dict[str, Any]:
    return {"train": {"steps": 8, "batch_size": 4, "max_length": 16, "eval_every": 2, "seeds": [0, 1], **changes}}


SAME: dict[str, dict[str, Any]] = {
    "name": {"name": "other"},
    "trials": {"search": {"trials": 50}},
    "hours": {"search": {"trials": 2, "hours": 3}},
    "live trials": {"search": {"trials": 2, "per_study": 1}},
    "confirm": {"confirm": {"top": 3, "seeds": [20]}},
    "storage": {"storage": "elsewhere"},
    "tracking": {"tracking": {"uri": "http://nowhere:5000"}},
    "resources": {"resources": {"cpu": 2}},
    "report rows": {"limit": {"report": 10}},
    "methods": {"methods": ["panda"]},
    "similarities": {"similarities": ["task_embedding"]},
}
OTHER: dict[str, tuple[dict[str, Any], set[str]]] = {
    "steps": (train(steps=4), ALL),
    "seeds": (train(seeds=[0, 2]), ALL),
    "batch size": (train(batch_size=2), ALL),
    "evaluations": (train(eval_every=4), ALL),
    "prompt": ({"prompt": {"length": 4}}, ALL),
    "selection": ({"selection": {"fraction": 0.3}}, ALL),
    "protocol": ({"protocol": "paper"}, ALL),
    "train rows": ({"limit": {"train": 40}}, ALL),
    "sampler": ({"search": {"sampler": "random"}}, ALL),
    "scheduler": ({"search": {"scheduler": "none"}}, ALL),
    "sampler's seed": ({"search": {"seed": 1}}, ALL),
    "space": ({"space": {"panda": {"lambda": 0.5}}}, {"panda"}),
    "source steps": ({"source_train": {"steps": 9, "early_step": 4}}, {"spot", "panda"}),
    "distillation": ({"kd": "kl"}, {"panda"}),
    "weights": ({"weigh_by": "c_mean"}, {"spot", "panda"}),
}


@pytest.mark.parametrize("change", SAME)
def test_what_decides_no_number_leaves_the_keys_as_they_are(planned: Planned, change: str) -> None:
    before, after = studies_of(planned()), studies_of(planned(**SAME[change]))
    assert {name: study.key for name, study in after.items()}.items() <= {n: s.key for n, s in before.items()}.items()


@pytest.mark.parametrize("change", OTHER)
def test_what_decides_numbers_changes_the_keys_of_those_methods_alone(planned: Planned, change: str) -> None:
    changes, methods = OTHER[change]
    before, after = studies_of(planned()), studies_of(planned(**changes))
    assert {before[name].pair.method for name in before if before[name].key != after[name].key} == methods


def test_where_files_lie_and_what_tasks_are_called_does_not_matter(planned: Planned, tmp_path: Path) -> None:
    before = studies_of(planned())
    shutil.copytree(tmp_path / "data", tmp_path / "there/moved")
    (tmp_path / "there/moved/t").rename(tmp_path / "there/moved/renamed")
    plm = shutil.copytree(planned().setting.plm.source, tmp_path / "there/plm")
    tasks = dict.fromkeys(("s1", "s2", "renamed"), OWN)
    moved = planned(tmp_path / "there", plm, tasks=tasks, targets=["renamed"], data="moved")
    after = make_studies(moved, {(s, "renamed"): like(MEASURED[s]) for s in ("s1", "s2")})[0]
    assert [study.key for study in after] == [study.key for study in before.values()]


@pytest.mark.parametrize(("task", "changed"), [("t", ALL), ("s1", {"spot", "panda"})])
def test_another_row_of_data_makes_other_studies(
    planned: Planned, tmp_path: Path, task: str, changed: set[str]
) -> None:
    before = studies_of(planned())
    with (tmp_path / f"data/{task}/train.jsonl").open("a") as file:
        file.write(json.dumps({"a": "one more", "label": 1}) + "\n")
    after = studies_of(planned())
    assert {before[name].pair.method for name in before if before[name].key != after[name].key} == changed


def test_other_weights_of_the_plm_make_other_studies(planned: Planned, tmp_path: Path) -> None:
    before = studies_of(planned())
    plm = shutil.copytree(planned().setting.plm.source, tmp_path / "plm")
    weights = load_file(plm / "model.safetensors")
    save_file({name: value + 1e-3 for name, value in weights.items()}, plm / "model.safetensors")
    after = studies_of(planned(plm=plm))
    assert not {study.key for study in before.values()} & {study.key for study in after.values()}

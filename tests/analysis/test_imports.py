"""Imports point one way: the four packages know of one another what the design says, and no more."""

import ast
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

MAY = {
    "panda_trainable": set(),
    "search_spaces": {"panda_trainable.config"},
    "analysis": set(),
    "tuning": {"panda_trainable", "search_spaces", "analysis"},
}
HEAVY = ("torch", "ray", "mlflow", "optuna", "transformers", "pydantic", "pandas", "numpy", "sklearn")


def folder_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec
    assert spec.origin
    return Path(spec.origin).parent


def imported(file: Path) -> Iterator[str]:
    """Every module that a file imports, late ones too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", MAY)
def test_imports_of_our_packages_point_one_way(package: str) -> None:
    ours = {f"{package}.", *(f"{name}." for name in MAY[package])}
    files = sorted(folder_of(package).rglob("*.py"))
    assert files
    wrong = {
        f"{file.name}: {name}"
        for file in files
        for name in imported(file)
        if name.split(".")[0] in MAY and not f"{name}.".startswith(tuple(ours))
    }
    assert wrong == set()


@pytest.mark.parametrize("package", ["search_spaces", "analysis"])
def test_spaces_and_analysis_need_neither_torch_nor_ray(package: str) -> None:
    names = {name.split(".")[0] for file in folder_of(package).rglob("*.py") for name in imported(file)}
    assert not names & {"torch", "ray", "transformers"}


def test_optuna_is_known_to_the_importances_of_the_analysis_alone_and_to_no_space() -> None:
    files = [file for package in ("search_spaces", "analysis") for file in folder_of(package).rglob("*.py")]
    asking = {file.name for file in files if any(name.split(".")[0] == "optuna" for name in imported(file))}
    assert asking == {"importance.py"}


def loaded_by(module: str) -> set[str]:
    code = f"import sys, json; import {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in json.loads(done.stdout)}


def test_the_command_loads_nothing_heavy_before_it_is_asked_something() -> None:
    assert not loaded_by("tuning.cli") & set(HEAVY)


@pytest.mark.parametrize("module", ["tuning.experiment", "tuning.plan"])
def test_a_file_is_checked_and_planned_without_torch_and_ray(module: str) -> None:
    assert not loaded_by(module) & {"torch", "ray", "mlflow", "optuna", "transformers"}


def test_a_configuration_is_a_value_without_torch() -> None:
    assert not loaded_by("panda_trainable.config") & set(HEAVY)


BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, *more):
        if name.split(".")[0] in {}:
            raise ImportError(name)

sys.meta_path.insert(0, Blocker())
from tuning.cli import main
main()
"""


def test_results_of_others_are_correlated_where_torch_and_ray_cannot_be_imported(tmp_path: Path) -> None:
    scores, similarities = tmp_path / "scores.csv", tmp_path / "similarities.csv"
    scores.write_text("source,target,score\n" + "".join(f"s{i},t,{i}\n" for i in range(4)))
    similarities.write_text("source,target,metric,similarity\n" + "".join(f"s{i},t,on,0.{i}\n" for i in range(4)))
    code = BLOCKED.format(("torch", "ray", "mlflow", "optuna", "transformers"))
    command = [sys.executable, "-c", code, "correlate", str(scores), str(similarities), "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["on"]["pooled"]["spearman"] == 1

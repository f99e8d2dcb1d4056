"""What this package may import: neither Ray (but for trainable), MLflow nor Optuna; values need no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import panda_trainable

FOLDER = Path(panda_trainable.__file__).parent
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
IMPORT = """
import importlib, sys
blocked, modules = sys.argv[1].split(), sys.argv[2].split()
sys.modules.update(dict.fromkeys(blocked))
for name in modules:
    importlib.import_module(f"panda_trainable.{name}")
"""


def imports(blocked: str, *modules: str) -> subprocess.CompletedProcess[str]:
    """Imports modules in a process where some packages can't be imported."""
    call = [sys.executable, "-c", IMPORT, blocked, " ".join(modules)]
    return subprocess.run(call, capture_output=True, text=True, check=False)


def test_a_trial_runs_without_ray_mlflow_and_optuna() -> None:
    done = imports("ray mlflow optuna", *(name for name in MODULES if name != "trainable"))
    assert done.returncode == 0, done.stderr


def test_the_blocker_blocks() -> None:
    assert "ray" in imports("ray", "trainable").stderr


@pytest.mark.parametrize("name", ["config", "tasks", "demo", "library", "rows", "readers"])
def test_what_only_describes_needs_no_torch(name: str) -> None:
    done = imports("torch transformers numpy ray mlflow optuna", name)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_nothing_of_the_other_packages(name: str) -> None:
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    found = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    found |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not {each.split(".")[0] for each in found} & {"search_spaces", "tuning", "analysis", "pickle"}

"""The house: packages, rooms and modules import one way; what each may import; what runs without which library."""

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
ORDER = {
    "panda_trainable": [
        "config", "library", "pretrained", "plm", "writing", "origins", "data", "prompt", "worker", "training", "prediction",
        "transfer", "similarity", "result", "trainable",
    ],
    "search_spaces": ["space", "defaults"],
    "analysis": ["wording", "statistics", "records", "external", "findings", "figures", "report", "analyze"],
    "tuning": [
        "experiment", "cluster", "planning", "engine", "tracking", "layout", "tables", "correlation_tables", "doctor", "run",
        "prediction", "handover", "draft", "api", "commands", "cli", "__main__",
    ],
}  # fmt: skip
"""Package -> its rooms and modules, each importing only from those before it."""

MOST_MODULES = 12
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


def modules(package: str) -> Iterator[tuple[str, Path]]:
    """Dotted name and file of every module of a package, without `__init__`."""
    folder = folder_of(package)
    for file in sorted(folder.rglob("*.py")):
        if file.stem != "__init__":
            yield ".".join((package, *file.relative_to(folder).with_suffix("").parts)), file


MODULES = [name for name, _ in modules("panda_trainable")]


@pytest.mark.parametrize("package", ORDER)
def test_rooms_import_only_from_rooms_before_them(package: str) -> None:
    order = ORDER[package]
    upward = set()
    for name, file in modules(package):
        room = name.split(".")[1]
        assert room in order, f"{name}: its room has no place in the order"
        met = {asked.split(".")[1] for asked in imported(file) if asked.split(".")[0] == package and "." in asked}
        upward |= {f"{name} imports {other}" for other in met & set(order) if order.index(other) > order.index(room)}
    assert upward == set()


@pytest.mark.parametrize("package", ORDER)
def test_the_order_has_no_room_that_is_gone(package: str) -> None:
    assert {name.split(".")[1] for name, _ in modules(package)} | {"__main__"} == {*ORDER[package], "__main__"}


@pytest.mark.parametrize("package", ORDER)
def test_no_modules_import_one_another_in_a_circle(package: str) -> None:
    known = dict(modules(package))
    asked = {
        name: {other for found in imported(file) for other in known if f"{found}.".startswith(f"{other}.")}
        for name, file in known.items()
    }
    while free := {name for name in asked if not asked[name] & set(asked) - {name}}:
        asked = {name: others for name, others in asked.items() if name not in free}
    assert not asked, f"a circle among {sorted(asked)}"


@pytest.mark.parametrize("package", ORDER)
def test_a_folder_holds_at_most_twelve_modules_and_a_sentence(package: str) -> None:
    root = folder_of(package)
    for folder in sorted({file.parent for file in root.rglob("*.py")}):
        assert len([file for file in folder.glob("*.py") if file.stem != "__init__"]) <= MOST_MODULES, folder
        tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), f"{folder} says nothing of what one finds there"
        assert len(tree.body) == 1, f"{folder}/__init__.py does more than to say what one finds there"


def test_the_page_of_the_house_has_every_room_with_its_sentence() -> None:
    page = (Path(__file__).parent.parent / "docs" / "house.md").read_text(encoding="utf-8")
    for package in ORDER:
        for file in folder_of(package).rglob("__init__.py"):
            room = file.parent.relative_to(folder_of(package).parent)
            sentence = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
            assert any(f"`{room}/`" in line and f"| {sentence} |" in line for line in page.splitlines()), room


IMPORT = """
import importlib, sys
blocked, names = sys.argv[1].split(), sys.argv[2].split()
sys.modules.update(dict.fromkeys(blocked))
for name in names:
    importlib.import_module(name)
"""


def imports(blocked: str, *names: str) -> subprocess.CompletedProcess[str]:
    """Imports modules in a process where some packages can't be imported."""
    call = [sys.executable, "-c", IMPORT, blocked, " ".join(names)]
    return subprocess.run(call, capture_output=True, text=True, check=False)


def test_a_trial_runs_without_ray_mlflow_and_optuna() -> None:
    done = imports("ray mlflow optuna", *(name for name in MODULES if name != "panda_trainable.trainable"))
    assert done.returncode == 0, done.stderr


def test_the_blocker_blocks() -> None:
    assert "ray" in imports("ray", "panda_trainable.trainable").stderr


DESCRIBE = [*(name for name in MODULES if ".config." in name), "panda_trainable.library"]
DESCRIBE += [f"panda_trainable.data.{name}" for name in ("task_table", "rows", "labels", "prepare")]
DESCRIBE += [
    f"panda_trainable.origins.{name}"
    for name in ("demo", "folder", "lines", "tables", "columns", "fields", "nested", "sentences")
]


def test_what_only_describes_needs_no_torch() -> None:
    done = imports("torch transformers numpy ray mlflow optuna", *DESCRIBE)
    assert done.returncode == 0, done.stderr


def test_nothing_is_unpickled() -> None:
    assert {name for package in MAY for name, file in modules(package) if "pickle" in set(imported(file))} == set()


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


@pytest.mark.parametrize("module", ["tuning.experiment.experiment", "tuning.planning.plan"])
def test_a_file_is_checked_and_planned_without_torch_and_ray(module: str) -> None:
    assert not loaded_by(module) & {"torch", "ray", "mlflow", "optuna", "transformers"}


def test_a_configuration_is_a_value_without_torch() -> None:
    assert not loaded_by("panda_trainable.config.trial") & set(HEAVY)


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

"""The documents are true: commands run, keys are told, the quickstart file is one."""

import json
import re
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.kits.command import COMMAND, panda_tune_here
from tuning.experiment.reference import with_table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.split("#")[0].split() for line in README.splitlines() if line.startswith("panda-tune ")]


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= 900
    assert max(map(len, README.splitlines())) <= 160


def test_the_table_of_the_experiment_files_keys_is_that_of_the_code() -> None:
    page = ROOT / "docs" / "experiment-file.md"
    text = page.read_text(encoding="utf-8")
    assert text == with_table(text), f"run: python -m tuning.experiment.reference {page.relative_to(ROOT)}"


def test_the_example_in_the_readme_is_the_example() -> None:
    example = yaml.safe_load((ROOT / "examples" / "all_tasks.yaml").read_text(encoding="utf-8"))
    blocks = [yaml.safe_load(block.split("```")[0]) for block in README.split("```yaml")[1:]]
    assert example in blocks


def test_the_quickstart_of_a_checkout_is_that_of_the_package() -> None:
    assert (ROOT / "examples" / "quickstart.yaml").resolve() == ROOT / "tuning" / "quickstart.yaml"


def test_deviations_that_the_code_names_are_told() -> None:
    text = (ROOT / "docs" / "deviations.md").read_text(encoding="utf-8")
    sources = [path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py") if ".venv" not in path.parts]
    named = {anchor for source in sources for anchor in re.findall(r"docs/deviations\.md#([a-z-]+)", source)}
    assert named
    assert [anchor for anchor in named if f'<a id="{anchor}"></a>' not in text] == []


def test_the_readme_names_every_kind_of_command() -> None:
    assert {command[1] for command in COMMANDS} == {
        "new", "search", "best", "retrieve", "analyze", "correlate", "train", "predict", "export", "ui", "library", "schema", "doctor",
    }  # fmt: skip


@pytest.fixture(scope="module")
def readers(searched: tuple[Path, Path, str]) -> Path:
    """The folder of a reader of the README: a finished search, a winner's file, and results of their own."""
    folder, file, _ = searched
    (row,) = json.loads(panda_tune_here("best", file, "--format", "json").stdout)
    (folder / "cr.yaml").write_text(json.dumps(row["config"]), encoding="utf-8")
    for name, header, column in (("scores", "score", ""), ("similarities", "metric,similarity", "c_mean,")):
        lines = [f"source,target,{header}", *(f"s{i},t,{column}0.{i}" for i in range(1, 6))]
        (folder / f"{name}.csv").write_text("\n".join([*lines, ""]), encoding="utf-8")
    (folder / "rows.csv").write_text("a\nsome words\n", encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in COMMANDS if c[1] != "ui"], ids=" ".join)
def test_every_command_of_the_readme_runs(
    command: list[str], searched: tuple[Path, Path, str], readers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(readers)
    ours = {
        "examples/all_tasks.yaml": str(searched[1]), "cr": "t", "storage=/shared/runs": f"storage={readers / 'elsewhere'}",
    }  # fmt: skip
    arguments = [ours.get(word, word) for word in command[1:]]
    if "search" in arguments and "--dry-run" not in arguments:
        arguments.append("--dry-run")
    assert panda_tune_here(*arguments).stdout.strip()


@pytest.mark.slow
def test_the_ui_starts_on_the_store_of_the_experiment(searched: tuple[Path, Path, str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [COMMAND, "ui", searched[1], "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        assert "small" in experiments_served(port)
    finally:
        server.terminate()
        server.wait(timeout=30)


def experiments_served(port: int) -> set[str]:
    """Names of the experiments that a server shows, asked until it answers."""
    body = json.dumps({"max_results": 10}).encode()
    for _ in range(300):
        try:
            url = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search"
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=5) as answer:
                return {experiment["name"] for experiment in json.load(answer)["experiments"]}
        except OSError:
            time.sleep(0.5)
    return set()

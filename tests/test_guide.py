"""The guide is followed word by word, and its notebook executed, in a folder that was empty."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

from tests.kits.command import panda_tune_here

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
BLOCKS = [tuple(block.split("\n", 1)) for block in GUIDE.split("```")[1::2]]
"""(language, text) of each block."""
COMMANDS = [line for language, text in BLOCKS if not language for line in text.splitlines() if "panda-tune" in line]
ANOTHER_TERMINAL = ("pip ", "panda-tune ui", "MLFLOW_TRACKING_URI=")
"""What installs, or serves until it is stopped; tests of installation, `ui` and the registry have these."""


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nbformat.NotebookNode]:
    """The folder in which the notebook ran, and the notebook with its outputs."""
    folder = tmp_path_factory.mktemp("guide")
    notebook = nbformat.read(ROOT / "examples" / "guide.ipynb", as_version=4)
    client = NotebookClient(
        notebook, timeout=1500, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    return folder, client.execute()


def texts(notebook: nbformat.NotebookNode) -> list[str]:
    """The plain text of every output."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [output.get("text") or output["data"].get("text/plain", "") for output in outputs]


def test_the_notebook_finds_what_the_guide_says(executed: tuple[Path, nbformat.NotebookNode]) -> None:
    _, notebook = executed
    stored = nbformat.read(ROOT / "examples" / "guide.ipynb", as_version=4)
    for ours in (texts(notebook), texts(stored)):
        (best,) = [text for text in ours if "score.mean" in text]
        assert re.search(r"requests +spot +questions +0\.765", best), best
        assert any("cannot be said: there is only 1 source" in text for text in ours)
        assert ours[-1].strip() == "'quantity'"


def test_the_guide_is_followed_word_by_word(
    executed: tuple[Path, nbformat.NotebookNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, notebook = executed
    monkeypatch.chdir(folder)
    (data,) = [text for language, text in BLOCKS if language == "python"]
    assert data.strip() in notebook.cells[1].source
    rows = next(text for language, text in BLOCKS if not language and text.startswith("text\nCould"))
    (folder / "new.csv").write_text(rows, encoding="utf-8")
    said = {command: (out, err) for command, out, err in followed(folder)}
    found = next(err for command, (_, err) in said.items() if command == "panda-tune search requests.yaml")
    assert "nothing was computed" in found, "the notebook's experiment is not that of the guide"
    table = next(text for language, text in BLOCKS if not language and text.startswith("Best configuration"))
    (row,) = [line.split() for line in table.splitlines() if line.startswith("requests")]
    printed, _ = said["panda-tune search requests.yaml"]
    assert [line.split()[:-1] for line in printed.splitlines() if "spot" in line][-1] == row[:-1]  # but for seconds
    assert (folder / "adapter" / "README.md").is_file()
    told = [json.loads(line) for line in said["panda-tune predict winner new.csv"][0].splitlines()]
    assert [answer["prediction"] for answer in told] == ["quantity", "person"]


def followed(folder: Path) -> Iterator[tuple[str, str, str]]:
    """What each command of the guide printed, in its order; the file is edited as the guide says."""
    (edits,) = [yaml.safe_load(text) for language, text in BLOCKS if language == "yaml" and "name: helpdesk" in text]
    for command in COMMANDS:
        if command.startswith(ANOTHER_TERMINAL):
            continue
        words, _, out = command.partition(" > ")
        done = panda_tune_here(*shlex.split(words)[1:])
        if out:
            (folder / out).write_text(done.stdout, encoding="utf-8")
        if " new " in words:
            file = folder / "requests.yaml"
            drafted = yaml.safe_load(file.read_text(encoding="utf-8"))
            file.write_text(yaml.safe_dump({**drafted, **edits}), encoding="utf-8")
        yield command, done.stdout, done.stderr

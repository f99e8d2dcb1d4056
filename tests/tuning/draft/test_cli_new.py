"""The command `panda-tune new`: a file whole or not at all, never over another; what comes next is named."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.kits.command import COMMAND, panda_tune_here
from tuning import api
from tuning.experiment.loading import load


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of data in the current folder, on a machine that does not see the hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "data" / "reviews"
    folder.mkdir(parents=True)
    rows = "".join(f"a film of {n} days,{('good', 'bad')[n % 2]}\n" for n in range(40))
    (folder / "train.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    return tmp_path / "data"


def test_the_file_is_written_and_the_next_command_named(data: Path) -> None:
    done = panda_tune_here("new", data)
    assert done.stdout == "experiment.yaml\n"
    assert done.stderr.endswith("Next: panda-tune search experiment.yaml --dry-run\n")
    assert load(Path("experiment.yaml")).targets == ["reviews"]
    assert Path("experiment.yaml").read_text(encoding="utf-8") == api.new(data)
    assert [path.name for path in sorted(Path().iterdir())] == ["data", "experiment.yaml"]


def test_another_file_is_never_overwritten_unasked(data: Path) -> None:
    Path("experiment.yaml").write_text("mine", encoding="utf-8")
    refused = panda_tune_here("new", data, code=2)
    assert (
        refused.stderr
        == "experiment.yaml: is there already; name another file by --out, or overwrite it with --force\n"
    )
    assert Path("experiment.yaml").read_text(encoding="utf-8") == "mine"
    panda_tune_here("new", data, "--force")
    assert load(Path("experiment.yaml")).name == "reviews"


def test_nothing_is_written_where_something_is_refused(data: Path) -> None:
    refused = panda_tune_here("new", data, "--out", "no/file.yaml", code=2).stderr
    assert "--out no/file.yaml: cannot be written (No such file or directory)" in refused
    (data / "reviews" / "train.csv").write_text("", encoding="utf-8")
    assert "has no rows" in panda_tune_here("new", data, code=2).stderr
    assert "no such folder" in panda_tune_here("new", "nowhere", code=2).stderr
    assert [path.name for path in sorted(Path().iterdir())] == ["data"]


def test_what_is_asked_is_told_and_search_refuses_it_in_the_same_words(data: Path) -> None:
    rows = "".join(f"a film of {n} days,{'ab'[n % 2]},{'cd'[n % 2]}\n" for n in range(40))
    (data / "reviews" / "train.csv").write_text(f"text,mood,place\n{rows}", encoding="utf-8")
    question = "which column? there are: mood (2 values: a, b), place (2 values: c, d)"
    assert f"to be said: label: ???  # {question}\n" in panda_tune_here("new", data).stderr
    refused = panda_tune_here("search", "experiment.yaml", code=2).stderr
    (line,) = [
        n
        for n, text in enumerate(Path("experiment.yaml").read_text(encoding="utf-8").splitlines(), 1)
        if "???  #" in text
    ]
    assert refused == f"experiment.yaml:{line}: tasks.reviews.label: is still to be said: ???; {question}\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("panda-tune tasks show tweet_h", "tweet_hate"),
        ("panda-tune best experiment.yaml --target r", "reviews"),
        ("panda-tune retrieve experiment.yaml --by c_mean_c", "c_mean_change"),
        ("panda-tune qu", "quickstart"),
    ],
)
def test_the_shell_completes_commands_tasks_targets_and_similarities(data: Path, words: str, expected: str) -> None:
    Path("experiment.yaml").write_text("targets: [reviews]", encoding="utf-8")
    environment = {
        **os.environ, "_PANDA_TUNE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1),
    }  # fmt: skip
    done = subprocess.run([COMMAND], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.split() == [expected], done.stderr

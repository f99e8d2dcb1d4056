"""`panda-tune tasks show`: rows of a task as a PLM reads them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kits.command import experiment_file, panda_tune_here
from tests.kits.language_models import save_lm, with_digits
from tests.kits.small import OWN
from tests.kits.tasks import kind_rows, rows_of, write_task

ASKED = {**OWN, "template": "{a} It was {answer}.", "words": ["terrible", ["great", "very"]]}
TASKS = dict.fromkeys(("s1", "s2", "t"), ASKED)
Lms = Callable[[str], Path]


@pytest.fixture(scope="module")
def lms(tmp_path_factory: pytest.TempPathFactory) -> Lms:
    """Folders of language models."""
    folder = tmp_path_factory.mktemp("lm")
    return lambda name: folder / name if (folder / name).is_dir() else save_lm(folder / name, name)


def show(*arguments: Any, code: int = 0) -> list[str]:
    done = panda_tune_here("tasks", "show", *arguments, code=code)
    return (done.stderr if code else done.stdout).splitlines()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    train, validation = (
        [{"sentence": f"w1 {row['a']}", "label": row["label"]} for row in rows_of(8, seed=seed)] for seed in (0, 1)
    )
    write_task(tmp_path / "data" / "cr", train, validation)
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("llama", ". It was ⟨answer⟩"),
        ("t5", ". It was [SEP] | [PAD] [CLS] ⟨answer⟩"),
        ("bert", "It was ⟨answer⟩ . [SEP]"),
    ],
)
def test_three_rows_are_shown_as_the_plm_reads_them(lms: Lms, data: Path, name: str, ends: str) -> None:
    lines = show("cr", "--plm", lms(name), "--data", data, *(["--head", "lm"] if name == "bert" else []))
    assert len(lines) == 6
    rights = [line.rpartition("   [")[2] for line in lines[1:4]]
    assert rights == ["negative: terrible]", "positive: great]", "negative: terrible]"]
    assert all(line.startswith(f"{i}  [CLS] w1 ") for i, line in enumerate(lines[1:4], 1))
    assert name == "llama" or all(line.rpartition("   [")[0].endswith(ends.removeprefix(". ")) for line in lines[1:4])
    assert lines[4:] == ["negative = terrible", "positive = great"]


@pytest.mark.parametrize("template", ["natural", "t5"])
@pytest.mark.parametrize("name", ["llama", "t5"])
def test_choices_are_shown_behind_what_is_asked(lms: Lms, tmp_path: Path, name: str, template: str) -> None:
    row = {"premise": "w1 w2", "choice1": "w3 is great", "choice2": "w4 was a place", "question": "effect", "label": 1}
    rows = [{**row, "premise": f"w1 x{i}", "label": (i + 1) % 2} for i in range(8)]
    write_task(tmp_path / "data" / "copa", [row, *rows[1:]], rows)
    file = experiment_file(
        tmp_path, lms(name), template=template, targets=["copa"], sources=[], methods=[],
        tasks={} if template == "natural" else {"copa": ASKED_AS_T5},
    )  # fmt: skip
    lines = show("copa", "--file", file, "--rows", 1)
    assert lines[0].endswith("choices" if template == "natural" else "verbaliser")
    behind = " [SEP] | [PAD] [CLS] ⟨answer⟩" if name == "t5" else " ⟨answer⟩"
    if template == "natural":
        asked = "w1 w2 [UNK]"
        assert lines[1:] == [f"1  [CLS] {asked}{behind}   [choice2]", "   = w3 is great", "   = w4 was a place"]
    else:
        asked = "w3 is great . w4 was a place . w1 w2 [UNK]"
        assert lines[1:] == [f"1  [CLS] {asked}{behind}   [choice2: time]", "choice1 = person", "choice2 = time"]


ASKED_AS_T5 = {
    "kind": "multiple_choice", "text": "{premise} {joiner}", "choices": ["choice1", "choice2"], "prepare": "copa",
    "template": "t5",
    "t5": {"template": "{choice1} . {choice2} . {premise} {question} {answer}", "words": ["person", "time"]},
}  # fmt: skip
"""T5's form, of words that the tokenizer knows."""


def test_numbers_that_answer_a_regression_are_shown(lms: Lms, tmp_path: Path) -> None:
    folder = with_digits(shutil.copytree(lms("llama"), tmp_path / "digits"))
    write_task(tmp_path / "own" / "t", kind_rows("regression", 12), kind_rows("regression", 6))
    task = {
        "kind": "regression",
        "text": "a",
        "template": "{a} {answer}",
        "words": ["0", "5"],
        "path": str(tmp_path / "own" / "t"),
    }
    file = experiment_file(tmp_path, folder, tasks={"t": task}, sources=[], methods=[])
    lines = show("t", "--file", file, "--rows", 2)
    assert [line.rpartition("   ")[2] for line in lines[1:]] == ["[0.0]", "[1.01]", "value = 0 or 5"]


def test_a_row_that_a_trained_head_answers_has_no_slot(lms: Lms, data: Path) -> None:
    lines = show("cr", "--plm", lms("bert"), "--data", data, "--rows", 2)
    assert len(lines) == 3
    assert not any("⟨answer⟩" in line for line in lines)


def test_a_task_of_a_file_is_shown_on_its_plm(lms: Lms, tmp_path: Path) -> None:
    file = experiment_file(tmp_path, lms("llama"), tasks=TASKS)
    (shown,) = json.loads("\n".join(show("t", "--file", file, "--format", "json", "--rows", 1)))
    assert (shown["kind"], shown["readout"]) == ("causal_lm", "verbaliser")
    assert shown["words"] == {"no": ["terrible"], "yes": ["great", "very"]}


def test_what_cannot_be_shown_is_refused(lms: Lms, data: Path, tmp_path: Path) -> None:
    file = experiment_file(tmp_path, lms("llama"), tasks=TASKS)
    assert "a PLM is needed" in show("cr", code=2)[0]
    assert "unknown task 'u'" in show("u", "--file", file, code=2)[0]
    assert (
        "is no word of its tokenizer" in show("cr", "--plm", lms("t5"), "--data", data, "--template", "t5", code=2)[0]
    )

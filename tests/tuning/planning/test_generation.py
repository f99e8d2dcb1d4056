"""Plans with tasks that a language model writes: what cannot be written is refused before anything starts."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from panda_trainable.library import PromptLibrary
from tests.kits.command import experiment_file
from tests.kits.language_models import save_lm
from tests.kits.small import OWN, plans_of, rewritten, studies_of
from tests.kits.tasks import kind_rows, write_task
from tuning.experiment.loading import load
from tuning.experiment.problems import Misuse
from tuning.planning.imported import imported_task, task_card
from tuning.planning.preflight import preflight
from tuning.planning.resolve import make_plans, resolve
from tuning.run.confirm import _logits_frame
from tuning.run.show import MARK, show
from tuning.tracking.study_runs import _asked

ASKED = {**OWN, "template": "{a} It was {answer}.", "words": ["terrible", "great"]}
WRITTEN: dict[str, Any] = {"kind": "generation", "text": "a", "label": "summary"}
QUESTION: dict[str, Any] = {"kind": "extractive_qa", "text": ["question", "passage"], "label": "answers"}
MODELLED: dict[str, Any] = {"kind": "generation", "text": "text", "window": 6}
TASKS = {"s1": MODELLED, "s2": ASKED, "t": WRITTEN}
Lms = Callable[[str], Path]


@pytest.fixture(scope="module")
def lms(tmp_path_factory: pytest.TempPathFactory) -> Lms:
    """Folders of language models, made once."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = save_lm(tmp_path_factory.mktemp("lm") / name, name)
        return made[name]

    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Data of a task that is written, of a question, and a folder of texts."""
    made = tmp_path / "written"
    write_task(made / "t", kind_rows("generation", 60), kind_rows("generation", 24, 9))
    write_task(made / "q", kind_rows("extractive_qa", 60), kind_rows("extractive_qa", 24, 9))
    generator = np.random.default_rng(0)
    for number in range(6):
        text = " ".join(f"w{i}" for i in generator.integers(40, size=60))
        (made / "s1").mkdir(exist_ok=True)
        (made / "s1" / f"{number}.txt").write_text(text)
    return made


def file_of(folder: Path, data: Path, plm: Any, **values: Any) -> Path:
    """An experiment file whose written tasks lie in a folder of their own."""
    values = {"tasks": TASKS, "methods": ["spot", "zero_shot"], **values}
    paths = {
        name: {**task, "path": str(data / name)} for name, task in values["tasks"].items() if (data / name).is_dir()
    }
    file = experiment_file(folder, Path("unused"), **{**values, "tasks": {**values["tasks"], **paths}})
    return rewritten(file, plm=plm if isinstance(plm, dict) else {"from": str(plm)})


def problems_of(folder: Path, data: Path, plm: Any, **values: Any) -> str:
    with pytest.raises(Misuse) as refused:
        preflight(load(file_of(folder, data, plm, **values)), PromptLibrary(folder / "library"))
    assert not (folder / "runs").exists()
    return str(refused.value)


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_all_pairs_of_what_is_written_modelled_and_asked_in_words_are_planned(
    lms: Lms, tmp_path: Path, data: Path, name: str
) -> None:
    (plan,), notes = preflight(load(file_of(tmp_path, data, lms(name))), PromptLibrary(tmp_path / "library"))
    assert {name: task.readout for name, task in plan.tasks.items()} == {
        "s1": "generation", "s2": "verbaliser", "t": "generation"
    }  # fmt: skip
    assert plan.left_out == ()
    assert len(plan.pairs) == 5
    assert not [note for note in notes if "left out" in note]
    base = next(iter(studies_of(plan).values())).base
    assert _asked(base) == {"target.template": "{1} {answer}", "target.words": []}


def test_the_same_question_is_marked_by_a_head_and_written_by_a_language_model(
    lms: Lms, plms: Callable[[str], Path], tmp_path: Path, data: Path
) -> None:
    tasks = {"s1": QUESTION, "s2": QUESTION, "t": QUESTION}
    tasks = {name: {**task, "path": str(data / "q")} for name, task in tasks.items()}
    encoder, causal = plans_of(tmp_path, plms("bert"), lms("llama"), tasks=tasks, methods=["spot"])
    assert [plan.tasks["t"].readout for plan in (encoder, causal)] == ["linear", "generation"]
    assert [plan.tasks["t"].metrics for plan in (encoder, causal)] == [("answer_f1", "exact_match")] * 2


@pytest.mark.parametrize(
    ("name", "head", "rule"),
    [
        ("bert", None, "task t: a generation is written by a causal or encoder-decoder language model's own head"),
        ("llama", "linear", "task t: a generation is written by a causal or encoder-decoder language model's own head"),
        ("bert", "lm", "task t: its answers are written, and"),
    ],
)
def test_a_generation_of_an_encoder_is_refused(
    lms: Lms, tmp_path: Path, data: Path, name: str, head: str | None, rule: str
) -> None:
    plm = {"from": str(lms(name)), **({"head": head} if head else {})}
    told = problems_of(tmp_path, data, plm, tasks={"s1": ASKED, "s2": ASKED, "t": WRITTEN}, methods=["spot"])
    assert told.count(rule) == 1


BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("llama", {"kd": "kl", "methods": ["panda"]}, "kl is not defined for t (generation); use mse"),
    ("llama", {"tasks": {**TASKS, "t": {**WRITTEN, "template": "{answer}: {a}"}}}, "has a field behind the slot"),
    ("llama", {"prompt": {"length": 3, "init": "labels"}}, "labels starts from class names, and t has none"),
    (
        "gpt2",
        {"train": {"max_length": 40, "max_answer": 30}},
        "prompt length 3 + max_length 40 + max_answer 30 is over the 64",
    ),
    (
        "bart",
        {"train": {"max_length": 40, "max_answer": 65}},
        "train.max_answer 65 is over the 64 positions of its decoder",
    ),
    ("llama", {"teacher_plm": {"from": "bert"}, "methods": ["distill"]}, "a generation is written by"),
    ("llama", {"methods": ["linear_probe"]}, "linear_probe trains a head alone"),
]


@pytest.mark.parametrize(("name", "changes", "rule"), BROKEN, ids=[rule for _, _, rule in BROKEN])
def test_what_cannot_be_written_or_taught_is_refused_before_anything_starts(
    lms: Lms, tmp_path: Path, data: Path, name: str, changes: dict[str, Any], rule: str
) -> None:
    if "teacher_plm" in changes:
        changes = {**changes, "teacher_plm": {"from": str(lms("bert"))}}
    assert rule in problems_of(tmp_path, data, lms(name), **changes)


@pytest.mark.parametrize(
    ("task", "rule"),
    [
        ({**WRITTEN, "metrics": ["accuracy"]}, "metrics of a generation must be of rouge_l, exact_match, answer_f1"),
        ({**WRITTEN, "classes": ["no", "yes"]}, "a generation has no classes"),
        ({**MODELLED, "window": 2}, "window must be 0 or at least 4 words, got 2"),
        ({**MODELLED, "text": ["a", "b"]}, "window cuts the one text of a generation, a field"),
    ],
)
def test_a_wrong_task_is_told_with_its_place_in_the_file(
    lms: Lms, tmp_path: Path, data: Path, task: dict[str, Any], rule: str
) -> None:
    with pytest.raises(Misuse) as refused:
        load(file_of(tmp_path, data, lms("llama"), tasks={**TASKS, "t": task}))
    assert rule in str(refused.value)
    assert "experiment.yaml:1: " in str(refused.value)


@pytest.mark.parametrize("name", ["s1", "t", "s2"])
def test_imported_prompts_are_known_however_a_plm_answers(lms: Lms, tmp_path: Path, data: Path, name: str) -> None:
    tasks = {**TASKS, "s2": {**QUESTION, "path": str(data / "q")}}
    experiment = load(file_of(tmp_path, data, lms("llama"), tasks=tasks))
    (plan,) = make_plans(experiment)
    (tmp_path / "library" / "tasks").mkdir(parents=True)
    (tmp_path / "library" / "tasks" / f"{name}.json").write_text(json.dumps(task_card(plan.tasks[name])))
    raw = resolve(experiment).tasks[name]
    assert (known := imported_task(tmp_path / "library", raw)) is not None
    assert known.on(plan.setting.plm).fingerprints == plan.tasks[name].fingerprints
    assert imported_task(tmp_path / "library", replace(raw, label="other")) is None
    if name == "s1":
        assert imported_task(tmp_path / "library", replace(raw, window=8)) is None


def test_rows_are_shown_with_what_is_to_be_written(lms: Lms, tmp_path: Path, data: Path) -> None:
    (shown,) = show(load(file_of(tmp_path, data, lms("llama"))), "t", 2)
    assert (shown.readout, shown.words) == ("generation", {})
    assert all(row["reads"][0].endswith(MARK) for row in shown.rows)
    first = json.loads((data / "t" / "train.jsonl").read_text().splitlines()[1])
    assert shown.rows[1]["right"] == " or ".join(first["summary"])


def test_what_was_written_is_kept_as_texts() -> None:
    frame = _logits_frame((10, 11), np.array([["a b", "c"], ["", "d"]]))
    assert frame.columns.tolist() == ["seed", "row", "answer"]
    assert frame.answer.tolist() == ["a b", "c", "", "d"]

"""Answers to new rows: worked out by hand, with and without labels, of one replica and of all; and what is refused."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from panda_trainable.config.setting import Plm, Setting
from panda_trainable.config.task import LabelRules, TaskSpec
from panda_trainable.config.trial import TrialConfig
from panda_trainable.data.gold import MASKED, AnswerGold, TagGold
from panda_trainable.data.rows import Example
from panda_trainable.library import PromptLibrary
from panda_trainable.prediction.answers import ANSWERS, ClassAnswer, together, widened
from panda_trainable.prediction.folder import write_winner
from panda_trainable.prediction.new_rows import NewRow, new_rows
from panda_trainable.prediction.predictor import Predictor
from panda_trainable.prediction.winner import CARD, checksum
from panda_trainable.pretrained.files import checked_folder
from panda_trainable.transfer.methods import open_trainer
from tests.kits.plms import save_wide_plm
from tests.kits.tasks import SPECS, kind_rows, rows_of

Trials = Callable[..., TrialConfig]
LOG = np.log
ROW = [NewRow(1, None, Example((("x",),), 0, ("x",)), is_labelled=True)]


def made(library: PromptLibrary, config: TrialConfig, folder: Path) -> Path:
    trainer = open_trainer(library, config)
    trainer.advance(config.steps)
    write_winner(folder, config, trainer, {"selection": trainer.select()})
    return folder


@pytest.fixture
def predictor(library: PromptLibrary, trial: Trials, tmp_path: Path) -> Predictor:
    return Predictor.load(made(library, trial(), tmp_path / "winner"))


@pytest.fixture
def of_kind(
    library: PromptLibrary, trial: Trials, kind_task: Callable[..., TaskSpec], tmp_path: Path
) -> Callable[[str], Predictor]:
    return lambda kind: Predictor.load(made(library, trial(target=kind_task(kind)), tmp_path / kind))


def test_a_class_has_its_softmax() -> None:
    said = np.array([[LOG(3.0), LOG(1.0)]], np.float32)
    (answer,) = ANSWERS["classification"](SPECS["classification"], said, ROW, np.array([0]))
    assert isinstance(answer, ClassAnswer)
    assert (answer.name, answer.probabilities) == ("no", {"no": pytest.approx(0.75), "yes": pytest.approx(0.25)})
    assert answer.as_dict() == {
        "row": 1, "prediction": "no", "probability": answer.probabilities["no"], "probabilities": answer.probabilities,
    }  # fmt: skip


def test_choices_are_numbered_as_files_count() -> None:
    task = replace(SPECS["multiple_choice"], labels=LabelRules(first=1))
    (answer,) = ANSWERS["multiple_choice"](task, np.array([[0.0, LOG(2.0), 0.0]]), ROW, np.array([0]))
    assert (answer.prediction, answer.details["probability"]) == (2, pytest.approx(0.5))
    assert list(answer.details["probabilities"]) == ["1", "2", "3"]


def test_words_have_tags_and_those_that_are_not_seen_are_outside() -> None:
    row = [NewRow(3, "k7", Example((("Rome", "is", "far"),), (0, 0, 0), ("x",)), is_labelled=False)]
    said = np.array([[[0, LOG(3.0), 0, -99], [0, 0, 0, 0], [9, 0, 0, 0]]], np.float32)
    gold = np.empty(1, object)
    gold[0] = TagGold(SPECS["tagging"].classes, (0, 0, 0), (1, -1, 3))
    (answer,) = ANSWERS["tagging"](SPECS["tagging"], said, row, gold)
    assert (answer.row, answer.id, answer.prediction) == (3, "k7", ["B-X", "O", "O"])
    probabilities = answer.details["probabilities"]
    assert (probabilities[0], probabilities[1]) == (pytest.approx(0.6), None)


def test_a_span_is_the_likeliest_with_its_place() -> None:
    said = np.array([[[MASKED, LOG(3.0), 0.0], [MASKED, 0.0, LOG(4.0)]]])
    gold = np.empty(1, object)
    gold[0] = AnswerGold("in old Rome", (), np.array([[0, 0], [3, 6], [7, 11]], np.int32))
    (answer,) = ANSWERS["extractive_qa"](SPECS["extractive_qa"], said, ROW, gold)
    assert answer.as_dict() == {
        "row": 1, "prediction": "old Rome", "answer_start": 3, "probability": pytest.approx(0.75 * 0.8),
    }  # fmt: skip


def test_several_replicas_say_the_mean_of_probabilities_or_values() -> None:
    said = [np.array([[LOG(3.0), LOG(1.0)]]), np.array([[LOG(1.0), LOG(9.0)]])]
    assert np.exp(together("classification", said)).tolist() == [[pytest.approx(0.425), pytest.approx(0.575)]]
    assert together("regression", [np.array([[1.0]]), np.array([[4.0]])]).tolist() == [[2.5]]
    assert together("classification", said[:1]) is said[0]


def test_batches_of_different_widths_are_put_together() -> None:
    pieces = [np.ones((1, 2, 3)), np.ones((2, 2, 1))]
    assert widened("extractive_qa", pieces)[1].tolist() == [[1, MASKED, MASKED]] * 2
    assert widened("classification", [np.ones((1, 2))] * 2).shape == (2, 2)


def test_the_mean_of_replicas_is_that_of_each_alone(predictor: Predictor) -> None:
    rows = rows_of(9, seed=5)
    alone = [predictor.predict(rows, replica=seed).rows() for seed in (0, 1)]
    for whole, *each in zip(predictor.predict(rows).rows(), *alone, strict=True):
        for name, share in whole["probabilities"].items():
            assert share == pytest.approx(sum(one["probabilities"][name] for one in each) / 2, abs=1e-9)


@pytest.mark.parametrize("kind", ["classification", "regression", "multiple_choice", "tagging", "extractive_qa"])
def test_labels_change_no_answer_and_batches_none(of_kind: Callable[[str], Predictor], kind: str) -> None:
    predictor, rows = of_kind(kind), kind_rows(kind, 9, seed=3)
    label = predictor.winner.task.label
    bare = [{name: value for name, value in row.items() if name != label} for row in rows]
    whole, without = predictor.predict(rows), predictor.predict(bare, batch=4)
    for one, other in zip(whole.rows(), without.rows(), strict=True):
        assert one["prediction"] == other["prediction"] if kind != "regression" else True
        assert one == pytest.approx(other, abs=1e-5) if kind == "regression" else one["row"] == other["row"]
    assert (whole.labelled, without.labelled, without.scores, without.by_seed) == (9, 0, {}, {})
    assert set(whole.scores) == set(predictor.winner.task.metrics) == set(whole.by_seed[1])


def test_values_are_in_the_units_of_the_labels(of_kind: Callable[[str], Predictor]) -> None:
    predictor, rows = of_kind("regression"), rows_of(5, kind="regression")
    values = [row["prediction"] for row in predictor.predict(rows, replica=1).rows()]
    logits = predictor.logits(rows)[1][:, 0]
    labels = [float(row["label"]) for row in rows_of(60, kind="regression")]
    scaled = (np.array(values) - logits * 1.0) / 1.0
    assert not np.allclose(scaled, 0)
    mean, deviation = np.polyfit(logits, values, 1)[::-1]
    assert (mean, deviation) == (pytest.approx(np.mean(labels), abs=0.1), pytest.approx(np.std(labels), abs=0.1))


def test_some_rows_may_be_labelled_and_they_alone_are_scored(predictor: Predictor) -> None:
    rows = rows_of(8, seed=2)
    mixed = [
        {**row, "label": value} for row, value in zip(rows, [0, 1, "c1", "", None, -1, float("nan"), "c0"], strict=True)
    ]
    found = predictor.predict(mixed)
    right = [found.rows()[i]["prediction"] == name for i, name in ((0, "c0"), (1, "c1"), (2, "c1"), (7, "c0"))]
    assert (found.labelled, found.scores) == (4, {"accuracy": pytest.approx(sum(right) / 4)})


def test_ids_of_rows_come_back(predictor: Predictor) -> None:
    rows = [{"a": "w1 w2", "id": "first"}, {"a": "w3"}]
    assert [row.get("id") for row in predictor.predict(rows).rows()] == ["first", None]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"b": "w1"}], r"rows, row 1: needs the field a; it has b: rename the field, or name the right one in `text`"),
        ([{"a": "w1"}, {"a": " "}], "rows, row 2: a must be a text that is not empty"),
        ([{"a": "w1", "label": "c7"}], "rows, row 1: label must be 0 to 1 or one of c0, c1, got 'c7'"),
        ([{"a": 7}], "a must be a text that is not empty, got 7"),
        ([], "there are no rows to answer"),
    ],
)
def test_rows_that_are_none_of_the_task_are_refused(predictor: Predictor, rows: list[Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        predictor.predict(rows)


@pytest.mark.parametrize(
    ("kind", "row", "told"),
    [
        ("tagging", {"words": []}, "words must be a list of words"),
        ("extractive_qa", {"question": "w1", "passage": ""}, "passage must be a text that is not empty"),
        ("extractive_qa", {"question": "w1"}, "needs the field passage; it has question:"),
        ("multiple_choice", {"a": "w1", "c0": "w2"}, "needs the field c1, c2; it has a, c0:"),
        (
            "multiple_choice",
            {"a": "w1", "c0": "w2", "c1": "w", "c2": "w", "label": 3},
            "label must be one of 0, 1, 2, got 3",
        ),
    ],
)
def test_rows_of_other_kinds_are_refused(kind: str, row: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        new_rows(replace(SPECS[kind], name="t"), [("rows, row 1", row)])


def test_rows_of_named_entities_need_no_answers() -> None:
    from panda_trainable.data.task_table import TASKS

    record = replace(TASKS["record"], fingerprints=(("train", "x"),))
    row = {"passage": "w1 w2", "query": "it was @placeholder", "entities": ["w1", "w2"], "idx": 3}
    found = new_rows(record, [("x", row)])
    assert [(one.number, one.is_labelled) for one in found] == [(1, False), (1, False)]
    assert [one.is_labelled for one in new_rows(record, [("x", {**row, "answers": ["w2"]})])] == [True, True]


def test_rows_of_a_rare_class_that_was_left_out_are_answered_and_not_scored() -> None:
    task = replace(SPECS["classification"], name="t", labels=LabelRules("drop", ("no", "seldom", "yes")))
    found = new_rows(task, [("x", {"a": "w", "label": name}) for name in ("no", "seldom", "yes")])
    assert [one.is_labelled for one in found] == [True, False, True]


def test_texts_are_cut_into_windows_as_they_were_trained_on_unless_they_have_no_label() -> None:
    task = replace(SPECS["generation"], name="t", label="rest", window=4)
    cut = new_rows(task, [("x", {"a": "a b c d e f g h"})])
    assert [(one.example.texts, one.example.label) for one in cut] == [((("a b",),), ("c d",)), ((("e f",),), ("g h",))]
    (whole,) = new_rows(task, [("x", {"a": "a b c d e f g h", "rest": None})])
    assert (whole.example.texts, whole.is_labelled) == ((("a b c d e f g h",),), False)


def test_a_replica_is_named_by_its_seed(predictor: Predictor) -> None:
    with pytest.raises(ValueError, match="replica 7: the winner has those of seeds 0, 1; name one"):
        predictor.predict(rows_of(2), replica=7)


def test_a_replica_that_diverged_is_named_and_others_answer(
    library: PromptLibrary, trial: Trials, tmp_path: Path
) -> None:
    config = trial(steps=2)
    trainer = open_trainer(library, config)
    with torch.no_grad():
        trainer.trainables["prompt"][1] = float("nan")
    write_winner(tmp_path / "winner", config, trainer, {"selection": {"accuracy": [0.5, float("nan")]}})
    predictor = Predictor.load(tmp_path / "winner")
    with pytest.raises(ValueError, match="replica 1 of the winner diverged"):
        predictor.predict(rows_of(2))
    assert len(predictor.predict(rows_of(2), replica=0).rows()) == 2


@pytest.mark.parametrize("content", [b"x" * 40, safetensors.torch.save({"other": torch.zeros(2)})])
def test_files_that_are_none_of_a_winner_are_refused_though_their_checksums_hold(
    library: PromptLibrary, trial: Trials, tmp_path: Path, content: bytes
) -> None:
    folder = made(library, trial(steps=2), tmp_path / "winner")
    card = json.loads((folder / CARD).read_text())
    for name in card["files"]:
        (folder / name).write_bytes(content)
        card["files"][name] = checksum(folder / name)
    (folder / CARD).write_text(json.dumps(card))
    with pytest.raises(ValueError, match="its files hold not what its card says"):
        Predictor.load(folder)


def test_all_weights_answer_as_they_were_trained(library: PromptLibrary, trial: Trials, tmp_path: Path) -> None:
    config = trial("model_tuning")
    trainer = open_trainer(library, config)
    trainer.advance(4)
    scores, logits, _ = trainer.report()
    write_winner(tmp_path / "winner", config, trainer, {"report": scores})
    rows = [json.loads(line) for line in Path(config.target.origin.place("validation")).read_text().splitlines()]
    np.testing.assert_allclose(Predictor.load(tmp_path / "winner").logits(rows), logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json"])
def test_files_are_read_as_those_of_tasks(predictor: Predictor, tmp_path: Path, ending: str) -> None:
    rows = [{"a": row["a"], "label": str(row["label"])} for row in rows_of(4)]
    mark = {"csv": ",", "tsv": "\t"}.get(ending, "")
    table = "\n".join(mark.join(cells) for cells in (("a", "label"), *(row.values() for row in rows)))
    text = {"jsonl": "\n".join(map(json.dumps, rows)), "json": json.dumps(rows)}.get(ending, table)
    (tmp_path / f"rows.{ending}").write_text(text)
    assert predictor.predict_file(tmp_path / f"rows.{ending}") == predictor.predict(rows)


def test_a_wrong_row_of_a_file_has_its_line(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a": "w1"}\n{"a": 3}\nnonsense\n')
    with pytest.raises(ValueError, match=r"rows\.jsonl:2: a must be a text(.|\n)*rows\.jsonl:3: "):
        predictor.predict_file(tmp_path / "rows.jsonl")
    with pytest.raises(ValueError, match=r"none\.csv: is not there"):
        predictor.predict_file(tmp_path / "none.csv")


def test_a_plm_with_other_files_is_refused_and_the_right_one_may_lie_elsewhere(
    library: PromptLibrary, trial: Trials, setting: Setting, tmp_path: Path
) -> None:
    other = save_wide_plm(tmp_path / "other")
    config = trial(steps=2)
    made(library, config, tmp_path / "winner")
    right = setting.plm.files
    with pytest.raises(ValueError, match=f"whose hash is {right} and theirs {other.files}; a prompt fits the PLM"):
        Predictor.load(tmp_path / "winner", plm=other.source)
    moved = tmp_path / "moved"
    moved.symlink_to(setting.plm.source)
    assert Predictor.load(tmp_path / "winner", plm=str(moved)).winner.plm.source == str(moved)
    checked_folder.cache_clear()


HYGIENE = """
import sys
from panda_trainable.prediction.predictor import Predictor
found = Predictor.load(sys.argv[1]).predict([{"a": "w1 w2"}, {"a": "w3"}])
assert len(found.answers) == 2
print(sorted({name.split(".")[0] for name in sys.modules} & {"ray", "mlflow", "optuna", "datasets", "pydantic_core"}))
"""


def test_prediction_imports_neither_ray_nor_mlflow_nor_optuna(predictor: Predictor) -> None:
    call = [sys.executable, "-c", HYGIENE, str(predictor.winner.folder)]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert not {"ray", "mlflow", "optuna"} & set(json.loads(done.stdout.replace("'", '"')))


def test_a_plm_value_is_not_changed_by_being_found(predictor: Predictor, setting: Setting) -> None:
    plm: Plm = predictor.winner.plm
    assert plm == setting.plm

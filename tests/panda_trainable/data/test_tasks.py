"""Tasks: every row of the table is whole, its real data are its rows, and a wrong task is refused with its rule."""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import TypeAdapter

from panda_trainable.config.kinds import CLASSES, KINDS, METRIC_NAMES, TEXTS
from panda_trainable.config.origin import Unlocated
from panda_trainable.config.task import SPLITS, Hub, TaskSpec
from panda_trainable.config.task_section import TaskSection
from panda_trainable.config.templates import fields_of
from panda_trainable.data.gold import AnswerGold, TagGold, TextGold
from panda_trainable.data.locate import located
from panda_trainable.data.prepare import PREPARE
from panda_trainable.data.rows import examples
from panda_trainable.data.task_table import TABLE, TASKS, with_panda_metrics
from panda_trainable.origins.demo import DEMO, Demonstration
from panda_trainable.origins.folder import FolderFiles
from panda_trainable.training.metrics import METRICS
from tests.kits.tasks import SHARED, needs_real_data

SPEC = TaskSpec("t", "classification", ("a",), "label", ("no", "yes"), ("accuracy",))
PANDA = [
    *("mnli", "qnli", "cb", "rte", "wsc", "mrpc", "qqp", "stsb", "boolq", "copa", "multirc", "record", "squad"),
    *("conll03", "conll04", "conll05", "conll12", "ontonotes", "sst2", "wic", "cola"),
]
REAL = sorted(path.name for path in (SHARED / "data").glob("*") if path.is_dir())
WHOLE_BELOW_MIB = 1.2

Predictions = tuple[Any, Any, Any]
"""Right logits, wrong logits, gold."""


def class_predictions(spec: TaskSpec) -> Predictions:
    labels = np.arange(12) % spec.outputs
    gold = np.zeros(12, [("label", np.int64), ("question", np.int64)])
    gold["label"], gold["question"] = labels, np.arange(12) // 3
    eye = np.eye(spec.outputs)
    return eye[labels], eye[(labels + 1) % spec.outputs], gold if spec.question else labels


def value_predictions(_: TaskSpec) -> Predictions:
    values = np.arange(12.0)
    return values[:, None], -values[:, None], values


def choice_predictions(spec: TaskSpec) -> Predictions:
    labels, eye = np.arange(12) % len(spec.choices), np.eye(len(spec.choices))
    return eye[labels], eye[::-1][labels], labels


def tag_predictions(spec: TaskSpec) -> Predictions:
    """One sentence in which every tag stands once."""
    tags = np.arange(spec.outputs)
    gold = np.empty(1, object)
    gold[0] = TagGold(spec.classes, tuple(tags), tuple(tags))
    return np.eye(spec.outputs)[None], np.eye(spec.outputs)[None, (tags + 1) % spec.outputs], gold


def answer_predictions(_: TaskSpec) -> Predictions:
    gold = np.empty(1, object)
    gold[0] = AnswerGold("one two three", ("three",), np.array([(0, 3), (4, 7), (8, 13)], np.int32))
    return np.eye(3)[None, [2, 2]], np.eye(3)[None, [0, 0]], gold


def text_predictions(_: TaskSpec) -> Predictions:
    gold = np.empty(1, object)
    gold[0] = TextGold(("one two", "three"))
    return np.array(["Three."]), np.array(["four"]), gold


PREDICTIONS: Mapping[str, Callable[[TaskSpec], Predictions]] = {
    "classification": class_predictions,
    "regression": value_predictions,
    "multiple_choice": choice_predictions,
    "tagging": tag_predictions,
    "extractive_qa": answer_predictions,
    "generation": text_predictions,
}


def test_every_kind_has_its_metrics_texts_and_classes() -> None:
    assert set(KINDS) == set(METRIC_NAMES) == set(TEXTS) == set(CLASSES) == set(PREDICTIONS)
    assert {name for names in METRIC_NAMES.values() for name in names} == set(METRICS)


@pytest.mark.parametrize("name", TASKS)
def test_a_row_of_the_table_is_a_whole_task(name: str) -> None:
    spec = TASKS[name]
    assert (spec.name, spec.fingerprints, spec.counts) == (name, (), ())
    assert spec.origin == (Demonstration(name) if name in DEMO else Unlocated("", spec.origin.reading))
    assert {field for text in (*spec.text, *spec.choices) for field in fields_of(text)} | {spec.label} <= set(
        spec.fields
    )
    assert set(spec.question) | set(spec.compared_fields) <= set(spec.fields)
    assert spec.compared_fields
    assert not spec.prepare or spec.prepare in PREPARE
    outputs = {"regression": 1, "multiple_choice": 1, "extractive_qa": 2}
    assert spec.outputs == outputs.get(spec.kind, len(spec.classes))
    assert spec.report_split == "validation"


@pytest.mark.parametrize("name", TASKS)
def test_a_row_of_the_table_travels_to_workers_and_keys_caches(name: str) -> None:
    assert pickle.loads(pickle.dumps(TASKS[name])) == TASKS[name]
    assert hash(TASKS[name]) == hash(replace(TASKS[name], hub=None))


@pytest.mark.parametrize("name", TASKS)
def test_perfect_predictions_score_one_and_wrong_ones_nothing_by_every_metric_of_a_task(name: str) -> None:
    spec = TASKS[name]
    right, wrong, gold = PREDICTIONS[spec.kind](spec)
    assert [METRICS[metric](right, gold) for metric in spec.metrics] == pytest.approx([1] * len(spec.metrics))
    assert max(METRICS[metric](wrong, gold) for metric in spec.metrics) <= 0


@pytest.mark.parametrize("name", TASKS)
def test_a_task_that_is_not_constructed_has_its_place_on_the_hub(name: str) -> None:
    spec = TASKS[name]
    assert (spec.hub is None) == name.startswith("demo_")
    if spec.hub:
        assert spec.hub.path
        assert set(spec.hub.columns) <= set(spec.fields)
        assert {"train"} < set(spec.hub.splits) <= set(SPLITS)


@pytest.mark.parametrize("form", ["natural", "t5"])
@pytest.mark.parametrize("name", [name for name, spec in TASKS.items() if spec.kind == "classification"])
def test_every_classification_can_be_asked_of_every_kind_of_language_model(name: str, form: str) -> None:
    wording = TASKS[name].worded(form).wording
    assert wording
    assert wording.ends_with_slot
    words = [word for of_class in wording.with_words(TASKS[name].classes).words for word in of_class]
    assert len(set(words)) == len(words) >= len(TASKS[name].classes)
    texts = [set(fields_of(text)) | {str(number)} for number, text in enumerate(TASKS[name].text, 1)]
    assert all(set(wording.names) & of_text for of_text in texts), "each text is asked"


def test_t5_names_tasks_as_its_paper_does() -> None:
    def asked(name: str, *values: str) -> str:
        wording = TASKS[name].worded("t5").wording
        assert wording
        return wording.around_slot(values)[0].strip()

    assert asked("sst2", "fine") == "sst2 sentence: fine"
    assert asked("rte", "A.", "B.") == "rte sentence1: A. sentence2: B."
    assert asked("mnli", "B.", "A.") == asked("mnli_mismatched", "B.", "A.") == "mnli hypothesis: B. premise: A."
    assert asked("qnli", "Why?", "So.") == "qnli question: Why? sentence: So."


def test_no_two_tasks_are_the_same_rows_of_the_hub() -> None:
    places = [(h.path, h.config, *sorted(h.splits.items())) for spec in TASKS.values() if (h := spec.hub)]
    assert len(set(places)) == len(places)


def test_the_file_of_the_table_is_read_as_users_tasks_are() -> None:
    filed = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    sections = TypeAdapter(dict[str, TaskSection]).validate_python(filed)
    specs = {name: section.spec(name) for name, section in sections.items()}
    assert specs == {name: spec for name, spec in TASKS.items() if name not in DEMO}
    assert [spec.hub for spec in specs.values()] == [TASKS[name].hub for name in specs]


def test_a_users_task_says_what_the_table_says() -> None:
    filed = {
        "text": ["paragraph", "answer"], "classes": [False, 1], "metrics": ["question_match"], "question": "question",
        "compared": ["paragraph"], "prepare": "wic", "hub": {"path": "o/n", "columns": {"answer": "a"}}, "id": "",
    }  # fmt: skip
    assert TypeAdapter(TaskSection).validate_python(filed).spec("t") == TaskSpec(
        "t", "classification", ("paragraph", "answer"), "label", ("false", "1"), ("question_match",),
        question=("question",), compared=("paragraph",), prepare="wic", id="", hub=Hub("o/n", columns={"answer": "a"}),
    )  # fmt: skip


def test_splits_of_the_hub_without_train_or_of_other_names_are_refused() -> None:
    for splits in ({"validation": "v"}, {"train": "t"}, {"train": "t", "dev": "d"}):
        with pytest.raises(ValueError, match="splits must be train and some of validation, test, got "):
            Hub("o/n", splits=splits)


def test_choices_without_a_stem_are_compared_by_themselves() -> None:
    spec = TaskSpec("t", "multiple_choice", (), "label", (), ("accuracy",), choices=("a", "b"))
    assert (spec.compared_fields, spec.fields) == (("a", "b"), ("a", "b", "label"))


def test_all_tasks_of_panda_are_rows_of_the_table() -> None:
    assert len(PANDA) == 21
    assert [name for name in PANDA if name not in TASKS] == []


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("mnli", ("premise", "hypothesis", "label")),
        ("boolq", ("question", "passage", "label")),
        ("multirc", ("paragraph", "question", "answer", "label")),
        ("copa", ("premise", "joiner", "choice1", "choice2", "label")),
        ("wic", ("sentence1", "sentence2", "word", "label")),
        ("wsc", ("span2_text", "text", "span1_text", "label")),
        ("record", ("passage", "filled", "label")),
        ("squad", ("question", "context", "answers")),
        ("conll03", ("words", "tags")),
        ("stsb", ("sentence1", "sentence2", "label")),
    ],
)
def test_the_fields_of_a_task_are_those_of_its_texts_and_its_label(name: str, fields: tuple[str, ...]) -> None:
    assert TASKS[name].fields == fields


@pytest.mark.parametrize(
    ("name", "compared"),
    [
        ("rte", ("premise", "hypothesis")),
        ("copa", ("premise",)),
        ("multirc", ("paragraph",)),
        ("wic", ("sentence1", "sentence2")),
        ("wsc", ("text",)),
        ("squad", ("context",)),
        ("record", ("passage",)),
    ],
)
def test_rows_are_compared_by_their_passages(name: str, compared: tuple[str, ...]) -> None:
    assert TASKS[name].compared_fields == compared


def test_rows_are_stratified_by_class_or_choice_and_by_nothing_else() -> None:
    assert TASKS["rte"].strata == ("entailment", "not_entailment")
    assert TASKS["copa"].strata == ("choice1", "choice2")
    assert (TASKS["stsb"].strata, TASKS["conll03"].strata, TASKS["squad"].strata) == ((), (), ())


def test_the_tags_of_conll03_are_outside_and_the_beginning_and_inside_of_four_types() -> None:
    assert " ".join(TASKS["conll03"].classes) == "O B-PER I-PER B-ORG I-ORG B-LOC I-LOC B-MISC I-MISC"


def test_panda_scores_three_tasks_by_accuracy_and_the_others_as_they_are() -> None:
    changed = {name: spec.metrics for name in TASKS if (spec := with_panda_metrics(TASKS[name])) != TASKS[name]}
    assert changed == {
        "mrpc": ("accuracy", "accuracy_f1", "f1"),
        "qqp": ("accuracy", "accuracy_f1", "f1"),
        "cb": ("accuracy", "accuracy_macro_f1", "macro_f1"),
    }


@pytest.mark.parametrize("name", [name for name in TASKS if name.startswith("demo_")])
def test_a_demonstration_task_is_located_without_a_file(name: str, tmp_path: Path) -> None:
    found = located(TASKS[name], tmp_path)
    assert [split for split, _ in found.fingerprints] == ["train", "validation"]
    assert found.report_split == "validation"
    classes = len(found.classes)
    assert dict(found.counts)["validation"] == (300 // classes,) * classes


@needs_real_data
def test_every_folder_of_the_real_data_is_a_row_of_the_table() -> None:
    assert len(REAL) == 24
    assert [name for name in REAL if name not in TASKS] == []


@needs_real_data
@pytest.mark.parametrize("name", REAL)
def test_the_real_rows_of_a_task_of_the_table_are_its_rows(name: str) -> None:
    folder = SHARED / "data" / name
    if sum(path.stat().st_size for path in folder.iterdir()) < WHOLE_BELOW_MIB * 2**20:
        found = located(TASKS[name], SHARED / "data")
        assert {f"{split}.jsonl" for split, _ in found.fingerprints} == {path.name for path in folder.iterdir()}
        lines = {split: (folder / f"{split}.jsonl").read_bytes().count(b"\n") for split, _ in found.counts}
        assert {split: sum(counts) for split, counts in found.counts} == lines
        assert all(min(counts) > 0 for _, counts in found.counts)
        return
    spec, problems = replace(TASKS[name], origin=FolderFiles(folder)), []
    seen = {row.label for split in ("train", "validation") for row in islice(examples(spec, split, problems), 400)}
    assert problems == []
    assert len(seen) == len(spec.classes) or spec.kind == "regression"


@needs_real_data
def test_the_classes_of_real_commitment_bank_are_counted() -> None:
    assert dict(located(TASKS["cb"], SHARED / "data").counts) == {"train": (115, 119, 16), "validation": (23, 28, 5)}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"kind": "ranking"},
            "kind must be one of classification, regression, multiple_choice, tagging, extractive_qa, generation, got 'ranking'",
        ),
        ({"text": ("a", "b", "c")}, "text of a classification must name one or two texts, got ['a', 'b', 'c']"),
        ({"text": ()}, "text of a classification must name one or two texts, got []"),
        ({"kind": "tagging", "text": ("a", "b")}, "text of a tagging must name one text, got ['a', 'b']"),
        ({"kind": "extractive_qa"}, "text of a extractive_qa must name two texts, got ['a']"),
        (
            {"kind": "multiple_choice", "text": ("a", "b")},
            "text of a multiple_choice must name one text or none, got ['a', 'b']",
        ),
        ({"metrics": ()}, "metrics of a classification must be of accuracy, f1, "),
        ({"metrics": ("bleu",)}, ", got ['bleu']"),
        ({"metrics": ("accuracy", "pearson")}, ", got ['accuracy', 'pearson']"),
        ({"kind": "regression", "classes": ()}, "must be of pearson_spearman, pearson, spearman, got ['accuracy']"),
        ({"kind": "tagging"}, "metrics of a tagging must be of entity_f1, word_accuracy, got ['accuracy']"),
        ({"metrics": ("f1",), "classes": ("a", "b", "c")}, "f1 is of two classes, and there are 3: use macro_f1"),
        ({"metrics": ("accuracy_f1",), "classes": ("a", "b", "c")}, "f1 is of two classes, and there are 3"),
        ({"classes": ("no", "no")}, "classes must be different, got ['no', 'no']"),
        ({"classes": ("no",)}, "a classification needs at least two classes, got ['no']"),
        ({"kind": "regression", "metrics": ("pearson",)}, "a regression has no classes, got ['no', 'yes']"),
        (
            {"choices": ("b", "c")},
            "choices must be two or more texts of a multiple_choice, or the field of a list of them, got ['b', 'c']",
        ),
        ({"kind": "multiple_choice", "classes": (), "choices": ("{b}",)}, "choices must be two or more texts"),
        ({"metrics": ("question_match",)}, "question_match needs `question`: the fields that rows of one question"),
        (
            {"kind": "tagging", "metrics": ("entity_f1",), "classes": ("O", "B-X", "E-X", "L-X")},
            "of one scheme of BIO (B, I), BIOES (B, I, E, S), BILOU (B, I, L, U), BMES (B, M, E, S), BMEWO (B, M, E, W), got B, E, L: rename the tags, or use",
        ),
        (
            {"kind": "tagging", "metrics": ("entity_f1",), "classes": ("NOUN", "VERB")},
            "got NOUN, VERB: rename the tags",
        ),
        ({"text": ("{",)}, "'{' is no template"),
        ({"text": ("}",)}, "'}' is no template"),
        ({"text": ("{a",)}, "'{a' is no template"),
        ({"text": ("{}",)}, "'{}' is no template: braces hold the name of a field, as in '{question} {answer}'"),
        ({"text": ("{a!r}",)}, "'{a!r}' is no template"),
        ({"text": ("{a[0]}",)}, "'{a[0]}' is no template"),
        ({"text": ("{a:>9}",)}, "'{a:>9}' is no template"),
        ({"text": ("",)}, "'' is no template"),
        ({"text": ("a", " ")}, "' ' is no template"),
        ({"kind": "multiple_choice", "classes": (), "choices": ("b", "{}")}, "'{}' is no template"),
    ],
)
def test_a_wrong_task_is_refused_with_its_rule(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match="^task t: ") as refusal:
        replace(SPEC, **changes)
    assert told in str(refusal.value)


def test_all_that_is_wrong_with_a_task_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="must be of .*; classes must be different.*; '{' is no template"):
        replace(SPEC, metrics=("bleu",), classes=("no", "no"), text=("{",))


@pytest.mark.parametrize("text", ["{0}", "{{a}}", "always the same {{}}"])
def test_a_template_that_no_row_can_fill_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no template"):
        replace(SPEC, text=(text,))


def test_the_words_of_a_tagging_are_a_field_and_no_template() -> None:
    with pytest.raises(ValueError, match="task conll03: "):
        replace(TASKS["conll03"], text=("{first} {second}",))


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("a", ("a",)),
        ("a b", ("a b",)),
        ("{a}", ("a",)),
        ("{b} is {a} of {b}", ("b", "a")),
        ("{a} {{not b}}", ("a",)),
    ],
)
def test_the_fields_of_a_text_are_its_name_or_its_braces(text: str, fields: tuple[str, ...]) -> None:
    assert fields_of(text) == fields
    assert replace(SPEC, text=(text,)).fields == (*fields, "label")

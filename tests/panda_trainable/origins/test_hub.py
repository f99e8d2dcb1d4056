"""Tasks of the hub: repositories of its shape, read offline, become files with this table's names and classes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from datasets.utils.logging import disable_progress_bar
from pyarrow.parquet import read_table

from panda_trainable.config.task import Hub, TaskSpec
from panda_trainable.config.task_section import TaskSection
from panda_trainable.data.locate import located
from panda_trainable.data.rows import examples
from panda_trainable.data.task_table import TASKS
from panda_trainable.origins.hub import fetch_task
from tests.kits.tasks import write_task

Rows = Sequence[Mapping[str, Any]]
Repository = Callable[..., None]

TEXT, INT = Value("string"), Value("int32")
NER_TAGS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]


def texts(*names: str, **others: Any) -> Features:
    """Features of text columns and others."""
    return Features({**dict.fromkeys(names, TEXT), **others})


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, and a cache of its own."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    disable_progress_bar()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Writes a copy of a dataset repository: repository(path, config, features, train=rows, validation=rows)."""

    named: dict[str, list[str]] = {}

    def write(path: str, config: str, features: Features, **splits: Rows) -> None:
        folder = tmp_path / "data" / path
        (folder / config).mkdir(parents=True)
        lines = named.setdefault(path, [])
        lines += [f"- config_name: {config}", "  data_files:"]
        for split, rows in splits.items():
            table = Dataset.from_list([dict(row) for row in rows], features=features)
            table.to_parquet(folder / config / f"{split}-00000-of-00001.parquet")
            lines += [f"  - split: {split}", f"    path: {config}/{split}-*"]
        readme = "\n".join(["---", "configs:", *lines, "---", "# A dataset", ""])
        (folder / "README.md").write_text(readme, encoding="utf-8")

    return write


@pytest.fixture
def found(tmp_path: Path) -> Callable[..., TaskSpec]:
    """Locates a task that is not in the data folder: found("rte"), or of changed rows of the table."""

    def locate(name: str, **changes: Any) -> TaskSpec:
        data, store = tmp_path / "data", tmp_path / "store"
        return located(replace(TASKS[name], **changes), data, lambda task: fetch_task(task, data, store))

    return locate


def read(task: TaskSpec, split: str = "train") -> list[tuple[Any, Any]]:
    """The texts and labels of a located task's rows."""
    problems: list[str] = []
    made = [(row.texts[0] if len(row.texts) == 1 else row.texts, row.label) for row in examples(task, split, problems)]
    assert problems == []
    return made


def test_a_repository_of_this_shape_is_one_that_datasets_reads_offline(repository: Repository, tmp_path: Path) -> None:
    features = texts("sentence", label=ClassLabel(names=["negative", "positive"]))
    rows = [{"sentence": "w1", "label": 0}, {"sentence": "w2", "label": -1}]
    repository("stanfordnlp/sst2", "default", features, train=rows, validation=rows[:1])
    repository("stanfordnlp/sst2", "more", features, train=rows[:1])
    table = datasets.load_dataset(str(tmp_path / "data" / "stanfordnlp" / "sst2"), "default", split="train")
    assert table.features["label"].names == ["negative", "positive"]
    assert table.to_list() == rows
    assert len(datasets.load_dataset(str(tmp_path / "data" / "stanfordnlp" / "sst2"), "more", split="train")) == 1


def test_rte_has_the_hub_s_sentences_as_premise_and_hypothesis(
    repository: Repository, found: Callable[..., TaskSpec]
) -> None:
    features = texts("sentence1", "sentence2", label=ClassLabel(names=["entailment", "not_entailment"]), idx=INT)
    rows = [{"sentence1": f"p{i}", "sentence2": f"h{i}", "label": i, "idx": i} for i in range(2)]
    unlabelled = [{**rows[0], "label": -1}]
    repository("nyu-mll/glue", "rte", features, train=rows, validation=rows[::-1], test=unlabelled)
    task = found("rte")
    assert read(task) == [(("p0", "h0"), 0), (("p1", "h1"), 1)]
    assert [split for split, _ in task.fingerprints] == ["train", "validation"]
    assert read(task, "validation") == read(task)[::-1]


def test_mnli_is_validated_on_its_two_validation_splits(repository: Repository, found: Callable[..., TaskSpec]) -> None:
    names = ["entailment", "neutral", "contradiction"]
    features = texts("premise", "hypothesis", label=ClassLabel(names=names), idx=INT)

    def rows(word: str) -> Rows:
        return [{"premise": f"{word}{i}", "hypothesis": "h", "label": i, "idx": i} for i in range(3)]

    splits = ("train", "validation_matched", "validation_mismatched")
    repository("nyu-mll/glue", "mnli", features, **{split: rows(split) for split in splits})
    matched, mismatched = found("mnli"), found("mnli_mismatched")
    assert matched.fingerprints[0] == mismatched.fingerprints[0]
    assert read(matched, "validation")[0] == (("validation_matched0", "h"), 0)
    assert read(mismatched, "validation")[0] == (("validation_mismatched0", "h"), 0)


def test_stsb_has_values_and_leaves_rows_without_one_out(
    repository: Repository, found: Callable[..., TaskSpec]
) -> None:
    features = texts("sentence1", "sentence2", label=Value("float32"), idx=INT)
    rows = [{"sentence1": "s", "sentence2": f"w{i}", "label": v, "idx": i} for i, v in enumerate((0.0, 2.5, -1.0, 5.0))]
    repository("nyu-mll/glue", "stsb", features, train=rows, validation=rows)
    assert [label for _, label in read(found("stsb"))] == [0, 2.5, 5]


def test_copa_keeps_the_question_that_its_template_needs(
    repository: Repository, found: Callable[..., TaskSpec]
) -> None:
    features = texts(
        "premise", "choice1", "choice2", "question", idx=INT, label=ClassLabel(names=["choice1", "choice2"])
    )
    rows = [
        {"premise": "p.", "choice1": "a", "choice2": "b", "question": question, "idx": i, "label": i}
        for i, question in enumerate(("cause", "effect"))
    ]
    repository("aps/super_glue", "copa", features, train=rows, validation=rows)
    assert read(found("copa")) == [
        ((("p. because", "a"), ("p. because", "b")), 0),
        ((("p. so", "a"), ("p. so", "b")), 1),
    ]


def test_multirc_has_a_row_for_each_answer(repository: Repository, found: Callable[..., TaskSpec]) -> None:
    features = texts(
        "paragraph", "question", "answer",
        idx={"paragraph": INT, "question": INT, "answer": INT}, label=ClassLabel(names=["False", "True"]),
    )  # fmt: skip
    rows = [
        {
            "paragraph": "p",
            "question": "q",
            "answer": answer,
            "idx": {"paragraph": 0, "question": 0, "answer": i},
            "label": i,
        }
        for i, answer in enumerate(("a", "b"))
    ]
    repository("aps/super_glue", "multirc", features, train=rows, validation=rows)
    assert read(found("multirc")) == [(("p", "q a"), 0), (("p", "q b"), 1)]


def test_wsc_and_wic_keep_the_spans_that_are_checked(repository: Repository, found: Callable[..., TaskSpec]) -> None:
    label = ClassLabel(names=["False", "True"])
    wsc = texts("text", span1_index=INT, span2_index=INT, span1_text=TEXT, span2_text=TEXT, idx=INT, label=label)
    row = {"text": "Ann saw Bob", "span1_index": 0, "span2_index": 2, "span1_text": "Ann", "span2_text": "Bob"}
    rows = [{**row, "idx": i, "label": i} for i in range(2)]
    repository("aps/super_glue", "wsc.fixed", wsc, train=rows, validation=rows)
    assert read(found("wsc")) == [(("Bob: Ann saw Bob", "Ann"), 0), (("Bob: Ann saw Bob", "Ann"), 1)]
    wic = texts("word", "sentence1", "sentence2", start1=INT, start2=INT, end1=INT, end2=INT, idx=INT, label=label)
    row = {"word": "w", "sentence1": "a w", "sentence2": "w b", "start1": 2, "start2": 0, "end1": 3, "end2": 99}
    rows = [{**row, "idx": i, "label": i} for i in range(2)]
    repository("aps/super_glue", "wic", wic, train=rows, validation=rows)
    with pytest.raises(
        ValueError, match=r"train.parquet, row 1: start2 and end2 must lie in sentence2 of 3 characters"
    ):
        found("wic")


def test_record_has_a_row_for_each_entity(repository: Repository, found: Callable[..., TaskSpec]) -> None:
    features = Features(
        {
            "passage": TEXT,
            "query": TEXT,
            "entities": datasets.Sequence(TEXT),
            "entity_spans": datasets.Sequence({"text": TEXT, "start": INT, "end": INT}),
            "answers": datasets.Sequence(TEXT),
            "idx": {"passage": INT, "query": INT},
        }
    )
    row = {
        "passage": "Ann met Bob.",
        "query": "Who met Bob? @placeholder",
        "entities": ["Ann", "Bob"],
        "entity_spans": {"text": ["Ann", "Bob"], "start": [0, 8], "end": [3, 11]},
        "answers": ["Ann"],
        "idx": {"passage": 0, "query": 0},
    }
    repository("aps/super_glue", "record", features, train=[row], validation=[row])
    passage = "Ann met Bob."
    assert read(found("record")) == [((passage, "Who met Bob? Ann"), 1), ((passage, "Who met Bob? Bob"), 0)]


def test_squad_has_questions_passages_and_answers(repository: Repository, found: Callable[..., TaskSpec]) -> None:
    features = texts(
        "id", "title", "context", "question", answers=datasets.Sequence({"text": TEXT, "answer_start": INT})
    )
    row = {
        "title": "t",
        "context": "Ann met Bob.",
        "question": "Whom?",
        "answers": {"text": ["Bob"], "answer_start": [8]},
    }
    rows = [{**row, "id": f"x{i}"} for i in range(2)]
    repository("rajpurkar/squad", "plain_text", features, train=rows, validation=rows)
    assert read(found("squad")) == [(("Whom?", "Ann met Bob."), ((8, "Bob"),))] * 2


@pytest.mark.parametrize("names", [NER_TAGS, NER_TAGS[::-1]], ids=["our_order", "another_order"])
def test_tags_of_conll03_are_those_that_the_hub_names(
    repository: Repository, found: Callable[..., TaskSpec], names: list[str]
) -> None:
    tags = datasets.Sequence(ClassLabel(names=names))
    features = Features(
        {"id": TEXT, "tokens": datasets.Sequence(TEXT), "pos_tags": datasets.Sequence(INT), "ner_tags": tags}
    )
    numbers = [names.index(tag) for tag in ("B-ORG", "O", "B-PER")]
    rows = [
        {"id": str(i), "tokens": ["EU", "met", "Ann"], "pos_tags": [1, 2, 3], "ner_tags": numbers} for i in range(2)
    ]
    repository("lhoestq/conll2003", "default", features, train=rows, validation=rows, test=rows)
    task = found("conll03")
    assert read(task) == [(("EU", "met", "Ann"), (3, 0, 1))] * 2
    assert task.report_split == "test"


def test_trec_has_the_coarse_of_its_two_labels(repository: Repository, found: Callable[..., TaskSpec]) -> None:
    coarse = ClassLabel(names=["ABBR", "ENTY", "DESC", "HUM", "LOC", "NUM"])
    features = texts("text", coarse_label=coarse, fine_label=ClassLabel(num_classes=50))
    rows = [{"text": f"w{i}", "coarse_label": i, "fine_label": 49 - i} for i in range(6)]
    repository("CogComp/trec", "default", features, train=rows, test=rows)
    task = found("trec")
    assert read(task) == [((f"w{i}",), i) for i in range(6)]
    assert [split for split, _ in task.fingerprints] == ["train", "test"]


def nli(*labels: int, names: Sequence[str] = ("entailment", "neutral", "contradiction")) -> tuple[Features, Rows]:
    """Features and rows as SNLI has them."""
    rows = [{"premise": f"p{i}", "hypothesis": "h", "label": label} for i, label in enumerate(labels)]
    return texts("premise", "hypothesis", label=ClassLabel(names=list(names))), rows


def test_rows_of_snli_without_a_label_are_left_out(repository: Repository, found: Callable[..., TaskSpec]) -> None:
    features, rows = nli(0, -1, 1, 2, -1)
    repository("stanfordnlp/snli", "plain_text", features, train=rows, validation=rows, test=rows)
    assert read(found("snli")) == [(("p0", "h"), 0), (("p2", "h"), 1), (("p3", "h"), 2)]


def test_classes_that_the_hub_has_in_another_order_are_known_by_their_names(
    repository: Repository, found: Callable[..., TaskSpec]
) -> None:
    features, rows = nli(0, 1, 2, -1, names=["contradiction", "entailment", "neutral"])
    repository("stanfordnlp/snli", "plain_text", features, train=rows, validation=rows, test=rows)
    assert TASKS["snli"].classes == ("entailment", "neutral", "contradiction")
    assert read(found("snli")) == [(("p0", "h"), 2), (("p1", "h"), 0), (("p2", "h"), 1)]


def test_a_hub_row_whose_label_is_missing_is_told_or_left_out(
    repository: Repository, found: Callable[..., TaskSpec]
) -> None:
    features, rows = nli(0, 1, 2)
    rows = [*rows, {"premise": "p3", "hypothesis": "h", "label": None}]
    repository("stanfordnlp/snli", "plain_text", features, train=rows, validation=rows, test=rows)
    try:
        assert len(read(found("snli"))) == 3
    except ValueError as error:
        assert "train.parquet, row 4: label must be" in str(error)


def test_a_task_whose_columns_are_not_known_is_refused_by_name(found: Callable[..., TaskSpec], tmp_path: Path) -> None:
    unknown = [name for name, spec in TASKS.items() if spec.hub and not spec.hub.known]
    assert "conll04" in unknown
    for name in unknown:
        with pytest.raises(
            ValueError, match=f"^task {name}: its columns on the hub .* are not known to this table"
        ) as told:
            found(name)
        assert f"put its files into {tmp_path / 'data' / name}, or describe it under `tasks:`" in str(told.value)


def test_a_dataset_without_a_column_is_refused_with_its_name_and_leaves_nothing(
    repository: Repository, found: Callable[..., TaskSpec], tmp_path: Path
) -> None:
    features = texts("sentence1", "hypothesis", label=ClassLabel(names=["entailment", "not_entailment"]))
    rows = [{"sentence1": "p", "hypothesis": "h", "label": i} for i in range(2)]
    repository("nyu-mll/glue", "rte", features, train=rows, validation=rows)
    told = "task rte: nyu-mll/glue rte must have the columns sentence1, sentence2, label, but sentence2 is not among "
    with pytest.raises(ValueError, match=f"^{told}sentence1, hypothesis, label"):
        found("rte")
    assert list((tmp_path / "store").iterdir()) == []


@pytest.mark.parametrize("missing", ["question", "query", "entities", "answers"])
def test_a_dataset_without_a_column_that_its_preparation_needs_is_refused_with_its_name(
    repository: Repository, found: Callable[..., TaskSpec], missing: str
) -> None:
    columns: dict[str, Any] = {"query": TEXT, "entities": datasets.Sequence(TEXT), "answers": datasets.Sequence(TEXT)}
    row: dict[str, Any] = {"passage": "p", "query": "@placeholder", "entities": ["a", "b"], "answers": ["a"]}
    name = "record"
    if missing == "question":
        name, columns = "copa", {"question": TEXT, "choice1": TEXT, "choice2": TEXT, "premise": TEXT, "label": INT}
        row = {"question": "cause", "choice1": "a", "choice2": "b", "premise": "p", "label": 0}
    features = Features(
        {key: kind for key, kind in {"passage": TEXT, **columns}.items() if key in row and key != missing}
    )
    rows = [{key: value for key, value in row.items() if key in features}]
    repository("aps/super_glue", name, features, train=rows, validation=rows)
    with pytest.raises(ValueError, match=f"^task {name}: aps/super_glue {name} must have .*{missing}"):
        found(name)


@pytest.mark.parametrize("name", ["rte", "imdb"])
def test_a_dataset_that_is_nowhere_is_refused_with_what_to_do(
    found: Callable[..., TaskSpec], tmp_path: Path, name: str
) -> None:
    hub = TASKS[name].hub
    assert hub is not None
    with pytest.raises(
        ValueError, match=f"^task {name}: split train of {hub.path} .*cannot be loaded from the hub"
    ) as told:
        found(name)
    assert f"is not in {tmp_path / 'data' / hub.path}" in str(told.value)
    assert str(told.value).endswith(f"put its files into {tmp_path / 'data' / name}")
    assert "\n" not in str(told.value)
    assert list((tmp_path / "store").iterdir()) == []


def test_a_configuration_or_split_that_the_dataset_has_not_is_refused(
    repository: Repository, found: Callable[..., TaskSpec]
) -> None:
    features, rows = nli(0, 1, 2)
    repository("nyu-mll/glue", "mnli", features, train=rows, validation_matched=rows)
    with pytest.raises(ValueError, match="^task rte: split train of nyu-mll/glue rte is not in "):
        found("rte")
    with pytest.raises(
        ValueError, match="^task mnli_mismatched: split validation_mismatched of nyu-mll/glue mnli is not in "
    ):
        found("mnli_mismatched")


def test_a_task_is_fetched_once(repository: Repository, found: Callable[..., TaskSpec], tmp_path: Path) -> None:
    features, rows = nli(0, 1, 2)
    repository("nyu-mll/glue", "mnli", features, train=rows, validation_matched=rows)
    first = found("mnli")
    files = {path: path.stat().st_mtime_ns for path in Path(first.origin.place()).iterdir()}
    assert [path.name for path in sorted(files)] == ["train.parquet", "validation.parquet"]
    (tmp_path / "data" / "nyu-mll" / "glue").rename(tmp_path / "away")
    assert found("mnli") == first
    assert {path: path.stat().st_mtime_ns for path in Path(first.origin.place()).iterdir()} == files
    assert [path.name for path in (tmp_path / "store").iterdir()] == [Path(first.origin.place()).name]


def test_files_in_the_data_folder_go_before_the_hub(found: Callable[..., TaskSpec], tmp_path: Path) -> None:
    rows = [{"premise": "p", "hypothesis": "h", "label": i} for i in range(3)]
    write_task(tmp_path / "data" / "mnli", rows, rows)
    assert found("mnli").origin.place() == str(tmp_path / "data" / "mnli")


def test_only_the_columns_that_are_read_are_kept(
    repository: Repository, found: Callable[..., TaskSpec], tmp_path: Path
) -> None:
    features = texts("text", "label_text", label=INT, secret=TEXT)
    rows = [{"text": f"w{i}", "label_text": "x", "label": i, "secret": "s"} for i in range(5)]
    repository("SetFit/sst5", "default", features, train=rows, validation=rows, test=rows)
    task = found("sst5")
    assert read_table(Path(task.origin.place("train"))).column_names == ["text", "label"]
    assert read(task) == [((f"w{i}",), i) for i in range(5)]


@pytest.mark.parametrize("own_label", [True, False])
def test_choices_of_the_hub_may_be_a_list_inside_of_a_column(
    repository: Repository, found: Callable[..., TaskSpec], own_label: bool
) -> None:
    """As ARC, OpenBookQA and CommonsenseQA are there."""
    lists = {"text": datasets.Sequence(TEXT), "label": datasets.Sequence(TEXT)}
    features = texts("question", "answerKey", "other", choices=lists)
    named = "ABC" if own_label else "123"
    rows = [
        {"question": f"w{i}", "choices": {"text": ["a", "b", "c"], "label": list(named)}, "answerKey": named[i % 3], "other": "x"}
        for i in range(6)
    ]  # fmt: skip
    repository("you/own", "default", features, train=rows, validation=rows)
    section = TaskSection(kind="multiple_choice", text=("question",), choices=("choices.text",), label="answerKey", hub=Hub("you/own"))  # fmt: skip
    changes = {name: getattr(section.spec("copa"), name) for name in ("text", "choices", "label", "hub", "prepare", "compared", "wording", "t5")}  # fmt: skip
    task = found("copa", **changes)
    assert read(task)[:2] == [((("w0", "a"), ("w0", "b"), ("w0", "c")), 0), ((("w1", "a"), ("w1", "b"), ("w1", "c")), 1)]  # fmt: skip
    assert read_table(Path(task.origin.place("train"))).column_names == ["question", "choices", "answerKey"]


def test_ids_of_the_hub_are_checked(repository: Repository, found: Callable[..., TaskSpec]) -> None:
    features, rows = nli(0, 1, 2)
    rows = [{**row, "id": "same"} for row in rows]
    repository("you/own", "default", Features({**features, "id": TEXT}), train=rows, validation=rows)
    with pytest.raises(ValueError, match="train.parquet, row 2: id 'same' stands at .*train.parquet, row 1 too"):
        found("mnli", hub=Hub("you/own"))

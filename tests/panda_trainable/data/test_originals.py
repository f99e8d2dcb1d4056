"""Known tasks in the files in which they were published: a folder of them is read with no further key."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from panda_trainable.config.task import TaskSpec
from panda_trainable.data.locate import located
from panda_trainable.data.rows import Findings, examples
from panda_trainable.data.task_table import TASKS

Files = Mapping[str, Any]


def tsv(*rows: Sequence[Any]) -> str:
    return "".join("\t".join(map(str, row)) + "\n" for row in rows)


def jsonl(*rows: Mapping[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def two(make: Any) -> list[Any]:
    """A row of either class, twice: of train and of validation."""
    return [[make(f"{split}{i}", i) for i in range(2)] for split in "tv"]


MNLI_HEAD = ("index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse", "sentence2_parse", "sentence1", "sentence2")  # fmt: skip
NLI = ("entailment", "neutral", "contradiction")


def mnli(split: str, *more: str) -> str:
    head = (*MNLI_HEAD, *more, "gold_label")
    rows = [
        (i, i, i, "fiction", "(", "(", "(", "(", f'"{split} {name}', "so", *more, name) for i, name in enumerate(NLI)
    ]
    return tsv(head, *rows)


def nli_rows(split: str) -> str:
    return jsonl(*({"sentence1": f"{split} {name}", "sentence2": "so" * (1 + i // 3), "gold_label": name, "pairID": str(i), "x": i} for i, name in enumerate((*NLI * 4, "-"))))  # fmt: skip


COLA, MRPC = (
    two(lambda word, i: ("gj04", i, "*" * (1 - i), f'{word} "is')),
    two(lambda word, i: (i, 1, 2, f"{word} a", f"{word} b")),
)
MRPC_HEAD = ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String")
QQP, STSB = (
    two(lambda word, i: (i, 3, 4, f"{word} a?", "b?", i)),
    two(lambda word, i: (i, "main", "file", 2012, 1, "none", "none", f"{word} a", "b", 2.5 * i)),
)
PAIRS = two(lambda word, i: (i, f"{word} a", "b", ("entailment", "not_entailment")[i]))
WNLI = two(lambda word, i: (i, f"{word} a", "b", i))
BOOLQ = two(lambda word, i: {"question": word, "passage": "p", "idx": i, "label": bool(i)})
CB = two(lambda word, i: {"premise": word, "hypothesis": "h", "label": NLI[i], "idx": i})
COPA = two(
    lambda word, i: {"premise": f"{word}.", "choice1": "a", "choice2": "b", "question": "cause", "label": i, "idx": i}
)
WIC = two(
    lambda word, i: {
        "word": "w",
        "sentence1": f"w {word}",
        "sentence2": "w",
        "idx": i,
        "label": bool(i),
        "start1": 0,
        "start2": 0,
        "end1": 1,
        "end2": 1,
        "version": 1.1,
    }
)
WSC = two(
    lambda word, i: {
        "text": f"Mark told Pete {word} .",
        "target": {"span2_index": 2, "span1_index": 0, "span1_text": "Mark", "span2_text": "Pete"},
        "idx": i,
        "label": bool(i),
    }
)
MULTIRC = two(
    lambda word, i: {
        "idx": i,
        "version": 1.1,
        "passage": {
            "text": word,
            "questions": [
                {
                    "question": "q?",
                    "answers": [{"text": "yes", "idx": 0, "label": i}, {"text": "no", "idx": 1, "label": 1 - i}],
                    "idx": 0,
                }
            ],
        },
    }
)
RECORD_PASSAGE = {
    "text": "Ann met Bob.\n@highlight\nAnn left",
    "entities": [{"start": 0, "end": 2}, {"start": 8, "end": 10}, {"start": 24, "end": 26}],
}
RECORD = two(
    lambda word, i: {
        "source": "x",
        "passage": RECORD_PASSAGE,
        "qas": [
            {
                "query": f"@placeholder {word}",
                "answers": [{"start": 8, "end": 10, "text": "Bob"}, {"start": 8, "end": 10, "text": "Bob"}],
                "idx": i,
            }
        ],
        "idx": i,
    }
)
SQUAD = two(
    lambda word, i: {
        "title": "t",
        "paragraphs": [
            {
                "context": "Ann met Bob.",
                "qas": [{"answers": [{"answer_start": 8, "text": "Bob"}], "question": f"{word}?", "id": f"{word}{i}"}],
            }
        ],
    }
)
CONLL = two(lambda word, i: f"{word} NNP I-NP {('I-PER', 'I-ORG')[i]}\nis VBZ I-VP O\n\n")
DOCSTART = "-DOCSTART- -X- O O\n\n"


def superglue(rows: Sequence[Any], **hidden: Any) -> Files:
    """Files of SuperGLUE, whose test rows lack what is in `hidden`."""
    test = [{**{key: value for key, value in row.items() if key != "label"}, **hidden} for row in rows[1]]
    return {"train.jsonl": jsonl(*rows[0]), "val.jsonl": jsonl(*rows[1]), "test.jsonl": jsonl(*test)}


def glue(head: Sequence[str], rows: Sequence[Any], label: str) -> Files:
    """Files of GLUE, whose test rows have an index and no label."""
    kept = [i for i, name in enumerate(head) if name not in (label, "index")]
    test = [("index", *(head[i] for i in kept)), *((9, *(row[i] for i in kept)) for row in rows[1])]
    return {"train.tsv": tsv(head, *rows[0]), "dev.tsv": tsv(head, *rows[1]), "test.tsv": tsv(*test)}


SQUAD_DATA = [json.dumps({"version": "1.1", "data": articles}) for articles in SQUAD]

PUBLISHED: dict[str, tuple[str, Files, Any, Any]] = {
    "cola": ("CoLA", {"train.tsv": tsv(*COLA[0]), "dev.tsv": tsv(*COLA[1]), "test.tsv": tsv(("index", "sentence"), (0, "so"))}, ('t0 "is',), 0),
    "sst2": ("SST-2", glue(("sentence", "label"), two(lambda w, i: (w, i)), "label"), ("t0",), 0),
    "mrpc": ("MRPC", {**glue(MRPC_HEAD, MRPC, "Quality"), "dev_ids.tsv": "1\t2\n", "msr_paraphrase_train.txt": "\ufeff" + tsv(MRPC_HEAD, *MRPC[0])}, ("t0 a", "t0 b"), 0),
    "qqp": ("QQP", glue(("id", "qid1", "qid2", "question1", "question2", "is_duplicate"), QQP, "is_duplicate"), ("t0 a?", "b?"), 0),
    "stsb": ("STS-B", glue(("index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2", "score"), STSB, "score"), ("t0 a", "b"), 0),
    "mnli": ("MNLI", {"train.tsv": mnli("train", "label1"), "dev_matched.tsv": mnli("m", "label1", "label5"), "dev_mismatched.tsv": mnli("mm", "label1"), "test_matched.tsv": tsv(MNLI_HEAD, range(10))}, ('"train entailment', "so"), 0),
    "mnli_mismatched": ("MNLI", {"train.tsv": mnli("train", "label1"), "dev_matched.tsv": mnli("m", "label1"), "dev_mismatched.tsv": mnli("mm", "label1")}, ('"train entailment', "so"), 0),
    "qnli": ("QNLI", glue(("index", "question", "sentence", "label"), PAIRS, "label"), ("t0 a", "b"), 0),
    "rte": ("RTE", glue(("index", "sentence1", "sentence2", "label"), PAIRS, "label"), ("t0 a", "b"), 0),
    "wnli": ("WNLI", glue(("index", "sentence1", "sentence2", "label"), WNLI, "label"), ("t0 a", "b"), 0),
    "boolq": ("BoolQ", superglue(BOOLQ), ("t0", "p"), 0),
    "cb": ("CB", superglue(CB), ("t0", "h"), 0),
    "copa": ("COPA", superglue(COPA), (("t0. because", "a"), ("t0. because", "b")), 0),
    "wic": ("WiC", superglue(WIC), ("w t0 w Does w have the same meaning in both sentences?",), 0),
    "wsc": ("WSC", superglue(WSC), ("Pete: Mark told Pete t0 .", "Mark"), 0),
    "multirc": ("MultiRC", superglue(MULTIRC, passage={"text": "w", "questions": [{"question": "q?", "answers": [{"text": "yes", "idx": 0}], "idx": 0}]}), ("t0", "q? yes"), 0),
    "record": ("ReCoRD", superglue(RECORD, qas=[{"query": "@placeholder w", "idx": 0}]), (RECORD_PASSAGE["text"], "Ann t0"), 0),
    "squad": ("squad", {"train-v1.1.json": SQUAD_DATA[0], "dev-v1.1.json": SQUAD_DATA[1]}, ("t0?", "Ann met Bob."), ((8, "Bob"),)),
    "snli": ("snli_1.0", {f"snli_1.0_{s}.jsonl": nli_rows(s) for s in ("train", "dev", "test")} | {"snli_1.0_train.txt": "gold_label\n"}, ("train entailment", "so"), 0),
    "imdb": ("aclImdb", {f"{split}/{name}/{i}_9.txt": f"{split} {name} {i}" for split in ("train", "test") for name in ("neg", "pos") for i in range(2)} | {"train/unsup/0_0.txt": "w", "train/urls_pos.txt": "http", "README": "w"}, ("train neg 0",), 0),
    "conll03": ("conll03", {"eng.train": DOCSTART + "".join(CONLL[0]), "eng.testa": "".join(CONLL[1]), "eng.testb": "".join(CONLL[1])}, ("t0", "is"), (2, 0)),
}  # fmt: skip
"""Task -> its folder as published, its files, and the first of its train rows."""


def put(folder: Path, files: Files) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")


def rows(task: TaskSpec, split: str = "train") -> list[tuple[Any, Any]]:
    made = examples(task, split, Findings())
    return [(row.texts[0] if len(row.texts) == 1 else row.texts, row.label) for row in made]


@pytest.mark.parametrize("own_name", [True, False])
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_known_task_is_read_from_the_files_in_which_it_was_published(tmp_path: Path, name: str, own_name: bool) -> None:  # fmt: skip
    folder, files, texts, label = PUBLISHED[name]
    put(tmp_path / (name if own_name else folder), files)
    task = located(TASKS[name], tmp_path)
    assert rows(task)[0] == (texts, label)
    assert len(rows(task)) == {"mnli": 3, "mnli_mismatched": 3, "snli": 12, "multirc": 4, "record": 4, "imdb": 4}.get(name, 2)  # fmt: skip
    labelled_test = name in ("snli", "imdb", "conll03")
    assert task.report_split == ("test" if labelled_test else "validation")
    hidden = [split for split in ("test",) if not labelled_test and any(file.startswith("test") for file in files)]
    assert [note for note in task.notes if "has no labels" in note] == [f"{name}: {split} has no labels and is left out" for split in hidden]  # fmt: skip


def test_every_task_of_glue_and_superglue_is_among_them() -> None:
    glue_tasks = {"cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "mnli_mismatched", "qnli", "rte", "wnli"}
    assert glue_tasks | {"boolq", "cb", "copa", "multirc", "record", "wic", "wsc"} <= set(PUBLISHED)
    assert {name for name, task in TASKS.items() if task.original} == set(PUBLISHED)


def test_files_with_the_usual_names_and_fields_go_before_those_of_the_publication(tmp_path: Path) -> None:
    own = jsonl(*({"sentence1": "own", "sentence2": f"w{i}", "label": i} for i in range(2)))
    put(tmp_path / "mrpc", {"train.jsonl": own, "dev.jsonl": own, "msr_paraphrase_train.txt": tsv(MRPC_HEAD, *MRPC[0])})
    assert rows(located(TASKS["mrpc"], tmp_path))[0] == (("own", "w0"), 0)


def test_lines_of_qqp_that_are_cut_are_left_out_and_counted(tmp_path: Path) -> None:
    """GLUE's own file has some; other tables are refused with them."""
    files = dict(PUBLISHED["qqp"][1])
    put(tmp_path / "qqp", files | {"train.tsv": files["train.tsv"] + "9\t1\t2\tcut?\n9\t1\t2\ta?\tb?\t0\tmore\n"})
    task = located(TASKS["qqp"], tmp_path)
    assert len(rows(task)) == 2
    assert any("2 of its lines with too few or too many cells are left out" in note for note in task.notes)


def test_mrpc_as_microsoft_published_it_has_a_labelled_test_split(tmp_path: Path) -> None:
    files = {f"msr_paraphrase_{split}.txt": "\ufeff" + tsv(MRPC_HEAD, *half) for split, half in zip(("train", "test"), MRPC, strict=True)}  # fmt: skip
    put(tmp_path / "MRPC", files)
    task = located(TASKS["mrpc"], tmp_path)
    assert (task.report_split, rows(task, "test")[1]) == ("test", (("v1 a", "v1 b"), 1))


def test_squad_2_leaves_questions_without_an_answer_out_and_says_how_many(tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = [{"question": f"q{i}?", "id": f"x{i}", "answers": [{"text": "Ann", "answer_start": 0}], "is_impossible": False} for i in range(2)]  # fmt: skip
    asked += [{"question": "why?", "id": f"y{i}", "answers": [], "plausible_answers": [{"text": "Bob", "answer_start": 8}], "is_impossible": True} for i in range(3)]  # fmt: skip
    data = json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": [{"context": "Ann met Bob.", "qas": asked}]}]})  # fmt: skip
    put(tmp_path / "squad", {"train-v2.0.json": data, "dev-v2.0.json": data})
    task = located(TASKS["squad"], tmp_path)
    assert rows(task) == [(("q0?", "Ann met Bob."), ((0, "Ann"),)), (("q1?", "Ann met Bob."), ((0, "Ann"),))]
    assert "squad: 3 train rows without an answer (is_impossible) left out" in task.notes


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"answers": [{"text": "Bob", "answer_start": 3}]}, "train.json, row 1, question x: an answer must stand in context where answer_start says"),
        ({"answers": [{"text": "Bob"}]}, "train.json, row 1: is written as SQuAD was published, but lacks 'answer_start'"),
        ({"answers": "Bob"}, "train.json, row 1: is written as SQuAD was published, but is wrong"),
        ({"question": ""}, "train.json, row 1, question x: question must be a text that is not empty"),
        ({"question": None}, "train.json, row 1, question x: question must be a text that is not empty, got None"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_question_inside_of_a_file_is_told_with_its_id(tmp_path: Path, change: dict[str, Any], told: str) -> None:  # fmt: skip
    asked = {"question": "w?", "id": "x", "answers": [{"text": "Bob", "answer_start": 8}], **change}
    data = json.dumps({"data": [{"paragraphs": [{"context": "Ann met Bob.", "qas": [asked]}]}]})
    put(tmp_path / "squad", {"train.json": data, "dev.json": data})
    with pytest.raises(ValueError, match="squad/train.json") as refused:
        located(TASKS["squad"], tmp_path)
    assert told in str(refused.value)

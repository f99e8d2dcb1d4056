"""Bad input, as users have it: told with its place before anything starts, exit code 2, and nothing is left behind."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, ModernBertConfig, ModernBertModel

from tests.kits.command import experiment_file, panda_tune
from tests.kits.plms import SMALL, save_plm
from tests.kits.small import OWN, rewritten
from tests.kits.tasks import rows_of, write_task
from tuning import cli

Plms = Callable[[str], Path]
Ran = Callable[..., tuple[int, str, str]]
Change = Callable[[Path], Any]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ran:
    """Runs the command in this process: its exit code, stdout and stderr. What it does not tell is raised."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["panda-tune", *map(str, arguments)])
        capsys.readouterr()  # of what was made for the test, such as PLMs
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def file(tmp_path: Path, plms: Plms) -> Path:
    """A sound experiment."""
    return experiment_file(tmp_path, plms("bert"))


def refused(ran: Ran, file: Path, *parts: str) -> list[str]:
    """The mistakes that a dry run tells, one per line and each once. A search makes the same checks: see the samples."""
    code, out, message = ran("search", file, "--dry-run")
    lines = message.splitlines()
    assert (code, out) == (2, "")
    assert "Traceback" not in message
    assert [part for part in parts if part not in message] == []
    assert len(set(lines)) == len(lines)
    return lines


def left(folder: Path) -> set[str]:
    """Kinds of what a refused run left in the storage."""
    found = (path.relative_to(folder / "runs").parts for path in written(folder / "runs"))
    return {"/".join(parts[: 3 if parts[0] == "searches" else 2]) for parts in found}


def written(storage: Path) -> Iterator[Path]:
    yield from (path for path in storage.rglob("*") if path.is_file()) if storage.is_dir() else ()


def rows(task: str, split: str, found: list[dict[str, Any]]) -> Change:
    """Writes other rows into a split."""
    return lambda folder: (folder / "data" / task / f"{split}.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in found), encoding="utf-8"
    )


def text(task: str, name: str, content: str | bytes) -> Change:
    """Writes a split's file anew, of another format too."""

    def write(folder: Path) -> None:
        for old in (folder / "data" / task).glob(f"{Path(name).stem}.*"):
            old.unlink()
        (folder / "data" / task / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def values(**changed: Any) -> Change:
    """Other values of keys of the file."""
    return lambda folder: rewritten(folder / "experiment.yaml", **changed)


def own(**changes: Any) -> Change:
    """Another description of the target."""
    return values(tasks={"s1": OWN, "s2": OWN, "t": {**OWN, **changes}})


def several(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


def changed_plm(folder: Path, **changes: Any) -> None:
    plm = json.loads((folder / "experiment.yaml").read_text())["plm"]
    rewritten(folder / "experiment.yaml", plm={**plm, **changes})


def with_other_plm(key: str, method: str, model: Any = None, **changes: Any) -> Change:
    """Another PLM beside the file for a method, of which the model may be another."""

    def change(folder: Path) -> None:
        plm = save_plm(folder / "other", "distilbert")
        if model:
            (plm / "model.safetensors").unlink()
            model().save_pretrained(plm)
        rewritten(folder / "experiment.yaml", methods=[method], **{key: {"from": "other"}, **changes})

    return change


def itself_as(key: str, *, copied: bool) -> Change:
    """The PLM as its own teacher, or as that from which its prompts are projected; or a copy of it."""

    def change(folder: Path) -> None:
        said = json.loads((folder / "experiment.yaml").read_text())
        if copied:
            shutil.copytree(said["plm"]["from"], folder / "copy")
        rewritten(
            folder / "experiment.yaml", methods=["distill", "tpt_model"], teacher_plm={"from": str(save_plm(folder / "a", "roberta"))},
            source_plm={"from": str(save_plm(folder / "b", "electra"))},
        )  # fmt: skip
        rewritten(folder / "experiment.yaml", **{key: {"from": "copy"} if copied else said["plm"]})

    return change


def small_bert(positions: int) -> BertModel:
    return BertModel(BertConfig(**SMALL, max_position_embeddings=positions), add_pooling_layer=False)


def from_zero(folder: Path) -> None:
    changed_plm(folder, positions="from_zero")


SOUND = rows_of(60, 2)
TAGGED = [{"words": [f"x{i}", "w1", "w2"], "tags": ["O", "B-X", "I-X"]} for i in range(40)]
ANSWERED = [
    {"q": f"w2 y{i}", "p": f"x{i} w1 w3", "gold": {"text": ["w1"], "answer_start": [len(f"x{i} ")]}} for i in range(40)
]
KINDS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "tagging": (
        {"kind": "tagging", "text": "words", "label": "tags", "classes": ["O", "B-X", "I-X"], "metrics": []}, TAGGED,
    ),
    "extractive_qa": (
        {"kind": "extractive_qa", "text": ["q", "p"], "label": "gold", "classes": [], "metrics": []}, ANSWERED,
    ),
    "regression": (
        {"kind": "regression", "text": "a", "classes": [], "metrics": []}, rows_of(60, 2, kind="regression"),
    ),
}  # fmt: skip


def of_kind(kind: str, *more: Change) -> Change:
    """The target as a task of another kind."""
    said, found = KINDS[kind]
    return several(own(**said), rows("t", "train", found), rows("t", "validation", found[:24]), *more)


TRAIN = {"steps": 8, "batch_size": 4, "max_length": 16, "eval_every": 2, "seeds": [0, 1]}
THREE = {"classes": ["no", "yes", "maybe"]}
PLANNED: dict[str, tuple[Change, tuple[str, ...]]] = {
    "no train file": (
        lambda folder: (folder / "data/t/train.jsonl").unlink(),
        (
            "task t: train not found in {data}/t: it holds validation.jsonl, but must hold train, and may hold",
        ),
    ),
    "no folder": (
        values(data="nowhere"),
        ("task t: train and validation or test not found in {folder}/nowhere/t: it is empty or not there", "task s1: "),
    ),
    "a part of train where there is validation": (
        own(split={"validation": 0.5}),
        ("task t: split divides train rows where there are no others, but {data}/t has validation; remove `split`",),
    ),
    "shards that are missing": (
        lambda folder: (folder / "data/t/train.jsonl").rename(folder / "data/t/train-00000-of-00002.jsonl"),
        ("{data}/t: shards of a split must be all there, each once, got train-00000-of-00002.jsonl",),
    ),
    "labels that are no classes": (
        several(own(classes=[]), rows("t", "train", [{"a": f"w{i}", "label": f"text {i}"} for i in range(60)])),
        ("task t: label has 60 different values in 60 rows, which are no classes, e.g. text 0, text 1; name the field",),
    ),
    "storage with a question mark": (
        values(storage="runs?"),
        ("storage: the database of MLflow cannot lie in {folder}/runs?: ? and % mean something else",),
    ),
    "two files of a split": (
        lambda folder: (folder / "data/t/train.csv").write_text("a,label\nw1,0\n"),
        ("{data}/t: train must be one file, got train.csv, train.jsonl",),
    ),
    "ragged table": (
        text("t", "train.csv", "a,label\nw1 w2,0\nw3,w4,1\nw5,1\n"),
        ("{data}/t/train.csv:3: has 3 fields where the header has 2: a, label",),
    ),
    "table divided by something else than is said": (
        several(own(delimiter="|"), text("t", "train.csv", "a;label\nw1;0\n")),
        ("{data}/t", "needs the field a, label; it has a;label"),
    ),
    "table with a column twice": (
        text("t", "train.tsv", "a\ta\nw1\t0\n"),
        ("{data}/t/train.tsv:1: the first line must name every column once",),
    ),
    "open quotes": (text("t", "train.csv", 'a,label\n"w1,0\nw2,1\n'), ("{data}/t/train.csv:", "is not a table")),
    "no JSON": (
        text("t", "train.jsonl", '{"a": "w1", "label": 0}\n{"a": "w2", \n'),
        ("{data}/t/train.jsonl:2: a line must be one JSON object",),
    ),
    "JSON that is no object": (text("t", "train.jsonl", "[1, 2]\n"), ("train.jsonl:1: a line must be one JSON object",)),
    "wrong encoding": (
        text("t", "train.jsonl", '{"a": "é", "label": 0}\n'.encode("latin-1")),
        ("{data}/t/train.jsonl:1: must be UTF-8, got byte 0xe9",),
    ),
    "empty file": (text("t", "train.jsonl", ""), ("{data}/t/train.jsonl: has no rows",)),
    "no Parquet": (text("t", "train.parquet", "a,label"), ("{data}/t/train.parquet: cannot be read as Parquet",)),
    "label outside the classes": (
        rows("t", "train", [*SOUND, {"a": "w1 zz", "label": "maybe"}]),
        ("{data}/t/train.jsonl:61: label must be 0 to 1 or one of no, yes, got 'maybe'",),
    ),
    "label with a near name": (
        rows("t", "train", [*SOUND, {"a": "w1 zz", "label": "yess"}]),
        ("{data}/t/train.jsonl:61: label must be", "got 'yess' (did you mean yes?)"),
    ),
    "label that is no number": (
        several(own(kind="regression", classes=[], metrics=[]), rows("t", "validation", [{"a": "w1", "label": "much"}])),
        ("{data}/t/validation.jsonl:1: label must be a number, got 'much'",),
    ),
    "missing field": (
        rows("t", "train", [{"text": "w1", "label": 0}]),
        ("{data}/t/train.jsonl:1: needs the field a; it has text, label: rename the field, or name the right one",),
    ),
    "empty text": (
        rows("s2", "train", [*SOUND, {"a": " ", "label": 0}]),
        ("{data}/s2/train.jsonl:61: a must be a text that is not empty, got ' '",),
    ),
    "the same id twice": (
        rows("t", "train", [{**row, "id": 7} for row in SOUND]),
        ("{data}/t/train.jsonl:2: id 7 stands at {data}/t/train.jsonl:1 too", "(58 more rows like this)"),
    ),
    "class only in the report split": (
        several(own(**THREE), rows("t", "validation", rows_of(24, 3))),
        ("{data}/t: train has no row of a class that other splits have: maybe (validation)",),
    ),
    "a single class": (
        rows("t", "validation", [row for row in SOUND if not row["label"]]),
        ("{data}/t/validation.jsonl: needs rows of at least two classes, has only no",),
    ),
    "path with a variable that is not set": (
        own(path="$PANDA_TUNE_NOWHERE/x"),
        ("task t: path: '$PANDA_TUNE_NOWHERE/x' names $PANDA_TUNE_NOWHERE, which is not set; set it, or write the path out",),
    ),
    "no PLM": (
        values(plm={"from": "./nowhere"}),
        ("PLM './nowhere': nowhere is no folder with a config.json and no .gguf file; give a hub id, a folder, a .gguf",),
    ),
    "no such PLM on the hub": (values(plm={"from": "nobody/nothing"}), ("PLM 'nobody/nothing': not found as a folder",)),
    "package that is not there": (
        values(plm={"from": "package:no_such_thing/model"}),
        ("the package 'no_such_thing' is not installed; PLMs in installed packages: ",),
    ),
    "file to start from that is not there": (
        values(prompt={"length": 3, "init": {"kind": "file", "file": "no.safetensors"}}),
        ("prompt.init.file", "no.safetensors", ": cannot be read (", "No such file or directory"),
    ),
    "the PLM as its own teacher": (
        itself_as("teacher_plm", copied=False),
        ("plm: ", " is its own teacher_plm; name another"),
    ),
    "a copy of the PLM as its own teacher": (
        itself_as("teacher_plm", copied=True),
        ("plm: ", " is its own teacher_plm; name another"),
    ),
    "prompts of the PLM itself to project": (
        itself_as("source_plm", copied=True),
        ("plm: ", " is its own source_plm; name another"),
    ),
    "a teacher PLM that is not there": (
        values(methods=["distill"], teacher_plm={"from": "./nowhere"}),
        ("PLM './nowhere': nowhere is no folder with a config.json",),
    ),
    "no teacher PLM": (
        values(methods=["distill", "panda_distill"]),
        (
            "{folder}/experiment.yaml:1: methods distill, panda_distill need another PLM: add `teacher_plm: {{from: ...}}`",
        ),
    ),
    "no PLM to project from": (
        values(methods=["tpt_model"]),
        ("experiment.yaml:1: methods tpt_model need another PLM: add `source_plm: {{from: ...}}`",),
    ),
    "a projector on a task that is no source": (
        values(methods=["tpt_model"], source_plm={"from": "."}, projector={"tasks": ["s1", "t"]}),
        ("a projector needs a prompt of each task on both PLMs, and t is none of the source tasks",),
    ),
    "a projector on a task twice": (
        values(methods=["tpt_model"], source_plm={"from": "."}, projector={"tasks": ["s1", "s2", "s1"]}),
        ("each task trains the projector once, but s1 is listed more than once; list it once",),
    ),
    "a projector on a mixture": (
        values(
            methods=["tpt_model"], source_plm={"from": "."}, mixtures={"pool": ["s1"]}, sources=["s1", "pool"],
            projector={"tasks": ["pool"]},
        ),
        ("a projector needs a prompt of each task on both PLMs, and pool is none of the source tasks",),
    ),
    "no source but the target to train a projector": (
        with_other_plm("source_plm", "tpt_model", sources=["t"], self_pairs="include"),
        ("tpt_model: no source is left to train a projector for t; add sources or projector.tasks",),
    ),
    "mixtures alone to train a projector": (
        with_other_plm("source_plm", "tpt_model", sources=["pool"], mixtures={"pool": ["s1", "s2"]}),
        ("tpt_model: no source is left to train a projector for t; add sources or projector.tasks",),
    ),
    "no head that a target can take over": (
        several(own(classes=["bad", "good"]), values(methods=["zero_shot", "random_prompt", "spot"])),
        (
            "zero_shot takes over a source's head, and no source has the classes of a target; leave zero_shot out",
            "random_prompt takes over a source's head",
        ),
    ),
    "a task of a mixture without data": (
        values(mixtures={"pool": ["s1", "cb"]}, sources=["pool"]),
        ("task cb: ",),
    ),
    "a mixture with the target as its only source": (
        values(mixtures={"pool": ["s1", "t"]}, sources=["pool"]),
        ("no source is left for target t (a task never is its own source: self_pairs: include)",),
    ),
    "hidden vectors of tags": (
        of_kind("tagging", values(kd="hidden")),
        ("panda: hidden is not defined for t (tagging); use mse",),
    ),
    "relations of tags": (
        of_kind("tagging", with_other_plm("teacher_plm", "distill")),
        ("distill: inter_instance is not defined for t (tagging); leave it out (space: inter_instance: 0)",),
    ),
    "relations of answers": (
        of_kind("extractive_qa", with_other_plm("teacher_plm", "panda_distill", relation="distance")),
        ("panda_distill: distance is not defined for t (extractive_qa); leave it out (space: inter_instance: 0)",),
    ),
    "a Gram matrix of values": (
        of_kind("regression", with_other_plm("teacher_plm", "distill", relation="gram")),
        ("distill: gram is not defined for t (regression); use inter_instance or distance",),
    ),
    "classes of a regression": (
        of_kind("regression", values(kd="inter_class")),
        ("panda: inter_class is not defined for t (regression); use mse",),
    ),
    "file in the storage's place": (
        lambda folder: (folder / "runs").write_text("x"),
        ("storage: {folder}/runs is no folder; name another",),
    ),
    "storage inside of a file": (
        values(storage="experiment.yaml/runs"),
        ("storage: {folder}/experiment.yaml is no folder; name another",),
    ),
}  # fmt: skip
GPT2_CONFIG = GPT2Config(vocab_size=60, n_embd=16, n_layer=2, n_head=2, n_positions=64)
MODERN_CONFIG = ModernBertConfig(
    **SMALL, max_position_embeddings=64, pad_token_id=0, bos_token_id=3, eos_token_id=4, cls_token_id=3, sep_token_id=4
)
ROOT = os.geteuid() == 0


@pytest.mark.parametrize("mistake", PLANNED)
def test_a_mistake_in_what_the_file_names_is_told_and_nothing_is_written(
    ran: Ran, file: Path, tmp_path: Path, mistake: str
) -> None:
    change, parts = PLANNED[mistake]
    change(tmp_path)
    refused(ran, file, *(part.format(data=tmp_path / "data", folder=tmp_path) for part in parts))
    assert left(tmp_path) == set()


PREPARED: dict[str, tuple[Change, tuple[str, ...]]] = {
    "fewer rows than a batch": (
        values(train={**TRAIN, "batch_size": 64}),
        ("task t: train.batch_size 64 is more than the 48 rows that are left to train on; lower it", "task s1: ", "task s2: "),
    ),
    "fewer shots than a batch": (
        values(shots={"per_class": 1}),
        ("task t: train.batch_size 4 is more than the 2 rows that are left to train on; lower it",),
    ),
    "more shots than a class has": (
        values(shots={"per_class": 40}),
        ("task t: shots.per_class 40 needs 40 rows to train on and as many to select on, but class no has 30",),
    ),
    "more shots than a source's class has": (
        values(shots={"per_class": 16, "for": "sources"}),
        ("task s1: shots.per_class 16 needs 16 rows to train on and as many to select on, but class no has 30", "task s2: "),
    ),
    "prompt and texts longer than the PLM's positions": (
        values(prompt={"length": 50}),
        ("prompt length 50 + max_length 16 is over the 64 positions of BertModel; lower one of them",),
    ),
    "input prompt and texts longer than the PLM's positions": (
        several(values(prompt={"length": 50, "form": "input"}), from_zero),
        ("prompt length 50 + max_length 16 is over the 64 positions of BertModel; lower one of them",),
    ),
    "more layers than there are": (
        lambda folder: changed_plm(folder, layers=3),
        ("layers must be 1 to 2, got 3",),
    ),
    "selection without a row of a class": (
        rows("t", "train", [*(row for row in SOUND if row["label"]), {"a": "w1 zz", "label": 0}]),
        ("task t: selection and training both need rows of every class, but class no has 1 rows, of which 1 would be held out",),
    ),
    "start of another shape": (
        several(
            lambda folder: save_file({"prompt": torch.zeros(2, 2, 2, 4, 8)}, folder / "start"),
            values(prompt={"length": 3, "init": {"kind": "file", "file": "start"}}),
        ),
        ("prompt.init.file {folder}/start: needs a tensor `prompt` of shape [2, 2, 2, 3, 8], has {{'prompt': [2, 2, 2, 4, 8]}}",),
    ),
    "start that is no safetensors": (
        several(
            lambda folder: (folder / "start").write_text("x"),
            values(prompt={"length": 3, "init": {"kind": "file", "file": "start"}}),
        ),
        ("prompt.init.file {folder}/start: cannot be read as safetensors",),
    ),
    "a teacher PLM with too few positions": (
        with_other_plm("teacher_plm", "distill", lambda: small_bert(18)),
        ("prompt length 3 + max_length 16 is over the 18 positions of BertModel; lower one of them",),
    ),
    "a teacher PLM that takes no prefix": (
        with_other_plm("teacher_plm", "distill", lambda: GPT2Model(GPT2_CONFIG)),
        ("GPT2Model takes no prompt here: it reads left to right, and an encoder is needed",),
    ),
    "a PLM to project from that has fewer layers": (
        with_other_plm("source_plm", "tpt_model", source_plm={"from": "other", "layers": 3}),
        ("layers must be 1 to 2, got 3",),
    ),
    "an embedding of a layer that is not there": (
        values(embedding={"layer": 3}),
        ("the layer of task embeddings must be 1 to 2 of ", ", got 3"),
    ),
    "neurons of a layer that is not there": (
        values(similarities=["task_embedding", "on"], neurons={"layers": [1, 3]}),
        ("window must be first and last layer within 1 to 2, got [1, 3]",),
    ),
    "neurons of a PLM whose layers are gated": (
        several(
            with_other_plm("source_plm", "spot", lambda: ModernBertModel(MODERN_CONFIG)),
            values(plm={"from": "other"}, similarities=["task_embedding", "on"], prompt={"length": 3, "form": "input"}),
        ),
        ("on: the feed-forward layer of ModernBertModel cannot be found: ", "; leave `on` out of similarities"),
    ),
    "texts of every task of a projector in the target's report rows": (
        several(
            with_other_plm("source_plm", "tpt_model", sources=["s1"]),
            rows("t", "validation", rows_of(60, 2, seed=0)[:24]),
        ),
        ("projector: every task shares texts with the report rows of t; name others, or use overlap: warn",),
    ),
    "texts alone nearly as long as the PLM's positions": (
        values(train={**TRAIN, "max_length": 64}),
        ("prompt length 3 + max_length 64 is over the 64 positions of BertModel; lower one of them",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", PREPARED)
def test_what_no_worker_could_train_is_told_before_one_starts(
    ran: Ran, file: Path, tmp_path: Path, mistake: str
) -> None:
    """Tables of tokens may be left, which the next run reads; nothing that was trained."""
    change, parts = PREPARED[mistake]
    change(tmp_path)
    refused(ran, file, *(part.format(folder=tmp_path) for part in parts))
    assert left(tmp_path) <= {"library/tokens", "library/texts", "searches/small/uses"}


def copied_plm(folder: Path, **changes: Any) -> Path:
    """The experiment's PLM beside the file, where it can be damaged."""
    source = json.loads((folder / "experiment.yaml").read_text())["plm"]["from"]
    plm = shutil.copytree(source, folder / "plm")
    changed_plm(folder, **{"from": "plm", **changes})
    return plm


def damaged(name: str, content: bytes | None) -> Change:
    def change(folder: Path) -> None:
        path = copied_plm(folder) / name
        path.unlink() if content is None else path.write_bytes(content)

    return change


def without_tokenizer(folder: Path) -> None:
    for path in copied_plm(folder).glob("*token*"):
        path.unlink()


def cut_weights(folder: Path) -> None:
    path = copied_plm(folder) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:500])


def lacking_weights(folder: Path) -> None:
    path = copied_plm(folder) / "model.safetensors"
    save_file({"embeddings.word_embeddings.weight": torch.zeros(60, 16)}, path, {"format": "pt"})


def tokens_of_another_plm(folder: Path) -> None:
    path = copied_plm(folder) / "tokenizer.json"
    path.write_text(path.read_text().replace('"w39": 44', '"w39": 4400').replace('"w24": 29', '"w24": 2900'))


def reads_left_to_right(folder: Path) -> None:
    plm = copied_plm(folder)
    (plm / "model.safetensors").unlink()
    GPT2Model(GPT2_CONFIG).save_pretrained(plm)


def pickled(folder: Path) -> None:
    plm = copied_plm(folder)
    (plm / "model.safetensors").rename(plm / "pytorch_model.bin")


BROKEN_PLMS: dict[str, tuple[Change, tuple[str, ...]]] = {
    "pickled weights": (pickled, ("/plm has no *.safetensors; pickled weights are not loaded",)),
    "no config": (damaged("config.json", None), ("/plm is no folder with a config.json",)),
    "takes no prefix": (
        reads_left_to_right,
        ("GPT2Model takes no prompt here: it reads left to right, and an encoder is needed",),
    ),
    "lacks weights": (lacking_weights, ("its file lacks weights: ",)),
    "config that is no JSON": (damaged("config.json", b"{"), ("PLM ",)),
    "config of an unknown model": (damaged("config.json", b'{"model_type": "bertt"}'), ("bertt",)),
    "weights cut off": (cut_weights, ("PLM ",)),
    "no tokenizer": (without_tokenizer, ("PLM ", "tokenizer")),
    "tokenizer that is none": (damaged("tokenizer.json", b"{}"), ("PLM ",)),
    "tokenizer of another PLM": (tokens_of_another_plm, ("PLM ",)),
}


@pytest.mark.parametrize("mistake", BROKEN_PLMS)
def test_a_plm_that_cannot_be_used_is_told(ran: Ran, file: Path, tmp_path: Path, mistake: str) -> None:
    change, parts = BROKEN_PLMS[mistake]
    change(tmp_path)
    refused(ran, file, *parts)
    assert left(tmp_path) <= {"library/tokens", "library/texts", "searches/small/uses"}


ODD = {"too long": "x" * 300, "a NUL": "a\0b", "somebody's home": "~nobody/x"}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("key", ["plm.from", "data", "tasks.t.path", "storage", "prompt.init.file"])
def test_a_path_that_cannot_be_one_is_a_mistake_and_no_crash(
    ran: Ran, file: Path, tmp_path: Path, key: str, odd: str
) -> None:
    changes: dict[str, Change] = {
        "plm.from": values(plm={"from": ODD[odd]}),
        "data": values(data=ODD[odd]),
        "tasks.t.path": own(path=ODD[odd]),
        "storage": values(storage=ODD[odd]),
        "prompt.init.file": values(prompt={"length": 3, "init": {"kind": "file", "file": ODD[odd]}}),
    }
    changes[key](tmp_path)
    code, _, said = ran("search", file, "--dry-run")
    assert "Traceback" not in said
    assert code == (0 if (key, odd) == ("storage", "somebody's home") else 2)  # a folder may be called so


@pytest.mark.skipif(ROOT, reason="root writes everywhere")
def test_a_storage_that_may_not_be_written_is_told(ran: Ran, file: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir(mode=0o500)
    values(storage="kept/runs")(tmp_path)
    refused(ran, file, f"storage: {tmp_path}/kept cannot be written; name another folder")


def test_what_is_wrong_with_several_tasks_the_plm_and_the_storage_is_told_at_once(
    ran: Ran, file: Path, tmp_path: Path
) -> None:
    several(
        PLANNED["no train file"][0],
        text("s1", "train.csv", "a,label\nw1,0,0\n"),
        rows("s2", "train", [*SOUND, {"a": "w1 zz", "label": 9}, {"a": "", "label": 1}]),
        values(plm={"from": "./nowhere"}, prompt={"length": 3, "init": {"kind": "file", "file": "no"}}),
        lambda folder: (folder / "runs").write_text("x"),
    )(tmp_path)
    lines = refused(
        ran, file, "task t: train not found", "s1/train.csv:2: has 3 fields", "s2/train.jsonl:61: label must be",
        "s2/train.jsonl:62: a must be a text", "PLM './nowhere'", "prompt.init.file", "storage: ",
    )  # fmt: skip
    assert len(lines) == 7


def test_what_no_worker_could_train_is_told_at_once(ran: Ran, file: Path, tmp_path: Path) -> None:
    several(
        values(train={**TRAIN, "batch_size": 50}, prompt={"length": 50}),
        PREPARED["selection without a row of a class"][0],
    )(tmp_path)
    lines = refused(ran, file, "prompt length 50", "task t: selection and", "task s1: train.batch_size 50", "task s2: ")
    assert len(lines) == 4


def test_mistakes_of_the_data_and_of_the_settings_are_told_in_one_run(ran: Ran, file: Path, tmp_path: Path) -> None:
    """A user who mends the one must not have to come back for the other."""
    several(
        PLANNED["no train file"][0],
        values(prompt={"length": 50}, train={**TRAIN, "batch_size": 64}),
    )(tmp_path)
    refused(ran, file, "task t: train not found", "prompt length 50 + max_length 16", "task s1: train.batch_size 64")


def test_mistakes_of_two_plms_are_told_in_one_run(ran: Ran, file: Path, tmp_path: Path, plms: Plms) -> None:
    bert = {"from": str(plms("bert"))}
    values(plm=[{**bert, "layers": 9}, {"from": str(plms("distilbert"))}], prompt={"length": 50})(tmp_path)
    refused(ran, file, "layers must be 1 to 2, got 9", "64 positions of DistilBertModel")


def test_a_head_that_only_some_sources_share_is_taken_over_from_those(ran: Ran, file: Path, tmp_path: Path) -> None:
    tasks = {"s1": OWN, "s2": {**OWN, "classes": ["yes", "no"]}, "t": OWN, "s3": {**OWN, "classes": ["bad", "good"]}}
    write_task(tmp_path / "data/s3", rows_of(60, 2, seed=7), rows_of(24, 2, seed=8))
    values(tasks=tasks, sources=["s1", "s2", "s3"], methods=["zero_shot"])(tmp_path)
    code, out, _ = ran("search", file, "--dry-run")
    assert code == 0
    assert [line.strip() for line in out.splitlines() if "zero_shot" in line and "←" in line] == [
        "t ← s1 · zero_shot", "t ← s2 · zero_shot",
        "note: zero_shot is left out where source and target have other classes: t ← s3",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_defined_for_a_task_is_no_mistake_where_nobody_asks_for_it(
    ran: Ran, file: Path, tmp_path: Path, kind: str
) -> None:
    """A loss of no method, and relations whose weight is zero."""
    of_kind(kind, values(kd="inter_class", relation="gram", methods=["spot", "linear_probe"]))(tmp_path)
    assert ran("search", file, "--dry-run")[0] == 0
    off = {"distill": {"inter_class": 0, "inter_instance": 0, "lambda": 1.0}}
    of_kind(kind, with_other_plm("teacher_plm", "distill", kd="mse", space=off))(tmp_path)
    code, out, _ = ran("search", file, "--dry-run")
    assert code == 0
    assert "t · distill" in out


def test_another_plm_that_no_method_needs_is_not_looked_for(ran: Ran, file: Path, tmp_path: Path) -> None:
    values(teacher_plm={"from": "./nowhere"}, source_plm={"from": "./nowhere"})(tmp_path)
    assert ran("search", file, "--dry-run")[0] == 0


def test_mistakes_of_all_plms_are_told_in_one_run(ran: Ran, file: Path, tmp_path: Path) -> None:
    values(
        plm={"from": "./one"}, methods=["distill", "tpt_model"], teacher_plm={"from": "./two"}, source_plm={"from": "./three"}
    )(tmp_path)  # fmt: skip
    assert len(refused(ran, file, "PLM './one'", "PLM './two'", "PLM './three'")) == 3


def test_a_source_that_is_used_by_nobody_is_no_mistake(ran: Ran, file: Path, tmp_path: Path) -> None:
    """A task that takes no part need not be fit for a batch."""
    several(
        rows("s2", "train", rows_of(6, 2)), values(pairs={"t": ["s1"]}, train={**TRAIN, "batch_size": 8})
    )(tmp_path)  # fmt: skip
    assert ran("search", file, "--dry-run")[0] == 0


def test_notes_of_what_is_allowed_but_worth_knowing_are_part_of_the_plan(ran: Ran, file: Path, tmp_path: Path) -> None:
    few = [row for row in rows_of(200, 2, seed=3) if row["label"] == 0 or int(row["a"].split("x")[-1]) < 16]
    several(rows("t", "train", few), values(train={**TRAIN, "max_length": 9}))(tmp_path)
    code, out, _ = ran("search", file, "--dry-run")
    assert code == 0
    assert "note: t is imbalanced: 100 train rows of no and 8 of yes; read macro_f1 beside accuracy" in out
    assert "of its train rows are cut at 9 tokens" in out


SAMPLES = {
    "ragged table": PLANNED,
    "prompt and texts longer than the PLM's positions": PREPARED,
    "weights cut off": BROKEN_PLMS,
}
"""Mistake -> its table."""


@pytest.mark.parametrize("mistake", SAMPLES)
def test_a_search_is_refused_as_its_dry_run_and_leaves_nothing_but_tables(
    ran: Ran, file: Path, tmp_path: Path, mistake: str
) -> None:
    """Nor does it wait for a server, or make a store of MLflow, to have nothing to say."""
    SAMPLES[mistake][mistake][0](tmp_path)
    lines = refused(ran, file)
    code, out, said = ran("search", file)
    assert (code, out, said.splitlines()) == (2, "", lines)
    assert left(tmp_path) <= {"library/tokens", "library/texts", "searches/small/uses"}


def test_the_installed_command_refuses_in_the_same_words(ran: Ran, file: Path, tmp_path: Path) -> None:
    PLANNED["ragged table"][0](tmp_path)
    done = panda_tune("search", file, code=2)
    assert (done.stdout, done.stderr.splitlines()) == ("", refused(ran, file))


def test_a_sound_experiment_is_planned(ran: Ran, file: Path) -> None:
    """What the mistakes above are made of has none itself."""
    code, out, said = ran("search", file, "--dry-run")
    assert (code, said) == (0, f"Next: panda-tune search {file}\n")
    assert "small: 5 studies" in out


def test_rows_that_are_limited_below_a_class_are_told(ran: Ran, file: Path, tmp_path: Path) -> None:
    write_task(tmp_path / "data/t", [*rows_of(300, 1), {"a": "w30 zz", "label": 1}], rows_of(24, 2, seed=101))
    values(limit={"train": 20})(tmp_path)
    code, _, said = ran("search", file, "--dry-run")
    assert code == 2
    assert "task t: " in said
    assert "yes" in said

"""Small real things that tests share: random PLMs of four families, and tasks of a few rows."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from panda_trainable.config.setting import Plm, Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.data.rows import located
from panda_trainable.library import PromptLibrary
from panda_trainable.plm.files import plm_files

COMMAND = Path(sys.executable).parent / "panda-tune"
SHARED = Path(__file__).parent.parent.parent / "shared"
SMALL = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
WORDS = [f"w{i}" for i in range(40)]

needs_real_data = pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="shared/data is not here")


def _model(family: str) -> Any:
    torch.manual_seed(0)
    position = {"max_position_embeddings": 64}
    if family == "bert":
        return BertModel(BertConfig(**SMALL, **position), add_pooling_layer=False)
    if family == "roberta":
        return RobertaModel(RobertaConfig(**SMALL, max_position_embeddings=66, pad_token_id=1), add_pooling_layer=False)
    if family == "electra":
        return ElectraModel(ElectraConfig(**SMALL, **position, embedding_size=12))
    small = {"vocab_size": 60, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24}
    return DistilBertModel(DistilBertConfig(**small, **position))


FAMILIES = ("bert", "roberta", "electra", "distilbert")


def save_plm(folder: Path, family: str = "bert") -> Path:
    """A random PLM of a family with a whitespace tokenizer, as files."""
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "<pad>", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 3), ("[SEP]", 4)]
    )
    pad = "<pad>" if family == "roberta" else "[PAD]"
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token=pad
    )
    model = _model(family)
    with torch.no_grad():  # larger weights than the default, so that differences are seen
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def rows_of(
    n: int, classes: int = 2, pair: bool = False, seed: int = 0, kind: str = "classification"
) -> list[dict[str, Any]]:
    """Learnable rows: the class decides which third of the words is frequent."""
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        label = i % classes
        words = [
            *generator.choice(WORDS[label * 8 : label * 8 + 8], 3),
            *generator.choice(WORDS[24:], int(generator.integers(1, 6))),
        ]
        text = " ".join(generator.permutation(words))
        row = {
            "a": f"{text} {WORDS[24 + i % 16]} x{i}",
            "label": label if kind == "classification" else float(label) + 0.01 * i,
        }
        rows.append({**row, "b": f"y{i} " + text[::-1]} if pair else row)
    return rows


def write_task(folder: Path, train: list[dict[str, Any]], validation: list[dict[str, Any]]) -> Path:
    """A task's files."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in (("train", train), ("validation", validation)):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def plms(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of random PLMs, made once."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = save_plm(tmp_path_factory.mktemp("plm") / family, family)
        return made[family]

    return folder


@pytest.fixture
def library(tmp_path: Path) -> PromptLibrary:
    """An empty library."""
    return PromptLibrary(tmp_path / "library")


@pytest.fixture
def setting(plms: Callable[[str], Path]) -> Setting:
    """A small setting on the random bert."""
    folder = plms("bert")
    return Setting(Plm(str(folder), plm_files(folder)), prompt_length=3, batch_size=4, max_length=16, eval_every=4)


@pytest.fixture
def task(tmp_path: Path) -> Callable[..., TaskSpec]:
    """Makes located tasks of a few rows: task(name, classes=2, n=60, seed=0, kind="classification")."""

    def make(
        name: str, classes: int = 2, n: int = 60, seed: int = 0, kind: str = "classification", **changes: Any
    ) -> TaskSpec:
        write_task(
            tmp_path / "data" / name,
            rows_of(n, classes, seed=seed, kind=kind),
            rows_of(24, classes, seed=seed + 99, kind=kind),
        )
        names = tuple(f"c{i}" for i in range(classes)) if kind == "classification" else ()
        metric = "accuracy" if kind == "classification" else "pearson"
        spec = TaskSpec(name, kind, ("a",), "label", names, (metric,))
        return located(replace(spec, **changes), tmp_path / "data")

    return make


def experiment_file(folder: Path, plm: Path, **changes: Any) -> Path:
    """An experiment file on random data: sources s1, s2; target t; a few steps."""
    for number, name in enumerate(("s1", "s2", "t")):
        if not (folder / "data" / name).exists():
            write_task(folder / "data" / name, rows_of(60, 2, seed=number), rows_of(24, 2, seed=number + 99))
    own = {"kind": "classification", "text": ["a"], "classes": ["no", "yes"], "metrics": ["accuracy"]}
    values = {
        "name": "small",
        "plm": {"from": str(plm)},
        "tasks": dict.fromkeys(("s1", "s2", "t"), own),
        "sources": ["s1", "s2"],
        "targets": ["t"],
        "methods": ["spot", "panda"],
        "prompt": {"length": 3},
        "train": {"steps": 8, "batch_size": 4, "max_length": 16, "eval_every": 2, "seeds": [0, 1]},
        "source_train": {"steps": 8, "early_step": 4},
        "search": {"trials": 2},
        "confirm": {"top": 1, "seeds": [10, 11]},
        **changes,
    }
    file = folder / "experiment.yaml"
    file.write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML
    return file


def panda_tune(*arguments: Any, code: int | None = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the installed command; `code` is the exit code that it must have."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "RAY_worker_niceness": "0"}
    command = [COMMAND, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory, plms: Callable[[str], Path]) -> tuple[Path, Path, str]:
    """A finished search on random data: its folder, its file, and what it printed."""
    folder = tmp_path_factory.mktemp("searched")
    file = experiment_file(folder, plms("bert"))
    return folder, file, panda_tune("search", file).stdout

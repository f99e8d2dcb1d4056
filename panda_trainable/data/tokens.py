"""TokenTable: the rows of one split as the PLM reads them, tokenised once and mapped into memory."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panda_trainable.config.keys import content_key
from panda_trainable.config.kinds import TEXT_ANSWERS
from panda_trainable.config.setting import Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.data.gold import AnswerGold, TagGold, TextGold
from panda_trainable.data.limits import kept_rows
from panda_trainable.data.rows import Example
from panda_trainable.data.tokenisers import tokeniser_of
from panda_trainable.library import PromptLibrary
from panda_trainable.origins.texts import shared_text_groups, text_hashes
from panda_trainable.pretrained.files import load_tokenizer

GOLD = "gold.json"


@dataclass(frozen=True, eq=False)
class TokenTable:
    """The rows of one split. An example is one sequence of tokens, or, for a trained head, one per choice, next to each other.

    Attributes:
        ids: [M, T] token ids of each sequence, padded to the longest.
        types: [M, T] token types: 0, and 1 in the second text of a pair.
        lengths: [M] tokens of each sequence.
        labels: what the loss compares with: [N] class or choice numbers or values; [N, W] tags of words;
            [N, 2] first and last token of the answer; [N, A] tokens that are written. IGNORED where there is nothing to
            learn.
        slots: [N, W] tagging: the token that stands for each word, its first; -1: none. [N, 1] of a task that a
            language model is asked: the token that predicts the answer. [N, A] of one that it writes: the tokens to be
            written, -1 behind them. [N, S, A] of one whose choices it scores: the tokens of each. Else [N, 0].
        answers: [N, T] extractive QA: which tokens are the passage's. Else [N, 0].
        offsets: [N, T, 2] extractive QA: the characters of the passage's tokens. Else [N, 0, 2].
        groups: [N] rows with the same number share a text.
        texts: [N, F] hashes of the texts that are compared.
        questions: [N] rows with the same number answer one question.
        truncated: share of examples that were cut at the maximum length, in [0, 1].
        gold: what metrics need beside labels [N], or the file that holds it.
    """

    ids: Tensor
    types: Tensor
    lengths: Tensor
    labels: Tensor
    slots: Tensor
    answers: Tensor
    offsets: NDArray[np.int32]
    groups: NDArray[np.int64]
    texts: NDArray[np.uint64]
    questions: NDArray[np.int64]
    truncated: float
    gold: Path | tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sequences(self) -> int:
        """Sequences of one example."""
        return len(self.lengths) // len(self.labels)

    def on(self, device: torch.device) -> "TokenTable":
        """The table with its tensors on a device, where they stay; on a CPU they are mapped files."""
        return self if device.type == "cpu" else _resident(self, device)


@lru_cache(maxsize=16)
def _resident(table: TokenTable, device: torch.device) -> TokenTable:
    return replace(table, **{name: getattr(table, name).to(device) for name in _TENSORS})


def release_tables() -> None:
    """Frees the device memory held by token tables."""
    _resident.cache_clear()


_TENSORS = ("ids", "types", "lengths", "labels", "slots", "answers")
_ARRAYS = ("offsets", "groups", "texts", "questions")


def tokens_key(setting: Setting, task: TaskSpec, split: str) -> str:
    """Content key of a token table: tokenizer files, rows of the split, tokenisation and truncation settings."""
    limit = setting.limit.train if split == "train" else setting.limit.report
    found = dict(task.fingerprints)[split]
    read = (task.kind, task.classes, task.text, task.choices, task.compared_fields, task.question)
    asked: tuple[Any, ...] = (task.asked, setting.plm.kind) if task.asked else ()
    asked += (setting.train.max_answer,) if task.readout in TEXT_ANSWERS else ()
    return content_key("tokens", setting.plm.files, found, read, setting.train.max_length, limit, *asked)


@lru_cache(maxsize=64)
def token_table(library: PromptLibrary, setting: Setting, task: TaskSpec, split: str) -> TokenTable:
    """The token table of a split, created if missing and then memory-mapped."""
    folder = library.get_or_make(
        "tokens",
        tokens_key(setting, task, split),
        lambda draft: _tokenise(draft, setting, task, split),
        {"task": task.name, "split": split, "plm": setting.plm.label},
    )
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in (*_TENSORS, *_ARRAYS)}
    tensors: dict[str, Any] = {name: torch.from_numpy(arrays[name]) for name in _TENSORS}
    others: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
    share = float(np.load(folder / "truncated.npy"))
    return TokenTable(**tensors, **others, truncated=share, gold=folder / GOLD)


def _tokenise(draft: Path, setting: Setting, task: TaskSpec, split: str) -> None:
    """Writes the arrays of a TokenTable into a folder."""
    rows, questions = kept_rows(task, split, setting.limit.train if split == "train" else setting.limit.report)
    arrays, gold = _arrays(setting, task, rows, questions)
    for name, array in arrays.items():
        np.save(draft / f"{name}.npy", array, allow_pickle=False)
    (draft / GOLD).write_text(json.dumps(gold), encoding="utf-8")


def table_of(setting: Setting, task: TaskSpec, rows: Sequence[Example], questions: NDArray[np.int64]) -> TokenTable:
    """The table of rows that belong to no split, in memory alone.

    Args:
        setting: PLM and length of texts.
        task: what the rows are of.
        rows: [N], at least one.
        questions: [N] rows with the same number answer one question.
    """
    arrays, gold = _arrays(setting, task, rows, questions)
    share = float(arrays.pop("truncated"))
    tensors: dict[str, Any] = {name: torch.from_numpy(arrays.pop(name)) for name in _TENSORS}
    others: dict[str, Any] = arrays
    return TokenTable(**tensors, **others, truncated=share, gold=tuple(gold))


def _arrays(
    setting: Setting, task: TaskSpec, rows: Sequence[Example], questions: NDArray[np.int64]
) -> tuple[dict[str, NDArray[Any]], list[Any]]:
    """The arrays of a TokenTable of rows, and what metrics need beside labels."""
    tokenizer = load_tokenizer(setting.plm)
    arrays, gold = tokeniser_of(setting, task)(tokenizer, rows, setting.train.max_length)
    empty = {"slots": np.zeros((len(rows), 0), np.int32), "answers": np.zeros((len(rows), 0), bool)}
    arrays = {**empty, "offsets": np.zeros((len(rows), 0, 2), np.int32), **arrays}
    arrays["groups"] = shared_text_groups([row.compared for row in rows])
    arrays["texts"] = text_hashes([row.compared for row in rows])
    arrays["questions"] = questions
    return arrays, gold


def gold_of(table: TokenTable, task: TaskSpec, rows: NDArray[np.int64]) -> NDArray[Any]:
    """[n] gold values that metrics compare with predictions: labels, tags of all words, answers, or texts."""
    if make := _GOLD.get(task.kind):
        said = _gold(table.gold) if isinstance(table.gold, Path) else table.gold
        made = np.empty(len(rows), object)
        made[:] = [make(table, task, row, said[row]) for row in rows]
        return made
    labels = table.labels.numpy()[rows]
    if not task.question:
        return labels
    both = np.empty(len(rows), [("label", labels.dtype), ("question", np.int64)])
    both["label"], both["question"] = labels, table.questions[rows]
    return both


_GOLD: Mapping[str, Callable[[TokenTable, TaskSpec, int, Any], Any]] = MappingProxyType(
    {
        "tagging": lambda table, task, row, said: TagGold(task.classes, tuple(said), tuple(table.slots[row].tolist())),
        "extractive_qa": lambda table, _, row, said: AnswerGold(said[0], tuple(said[1]), table.offsets[row]),
        "generation": lambda _table, _task, _row, said: TextGold(tuple(said)),
    }
)
"""Kind -> a row's gold, of what its table keeps beside labels; other kinds have their labels."""


@lru_cache(maxsize=8)
def _gold(path: Path) -> list[Any]:
    return json.loads(path.read_text(encoding="utf-8"))

"""TokenTable: the rows of one split as the PLM reads them, tokenised once and mapped into memory."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from panda_trainable.config import Setting, content_key
from panda_trainable.library import PromptLibrary
from panda_trainable.metrics import AnswerGold, TagGold
from panda_trainable.objectives import IGNORED
from panda_trainable.plm import load_tokenizer
from panda_trainable.readers import split_file
from panda_trainable.rows import Example, examples, fingerprint
from panda_trainable.tasks import TaskSpec

Arrays = dict[str, NDArray[Any]]
GOLD = "gold.json"

LARGEST_GROUP = 0.25
"""Share of the rows that one shared text may tie together; beyond, its field is no text but a category."""


@dataclass(frozen=True, eq=False)
class TokenTable:
    """The rows of one split. An example is one sequence of tokens, or one per choice, next to each other.

    Attributes:
        ids: [M, T] token ids of each sequence, padded to the longest.
        types: [M, T] token types: 0, and 1 in the second text of a pair.
        lengths: [M] tokens of each sequence.
        labels: what the loss compares with: [N] class or choice numbers or values; [N, W] tags of words;
            [N, 2] first and last token of the answer. IGNORED where there is nothing to learn.
        slots: [N, W] tagging: the token that stands for each word, its first; -1: none. Else [N, 0].
        answers: [N, T] extractive QA: which tokens are the passage's. Else [N, 0].
        offsets: [N, T, 2] extractive QA: the characters of the passage's tokens. Else [N, 0, 2].
        groups: [N] rows with the same number share a text.
        texts: [N, F] hashes of the texts that are compared.
        questions: [N] rows with the same number answer one question.
        truncated: share of examples that were cut at the maximum length, in [0, 1].
        gold: file of what metrics need beside labels.
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
    gold: Path

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
    """Gives back what tables take of devices' memory."""
    _resident.cache_clear()


_TENSORS = ("ids", "types", "lengths", "labels", "slots", "answers")
_ARRAYS = ("offsets", "groups", "texts", "questions")


def tokens_key(setting: Setting, task: TaskSpec, split: str) -> str:
    """Key of a token table: the PLM's files, the split's rows, how they are read and cut."""
    limit = setting.limit_train if split == "train" else setting.limit_report
    found = dict(task.fingerprints)[split]
    read = (task.kind, task.classes, task.text, task.choices, task.compared_fields, task.question)
    return content_key("tokens", setting.plm.files, found, read, setting.max_length, limit)


@lru_cache(maxsize=64)
def token_table(library: PromptLibrary, setting: Setting, task: TaskSpec, split: str) -> TokenTable:
    """The token table of a split, made where it is missing and then mapped."""
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
    rows, questions = _kept(task, split, setting.limit_train if split == "train" else setting.limit_report)
    tokenizer = load_tokenizer(setting.plm)
    arrays, gold = TOKENISERS[task.kind](tokenizer, rows, setting.max_length)
    empty = {"slots": np.zeros((len(rows), 0), np.int32), "answers": np.zeros((len(rows), 0), bool)}
    arrays = {**empty, "offsets": np.zeros((len(rows), 0, 2), np.int32), **arrays}
    arrays["groups"] = sharing_a_text([row.compared for row in rows])
    arrays["texts"] = text_hashes([row.compared for row in rows])
    arrays["questions"] = questions
    for name, array in arrays.items():
        np.save(draft / f"{name}.npy", array, allow_pickle=False)
    (draft / GOLD).write_text(json.dumps(gold), encoding="utf-8")


def _of_texts(tokenizer: Any, rows: Sequence[Example], max_length: int) -> Arrays:
    """Pairs or single texts, cut at the longer one. Source: Hugging Face's `longest_first`."""
    texts = [list(column) for column in zip(*(text for row in rows for text in row.texts), strict=True)]
    encoded = tokenizer(*texts, truncation="longest_first", max_length=max_length, return_token_type_ids=True)
    whole = [len(ids) for ids in tokenizer(*texts, truncation=False, verbose=False)["input_ids"]]
    arrays = _padded_sequences(tokenizer, encoded)
    cut = (np.array(whole) > arrays["lengths"]).reshape(len(rows), -1).any(1)
    return {**arrays, "truncated": np.array(cut.mean())}


def _numbers(tokenizer: Any, rows: Sequence[Example], max_length: int) -> tuple[Arrays, list[Any]]:
    return {**_of_texts(tokenizer, rows, max_length), "labels": np.array([row.label for row in rows], np.int64)}, []


def _values(tokenizer: Any, rows: Sequence[Example], max_length: int) -> tuple[Arrays, list[Any]]:
    return {**_of_texts(tokenizer, rows, max_length), "labels": np.array([row.label for row in rows], np.float32)}, []


def _words(tokenizer: Any, rows: Sequence[Example], max_length: int) -> tuple[Arrays, list[Any]]:
    """Words with tags: a word's first subword answers for it; words behind the cut are not learnt."""
    words = [row.texts[0] for row in rows]
    texts = ["".join(f" {word}" for word in row) for row in words]  # a space before each: so tokenizers see words
    encoded = tokenizer(
        texts, truncation=True, max_length=max_length, return_offsets_mapping=True, return_token_type_ids=True
    )
    whole = [len(ids) for ids in tokenizer(texts, truncation=False, verbose=False)["input_ids"]]
    firsts = [_first_tokens(spans, row) for spans, row in zip(encoded["offset_mapping"], words, strict=True)]
    arrays = _padded_sequences(tokenizer, encoded)
    width = max((max((w + 1 for w, token in enumerate(row) if token >= 0), default=1)) for row in firsts)
    slots = np.full((len(rows), width), -1, np.int32)
    labels = np.full((len(rows), width), IGNORED, np.int64)
    for i, (row, tokens) in enumerate(zip(rows, firsts, strict=True)):
        kept = tokens[:width]
        slots[i, : len(kept)] = kept
        labels[i, : len(kept)] = [tag if token >= 0 else IGNORED for tag, token in zip(row.label, kept, strict=False)]
    cut = np.array(whole) > arrays["lengths"]
    return {**arrays, "slots": slots, "labels": labels, "truncated": np.array(np.mean(cut))}, [
        list(row.label) for row in rows
    ]


def _first_tokens(spans: Sequence[tuple[int, int]], words: Sequence[str]) -> list[int]:
    """The first token that covers each word of a text that has a space before every word; -1: none."""
    ends = np.cumsum([len(word) + 1 for word in words])
    starts = ends - [len(word) for word in words]
    tokens = [-1] * len(words)
    for token, (first, last) in enumerate(spans):
        word = int(np.searchsorted(ends, first, side="right"))
        while word < len(words) and starts[word] < last:
            tokens[word] = token if tokens[word] < 0 else tokens[word]
            word += 1
    return tokens


def _passages(tokenizer: Any, rows: Sequence[Example], max_length: int) -> tuple[Arrays, list[Any]]:
    """Question and passage, the passage cut at its end; an answer behind the cut is not learnt."""
    special = tokenizer.num_special_tokens_to_add(pair=True)
    if max_length < special + 2:
        raise ValueError(f"max_length {max_length} has no room for question and passage; give at least {special + 2}")
    room = min(max_length // 2, max_length - special - 1)
    questions = [_shortened(tokenizer, row.texts[0][0], room) for row in rows]
    passages = [row.texts[0][1] for row in rows]
    encoded = tokenizer(
        questions, passages, truncation="only_second", max_length=max_length, return_offsets_mapping=True,
        return_token_type_ids=True,
    )  # fmt: skip
    arrays = _padded_sequences(tokenizer, encoded)
    shape = arrays["ids"].shape
    answers, offsets = np.zeros(shape, bool), np.zeros((*shape, 2), np.int32)
    labels, cut = np.full((len(rows), 2), IGNORED, np.int64), np.zeros(len(rows))
    for i, row in enumerate(rows):
        inside = np.array([part == 1 for part in encoded.sequence_ids(i)])
        answers[i, : len(inside)] = inside
        offsets[i, : len(inside)] = np.where(inside[:, None], encoded["offset_mapping"][i], 0)
        cut[i] = offsets[i].max() < len(passages[i].rstrip())
        first, text = row.label[0]
        covering = inside & (offsets[i, : len(inside), 1] > first) & (offsets[i, : len(inside), 0] < first + len(text))
        tokens = np.flatnonzero(covering)
        if len(tokens) and offsets[i, tokens[-1], 1] >= first + len(text.rstrip()):
            labels[i] = tokens[0], tokens[-1]
    gold = [[passage, [text for _, text in row.label]] for passage, row in zip(passages, rows, strict=True)]
    more = {"answers": answers, "offsets": offsets, "labels": labels, "truncated": np.array(cut.mean())}
    return {**arrays, **more}, gold


def _shortened(tokenizer: Any, text: str, tokens: int) -> str:
    """A question that would fill the sequence, cut: the passage needs room."""
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    return text if len(offsets) <= tokens else text[: offsets[tokens - 1][1]]


TOKENISERS: Mapping[str, Callable[[Any, Sequence[Example], int], tuple[Arrays, list[Any]]]] = MappingProxyType(
    {
        "classification": _numbers,
        "regression": _values,
        "multiple_choice": _numbers,
        "tagging": _words,
        "extractive_qa": _passages,
    }
)
"""Kind -> function of tokenizer, rows and maximum length: arrays of a TokenTable, and what metrics need."""


def _padded_sequences(tokenizer: Any, encoded: Any) -> Arrays:
    ids = encoded["input_ids"]
    lengths = np.array([len(row) for row in ids], dtype=np.int64)
    types = encoded.get("token_type_ids") or [[0] * n for n in lengths]
    return {
        "ids": _padded(ids, lengths, np.int32, tokenizer.pad_token_id or 0),
        "types": _padded(types, lengths, np.uint8, 0),
        "lengths": lengths,
    }


def _padded(rows: list[list[int]], lengths: NDArray[np.int64], kind: Any, fill: int) -> NDArray[Any]:
    table = np.full((len(rows), lengths.max()), fill, kind)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return table


def texts_key(task: TaskSpec, split: str, limit: int | None) -> str:
    """Key of the hashes of a split's texts."""
    return content_key("texts", dict(task.fingerprints)[split], task.compared_fields, task.question, limit)


@lru_cache(maxsize=64)
def used_texts(library: PromptLibrary, task: TaskSpec, split: str, limit: int | None) -> NDArray[np.uint64]:
    """Hashes of the texts of a split's rows, each once, sorted: what overlaps are found by.

    Args:
        library: where they are kept; they can be shared where the texts cannot.
        task: located.
        split: one of its splits.
        limit: rows at most, as in a token table; None: all.
    """
    key = texts_key(task, split, limit)
    folder = library.get_or_make(
        "texts", key, lambda draft: _hash_texts(draft, task, split, limit), {"task": task.name, "split": split}
    )
    hashes: NDArray[np.uint64] = np.load(folder / "texts.npy")
    return hashes


def _hash_texts(draft: Path, task: TaskSpec, split: str, limit: int | None) -> None:
    found, _ = _kept(task, split, limit)
    hashes = np.unique(text_hashes([row.compared for row in found]))
    np.save(draft / "texts.npy", hashes[hashes > 0], allow_pickle=False)


def _kept(task: TaskSpec, split: str, limit: int | None) -> tuple[list[Example], NDArray[np.int64]]:
    """The rows of a split within the limit, and the numbers of their questions."""
    found = list(examples(task, split, []))
    if fingerprint(found) != dict(task.fingerprints)[split]:
        raise ValueError(
            f"{split_file(Path(task.path), split)}: changed since the plan was made; start the search again"
        )
    questions = numbered([example.question for example in found]) if task.question else np.arange(len(found))
    kept = capped(questions, limit)
    return [found[i] for i in kept], questions[kept]


def gold_of(table: TokenTable, task: TaskSpec, rows: NDArray[np.int64]) -> NDArray[Any]:
    """[n] what metrics compare the logits of rows with: labels, tags of all words, or answers."""
    if task.kind in ("tagging", "extractive_qa"):
        said = _gold(table.gold)
        made = np.empty(len(rows), object)
        for i, row in enumerate(rows):
            made[i] = (
                TagGold(task.classes, tuple(said[row]), tuple(table.slots[row].tolist()))
                if task.kind == "tagging"
                else AnswerGold(said[row][0], tuple(said[row][1]), table.offsets[row])
            )
        return made
    labels = table.labels.numpy()[rows]
    if not task.question:
        return labels
    both = np.empty(len(rows), [("label", labels.dtype), ("question", np.int64)])
    both["label"], both["question"] = labels, table.questions[rows]
    return both


@lru_cache(maxsize=8)
def _gold(path: Path) -> list[Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def numbered(names: Sequence[str]) -> NDArray[np.int64]:
    """[N] the number of each name: equal names have one."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], np.int64)


def capped(questions: NDArray[np.int64], limit: int | None) -> NDArray[np.int64]:
    """At most `limit` rows, drawn without replacement, the same each time, in file order, by whole questions.

    Args:
        questions: [N] rows of one number stay together.
        limit: None keeps all.
    """
    n = len(questions)
    if limit is None or limit >= n:
        return np.arange(n)
    names, members = np.unique(questions, return_inverse=True)
    sizes = np.bincount(members)
    drawn = np.random.default_rng(0).permutation(len(names))
    fits = np.cumsum(sizes[drawn]) <= limit
    fits[0] = True
    return np.flatnonzero(np.isin(members, drawn[fits]))


def folded(text: str) -> str:
    """A text as it is compared: only its words count, without case, spaces and punctuation (or its signs alone)."""
    return " ".join(re.findall(r"\w+", text.lower())) or text.strip()


def text_hashes(texts: Sequence[tuple[str, ...]]) -> NDArray[np.uint64]:
    """[N, F] 64-bit hashes of folded texts, of the fields that tell whether rows share a text; 0: no text."""
    columns = _telling(texts)[0]
    hashes = [[_hash(text) for text in column] for column in columns]
    return np.array(hashes, np.uint64).T


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") if text else 0


def sharing_a_text(texts: Sequence[tuple[str, ...]]) -> NDArray[np.int64]:
    """[N] group numbers: rows that share a text, as `folded`, also by way of others; an empty one does not count.

    A field that ties more than a quarter of the rows together is a category, or one question asked of
    every passage: it is left out, the field of the fewest texts first, as long as there is another.
    """
    return _telling(texts)[1]


def _telling(texts: Sequence[tuple[str, ...]]) -> tuple[list[list[str]], NDArray[np.int64]]:
    """The folded texts of the fields that tell rows apart, and the groups [N] that they make."""
    columns = [[folded(text) for text in column] for column in zip(*texts, strict=True)]
    columns.sort(key=lambda column: -len(set(column)))  # stable: among equals the first field stays longest
    groups = _tied(columns)
    while len(columns) > 1 and np.bincount(groups).max() > len(texts) * LARGEST_GROUP:
        columns.pop()
        groups = _tied(columns)
    return columns, groups


def _tied(columns: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """[N] numbers of the connected rows, by the texts of some fields."""
    n = len(columns[0])
    pairs = [(row, text) for column in columns for row, text in enumerate(column) if text]
    rows, texts = np.array([row for row, _ in pairs], np.int64), numbered([text for _, text in pairs])
    nodes = n + (int(texts.max()) + 1 if len(texts) else 0)
    graph = coo_array((np.ones(len(texts)), (rows, n + texts)), (nodes, nodes))
    return connected_components(graph, directed=False)[1][:n].astype(np.int64)

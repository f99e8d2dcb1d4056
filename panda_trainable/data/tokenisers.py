"""TOKENISERS: how the rows of each task kind become token ids."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panda_trainable.config.kinds import TEXT_ANSWERS
from panda_trainable.config.setting import PlmKind, Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.config.wording import Wording
from panda_trainable.data.gold import IGNORED
from panda_trainable.data.rows import Example
from panda_trainable.plm.asking import AskedTexts, asked_texts, words_as_tokens
from panda_trainable.writing.targets import targets

Arrays = dict[str, NDArray[Any]]
Tokenise = Callable[[Any, Sequence[Example], int], tuple[Arrays, list[Any]]]
"""Tokenizer, rows and maximum length -> arrays of a TokenTable, and what metrics need."""


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
    with _cut_at_the_end(tokenizer):
        return _tagged_words(tokenizer, rows, max_length)


def _tagged_words(tokenizer: Any, rows: Sequence[Example], max_length: int) -> tuple[Arrays, list[Any]]:
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


@contextmanager
def _cut_at_the_end(tokenizer: Any) -> Iterator[None]:
    """Places of characters are needed, and texts cut at their end, whatever a tokenizer's file says of its side.

    Raises:
        ValueError: if the tokenizer does not know the characters of its tokens.
    """
    if not tokenizer.is_fast:
        raise ValueError(
            f"{type(tokenizer).__name__} does not say which characters its tokens are, which tagging and extractive_qa "
            "need; put a tokenizer.json (a fast tokenizer) into the PLM's folder, or use another PLM"
        )
    side, tokenizer.truncation_side = tokenizer.truncation_side, "right"
    try:
        yield
    finally:
        tokenizer.truncation_side = side


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
    with _cut_at_the_end(tokenizer):
        return _questioned_passages(tokenizer, rows, max_length)


def _questioned_passages(tokenizer: Any, rows: Sequence[Example], max_length: int) -> tuple[Arrays, list[Any]]:
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


TOKENISERS: Mapping[str, Tokenise] = MappingProxyType(
    {
        "classification": _numbers,
        "regression": _values,
        "multiple_choice": _numbers,
        "tagging": _words,
        "extractive_qa": _passages,
    }
)
"""Kind -> how its rows are read where a trained head answers."""


def tokeniser_of(setting: Setting, task: TaskSpec) -> Tokenise:
    """How the rows of a task are read: for a trained head, with label words, or with texts that answer."""
    kind, wording = setting.plm.kind, task.asked
    if wording is None:
        return TOKENISERS[task.kind]
    if task.readout in TEXT_ANSWERS:
        return ANSWERED_IN_TEXT[task.readout](kind, wording, setting.train.max_answer)
    return asking(kind, wording, np.float32 if task.readout == "values" else np.int64)


def asking(kind: PlmKind, wording: Wording, label: type = np.int64) -> Tokenise:
    """The tokeniser of rows that words answer, with labels of a type, by a language model's own head."""

    def filled(tokenizer: Any, rows: Sequence[Example], max_length: int) -> tuple[Arrays, list[Any]]:
        texts = asked_texts(tokenizer, kind, wording, [row.values for row in rows], max_length)
        labels: NDArray[Any] = np.array([row.label for row in rows], label)
        slots, cut = np.array(texts.slots, np.int32)[:, None], np.array(np.mean(texts.cut))
        return {**_read(tokenizer, texts), "slots": slots, "labels": labels, "truncated": cut}, []

    return filled


def writing(kind: PlmKind, wording: Wording, most: int) -> Tokenise:
    """The tokeniser of rows whose first answer a language model is to write, in at most so many tokens.

    Of an answer with a place, as extractive QA has it, the text counts.
    """

    def filled(tokenizer: Any, rows: Sequence[Example], max_length: int) -> tuple[Arrays, list[Any]]:
        texts = asked_texts(tokenizer, kind, wording, [row.values for row in rows], max_length)
        gold = [[each if isinstance(each, str) else each[1] for each in row.label] for row in rows]
        found = targets(tokenizer, kind, wording, [answers[0] for answers in gold], most)
        sizes = np.array([len(ids) for ids in found.ids])
        slots = _padded(found.ids, sizes, np.int32, -1)
        labels = np.where(slots >= 0, slots, IGNORED).astype(np.int64)
        cut = np.array(np.mean(np.array(texts.cut) | np.array(found.cut)))
        return {**_read(tokenizer, texts), "slots": slots, "labels": labels, "truncated": cut}, gold

    return filled


def choosing(kind: PlmKind, wording: Wording, most: int) -> Tokenise:
    """The tokeniser of rows of which a language model scores every choice's text, of which so many tokens count."""

    def filled(tokenizer: Any, rows: Sequence[Example], max_length: int) -> tuple[Arrays, list[Any]]:
        texts = asked_texts(tokenizer, kind, wording, [row.values for row in rows], max_length)
        choices = [sequence[-1] for row in rows for sequence in row.texts]
        whole = words_as_tokens(tokenizer, kind, wording, choices)
        if lost := [choice for choice, tokens in zip(choices, whole, strict=True) if not tokens]:
            raise ValueError(f"the choice {lost[0]!r} is no token of its tokenizer, and cannot be scored")
        kept = [list(tokens[:most]) for tokens in whole]
        sizes = np.array([len(tokens) for tokens in kept])
        slots = _padded(kept, sizes, np.int32, -1).reshape(len(rows), -1, sizes.max())
        cut = np.array(texts.cut) | np.array([len(tokens) > most for tokens in whole]).reshape(len(rows), -1).any(1)
        labels = np.array([row.label for row in rows], np.int64)
        return {**_read(tokenizer, texts), "slots": slots, "labels": labels, "truncated": np.array(np.mean(cut))}, []

    return filled


ANSWERED_IN_TEXT: Mapping[str, Callable[[PlmKind, Wording, int], Tokenise]] = MappingProxyType(
    {"choices": choosing, "generation": writing}
)
"""Readout of TEXT_ANSWERS -> how its rows are read, of a kind of PLM, a wording, and the most tokens of an answer."""


def _read(tokenizer: Any, texts: AskedTexts) -> Arrays:
    return _padded_sequences(tokenizer, {"input_ids": texts.ids})


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

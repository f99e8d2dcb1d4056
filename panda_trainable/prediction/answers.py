"""ANSWERS: what logits, or texts, of a kind of task say of each row; and what several replicas say together."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from panda_trainable.config.task import TaskSpec
from panda_trainable.data.gold import MASKED
from panda_trainable.prediction.new_rows import NewRow
from panda_trainable.training.metrics import answer_tokens, predicted_tags

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Answer(ABC):
    """What is answered to one row.

    Attributes:
        row: its number among those that were given, from 1.
        id: of the row, where it has one.
    """

    row: int
    id: Any = None

    @property
    @abstractmethod
    def prediction(self) -> Any:
        """What the row's label would be."""

    @property
    def details(self) -> dict[str, Any]:
        """What else is said of it."""
        return {}

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        named = {} if self.id is None else {"id": self.id}
        return {"row": self.row, **named, "prediction": self.prediction, **self.details}


@dataclass(frozen=True, kw_only=True)
class ClassAnswer(Answer):
    """A class, or choice, with the probability of each.

    Attributes:
        name: of the class; of a choice its number, as files count.
        probabilities: name -> share, which sum to 1.
    """

    name: str | int
    probabilities: Mapping[str, float]

    @property
    def prediction(self) -> str | int:
        """The class's name, or the choice's number."""
        return self.name

    @property
    def details(self) -> dict[str, Any]:
        """Its probability, and those of all."""
        return {"probability": self.probabilities[str(self.name)], "probabilities": dict(self.probabilities)}


@dataclass(frozen=True, kw_only=True)
class ValueAnswer(Answer):
    """A value, in the units of the labels."""

    value: float

    @property
    def prediction(self) -> float:
        """The value."""
        return self.value


@dataclass(frozen=True, kw_only=True)
class TagsAnswer(Answer):
    """A tag of each word.

    Attributes:
        words: of the row.
        tags: of the words.
        probabilities: of these tags; None of words that the PLM did not see, which are outside.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]
    probabilities: tuple[float | None, ...]

    @property
    def prediction(self) -> list[str]:
        """The tags."""
        return list(self.tags)

    @property
    def details(self) -> dict[str, Any]:
        """The words, and the probabilities of their tags."""
        return {"words": list(self.words), "probabilities": list(self.probabilities)}


@dataclass(frozen=True, kw_only=True)
class SpanAnswer(Answer):
    """A part of a passage.

    Attributes:
        text: the answer.
        start: its first character in the passage.
        probability: of its first token times that of its last.
    """

    text: str
    start: int
    probability: float

    @property
    def prediction(self) -> str:
        """The answer."""
        return self.text

    @property
    def details(self) -> dict[str, Any]:
        """Where it stands, and how likely it is."""
        return {"answer_start": self.start, "probability": self.probability}


@dataclass(frozen=True, kw_only=True)
class TextAnswer(Answer):
    """A text that a language model wrote."""

    text: str

    @property
    def prediction(self) -> str:
        """The text."""
        return self.text


def _shares(said: Array) -> Array:
    """[…, C] the probabilities of logits […, C], in float64."""
    shares: Array = torch.from_numpy(np.asarray(said, np.float64)).softmax(-1).numpy()
    return shares


def _classes(task: TaskSpec, said: Array, rows: Sequence[NewRow], _gold: Array) -> list[Answer]:
    shares = _shares(said)
    return [
        ClassAnswer(
            row=row.number, id=row.id, name=task.classes[own.argmax()],
            probabilities=dict(zip(task.classes, own.tolist(), strict=True)),
        )
        for row, own in zip(rows, shares, strict=True)
    ]  # fmt: skip


def _choices(task: TaskSpec, said: Array, rows: Sequence[NewRow], _gold: Array) -> list[Answer]:
    shares, first = _shares(said), task.labels.first
    return [
        ClassAnswer(
            row=row.number, id=row.id, name=int(own.argmax()) + first,
            probabilities={str(number): share for number, share in enumerate(own.tolist(), first)},
        )
        for row, own in zip(rows, shares, strict=True)
    ]  # fmt: skip


def _values(_task: TaskSpec, said: Array, rows: Sequence[NewRow], _gold: Array) -> list[Answer]:
    return [ValueAnswer(row=row.number, id=row.id, value=float(own[0])) for row, own in zip(rows, said, strict=True)]


def _tags(_task: TaskSpec, said: Array, rows: Sequence[NewRow], gold: Array) -> list[Answer]:
    made: list[Answer] = []
    for row, own, right in zip(rows, said, gold, strict=True):
        likeliest, words = _shares(own).max(1).tolist(), row.example.texts[0]
        seen = [word < len(likeliest) and right.slots[word] >= 0 for word in range(len(words))]
        shares = tuple(likeliest[word] if is_seen else None for word, is_seen in enumerate(seen))
        tags = tuple(predicted_tags(own, right))
        made.append(TagsAnswer(row=row.number, id=row.id, words=words, tags=tags, probabilities=shares))
    return made


def _spans(_task: TaskSpec, said: Array, rows: Sequence[NewRow], gold: Array) -> list[Answer]:
    made: list[Answer] = []
    for row, own, right in zip(rows, said, gold, strict=True):
        (first, last), shares = answer_tokens(own), _shares(own)
        start, end = int(right.offsets[first, 0]), int(right.offsets[last, 1])
        share = float(shares[0, first] * shares[1, last])
        text = right.passage[start:end]
        made.append(SpanAnswer(row=row.number, id=row.id, text=text, start=start, probability=share))
    return made


def _texts(_task: TaskSpec, said: Array, rows: Sequence[NewRow], _gold: Array) -> list[Answer]:
    return [TextAnswer(row=row.number, id=row.id, text=str(own)) for row, own in zip(rows, said, strict=True)]


ANSWERS: Mapping[str, Callable[[TaskSpec, Array, Sequence[NewRow], Array], list[Answer]]] = MappingProxyType(
    {
        "classification": _classes,
        "regression": _values,
        "multiple_choice": _choices,
        "tagging": _tags,
        "extractive_qa": _spans,
        "generation": _texts,
    }
)
"""Kind -> answers to rows [n], of logits or texts [n, …] and of what metrics compare with [n]; values are in units."""


def together(kind: str, said: Sequence[Array]) -> Array:
    """[n, …] what replicas say together: the mean of values, or logits whose probabilities are the mean of theirs.

    Args:
        kind: of the task, one whose answers have a mean.
        said: [K] logits, or values in units, [n, …]; of a single replica they stay as they are.
    """
    if len(said) == 1:
        return said[0]
    several = np.stack(said)  # [K, n, …]
    if kind == "regression":
        return several.mean(0)
    means = _shares(several).mean(0)
    return np.log(means, out=np.full(means.shape, MASKED), where=means > 0)


PLACES: Mapping[str, tuple[int, float]] = MappingProxyType({"tagging": (1, 0.0), "extractive_qa": (2, MASKED)})
"""Kind whose logits are of places, as many as the longest row of a batch has -> their axis, and what stands where there is none."""


def widened(kind: str, pieces: Sequence[Array]) -> Array:
    """[N, …] the logits of all batches, with as many places as the longest row has."""
    axis, fill = PLACES.get(kind, (0, 0.0))
    if not axis:
        return np.concatenate(pieces)
    most = max(piece.shape[axis] for piece in pieces)
    missing = [[(0, most - piece.shape[i] if i == axis else 0) for i in range(piece.ndim)] for piece in pieces]
    return np.concatenate([np.pad(p, m, constant_values=fill) for p, m in zip(pieces, missing, strict=True)])

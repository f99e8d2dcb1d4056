"""READOUTS: what turns states into logits: a linear head per replica, or a language model's own, of words, choices or what it writes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from panda_trainable.config.task import Mixture, TaskSpec
from panda_trainable.data.gold import MASKED, UNWRITTEN
from panda_trainable.data.tokens import TokenTable
from panda_trainable.plm.answers import Answers
from panda_trainable.plm.asking import end_of_text
from panda_trainable.plm.encoder import FrozenEncoder
from panda_trainable.plm.language_model import LanguageModel
from panda_trainable.plm.places import Prompts
from panda_trainable.writing.decoding import NOT_FINITE, Texts, greedy, takes_lengths
from panda_trainable.writing.states import target_states

WEIGHT_STD = 0.02
HEAD_PARTS = ("weight", "bias")


@dataclass(frozen=True)
class Head:
    """How the outputs of a linear head become the logits of examples.

    Attributes:
        reads: `pooled`: one vector of each sequence; `tokens`: every token.
        shape: of one example's logits, from a table and the head's outputs.
        arrange: outputs of sequences, [M, O] or [M, T, O], and the numbers of their rows -> logits [n, …].
    """

    reads: str
    shape: Callable[[TokenTable, int], tuple[int, ...]]
    arrange: Callable[[Tensor, TokenTable, Tensor], Tensor]

    def extent(self, _encoder: FrozenEncoder, _prompt: Prompts | None, _table: TokenTable) -> tuple[int, int]:
        """How often a text is read, and how many tokens stand behind it each time."""
        return 1, 0

    def reading(self, encoder: FrozenEncoder) -> Callable[..., Tensor]:
        """What gives the states that it reads of texts, with the arguments of `FrozenEncoder.encode`."""
        return partial(encoder.encode, tokens=self.reads == "tokens")

    def logits(
        self, _encoder: FrozenEncoder, states: Tensor, weight: Tensor, bias: Tensor, owner: Tensor, table: TokenTable,
        rows: Tensor,
    ) -> Tensor:  # fmt: skip
        """[n, …] logits of examples.

        Args:
            states: [M, H] or [M, T, H] of sequences.
            weight: [K, O, H].
            bias: [K, O].
            owner: [M] the replica of each sequence.
            table: where the examples are.
            rows: [n] their numbers.
        """
        return self.arrange(outputs(states, weight, bias, owner), table, rows)


@dataclass(frozen=True)
class Verbaliser:
    """A language model's own head and label words: nothing is trained, and the logits are log-probabilities of classes.

    Attributes:
        answers: the label words as tokens.
    """

    answers: Answers

    def extent(self, encoder: FrozenEncoder, prompt: Prompts | None, _table: TokenTable) -> tuple[int, int]:
        """How often a text is read, and how many tokens of words stand behind it each time."""
        return _own_head(encoder).extent(self.answers, prompt)

    def reading(self, encoder: FrozenEncoder) -> Callable[..., Tensor]:
        """What gives the states behind texts and beginnings of words [n, M, H]."""
        return partial(_own_head(encoder).behind, self.answers)

    def logits(self, encoder: FrozenEncoder, states: Tensor, *_: Any) -> Tensor:
        """[n, C] log-probabilities of classes, of states [n, M, H]; the trained head's arguments play no part."""
        made = _own_head(encoder).logits(states.flatten(0, 1))
        return self.answers.scores(made.unflatten(0, states.shape[:2]))


@dataclass(frozen=True)
class Values(Verbaliser):
    """A language model's own head and words that are numbers: the logit is the mean number, in the labels' own units.

    Attributes:
        numbers: [C] that the words are.
    """

    numbers: tuple[float, ...]

    def logits(self, encoder: FrozenEncoder, states: Tensor, *given: Any) -> Tensor:
        """[n, 1] the numbers' mean, each as likely as its word among the words, of states [n, M, H].

        Source: T5's STS-B (arXiv:1910.10683), whose labels are texts. Deviation: docs/deviations.md#values.
        """
        said = super().logits(encoder, states, *given).softmax(1)
        return said @ said.new_tensor(self.numbers)[:, None]


@dataclass(frozen=True)
class Writer:
    """A language model's own head that writes: the logits are log-probabilities of the tokens that are to be written.

    Attributes:
        end: the token that ends what is written.
    """

    end: int

    def extent(self, _encoder: FrozenEncoder, _prompt: Prompts | None, _table: TokenTable) -> tuple[int, int]:
        """How often a text is read, and how many tokens stand behind it each time, but for the answer's own."""
        return 1, 0

    def reading(self, encoder: FrozenEncoder) -> Callable[..., Tensor]:
        """What gives the states behind texts and behind the tokens of answers that are given [n, W, H]."""
        return partial(target_states, _own_head(encoder))

    def logits(
        self, encoder: FrozenEncoder, states: Tensor, _weight: Tensor, _bias: Tensor, _owner: Tensor, table: TokenTable,
        rows: Tensor,
    ) -> Tensor:  # fmt: skip
        """[n, A, 1] log-probability of each token, of states [n, W, H]; 0 where there is none. Only these meet the vocabulary."""
        return _log_probabilities(encoder, states, table.slots[rows])[..., None]

    def pads(self, encoder: FrozenEncoder) -> bool:
        """Whether texts of several lengths may be read together."""
        return takes_lengths(_own_head(encoder))

    def write(
        self, encoder: FrozenEncoder, most: int, ids: Tensor, types: Tensor, lengths: Tensor, *,
        prompt: Tensor | None = None, owner: Tensor | None = None, **_: Any,
    ) -> Tensor:  # fmt: skip
        """[n, most] tokens that are written behind texts; the arguments are those of `FrozenEncoder.encode`."""
        return greedy(_own_head(encoder), Texts(ids, types, lengths, prompt, owner), self.end, most)

    def texts(self, encoder: FrozenEncoder, tokens: Tensor) -> NDArray[np.str_]:
        """[n] what tokens [n, most] say, as far as their end; UNWRITTEN where they are not finite."""
        rows = [row[: row.index(self.end) if self.end in row else None] for row in tokens.tolist()]
        said = _own_head(encoder).tokenizer.batch_decode(
            [[] if NOT_FINITE in row else row for row in rows], skip_special_tokens=True
        )
        texts = [UNWRITTEN if NOT_FINITE in row else text.strip() for row, text in zip(rows, said, strict=True)]
        return np.array(texts, np.str_)


@dataclass(frozen=True)
class Choices:
    """A language model's own head and texts to choose from: the logits are their log-probabilities, each as a whole."""

    def extent(self, encoder: FrozenEncoder, prompt: Prompts | None, table: TokenTable) -> tuple[int, int]:
        """How often a text is read, and how many tokens of choices stand behind it each time."""
        _, choices, longest = table.slots.shape
        plm = _own_head(encoder)
        return (1, choices * (longest - 1)) if plm.forks(prompt) else (choices, longest - 1)

    def reading(self, encoder: FrozenEncoder) -> Callable[..., Tensor]:
        """What gives the states behind texts and behind the tokens of their choices [n, S, W, H]."""
        return partial(target_states, _own_head(encoder))

    def logits(
        self, encoder: FrozenEncoder, states: Tensor, _weight: Tensor, _bias: Tensor, _owner: Tensor, table: TokenTable,
        rows: Tensor,
    ) -> Tensor:  # fmt: skip
        """[n, S] log-probability of each choice, of states [n, S, W, H]: the sum over its tokens, not divided by their number.

        Source: rank classification of T0 (arXiv:2110.08207); lm-evaluation-harness, `acc`. Deviation:
        docs/deviations.md#choices.
        """
        return _log_probabilities(encoder, states, table.slots[rows]).sum(-1)


def _log_probabilities(encoder: FrozenEncoder, states: Tensor, tokens: Tensor) -> Tensor:
    """[…, A] log-probability of tokens [..., A], of states [..., W, H]; 0 where there is none (-1).

    Only states that predict one meet the vocabulary.
    """
    asked = tokens >= 0
    made = _own_head(encoder).logits(states[asked[..., : states.shape[-2]]])  # [m, V]
    said = -cross_entropy(made, tokens[asked].long(), reduction="none")
    return torch.zeros(asked.shape, device=said.device).masked_scatter(asked, said)


def _own_head(encoder: FrozenEncoder) -> LanguageModel:
    assert isinstance(encoder, LanguageModel), "a task is asked of language models alone"
    return encoder


def random_head(outputs: int, hidden: int, seed: int) -> tuple[Tensor, Tensor]:
    """A head's weight [O, H] from N(0, 0.02) and bias [O] of zeros; the seed decides it.

    Source: the classifier of Hugging Face's sequence classification models, which PANDA trains.
    """
    generator = torch.Generator().manual_seed(seed + 1_000_003)  # another stream than the prompt's
    return torch.empty(outputs, hidden).normal_(0, WEIGHT_STD, generator=generator), torch.zeros(outputs)


def linear_map(wide: int, hidden: int, seeds: Sequence[int]) -> Tensor:
    """[K, wide, H] maps of a student's vectors to a teacher's width, from N(0, 1/H); the seeds decide them.

    Source: Romero et al., FitNets (arXiv:1412.6550): the student's side is mapped, which cannot collapse.
    """
    generators = [torch.Generator().manual_seed(seed + 2_000_003) for seed in seeds]
    return torch.stack([torch.empty(wide, hidden).normal_(0, hidden**-0.5, generator=g) for g in generators])


def outputs(encodings: Tensor, weight: Tensor, bias: Tensor, owner: Tensor) -> Tensor:
    """The linear head of every row's own replica.

    Args:
        encodings: [n, H] or [n, T, H].
        weight: [K, O, H].
        bias: [K, O].
        owner: [n] the replica of each row.

    Returns:
        [n, O] or [n, T, O].
    """
    tokens = encodings if encodings.dim() == 3 else encodings[:, None]
    made = torch.baddbmm(bias[owner][:, None], tokens, weight[owner].transpose(1, 2))
    return made if encodings.dim() == 3 else made[:, 0]


def _one_sequence(made: Tensor, _table: TokenTable, _rows: Tensor) -> Tensor:
    return made


def _choices(made: Tensor, table: TokenTable, _rows: Tensor) -> Tensor:
    """[n, S] a logit per choice."""
    return made.view(-1, table.sequences)


def _words(made: Tensor, table: TokenTable, rows: Tensor) -> Tensor:
    """[n, W, C] the outputs of each word's first token; zeros where there is no word."""
    slots = table.slots[rows].long()
    picked = made.gather(1, slots.clamp(min=0)[..., None].expand(-1, -1, made.shape[2]).clamp(max=made.shape[1] - 1))
    return picked * (slots >= 0)[..., None]


def _spans(made: Tensor, table: TokenTable, rows: Tensor) -> Tensor:
    """[n, 2, T] start and end logits over the table's tokens; MASKED where the passage is not."""
    passage = table.answers[rows]
    wide = pad(made.transpose(1, 2), (0, passage.shape[1] - made.shape[1]))
    return wide.masked_fill(~passage[:, None], MASKED)


HEADS: Mapping[str, Head] = MappingProxyType(
    {
        "classification": Head("pooled", lambda _, made: (made,), _one_sequence),
        "regression": Head("pooled", lambda _, made: (made,), _one_sequence),
        "multiple_choice": Head("pooled", lambda table, _: (table.sequences,), _choices),
        "tagging": Head("tokens", lambda table, made: (table.slots.shape[1], made), _words),
        "extractive_qa": Head("tokens", lambda table, made: (made, table.ids.shape[1]), _spans),
    }
)
"""Task kind -> head. Source: the heads of P-tuning v2."""


def _verbaliser(encoder: FrozenEncoder, task: TaskSpec) -> Verbaliser:
    assert task.asked, "a task that is answered in words is asked in words"
    return Verbaliser(_own_head(encoder).answers(task.asked))


def _values(encoder: FrozenEncoder, task: TaskSpec) -> Values:
    assert task.asked, "a task that is answered in words is asked in words"
    return Values(_own_head(encoder).answers(task.asked), task.asked.values)


def _writer(encoder: FrozenEncoder, _task: TaskSpec) -> Writer:
    return Writer(end_of_text(_own_head(encoder).tokenizer))


AnyHead = Head | Verbaliser | Choices | Writer

READOUTS: Mapping[str, Callable[[FrozenEncoder, TaskSpec], AnyHead]] = MappingProxyType(
    {
        "linear": lambda _, task: HEADS[task.kind], "verbaliser": _verbaliser, "choices": lambda *_: Choices(),
        "values": _values, "generation": _writer,
    }
)  # fmt: skip
"""`TaskSpec.readout` -> what reads the states of a PLM for a task."""


@dataclass(frozen=True)
class Readout:
    """How a task's logits are read.

    Attributes:
        head: what reads states.
        outputs: its outputs among those of all trained heads.
    """

    head: AnyHead
    outputs: slice


def readouts_of(encoder: FrozenEncoder, task: TaskSpec | Mixture) -> tuple[Readout, ...]:
    """The readout of each task, and its place among the outputs of trained heads."""
    ends = np.cumsum([each.outputs for each in task.tasks]).tolist()
    return tuple(
        Readout(READOUTS[each.readout](encoder, each), slice(end - each.outputs, end))
        for each, end in zip(task.tasks, ends, strict=True)
    )

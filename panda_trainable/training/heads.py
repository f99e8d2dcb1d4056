"""What turns encodings into logits, per task kind: a linear head per replica, over one vector or every token."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import pad

from panda_trainable.data.gold import MASKED
from panda_trainable.data.tokens import TokenTable

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

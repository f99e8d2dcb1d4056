"""Where the tokens of a causal model's rows stand: behind a prompt that is computed once, in the text, or in a branch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

TEXT = 0
"""The branch of what all branches read."""


@dataclass(frozen=True)
class Prefilled:
    """Input prompts as the keys and values that a causal model makes of them, whatever text follows.

    Unlike a prefix they stand at positions: a layer that reads a window of positions reads those within.

    Attributes:
        states: [K, L, 2, heads, P, d].
    """

    states: Tensor

    @property
    def length(self) -> int:
        """P."""
        return self.states.shape[4]

    def leaf(self) -> "Prefilled":
        """The same, of which gradients are gathered: `backward` takes them further."""
        return Prefilled(self.states.detach().requires_grad_())

    def backward(self, leaf: "Prefilled") -> None:
        """Runs backward to the prompts, once for all that was computed behind a leaf."""
        if leaf.states.grad is not None:
            torch.autograd.backward(self.states, leaf.states.grad)


Prompts = Tensor | Prefilled
"""What stands in front of texts: [K, L, 2, heads, P, d] prefixes, [K, P, E] input prompts, or those computed once."""


@dataclass(frozen=True)
class Places:
    """Where the tokens of rows stand.

    Attributes:
        position: [n or 1, T] counted from the first token of the text.
        real: [n, T] true where a token is no padding; None: none is.
        branch: [T] TEXT, which all tokens behind it read, or the number of the branch that alone reads a token.
        before: P, prefilled tokens in front of the text.
    """

    position: Tensor
    real: Tensor | None = None
    branch: Tensor | None = None
    before: int = 0

    def mask(self, allows: Callable[..., Tensor]) -> Tensor:
        """[n or 1, 1, T, P + T] true where a token reads another.

        Args:
            allows: the model's own rule, of numbers of row and head and of the positions that read and are read.
        """
        device, asking = self.position.device, self.position + self.before
        prompt = torch.arange(self.before, device=device).expand(len(asking), -1)
        read = torch.cat((prompt, asking), 1)
        row, head = torch.arange(len(asking), device=device), torch.zeros(1, dtype=torch.long, device=device)
        made = allows(
            row[:, None, None, None], head[:, None, None, None], asking[:, None, :, None], read[:, None, None]
        )
        if self.branch is not None:
            own = (self.branch == TEXT) | (self.branch == self.branch[:, None])  # [T, T]
            made = made & pad(own, (self.before, 0), value=True)
        return made if self.real is None else made & pad(self.real, (self.before, 0), value=True)[:, None, None]


@dataclass(frozen=True)
class Branches:
    """Continuations that stand behind a text in its own row: each reads the text and itself.

    Attributes:
        ids: [W] the tokens of all continuations, one behind the other; [n, W] where each text has its own.
        number: [W] the continuation of each, from 1 on.
        depth: [W] its place in it.
        begin: [R] where each begins.
    """

    ids: Tensor
    number: Tensor
    depth: Tensor
    begin: Tensor

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], device: torch.device) -> "Branches":
        """The branches of continuations."""
        tokens = [(token, r + 1, place) for r, row in enumerate(rows) for place, token in enumerate(row)]
        ids, number, depth = torch.tensor(tokens, device=device).view(-1, 3).unbind(1)
        sizes = torch.tensor([len(row) for row in rows], device=device)
        return cls(ids, number, depth, sizes.cumsum(0) - sizes)

    @classmethod
    def alike(cls, tokens: Tensor) -> "Branches":
        """The branches of continuations [n, R, B] of each text, all of B tokens."""
        _, rows, size = tokens.shape
        number, depth = (torch.arange(each, device=tokens.device) for each in (rows, size))
        begin = number * size
        return cls(tokens.flatten(1), (number + 1).repeat_interleave(size), depth.repeat(rows), begin)

    def behind(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Places]:
        """[n, T + W] texts [n, T] with the branches behind them, and where their tokens stand."""
        n, longest = ids.shape
        text = torch.arange(longest, device=ids.device)
        position = torch.cat((text.expand(n, -1), lengths[:, None] + self.depth), 1)
        real = pad(text < lengths[:, None], (0, len(self.number)), value=True)
        branch = pad(self.number, (longest, 0), value=TEXT)
        return torch.cat((ids, self.ids.expand(n, -1)), 1), Places(position, real, branch)

    def columns(self, places: Sequence[tuple[int, int]], lengths: Tensor, longest: int) -> Tensor:
        """[n, M] the columns of states in rows of `behind`.

        Args:
            places: [M] number of a continuation, and how many of its tokens were read; none: those of the text.
            lengths: [n] of the texts.
            longest: T.
        """
        row, read = torch.tensor(places, device=lengths.device).unbind(1)
        return torch.where(read > 0, longest + self.begin[row] + read - 1, lengths[:, None] - 1)

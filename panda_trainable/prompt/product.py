"""Prompts as products: one prompt that tasks share, times a low-rank part of each task's own."""

from collections.abc import Mapping

import torch
from torch import Tensor

from panda_trainable.prompt.soft_prompt import of_tokens
from panda_trainable.prompt.sources import PromptSource, trained_on

COLUMNS, ROWS = "columns", "rows"
RANK = 1
"""Of a task's part. Source: MPT, equation 1."""


def unit_parts(replicas: int, tasks: int, length: int, wide: int) -> dict[str, Tensor]:
    """Parts of ones: [K, M, P, 1] and [K, M, 1, D], with which every task's prompt is the shared one.

    Args:
        replicas: K.
        tasks: M.
        length: P, tokens of a prompt.
        wide: D, width of its tokens.
    """
    return {COLUMNS: torch.ones(replicas, tasks, length, RANK), ROWS: torch.ones(replicas, tasks, RANK, wide)}


class ProductPrompts(PromptSource):
    """Prompts of M tasks: what they share, times u v^T of each task, over tokens and their width.

    A prefix's tokens are its keys and values of all layers side by side.

    Args:
        shared: source of the shared prompt.
        parts: `columns` [K, M, P, R] and `rows` [K, M, R, D], u and v of each task.
        merged: whether it is the prompt of one task alone, which is kept as the prompt that it is.

    Source: MPT (arXiv:2303.02861), equation 1: P̂_k = P* ∘ W_k, W_k = u_k v_k^T.
    Deviation: parts start at ones, and nothing distils; docs/deviations.md#mpt.
    """

    def __init__(self, shared: PromptSource, parts: Mapping[str, Tensor], *, merged: bool = False):
        start = shared.prompts()
        assert start is not None, "what tasks share is a prompt"
        self.shared, self.shape, self.merged = shared, start.shape[1:], merged
        self.parts = trained_on(start.device, {COLUMNS: parts[COLUMNS], ROWS: parts[ROWS]})
        self.trainables = shared.trainables | self.parts

    def prompts(self) -> Tensor:
        """[K, M, …] the prompts of all tasks."""
        shared = self.shared.prompts()
        assert shared is not None, "what tasks share is a prompt"
        return shared[:, None] * of_tokens(self.parts[COLUMNS] @ self.parts[ROWS], self.shape)

    def of_task(self, prompts: Tensor | None, number: int) -> Tensor | None:
        """[K, …] the prompt of one task."""
        return None if prompts is None else prompts[:, number]

    def kept(self) -> dict[str, Tensor]:
        """The product of the one task; or the shared prompt and the parts of all tasks."""
        return {"prompt": self.prompts()[:, 0]} if self.merged else {**self.shared.kept(), **self.parts}

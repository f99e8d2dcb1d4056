"""Prompts of each row's own: a trained prompt, and what the row's input attends to of it and of frozen source prompts."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, silu

from panda_trainable.prompt.soft_prompt import of_tokens, tokens_in
from panda_trainable.prompt.sources import PromptSource, trained_on

WIDTH = 100
"""Of the middle of the network G. Source: the authors' code."""

DOWN, UP, GAIN, SHIFT = "attention.down", "attention.up", "attention.gain", "attention.shift"
SOURCES, TEMPERATURE = "attention.sources", "attention.temperature"


def drawn_network(embedding: int, wide: int, seeds: Sequence[int]) -> dict[str, Tensor]:
    """The parameters [K, …] of the network G, as PyTorch draws linear layers; the seeds decide them.

    Args:
        embedding: E, width of the token embeddings.
        wide: D, width of a prompt's tokens.
        seeds: [K].
    """
    generators = [torch.Generator().manual_seed(seed + 4_000_037) for seed in seeds]
    sizes = {DOWN: (embedding, WIDTH), UP: (WIDTH, wide)}
    drawn = {name: [_uniform(size, generator) for generator in generators] for name, size in sizes.items()}
    norm = {GAIN: torch.ones(len(seeds), wide), SHIFT: torch.zeros(len(seeds), wide)}
    return {name: torch.stack(parts) for name, parts in drawn.items()} | norm


def _uniform(size: tuple[int, int], generator: torch.Generator) -> Tensor:
    bound = size[0] ** -0.5
    return torch.empty(size).uniform_(-bound, bound, generator=generator)


def queries(network: Mapping[str, Tensor], pooled: Tensor, owner: Tensor) -> Tensor:
    """[n, D] what the network G of each row's replica makes of its pooled input [n, E].

    Source: ATTEMPT (arXiv:2205.11961), section 3.2: LayerNorm(W_up · SiLU(W_down · X̂)).
    """
    rows = torch.arange(len(pooled), device=pooled.device)
    # Of all replicas and then of the own one: a row's weights would be copied else, which are larger than its states.
    inner = silu(torch.einsum("ne,ker->nkr", pooled, network[DOWN])[rows, owner])
    wide = torch.einsum("nr,krd->nkd", inner, network[UP])[rows, owner]
    return layer_norm(wide, wide.shape[1:]) * network[GAIN][owner] + network[SHIFT][owner]


def attention_weights(query: Tensor, keys: Tensor, owner: Tensor, temperature: float) -> Tensor:
    """[n, S] shares, which sum to 1, of the prompts of each row's replica.

    Args:
        query: [n, D].
        keys: [K, S, D] the prompts, the largest of their tokens in every place.
        owner: [n] the replica of each row.
        temperature: by which scores are divided, times D.

    Source: ATTEMPT, section 3.2: a_j ∝ exp(P̂_j · H_out / T), with T = d · e as published.
    """
    rows = torch.arange(len(query), device=query.device)
    scores = torch.einsum("nd,ksd->nks", query, keys)[rows, owner]
    return (scores / (temperature * query.shape[1])).softmax(1)


class AttendedPrompts(PromptSource):
    """A trained prompt, to which each row adds the mean of frozen source prompts and itself that its input attends to.

    A prefix is attended to as its tokens, keys and values of all layers side by side.

    Args:
        own: source of the trained prompt.
        sources: [K, S, …] frozen prompts.
        network: parameters of G [K, …], which are trained.
        temperature: of the attention, over the width of a prompt's tokens.

    Source: ATTEMPT (arXiv:2205.11961): P_target + Σ_j a_j P_j, over the sources and the target.
    Deviation: padding is not pooled, the network is not trained beforehand; docs/deviations.md#attempt.
    """

    per_row = True

    def __init__(self, own: PromptSource, sources: Tensor, network: Mapping[str, Tensor], temperature: float):
        start = own.prompts()
        assert start is not None, "a prompt attends beside a prompt"
        self.own, self.shape, self.temperature = own, start.shape[1:], temperature
        self.sources = sources.to(start.device)
        self.network = trained_on(start.device, network)
        self.trainables = own.trainables | self.network

    def prompts(self) -> Tensor:
        """[K, S + 1, …] the sources' prompts and the trained one."""
        own = self.own.prompts()
        assert own is not None, "a prompt attends beside a prompt"
        return torch.cat((self.sources, own[:, None]), 1)

    def of_rows(self, prompts: Tensor, embeddings: Tensor, lengths: Tensor, owner: Tensor) -> Tensor:
        """[n, …] the prompt of each row, made of what `prompts` gave and of the largest of its tokens' embeddings."""
        here = torch.arange(embeddings.shape[1], device=embeddings.device) < lengths[:, None]
        pooled = embeddings.masked_fill(~here[..., None], -torch.inf).amax(1)  # [n, E]
        tokens = tokens_in(prompts, self.shape)  # [K, S + 1, P, D]
        query = queries(self.network, pooled, owner)
        weights = attention_weights(query, tokens.amax(2), owner, self.temperature)
        weights = torch.cat((weights[:, :-1], weights[:, -1:] + 1), 1)  # the trained prompt, and the mean
        count, several = prompts.shape[:2]
        rows = torch.arange(len(owner), device=owner.device)
        spread = weights.new_zeros(len(owner), count, several).index_put((rows, owner), weights)
        made = spread.flatten(1) @ tokens.flatten(0, 1).flatten(1)  # [n, P · D]
        return of_tokens(made.unflatten(1, tokens.shape[2:]), self.shape)

    def kept(self) -> dict[str, Tensor]:
        """The trained prompt, the network and the sources, of which `stored_source` makes the same again."""
        (prompt,) = self.own.kept().values()
        temperature = torch.full((len(prompt),), self.temperature, dtype=torch.float64)
        return {"prompt": prompt, SOURCES: self.sources, TEMPERATURE: temperature, **self.network}

"""Families whose self-attention does not call transformers' attention interface: here it does, with their own bias."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

Attend = Callable[..., tuple[Tensor, Any]]


def _heads(x: Tensor, heads: int) -> Tensor:
    """[n, T, heads · d] -> [n, heads, T, d]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def mpnet(
    attend: Attend, module: Any, x: Tensor, attention_mask: Tensor | None = None, position_bias: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor]:  # fmt: skip
    """MPNet's self-attention: one relative bias for all layers."""
    query, key, value = (_heads(project(x), module.num_attention_heads) for project in (module.q, module.k, module.v))
    scale = module.attention_head_size**-0.5
    made, _weights = attend(module, query, key, value, attention_mask, position_bias=position_bias, scaling=scale)
    return (module.o(made.flatten(2)),)


def deberta_v2(
    attend: Attend, module: Any, x: Tensor, attention_mask: Tensor, _output_attentions: bool = False,
    query_states: Tensor | None = None, relative_pos: Tensor | None = None, rel_embeddings: Tensor | None = None,
) -> tuple[Tensor, None]:  # fmt: skip
    """DeBERTa-v2's and -v3's self-attention: disentangled content-to-position and position-to-content biases."""
    heads = module.num_attention_heads
    asking = x if query_states is None else query_states
    query, key, value = (
        _heads(project(given), heads)
        for project, given in ((module.query_proj, asking), (module.key_proj, x), (module.value_proj, x))
    )
    parts = 1 + ("c2p" in module.pos_att_type) + ("p2c" in module.pos_att_type)
    bias = None
    # On the second visit to the last layer there is one row, and the pass has kept the bias of the first.
    if module.relative_attention and relative_pos is not None and relative_pos.shape[-1] == x.shape[1]:
        flat = query.flatten(0, 1), key.flatten(0, 1)
        bias = module.disentangled_attention_bias(*flat, relative_pos, rel_embeddings, parts)
        bias = bias.view(len(x), heads, *bias.shape[-2:]) if isinstance(bias, Tensor) else None
    # The family's mask also hides all keys from padding's own rows, of which attention would make NaN.
    keys = attention_mask.view(len(x), 1, *attention_mask.shape[-2:])[:, :, :1].to(torch.bool)
    scale = (query.shape[-1] * parts) ** -0.5
    made, _weights = attend(module, query, key, value, keys, position_bias=bias, scaling=scale)
    return made.flatten(2), None


ADAPTERS: Mapping[str, tuple[str, Callable[..., Any]]] = MappingProxyType(
    {"mpnet": ("MPNetSelfAttention", mpnet), "deberta-v2": ("DisentangledSelfAttention", deberta_v2)}
)
"""Model type -> the class of its self-attention, and what stands in for its forward."""


def adapt(model: nn.Module, attend: Attend) -> None:
    """Lets a family's self-attention call `attend`; a family that needs no adapter stays as it is."""
    name, forward = ADAPTERS.get(getattr(model.config, "model_type", ""), ("", None))
    for module in model.modules():
        if forward and type(module).__name__ == name:
            module.forward = partial(forward, attend, module)

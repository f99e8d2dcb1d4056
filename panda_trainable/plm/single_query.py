"""Attention of one row of a layer, for which keys and values of the tokens are never computed."""

import torch
from torch import Tensor, nn


def single_query_attention(
    query: Tensor, x: Tensor, key: nn.Linear, value: nn.Linear, heads: int, scale: float, mask: Tensor | None,
    before: tuple[Tensor, Tensor] | None,
) -> Tensor:  # fmt: skip
    """Attention of one row without keys and values of the tokens: q · (W x) is (Wᵀ q) · x, and Σ p W x is W Σ p x.

    Args:
        query: [n, 1, heads · d] of the row.
        x: [n, T, H] what keys and values are made of.
        key: the projection of keys.
        value: the projection of values.
        heads: number of heads.
        scale: of the scores.
        mask: [n, 1, 1, T] true where a token is real, or what is added to its score; None: nothing is masked.
        before: the prefix's keys and values [n, heads, P, d]; None: no prefix.

    Returns:
        [n, 1, heads, d].
    """
    asked = query.view(len(x), heads, -1) * scale  # [n, heads, d]
    of_key, of_value = (linear.weight.view(heads, asked.shape[2], -1) for linear in (key, value))  # [heads, d, H]
    reading = torch.bmm(asked.transpose(0, 1), of_key).transpose(0, 1)  # [n, heads, H]
    scores = torch.bmm(reading, x.transpose(1, 2))  # [n, heads, T]
    if key.bias is not None:
        scores = scores + (asked * key.bias.view(heads, -1)).sum(-1, keepdim=True)
    if mask is not None:
        hidden = mask[:, :, 0]
        scores = scores.masked_fill(~hidden, -torch.inf) if mask.dtype == torch.bool else scores + hidden
    first = 0
    if before is not None:
        first = before[0].shape[2]
        scores = torch.cat((torch.matmul(before[0].to(asked.dtype), asked[..., None])[..., 0], scores), 2)
    shares = scores.softmax(2)
    tokens = shares[..., first:]
    read = torch.bmm(tokens, x.to(tokens.dtype))  # [n, heads, H]
    made = torch.bmm(read.transpose(0, 1), of_value.transpose(1, 2)).transpose(0, 1)  # [n, heads, d]
    if value.bias is not None:
        made = made + value.bias.view(heads, -1) * tokens.sum(2, keepdim=True)
    if before is not None:
        made = made + torch.matmul(shares[..., None, :first], before[1].to(shares.dtype))[..., 0, :]
    return made[:, None]

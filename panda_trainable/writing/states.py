"""The states that predict what is written: behind a text, and behind every token of the answer before."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import pad

from panda_trainable.plm.language_model import LanguageModel
from panda_trainable.plm.places import Prompts
from panda_trainable.pretrained.kinds import KINDS


def target_states(
    plm: LanguageModel, ids: Tensor, types: Tensor, lengths: Tensor, prompt: Prompts | None = None,
    owner: Tensor | None = None, padded: bool = True, slots: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The states that predict each token of answers that are given (teacher forcing).

    Args:
        plm: who reads.
        ids: [n, T] texts, as the other arguments those of `FrozenEncoder.encode`.
        types: [n, T].
        lengths: [n].
        prompt: [K, …].
        owner: [n].
        padded: whether a text may be shorter than T.
        slots: [n, A] the tokens of the answers, -1 behind them.

    Returns:
        [n, W, H] up to the last token of the longest answer; the first is the state behind the text. Behind a row's own
        answer they mean nothing.
    """
    assert slots is not None, "what is written stands in the table"
    width = max(int((slots >= 0).sum(1).max()), 1)
    tokens = slots[:, :width].clamp(min=0).long()
    sizes = (slots[:, :width] >= 0).sum(1).clamp(min=1)
    return STATES[KINDS[plm.kind].slot](plm, tokens, sizes, ids, types, lengths, prompt, owner, padded)


def _behind_text(
    plm: LanguageModel, tokens: Tensor, sizes: Tensor, ids: Tensor, types: Tensor, lengths: Tensor,
    prompt: Prompts | None, owner: Tensor | None, _padded: bool,
) -> Tensor:  # fmt: skip
    """[n, W, H] of a model that reads text and answer, but for the answer's last token, from left to right."""
    width = tokens.shape[1]
    wide, kinds = (pad(each, (0, width - 1)) for each in (ids, types))
    places = lengths[:, None] + torch.arange(width - 1, device=ids.device)
    wide.scatter_(1, places, tokens[:, :-1])
    at = lengths[:, None] - 1 + torch.arange(width, device=ids.device)
    return plm.states_at(at, wide, kinds, lengths + sizes - 1, prompt, owner)


def _in_decoder(
    plm: LanguageModel, tokens: Tensor, _sizes: Tensor, ids: Tensor, types: Tensor, lengths: Tensor,
    prompt: Prompts | None, owner: Tensor | None, padded: bool,
) -> Tensor:  # fmt: skip
    """[n, W, H] of a decoder that has read its start and the answer, but for its last token."""
    hidden, mask = plm.read_by_decoder(ids, types, lengths, prompt, owner, padded)
    read = torch.cat((torch.tensor([plm.start], device=ids.device).expand(len(ids), -1), tokens[:, :-1]), 1)
    return plm.decode(read, hidden, mask)[:, len(plm.start) - 1 :]


STATES: Mapping[str, Callable[..., Tensor]] = MappingProxyType({"end": _behind_text, "decoder": _in_decoder})
"""Slot of a kind -> the states that predict the tokens of an answer. A mask writes nothing."""

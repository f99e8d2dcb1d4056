"""The states that predict what is written: behind a text, and behind every token of the answer before."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import pad

from panda_trainable.plm.language_model import LanguageModel
from panda_trainable.plm.places import Branches, Prompts
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
        slots: [n, A] the tokens of the answers, -1 behind them; or [n, S, A] of several answers to each text.

    Returns:
        [n, W, H], or [n, S, W, H], up to the last token of the longest answer; the first is the state behind the text.
        Behind a row's own answer they mean nothing.
    """
    assert slots is not None, "what is written stands in the table"
    width = max(int((slots >= 0).sum(-1).max()), 1)
    tokens = slots[..., :width].clamp(min=0).long()
    text = ids, types, lengths, prompt, owner
    if tokens.dim() == 3 and KINDS[plm.kind].slot == "end" and plm.forks(prompt):
        return _branched(plm, tokens, *text)
    sizes = (slots[..., :width] >= 0).sum(-1).clamp(min=1)
    made = STATES[KINDS[plm.kind].slot](plm, tokens.flatten(0, -2), sizes.flatten(), *text, padded)
    return made.unflatten(0, tokens.shape[:-1])


def _branched(
    plm: LanguageModel, tokens: Tensor, ids: Tensor, types: Tensor, lengths: Tensor, prompt: Prompts | None,
    owner: Tensor | None,
) -> Tensor:  # fmt: skip
    """[n, S, W, H] of a model that reads all answers [n, S, W] behind their text in one row: each the text and itself."""
    count, width = tokens.shape[1:]
    branches = Branches.alike(tokens[..., :-1])
    rows, places = branches.behind(ids, lengths)
    read = [(choice, behind) for choice in range(count) for behind in range(width)]
    at = branches.columns(read, lengths, ids.shape[1])
    kinds = pad(types, (0, count * (width - 1)))
    return plm.states_at(at, rows, kinds, lengths, prompt, owner, places=places).unflatten(1, (count, width))


def _behind_text(
    plm: LanguageModel, tokens: Tensor, sizes: Tensor, ids: Tensor, types: Tensor, lengths: Tensor,
    prompt: Prompts | None, owner: Tensor | None, _padded: bool,
) -> Tensor:  # fmt: skip
    """[m, W, H] of a model that reads text and answer, but for the answer's last token, from left to right.

    The m answers are as many to each of the n texts.
    """
    width, repeats = tokens.shape[1], len(tokens) // len(ids)
    if repeats > 1:
        ids, types, lengths = (each.repeat_interleave(repeats, 0) for each in (ids, types, lengths))
        owner = None if owner is None else owner.repeat_interleave(repeats)
    wide, kinds = (pad(each, (0, width - 1)) for each in (ids, types))
    places = lengths[:, None] + torch.arange(width - 1, device=ids.device)
    wide.scatter_(1, places, tokens[:, :-1])
    at = lengths[:, None] - 1 + torch.arange(width, device=ids.device)
    return plm.states_at(at, wide, kinds, lengths + sizes - 1, prompt, owner)


def _in_decoder(
    plm: LanguageModel, tokens: Tensor, _sizes: Tensor, ids: Tensor, types: Tensor, lengths: Tensor,
    prompt: Prompts | None, owner: Tensor | None, padded: bool,
) -> Tensor:  # fmt: skip
    """[m, W, H] of a decoder that has read its start and the answer, but for its last token: the encoder reads a text once."""
    hidden, mask = plm.read_by_decoder(ids, types, lengths, prompt, owner, padded)
    if (repeats := len(tokens) // len(ids)) > 1:
        hidden, mask = (each.repeat_interleave(repeats, 0) for each in (hidden, mask))
    read = torch.cat((torch.tensor([plm.start], device=ids.device).expand(len(tokens), -1), tokens[:, :-1]), 1)
    return plm.decode(read, hidden, mask)[:, len(plm.start) - 1 :]


STATES: Mapping[str, Callable[..., Tensor]] = MappingProxyType({"end": _behind_text, "decoder": _in_decoder})
"""Slot of a kind -> the states that predict the tokens of an answer. A mask writes nothing."""

"""Greedy decoding behind prompts of K replicas: the likeliest token, again and again, until a row ends."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, EncoderDecoderCache

from panda_trainable.plm.attention import Pass, running
from panda_trainable.plm.encoder import PROBE
from panda_trainable.plm.language_model import LanguageModel
from panda_trainable.plm.reference import TOLERANCE, difference
from panda_trainable.pretrained.kinds import KINDS
from panda_trainable.writing.states import target_states

NOT_FINITE = -1
"""What stands in the place of all tokens of a row of which some logit was not finite."""

LOWERED_TOLERANCE = 0.1
"""The same as TOLERANCE of states in bf16, which have three digits: a cache that is wrong is off by more."""


@dataclass(frozen=True)
class Texts:
    """Texts of a batch as the PLM reads them; the arguments of `FrozenEncoder.encode`.

    Attributes:
        ids: [n, T] token ids.
        types: [n, T] token types.
        lengths: [n] tokens of each; all of one length where `takes_lengths` says so.
        prompt: [K, …] prompts of the replicas; None: no prompt.
        owner: [n] the replica of each.
    """

    ids: Tensor
    types: Tensor
    lengths: Tensor
    prompt: Tensor | None = None
    owner: Tensor | None = None


Next = Callable[[Tensor], Tensor]
"""The states [n, H] that predict the next token, behind the tokens [n] that were chosen last."""


@torch.inference_mode()
def greedy(plm: LanguageModel, texts: Texts, end: int, most: int) -> Tensor:
    """What a language model writes behind texts: at every step its likeliest token.

    Keys and values of what was read are kept, unless the PLM's own cache gives other states than reading all of it anew.
    No token is forced or suppressed.

    Args:
        plm: who writes.
        texts: behind which it writes.
        end: the token that ends a text.
        most: tokens to write at most, the end included.

    Returns:
        [n, most] tokens, from the end on `end`; all NOT_FINITE where a logit of the row was not finite.
    """
    states, go_on = (_kept if _cache_fits(plm) else _anew)(plm, texts)
    made = torch.full((len(texts.ids), most), end, device=texts.ids.device)
    done = torch.zeros(len(made), dtype=torch.bool, device=made.device)
    sound = ~done
    for number in range(most):
        logits = plm.logits(states)
        sound = sound & logits.isfinite().all(1)
        made[:, number] = torch.where(done, end, logits.argmax(1))
        done = done | (made[:, number] == end) | ~sound
        if number + 1 == most or bool(done.all()):
            break
        states = go_on(made[:, number])
    return made.masked_fill(~sound[:, None], NOT_FINITE)


def _kept(plm: LanguageModel, texts: Texts) -> tuple[Tensor, Next]:
    """The first states, and what gives the next ones from kept keys and values."""
    return KEPT[KINDS[plm.kind].slot](plm, texts)


def _behind_text(plm: LanguageModel, texts: Texts) -> tuple[Tensor, Next]:
    """Of a model that reads left to right: prompt and text once, then a token at a time.

    Between a shorter text and what is written behind it lies padding, which no position counts and no token sees.
    """
    ids, prompt, owner = texts.ids, texts.prompt, texts.owner
    inputs, first, layers, before = {"input_ids": ids}, 0, None, 0
    if prompt is not None and owner is not None and prompt.dim() == 3:
        first = prompt.shape[1]
        inputs = {"inputs_embeds": torch.cat((prompt.index_select(0, owner), plm.embed(ids)), 1)}
    elif prompt is not None and owner is not None:
        rows = [layer.index_select(0, owner) for layer in prompt.unbind(1)]  # [n, 2, heads, P, d]
        layers = [(row[:, 0], row[:, 1]) for row in rows]
        before = prompt.shape[4] if plm.after_prompt else 0
    cache, width = DynamicCache(config=plm.model.config), first + ids.shape[1]
    places = torch.arange(width, device=ids.device)
    seen = (places < first + texts.lengths[:, None]).long()  # [n, P + T], a column more for every token that is written

    def read(positions: Tensor, **given: Tensor) -> Tensor:
        if plm.first_position is not None:
            given["position_ids"] = positions + plm.first_position + before
        if "attention_mask" in plm.takes:
            given["attention_mask"] = seen
        return _states(plm, plm.model, Pass(layers), **given, past_key_values=cache)

    states = read(places.expand(len(ids), -1), **inputs)
    each = torch.arange(len(ids), device=ids.device)

    def go_on(chosen: Tensor) -> Tensor:
        nonlocal seen
        positions = first + texts.lengths + seen.shape[1] - width
        seen = pad(seen, (0, 1), value=1)
        return read(positions[:, None], input_ids=chosen[:, None])[:, -1]

    return states[each, first + texts.lengths - 1], go_on


def _in_decoder(plm: LanguageModel, texts: Texts) -> tuple[Tensor, Next]:
    """Of a decoder: the encoder reads prompt and text once, the decoder its start, then a token at a time."""
    hidden, mask = plm.read_by_decoder(texts.ids, texts.types, texts.lengths, texts.prompt, texts.owner)
    decoder = plm.whole.get_decoder()
    cache = EncoderDecoderCache(DynamicCache(config=decoder.config), DynamicCache(config=decoder.config))
    read = partial(
        _states,
        plm,
        decoder,
        None,
        encoder_hidden_states=hidden,
        encoder_attention_mask=mask.long(),
        past_key_values=cache,
    )
    start = torch.tensor([plm.start], device=hidden.device).expand(len(hidden), -1)
    return read(input_ids=start)[:, -1], lambda chosen: read(input_ids=chosen[:, None])[:, -1]


def _states(plm: LanguageModel, part: Any, here: Pass | None, **inputs: Any) -> Tensor:
    """[n, T, H] the states that a part of the model makes of inputs, in our pass, or in none."""
    token = running.set(here)
    try:
        with plm.lowered():
            return part(**inputs, use_cache=True).last_hidden_state.float()
    finally:
        running.reset(token)


KEPT: Mapping[str, Callable[[LanguageModel, Texts], tuple[Tensor, Next]]] = MappingProxyType(
    {"end": _behind_text, "decoder": _in_decoder}
)
"""Slot of a kind -> the first states, and what gives the next ones, with keys and values that are kept."""


def _anew(plm: LanguageModel, texts: Texts) -> tuple[Tensor, Next]:
    """The first states, and what gives the next ones by reading text and answer anew for every token."""
    written: list[Tensor] = []

    def read() -> Tensor:
        slots = torch.stack([*written, torch.zeros_like(texts.lengths)], 1)  # the last is not read
        return target_states(
            plm, texts.ids, texts.types, texts.lengths, texts.prompt, texts.owner, slots=slots
        )[:, -1]  # fmt: skip

    def go_on(chosen: Tensor) -> Tensor:
        written.append(chosen)
        return read()

    return read(), go_on


_fits: "WeakKeyDictionary[LanguageModel, bool]" = WeakKeyDictionary()
"""Language models of which it is known whether keys and values can be kept."""

_fits_lengths: "WeakKeyDictionary[LanguageModel, bool]" = WeakKeyDictionary()
"""The same of those that read left to right, behind texts of several lengths."""

WINDOWS = ("sliding_window", "window_size", "attention_chunk_size")
"""What configs call the tokens that a layer looks back at: padding between text and answer would count among them."""


def takes_lengths(plm: LanguageModel) -> bool:
    """Whether texts of several lengths may be read together: behind the padding of the shorter ones the same is written.

    A decoder begins behind no text; a model that reads left to right is compared with itself on one text at a time.
    """
    if plm.start:
        return True
    if not _cache_fits(plm) or any(getattr(plm.model.config, name, None) is not None for name in WINDOWS):
        return False
    if plm not in _fits_lengths:
        _fits_lengths[plm] = _alike_padded(plm)
    return _fits_lengths[plm]


def _alike_padded(plm: LanguageModel) -> bool:
    whole = torch.tensor([PROBE * 4, PROBE * 4], device=plm.device)
    lengths = torch.tensor([whole.shape[1] // 2 - 1, whole.shape[1]], device=plm.device)
    both, together = _kept(plm, Texts(whole, torch.zeros_like(whole), lengths))
    one = whole[:1, : int(lengths[0])]
    alone, by_itself = _kept(plm, Texts(one, torch.zeros_like(one), lengths[:1]))
    pairs = [(both[:1], alone)]
    for token in PROBE:
        chosen = torch.tensor([token, token], device=plm.device)
        pairs.append((together(chosen)[:1], by_itself(chosen[:1])))
    return _all_close(plm, pairs)


def _cache_fits(plm: LanguageModel) -> bool:
    """Whether kept keys and values give the states of reading anew, for a few tokens behind a text."""
    if plm not in _fits:
        ids = torch.tensor([PROBE * 4], device=plm.device)
        texts = Texts(ids, torch.zeros_like(ids), torch.tensor([ids.shape[1]], device=plm.device))
        try:
            _fits[plm] = _alike(plm, texts)
        except Exception:  # noqa: BLE001  # whatever a model's own cache does, reading anew is right
            _fits[plm] = False
    return _fits[plm]


def _alike(plm: LanguageModel, texts: Texts) -> bool:
    (first, kept), (other, anew) = (way(plm, texts) for way in (_kept, _anew))
    pairs = [(first, other)]
    for token in PROBE:
        chosen = torch.tensor([token], device=plm.device)
        pairs.append((kept(chosen), anew(chosen)))
    return _all_close(plm, pairs)


def _all_close(plm: LanguageModel, pairs: Sequence[tuple[Tensor, Tensor]]) -> bool:
    most = TOLERANCE if plm.precision == "float32" else LOWERED_TOLERANCE
    return all(difference(made, expected) <= most for made, expected in pairs)

"""FrozenEncoder: any Hugging Face encoder with soft prompts in front, K replicas at once.

transformers lets one register an attention function by name. Ours counts its calls in a forward
pass (that is the layer), puts the prefix's keys and values of that layer before the model's own,
one set per replica, and calls the ordinary attention. No cache objects, no copied weights.
"""

import gc
import inspect
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import bidirectional_mask_function
from transformers.utils import logging

from panda_trainable.adapters import adapt
from panda_trainable.config import Plm, Pooling, Precision
from panda_trainable.plm import load_model
from panda_trainable.tokens import release_tables

NAME = "panda-tune"
PROBE = (5, 5, 5)
"""Three harmless token ids: enough to see how a model calls its attention."""

_running: ContextVar["_Pass | None"] = ContextVar("running forward pass", default=None)
_attend = AttentionInterface()["sdpa"]
_mask = AttentionMaskInterface()["sdpa"]


class _KeysKnown(Exception):
    """Ends the first visit to the last layer: its keys and values are known."""


class _Pass:
    """One forward pass: which layer is next, what stands before its keys, which row the last must give."""

    def __init__(
        self, prefix: Sequence[tuple[Tensor, Tensor]] | None = None, row: int | None = None, padded: bool = True
    ):
        self.prefix, self.row, self.padded = prefix, row, padded
        self.layer = 0
        self.collected: list[Tensor] | None = None
        self.seen: list[tuple[nn.Module, int, int]] = []
        self.keeps = False
        self.kept: tuple[Any, ...] | None = None

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None,
        position_bias: Tensor | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        """Attention of the layer that is next, with the prefix before its keys and values."""
        options["is_causal"] = False  # SDPA assumes True where the module lacks the attribute
        if self.kept is not None:
            query, key, value, mask, position_bias = self.kept
        else:
            self.seen.append((module, key.shape[1], key.shape[3]))
            if self.collected is not None:
                self.collected.append(torch.stack((key[0], value[0])))
            key, value, mask, position_bias = self._prefixed(key, value, mask, position_bias)
            self.layer += 1
            if self.keeps:
                self.kept = self._row(query, 2), key, value, self._row(mask, 2), self._row(position_bias, 2)
                raise _KeysKnown
        if position_bias is not None:
            options["position_bias"] = position_bias
        return _attend(module, query, key, value, mask, **options)

    def _prefixed(
        self, key: Tensor, value: Tensor, mask: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        if self.prefix is None:
            return key, value, mask, bias
        keys, values = self.prefix[self.layer]
        room = (keys.shape[2], 0)
        if mask is not None:
            mask = pad(mask, room, value=True if mask.dtype == torch.bool else 0.0)
        if bias is not None:
            bias = pad(bias, room)
        keys, values = torch.cat((keys.to(key.dtype), key), 2), torch.cat((values.to(value.dtype), value), 2)
        return keys, values, mask, bias

    def _row(self, x: Tensor | None, dim: int) -> Tensor | None:
        """The wanted row of x along a dimension; one that all rows share stays."""
        if x is None or x.shape[dim] == 1 or self.row is None:
            return x
        return x.narrow(dim, self.row, 1)

    def last(self, layer: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The last layer for one row: first for the keys of all rows, then for what follows attention."""
        self.keeps = True
        try:
            layer(x, *args, **kwargs)
        except _KeysKnown:
            return layer(self._row(x, 1), *args, **kwargs)
        raise AssertionError("the last layer must call attention")


def _attention(module: nn.Module, *args: Any, **options: Any) -> Any:
    here = _running.get()
    return here.attend(module, *args, **options) if here else _attend(module, *args, **options)


def _padding_mask(*args: Any, mask_function: Any, attention_mask: Tensor | None = None, **options: Any) -> Any:
    """The mask of an encoder says only which keys are padding: one row serves all queries."""
    here = _running.get()
    if mask_function is not bidirectional_mask_function or attention_mask is None:
        return _mask(*args, mask_function=mask_function, attention_mask=attention_mask, **options)
    padded = here.padded if here else not attention_mask.all()  # the pass knows it without asking the device
    return attention_mask[:, None, None, :].bool() if padded else None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _padding_mask)  # else transformers drops the padding mask in silence


class FrozenEncoder:
    """A frozen encoder that takes soft prompts per replica. Wraps a model once: its last block is replaced.

    Attributes:
        model: the frozen model.
        refusal: why the model takes no prefix; empty where it does. Input prompts it takes anyway.
        layers: L, calls of attention in a pass.
        heads: key and value heads.
        dim: width of a head.
        hidden: H.
        embedding: E, width of the token embeddings.
        max_tokens: tokens that its position embeddings can hold, prompt included; None: no limit.

    Raises:
        ValueError: if the model is no encoder.

    Source: P-tuning v2 (arXiv:2110.07602) for the deep prefix, Lester et al. (arXiv:2104.08691) for the
    input prompt; the last layer is evaluated for the pooled row alone, which changes no number.
    """

    def __init__(
        self, model: Any, pooling: Pooling = "mean", after_prompt: bool = True, precision: Precision = "float32"
    ):
        self.model = model.eval().requires_grad_(False)
        self.precision = precision
        adapt(model, _attention)
        self.pooling, self.after_prompt = pooling, after_prompt
        self.takes = frozenset(inspect.signature(model.forward).parameters)
        self.hidden = int(model.config.hidden_size)
        self.embedding = int(model.get_input_embeddings().weight.shape[1])
        self.first_position, self.max_tokens = self._positions()
        self.layers = self.heads = self.dim = 0
        self.refusal = ""
        usual = model.config._attn_implementation  # noqa: SLF001  # there is no public name for it
        try:
            tail, shapes = self._probe()
        except ValueError as error:
            self.refusal = str(error)
            model.set_attn_implementation(usual)
            return
        if getattr(tail, "is_causal", False):
            raise ValueError(
                f"{type(model).__name__} takes no prompt here: it reads left to right, and an encoder is needed"
            )
        self.layers, (self.heads, self.dim) = len(shapes), shapes[-1]
        if pooling == "cls":
            self._shorten(tail)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.model.parameters()).device

    def _probe(self) -> tuple[nn.Module, list[tuple[int, int]]]:
        """Sees how the model calls its attention, or refuses it with the reason."""
        name = type(self.model).__name__
        probe = _Pass()
        try:
            self.model.set_attn_implementation(NAME)
            ids = torch.tensor([PROBE], device=self.device)
            with torch.no_grad():
                self._run(probe, input_ids=ids, attention_mask=torch.ones_like(ids))
        except Exception as error:
            raise ValueError(
                f"{name} takes no prefix: it does not run with a registered attention ({error})"
            ) from error
        if not probe.seen:
            raise ValueError(
                f"{name} takes no prefix: its attention is not called through transformers' attention interface"
            )
        if len({shape[1:] for shape in probe.seen}) != 1:
            raise ValueError(f"{name} takes no prefix: its layers have heads of different shapes")
        tail = probe.seen[-1][0]
        return tail, [shape[1:] for shape in probe.seen]

    def _positions(self) -> tuple[int, int | None]:
        """The id of the first position, and how many tokens the position embeddings hold."""
        tables = [
            m
            for n, m in self.model.named_modules()
            if n.endswith("position_embeddings") and isinstance(m, nn.Embedding)
        ]
        if not tables:
            return 0, None
        # RoBERTa's family counts positions from behind the padding id.
        first = 0 if tables[0].padding_idx is None else tables[0].padding_idx + 1
        return first, tables[0].num_embeddings - first

    def _shorten(self, tail: nn.Module) -> None:
        """Lets the last block answer for the pooled row alone."""
        blocks = (block for m in self.model.modules() if isinstance(m, nn.ModuleList) for block in m)
        block = next(block for block in blocks if tail in set(block.modules()))
        whole = block.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            here = _running.get()
            wanted = here and here.row is not None and here.layer == self.layers - 1 and here.kept is None
            return here.last(whole, *args, **kwargs) if here and wanted else whole(*args, **kwargs)

        block.forward = forward

    def _run(self, here: _Pass, **inputs: Tensor) -> Tensor:
        token = _running.set(here)
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                return self.model(**inputs).last_hidden_state.float()
        finally:
            _running.reset(token)

    def prompt_shape(self, length: int, form: str = "prefix") -> tuple[int, ...]:
        """The shape of one prompt of `length` tokens: prefix [L, 2, heads, P, d], input [P, E].

        Raises:
            ValueError: if the model takes no prefix: the message says why.
        """
        if form == "input":
            return length, self.embedding
        if self.refusal:
            raise ValueError(f"{self.refusal}; use prompt.form: input")
        return self.layers, 2, self.heads, length, self.dim

    def check_room(self, prompt_length: int, max_length: int, form: str = "prefix") -> None:
        """Refuses prompts and texts that are together longer than the PLM's positions.

        Raises:
            ValueError: with the three numbers.
        """
        needed = max_length + (prompt_length if self.after_prompt or form == "input" else 0)
        if self.max_tokens is not None and needed > self.max_tokens:
            raise ValueError(
                f"prompt length {prompt_length} + max_length {max_length} is over the {self.max_tokens} positions "
                f"of {type(self.model).__name__}; lower one of them"
            )

    def embed(self, ids: Tensor) -> Tensor:
        """[…, E] the token embeddings of ids […]."""
        return self.model.get_input_embeddings()(ids)

    @torch.no_grad()
    def activations(self, embeddings: Tensor) -> Tensor:
        """[L, 2, heads, P, d] the keys and values that the PLM computes for token embeddings [P, E].

        Source: Li & Liang, Prefix-Tuning (arXiv:2101.00190): prefixes that start from real words.
        """
        self.prompt_shape(len(embeddings))  # which refuses a model that takes no prefix
        here = _Pass()
        here.collected = []
        mask = torch.ones(1, len(embeddings), dtype=torch.long, device=self.device)
        self._run(here, inputs_embeds=embeddings[None], attention_mask=mask)
        return torch.stack(here.collected).float()

    def encode(
        self, ids: Tensor, types: Tensor, lengths: Tensor, prompt: Tensor | None = None, owner: Tensor | None = None,
        tokens: bool = False, padded: bool = True,
    ) -> Tensor:  # fmt: skip
        """The vectors that heads read.

        Args:
            ids: [n, T] token ids, padded to the longest row.
            types: [n, T] token types.
            lengths: [n] tokens of each row.
            prompt: one per replica: prefixes [K, L, 2, heads, P, d] or input prompts [K, P, E]; None: no prompt.
            owner: [n] the replica of each row; needed with a prompt.
            tokens: whether every token's vector is wanted.
            padded: whether a row may be shorter than T; False saves the mask.

        Returns:
            [n, H] the first token's vector (`cls`) or the mean over the tokens of the text (`mean`);
            [n, T, H] with `tokens`.
        """
        mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]  # [n, T]
        inputs, before, first = {"input_ids": ids, "attention_mask": mask.long()}, 0, 0
        layers = None
        if prompt is not None and prompt.dim() == 3 and owner is not None:
            first = prompt.shape[1]
            embeds = torch.cat((prompt.index_select(0, owner), self.embed(ids)), 1)
            inputs = {"inputs_embeds": embeds, "attention_mask": pad(mask, (first, 0), value=True).long()}
            types = pad(types, (first, 0))
        elif prompt is not None and owner is not None:
            layers = _owned(prompt, owner)
            before = prompt.shape[4] if self.after_prompt else 0
        if "token_type_ids" in self.takes:
            known = getattr(self.model.config, "type_vocab_size", 0) > 1
            inputs["token_type_ids"] = types if known else torch.zeros_like(types)
        if "position_ids" in self.takes:
            length = ids.shape[1] + first
            inputs["position_ids"] = torch.arange(length, device=ids.device)[None] + self.first_position + before
        short = self.pooling == "cls" and not tokens and not self.refusal
        hidden = self._run(_Pass(layers, first if short else None, padded), **inputs)
        if short:
            return hidden[:, 0]
        hidden = hidden[:, first:]
        if tokens:
            return hidden
        if self.pooling == "cls":
            return hidden[:, 0]
        return (hidden * mask[..., None]).sum(1) / lengths[:, None]


def _owned(prefix: Tensor, owner: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Per layer the keys and values [n, heads, P, d] of each row's replica."""
    rows = (layer.index_select(0, owner) for layer in prefix.unbind(1))  # [n, 2, heads, P, d]
    return [(row[:, 0], row[:, 1]) for row in rows]


_loaded: dict[tuple[Plm, str, Precision], FrozenEncoder] = {}


def load_encoder(plm: Plm, device: str = "cpu", precision: Precision = "float32") -> FrozenEncoder:
    """The encoder of a PLM, loaded once per process; another PLM takes its place, and its memory is given back."""
    key = (plm, device, precision)
    if key not in _loaded:
        release_encoder()
        logging.set_verbosity_error()  # a truncated PLM leaves weights unused on purpose
        logging.disable_progress_bar()
        model = load_model(plm).to(device)
        for module in model.modules():
            if precision == "bf16" and isinstance(module, nn.Linear):
                module.to(torch.bfloat16)  # frozen: once for all, where autocast would do it at every step
        _loaded[key] = FrozenEncoder(model, plm.pooling, plm.positions == "after_prompt", precision)
    return _loaded[key]


def release_encoder() -> None:
    """Gives back the memory of the process's PLM, and of the tables that lie beside it on a GPU."""
    _loaded.clear()
    release_tables()
    gc.collect()  # a model's blocks and their replaced forwards refer to one another
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

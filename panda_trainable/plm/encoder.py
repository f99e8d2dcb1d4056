"""FrozenEncoder: any Hugging Face encoder, or body that reads left to right, with soft prompts in front, K replicas at once."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from panda_trainable.config.setting import Pooling, Precision
from panda_trainable.plm.attention import NAME, LayersRead, Pass, Prefill, Probe, attention, rows_at, running, shorten
from panda_trainable.plm.families import adapt
from panda_trainable.plm.fitting import fitted_positions, fitted_scale, position_ids
from panda_trainable.plm.places import Places, Prefilled, Prompts
from panda_trainable.plm.probe import can_prefill, can_shorten, compare_input, compare_plain, compare_prefix
from panda_trainable.plm.reference import ENCODER, Reference, Refused, first_line, parameters_of

PROBE = (5, 7, 6)
"""Three harmless token ids: enough to see how a model calls its attention."""


class FrozenEncoder:
    """A frozen encoder that takes soft prompts per replica. Wraps a model once: its last block is replaced.

    Attributes:
        model: the frozen model.
        whole: the same with the head of its own that is used; without one, the model.
        refusal: why the model takes no prefix; empty where it does.
        input_refusal: why it takes no input prompt; empty where it does.
        takes_padding: whether texts of different lengths may be in one batch.
        can_prefill: whether an input prompt's keys and values are those of all texts behind it, and computed once.
        shortens: whether the last layer is computed for the tokens alone whose states are wanted.
        scale: what the model multiplies token embeddings with before its first layer.
        first_position: the id of the first position; None: the model counts by itself, whatever stands before.
        layers: L, calls of attention in a pass.
        heads: key and value heads.
        dim: width of a head.
        hidden: H.
        embedding: E, width of the token embeddings.
        max_tokens: tokens that its position embeddings can hold, prompt included; None: no limit.

    Raises:
        ValueError: if the model is no encoder of text (or reads both ways, where it is to be causal), or gives other
            numbers than untouched.

    Source: P-tuning v2 (arXiv:2110.07602) for the deep prefix, Lester et al. (arXiv:2104.08691) for the
    input prompt; the last layer is evaluated for the pooled row alone, which changes no number.
    """

    def __init__(
        self, model: Any, pooling: Pooling = "mean", after_prompt: bool = True, precision: Precision = "float32",
        *, causal: bool = False,
    ):  # fmt: skip
        self.model = model.eval().requires_grad_(False)
        self.whole = getattr(self, "whole", model)
        self.precision: Precision = "float32"  # until everything is compared
        reference = Reference(model, causal=causal)
        self.pooling: Pooling = "mean" if pooling == "answer" else pooling  # the same: of which all tokens are compared
        self.after_prompt = after_prompt
        self.takes = parameters_of(model)
        self.hidden = reference.hidden[reference.short].shape[1]
        self.layers = self.heads = self.dim = 0
        self.refusal = self.input_refusal = ""
        self.causal, self.can_prefill, self.shortens = causal, False, False
        self.scale, self.first_position, self.max_tokens = 1.0, None, None
        try:
            words = self.embed(torch.tensor(reference.short, device=self.device))
            self.embedding, self.scale = words.shape[-1], fitted_scale(model, words, reference)
            self.first_position, self.max_tokens = fitted_positions(model, reference)
            padding_unread = self._reach_attention(reference)
            padding_unread &= compare_plain(self, reference)
            self.input_refusal, input_unread = compare_input(self, reference)
        except Refused as error:
            raise ValueError(f"{reference.name} cannot be wrapped: {error}; {reference.remedy}") from error
        except Exception as error:
            what, remedy = reference.what, reference.remedy
            raise ValueError(f"{reference.name} is no {what} ({first_line(error)}); {remedy}") from error
        # Attention of a model's own may see padding of longer texts than those compared.
        self.takes_padding = padding_unread and input_unread and not self.refusal
        self.can_prefill = can_prefill(self, reference)
        self.shortens = pooling == "answer" and can_shorten(self, reference)
        self.precision, self.pooling = precision, pooling

    def _reach_attention(self, reference: Reference) -> bool:
        """Registers our attention, or gives the model back as it was with a refusal; whether padding is never read."""
        usual = self.model.config._attn_implementation  # noqa: SLF001  # there is no public name for it
        own = {module: module.__dict__.get("forward") for module in self.model.modules()}
        adapt(self.model, attention)
        try:
            probe = self._probe()
            last = probe.calls[-1]
            self.layers, self.heads, self.dim = len(probe.calls), last.key.shape[1], last.key.shape[3]
            blocks = (block for m in self.model.modules() if isinstance(m, nn.ModuleList) for block in m)
            block = next((block for block in blocks if last.module in set(block.modules())), None)
            if block is not None:  # where many rows are wanted, as below, nothing changes
                shorten(block, self.layers, probe.projections() if self.pooling == "cls" else None)
            return compare_prefix(self, reference, plain=all(call.plain for call in probe.calls))
        except Exception as error:  # noqa: BLE001  # whatever a model does with our attention, the reason is told
            failed = f"{reference.name} takes no prefix: it does not run with one ({first_line(error)})"
            self.refusal = str(error) if isinstance(error, Refused) else failed
            self.layers = self.heads = self.dim = 0
            for module, forward in own.items():
                module.__dict__.pop("forward", None)
                module.__dict__.update({"forward": forward} if forward else {})
            self.model.set_attn_implementation(usual)
            return False

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.model.parameters()).device

    def _probe(self) -> Probe:
        """Sees how the model calls its attention, or refuses it with the reason."""
        name = type(self.model).__name__
        probe = Probe()
        hooks = probe.watch(self.model)
        try:
            self.model.set_attn_implementation(NAME)
            ids = torch.tensor([PROBE], device=self.device)
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            with torch.no_grad():
                self._run(probe, **{taken: inputs[taken] for taken in inputs if taken in self.takes})
        except Exception as error:
            raise Refused(
                f"{name} takes no prefix: it does not run with a registered attention ({first_line(error)})"
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
        if not probe.calls:
            raise Refused(
                f"{name} takes no prefix: its attention is not called through transformers' attention interface"
            )
        if len({(call.key.shape[1], call.key.shape[3]) for call in probe.calls}) != 1:
            raise Refused(f"{name} takes no prefix: its layers have heads of different shapes")
        return probe

    @contextmanager
    def lowered(self) -> Iterator[None]:
        """While it is open, the model computes in its precision."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            yield

    def _run(self, here: Pass, **inputs: Tensor) -> Tensor:
        token = running.set(here)
        options = {"use_cache": False} if self.causal and "use_cache" in self.takes else {}  # no text is read on
        try:
            with self.lowered():
                return self.model(**inputs, **options).last_hidden_state.float()
        finally:
            running.reset(token)

    def prompt_shape(self, length: int, form: str = "prefix") -> tuple[int, ...]:
        """The shape of one prompt of `length` tokens: prefix [L, 2, heads, P, d], input [P, E].

        Raises:
            ValueError: if the model takes no prompts of the form: the message says why.
        """
        refusal = {"input": self.input_refusal, "prefix": self.refusal}
        if refusal[form]:
            other = next((name for name, reason in refusal.items() if not reason), None)
            raise ValueError(f"{refusal[form]}; {f'use prompt.form: {other}' if other else ENCODER}")
        if form == "input":
            return length, self.embedding
        return self.layers, 2, self.heads, length, self.dim

    def check_room(self, prompt_length: int, max_length: int, form: str = "prefix", behind: int = 0) -> None:
        """Refuses prompts and texts, with so many tokens behind, that are together longer than the PLM's positions.

        Raises:
            ValueError: with the numbers.
        """
        needed = max_length + behind + (prompt_length if self.after_prompt or form == "input" else 0)
        written = f" + max_answer {behind}" if behind else ""
        if self.max_tokens is not None and needed > self.max_tokens:
            raise ValueError(
                f"prompt length {prompt_length} + max_length {max_length}{written} is over the {self.max_tokens} positions "
                f"of {type(self.model).__name__}; lower one of them"
            )

    def embed(self, ids: Tensor) -> Tensor:
        """[…, E] the token embeddings of ids […], as the first layer reads them."""
        made: Any = self.model.get_input_embeddings()(ids)
        made = made[0] if isinstance(made, tuple) else made  # I-BERT's come with a scale
        return made if self.scale == 1 else made * self.scale

    @torch.no_grad()
    def activations(self, embeddings: Tensor) -> Tensor:
        """[L, 2, heads, P, d] the keys and values that the PLM computes for token embeddings [P, E].

        Source: Li & Liang, Prefix-Tuning (arXiv:2101.00190): prefixes that start from real words.
        """
        self.prompt_shape(len(embeddings))  # which refuses a model that takes no prefix
        return self._computed(inputs_embeds=embeddings[None])[0]

    @torch.no_grad()
    def keys_and_values(self, ids: Tensor, first: int | None = None) -> Tensor:
        """[L, 2, heads, T, d] of ids [1, T], whose positions count from `first` on; None: as the model counts."""
        ids = ids.to(self.device)
        positions = {} if first is None else {"position_ids": position_ids((1, ids.shape[1]), first, self.device)}
        return self._computed(input_ids=ids, **positions)[0]

    def _computed(self, **inputs: Tensor) -> Tensor:
        """[n, L, 2, heads, T, d] the keys and values of an input of n rows of one length."""
        here, given = Prefill(self.layers), next(iter(inputs.values()))
        if "attention_mask" in self.takes:
            inputs["attention_mask"] = torch.ones(given.shape[:2], dtype=torch.long, device=self.device)
        with suppress(LayersRead):
            self._run(here, **inputs)
        return torch.stack(here.made, 1).float()

    def prefilled(self, prompts: Tensor) -> Prefilled:
        """Input prompts [K, P, E] as the keys and values that the model makes of them, in float32 as gradients are.

        Source: prefix caching, as servers of language models do it; here gradients go through it.
        """
        positions = {}
        if self.first_position is not None:
            shape = len(prompts), prompts.shape[1]
            positions = {"position_ids": position_ids(shape, self.first_position, self.device)}
        return Prefilled(self._computed(inputs_embeds=prompts, **positions))

    def in_front(self, prompts: Prompts | None) -> Prompts | None:
        """What stands in front of texts: prompts, of which all that no text changes is computed here, once for all rows."""
        once = self.can_prefill and isinstance(prompts, Tensor) and prompts.dim() == 3
        return self.prefilled(prompts) if once and isinstance(prompts, Tensor) else prompts

    def encode(
        self, ids: Tensor, types: Tensor, lengths: Tensor, prompt: Prompts | None = None, owner: Tensor | None = None,
        tokens: bool = False, padded: bool = True, slots: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """The vectors that heads read.

        Args:
            ids: [n, T] token ids, padded to the longest row.
            types: [n, T] token types.
            lengths: [n] tokens of each row.
            prompt: one per replica: prefixes [K, L, 2, heads, P, d], input prompts [K, P, E] or what `in_front` made of
                them; None: no prompt.
            owner: [n] the replica of each row; needed with a prompt.
            tokens: whether every token's vector is wanted.
            padded: whether a row may be shorter than T; False saves the mask.
            slots: [n, 1] where a masked language model's answer stands; it alone reads this.

        Returns:
            [n, H] the first token's vector (`cls`), the last one's (`answer`) or the mean over the tokens of the text
            (`mean`); [n, T, H] with `tokens`.
        """
        if self.pooling == "answer" and not tokens:
            return self.states_at(lengths[:, None] - 1, ids, types, lengths, prompt, owner, padded)[:, 0]
        short = self.pooling == "cls" and not tokens and not self.refusal
        hidden, first = self._states(ids, types, lengths, prompt, owner, padded, 0 if short else None)
        if short:  # a model whose last block cannot be shortened gives all rows
            return hidden[:, 0 if hidden.shape[1] == 1 else first]
        hidden = hidden[:, first:]
        if tokens:
            return hidden
        if self.pooling == "cls":
            return hidden[:, 0]
        mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]  # [n, T]
        return (hidden * mask[..., None]).sum(1) / lengths[:, None]

    def states_at(
        self, at: Tensor, ids: Tensor, types: Tensor, lengths: Tensor, prompt: Prompts | None = None,
        owner: Tensor | None = None, padded: bool = True, places: Places | None = None,
    ) -> Tensor:  # fmt: skip
        """[n, M, H] the states of columns `at` [n, M] of ids alone.

        The other arguments are those of `encode`; `places`: where the tokens of ids stand, None: one behind the other.
        """
        short = self.shortens and at.shape[1] < ids.shape[1]
        row = at if short else None
        hidden, first = self._states(ids, types, lengths, prompt, owner, padded, row, places)
        return hidden if short else rows_at(hidden, at + first, 1)

    def _states(
        self, ids: Tensor, types: Tensor, lengths: Tensor, prompt: Prompts | None, owner: Tensor | None, padded: bool,
        row: int | Tensor | None = None, places: Places | None = None,
    ) -> tuple[Tensor, int]:  # fmt: skip
        """[n, P + T, H] states of an input prompt and the text behind it, and P; else [n, T, H] of the text and 0.

        The arguments are those of `states_at`; `row`: the text's columns of which the last layer is enough.
        """
        real = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None] if places is None else places.real
        assert real is not None, "branches stand behind texts of any length"
        inputs, before, first, layers = {"input_ids": ids}, 0, 0, None
        if getattr(self.model.config, "trigram_input", False):  # MobileBERT's embeddings read their neighbours
            inputs = {"inputs_embeds": self.embed(ids) * real[..., None]}
        if isinstance(prompt, Prefilled) and owner is not None:
            layers, before = _owned(prompt.states, owner), prompt.length
            places = places or Places(position_ids((1, ids.shape[1]), 0, ids.device), real if padded else None)
            places = replace(places, before=before)
        elif isinstance(prompt, Tensor) and prompt.dim() == 3 and owner is not None:
            first = prompt.shape[1]
            words = inputs.get("inputs_embeds", self.embed(ids))
            inputs = {"inputs_embeds": torch.cat((prompt.index_select(0, owner), words), 1)}
            types = pad(types, (first, 0))
        elif isinstance(prompt, Tensor) and owner is not None:
            layers = _owned(prompt, owner)
            before = prompt.shape[4] if self.after_prompt else 0
        if "attention_mask" in self.takes:
            inputs["attention_mask"] = pad(real, (first, 0), value=True).long()
        if "token_type_ids" in self.takes and getattr(self.model.config, "type_vocab_size", 0) > 1:
            inputs["token_type_ids"] = types
        if self.first_position is not None:
            shape = len(ids), ids.shape[1] + first
            counted = position_ids(shape, 0, ids.device) if places is None else places.position.expand(shape)
            inputs["position_ids"] = counted + (self.first_position + before)
        return self._run(Pass(layers, None if row is None else row + first, padded, places), **inputs), first


def _owned(prefix: Tensor, owner: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Per layer the keys and values [n, heads, P, d] of each row's replica."""
    rows = (layer.index_select(0, owner) for layer in prefix.unbind(1))  # [n, 2, heads, P, d]
    return [(row[:, 0], row[:, 1]) for row in rows]

"""FrozenEncoder: any Hugging Face encoder with soft prompts in front, K replicas at once."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from panda_trainable.config.setting import Pooling, Precision
from panda_trainable.plm.attention import NAME, Pass, Probe, attention, running, shorten
from panda_trainable.plm.families import adapt

PROBE = (5, 7, 6)
"""Three harmless token ids: enough to see how a model calls its attention."""


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
        adapt(model, attention)
        self.pooling, self.after_prompt = pooling, after_prompt
        self.takes = frozenset(inspect.signature(model.forward).parameters)
        self.hidden = int(model.config.hidden_size)
        self.embedding = int(model.get_input_embeddings().weight.shape[1])
        self.first_position, self.max_tokens = self._positions()
        self.layers = self.heads = self.dim = 0
        self.refusal = ""
        usual = model.config._attn_implementation  # noqa: SLF001  # there is no public name for it
        try:
            probe = self._probe()
        except ValueError as error:
            self.refusal = str(error)
            model.set_attn_implementation(usual)
            return
        last = probe.calls[-1]
        if getattr(last.module, "is_causal", False):
            raise ValueError(
                f"{type(model).__name__} takes no prompt here: it reads left to right, and an encoder is needed"
            )
        self.layers, self.heads, self.dim = len(probe.calls), last.key.shape[1], last.key.shape[3]
        if pooling == "cls":
            blocks = (block for m in model.modules() if isinstance(m, nn.ModuleList) for block in m)
            block = next(block for block in blocks if last.module in set(block.modules()))
            shorten(block, self.layers, probe.projections())

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
            with torch.no_grad():
                self._run(probe, input_ids=ids, attention_mask=torch.ones_like(ids))
        except Exception as error:
            raise ValueError(
                f"{name} takes no prefix: it does not run with a registered attention ({error})"
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
        if not probe.calls:
            raise ValueError(
                f"{name} takes no prefix: its attention is not called through transformers' attention interface"
            )
        if len({(call.key.shape[1], call.key.shape[3]) for call in probe.calls}) != 1:
            raise ValueError(f"{name} takes no prefix: its layers have heads of different shapes")
        return probe

    def _positions(self) -> tuple[int, int | None]:
        """The id of the first position, and how many tokens the position embeddings hold."""
        tables = [
            m
            for n, m in self.model.named_modules()
            if n.endswith(("position_embeddings", "embed_positions")) and isinstance(getattr(m, "weight", None), Tensor)
        ]
        if not tables:
            return 0, None
        # RoBERTa's family counts positions from behind the padding id, BART's from an offset.
        padding = getattr(tables[0], "padding_idx", None)
        first = getattr(tables[0], "offset", 0 if padding is None else padding + 1)
        return first, len(tables[0].weight) - first

    def _run(self, here: Pass, **inputs: Tensor) -> Tensor:
        token = running.set(here)
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                return self.model(**inputs).last_hidden_state.float()
        finally:
            running.reset(token)

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
        made = self.model.get_input_embeddings()(ids)
        return made[0] if isinstance(made, tuple) else made  # I-BERT's come with a scale

    @torch.no_grad()
    def activations(self, embeddings: Tensor) -> Tensor:
        """[L, 2, heads, P, d] the keys and values that the PLM computes for token embeddings [P, E].

        Source: Li & Liang, Prefix-Tuning (arXiv:2101.00190): prefixes that start from real words.
        """
        self.prompt_shape(len(embeddings))  # which refuses a model that takes no prefix
        here = Probe()
        mask = torch.ones(1, len(embeddings), dtype=torch.long, device=self.device)
        self._run(here, inputs_embeds=embeddings[None], attention_mask=mask)
        return torch.stack([torch.stack((call.key[0], call.value[0])) for call in here.calls]).float()

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
        if getattr(self.model.config, "trigram_input", False):  # MobileBERT's embeddings read their neighbours
            inputs = {"inputs_embeds": self.embed(ids) * mask[..., None], "attention_mask": mask.long()}
        if prompt is not None and prompt.dim() == 3 and owner is not None:
            first = prompt.shape[1]
            words = inputs.get("inputs_embeds", self.embed(ids))
            embeds = torch.cat((prompt.index_select(0, owner), words), 1)
            inputs = {"inputs_embeds": embeds, "attention_mask": pad(mask, (first, 0), value=True).long()}
            types = pad(types, (first, 0))
        elif prompt is not None and owner is not None:
            layers = _owned(prompt, owner)
            before = prompt.shape[4] if self.after_prompt else 0
        if "token_type_ids" in self.takes and getattr(self.model.config, "type_vocab_size", 0) > 1:
            inputs["token_type_ids"] = types
        if "position_ids" in self.takes:
            length = ids.shape[1] + first
            positions = torch.arange(length, device=ids.device) + self.first_position + before
            inputs["position_ids"] = positions.expand(len(ids), -1)
        short = self.pooling == "cls" and not tokens and not self.refusal
        hidden = self._run(Pass(layers, first if short else None, padded), **inputs)
        if short:  # a model whose last block cannot be shortened gives all rows
            return hidden[:, 0 if hidden.shape[1] == 1 else first]
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

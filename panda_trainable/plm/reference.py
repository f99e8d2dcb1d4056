"""What an untouched model says of a few short texts: with this a wrapped model is compared."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

Text = tuple[int, ...]

TOLERANCE = 1e-4
"""Largest difference from the untouched model, as a share of its largest output; float32 needs about 1e-6."""

UNSEEN = 1e-6
"""Share of the largest output below which a changed token was not read."""

ALIKE = 0.1
"""Distance of two embeddings, as a share of their length, up to which they are alike."""

FIRST_ID = 5
"""Below it lie the special tokens of most vocabularies."""

ENCODER = "name an encoder of text, such as a BERT, a RoBERTa or the encoder of a T5"
CAUSAL = "name a causal language model, such as a Llama, a Qwen or a GPT-2"


class Refused(ValueError):
    """A model, or a form of prompts, that cannot be had with a wrapped model: the message says why."""


class Reference:
    """What an untouched model says of a few short texts, each alone and with nothing of ours.

    Args:
        model: in float32.
        causal: whether it must read left to right, or must not.

    Attributes:
        what: what it must be.
        remedy: what to name where it is not.
        token: the id that stands in front of texts.
        short: a text of three tokens.
        long: a text of five.
        hidden: text -> [T, H] its vectors.

    Raises:
        ValueError: if the model does not read text so.
    """

    def __init__(self, model: nn.Module, *, causal: bool = False):
        self.name = type(model).__name__
        self.what, self.remedy = ("causal model of text", CAUSAL) if causal else ("encoder of text", ENCODER)
        try:
            first, second, third, fourth, other = _harmless_ids(model)
            self.token, self.short = fourth, (first, third, second)
            self.long = (second, other, first, fourth, third)
            last_changed, first_changed = (first, third, other), (other, third, second)
            texts = (self.short, last_changed, self.long, (self.token, *self.short), (self.token, *self.long))
            self.hidden: Mapping[Text, Tensor] = {text: own_output(model, text) for text in texts}
        except Exception as error:  # models that are no encoders fail in many ways, which all mean this
            raise ValueError(f"{self.name} is no {self.what} ({first_line(error)}); {self.remedy}") from error
        own = self.hidden[self.short]
        left_to_right = difference(self.hidden[last_changed][:1], own[:1]) <= UNSEEN
        if left_to_right and difference(own_output(model, first_changed)[-1:], own[-1:]) <= UNSEEN:
            raise ValueError(f"{self.name} is no {self.what} (its tokens do not read one another); {self.remedy}")
        if causal and not left_to_right:
            raise ValueError(
                f"{self.name} is no {self.what}: the first token's vector changes with the last token; {self.remedy}"
            )
        if left_to_right and not causal:
            raise ValueError(
                f"{self.name} takes no prompt here: it reads left to right, and an encoder is needed: "
                f"the first token's vector stays when the last token changes; {ENCODER}"
            )

    def behind_token(self, text: Text) -> Tensor:
        """[T, H] the vectors of a text in front of which `token` stands."""
        return self.hidden[self.token, *text][1:]


def difference(found: Tensor, own: Tensor, pooling: str | None = None) -> float:
    """The largest difference of vectors from the model's own, as a share of its largest.

    Args:
        found: [T, H]; [H] with `pooling`.
        own: [T, H] of the untouched model.
        pooling: `cls` or `mean`; None: every token is compared.
    """
    expected = own if pooling is None else own[0] if pooling == "cls" else own.mean(0)
    off = (found - expected).abs().max() / own.abs().max().clamp(min=1e-30)
    return float(off.nan_to_num(torch.inf))


def _harmless_ids(model: Any) -> list[int]:
    """Five ids of ordinary tokens, whose embeddings differ: those that a tokenizer keeps for later may all be alike."""
    try:
        table = getattr(model.get_input_embeddings(), "weight", None)
    except (NotImplementedError, AttributeError) as error:
        raise ValueError("it does not tell its token embeddings") from error
    size = len(table) if table is not None else int(model.config.vocab_size)
    special: set[int] = set()
    for name, value in model.config.to_dict().items():
        if name.endswith(("token_id", "pad_index", "bos_index", "eos_index", "unk_index", "mask_index")):
            special.update(value if isinstance(value, list) else [value])
    ordinary = [i for i in range(FIRST_ID, size) if i not in special]
    if len(ordinary) < 5:
        raise ValueError(f"it embeds {size} tokens")
    if table is None:
        return ordinary[:5]
    found: list[int] = []
    for i in ordinary:
        row = table[i].float()
        if all((row - table[other].float()).norm() > ALIKE * row.norm() for other in found):
            found.append(i)
        if len(found) == 5:
            return found
    return ordinary[:5]


@torch.no_grad()
def own_output(model: Any, text: Text, **changes: Any) -> Tensor:
    """[T, H] what a model's own forward says of a text."""
    ids = torch.tensor([text], device=next(model.parameters()).device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **changes}
    if "attention_mask" not in parameters_of(model):
        del inputs["attention_mask"]
    hidden = getattr(model(**inputs), "last_hidden_state", None)
    if hidden is None:
        raise ValueError("its forward gives no last_hidden_state")
    if hidden.dim() != 3 or hidden.shape[:2] != ids.shape:
        raise ValueError(f"it gives outputs of shape {list(hidden.shape)} for {ids.shape[1]} tokens")
    if not hidden.isfinite().all():
        raise ValueError("its outputs are not finite")
    made: Tensor = hidden[0].float()
    return made


def parameters_of(model: Any) -> frozenset[str]:
    """Names of what a model's forward takes."""
    return frozenset(inspect.signature(model.forward).parameters)


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def told(off: float) -> str:
    """A difference as messages tell it."""
    return f"from those of the untouched model by {off:.1e} of the largest (at most {TOLERANCE:.0e} is rounding)"

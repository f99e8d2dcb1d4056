"""What a wrapped PLM must keep: its outputs are those of the untouched model, alone and in a padded batch.

They are compared without a prompt, with an input prompt that is a real token's embedding, and with a prefix that is a
real token's keys and values: then the text's vectors must be those of the untouched model behind that token.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from panda_trainable.plm.places import Prefilled, Prompts
from panda_trainable.plm.reference import (
    FIRST_ID,
    TOLERANCE,
    UNSEEN,
    Reference,
    Refused,
    Text,
    difference,
    first_line,
    told,
)


class Wrapped(Protocol):
    """What the probe needs of an encoder."""

    model: Any
    precision: Any
    pooling: Any
    after_prompt: bool
    takes: frozenset[str]
    first_position: int | None
    refusal: str
    input_refusal: str
    causal: bool
    takes_padding: bool
    shortens: bool

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""

    def embed(self, ids: Tensor) -> Tensor:
        """[…, E] what the model feeds its first layer for ids […]."""

    def prompt_shape(self, length: int, form: str = "prefix") -> tuple[int, ...]:
        """The shape of one prompt."""

    def keys_and_values(self, ids: Tensor, first: int | None = None) -> Tensor:
        """[L, 2, heads, T, d] of ids [1, T], whose positions count from `first` on; None: as the model counts."""

    def encode(
        self, ids: Tensor, types: Tensor, lengths: Tensor, prompt: Prompts | None = None, owner: Tensor | None = None,
        tokens: bool = False, padded: bool = True,
    ) -> Tensor:  # fmt: skip
        """[n, H] or [n, T, H] the vectors that heads read."""

    def states_at(self, at: Tensor, ids: Tensor, types: Tensor, lengths: Tensor) -> Tensor:
        """[n, M, H] the states of columns `at` [n, M]."""

    def prefilled(self, prompts: Tensor) -> Prefilled:
        """Input prompts as keys and values."""

    def in_front(self, prompts: Prompts | None) -> Prompts | None:
        """What stands in front of texts."""


def compare_plain(encoder: Wrapped, reference: Reference) -> bool:
    """Compares texts without a prompt, of which one alone is compared where prefixes are; whether padding is never read.

    Raises:
        Refused: if a text alone differs from the untouched model's.
    """
    if encoder.refusal and (off := alone(encoder, reference)) > TOLERANCE:
        raise Refused(f"its outputs differ {told(off)}")
    return in_padded_batch(encoder, reference) <= TOLERANCE


def compare_prefix(encoder: Wrapped, reference: Reference, *, plain: bool) -> bool:
    """Compares texts behind a prefix; whether padding is never read.

    Args:
        encoder: wrapped.
        reference: of its untouched model.
        plain: whether the model's attention knows nothing but queries, keys and values.

    Raises:
        Refused: if the model takes no prefix: the message says why.
    """
    says, after_prompt = f"{reference.name} takes no prefix: ", encoder.after_prompt
    if (off := alone(encoder, reference)) > TOLERANCE:
        raise Refused(f"{says}with a registered attention its outputs differ {told(off)}")
    prefix = token_prefix(encoder, reference)
    encoder.after_prompt = True
    try:
        off = behind_token(encoder, reference, prefix)
        if off > TOLERANCE and plain and _tells_nothing_else(encoder, reference):
            raise Refused(f"{says}behind a real token's keys and values its outputs differ {told(off)}")
        if off > TOLERANCE and not _is_read(encoder, reference, prefix):
            raise Refused(f"{says}its outputs stay the same with a prefix")
        return _as_each(encoder, reference, prefix) <= TOLERANCE
    finally:
        encoder.after_prompt = after_prompt


def compare_input(encoder: Wrapped, reference: Reference) -> tuple[str, bool]:
    """Compares texts behind an input prompt: why the model takes none (empty where it does), and whether padding is never read."""
    says = f"{reference.name} takes no input prompt: "
    if "inputs_embeds" not in encoder.takes:
        return f"{says}its forward takes no inputs_embeds", True
    prompt = encoder.embed(torch.tensor([[reference.token]] * 2, device=encoder.device))
    try:
        off = behind_token(encoder, reference, prompt)
        padded = in_padded_batch(encoder, reference, prompt)
    except Exception as error:  # noqa: BLE001  # whatever a model does with embeddings, the reason is told
        return f"{says}it does not run on token embeddings ({first_line(error)})", True
    if off > TOLERANCE:
        return f"{says}behind a real token's embedding its outputs differ {told(off)}", True
    return "", padded <= TOLERANCE


@torch.no_grad()
def can_prefill(encoder: Wrapped, reference: Reference) -> bool:
    """Whether texts behind the keys and values of input prompts are the texts behind the prompts.

    They are not where a model carries more from token to token than what attention reads, as hybrids with convolutions
    or recurrent layers do.
    """
    if not encoder.causal or encoder.refusal or encoder.input_refusal:
        return False
    texts = _two_texts(encoder, reference)
    prompts = encoder.embed(
        torch.tensor([(reference.token, *reference.short), reference.long[1:]], device=encoder.device)
    )
    try:
        found, own = (_encode(encoder, texts, prompt, tokens=True) for prompt in (encoder.prefilled(prompts), prompts))
    except Exception:  # noqa: BLE001  # whatever a model does with them, prompts are computed before each text
        return False
    pairs = zip(texts, found, own, strict=True)
    return max(difference(made[: len(text)], each[: len(text)]) for text, made, each in pairs) <= TOLERANCE


@torch.no_grad()
def can_shorten(encoder: Wrapped, reference: Reference) -> bool:
    """Whether the last layer gives the same states of a few tokens where it is computed for them alone."""
    if encoder.refusal:
        return False
    texts = _two_texts(encoder, reference)
    ids, lengths = _padded(encoder, texts)
    at = torch.tensor([[len(text) - 1, i] for i, text in enumerate(texts)], device=encoder.device)
    own = encoder.states_at(at, ids, torch.zeros_like(ids), lengths)
    encoder.shortens = True
    try:
        found = [encoder.states_at(at[:, :most], ids, torch.zeros_like(ids), lengths) for most in (1, 2)]
    except Exception:  # noqa: BLE001  # whatever a model does with fewer rows, it is given all
        return False
    finally:
        encoder.shortens = False
    same = found[1].shape == own.shape and found[0].shape == own[:, :1].shape
    return same and max(difference(made, own[:, : made.shape[1]]) for made in found) <= TOLERANCE


def check_training(encoder: Wrapped) -> None:
    """Runs texts in a padded batch without a prompt, and forward and back through prompts of each form that is taken.

    Raises:
        ValueError: if a pass fails, or an encoding or gradient is not finite, in the encoder's precision.
    """
    ids = torch.full((2, 4), FIRST_ID, device=encoder.device)
    lengths, owner = torch.tensor([4, 3], device=encoder.device), torch.arange(2, device=encoder.device)
    lacking = {"prefix": encoder.refusal, "input": encoder.input_refusal}
    try:
        with torch.inference_mode(mode=False), torch.enable_grad():
            encoder.encode(ids, torch.zeros_like(ids), lengths)
            for form in [name for name, reason in lacking.items() if not reason]:
                prompt = torch.full((2, *encoder.prompt_shape(1, form)), 0.1, device=encoder.device, requires_grad=True)
                made = encoder.encode(ids, torch.zeros_like(ids), lengths, encoder.in_front(prompt), owner)
                (gradient,) = torch.autograd.grad(made.square().sum(), prompt)
                if not (made.isfinite().all() and gradient.isfinite().all()):
                    raise ArithmeticError("an encoding or its gradient is not finite")  # noqa: TRY301  # told as all else
    except Exception as error:
        name = type(encoder.model).__name__
        raise ValueError(
            f"{name} does not train with train.precision {encoder.precision} on {encoder.device.type} "
            f"({first_line(error)}); set train.precision to float32"
        ) from error


def alone(encoder: Wrapped, reference: Reference) -> float:
    """How far a text alone is from the untouched model, without a prompt: all its tokens and the pooled vector."""
    return _short(encoder, reference, reference.hidden[reference.short], None)


def in_padded_batch(encoder: Wrapped, reference: Reference, prompt: Tensor | None = None) -> float:
    """How far two texts of different lengths in one batch are from each of them alone in the untouched model.

    Args:
        encoder: wrapped.
        reference: of its model.
        prompt: what stands for `token` before the short text and before the long one; None: no prompt.
    """
    texts = [reference.short, reference.long]
    found = _encode(encoder, texts, prompt)
    own = [reference.hidden[text] if prompt is None else reference.behind_token(text) for text in texts]
    return max(difference(made, each, encoder.pooling) for made, each in zip(found, own, strict=True))


def behind_token(encoder: Wrapped, reference: Reference, prompt: Tensor) -> float:
    """How far the short text behind a prompt is from itself behind `token` in the untouched model."""
    return _short(encoder, reference, reference.behind_token(reference.short), prompt)


def _short(encoder: Wrapped, reference: Reference, own: Tensor, prompt: Tensor | None) -> float:
    """How far the short text alone is from [T, H] `own`: all tokens, and the pooled vector where another path makes it."""
    off = difference(_encode(encoder, [reference.short], prompt, tokens=True)[0], own)
    if encoder.pooling == "cls":
        off = max(off, difference(_encode(encoder, [reference.short], prompt)[0], own, "cls"))
    return off


def token_prefix(encoder: Wrapped, reference: Reference) -> Tensor:
    """[2, L, 2, heads, 1, d] the keys and values of `token` where it stands before the short and before the long text.

    They hold what the token read of the text, so that the text behind them is exactly the text behind the token.
    """
    texts = [(reference.token, *text) for text in (reference.short, reference.long)]
    return torch.stack([encoder.keys_and_values(torch.tensor([text]))[:, :, :, :1] for text in texts])


def _is_read(encoder: Wrapped, reference: Reference, prefix: Tensor) -> bool:
    """Whether a prefix changes the vectors of a text."""
    found = _encode(encoder, [reference.short], prefix, tokens=True)[0]
    return difference(found, reference.hidden[reference.short]) > UNSEEN


def _as_each(encoder: Wrapped, reference: Reference, prefix: Tensor) -> float:
    """How far texts behind prefixes in a padded batch are from each alone, every token of which is computed."""
    texts = [reference.short, reference.long]
    each = [_encode(encoder, [text], prefix[k : k + 1], tokens=True)[0] for k, text in enumerate(texts)]
    found = _encode(encoder, texts, prefix)
    return max(difference(made, own, encoder.pooling) for made, own in zip(found, each, strict=True))


def _tells_nothing_else(encoder: Wrapped, reference: Reference) -> bool:
    """Whether a text is the same behind a token and at moved positions, until its first layer's attention.

    It is not where positions cannot be moved, or where embeddings read their neighbours: a prefix is then no token.
    """
    first = encoder.first_position
    moved = encoder.keys_and_values(torch.tensor([reference.short]), None if first is None else first + 1)
    behind = encoder.keys_and_values(torch.tensor([(reference.token, *reference.short)]))[:, :, :, 1:]
    return difference(moved[0].flatten(0, 2), behind[0].flatten(0, 2)) <= TOLERANCE


def _two_texts(encoder: Wrapped, reference: Reference) -> list[Text]:
    """Two texts, of different lengths where these may be in one batch."""
    return [reference.short, reference.long if encoder.takes_padding else reference.long[:3]]


def _padded(encoder: Wrapped, texts: Sequence[Text]) -> tuple[Tensor, Tensor]:
    """[n, T] ids of texts, padded with an ordinary token, and their lengths [n]."""
    longest = max(map(len, texts))
    rows = [(*text, *([texts[-1][0]] * (longest - len(text)))) for text in texts]
    return torch.tensor(rows, device=encoder.device), torch.tensor([len(t) for t in texts], device=encoder.device)


@torch.no_grad()
def _encode(encoder: Wrapped, texts: Sequence[Text], prompt: Prompts | None = None, *, tokens: bool = False) -> Tensor:
    """The encodings of texts, of which each has the prompt of its number, in one batch."""
    ids, lengths = _padded(encoder, texts)
    owner = torch.arange(len(texts), device=encoder.device)
    padded = any(len(text) < ids.shape[1] for text in texts)
    return encoder.encode(ids, torch.zeros_like(ids), lengths, prompt, owner, tokens=tokens, padded=padded)

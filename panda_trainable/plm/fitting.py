"""How a model counts positions and scales embeddings, found by what it computes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from panda_trainable.plm.reference import TOLERANCE, Reference, Text, difference, own_output, parameters_of


def position_ids(shape: tuple[int, int], first: int, device: torch.device) -> Tensor:
    """[n, T] positions that count from a number."""
    return (torch.arange(shape[1], device=device) + first).expand(shape[0], -1)


def fitted_positions(model: Any, reference: Reference) -> tuple[int | None, int | None]:
    """The id of the first position, as the untouched model counts, and how many tokens its position embeddings hold.

    Returns:
        The id; None: the model takes no position ids, or none from which it gives its own outputs. The number of tokens;
        None: no limit.
    """
    tables = [
        m
        for n, m in model.named_modules()
        if n.endswith(("position_embeddings", "embed_positions", "wpe"))
        and isinstance(getattr(m, "weight", None), Tensor)
    ]
    # RoBERTa's family counts positions from behind the padding id, BART's from an offset, others in a buffer.
    padding = getattr(tables[0], "padding_idx", None) if tables else None
    usual = getattr(tables[0], "offset", 0 if padding is None else padding + 1) if tables else 0
    buffers = [int(b.flatten()[0]) for n, b in model.named_buffers() if n.endswith("position_ids") and len(b)]
    first = _first_position(model, reference, [usual, *buffers, 0, 1, 2])
    before = getattr(tables[0], "offset", usual if first is None else first) if tables else 0
    return first, len(tables[0].weight) - before if tables else None


def _first_position(model: Any, reference: Reference, guesses: Sequence[int]) -> int | None:
    """The first of the guesses with which the model gives its own outputs; None: none does."""
    if "position_ids" not in parameters_of(model):
        return None
    shape, device = (1, len(reference.short)), next(model.parameters()).device
    for first in dict.fromkeys(guesses):
        try:
            found = own_output(model, reference.short, position_ids=position_ids(shape, first, device))
        except Exception:  # noqa: BLE001, S112  # ids beyond the table, or of another form than one per token
            continue
        if difference(found, reference.hidden[reference.short]) <= TOLERANCE:
            return first
    return None


def fitted_scale(model: Any, embeddings: Tensor, reference: Reference) -> float:
    """What a model multiplies token embeddings with before its first layer, where it is given ids and not embeddings.

    Both ways are run: the first input of a module in which they differ tells the scale, with which both must be the same.

    Args:
        model: untouched.
        embeddings: [3, E] of the short text, as `get_input_embeddings` gives them.
        reference: of the model.
    """
    inputs = {"input_ids": None, "inputs_embeds": embeddings[None]}
    try:
        if difference(own_output(model, reference.short, **inputs), reference.hidden[reference.short]) <= TOLERANCE:
            return 1.0
        by_ids = _module_inputs(model, reference.short, embeddings.shape)
        by_embeddings = _module_inputs(model, reference.short, embeddings.shape, **inputs)
    except Exception:  # noqa: BLE001  # whatever it is, the check of input prompts tells it
        return 1.0
    first = next((pair for pair in zip(by_ids, by_embeddings, strict=False) if not torch.allclose(*pair)), None)
    if first is None:
        return 1.0
    scale = float(1 + ((first[0] - first[1]) * embeddings).sum() / embeddings.square().sum())
    inputs["inputs_embeds"] = embeddings[None] * scale
    found = difference(own_output(model, reference.short, **inputs), reference.hidden[reference.short])
    return scale if found <= TOLERANCE else 1.0


def _module_inputs(model: Any, text: Text, shape: torch.Size, **changes: Any) -> list[Tensor]:
    """All inputs [T, E] of modules, in the order of calls."""
    seen: list[Tensor] = []

    def note(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        tensors = (x for x in (*given, *named.values()) if isinstance(x, Tensor) and x.shape == (1, *shape))
        seen.extend(x[0].float().clone() for x in tensors)

    modules = [module for module in model.modules() if module is not model]
    hooks = [module.register_forward_pre_hook(note, with_kwargs=True) for module in modules]
    try:
        own_output(model, text, **changes)
        return seen
    finally:
        for hook in hooks:
            hook.remove()

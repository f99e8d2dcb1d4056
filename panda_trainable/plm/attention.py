"""The attention that frozen PLMs call: prefixes before their keys and values, and a last layer for one row.

transformers lets one register an attention function by name. Ours counts its calls in a forward
pass (that is the layer), puts the prefix's keys and values of that layer before the model's own,
one set per replica, and calls the ordinary attention. No cache objects, no copied weights.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import bidirectional_mask_function

from panda_trainable.plm.places import Places
from panda_trainable.plm.single_query import single_query_attention

NAME = "panda-tune"


class Pass:
    """The state of one forward pass.

    Args:
        prefix: per layer the keys and values [n, heads, P, d] that stand before each row's own; None: none.
        row: the one position that is wanted of the last layer, or the positions [n, M] of each row; None: all.
        padded: whether a row may be shorter than others.
        places: where tokens stand, which makes the mask; None: one behind the other, as the model masks them.
    """

    def __init__(
        self, prefix: Sequence[tuple[Tensor, Tensor]] | None = None, row: int | Tensor | None = None,
        padded: bool = True, places: Places | None = None,
    ):  # fmt: skip
        self.prefix, self.row, self.padded, self.places = prefix, row, padded, places
        self.layer = 0
        self.at_last = False
        self.asked: tuple[Tensor, Tensor, nn.Linear, nn.Linear] | None = None
        self.answer: Any = None

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None,
        position_bias: Tensor | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        """Attention of the layer that is next, with the prefix before its keys and values."""
        if self.answer is not None:
            return self.answer
        options["is_causal"] = False  # SDPA assumes True where the module lacks the attribute
        before = self.prefix[self.layer] if self.prefix is not None else None
        self.layer += 1
        if self.at_last:
            query, mask, position_bias = self.of_row(query, 2), self.of_row(mask, 2), self.of_row(position_bias, 2)
        if self.asked is not None:
            scale = options.get("scaling") or query.shape[3] ** -0.5
            self.answer = single_query_attention(*self.asked, query.shape[1], scale, mask, before), None
            raise _RowAttended
        if before is not None:
            known = mask if self.places is not None and self.places.before else None  # it holds the prompt already
            rest = mask if known is None else None
            key, value, rest, position_bias = _with_prefix(before, key, value, rest, position_bias)
            mask = rest if known is None else known
        if self.places is not None and (mask is None or mask.shape[3] != key.shape[2]):
            raise ValueError("its layers are not masked through transformers' mask interface")
        if position_bias is not None:
            options["position_bias"] = position_bias
        answer = _fast(module, query, key, value, mask, **options)
        if self.at_last:
            self.answer = answer
            raise _RowAttended
        return answer

    def of_row(self, x: Any, dim: int) -> Any:
        """The wanted row of x along a dimension, or the wanted rows; one that all rows share stays."""
        if x is None or x.shape[dim] == 1 or self.row is None:
            return x
        return x.narrow(dim, self.row, 1) if isinstance(self.row, int) else rows_at(x, self.row, dim)

    def last(self, layer: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The last layer for one row: first as far as its attention, of all rows; then what follows, of the one."""
        self.at_last = True
        try:
            layer(x, *args, **kwargs)
        except _RowAttended:
            args, kwargs = self._beside(args, x.shape), self._beside(kwargs, x.shape)
            return layer(self.of_row(x, 1), *args, **kwargs)
        raise AssertionError("the last layer must call attention")

    def _beside(self, given: Any, shape: Sequence[int]) -> Any:
        """What a layer is given beside states of a shape [n, T, H], of the wanted rows where these differ.

        What has one row for each token, as cosines of positions, must fit the states; a mask plays no part any more.
        """
        if isinstance(given, dict):
            return {name: self._beside(value, shape) for name, value in given.items()}
        if isinstance(given, tuple):
            return tuple(self._beside(value, shape) for value in given)
        wanted = isinstance(given, Tensor) and isinstance(self.row, Tensor) and given.dim() > 1
        fits = wanted and given.shape[1] == shape[1] and given.shape[0] in (1, shape[0])
        return self.of_row(given, 1) if fits else given


class Prefill(Pass):
    """A pass that keeps the keys and values [n, 2, heads, T, d] of each layer, and ends with the last.

    Args:
        layers: calls of attention in a pass.
    """

    def __init__(self, layers: int):
        super().__init__()
        self.layers, self.made = layers, list[Tensor]()

    def attend(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Any:
        """The ordinary attention; keeps its keys and values."""
        self.made.append(torch.stack((key, value), 1))
        if len(self.made) == self.layers:
            raise LayersRead
        return super().attend(module, query, key, value, *args, **options)


running: ContextVar["Pass | None"] = ContextVar("running forward pass", default=None)
_attend = AttentionInterface()["sdpa"]
_mask = AttentionMaskInterface()["sdpa"]


class _RowAttended(Exception):
    """Ends the first visit to the last layer: what its attention answers for the wanted row is known."""


class LayersRead(Exception):
    """Ends a pass of which all keys and values are known."""


def rows_at(x: Tensor, at: Tensor, dim: int) -> Tensor:
    """A tensor [n or 1, …] with the rows [n, M] of each alone in a dimension."""
    x = x.expand(len(at), *x.shape[1:])
    index = at.view(len(at), *[1] * (dim - 1), at.shape[1], *[1] * (x.dim() - dim - 1))
    return x.gather(dim, index.expand(*x.shape[:dim], at.shape[1], *x.shape[dim + 1 :]))


def _fast(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any) -> Any:
    """The ordinary attention; on a CPU always of float32, since backward through bfloat16's takes six times as long."""
    lowered = query.dtype == torch.bfloat16 and query.device.type == "cpu"
    kind = torch.float32 if lowered else query.dtype
    if mask is not None and mask.is_floating_point():
        mask = mask.to(kind)
    if options.get("position_bias") is not None:  # autocast may have made it of another kind than the query
        options["position_bias"] = options["position_bias"].to(kind)
    if not lowered:
        return _attend(module, query, key, value, mask, **options)
    with torch.autocast("cpu", enabled=False):
        made, weights = _attend(module, query.float(), key.float(), value.float(), mask, **options)
    return made.to(query.dtype), weights


def _with_prefix(
    before: tuple[Tensor, Tensor], key: Tensor, value: Tensor, mask: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Keys, values, mask and bias with a prefix before them, which is never masked and has no bias."""
    keys, values = before
    room = (keys.shape[2], 0)
    if mask is not None:
        mask = pad(mask, room, value=True if mask.dtype == torch.bool else 0.0)
    if bias is not None:
        bias = pad(bias, room)
    return torch.cat((keys.to(key.dtype), key), 2), torch.cat((values.to(value.dtype), value), 2), mask, bias


def attention(module: nn.Module, *args: Any, **options: Any) -> Any:
    """What models call: the running pass's attention, or the ordinary one where no pass of ours runs."""
    here = running.get()
    return here.attend(module, *args, **options) if here else _attend(module, *args, **options)


def _padding_mask(*args: Any, mask_function: Any, attention_mask: Tensor | None = None, **options: Any) -> Any:
    """The mask of an encoder says only which keys are padding: one row serves all queries."""
    here = running.get()
    if here and here.places is not None:
        return here.places.mask(mask_function)
    if here:  # where there is a prefix, SDPA's own causal mask would be that of other keys
        options["allow_is_causal_skip"] = False
    if mask_function is not bidirectional_mask_function or attention_mask is None:
        return _mask(*args, mask_function=mask_function, attention_mask=attention_mask, **options)
    padded = here.padded if here else not attention_mask.all()  # the pass knows it without asking the device
    return attention_mask[:, None, None, :].bool() if padded else None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, _padding_mask)  # else transformers drops the padding mask in silence


@dataclass(frozen=True)
class Call:
    """What a model gave to a call of its attention: [1, heads, T, d] each."""

    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    plain: bool


class Probe(Pass):
    """A pass that keeps what attention is given, and what every linear layer makes of what."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.made: list[tuple[nn.Linear, Tensor, Tensor]] = []

    def attend(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Any:
        """The ordinary attention; records its arguments."""
        plain = options.get("position_bias") is None and len(args) < 2
        self.calls.append(Call(module, query, key, value, plain))
        return super().attend(module, query, key, value, *args, **options)

    def watch(self, model: nn.Module) -> list[Any]:
        """Hooks on the linear layers of a model, to be removed after the pass."""

        def note(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
            if type(module) is nn.Linear:
                self.made.append((module, given[0], made))

        return [module.register_forward_hook(note) for module in model.modules() if isinstance(module, nn.Linear)]

    def projections(self) -> tuple[nn.Linear, nn.Linear, nn.Linear] | None:
        """The layers that make the last call's query, key and value from one input, and nothing else does."""
        last = self.calls[-1]
        if not last.plain or last.query.shape != last.key.shape:
            return None
        found = []
        for wanted in (last.query, last.key, last.value):
            flat = wanted.transpose(1, 2).flatten(2)
            found.append([(m, x) for m, x, made in self.made if made.shape == flat.shape and torch.equal(made, flat)])
        if [len(same) for same in found] != [1, 1, 1] or len({id(same[0][1]) for same in found}) != 1:
            return None
        query, key, value = (same[0][0] for same in found)
        return query, key, value


def shorten(block: nn.Module, layers: int, projections: tuple[nn.Linear, nn.Linear, nn.Linear] | None) -> None:
    """Lets a model's last block answer for the wanted row alone.

    Args:
        block: the last block; its forward is replaced, and those of the projections.
        layers: calls of attention in a pass.
        projections: what makes its query, key and value, where they are plainly made; None: they are computed
            for all rows.
    """
    whole = block.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        here = running.get()
        wanted = here and here.row is not None and here.layer == layers - 1 and not here.at_last
        return here.last(whole, *args, **kwargs) if here and wanted else whole(*args, **kwargs)

    block.forward = forward
    if projections is not None:
        defer_projections(*projections)


def defer_projections(query: nn.Linear, key: nn.Linear, value: nn.Linear) -> None:
    """Lets three projections wait on the first visit to the last layer: `single_query_attention` does their work."""
    project = query.forward

    def asking(x: Tensor) -> Tensor:
        here = running.get()
        if here is None or not here.at_last or here.answer is not None:
            return project(x)
        here.asked = project(here.of_row(x, 1)), x, key, value
        return placeholder(x, query)

    def waiting(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
        forward = linear.forward

        def wait(x: Tensor) -> Tensor:
            here = running.get()
            return forward(x) if here is None or not here.at_last or here.answer is not None else placeholder(x, linear)

        return wait

    for linear, forward in ((query, asking), (key, waiting(key)), (value, waiting(value))):
        setattr(linear, "forward", forward)  # noqa: B010  # mypy takes methods for constants


def placeholder(x: Tensor, linear: nn.Linear) -> Tensor:
    """A placeholder of the shape that a projection makes; its values are never used."""
    return x.new_zeros(1).expand(*x.shape[:-1], linear.out_features)

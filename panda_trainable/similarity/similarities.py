"""SIMILARITIES: measures of predicted transferability, as functions of two tasks' representations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor


@dataclass(frozen=True)
class Similarity:
    """A similarity of two prompts, larger where better transfer is predicted.

    Attributes:
        measure: of two tensors.
        reads: what they are, a row of REPRESENTATIONS: `prompt` tokens [P, D], their `change` by training [P, D],
            task `embedding` [H], or pre-activations of `neurons` [L, F].
        low: the least value.
        high: the largest.
        symmetric: whether the order of the two does not matter.
        unit_self: whether it is 1 with itself.
        source: paper and name there.
    """

    measure: Callable[[Tensor, Tensor], float]
    reads: str
    low: float
    high: float
    symmetric: bool
    unit_self: bool
    source: str

    def __call__(self, a: Tensor, b: Tensor) -> float:
        """The similarity of two representations."""
        return self.measure(a, b)


def cosine(a: Tensor, b: Tensor) -> float:
    """Cosine of two vectors.

    Args:
        a: [H].
        b: [H].

    Returns:
        In [-1, 1]; 0 where one of them is zero.
    """
    return float((_unit(a) @ _unit(b)).clamp(-1, 1))


def _unit(x: Tensor) -> Tensor:
    """[…, D] the vectors at length 1, in float64; a zero vector stays zero."""
    x = x.double()
    length = x.norm(dim=-1, keepdim=True)
    return x / length.where(length > 0, 1)


def c_mean(a: Tensor, b: Tensor) -> float:
    """Cosine of the two prompts' mean tokens.

    Args:
        a: [P, D] one prompt.
        b: [Q, D] another.

    Returns:
        In [-1, 1]; symmetric; 1 with itself.

    Source: SPoT (arXiv:2110.07904), cosine similarity of average tokens.
    """
    return cosine(a.double().mean(0), b.double().mean(0))


def c_pair(a: Tensor, b: Tensor) -> float:
    """Mean cosine of all pairs of tokens, one of each prompt.

    Args:
        a: [P, D] one prompt.
        b: [Q, D] another.

    Returns:
        In [-1, 1]; symmetric; below 1 with itself unless all tokens point one way.

    Source: SPoT, per-token average cosine similarity (Su et al.'s C_average). Computed as the
    product of the mean unit tokens, which is the same.
    """
    return float((_unit(a).mean(0) @ _unit(b).mean(0)).clamp(-1, 1))


def c_concat(a: Tensor, b: Tensor) -> float:
    """Cosine of the two prompts, each flattened.

    Args:
        a: [P, D] one prompt.
        b: [P, D] another.

    Returns:
        In [-1, 1]; symmetric; 1 with itself.

    Raises:
        ValueError: if the shapes differ.

    Source: Su et al. (2022), C_concat.
    """
    _check_alike("c_concat", a, b)
    return cosine(a.flatten(), b.flatten())


def e_concat(a: Tensor, b: Tensor) -> float:
    """One over one plus the Euclidean distance of the two prompts, each flattened.

    Args:
        a: [P, D] one prompt.
        b: [P, D] another.

    Returns:
        In [0, 1]; symmetric; 1 with itself.

    Raises:
        ValueError: if the shapes differ.

    Source: Su et al. (2022), E_concat.
    """
    _check_alike("e_concat", a, b)
    return 1 / (1 + float((a.double() - b.double()).norm()))


def e_avg(a: Tensor, b: Tensor) -> float:
    """One over one plus the mean Euclidean distance of all pairs of tokens, one of each prompt.

    Args:
        a: [P, D] one prompt.
        b: [Q, D] another.

    Returns:
        In [0, 1]; symmetric; below 1 with itself unless all tokens are one.

    Source: Su et al. (2022), E_average.
    """
    # Distances by way of products lose the digits that near tokens differ in.
    distances = torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist")  # [P, Q]
    return 1 / (1 + float(distances.mean()))


def on(a: Tensor, b: Tensor) -> float:
    """Overlap of activated neurons: the cosine of which neurons, of all layers, are positive.

    Args:
        a: [L, F] one prompt's activations.
        b: [L, F] another's.

    Returns:
        In [0, 1]; symmetric; 1 with itself; 0 where one prompt activates none.

    Source: Su et al. (2022), ON.
    """
    return cosine((a > 0).flatten(), (b > 0).flatten())


def _check_alike(name: str, a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(
            f"{name} compares token with token and needs prompts of one shape, got {list(a.shape)} and {list(b.shape)}; "
            "train both with one prompt length, or use c_pair or e_avg"
        )


_SPOT, _SU = "SPoT (arXiv:2110.07904)", "Su et al. (2022)"
_CHANGE = "of what training changed: docs/deviations.md#change"

SIMILARITIES: Mapping[str, Similarity] = MappingProxyType(
    {
        "task_embedding": Similarity(cosine, "embedding", -1, 1, True, True, "PANDA (arXiv:2208.10160), its metric"),
        "c_mean": Similarity(c_mean, "prompt", -1, 1, True, True, f"{_SPOT}, average tokens"),
        "c_pair": Similarity(c_pair, "prompt", -1, 1, True, False, f"{_SPOT}, per-token average; {_SU}, C_average"),
        "c_concat": Similarity(c_concat, "prompt", -1, 1, True, True, f"{_SU}, C_concat"),
        "e_concat": Similarity(e_concat, "prompt", 0, 1, True, True, f"{_SU}, E_concat"),
        "e_avg": Similarity(e_avg, "prompt", 0, 1, True, False, f"{_SU}, E_average"),
        "on": Similarity(on, "neurons", 0, 1, True, True, f"{_SU}, ON"),
        # e_concat has no such row: a common start drops out of a difference of whole prompts.
        "c_mean_change": Similarity(c_mean, "change", -1, 1, True, True, f"{_SPOT}, average tokens, {_CHANGE}"),
        "c_concat_change": Similarity(c_concat, "change", -1, 1, True, True, f"{_SU}, C_concat, {_CHANGE}"),
        "e_avg_change": Similarity(e_avg, "change", 0, 1, True, False, f"{_SU}, E_average, {_CHANGE}"),
    }
)
"""Name -> similarity."""

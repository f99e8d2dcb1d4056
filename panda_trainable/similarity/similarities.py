"""SIMILARITIES: measures of predicted transferability, as functions of what is read of a source and a target."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from panda_trainable.config.given import GivenPrompt
from panda_trainable.config.kinds import KINDS
from panda_trainable.config.task import AnySource
from panda_trainable.similarity.scores import label_entropy, leep, logme, source_size

OF_PROMPTS = ("prompt", "neurons", "features")
"""What similarities read of a source that needs its prompt alone: no row that it was trained on, no start, no head."""


@dataclass(frozen=True)
class Similarity:
    """A similarity of source and target, larger where better transfer is predicted.

    Attributes:
        measure: of tensors.
        reads: what they are, a row of READINGS: of both, `prompt` tokens [P, D], their `change` by training [P, D], task
            `embedding` [H], or pre-activations of `neurons` [L, F]; of the target's rows behind the source's prompt,
            `features` [N, H] or `answers` [N, Z], and labels [N]; of the source alone, `sizes` [T] or `labels` [T, C].
        low: the least value.
        high: the largest.
        symmetric: whether the order of the two does not matter.
        unit_self: whether it is 1 with itself.
        source: paper and name there.
        of_sources: the kinds of source tasks that it is defined for.
        of_targets: the kinds of target tasks.
        of_mixtures: whether it is defined for mixtures, which have a head for each task.
        source_only: whether it knows nothing of the target: a trivial baseline.
    """

    measure: Callable[..., float]
    reads: str
    low: float
    high: float
    symmetric: bool
    unit_self: bool
    source: str
    of_sources: tuple[str, ...] = KINDS
    of_targets: tuple[str, ...] = KINDS
    of_mixtures: bool = True
    source_only: bool = False

    def __call__(self, *read: Tensor) -> float:
        """The similarity of what was read."""
        return self.measure(*read)

    def misfit(self, source: AnySource, target: AnySource) -> str:
        """Why it is not defined for a pair of tasks; empty where it is."""
        if isinstance(source, GivenPrompt) and self.reads not in OF_PROMPTS:
            return f"it reads more than a prompt, and of {source.name} a prompt alone was imported"
        for role, task, kinds in (("source", source, self.of_sources), ("target", target, self.of_targets)):
            others = [each for each in task.tasks if each.kind not in kinds]
            if others:
                return f"it is defined for a {role} that is a {' or '.join(kinds)}, and {others[0].name} is a {others[0].kind}"
        if not self.of_mixtures and len(source.tasks) > 1:
            return f"it reads the head of one source task, and {source.name} has {len(source.tasks)}"
        return ""


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
        "logme": Similarity(
            logme, "features", -math.inf, math.inf, False, False, "LogME (arXiv:2102.11005)",
            of_targets=("classification", "regression"),
        ),
        "leep": Similarity(
            leep, "answers", -math.inf, 0, False, False, "LEEP (arXiv:2002.12462)",
            of_sources=("classification",), of_targets=("classification",), of_mixtures=False,
        ),
        "source_size": Similarity(
            source_size, "sizes", 0, math.inf, False, False, "a baseline: log of the source's train rows", source_only=True
        ),
        "label_entropy": Similarity(
            label_entropy, "labels", 0, math.inf, False, False, "a baseline: entropy of the source's labels",
            of_sources=("classification", "tagging"), source_only=True,
        ),
    }
)  # fmt: skip
"""Name -> similarity."""

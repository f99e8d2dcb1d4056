"""Predicted transferability of two tasks: the SIMILARITIES of what their prompts are or do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from panda_trainable.answers import encoded
from panda_trainable.config import Measuring, Plm, content, content_key
from panda_trainable.encoder import load_encoder
from panda_trainable.library import PromptLibrary
from panda_trainable.neurons import READ_ROWS as EMBEDDED_ROWS
from panda_trainable.neurons import USUAL, activations, mean_over_tasks
from panda_trainable.plm import checked_folder
from panda_trainable.prompts import tokens_of
from panda_trainable.session import device
from panda_trainable.teachers import Lineage, tuned_prompts
from panda_trainable.tokens import TokenTable


@dataclass(frozen=True)
class Similarity:
    """A similarity of two prompts, larger where better transfer is predicted.

    Attributes:
        measure: of two tensors.
        reads: what they are, a row of REPRESENTATIONS: `prompt` tokens [P, D], task `embedding` [H], or
            pre-activations of `neurons` [L, F].
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

SIMILARITIES: Mapping[str, Similarity] = MappingProxyType(
    {
        "task_embedding": Similarity(cosine, "embedding", -1, 1, True, True, "PANDA (arXiv:2208.10160), its metric"),
        "c_mean": Similarity(c_mean, "prompt", -1, 1, True, True, f"{_SPOT}, average tokens"),
        "c_pair": Similarity(c_pair, "prompt", -1, 1, True, False, f"{_SPOT}, per-token average; {_SU}, C_average"),
        "c_concat": Similarity(c_concat, "prompt", -1, 1, True, True, f"{_SU}, C_concat"),
        "e_concat": Similarity(e_concat, "prompt", 0, 1, True, True, f"{_SU}, E_concat"),
        "e_avg": Similarity(e_avg, "prompt", 0, 1, True, False, f"{_SU}, E_average"),
        "on": Similarity(on, "neurons", 0, 1, True, True, f"{_SU}, ON"),
    }
)
"""Name -> similarity."""


def embedding_key(lineage: Lineage, seed: int, measuring: Measuring = USUAL) -> str:
    """The content key of one seed's task embedding."""
    asked = _asked(measuring)
    return content_key("embeddings", lineage, seed, EMBEDDED_ROWS, *([asked] if asked else []))


def _asked(measuring: Measuring) -> dict[str, Any]:
    """What of it decides an embedding and is not as usual."""
    asked: dict[str, Any] = content(Measuring(pooling=measuring.pooling, layer=measuring.layer))
    return asked


def task_embedding(library: PromptLibrary, lineage: Lineage, seed: int, measuring: Measuring = USUAL) -> np.ndarray:
    """[H] the mean encoding of a task's own train rows under its own prompt; of a mixture, by its tasks' shares.

    Args:
        library: where it is kept, and where prompts come from.
        lineage: of the prompt.
        seed: of the prompt.
        measuring: `pooling` (`head`: as heads read) and `layer`: its states, as they would be were it the last.

    Raises:
        ValueError: if the PLM has no such layer.

    Source: PANDA (arXiv:2208.10160), its shared semantic space of tasks.
    Deviation: docs/deviations.md#task-embedding.
    """
    folder = library.get_or_make(
        "embeddings",
        embedding_key(lineage, seed, measuring),
        lambda draft: _embed(draft, library, lineage, seed, measuring),
        {"task": lineage.task.name, "plm": lineage.setting.plm.label, "seed": seed, "steps": lineage.steps,
         **_asked(measuring)},
    )  # fmt: skip
    embedding: np.ndarray = np.load(folder / "embedding.npy")
    return embedding


def check_layer(plm: Plm, layer: int | None) -> None:
    """Refuses to embed tasks by a layer that the PLM does not have.

    Args:
        plm: the PLM.
        layer: from 1; None: the last.

    Raises:
        ValueError: with the layers that there are.
    """
    from transformers import AutoConfig

    if layer is None:
        return
    layers = plm.layers or AutoConfig.from_pretrained(checked_folder(plm), trust_remote_code=False).num_hidden_layers
    if not 1 <= layer <= layers:
        raise ValueError(f"the layer of task embeddings must be 1 to {layers} of {plm.label}, got {layer}")


def _read_as(plm: Plm, measuring: Measuring) -> Plm:
    """The PLM cut to the layer, and read with the pooling, of task embeddings.

    Raises:
        ValueError: if it has no such layer.
    """
    check_layer(plm, measuring.layer)
    pooling = plm.pooling if measuring.pooling == "head" else measuring.pooling
    return replace(plm, pooling=pooling, layers=plm.layers if measuring.layer is None else measuring.layer)


def _embed(draft: Path, library: PromptLibrary, lineage: Lineage, seed: int, measuring: Measuring) -> None:
    plm = _read_as(lineage.setting.plm, measuring)
    prompt = tuned_prompts(library, lineage, [seed])[0].prompt
    encoder = load_encoder(plm, device(), lineage.setting.precision)
    front = (prompt if prompt.dim() == 2 else prompt[: encoder.layers])[None].to(encoder.device)

    @torch.inference_mode()
    def read(table: TokenTable, sequences: Tensor) -> Tensor:
        return encoded(encoder, table, front, sequences, torch.zeros_like(sequences)).double().mean(0)

    embedding = mean_over_tasks(library, lineage, seed, read)
    np.save(draft / "embedding.npy", embedding.cpu().numpy(), allow_pickle=False)


def _prompt(library: PromptLibrary, lineage: Lineage, seed: int, _measuring: Measuring) -> Tensor:
    return tokens_of(tuned_prompts(library, lineage, [seed])[0].prompt)


def _embedding(library: PromptLibrary, lineage: Lineage, seed: int, measuring: Measuring) -> Tensor:
    return torch.from_numpy(task_embedding(library, lineage, seed, measuring))


REPRESENTATIONS: Mapping[str, Callable[[PromptLibrary, Lineage, int, Measuring], Tensor]] = MappingProxyType(
    {"prompt": _prompt, "embedding": _embedding, "neurons": activations}
)
"""What a similarity reads -> function of library, lineage, seed and measuring."""


def mean_similarities(
    library: PromptLibrary, names: Sequence[str], source: Lineage, target: Lineage, seeds: Sequence[int],
    measuring: Measuring = USUAL,
) -> dict[str, float]:  # fmt: skip
    """Name -> similarity of a pair, mean over seeds: replica i of the source with replica i of the target.

    Source: SPoT averages over three runs of the target.
    """
    found = seed_similarities(library, names, source, target, seeds, measuring)
    return {name: float(np.mean(values)) for name, values in found.items()}


def seed_similarities(
    library: PromptLibrary, names: Sequence[str], source: Lineage, target: Lineage, seeds: Sequence[int],
    measuring: Measuring = USUAL,
) -> dict[str, list[float]]:  # fmt: skip
    """Name -> similarity of a pair, one per seed."""
    rows = {name: SIMILARITIES[name] for name in names}
    found: dict[str, list[float]] = {name: [] for name in names}
    for seed in seeds:
        read = {
            kind: [REPRESENTATIONS[kind](library, lineage, seed, measuring) for lineage in (source, target)]
            for kind in dict.fromkeys(row.reads for row in rows.values())
        }
        for name, row in rows.items():
            found[name].append(row(*read[row.reads]))
    return found

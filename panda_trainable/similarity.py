"""Predicted transferability of two tasks: task embeddings, and the SIMILARITIES table."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from panda_trainable.config import content_key
from panda_trainable.data import replica_rows
from panda_trainable.encoder import load_encoder
from panda_trainable.library import PromptLibrary
from panda_trainable.prompts import tokens_of
from panda_trainable.session import device, encoded
from panda_trainable.teachers import Lineage, tuned_prompts
from panda_trainable.tokens import capped, token_table

EMBEDDED_ROWS = 1000
"""Train rows of a task that its embedding averages, at most."""

Similarity = Callable[[PromptLibrary, Lineage, Lineage, int], float]


def c_mean(a: Tensor, b: Tensor) -> float:
    """Cosine of the two prompts' mean tokens.

    Args:
        a: [P, D] one prompt.
        b: [Q, D] another.

    Returns:
        In [-1, 1]; symmetric; 1 with itself.

    Source: SPoT (arXiv:2110.07904), cosine similarity of average tokens.
    """
    return float(cosine_similarity(a.mean(0), b.mean(0), dim=0))


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
    return float(normalize(a, dim=1).mean(0) @ normalize(b, dim=1).mean(0))


def embedding_key(lineage: Lineage, seed: int) -> str:
    """The content key of one seed's task embedding."""
    return content_key("embeddings", lineage, seed, EMBEDDED_ROWS)


def task_embedding(library: PromptLibrary, lineage: Lineage, seed: int) -> np.ndarray:
    """[H] the mean encoding of a task's own train rows under its own prompt, as its head reads them.

    Source: PANDA (arXiv:2208.10160), its shared semantic space of tasks.
    Deviation: docs/deviations.md#task-embedding.
    """
    folder = library.get_or_make(
        "embeddings",
        embedding_key(lineage, seed),
        lambda draft: _embed(draft, library, lineage, seed),
        {"task": lineage.task.name, "plm": lineage.setting.plm.label, "seed": seed, "steps": lineage.steps},
    )
    embedding: np.ndarray = np.load(folder / "embedding.npy")
    return embedding


def _embed(draft: Path, library: PromptLibrary, lineage: Lineage, seed: int) -> None:
    prompt = tuned_prompts(library, lineage, [seed])[0].prompt
    table = token_table(library, lineage.setting, lineage.task, "train")
    # A few-shot task is known by the rows of its draw alone.
    few = replica_rows(library, lineage.setting, lineage.task, seed).train if lineage.setting.shots else None
    rows = capped(np.arange(len(table)), EMBEDDED_ROWS) if few is None else few
    sequences = torch.from_numpy((rows[:, None] * table.sequences + np.arange(table.sequences)).ravel())
    encoder = load_encoder(lineage.setting.plm, device(), lineage.setting.precision)
    with torch.inference_mode():
        owner = torch.zeros_like(sequences)
        pooled = encoded(encoder, table, prompt[None].to(encoder.device), sequences, owner)
    np.save(draft / "embedding.npy", pooled.double().mean(0).cpu().numpy(), allow_pickle=False)


def _of_embeddings(library: PromptLibrary, a: Lineage, b: Lineage, seed: int) -> float:
    x, y = (task_embedding(library, lineage, seed) for lineage in (a, b))
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


def _of_prompts(measure: Callable[[Tensor, Tensor], float]) -> Similarity:
    def similarity(library: PromptLibrary, a: Lineage, b: Lineage, seed: int) -> float:
        x, y = (tokens_of(tuned_prompts(library, lineage, [seed])[0].prompt) for lineage in (a, b))
        return measure(x, y)

    return similarity


SIMILARITIES: Mapping[str, Similarity] = MappingProxyType(
    {"task_embedding": _of_embeddings, "c_mean": _of_prompts(c_mean), "c_pair": _of_prompts(c_pair)}
)
"""Name -> function of library, source, target and seed; in [-1, 1], larger predicts better transfer."""


def mean_similarities(
    library: PromptLibrary, names: Sequence[str], source: Lineage, target: Lineage, seeds: Sequence[int]
) -> dict[str, float]:
    """Name -> similarity of a pair, mean over seeds: replica i of the source with replica i of the target.

    Source: SPoT averages over three runs of the target.
    """
    return {
        name: float(np.mean([SIMILARITIES[name](library, source, target, seed) for seed in seeds])) for name in names
    }

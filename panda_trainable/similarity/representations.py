"""What similarities compare: soft prompts, what training changed of them, task embeddings and neuron activations."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from panda_trainable.config.keys import content, content_key
from panda_trainable.config.setting import Plm, SimilaritySettings
from panda_trainable.data.tokens import TokenTable
from panda_trainable.library import PromptLibrary
from panda_trainable.pretrained.files import checked_folder
from panda_trainable.prompt.soft_prompt import tokens_of
from panda_trainable.similarity.neurons import READ_ROWS as EMBEDDED_ROWS
from panda_trainable.similarity.neurons import USUAL, activations, mean_over_tasks
from panda_trainable.training.forward import encoded
from panda_trainable.transfer.lineage import Lineage, starting_prompts, tuned_prompts
from panda_trainable.worker import device, load_encoder


def embedding_key(lineage: Lineage, seed: int, similarity_settings: SimilaritySettings = USUAL) -> str:
    """The content key of one seed's task embedding."""
    asked = _asked(similarity_settings)
    return content_key("embeddings", lineage, seed, EMBEDDED_ROWS, *([asked] if asked else []))


def _asked(similarity_settings: SimilaritySettings) -> dict[str, Any]:
    """What of it decides an embedding and is not as usual."""
    asked: dict[str, Any] = content(similarity_settings.embedding)
    return asked


def task_embedding(
    library: PromptLibrary, lineage: Lineage, seed: int, similarity_settings: SimilaritySettings = USUAL
) -> np.ndarray:
    """[H] the mean encoding of a task's own train rows under its own prompt; of a mixture, by its tasks' shares.

    Args:
        library: where it is kept, and where prompts come from.
        lineage: of the prompt.
        seed: of the prompt.
        similarity_settings: `pooling` (`head`: as heads read) and `layer`: its states, as they would be were it the last.

    Raises:
        ValueError: if the PLM has no such layer.

    Source: PANDA (arXiv:2208.10160), its shared semantic space of tasks.
    Deviation: docs/deviations.md#task-embedding.
    """
    folder = library.get_or_make(
        "embeddings",
        embedding_key(lineage, seed, similarity_settings),
        lambda draft: _embed(draft, library, lineage, seed, similarity_settings),
        {"task": lineage.task.name, "plm": lineage.setting.plm.label, "seed": seed, "steps": lineage.steps,
         **_asked(similarity_settings)},
    )  # fmt: skip
    embedding: np.ndarray = np.load(folder / "embedding.npy")
    return embedding


def check_layer(plm: Plm, layer: int | None) -> None:
    """Checks that the PLM has the layer that task embeddings use.

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


def _read_as(plm: Plm, similarity_settings: SimilaritySettings) -> Plm:
    """The PLM cut to the layer, and read with the pooling, of task embeddings.

    Raises:
        ValueError: if it has no such layer.
    """
    check_layer(plm, similarity_settings.embedding.layer)
    asked = similarity_settings.embedding
    pooling = plm.pooling if asked.pooling == "head" else asked.pooling
    return replace(plm, pooling=pooling, layers=plm.layers if asked.layer is None else asked.layer)


def _embed(
    draft: Path, library: PromptLibrary, lineage: Lineage, seed: int, similarity_settings: SimilaritySettings
) -> None:
    plm = _read_as(lineage.setting.plm, similarity_settings)
    prompt = tuned_prompts(library, lineage, [seed])[0].prompt
    encoder = load_encoder(plm, device(), lineage.setting.train.precision)
    front = (prompt if prompt.dim() == 2 else prompt[: encoder.layers])[None].to(encoder.device)

    @torch.inference_mode()
    def read(table: TokenTable, sequences: Tensor) -> Tensor:
        return encoded(encoder, table, encoder.in_front(front), sequences, torch.zeros_like(sequences)).double().mean(0)

    embedding = mean_over_tasks(library, lineage, seed, read)
    np.save(draft / "embedding.npy", embedding.cpu().numpy(), allow_pickle=False)


def _prompt(library: PromptLibrary, lineage: Lineage, seed: int, _measuring: SimilaritySettings) -> Tensor:
    return tokens_of(tuned_prompts(library, lineage, [seed])[0].prompt)


def change_key(lineage: Lineage, seed: int, _measuring: SimilaritySettings = USUAL) -> str:
    """The content key of what training changed of one seed's prompt."""
    return content_key("changes", lineage, seed)


def change(library: PromptLibrary, lineage: Lineage, seed: int, measuring: SimilaritySettings = USUAL) -> Tensor:
    """[P, D] what training changed: a prompt's tokens less those it started with, in float32.

    All prompts of a seed start as one, so that the prompts themselves are alike before anything is learnt.

    Args:
        library: where it is kept, and where prompts come from.
        lineage: of the prompt.
        seed: of the prompt.
        measuring: is not read.

    Deviation: docs/deviations.md#change.
    """
    folder = library.get_or_make(
        "changes",
        change_key(lineage, seed, measuring),
        lambda draft: _subtract(draft, library, lineage, seed),
        {"task": lineage.task.name, "plm": lineage.setting.plm.label, "seed": seed, "steps": lineage.steps},
    )
    return torch.from_numpy(np.load(folder / "change.npy"))


def _subtract(draft: Path, library: PromptLibrary, lineage: Lineage, seed: int) -> None:
    tuned, start = tuned_prompts(library, lineage, [seed])[0].prompt, starting_prompts(library, lineage, [seed])[0]
    np.save(draft / "change.npy", tokens_of(tuned - start.cpu()).numpy(), allow_pickle=False)


def common_start(source: Lineage, target: Lineage) -> bool:
    """Whether the prompts of a seed start as one, so that what training changed of them can be compared."""
    return _start_of(source) == _start_of(target)


def _start_of(lineage: Lineage) -> tuple[Any, ...]:
    """What decides the start of a seed's prompt: `labels` alone looks at the task, and an MLP starts where it is told."""
    setting, prompt = lineage.setting, lineage.setting.prompt
    classes = lineage.task.classes if prompt.init.kind == "labels" else ()
    start = prompt.form, prompt.length, prompt.init.as_read, setting.init_file
    return setting.plm, start, classes, lineage.start


def _embedding(library: PromptLibrary, lineage: Lineage, seed: int, similarity_settings: SimilaritySettings) -> Tensor:
    return torch.from_numpy(task_embedding(library, lineage, seed, similarity_settings))


REPRESENTATIONS: Mapping[str, Callable[[PromptLibrary, Lineage, int, SimilaritySettings], Tensor]] = MappingProxyType(
    {"prompt": _prompt, "change": change, "embedding": _embedding, "neurons": activations}
)
"""What a similarity reads -> function of library, lineage, seed and similarity_settings."""

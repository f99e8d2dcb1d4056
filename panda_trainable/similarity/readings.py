"""READINGS: how the similarities of a pair are measured, and where they are not defined."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal

import numpy as np

from panda_trainable.config.given import GivenPrompt
from panda_trainable.config.setting import SimilaritySettings
from panda_trainable.library import PromptLibrary
from panda_trainable.similarity.neurons import USUAL
from panda_trainable.similarity.representations import REPRESENTATIONS, common_start
from panda_trainable.similarity.similarities import SIMILARITIES
from panda_trainable.similarity.source_rows import source_rows
from panda_trainable.similarity.target_rows import READ_OF_ROWS, pair_scores
from panda_trainable.transfer.lineage import Lineage

Values = Callable[[PromptLibrary, Sequence[str], Lineage, Lineage, int, SimilaritySettings], dict[str, float]]


@dataclass(frozen=True)
class Reading:
    """How similarities that read the same are measured.

    Attributes:
        values: of library, names of similarities, source, target, seed and settings: name -> value.
        undefined: of source, target and settings: why there is no value; empty where there is one.
    """

    values: Values
    undefined: Callable[[Lineage, Lineage, SimilaritySettings], str] = lambda *_: ""


def _compared(
    kind: str, library: PromptLibrary, names: Sequence[str], source: Lineage, target: Lineage, seed: int,
    similarity_settings: SimilaritySettings,
) -> dict[str, float]:  # fmt: skip
    """Of two representations of the same kind."""
    read = [REPRESENTATIONS[kind](library, lineage, seed, similarity_settings) for lineage in (source, target)]
    return {name: SIMILARITIES[name](*read) for name in names}


def _other_starts(source: Lineage, target: Lineage, _: SimilaritySettings) -> str:
    if common_start(source, target):
        return ""
    kinds = dict.fromkeys(lineage.setting.prompt.init.kind for lineage in (source, target))
    return (
        f"their prompts do not start as one (prompt.init {', '.join(kinds)}), so that what training changed of them "
        "cannot be compared"
    )


def _no_rows(source: Lineage, _target: Lineage, similarity_settings: SimilaritySettings) -> str:
    if similarity_settings.neurons.inputs == "real" and isinstance(source.task, GivenPrompt):
        return f"it reads rows, and of {source.task.name} a prompt alone was imported; neurons.inputs: dummy needs none"
    return ""


def _scored(
    library: PromptLibrary, names: Sequence[str], source: Lineage, target: Lineage, seed: int, _: SimilaritySettings
) -> dict[str, float]:
    """Of the target's rows behind the source's prompt."""
    found = pair_scores(library, source, target, seed)
    return {name: found[name] for name in names}


def _of_source(
    part: Literal["sizes", "labels"], library: PromptLibrary, names: Sequence[str], source: Lineage, _target: Lineage, seed: int,
    _settings: SimilaritySettings,
) -> dict[str, float]:  # fmt: skip
    """Of the source's rows alone; nothing of imported prompts that came without their counts."""
    rows = source_rows(library, source, seed)
    return {name: SIMILARITIES[name](getattr(rows, part)) for name in names} if rows else {}


READINGS: Mapping[str, Reading] = MappingProxyType(
    {
        **{kind: Reading(partial(_compared, kind)) for kind in REPRESENTATIONS},
        "change": Reading(partial(_compared, "change"), _other_starts),
        "neurons": Reading(partial(_compared, "neurons"), _no_rows),
        **dict.fromkeys(READ_OF_ROWS, Reading(_scored)),
        "sizes": Reading(partial(_of_source, "sizes")),
        "labels": Reading(partial(_of_source, "labels")),
    }
)
"""What a similarity reads -> how it is measured."""


def undefined(name: str, source: Lineage, target: Lineage, similarity_settings: SimilaritySettings = USUAL) -> str:
    """Why a pair has no value of a similarity; empty where it has one."""
    row = SIMILARITIES[name]
    return row.misfit(source.task, target.task) or READINGS[row.reads].undefined(source, target, similarity_settings)


def mean_similarities(
    library: PromptLibrary, names: Sequence[str], source: Lineage, target: Lineage, seeds: Sequence[int],
    similarity_settings: SimilaritySettings = USUAL,
) -> dict[str, float]:  # fmt: skip
    """Name -> similarity of a pair, mean over seeds: replica i of the source with replica i of the target.

    Those that are not defined for the pair are left out.

    Source: SPoT averages over three runs of the target.
    """
    found = seed_similarities(library, names, source, target, seeds, similarity_settings)
    return {name: float(np.mean(values)) for name, values in found.items()}


def seed_similarities(
    library: PromptLibrary, names: Sequence[str], source: Lineage, target: Lineage, seeds: Sequence[int],
    similarity_settings: SimilaritySettings = USUAL,
) -> dict[str, list[float]]:  # fmt: skip
    """Name -> similarity of a pair, one per seed; without those that are not defined for it."""
    found: dict[str, list[float]] = {
        name: [] for name in names if not undefined(name, source, target, similarity_settings)
    }
    by_reading: dict[str, list[str]] = {}
    for name in found:
        by_reading.setdefault(SIMILARITIES[name].reads, []).append(name)
    for seed in seeds:
        for reads, own in by_reading.items():
            values = READINGS[reads].values(library, own, source, target, seed, similarity_settings)
            for name, value in values.items():
                found[name].append(value)
    return {name: values for name, values in found.items() if values}

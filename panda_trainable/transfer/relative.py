"""Prompts of another PLM in relative space: similarities to words that both PLMs know, for which this PLM's prompt is searched."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from panda_trainable.config.keys import content_key
from panda_trainable.config.setting import Setting
from panda_trainable.config.trial import Relative, TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.prompt.sources import trained_on
from panda_trainable.training.student import encoder_of
from panda_trainable.training.trainer import adamw
from panda_trainable.transfer.lineage import FILE, Lineage, tuned_prompts
from panda_trainable.transfer.shared_words import shared_words

ANCHOR_SEED = 0
"""Of the draw of anchors: they are the same for all tasks, seeds and trials of two PLMs."""


def relation(vectors: Tensor, anchors: Tensor) -> Tensor:
    """[…, A] cosines of vectors […, E] with anchors [A, E].

    Source: Moschella et al., relative representations (arXiv:2209.15430), equation 2.
    """
    return normalize(vectors, dim=-1) @ normalize(anchors, dim=-1).T


def searched(wanted: Tensor, anchors: Tensor, seeds: Sequence[int], how: Relative) -> Tensor:
    """[K, P, E] the prompts whose cosines with anchors are most like those that are wanted.

    Their mean and deviation over all entries are those of the anchors, so that they look like words.

    Args:
        wanted: [K, P, A] cosines of the other PLM's prompts with its anchors.
        anchors: [A, E] the same words on this PLM.
        seeds: [K] of the start of the search.
        how: its steps and rate.

    Source: Wu et al. (arXiv:2310.01691), section 3.2: Adam on 1 − cos of both relative representations.
    Deviation: the last state, and no row of a task; docs/deviations.md#relative.
    """
    mean, deviation = anchors.mean(), anchors.std()
    shape = wanted.shape[1], anchors.shape[1]
    found = trained_on(anchors.device, {"found": torch.stack([_drawn(shape, seed) for seed in seeds])})["found"]
    optimiser = adamw([found], how.learning_rate)

    def placed() -> Tensor:
        spread = found.std((1, 2), keepdim=True)
        return (found - found.mean((1, 2), keepdim=True)) / spread * deviation + mean

    for _ in range(how.steps):
        apart = 1 - cosine_similarity(relation(placed(), anchors), wanted, dim=-1)  # [K, P]
        apart.mean(1).sum().backward()
        optimiser.step()
        optimiser.zero_grad()
    return placed().detach()


def _drawn(shape: tuple[int, int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 5_000_011)
    return torch.empty(shape).normal_(0, (2 / sum(shape)) ** 0.5, generator=generator)  # Xavier's


def anchor_ids(words: Sequence[tuple[int, int]], count: int) -> Tensor:
    """[A, 2] ids of at most `count` of the shared words, drawn once and for all."""
    generator = torch.Generator().manual_seed(ANCHOR_SEED)
    return torch.tensor(words)[torch.randperm(len(words), generator=generator)[:count]]


def moved_lineage(config: TrialConfig) -> Lineage:
    """The target's own prompt on the PLM that it is moved from."""
    how = _relative(config)
    setting = replace(config.setting, plm=how.plm)
    return Lineage.of_target(setting, config.target.on(how.plm), config.source_steps, config.source_learning_rate)


def relative_prompts(library: PromptLibrary, config: TrialConfig) -> Tensor:
    """[K, P, E] the target's prompts on the other PLM, as this PLM's prompts of the same relative representation.

    Nothing is trained for it but the target's prompt there.

    Source: Wu et al. (arXiv:2310.01691).
    """
    keys = [relative_key(config, seed) for seed in config.seeds]
    if not all(library.sound("projectors", key) for key in keys):
        with library.lock(f"relative-{keys[0]}"):
            gone = [i for i, key in enumerate(keys) if not library.sound("projectors", key)]
            if gone:
                _make(library, config, [config.seeds[i] for i in gone], [keys[i] for i in gone])
    return torch.stack([load_file(library.get("projectors", key) / FILE)["prompt"] for key in keys])


def relative_key(config: TrialConfig, seed: int) -> str:
    """The content key of one seed's moved prompt."""
    return content_key("projectors", config.setting.plm, moved_lineage(config), config.relative, seed)


def _make(library: PromptLibrary, config: TrialConfig, seeds: Sequence[int], keys: Sequence[str]) -> None:
    how, lineage = _relative(config), moved_lineage(config)
    given = torch.stack([prompt.prompt for prompt in tuned_prompts(library, lineage, seeds)])  # [K, P, E there]
    ids = anchor_ids(shared_words(how.plm, config.setting.plm), how.anchors)
    there = _words(lineage.setting, ids[:, 0])
    wanted = relation(given.to(there.device), there)
    anchors = _words(config.setting, ids[:, 1])
    found = searched(wanted.to(anchors.device), anchors, seeds, how).cpu()
    for prompt, seed, key in zip(found, seeds, keys, strict=True):
        card = {
            "task": config.target.name, "from": how.plm.label, "plm": config.setting.plm.label, "seed": seed,
            "form": "relative", "objective": f"{len(ids)} anchors",
        }  # fmt: skip
        library.put("projectors", key, partial(_save, prompt.contiguous()), card)


@torch.no_grad()
def _words(setting: Setting, ids: Tensor) -> Tensor:
    """[A, E] the embeddings of words, as a PLM's first layer reads them."""
    encoder = encoder_of(setting)
    return encoder.embed(ids.to(encoder.device)).float()


def _relative(config: TrialConfig) -> Relative:
    assert config.relative is not None, "a method that moves prompts in relative space says how"
    return config.relative


def _save(prompt: Tensor, draft: Path) -> None:
    save_file({"prompt": prompt}, draft / FILE)

"""Activated neurons: what a prompt activates in its PLM's feed-forward layers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from panda_trainable.config.keys import content, content_key
from panda_trainable.config.setting import NeuronSettings, SimilaritySettings
from panda_trainable.config.task import MIXING_CAP, Mixture
from panda_trainable.data.limits import capped
from panda_trainable.data.splits import mixing_size, replica_rows
from panda_trainable.data.tokens import TokenTable, token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.plm.attention import running
from panda_trainable.plm.encoder import PROBE, FrozenEncoder
from panda_trainable.pretrained.files import load_tokenizer
from panda_trainable.training.forward import encoded
from panda_trainable.transfer.lineage import Lineage, tuned_prompts
from panda_trainable.worker import device, load_encoder

READ_ROWS = 1000
"""Train rows by which a task is known, at most."""

WIDTHS = ("intermediate_size", "encoder_ffn_dim", "ffn_dim", "d_ff", "hidden_dim")
"""What configurations call F, the neurons of a feed-forward layer."""

USUAL = SimilaritySettings()

Watch = Callable[[int, Tensor], Tensor | None]
"""Sees the pre-activations [n, T, F] of the call with that number, from 0; what it returns takes their place."""


def check_neurons(encoder: FrozenEncoder, window: tuple[int, ...] | None = None) -> None:
    """Refuses a PLM whose activated neurons cannot be read.

    Args:
        encoder: of the PLM.
        window: first and last layer that are to be compared, from 1; None: all.

    Raises:
        ValueError: if not every layer has one plain feed-forward layer, or the window is not within the layers.
    """
    behind: list[int] = []  # calls of attention that came before each call

    def note(_call: int, _made: Tensor) -> None:
        here = running.get()
        behind.append(here.layer if here else 0)

    ids = torch.tensor([PROBE], device=encoder.device)
    with _watched(encoder, note), torch.inference_mode():
        encoder.encode(ids, torch.zeros_like(ids), torch.tensor([len(PROBE)], device=encoder.device))
    layers = _depth(encoder)
    # A model that takes no prefix has attention of its own, whose calls are not counted.
    if behind != (list(range(1, layers + 1)) if encoder.layers else [0] * layers):
        raise ValueError(
            f"on: the feed-forward layer of {type(encoder.model).__name__} cannot be found: each of its {layers} layers "
            f"must call one linear map of {encoder.hidden} to {_width(encoder) or 'a known number of'} neurons, and there are "
            f"{len(behind)} calls (gated or several feed-forward layers are not compared); leave `on` out of similarities"
        )
    _inside(window, layers)


def _depth(encoder: FrozenEncoder) -> int:
    """L, calls of attention in a pass."""
    return encoder.layers or int(encoder.model.config.num_hidden_layers)


def _width(encoder: FrozenEncoder) -> int | None:
    """F as the configuration tells it; None: it does not."""
    told = (getattr(encoder.model.config, name, None) for name in WIDTHS)
    return next((width for width in told if isinstance(width, int)), None)


def _inside(window: tuple[int, ...] | None, layers: int) -> slice:
    """The layers of a window."""
    first, last = window or (1, layers)
    if not 1 <= first <= last <= layers:
        raise ValueError(f"window must be first and last layer within 1 to {layers}, got {list(window or ())}")
    return slice(first - 1, last)


@contextmanager
def _watched(encoder: FrozenEncoder, watch: Watch) -> Iterator[None]:
    """While it is open, a function sees what the first linear maps of the feed-forward layers make."""
    calls, shape = count(), (encoder.hidden, _width(encoder))

    def hook(_module: nn.Module, _given: tuple[Tensor, ...], made: Tensor) -> Tensor | None:
        return watch(next(calls), made)

    maps = [m for m in encoder.model.modules() if type(m) is nn.Linear and (m.in_features, m.out_features) == shape]
    hooks = [linear.register_forward_hook(hook) for linear in maps]
    shortens, encoder.shortens = encoder.shortens, False  # the last layer for the row right behind the prompt, too
    try:
        yield
    finally:
        encoder.shortens = shortens
        for each in hooks:
            each.remove()


def mean_over_tasks(
    library: PromptLibrary, lineage: Lineage, seed: int, read: Callable[[TokenTable, Tensor], Tensor]
) -> Tensor:
    """What a function reads of a lineage's own train rows; of a mixture, the mean over its tasks.

    Args:
        library: where token tables are kept.
        lineage: whose rows; a few-shot task is known by the rows of its draw alone.
        seed: of the draw.
        read: of a table and the numbers of its sequences.

    Returns:
        The mean by the tasks' shares: min(N, cap), as they were mixed.
    """
    task = lineage.trained_on
    cap, shots = (task.cap, task.shots) if isinstance(task, Mixture) else (MIXING_CAP, ())
    found, sizes = [], []
    for number, each in enumerate(task.tasks):
        setting = replace(lineage.setting, shots=shots[number]) if shots else lineage.setting
        table = token_table(library, setting, each, "train")
        few = replica_rows(library, setting, each, seed).train if setting.shots else None
        rows = capped(np.arange(len(table)), READ_ROWS) if few is None else few
        sequences = (rows[:, None] * table.sequences + np.arange(table.sequences)).ravel()
        found.append(read(table, torch.from_numpy(sequences)))
        sizes.append(min(mixing_size(each, len(table), setting.shots), cap))
    return torch.stack([made * (size / sum(sizes)) for made, size in zip(found, sizes, strict=True)]).sum(0)


def neurons_key(lineage: Lineage, seed: int, similarity_settings: SimilaritySettings = USUAL) -> str:
    """The content key of one seed's activations; one artefact serves all windows."""
    asked = content(NeuronSettings(similarity_settings.neurons.inputs))
    return content_key("neurons", lineage, seed, *([asked, READ_ROWS] if asked else []))


def activations(
    library: PromptLibrary, lineage: Lineage, seed: int, similarity_settings: SimilaritySettings = USUAL
) -> Tensor:
    """[L, F] pre-activations of the feed-forward layers for the row right behind a prompt, in float32.

    A neuron is activated where its value is positive: ReLU and GELU keep the sign. The row is that of the
    first token of the text: of one `dummy` input, the tokenizer's special tokens alone (the first special token
    it knows, where it builds none), or the mean over at most 1,000 `real` train rows.

    Args:
        library: where they are kept, and where prompts come from.
        lineage: of the prompt.
        seed: of the prompt.
        similarity_settings: `inputs`, and the `window` of layers that is returned.

    Raises:
        ValueError: if the PLM's feed-forward layers cannot be found, or the window is not within its layers.

    Source: Su et al. (2022), activated neurons of prompts, one dummy input.
    Deviation: docs/deviations.md#activated-neurons.
    """
    folder = library.get_or_make(
        "neurons",
        neurons_key(lineage, seed, similarity_settings),
        lambda draft: _record(draft, library, lineage, seed, real=similarity_settings.neurons.inputs == "real"),
        {"task": lineage.task.name, "plm": lineage.setting.plm.label, "seed": seed, "steps": lineage.steps,
         "inputs": similarity_settings.neurons.inputs},
    )  # fmt: skip
    made = torch.from_numpy(np.load(folder / "neurons.npy"))
    return made[_inside(similarity_settings.neurons.layers, len(made))]


def _record(draft: Path, library: PromptLibrary, lineage: Lineage, seed: int, *, real: bool) -> None:
    front = tuned_prompts(library, lineage, [seed])[0].prompt[None]  # [1, …]
    encoder = load_encoder(lineage.setting.plm, device(), lineage.setting.train.precision)
    check_neurons(encoder)
    front = front.to(encoder.device)

    def of_rows(table: TokenTable, sequences: Tensor) -> Tensor:
        owner = torch.zeros_like(sequences)
        return _behind_prompt(encoder, front, lambda: encoded(encoder, table, front, sequences, owner))

    def of_nothing() -> Tensor:
        ids = _special_tokens(lineage).to(encoder.device)
        owner = torch.zeros(1, dtype=torch.long, device=encoder.device)
        return encoder.encode(ids, torch.zeros_like(ids), owner + ids.shape[1], front, owner, padded=False)

    made = mean_over_tasks(library, lineage, seed, of_rows) if real else _behind_prompt(encoder, front, of_nothing)
    np.save(draft / "neurons.npy", made.float().cpu().numpy(), allow_pickle=False)


def _special_tokens(lineage: Lineage) -> Tensor:
    """[1, n] what the tokenizer builds for an empty text."""
    tokenizer = load_tokenizer(lineage.setting.plm)
    ids = tokenizer("")["input_ids"] or tokenizer.all_special_ids[:1]
    if not ids:
        raise ValueError(
            f"on: the tokenizer of {lineage.setting.plm.label} has no special token to stand for an empty text; "
            "compare neurons over `real` inputs"
        )
    return torch.tensor([ids])


@torch.inference_mode()
def _behind_prompt(encoder: FrozenEncoder, prompt: Tensor, run: Callable[[], Tensor]) -> Tensor:
    """[L, F] mean, over all rows that a function encodes, of the pre-activations right behind their prompt."""
    first = prompt.shape[1] if prompt.dim() == 3 else 0  # only an input prompt has rows of its own
    layers = _depth(encoder)
    seen: list[list[Tensor]] = [[] for _ in range(layers)]  # [L][groups] of sums [1 + F]

    def add(call: int, made: Tensor) -> None:
        rows = made[:, first if made.shape[1] > 1 else 0].double()  # the last layer may be cut to this one row
        seen[call % layers].append(torch.cat((rows.new_full((1,), len(rows)), rows.sum(0))))

    with _watched(encoder, add):
        run()
    sums = torch.stack([torch.stack(groups).sum(0) for groups in seen])
    return sums[:, 1:] / sums[:, :1]

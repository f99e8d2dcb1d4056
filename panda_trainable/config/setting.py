"""What all trials of a plan share, as frozen values. Imports no torch."""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from panda_trainable.config.keys import unkeyed

Pooling = Literal["cls", "mean"]
Positions = Literal["after_prompt", "from_zero"]
Schedule = Literal["constant", "linear"]
Precision = Literal["float32", "bf16"]


@dataclass(frozen=True)
class Plm:
    """A frozen pretrained language model.

    Attributes:
        source: hub id, folder or `package:<module>/<folder>`, as the experiment file names it.
        files: hash of its weights, config and tokenizer files: its identity.
        pooling: what the head reads: the first token or the mean of all tokens.
        layers: layers kept, counted from the first; None keeps all.
        positions: position ids of the tokens begin after the prompt (P-tuning v2) or at zero.
        note: what tells it apart from another of the same name.
    """

    source: str = field(metadata={"keyed": False})
    files: str
    pooling: Pooling = "mean"
    layers: int | None = None
    positions: Positions = "after_prompt"
    note: str = unkeyed("")

    @property
    def label(self) -> str:
        """A short name for people: where it comes from and what was changed."""
        name = self.source.split(":")[-1].strip("/")
        return " · ".join(filter(None, (name, f"{self.layers} layers" if self.layers else "", self.note)))


@dataclass(frozen=True)
class Initial:
    """Where soft prompts start.

    Attributes:
        kind: a row of INITIALISERS.
        std: of `normal`, > 0.
        scale: of `uniform` and `uniform_positive`, > 0.
        sparsity: share of zeros of `sparse`, in [0, 1].
        population: `vocabulary` draws from so many first ids.
        text: of `text`.
        file: path of `file`, safetensors.
        content: hash of the file: its identity.
    """

    kind: str = "normal"
    std: float = 0.02
    scale: float = 0.5
    sparsity: float = 0.1
    population: int = 5000
    text: str = ""
    file: str = unkeyed("")
    content: str = ""


@dataclass(frozen=True)
class Setting:
    """What all trials of a plan on one PLM share.

    Attributes:
        prompt_form: `prefix` (keys and values in every layer) or `input` (before the token embeddings).
        prompt_length: P, tokens.
        batch_size: B, examples per step and replica.
        max_length: T at most, tokens of one example without the prompt.
        eval_every: steps between evaluations.
        limit_train: rows of the train split used at most; None is all.
        limit_report: rows of the report split used at most; None is all.
        selection_fraction: share of train rows held out for selection, in (0, 1).
        selection_rows: selection rows at most.
        protocol: `held_out` selects on rows of train; `paper` on validation, as the papers do.
        init: where prompts start.
        mlp: width of the MLP through which prompts are trained; 0: none.
        shots: train rows of each class that a seed draws for the task that is trained; 0: all.
        source_shots: the same for source tasks.
        precision: `float32`, or `bf16` for the frozen PLM's matrix products; what is trained stays float32.
    """

    plm: Plm
    prompt_form: str = "prefix"
    prompt_length: int = 20
    batch_size: int = 16
    max_length: int = 128
    eval_every: int = unkeyed(50)
    limit_train: int | None = None
    limit_report: int | None = unkeyed(None)
    selection_fraction: float = 0.2
    selection_rows: int = 1000
    protocol: str = "held_out"
    init: Initial = Initial()
    mlp: int = 0
    shots: int = 0
    source_shots: int = 0
    precision: Precision = "float32"

    @property
    def of_sources(self) -> "Setting":
        """The setting under which source prompts are trained."""
        return dataclasses.replace(self, shots=self.source_shots, source_shots=0)

    @property
    def of_targets(self) -> "Setting":
        """The setting under which a target alone is trained: it knows nothing of sources."""
        return dataclasses.replace(self, source_shots=0)


@dataclass(frozen=True)
class SimilaritySettings:
    """What similarities that need the PLM look at.

    Attributes:
        pooling: of task embeddings: `head` (as heads read), `cls` or `mean`.
        layer: of task embeddings: the layer whose states are averaged, from 1; None is the last.
        inputs: of activated neurons: one `dummy` input (special tokens alone), or `real` train rows.
        window: of activated neurons: first and last layer, from 1; None is all.
    """

    pooling: Literal["head", "cls", "mean"] = "head"
    layer: int | None = None
    inputs: Literal["dummy", "real"] = "dummy"
    window: tuple[int, int] | None = None

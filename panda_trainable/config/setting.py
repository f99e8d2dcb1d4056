"""What all trials of a plan share, as frozen values. Imports no torch.

Each class is a section of the experiment file, or a section with what was found out about it.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from types import MappingProxyType
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval, Len, Lt, MinLen

from panda_trainable.config.keys import unkeyed
from panda_trainable.config.section import Doc, Section, ShortFor, WrongSetting

Pooling = Literal["cls", "mean", "answer"]
PlmKind = Literal["encoder", "masked_lm", "causal_lm", "seq2seq_lm"]
PlmHead = Literal["lm", "linear"]
Positions = Literal["after_prompt", "from_zero"]
Schedule = Literal["constant", "linear"]
PromptForm = Literal["prefix", "input"]
Precision = Literal["float32", "bf16"]
InitKind = Literal["normal", "uniform", "uniform_positive", "zeros", "sparse", "vocabulary", "labels", "text", "file"]


@dataclass(frozen=True)
class PlmSettings(Section):
    """A pretrained language model as the experiment file names it, and how it is read."""

    source: Annotated[str, MinLen(1), Doc("hub id, folder, .gguf file, or package:<module>/<path>")] = (
        dataclasses.field(metadata={"keyed": False})
    )
    _: KW_ONLY
    pooling: Annotated[
        Pooling, Doc("what heads read: first token, mean of all, or the last; of language models always what answers")
    ] = "mean"
    layers: Annotated[int | None, Ge(1), Doc("keep so many layers, from the first; default all")] = None
    positions: Annotated[Positions, Doc("position of the first token: P (P-tuning v2), or 0")] = "after_prompt"
    head: Annotated[
        PlmHead | None,
        Doc("what answers: its own language model's head, or a trained one; default lm if causal or encoder-decoder"),
    ] = None


@dataclass(frozen=True)
class Plm(PlmSettings):
    """A frozen pretrained language model whose files were found.

    Attributes:
        files: hash of its weights, config and tokenizer files: its identity.
        note: what tells it apart from another of the same name.
        family_version: of its family in FAMILY_VERSIONS.
        kind: what it is here: a language model that answers with its own head or reads left to right, or an encoder.
        head: None where it is the usual of its files.
        folder: where its files lie, where they were made from a GGUF file; else empty, and every node looks for the source.
    """

    files: str
    note: str = unkeyed("")
    folder: str = unkeyed("")
    family_version: int = 0
    kind: PlmKind = "encoder"

    @property
    def has_own_head(self) -> bool:
        """Whether rows are asked of it in words, and its own language model's head answers."""
        return self.kind != "encoder" and self.head != "linear"

    @property
    def label(self) -> str:
        """A short name for people: where it comes from and what was changed."""
        name = self.source.split(":")[-1].strip("/")
        return " · ".join(filter(None, (name, f"{self.layers} layers" if self.layers else "", self.note)))


READ_BY: Mapping[InitKind, tuple[str, ...]] = MappingProxyType(
    {
        "normal": ("std",), "uniform": ("scale",), "uniform_positive": ("scale",), "zeros": (), "sparse": ("sparsity",),
        "vocabulary": ("population",), "labels": ("population",), "text": ("text", "population"), "file": ("file",),
    }
)  # fmt: skip
"""Initialiser -> the settings that it reads."""


@dataclass(frozen=True)
class InitSettings(Section):
    """Where soft prompts start."""

    kind: Annotated[InitKind, Doc("the initialiser")] = "normal"
    std: Annotated[float, Gt(0), Doc("of normal")] = 0.02
    scale: Annotated[float, Gt(0), Doc("of uniform: U(-scale, scale), or U[0, scale)")] = 0.5
    sparsity: Annotated[float, Interval(ge=0, le=1), Doc("share of zeros of sparse")] = 0.1
    population: Annotated[int, Ge(1), Doc("vocabulary draws from so many first ids")] = 5000
    text: Annotated[str, Doc("of text")] = ""
    file: Annotated[str, Doc("of file: safetensors with a tensor `prompt`")] = unkeyed("")

    def __post_init__(self) -> None:
        if self.kind in ("text", "file") and not getattr(self, self.kind).strip():
            raise ValueError(f"init {self.kind} needs `{self.kind}:`")

    @property
    def as_read(self) -> "InitSettings":
        """The same without what its kind does not read: those decide no number."""
        return InitSettings(self.kind, **{name: getattr(self, name) for name in READ_BY[self.kind]})


@dataclass(frozen=True)
class PromptSettings(Section):
    """The soft prompt."""

    form: Annotated[
        PromptForm, Doc("keys and values in every layer (P-tuning v2), or before the embeddings (Lester)")
    ] = "prefix"
    length: Annotated[int, Interval(ge=1, le=512), Doc("P, prompt tokens")] = 20
    init: Annotated[InitSettings, ShortFor("kind"), Doc("where it starts")] = InitSettings()
    mlp: Annotated[
        int | None, Interval(ge=1, le=8192), Doc("train it through an MLP of so many middle units")
    ] = None  # fmt: skip


@dataclass(frozen=True)
class TrainSettings(Section):
    """How all prompts, students and others, are trained."""

    batch_size: Annotated[int, Ge(1), Doc("B, examples per step and seed")] = 16
    max_length: Annotated[int, Ge(8), Doc("tokens of an example without the prompt; longer ones are cut")] = 128
    eval_every: Annotated[int, Ge(1), Doc("steps between evaluations on selection rows")] = unkeyed(50)
    precision: Annotated[Precision, Doc("of the frozen PLM's matrix products, in sources and teachers too")] = "float32"
    max_answer: Annotated[
        int, Ge(2), Doc("tokens of an answer that is written, its end included, or of a choice's text; longer ones are cut")
    ] = 32  # fmt: skip


@dataclass(frozen=True)
class LimitSettings(Section):
    """Caps on rows."""

    train: Annotated[int | None, Ge(10), Doc("rows of each train split at most, selection included")] = None
    report: Annotated[int | None, Ge(1), Doc("report rows at most")] = unkeyed(None)


@dataclass(frozen=True)
class SelectionSettings(Section):
    """Rows the search looks at."""

    fraction: Annotated[float, Gt(0), Lt(1), Doc("share of train rows held out")] = 0.2
    max_rows: Annotated[int, Ge(1), Doc("at most so many")] = 1000


@dataclass(frozen=True, kw_only=True)
class CommonSettings(Section):
    """Settings of all trials that the experiment file and a plan's setting have in common."""

    prompt: Annotated[PromptSettings, Doc("the soft prompt")] = PromptSettings()
    train: Annotated[TrainSettings, Doc("how prompts are trained")] = TrainSettings()
    limit: Annotated[LimitSettings, Doc("caps on rows")] = LimitSettings()
    selection: Annotated[SelectionSettings, Doc("rows the search looks at")] = SelectionSettings()
    protocol: Annotated[Literal["held_out", "paper"], Doc("select on train rows, or on validation")] = "held_out"


@dataclass(frozen=True)
class Setting(CommonSettings):
    """What all trials of a plan on one PLM share.

    Attributes:
        plm: the frozen PLM.
        shots: train rows of each class that a seed draws for the task that is trained; 0: all.
        source_shots: the same for source tasks.
        init_file: hash of the file that prompts start from: its identity; empty where they start from none.
    """

    plm: Plm
    shots: int = 0
    source_shots: int = 0
    init_file: str = ""

    @property
    def of_sources(self) -> "Setting":
        """The setting under which source prompts are trained."""
        return dataclasses.replace(self, shots=self.source_shots, source_shots=0)

    @property
    def of_targets(self) -> "Setting":
        """The setting under which a target alone is trained: it knows nothing of sources."""
        return dataclasses.replace(self, source_shots=0)


@dataclass(frozen=True)
class EmbeddingSettings(Section):
    """What task embeddings average."""

    pooling: Annotated[Literal["head", "cls", "mean"], Doc("as heads read, first token, or all tokens")] = "head"
    layer: Annotated[int | None, Ge(1), Doc("states of this layer; default the last")] = None


@dataclass(frozen=True)
class NeuronSettings(Section):
    """What the similarity `on` looks at: activated neurons."""

    inputs: Annotated[Literal["dummy", "real"], Doc("one empty text, or train rows")] = "dummy"
    layers: Annotated[
        tuple[Annotated[int, Ge(1)], ...] | None, Len(2, 2), Doc("[first, last] layer, from 1; default all")
    ] = None

    def __post_init__(self) -> None:
        if self.layers and self.layers[0] > self.layers[1]:
            raise WrongSetting("layers", f"layers are [first, last], got {list(self.layers)}")


@dataclass(frozen=True)
class SimilaritySettings(Section):
    """What similarities that need the PLM look at."""

    embedding: Annotated[EmbeddingSettings, Doc("what task embeddings average")] = EmbeddingSettings()
    neurons: Annotated[NeuronSettings, Doc("what `on` looks at")] = NeuronSettings()

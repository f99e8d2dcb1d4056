"""Winner: a trained configuration as its folder says it, with checksums of its files. Imports no torch."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import file_digest
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from panda_trainable.config.methods import TRAITS
from panda_trainable.config.origin import Origin, Reading, Unlocated
from panda_trainable.config.setting import Plm, Precision, PromptForm, PromptSettings, Setting, TrainSettings
from panda_trainable.config.task import TaskSpec
from panda_trainable.config.trial import TrialConfig
from panda_trainable.prediction.values import as_data, of_data

FORMAT = 1
"""Version of the folder's format, raised when readers of the old one could not read the new."""

CARD = "winner.json"
CARD_MIB = 16
"""MiB of a card at most."""
INSIDE = "artifacts/winner"
"""Where a model of MLflow's registry holds the folder."""

UNSAFE = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".dill")
"""Endings of files that run code when they are opened: none is ever read."""

Scores = Mapping[str, Mapping[str, Sequence[float]]]
"""`selection` or `report` -> metric -> [K]."""

Holds = Literal["prompt", "head", "model"]


@dataclass(frozen=True)
class Score:
    """Scores of K replicas.

    Attributes:
        mean: over those that are finite; None where none is.
        std: standard deviation of a sample; 0 of a single one.
        n: how many are finite.
        by_seed: [K]; None where a replica diverged.
    """

    mean: float | None
    std: float
    n: int
    by_seed: tuple[float | None, ...]

    @classmethod
    def of(cls, scores: Sequence[float]) -> "Score":
        """Of the scores [K] themselves."""
        finite = [float(score) for score in scores if math.isfinite(score)]
        every = tuple(float(score) if math.isfinite(score) else None for score in scores)
        spread = stdev(finite) if len(finite) > 1 else 0.0
        return cls(fmean(finite) if finite else None, spread, len(finite), every)


@dataclass(frozen=True)
class UsedSource:
    """A source task that took part, and its similarity to the target."""

    task: str
    similarity: float


@dataclass(frozen=True)
class Winner:
    """A trained configuration: all that answering new rows needs to know, and how good it was.

    Attributes:
        task: what it answers, without where its rows were.
        method: a row of METHODS.
        plm: the frozen PLM, by the hash of its files.
        form: of the prompt.
        length: P, prompt tokens.
        max_length: tokens of a row without the prompt; longer ones are cut.
        max_answer: tokens of an answer that could be learnt.
        longest_answer: tokens that are written at most; 0 where nothing is written.
        precision: of the frozen PLM's matrix products.
        seeds: [K] one replica each.
        holds: what a replica's file has: prompt and head, a head alone, or all weights.
        files: [K] file name -> SHA-256.
        steps: it was trained.
        knobs: hyperparameters and their values.
        sources: the pair's own source first, then its partners.
        scores: `selection` or `report` -> metric -> scores.
        reading: how the files of its rows were read.
        folder: where it lies; empty while it is written.
    """

    task: TaskSpec
    method: str
    plm: Plm
    form: PromptForm
    length: int
    max_length: int
    max_answer: int
    longest_answer: int
    precision: Precision
    seeds: tuple[int, ...]
    holds: Holds
    files: Mapping[str, str]
    steps: int
    knobs: Mapping[str, Any]
    sources: tuple[UsedSource, ...]
    scores: Mapping[str, Mapping[str, Score]]
    reading: Reading = Reading()
    folder: Path = Path()

    def __post_init__(self) -> None:
        names = [file_of(seed) for seed in self.seeds]
        rules = {
            f"method must be one of {', '.join(TRAITS)}, got {self.method!r}": self.method in TRAITS,
            f"seeds must be different and at least one, got {list(self.seeds)}": 0 < len(set(names)) == len(names),
            f"files must be {', '.join(names)}, got {', '.join(self.files)}": list(self.files) == names,
            f"task {self.task.name} has no fingerprints": bool(self.task.fingerprints),
        }
        if broken := [rule for rule, holds in rules.items() if not holds]:
            raise ValueError("; ".join(broken))

    @property
    def setting(self) -> Setting:
        """What decides how its rows are read; all else is at its defaults."""
        prompt = PromptSettings(self.form, self.length)
        train = TrainSettings(max_length=self.max_length, max_answer=self.max_answer, precision=self.precision)
        return Setting(plm=self.plm, prompt=prompt, train=train)

    @property
    def paths(self) -> list[Path]:
        """[K] the replicas' files."""
        return [self.folder / name for name in self.files]

    @property
    def best_seed(self) -> int:
        """The seed with the best selection score; among equals, and where there are none, the first."""
        score = self.scores.get("selection", {}).get(self.task.metrics[0])
        values = score.by_seed if score else ()
        known = {seed: value for seed, value in zip(self.seeds, values, strict=False) if value is not None}
        return max(known, key=lambda seed: known[seed]) if known else self.seeds[0]


def file_of(seed: int) -> str:
    """The name of a replica's file."""
    return f"seed-{seed}.safetensors"


def winner_of(
    config: TrialConfig, holds: Holds, longest_answer: int, scores: Scores, files: Mapping[str, str]
) -> Winner:
    """The winner of a trained configuration.

    Args:
        config: what was trained.
        holds: what its files have.
        longest_answer: tokens that are written at most.
        scores: `selection` or `report` -> metric -> [K].
        files: [K] file name -> SHA-256.
    """
    setting = config.setting
    return Winner(
        task=replace(config.target, origin=Unlocated(), counts=(), notes=(), leaked=0, split=None),
        method=config.method, plm=setting.plm, form=setting.prompt.form, length=setting.prompt.length,
        max_length=setting.train.max_length, max_answer=setting.train.max_answer, longest_answer=longest_answer,
        precision=setting.train.precision, seeds=config.seeds, holds=holds, files=files, steps=config.steps,
        knobs=config.knobs, sources=tuple(UsedSource(source.task.name, source.similarity) for source in config.sources),
        scores={split: {name: Score.of(values) for name, values in of.items()} for split, of in scores.items()},
        reading=_reading(config.target.origin),
    )  # fmt: skip


def _reading(origin: Origin) -> Reading:
    """How files are read, of an origin or of the one inside of it."""
    while not hasattr(origin, "reading") and hasattr(origin, "origin"):
        origin = origin.origin
    return getattr(origin, "reading", Reading())


def card_of(winner: Winner) -> str:
    """The text of a winner's card."""
    data = as_data(replace(winner, folder=Path()))
    del data["folder"], data["task"]["origin"]
    return json.dumps({"format": FORMAT, **data}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_winner(where: Path) -> Winner:
    """The winner of a folder, its files checked.

    Args:
        where: a folder that `write_winner` made, or a model of MLflow's registry that holds one.

    Raises:
        ValueError: if it is none, is damaged, or was written by a later version.
    """
    folder = where / INSIDE if (where / INSIDE / CARD).is_file() else where
    if problem := _why_none(folder):
        raise ValueError(f"{where}: {problem}")
    winner = _of_card(folder)
    if wrong := list(_changed(winner)):
        raise ValueError(f"{where}: is damaged: {', '.join(wrong)}; {ANEW}")
    return winner


def _of_card(folder: Path) -> Winner:
    """The winner as its card says it.

    Raises:
        ValueError: if the card is damaged, or of a later version.
    """
    card = folder / CARD
    try:
        data = json.loads(_card_text(card))
        version = data.pop("format")
        is_later = isinstance(version, int) and version > FORMAT
        winner = None if is_later else replace(of_data(Winner, data), folder=folder)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{card}: is damaged ({error}); {ANEW}") from error
    if winner is None:
        raise ValueError(f"{card}: has format {version}, and this version reads {FORMAT}: update panda-tune")
    return winner


def _card_text(card: Path) -> str:
    if card.stat().st_size > CARD_MIB * 2**20:
        raise ValueError(f"a card has at most {CARD_MIB} MiB")
    return card.read_text(encoding="utf-8")


ANEW = "have it written again by panda-tune train"


def _why_none(folder: Path) -> str:
    """Why a path is no winner's folder; empty: it may be one."""
    wanted = "give a folder that panda-tune train wrote"
    if folder.is_file():
        unsafe = folder.suffix.lower() in UNSAFE
        return (
            f"is a pickled file, which could run code and is never opened; {wanted}"
            if unsafe
            else f"is a file; {wanted}"
        )
    if not folder.is_dir():
        return f"is not there; {wanted}"
    if (folder / CARD).is_file():
        return ""
    names = sorted(path.name for path in folder.iterdir())
    if pickled := [name for name in names if Path(name).suffix.lower() in UNSAFE]:
        return f"holds {', '.join(pickled[:3])}, pickled files, which could run code and are never opened, and no {CARD}; {wanted}"
    return f"has no {CARD}, it holds {', '.join(names[:8]) or 'nothing'}; {wanted}"


def _changed(winner: Winner) -> Iterator[str]:
    """What is wrong with a winner's files."""
    for path, digest in zip(winner.paths, winner.files.values(), strict=True):
        if not path.is_file():
            yield f"{path.name} is missing"
        elif checksum(path) != digest:
            yield f"{path.name} changed since it was written"


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hex digits."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()

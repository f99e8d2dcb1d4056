"""PRESETS: how much is trained and searched: a small search, the usual one, and the published setting. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from tuning.experiment.sections import ConfirmSection, SearchSection, SourceTrainSection, TrainSection

PresetName = Literal["small", "standard", "paper"]

Keys = Mapping[str, tuple[Any, str]]
"""Key of the experiment file -> value and comment; sections as mappings of their keys."""


@dataclass(frozen=True)
class Size:
    """How much is trained.

    Attributes:
        steps: of a trial.
        source_steps: of a source prompt.
        trials: of each study.
        seeds: of the search.
        confirm_seeds: fresh ones.
        top: configurations of each study that are confirmed.
        train_rows: of each task at most; None: all.
        report_rows: at most; None: all.
        why: in a sentence, where the values were fitted.
    """

    steps: int
    source_steps: int
    trials: int
    seeds: tuple[int, ...] = (0, 1, 2)
    confirm_seeds: tuple[int, ...] = (10, 11, 12)
    top: int = 2
    train_rows: int | None = None
    report_rows: int | None = None
    why: str = ""


def _standard() -> Size:
    train, search, confirm = TrainSection(), SearchSection(), ConfirmSection()
    return Size(train.steps, SourceTrainSection().steps, search.trials, train.seeds, confirm.seeds, confirm.top)


STANDARD = _standard()
"""The defaults of the experiment file."""

SMALL = Size(400, 800, 8, (0, 1), (10, 11), 1, 2000, 500)
"""The largest small search."""

LADDER = tuple(
    replace(SMALL, steps=steps, source_steps=2 * steps, trials=trials)
    for steps, trials in ((400, 8), (200, 8), (200, 4), (100, 4), (100, 2), (60, 2), (40, 2), (20, 2), (20, 1))
)
"""Sizes of a small search, the largest first: the first that ends in time is taken."""

UNMEASURED = LADDER[5]
"""Size where no step can be measured."""

EPOCHS, PUBLISHED_BATCH, PUBLISHED_SEED = 100, 16, 11
"""Of PANDA's released scripts (arXiv:2208.10160): epochs of prompt tuning, batch size, and its one seed."""


def published(rows: int) -> Size:
    """The published setting on a target with so many train rows."""
    steps = max(EPOCHS * rows // PUBLISHED_BATCH, EPOCHS)
    why = f"PANDA: {EPOCHS} epochs of {rows} rows, batches of {PUBLISHED_BATCH}, one seed; docs/deviations.md tells what differs"
    return Size(steps, steps, 1, (PUBLISHED_SEED,), (12, 13, 14), 1, why=why)


PUBLISHED_KEYS: Keys = MappingProxyType(
    {
        "protocol": ("paper", "selects on validation rows, as the papers do, and every output says so"),
        "metrics": ("panda", "accuracy alone for mrpc, qqp and cb"),
    }
)
"""Of the published setting beside its size."""

LENGTHS = (32, 64, 128, 256)
"""Tokens of an example that are proposed."""

TOKENS_A_WORD = 1.5


def length_for(words: int) -> int:
    """Tokens of an example at most, for texts of so many words."""
    return next((length for length in LENGTHS if length >= TOKENS_A_WORD * words + 4), LENGTHS[-1])


def batch_for(rows: int) -> int:
    """Examples per step, for so many train rows, of which a part is held out twice."""
    left = int(rows * 0.8 * 0.8)
    return next((size for size in (16, 8, 4, 2) if left >= 2 * size), 1)


PRESETS: Mapping[PresetName, str] = MappingProxyType(
    {
        "small": "ends within an hour on this machine",
        "standard": "the usual search",
        "paper": "the published setting, once",
    }
)
"""Preset -> what it is."""


def keys_of(size: Size, preset: PresetName, *, words: int, rows: int) -> Keys:
    """The keys of the experiment file that a size is.

    Args:
        size: how much is trained.
        preset: whose it is.
        words: of the longest texts.
        rows: train rows of the smallest task.
    """
    length, batch = (128, PUBLISHED_BATCH) if preset == "paper" else (length_for(words), batch_for(rows))
    train = {
        "steps": size.steps, "batch_size": batch, "max_length": length, "eval_every": max(size.steps // 8, 1),
        "seeds": list(size.seeds),
    }  # fmt: skip
    early = max(size.source_steps // 5, 1)
    limit = {"train": size.train_rows, "report": size.report_rows}
    why = size.why or PRESETS[preset]
    keys: dict[str, tuple[Any, str]] = {
        "train": (train, "" if preset == "paper" else f"for texts of up to {words} words (19 of 20), and {rows} train rows at least"),
        "source_train": ({"steps": size.source_steps, "early_step": early}, "source prompts; early_step: what similarities compare"),
        "search": ({"trials": size.trials}, "of each study; the first is the published setting"),
        "confirm": ({"top": size.top, "seeds": list(size.confirm_seeds)}, "the best of each study again, on rows the search never saw"),
    }  # fmt: skip
    if size.train_rows:
        keys["limit"] = (limit, "rows of each task at most")
    if preset == "paper":
        keys |= PUBLISHED_KEYS
    return {"": (None, f"--preset {preset}: {why}"), **keys}

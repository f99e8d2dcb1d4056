"""Confirmed configurations and winners, as the library keeps them."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.gains import Gain
from panda_trainable.config.keys import content_key
from panda_trainable.config.methods import TRAITS
from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import PromptLibrary
from tuning.planning.plan import Study

LOGITS, SCORES, ROWS, REFERENCE = "logits.parquet", "scores.json", "rows.npy", "reference.npy"
GAIN_FILE = "gain.json"


@dataclass(frozen=True)
class Confirmed:
    """A configuration that was trained with the confirm seeds.

    Attributes:
        config: what was trained.
        folder: where its logits and scores lie.
        selection: [K] score on selection rows.
        report: [K] score on report rows.
        report_metrics: metric -> [K] on report rows.
        majority: report score of the reference that ignores the text.
        truncated: split -> share of its rows that were cut.
        seconds: of training and scoring all K.
        teacher: [K] report score of the larger PLM that taught; empty where none did.
    """

    config: TrialConfig
    folder: Path
    selection: list[float]
    report: list[float]
    report_metrics: dict[str, list[float]]
    majority: float
    truncated: dict[str, float]
    seconds: float
    teacher: list[float]

    def rows(self) -> NDArray[np.float64]:
        """[K, N, M] what each report row contributes to the score."""
        rows: NDArray[np.float64] = np.load(self.folder / ROWS)
        return rows

    def reference(self) -> NDArray[np.float64]:
        """[K, N, M] the same of the reference that ignores the text."""
        rows: NDArray[np.float64] = np.load(self.folder / REFERENCE)
        return np.broadcast_to(rows, (len(self.report), *rows.shape))


def twin(config: TrialConfig) -> TrialConfig | None:
    """What a configuration is compared with, the same but for its transfer; None where the baseline serves.

    Distilled students have plain prompt tuning of the same rate, steps and seeds, which is λ = 0; a prompt
    taken over with its head has a random prompt with that head.
    """
    name = TRAITS[config.method].twin
    if not name:
        return None
    if TRAITS[name].sources == "pair":
        return replace(config, method=name, projection=None)
    return TrialConfig(
        config.setting.of_targets, config.target, name, config.seeds, config.steps, config.learning_rate
    )  # fmt: skip


@dataclass(frozen=True)
class Winner:
    """A study's winner: chosen by selection score with the confirm seeds.

    Attributes:
        study: its study.
        confirmed: the winner.
        others: the study's other confirmed configurations.
        gain: over the target's baseline.
        twin: the same without what is transferred, as `twin` has it.
        baseline: the winner of the target's prompt tuning.
        signal: the baseline's excess over the reference that ignores the text.
        baseline_study: key of the study that the baseline won.
    """

    study: Study
    confirmed: Confirmed
    others: tuple[Confirmed, ...]
    gain: Gain
    twin: Confirmed | None
    baseline: Confirmed
    signal: Gain
    baseline_study: str


def confirm_key(config: TrialConfig) -> str:
    """The key of a confirmed configuration; its report rows count too."""
    return content_key("confirmed", config, config.setting.limit.report)


def read_confirmed(library: PromptLibrary, config: TrialConfig) -> Confirmed:
    """A confirmed configuration, from the library."""
    folder = library.get("confirmed", confirm_key(config))
    scores = json.loads((folder / SCORES).read_text(encoding="utf-8"))
    name = config.target.metrics[0]
    return Confirmed(
        config, folder, scores["selection"][name], scores["report"][name], scores["report"],
        scores["majority"], scores["truncated"], scores["seconds"], scores.get("teacher", []),
    )  # fmt: skip

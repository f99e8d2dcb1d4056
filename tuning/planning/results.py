"""Confirmed configurations and winners, as the library keeps them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.crossfit import first_best, grounds_of
from analysis.statistics.gains import Floats, Gain
from panda_trainable.config.keys import content_key
from panda_trainable.config.methods import TRAITS
from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.prediction.winner import CARD
from tuning.planning.plan import Study

LOGITS, SCORES, ROWS, CONTRIBUTIONS = "logits.parquet", "scores.json", "rows.npy", "contributions.npy"


@dataclass(frozen=True)
class Candidate:
    """A configuration that the search found good.

    Attributes:
        config: with the confirm seeds.
        searched: its selection score in the search, mean over the search's seeds.
        tried: configurations of its study that ran all their steps, of which it is among the best.
    """

    config: TrialConfig
    searched: float
    tried: int


@dataclass(frozen=True)
class Confirmed:
    """A configuration that was trained with the confirm seeds.

    Attributes:
        config: what was trained.
        folder: where its logits and scores lie.
        selection: [K] score on selection rows.
        constant_selection: [K] that of the best constant answer on the same rows.
        excess_error: [K] standard error over selection rows of the difference of the two.
        report: [K] score on report rows.
        report_metrics: metric -> [K] on report rows.
        majority: report score of the best constant answer.
        truncated: split -> share of its rows that were cut.
        seconds: of training and scoring all K.
        teacher: [K] report score of the larger PLM that taught; empty where none did.
    """

    config: TrialConfig
    folder: Path
    selection: list[float]
    constant_selection: list[float]
    excess_error: list[float]
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

    def contributions(self) -> Floats:
        """[K, N] what each report row adds to the score: a row's mean over N is its seed's score."""
        found: Floats = np.load(self.folder / CONTRIBUTIONS)
        return found


def twin(config: TrialConfig) -> TrialConfig | None:
    """What a configuration is compared with, the same but for its transfer; None where the baseline serves.

    Distilled students have plain prompt tuning of the same rate, steps and seeds, which is λ = 0; a prompt
    taken over with its head has a random prompt with that head.
    """
    name = TRAITS[config.method].twin
    if not name:
        return None
    if TRAITS[name].sources == "pair":
        return replace(config, method=name, projection=None, relative=None)
    return TrialConfig(
        config.setting.of_targets, config.target, name, config.seeds, config.steps, config.learning_rate
    )  # fmt: skip


@dataclass(frozen=True)
class Chosen:
    """A study's confirmed configurations, and which of them the other seeds choose for each seed.

    Attributes:
        ranked: best first; the first is the winner, which one takes along.
        picks: [K] the one that seed k is scored on: chosen without that seed.
        grounds: [K] the selection score by which it was chosen.
    """

    ranked: tuple[Confirmed, ...]
    picks: tuple[Confirmed, ...]
    grounds: tuple[float, ...]

    @property
    def winner(self) -> Confirmed:
        """What all seeds choose."""
        return self.ranked[0]

    @property
    def report(self) -> list[float]:
        """[K] report score of what the other seeds choose."""
        return by_pick(self.picks)

    def contributions(self) -> Floats:
        """[K, N] what each report row adds to those scores."""
        return np.stack([pick.contributions()[seed] for seed, pick in enumerate(self.picks)])


def by_pick(picks: Sequence[Confirmed]) -> list[float]:
    """[K] the report score of seed k of the k-th of some confirmed configurations."""
    return [pick.report[seed] for seed, pick in enumerate(picks)]


def chosen_of(candidates: Sequence[Candidate], confirmed: Sequence[Confirmed]) -> Chosen:
    """The choice among a study's confirmed configurations: for people by all seeds, for reports by the others.

    Args:
        candidates: what the search found, one or more.
        confirmed: the same, trained with the confirm seeds.
    """
    selection, searched = np.array([one.selection for one in confirmed]), [one.searched for one in candidates]
    grounds = grounds_of(selection, searched)
    picks = first_best(grounds)
    final = selection.mean(axis=1) if selection.shape[1] > 1 else np.array(searched)
    order = np.argsort(-final, kind="stable")
    return Chosen(
        tuple(confirmed[i] for i in order), tuple(confirmed[i] for i in picks),
        tuple(float(grounds[pick, seed]) for seed, pick in enumerate(picks)),
    )  # fmt: skip


@dataclass(frozen=True)
class Winner:
    """What a study came to: its winner, and how good such winners are where they were not chosen.

    Attributes:
        study: its study.
        chosen: its configurations and their choice.
        gain: of the choice over that of the target's baseline.
        twins: [K] of each pick the same without what is transferred, as `twin` has it; empty where there is none.
        baseline: the choice of the target's prompt tuning.
        signal: that prompt tuning's excess over the best constant answer, in the search.
        baseline_study: key of the study that the baseline won.
    """

    study: Study
    chosen: Chosen
    gain: Gain
    twins: tuple[Confirmed, ...]
    baseline: Chosen
    signal: Gain
    baseline_study: str

    @property
    def confirmed(self) -> Confirmed:
        """The winner."""
        return self.chosen.winner


def confirm_key(config: TrialConfig) -> str:
    """The key of a confirmed configuration; its report rows count too."""
    return content_key("confirmed", config, config.setting.limit.report)


def winner_key(config: TrialConfig) -> str:
    """The key of a winner's folder, of a configuration whose confirmed run keeps none."""
    return content_key("winners", config)


def kept_winner(library: PromptLibrary, config: TrialConfig) -> Path | None:
    """The winner's folder of a confirmed configuration: beside its scores, or made on its own; None where neither is there."""
    for kind, key in (("confirmed", confirm_key(config)), ("winners", winner_key(config))):
        if library.has(kind, key) and (library.path(kind, key) / CARD).is_file():
            return library.get(kind, key)
    return None


def read_confirmed(library: PromptLibrary, config: TrialConfig) -> Confirmed:
    """A confirmed configuration, from the library."""
    folder = library.get("confirmed", confirm_key(config))
    scores = json.loads((folder / SCORES).read_text(encoding="utf-8"))
    name = config.target.metrics[0]
    return Confirmed(
        config, folder, scores["selection"][name], scores["constant_selection"], scores["excess_error"],
        scores["report"][name], scores["report"],
        scores["majority"], scores["truncated"], scores["seconds"], scores.get("teacher", []),
    )  # fmt: skip

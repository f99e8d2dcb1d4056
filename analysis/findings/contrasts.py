"""One way of transfer against another, over studies: late against early fusion, partners against none."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from analysis.findings.importance import centred
from analysis.records.studies import TrialRecord
from analysis.statistics.gains import LEVEL, RESAMPLES
from analysis.statistics.means import FEWEST
from analysis.statistics.resampling import Interval


def interval(values: Sequence[float], seed: int = 0) -> Interval | None:
    """The 95 % interval of a mean, by bootstrap; None for fewer than FEWEST values."""
    if len(values) < FEWEST:
        return None
    drawn = np.random.default_rng(seed).choice(np.array(values), size=(RESAMPLES, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Contrast:
    """How much better one way is than another.

    Attributes:
        name: `late − early fusion`.
        method: whose trials.
        difference: of scores, in score units; None with a note.
        interval: 95 %, over studies; None for fewer than FEWEST.
        trials: of both ways.
        studies: that are compared.
        how: `paired within studies` or `centred within studies`.
        note: why there is no difference; empty where there is.
    """

    name: str
    method: str
    difference: float | None
    interval: Interval | None
    trials: int
    studies: int
    how: str
    note: str = ""


Way = Callable[[TrialRecord], bool | None]
"""True: the first way; False: the other; None: neither."""


def _is_late(trial: TrialRecord) -> bool | None:
    fusion = str(trial.knobs.get("fusion", ""))
    return fusion.startswith("late") if fusion and trial.knobs.get("partners") else None


def _has_partners(trial: TrialRecord) -> bool | None:
    partners = trial.knobs.get("partners")
    return float(partners) > 0 if partners is not None else None


WAYS: Mapping[str, Way] = {"late − early fusion": _is_late, "partners − none": _has_partners}
"""Name of a contrast -> which trials are compared."""
SIDES: Mapping[str, tuple[str, str]] = {
    "late − early fusion": ("late fusion", "early"),
    "partners − none": ("partners", "none"),
}
"""Name of a contrast -> what the two ways are called."""


def contrasts(trials: Sequence[TrialRecord], seed: int = 0) -> list[Contrast]:
    """Every contrast of every method that has trials of both ways or could have."""
    methods = sorted({trial.method for trial in trials})
    return [
        contrast(name, method, own, seed)
        for name, way in WAYS.items()
        for method in methods
        for own in [[trial for trial in trials if trial.method == method]]
        if any(way(trial) is not None for trial in own)
    ]


def contrast(name: str, method: str, trials: Sequence[TrialRecord], seed: int = 0) -> Contrast:
    """One contrast of one method.

    Complete trials only, but not the first: its other hyperparameters are the published ones, and it always goes
    without partners, so that it would compare those too. Scores are centred within their study. Where FEWEST studies or more tried both ways,
    the difference is the mean of theirs; else that of all centred scores of the one way and of the other, which
    also uses studies that tried one of them beside something else.

    Args:
        name: of WAYS.
        method: its name.
        trials: its own, of all studies.
        seed: of the bootstrap over studies.
    """
    way = WAYS[name]
    sides: dict[str, tuple[list[float], list[float]]] = {}
    for trial, score in centred([trial for trial in trials if trial.number > 0]):
        first = way(trial)
        if first is not None:
            sides.setdefault(trial.study, ([], []))[0 if first else 1].append(score)
    both = [side for side in sides.values() if side[0] and side[1]]
    paired = len(both) >= FEWEST
    used = both if paired else list(sides.values())
    count = sum(len(one) + len(other) for one, other in used)
    how = "paired within studies" if paired else "centred within studies"
    if not any(one for one, _ in used) or not any(other for _, other in used):
        return Contrast(name, method, None, None, count, len(used), how, "only one of the two ways has complete trials")
    if paired:
        differences = [fmean(one) - fmean(other) for one, other in used]
        return Contrast(name, method, fmean(differences), interval(differences, seed), count, len(used), how)
    return Contrast(name, method, *_centred(used, seed), count, len(used), how)


def _centred(used: Sequence[tuple[list[float], list[float]]], seed: int) -> tuple[float, Interval | None]:
    """Difference of the means of two ways over all studies, and its interval over studies."""
    totals = np.array([[sum(one), len(one), sum(other), len(other)] for one, other in used], float)  # [S, 4]
    whole = totals.sum(axis=0)
    difference = float(whole[0] / whole[1] - whole[2] / whole[3])
    if len(used) < FEWEST:
        return difference, None
    weights = np.random.default_rng(seed).multinomial(len(used), np.full(len(used), 1 / len(used)), size=RESAMPLES)
    drawn = weights @ totals  # [B, 4]
    drawn = drawn[(drawn[:, 1] > 0) & (drawn[:, 3] > 0)]
    found = drawn[:, 0] / drawn[:, 1] - drawn[:, 2] / drawn[:, 3]
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return difference, (float(low), float(high))

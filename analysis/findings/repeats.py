"""The luck of the search: what searches of the same studies with other seeds came to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from analysis.records.studies import Estimate, StudyRecord
from analysis.statistics.gains import spread

Choose = Callable[[Sequence[StudyRecord]], list[StudyRecord]]
FEWEST = 2
"""Searches that have a deviation."""


@dataclass(frozen=True)
class OverSearches:
    """What several searches came to, each with a winner of its own; the first is the one that is reported.

    No search is chosen here: the mean is over all that were confirmed, so that it has no luck of a choice.

    Attributes:
        score: mean of the winners' report scores, deviation over searches, and how many there are.
        gain: the same of their gains, each over the baseline's winner of the same repeat; None for the baseline.
        winners: of each search by its repeat, for people.
    """

    score: Estimate
    gain: Estimate | None
    winners: tuple[str, ...]

    @property
    def n(self) -> int:
        """Searches."""
        return len(self.winners)

    @property
    def plain(self) -> dict[str, Any]:
        """As plain JSON data."""
        gain = self.gain and {"mean": self.gain.mean, "std": self.gain.std, "n": self.gain.n}
        score = {"mean": self.score.mean, "std": self.score.std, "n": self.score.n}
        return {"score": score, "gain": gain, "winners": list(self.winners)}


def of_study(study: StudyRecord) -> OverSearches | None:
    """A study over its confirmed searches; None for fewer than FEWEST."""
    return _over([one for one in study.searches if one.is_confirmed], lambda one: one.gain.mean if one.gain else None)


def of_targets(studies: Sequence[StudyRecord], choose: Choose) -> dict[tuple[str, str], OverSearches]:
    """(target, PLM) -> the target's winner over searches, chosen anew in each by its selection scores.

    A repeat counts where all studies of the target that the first search confirmed are confirmed in it too: else its
    winner is that of another choice. A baseline that wins has a gain of 0.

    Args:
        studies: confirmed first searches, with their repeats.
        choose: gives the winner of some studies per target and PLM, as `best.winners` does.
    """
    found = {place: _over(_chosen(own, choose), _gain_or_zero) for place, own in _by_target(studies).items()}
    return {place: one for place, one in found.items() if one is not None}


def _by_target(studies: Sequence[StudyRecord]) -> Mapping[tuple[str, str], list[StudyRecord]]:
    own: dict[tuple[str, str], list[StudyRecord]] = {}
    for study in studies:
        own.setdefault((study.target, study.plm), []).append(study)
    return own


def _chosen(studies: Sequence[StudyRecord], choose: Choose) -> list[StudyRecord]:
    """The winner of a target in each of its whole repeats."""
    repeats = sorted({one.repeat for study in studies for one in study.searches})
    searches = ([one for s in studies for one in s.searches if one.repeat == r and one.is_confirmed] for r in repeats)
    return [winner for own in searches if len(own) == len(studies) for winner in choose(own)]


def _gain_or_zero(winner: StudyRecord) -> float:
    return winner.gain.mean if winner.gain else 0.0


def _over(searches: Sequence[StudyRecord], gain_of: Callable[[StudyRecord], float | None]) -> OverSearches | None:
    if len(searches) < FEWEST:
        return None
    gains = [gain for one in searches if (gain := gain_of(one)) is not None]
    return OverSearches(
        _estimate([one.confirmed.score.mean for one in searches]),
        _estimate(gains) if len(gains) == len(searches) else None,
        tuple(one.name for one in searches),
    )


def _estimate(values: list[float]) -> Estimate:
    return Estimate(fmean(values), spread(values), len(values))

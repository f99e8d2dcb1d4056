"""What choosing among studies gives: the choice one takes along, and its score and gain where it was not chosen."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from analysis.records.contributions import stacked
from analysis.records.names import BASELINE
from analysis.records.studies import Estimate, StudyRecord
from analysis.statistics.crossed import gain, seed_noise
from analysis.statistics.crossfit import first_best
from analysis.statistics.gains import Floats, Gain, relative_error_reduction, relative_performance, spread


@dataclass(frozen=True)
class Choice:
    """What a choice among studies of a target comes to.

    Attributes:
        final: the study that all seeds choose.
        picks: seed -> the study that the other seeds choose, which is scored with it.
    """

    final: StudyRecord
    picks: dict[int, StudyRecord]

    @property
    def scores(self) -> dict[int, float]:
        """Seed -> report score of its pick."""
        return {seed: study.confirmed.score.by_seed[seed] for seed, study in self.picks.items()}

    def contributions(self) -> Floats | None:
        """[K, N] what each report row adds to those scores; None where it was not recorded."""
        seeds = tuple(self.picks)
        if not seeds:
            return None
        rows = [stacked([study.confirmed.contributions], seeds) for study in self.picks.values()]
        known = [own[0, place] for place, own in enumerate(rows) if own is not None]
        return np.stack(known) if len(known) == len(seeds) and len({len(row) for row in known}) == 1 else None


def choose(studies: Sequence[StudyRecord]) -> Choice:
    """The choice among confirmed studies of one target and PLM.

    What is scored with a seed is chosen by the selection scores of the other seeds, else the best of many
    studies looks better than it is. Of equals the earlier study.

    Args:
        studies: one or more; those whose choice was not recorded by seed choose by their mean.

    Returns:
        The choice; without picks where some study has no scores by seed, or they have no seed in common.
    """
    seeds = sorted(set.intersection(*(set(study.confirmed.score.by_seed) for study in studies)))
    grounds = np.array(
        [[study.confirmed.chosen_by.get(seed, study.confirmed.selection.mean) for seed in seeds] for study in studies]
    )
    final = grounds[:, 0] if len(seeds) == 1 else np.array([study.confirmed.selection.mean for study in studies])
    picks = dict(zip(seeds, first_best(grounds), strict=True)) if seeds else {}
    return Choice(studies[int(first_best(final[:, None])[0])], {seed: studies[i] for seed, i in picks.items()})


def reported(studies: Sequence[StudyRecord], choice: Choice | None = None) -> StudyRecord:
    """The chosen study with score and gain of the choice: what one may expect who chooses so.

    Args:
        studies: all of the target and PLM, whose seeds say how much training seeds deviate, the baseline among them.
        choice: among some of them; None: among all.
    """
    choice = choice or choose(studies)
    winner = choice.final.confirmed
    if not choice.picks or all(study is choice.final for study in choice.picks.values()):
        return choice.final
    scores = choice.scores
    score = Estimate(fmean(scores.values()), spread(list(scores.values())), len(scores), by_seed=scores)
    over = _gain(studies, choice)
    base = score.mean - over.mean if over else None
    twins = {seed: twin.by_seed.get(seed) for seed, study in choice.picks.items() if (twin := study.confirmed.twin)}
    known = [value for value in twins.values() if value is not None]
    changed = replace(
        winner, score=score, gain=over,
        relative_performance=None if base is None else relative_performance(score.mean, base),
        error_reduction=None if base is None else relative_error_reduction(score.mean, base),
        twin=Estimate(fmean(known), spread(known), len(known)) if len(known) == len(scores) else None,
        contributions=None,
    )  # fmt: skip
    return replace(choice.final, winner=changed)


def _gain(studies: Sequence[StudyRecord], choice: Choice) -> Estimate | None:
    """Over the baseline, of the seeds that both have; without an interval where rows were not recorded."""
    baseline = next((study for study in studies if study.reference == BASELINE), None)
    theirs = baseline.confirmed.score.by_seed if baseline else {}
    differences = {seed: score - theirs[seed] for seed, score in choice.scores.items() if seed in theirs}
    if baseline is None or not differences:
        return None
    found = difference(choice, Choice(baseline, dict.fromkeys(differences, baseline)), studies)
    values = list(differences.values())
    mean = Estimate(fmean(values), spread(values), len(values), by_seed=differences)
    return mean if found is None else replace(mean, low=found.low, high=found.high, p=found.p)


def difference(ours: Choice, theirs: Choice, studies: Sequence[StudyRecord]) -> Gain | None:
    """How much more one choice scores than another on the same rows; None where rows or seeds were not recorded.

    Args:
        ours: of a target and PLM.
        theirs: of the same.
        studies: all of the target and PLM, from which the deviation over seeds is learnt.
    """
    one, other = ours.contributions(), theirs.contributions()
    if one is None or other is None or one.shape != other.shape or list(ours.picks) != list(theirs.picks):
        return None
    by_seed = [study.confirmed.score.by_seed for study in studies]
    scores = np.array([[own[seed] for seed in ours.picks] for own in by_seed if set(ours.picks) <= set(own)])
    return gain(one, other, seed_noise(scores))

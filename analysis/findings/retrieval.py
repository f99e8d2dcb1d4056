"""Retrieval of sources: what is kept of the gain where only the most similar sources are tried."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from analysis.findings.choice import choose
from analysis.records.connection import NoRecords
from analysis.records.contributions import stacked
from analysis.records.evidence import Evidence
from analysis.records.reader import confirmed_studies
from analysis.records.studies import StudyRecord
from analysis.statistics.gains import Floats
from analysis.statistics.means import Mean, mean_of


@dataclass(frozen=True)
class TopK:
    """The best of the k most similar sources, mean over targets; a target on two PLMs counts as two.

    Attributes:
        k: studies that are tried, of one source each; a target with fewer tries all that are ranked.
        left_out: share of a target's sources of which nothing is used, in [0, 1): partners of the tried winners are.
        gain: in score units, of what selection scores choose among the tried; each seed is scored on what the others
            choose, so that the gain is not that of the luckiest study.
        kept: gain / that of the oracle, which tries all sources and chooses so too. Above 1 or below 0 where chance
            has it; None where the oracle gains nothing beyond doubt.
        targets: those with a ranked source.
        unranked: pairs of unknown similarity, of all targets. They are never tried, but the oracle tries them.
    """

    k: int
    left_out: float
    gain: float
    kept: float | None
    targets: int
    unranked: int


def top_k(records: Sequence[StudyRecord], method: str, similarity: str) -> list[TopK]:
    """Best of top-k for k = 1 to the largest number of sources; empty where no pair is ranked.

    Args:
        records: studies, in any order.
        method: whose.
        similarity: by which sources are ranked, largest first, then by name.

    Raises:
        ValueError: if the method has no study with a source.

    With partners, a study holds SPoT's other two ways: the first row of `spot` is the weighted average of the
    most similar sources, of `spot_mixture` their mixture, and `left_out` says how many they were.

    Source: SPoT (arXiv:2110.07904), its retrieval by best of top-k, weighted average and mixture, against the
    brute-force oracle.
    """
    targets = _targets(records, method)
    unranked = sum(_similarity(study, similarity) is None for studies in targets for study in studies)
    known = [studies for studies in targets if ranked(studies, similarity)]
    sizes = range(1, max(map(len, known), default=0) + 1)
    oracle = mean_of([chosen_gain(studies) for studies in known]) if known else None
    return [_best_of(k, known, similarity, unranked, oracle) for k in sizes]


def _best_of(
    k: int, targets: Sequence[Sequence[StudyRecord]], similarity: str, unranked: int, oracle: Mean | None
) -> TopK:
    tried = [ranked(studies, similarity)[:k] for studies in targets]
    left_out = fmean(1 - len(_used(some)) / len(_used(studies)) for some, studies in zip(tried, targets, strict=True))
    gain = fmean(chosen_gain(studies) for studies in tried)
    return TopK(k, left_out, gain, _kept(gain, oracle), len(targets), unranked)


def _kept(gain: float, oracle: Mean | None) -> float | None:
    """A ratio to what is hardly above 0 says nothing."""
    return gain / oracle.mean if oracle is not None and oracle.is_positive else None


def _used(studies: Iterable[StudyRecord]) -> set[str]:
    """The sources that the winners of studies used, partners included."""
    return {name for study in studies for name in study.sources}


def ranked(studies: Iterable[StudyRecord], similarity: str) -> list[StudyRecord]:
    """A target's studies, the most similar source first, ties by name; without those of unknown similarity."""
    known = [(value, study) for study in studies if (value := _similarity(study, similarity)) is not None]
    return [study for _, study in sorted(known, key=lambda pair: (-pair[0], pair[1].source))]


def _similarity(study: StudyRecord, name: str) -> float | None:
    return study.similarities.get(name)


def chosen_gain(studies: Sequence[StudyRecord]) -> float:
    """The gain of choosing by selection score: of each seed what the other seeds choose, mean over seeds.

    Ties go by the source's name; the report score chooses nothing. Where gains were not recorded by seed it is that
    of the study that all seeds choose.
    """
    choice = choose(sorted(studies, key=lambda study: study.source or ""))
    gains = [study.confirmed.gain for study in choice.picks.values()]
    if not gains or any(gain is None or not set(choice.picks) <= set(gain.by_seed) for gain in gains):
        return choice.final.gained
    return fmean(gain.by_seed[seed] for seed, gain in zip(choice.picks, gains, strict=True) if gain)


def hindsight_gains(records: Sequence[StudyRecord], method: str) -> list[float | None]:
    """Per target the gain of the source that is best by report scores themselves, where others choose than are scored.

    No one who does not know the report scores can have it. The maximum of many gains is that of the luckiest; so one
    half of the report rows chooses with all seeds but one, and is scored on the other half with that seed; mean over
    seeds and both halves.

    Returns:
        None for a target whose rows were not recorded, or that has one seed.

    Raises:
        ValueError: if the method has no study with a source.
    """
    return [_hindsight(studies) for studies in _targets(records, method)]


def _hindsight(studies: Sequence[StudyRecord]) -> float | None:
    seeds = tuple(sorted(set.intersection(*(set(study.confirmed.score.by_seed) for study in studies))))
    rows = stacked([study.confirmed.contributions for study in studies], seeds)
    if rows is None or len(seeds) < 2 or rows.shape[2] < 2:
        return None
    base = [study.confirmed.score.mean - study.gained for study in studies]
    return _best_elsewhere(rows) - fmean(base)


def _best_elsewhere(rows: Floats) -> float:
    """The score of the best of [S, K, N], chosen by other seeds on the other rows: odd ones for even ones."""
    found = []
    for half in (0, 1):
        choosing, scoring = rows[:, :, half::2].mean(axis=2), rows[:, :, 1 - half :: 2].mean(axis=2)  # [S, K]
        for seed in range(rows.shape[1]):
            best = int(np.delete(choosing, seed, axis=1).mean(axis=1).argmax())
            found.append(float(scoring[best, seed]))
    return fmean(found)


def random_order(records: Sequence[StudyRecord], method: str, k: int) -> float:
    """The expected gain of the best of k sources drawn at random, chosen as `chosen_gain` does; mean over targets.

    Args:
        records: studies, in any order.
        method: whose.
        k: sources drawn without replacement, at least 1; a target with fewer tries all.

    Raises:
        ValueError: if k is below 1 or the method has no study with a source.
    """
    if k < 1:
        raise ValueError(f"at least 1 source must be drawn, got k={k}")
    return fmean(_expected(studies, k) for studies in _targets(records, method))


def tried_shares(records: Sequence[StudyRecord], method: str) -> list[float]:
    """The share of a target's sources that k of them are, mean over targets, for k = 1 to the largest number.

    Raises:
        ValueError: if the method has no study with a source.
    """
    counts = [len(studies) for studies in _targets(records, method)]
    return [fmean(min(k, count) / count for count in counts) for k in range(1, max(counts) + 1)]


def _expected(studies: Sequence[StudyRecord], k: int) -> float:
    """For each seed, the j-th by the other seeds is chosen if it is drawn and the other k − 1 come from the S − j behind it."""
    sources, drawn = len(studies), min(k, len(studies))
    ways = [math.comb(sources - j, drawn - 1) / math.comb(sources, drawn) for j in range(1, sources + 1)]
    found = []
    for grounds, gains in _by_seed(sorted(studies, key=lambda study: study.source or "")):
        order = sorted(range(sources), key=lambda i: -grounds[i])
        found.append(math.fsum(share * gains[i] for share, i in zip(ways, order, strict=True)))
    return fmean(found)


def _by_seed(studies: Sequence[StudyRecord]) -> list[tuple[list[float], list[float]]]:
    """Per seed by what each study is chosen and what it gains; one entry of means where seeds were not recorded."""
    winners = [study.confirmed for study in studies]
    known = [set(w.chosen_by) & set(w.gain.by_seed if w.gain else ()) for w in winners]
    if seeds := sorted(set.intersection(*known)):
        return [([w.chosen_by[s] for w in winners], [w.gain.by_seed[s] for w in winners if w.gain]) for s in seeds]
    return [([w.selection.mean for w in winners], [study.gained for study in studies])]


def _targets(records: Sequence[StudyRecord], method: str) -> list[list[StudyRecord]]:
    """The method's studies with a source, by target and PLM."""
    targets: dict[tuple[str, str], list[StudyRecord]] = {}
    for record in records:
        if record.method == method and record.source is not None:
            targets.setdefault((record.target, record.plm), []).append(record)
    if not targets:
        raise ValueError(f"{method} has no study with a source, so there is nothing to retrieve")
    return list(targets.values())


def retrieval_rows(uri: str, experiment: str, similarity: str, target: str | None = None) -> list[dict[str, Any]]:
    """Best of top-k of every method that has sources, by name, then k.

    Args:
        uri: of MLflow.
        experiment: its name.
        similarity: by which sources are ranked.
        target: only this one.

    Returns:
        A row each: method, similarity, the values of `TopK`, and for the same targets `random`, the gain
        where sources are drawn instead of ranked, and `hindsight`, the most there was to gain.

    Raises:
        NoRecords: if no study is confirmed, or none has this similarity.
    """
    studies = [study for study in confirmed_studies(uri, experiment) if study.source is not None]
    if all(_similarity(study, similarity) is None for study in studies):
        raise NoRecords(
            f"no confirmed study of experiment {experiment!r} has the similarity {similarity!r}; "
            f"measured: {', '.join(_measured(studies)) or 'none'}"
        )
    asked = [study for study in studies if target in (None, study.target)]
    return [row for method in sorted({study.method for study in asked}) for row in _rows(asked, method, similarity)]


def _measured(studies: Iterable[StudyRecord]) -> list[str]:
    """The similarities that some study has."""
    return sorted({name for study in studies for name in study.similarities})


def _rows(records: Sequence[StudyRecord], method: str, similarity: str) -> list[dict[str, Any]]:
    targets = _targets(records, method)
    same = [study for studies in targets if ranked(studies, similarity) for study in studies]
    return [
        {
            "method": method,
            "similarity": similarity,
            "k": best.k,
            "left_out": best.left_out,
            "gain": best.gain,
            "kept": best.kept,
            "random": random_order(same, method, best.k),
            "hindsight": _mean(hindsight_gains(same, method)),
            "targets": best.targets,
            "unranked": best.unranked,
        }
        for best in top_k(records, method, similarity)
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    """Of those that are known; None of none."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


ENOUGH = 0.9
"""Share of the gain of all sources that SPoT kept with a third of them."""


@dataclass(frozen=True)
class RetrievalSummary:
    """Mean gains over targets with a signal, in score units, of a method whose sources are chosen by a similarity.

    Attributes:
        method: the method.
        similarity: its name.
        first: gain of the most similar source.
        random: expected gain of a source drawn at random.
        oracle: gain of trying all sources, chosen by selection score.
        advantage: first − random, mean over targets with its 95 % interval: what the similarity is worth.
        kept: first / oracle; None where the oracle gains nothing beyond doubt.
        regret: what the best source in hindsight, chosen on other rows and seeds, gains more than the most similar
            one, mean over targets with its 95 % interval; may fall below 0 by chance; None where it is not known.
        enough: share of the sources that must be tried to keep ENOUGH of the oracle's gain; None where `kept` is.
        targets: those with a ranked source.
    """

    method: str
    similarity: str
    first: float
    random: float
    oracle: float
    advantage: Mean
    kept: float | None
    regret: Mean | None
    enough: float | None
    targets: int


def retrieval_summaries(evidence: Evidence) -> list[RetrievalSummary]:
    """Every method with sources and every similarity that ranks some; without pairs of a task with itself."""
    found = []
    for method in evidence.methods:
        for similarity in evidence.similarities:
            own = [pair for pair in evidence.transfer_pairs if pair.method == method]
            rows = top_k(own, method, similarity) if own else []
            if rows:
                found.append(_followed(evidence, method, similarity, rows))
    return found


def _followed(evidence: Evidence, method: str, similarity: str, rows: list[TopK]) -> RetrievalSummary:
    own = [pair for pair in evidence.transfer_pairs if pair.method == method]
    targets = [(order, studies) for studies in _targets(own, method) if (order := ranked(studies, similarity))]
    first = [order[0].gained for order, _ in targets]
    drawn = [_expected(studies, 1) for _, studies in targets]
    best = [_hindsight(studies) for _, studies in targets]
    lost = [most - own for most, own in zip(best, first, strict=True) if most is not None]
    enough = next((1 - row.left_out for row in rows if row.kept is not None and row.kept >= ENOUGH), None)
    return RetrievalSummary(
        method, similarity, rows[0].gain, fmean(drawn), fmean(chosen_gain(studies) for _, studies in targets),
        mean_of([one - other for one, other in zip(first, drawn, strict=True)]), rows[0].kept,
        mean_of(lost) if lost else None, enough, rows[0].targets,
    )  # fmt: skip


def retrieval_metrics(found: Iterable[RetrievalSummary]) -> Iterator[tuple[str, float]]:
    """Names that sort well, and values: `retrieval/spot/c_mean/regret`."""
    for one in found:
        if one.regret is not None:
            yield f"retrieval/{one.method}/{one.similarity}/regret", one.regret.mean
        yield f"retrieval/{one.method}/{one.similarity}/advantage", one.advantage.mean
        yield f"retrieval/{one.method}/{one.similarity}/first", one.first

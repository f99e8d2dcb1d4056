"""Retrieval of sources: what is kept of the gain where only the most similar sources are tried."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from analysis.records.evidence import Evidence
from analysis.records.reader import NoRecords, confirmed_studies
from analysis.records.studies import StudyRecord
from analysis.statistics.gains import ROUNDING


@dataclass(frozen=True)
class TopK:
    """The best of the k most similar sources, mean over targets; a target on two PLMs counts as two.

    Attributes:
        k: studies that are tried, of one source each; a target with fewer tries all that are ranked.
        left_out: share of a target's sources of which nothing is used, in [0, 1): partners of the tried winners are.
        gain: of the tried study with the best selection score, in score units.
        kept: gain / that of the oracle, which tries all sources and chooses by selection score too. Above
            1 or below 0 where chance has it, for gains are those of the report split; None where the
            oracle gains nothing.
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
    return [_best_of(k, known, similarity, unranked) for k in sizes]


def _best_of(k: int, targets: Sequence[Sequence[StudyRecord]], similarity: str, unranked: int) -> TopK:
    tried = [ranked(studies, similarity)[:k] for studies in targets]
    left_out = fmean(1 - len(_used(some)) / len(_used(studies)) for some, studies in zip(tried, targets, strict=True))
    gain, oracle = (fmean(chosen(studies).gained for studies in sets) for sets in (tried, targets))
    return TopK(k, left_out, gain, gain / oracle if oracle > ROUNDING else None, len(targets), unranked)


def _used(studies: Iterable[StudyRecord]) -> set[str]:
    """The sources that the winners of studies used, partners included."""
    return {name for study in studies for name in study.sources}


def ranked(studies: Iterable[StudyRecord], similarity: str) -> list[StudyRecord]:
    """A target's studies, the most similar source first, ties by name; without those of unknown similarity."""
    known = [(value, study) for study in studies if (value := _similarity(study, similarity)) is not None]
    return [study for _, study in sorted(known, key=lambda pair: (-pair[0], pair[1].source))]


def _similarity(study: StudyRecord, name: str) -> float | None:
    return study.similarities.get(name)


def chosen(studies: Iterable[StudyRecord]) -> StudyRecord:
    """The study with the best selection score, ties by the source's name. The report score chooses nothing."""
    return min(studies, key=_by_selection)


def _by_selection(study: StudyRecord) -> tuple[float, str]:
    return -study.confirmed.selection.mean, study.source or ""


def hindsight(records: Sequence[StudyRecord], method: str) -> float:
    """The best gain over all sources, chosen by the report score itself, mean over targets.

    No one who does not know the report scores can have it: what the selection split costs, and luck.

    Raises:
        ValueError: if the method has no study with a source.
    """
    return fmean(max(study.gained for study in studies) for studies in _targets(records, method))


def regret(records: Sequence[StudyRecord], method: str, similarity: str) -> float | None:
    """How much more than the most similar source the best one in hindsight gains, mean over targets with a ranked source.

    Args:
        records: studies, in any order.
        method: whose.
        similarity: by which sources are ranked.

    Returns:
        Zero or more, in score units; None where no pair is ranked.

    Raises:
        ValueError: if the method has no study with a source.
    """
    known = [(ranked(studies, similarity), studies) for studies in _targets(records, method)]
    lost = [max(study.gained for study in studies) - order[0].gained for order, studies in known if order]
    return fmean(lost) if lost else None


def random_order(records: Sequence[StudyRecord], method: str, k: int) -> float:
    """The expected gain of the best of k sources drawn at random, mean over targets.

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
    """The j-th by selection score is the choice if it is drawn and the other k − 1 come from the S − j behind it."""
    sources, drawn = len(studies), min(k, len(studies))
    ways = [math.comb(sources - j, drawn - 1) for j in range(1, sources + 1)]
    gains = [study.gained for study in sorted(studies, key=_by_selection)]
    return math.fsum(n / math.comb(sources, drawn) * gain for n, gain in zip(ways, gains, strict=True))


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
            "hindsight": hindsight(same, method),
            "targets": best.targets,
            "unranked": best.unranked,
        }
        for best in top_k(records, method, similarity)
    ]


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
        kept: first / oracle; None where the oracle gains nothing.
        regret: what the best source in hindsight gains more than the most similar one, 0 or more.
        enough: share of the sources that must be tried to keep ENOUGH of the oracle's gain; None where it gains nothing.
        targets: those with a ranked source.
    """

    method: str
    similarity: str
    first: float
    random: float
    oracle: float
    kept: float | None
    regret: float
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
    ranked = [pair for pair in evidence.transfer_pairs if pair.method == method and similarity in pair.similarities]
    places = {(pair.target, pair.plm) for pair in ranked}
    same = [pair for pair in evidence.transfer_pairs if pair.method == method and (pair.target, pair.plm) in places]
    lost = regret(same, method, similarity)
    assert lost is not None
    return RetrievalSummary(
        method, similarity, rows[0].gain, random_order(same, method, 1), random_order(same, method, len(same)), rows[0].kept, lost,
        next((1 - row.left_out for row in rows if row.kept is not None and row.kept >= ENOUGH), None), rows[0].targets,
    )  # fmt: skip


def retrieval_metrics(found: Iterable[RetrievalSummary]) -> Iterator[tuple[str, float]]:
    """Names that sort well, and values: `retrieval/spot/c_mean/regret`."""
    for one in found:
        yield f"retrieval/{one.method}/{one.similarity}/regret", one.regret
        yield f"retrieval/{one.method}/{one.similarity}/first", one.first

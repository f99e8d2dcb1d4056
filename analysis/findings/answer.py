"""The question of the whole: does transferability predict the gain? Coefficients, and an answer in two sentences."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from types import MappingProxyType

from analysis.findings.retrieval import random_order, top_k
from analysis.records.evidence import Evidence
from analysis.records.measures import MEASURES, SCOPES, seed_values, share_above, value
from analysis.records.names import OFF
from analysis.records.studies import StudyRecord
from analysis.statistics.correlation import MINIMUM, Correlation, Point
from analysis.statistics.correlation import correlations as of_points
from analysis.statistics.gains import LEVEL, Floats
from analysis.wording import chance, counted, points, rho, span


def points_of(
    evidence: Evidence, pairs: Iterable[StudyRecord], similarity: str, measure: str, scope: str = "winner"
) -> list[Point]:
    """Pairs as points of a similarity and a measure; NaN where one is not known."""
    chosen = list(pairs)
    seeds = sorted({seed for pair in chosen for seed in seed_values(pair, measure, scope)})
    return [
        Point(
            pair.source or "", evidence.place(pair.target, pair.plm),
            pair.similarities.get(similarity, math.nan),
            _or_nan(value(pair, measure, scope)), tuple(seed_values(pair, measure, scope).get(seed, math.nan) for seed in seeds),
            _rows(pair, measure, scope),
        )
        for pair in chosen
    ]  # fmt: skip


def _rows(pair: StudyRecord, measure: str, scope: str) -> Floats | None:
    """[K, N] what report rows add to the score, by which a target's sources stand in the order of their gains too."""
    known = pair.confirmed.contributions if scope == "winner" and measure in ("gain", "score") else None
    return known.values if known else None


def _or_nan(found: float | None) -> float:
    return math.nan if found is None else found


def measure_name(measure: str, scope: str) -> str:
    """How a measure of a scope is called in tables and metrics: `gain`, `first_gain`."""
    return measure if scope == "winner" else f"{scope}_{measure}"


def correlations(evidence: Evidence, exclude_self: bool = True) -> list[Correlation]:
    """Every similarity against every measure of every method.

    Targets without signal are left out: their gains are noise around a prompt that knows nothing.

    Args:
        evidence: of the experiment.
        exclude_self: leaves out pairs of a task with itself, whose similarity is known beforehand.
    """
    found: list[Correlation] = []
    for method in evidence.methods:
        for measure in MEASURES:
            for scope in SCOPES:
                pairs = [pair for pair in evidence.pairs_with_signal if pair.method == method]
                own = [pair for pair in pairs if value(pair, measure, scope) is not None]
                points = {name: points_of(evidence, own, name, measure, scope) for name in evidence.similarities}
                if own and points:
                    name = measure_name(measure, scope)
                    found += of_points(points, measure=name, method=method, exclude_self=exclude_self)
    return found


def headline_method(evidence: Evidence) -> str | None:
    """The method that answers: the one that takes a source as a mere start, else the first whose loss is free of it."""
    return next((method for method in evidence.methods if not is_marked(evidence, method)), None)


def is_marked(evidence: Evidence, method: str) -> bool:
    """Whether a method's gains contain the similarity in their loss, so that they cannot answer."""
    return any(pair.contains_similarity for pair in evidence.pairs if pair.method == method)


@dataclass(frozen=True)
class Answer:
    """What the experiment says to the question.

    Attributes:
        verdict: `yes`: it knows something of the pair beyond chance, and the interval of the mean lies above 0;
            `probably`: so for these targets, but not for others with certainty; `source only`: no better than
            knowing which source it is; `no sign`; or `cannot say`.
        sentences: two, for the top of the page.
        method: whose gains answer; None where none can.
        similarity: the one of which the sentences speak; None where there is no coefficient.
        found: its correlation with the gain.
    """

    verdict: str
    sentences: tuple[str, str]
    method: str | None = None
    similarity: str | None = None
    found: Correlation | None = None


def answer(evidence: Evidence, found: Sequence[Correlation]) -> Answer:
    """The answer, from coefficients that `correlations` gave."""
    method = headline_method(evidence)
    known = [c for c in found if c.method == method and c.measure == "gain" and c.spearman_mean is not None]
    if method is None or not known:
        return Answer("cannot say", (_obstacle(evidence, found, method), _second(evidence, method, None)), method)
    best = max(known, key=lambda c: (is_significant(c), c.spearman_mean or 0.0))
    sources = len({pair.source for pair in evidence.transfer_pairs if pair.method == method})
    verdict = verdict_of(best, sources)
    first = _first(best, len(known), verdict, sources) + _trivial(evidence, method) + _others(evidence, found, best)
    return Answer(verdict, (first, _second(evidence, method, best.similarity)), method, best.similarity, best)


def is_significant(found: Correlation) -> bool:
    """Whether a similarity orders pairs better than chance, once means of sources are removed; of the best of all."""
    return found.pair is not None and found.pair.p < 1 - LEVEL and found.pair.coefficient > 0


def knows_sources(found: Correlation) -> bool:
    """Whether it orders sources better than chance, corrected for the number of similarities, be it by source alone."""
    p, pooled = found.pooled.p_adjusted, found.pooled.spearman
    return p is not None and p < 1 - LEVEL and pooled is not None and pooled > 0


def smallest_p(sources: int, targets: int) -> float:
    """The smallest p-value that permuting each of so many sources over so many targets can give: of a perfect order."""
    return min(1.0, 2 / float(math.factorial(targets)) ** sources)


def verdict_of(best: Correlation, sources: int) -> str:
    """What the best similarity's coefficients say: a key of VERDICTS."""
    targets = sum(one.spearman is not None for one in best.targets.values())
    if is_significant(best):
        return "yes" if best.mean_interval and best.mean_interval[0] > 0 else "probably"
    if best.pair is None or smallest_p(sources, targets) >= 1 - LEVEL:
        return "cannot say"
    return "source only" if knows_sources(best) else "no sign"


def _first(best: Correlation, similarities: int, verdict: str, sources: int) -> str:
    targets = sum(one.spearman is not None for one in best.targets.values())
    which = f"{best.similarity}, the best of {similarities} similarities," if similarities > 1 else best.similarity
    claim = VERDICTS[verdict].format(
        which=which, method=best.method, n=counted(sources, "source"), t=counted(targets, "target")
    )
    interval = f"95\u00a0% {span(best.mean_interval)}" if best.mean_interval else ""
    several = similarities > 1 and best.by_chance is not None
    luck = f"the best of {similarities} reaches {rho(best.by_chance)} by chance" if several else ""
    doubt = "; ".join(filter(None, [interval, luck]))
    return f"{claim}: mean Spearman {rho(best.spearman_mean)} over {counted(targets, 'target')}{f' ({doubt})' if doubt else ''}{_beyond(best, similarities)}"


def _beyond(best: Correlation, similarities: int) -> str:
    """What is left of a coefficient without the means of sources, and what those alone reach."""
    correction = f" corrected for {similarities} similarities" if similarities > 1 else ""
    left = (
        f"without the means of sources {rho(best.pair.coefficient)} ({chance(best.pair.p)}{correction})"
        if best.pair
        else ""
    )
    alone = (
        f"a source's mean rank on the other targets alone reaches {rho(best.source_only)}"
        if best.source_only is not None
        else ""
    )
    return "".join(f"; {part}" for part in (left, alone) if part)


VERDICTS: Mapping[str, str] = MappingProxyType(
    {
        "yes": "Yes: {which} predicts which sources help {method} on which target",
        "probably": "Probably: {which} orders the sources of {method} for these targets better than chance would, but how it would do on other targets is uncertain",
        "source only": "Only by source: {which} orders the sources of {method} better than chance would, but the same for every target, so that knowing which sources are good does as well",
        "no sign": "No sign of it here: {which} does not order the sources of {method} better than chance would",
        "cannot say": "Whether {which} predicts which sources help {method} on which target cannot be said with {n} and {t}",
    }
)
"""Verdict -> how the first sentence begins."""


def trivial_coefficients(evidence: Evidence, method: str) -> dict[str, float]:
    """Mean Spearman with the gain of what knows nothing but the source: its size and the entropy of its labels."""
    pairs = [pair for pair in evidence.transfer_pairs if pair.method == method]
    points = {name: points_of(evidence, pairs, name, "gain") for name in evidence.source_only}
    found = of_points(points, measure="gain", method=method) if pairs else []
    return {one.similarity: one.spearman_mean for one in found if one.spearman_mean is not None}


def _trivial(evidence: Evidence, method: str) -> str:
    """What a similarity is to beat; empty where nothing of it was measured."""
    known = trivial_coefficients(evidence, method)
    said = " and ".join(f"{name} {rho(value)}" for name, value in known.items())
    return f"; knowing only of the source: {said}" if said else ""


def _others(evidence: Evidence, found: Sequence[Correlation], best: Correlation) -> str:
    """The coefficient of a method that could weigh its loss by the similarity, but was told not to."""
    free = sorted({pair.method for pair in evidence.pairs if pair.similarity_in_loss == OFF} - {best.method})
    same = [c for c in found if (c.measure, c.similarity) == ("gain", best.similarity) and c.method in free[:1]]
    known = [c for c in same if c.spearman_mean is not None]
    return f"; of {free[0]}, unweighted, it is {rho(known[0].spearman_mean)}{_within(known[0])}." if known else "."


def _within(found: Correlation) -> str:
    return f" ({span(found.mean_interval)})" if found.mean_interval else ""


def _obstacle(evidence: Evidence, found: Sequence[Correlation], method: str | None) -> str:
    """Why there is no coefficient."""
    sources = len({pair.source for pair in evidence.pairs})
    reasons = {
        "no study is confirmed yet": not evidence.studies,
        "no method with sources is confirmed": not evidence.pairs,
        "the loss of every method contains the similarity (search spot too, or set weigh_by: none)": method is None,
        "no similarity was measured": not evidence.similarities,
        "no target carries a signal: prompt tuning beats the best constant answer nowhere": not evidence.pairs_with_signal,
        f"there {_are(sources)}, and a coefficient needs at least {MINIMUM}": sources < MINIMUM,
    }
    reason = next((said for said, holds in reasons.items() if holds), "")
    notes = sorted({one.note for c in found if c.method == method for one in c.targets.values() if one.note})
    return f"Whether similarity predicts the gain cannot be said: {reason or '; '.join(notes)}."


def _are(sources: int) -> str:
    return "is only 1 source" if sources == 1 else f"are only {sources} sources" if sources else "are no sources"


def _second(evidence: Evidence, method: str | None, similarity: str | None) -> str:
    """What one gets who follows it, or the gains alone."""
    own = [pair for pair in evidence.transfer_pairs if pair.method == method]
    if not own or method is None:
        return "What was measured and what is missing is listed below."
    count = max(len({pair.source for pair in own if pair.target == target}) for target in {pair.target for pair in own})
    if similarity is None:
        gains = [pair.gained for pair in own]
        better = round(share_above(gains) * len(gains))
        return (
            f"{method} gains {points(fmean(gains))} points over prompt tuning on average, and beats it on {better} of "
            f"{counted(len(gains), 'pair')}."
        )
    rows = top_k(own, method, similarity)
    return (
        f"The most similar source gains {points(rows[0].gain)} points over prompt tuning on average, one drawn at random "
        f"{points(random_order(own, method, 1))}, and the best of all {count}, chosen by selection score, {points(random_order(own, method, count))}."
    )


def coefficients(found: Iterable[Correlation], prefix: str = "corr") -> Iterator[tuple[str, float]]:
    """Names that sort well, and values: `corr/gain/spot/c_mean/spearman_mean`."""
    for one in found:
        said = {
            "spearman_mean": one.spearman_mean, "pearson_mean": one.pearson_mean, "ceiling": one.ceiling,
            "spearman_mean/low": one.mean_interval and one.mean_interval[0], "spearman_mean/high": one.mean_interval and one.mean_interval[1],
            "pooled/spearman": one.pooled.spearman, "pooled/pearson": one.pooled.pearson,
            "pooled/spearman/low": one.pooled.spearman_interval and one.pooled.spearman_interval[0],
            "pooled/spearman/high": one.pooled.spearman_interval and one.pooled.spearman_interval[1],
            "pair": one.pair_coefficient, "pair/p": one.pair_p, "source_only": one.source_only,
            "by_chance": one.by_chance, "pooled/p": one.pooled.p_permutation, "pooled/p_adjusted": one.pooled.p_adjusted, "pooled/n": float(one.pooled.n),
            **{f"target/{target}/spearman": of.spearman for target, of in one.targets.items()},
        }  # fmt: skip
        for name, number in said.items():
            if number is not None and math.isfinite(number):
                yield f"{prefix}/{one.measure}/{one.method}/{one.similarity}/{name}", number

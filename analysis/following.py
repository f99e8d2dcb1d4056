"""What one gains who follows a similarity to the most similar sources, in numbers."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from analysis.evidence import Evidence
from analysis.records import SIMILARITY
from analysis.retrieval import TopK, random_order, regret, top_k

ENOUGH = 0.9
"""Share of the gain of all sources that SPoT kept with a third of them."""


@dataclass(frozen=True)
class Followed:
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


def following(evidence: Evidence) -> list[Followed]:
    """Every method with sources and every similarity that ranks some; without pairs of a task with itself."""
    found = []
    for method in evidence.methods:
        for similarity in evidence.similarities:
            own = [pair for pair in evidence.heard_others if pair.method == method]
            rows = top_k(own, method, similarity) if own else []
            if rows:
                found.append(_followed(evidence, method, similarity, rows))
    return found


def _followed(evidence: Evidence, method: str, similarity: str, rows: list[TopK]) -> Followed:
    ranked = [
        pair for pair in evidence.heard_others if pair.method == method and f"{SIMILARITY}/{similarity}" in pair.metrics
    ]
    places = {(pair.target, pair.plm) for pair in ranked}
    same = [pair for pair in evidence.heard_others if pair.method == method and (pair.target, pair.plm) in places]
    lost = regret(same, method, similarity)
    assert lost is not None
    return Followed(
        method, similarity, rows[0].gain, random_order(same, method, 1), random_order(same, method, len(same)), rows[0].kept, lost,
        next((1 - row.left_out for row in rows if row.kept is not None and row.kept >= ENOUGH), None), rows[0].targets,
    )  # fmt: skip


def regrets(found: Iterable[Followed]) -> Iterator[tuple[str, float]]:
    """Names that sort well, and values: `retrieval/spot/c_mean/regret`."""
    for one in found:
        yield f"retrieval/{one.method}/{one.similarity}/regret", one.regret
        yield f"retrieval/{one.method}/{one.similarity}/first", one.first

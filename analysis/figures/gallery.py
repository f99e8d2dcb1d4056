"""All figures of an experiment, grouped by the question they answer, and why some cannot be drawn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from analysis.figures.contrasts import contrasts_figure, twins_figure
from analysis.figures.correlation import coefficients_figure, scatter_figure
from analysis.figures.drawing import Drawing, NotDrawn
from analysis.figures.equal_cost import CURVE, equal_cost_figure
from analysis.figures.gains import gain_map
from analysis.figures.relative import relative_map, untrained
from analysis.figures.retrieval import pooled_figure, retrieval_figure
from analysis.figures.search import importance_figure, progress_figure, slices_figure
from analysis.figures.similarity import similarity_map
from analysis.findings.answer import Answer
from analysis.findings.equal_cost import equal_cost
from analysis.findings.search_history import SearchHistory
from analysis.records.evidence import Evidence
from analysis.statistics.correlation import Correlation

Figure = Drawing | NotDrawn


@dataclass(frozen=True)
class Gallery:
    """The figures of an experiment.

    Attributes:
        answer: coefficients, similarity against gain, retrieval.
        relative: a heat map of relative performance per method that takes source prompts untrained.
        gains: a heat map of gains per method, the headline's first.
        similarities: heat maps, the headline's first.
        search: importance, slices, progress, methods at equal cost, contrasts and twins.
    """

    answer: tuple[Figure, ...]
    relative: tuple[Figure, ...]
    gains: tuple[Figure, ...]
    similarities: tuple[Figure, ...]
    search: tuple[Figure, ...]

    @property
    def all(self) -> tuple[Figure, ...]:
        """In the order of the page."""
        return self.answer + self.relative + self.gains + self.similarities + self.search

    @property
    def drawn(self) -> Iterator[Drawing]:
        """Figures that could be drawn."""
        return (figure for figure in self.all if isinstance(figure, Drawing))

    @property
    def not_drawn(self) -> Iterator[NotDrawn]:
        """Figures that could not be drawn."""
        return (figure for figure in self.all if isinstance(figure, NotDrawn))


def gallery(evidence: Evidence, answer: Answer, found: Sequence[Correlation], search: SearchHistory) -> Gallery:
    """Every figure of an experiment, none of them painted yet."""
    similarities = sorted(evidence.similarities, key=lambda name: (name != answer.similarity, name))
    methods = sorted(evidence.methods, key=lambda name: (name != answer.method, name))
    return Gallery(
        answer=(
            coefficients_figure(evidence, found), scatter_figure(evidence, answer), pooled_figure(evidence, answer),
            retrieval_figure(evidence, answer),
        ),
        relative=tuple(relative_map(evidence, method) for method in untrained(evidence)),
        gains=tuple(gain_map(evidence, method) for method in methods),
        similarities=tuple(similarity_map(evidence, similarity) for similarity in similarities),
        search=(
            importance_figure(search.importances), slices_figure(search.slices), progress_figure(search.progress),
            equal_cost_figure(equal_cost(evidence, CURVE)), contrasts_figure(search.contrasts), twins_figure(evidence, search.comparisons),
        ),
    )  # fmt: skip

"""The tables of the page: each column is a heading and a function from a row to its cell."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from analysis.findings.answer import is_marked
from analysis.findings.best import corrected, winners
from analysis.findings.comparisons import MethodComparison
from analysis.findings.method_table import BEST, RULE, TIE, method_table
from analysis.findings.method_table import Cell as Compared
from analysis.findings.retrieval import RetrievalSummary, retrieval_summaries
from analysis.records.evidence import Evidence
from analysis.records.measures import MEASURES, Spread, spreads, value
from analysis.records.studies import Estimate, StudyRecord
from analysis.report.page import Cell, Table, number
from analysis.statistics.correlation import Correlation
from analysis.statistics.gains import LEVEL
from analysis.statistics.means import Mean
from analysis.statistics.power import Detectable
from analysis.wording import chance, minus, points, rho, span

Row = TypeVar("Row")
Columns = Mapping[str, Callable[[Row], Cell]]
"""Heading -> function from a row to its cell."""


def _table(name: str, caption: str, columns: Columns[Row], rows: Sequence[Row], sortable: bool = False) -> Table:
    cells = [[cell(row) for cell in columns.values()] for row in rows]
    return Table(name, caption, [heading.strip() for heading in columns], cells, sortable)


def best_table(evidence: Evidence) -> Table:
    """The best configuration of each target."""
    chosen = sorted(winners(evidence.studies), key=lambda study: (study.target, study.plm))
    p_values = corrected(chosen)
    stars = {run: p < 1 - LEVEL for run, p in p_values.items()}
    return _table(
        "best-table",
        "Chosen by selection score, each seed scored on what the other seeds choose. Scores, and gains over prompt tuning, in percent on report rows, ± standard "
        "deviation over seeds; 95\u00a0% interval over rows and seeds; "
        "p and * (below 0.05) after Holm's correction over targets",
        {
            "target": lambda s: Cell(evidence.place(s.target, s.plm) + _no_signal(evidence, s)),
            "method": lambda s: Cell(s.method),
            "source": lambda s: Cell(" + ".join(s.sources) or "–"),
            "metric": lambda s: Cell(s.settings.get("metric", "–")),
            "score": _score,
            "constant": lambda s: percent(s.confirmed.majority),
            "gain": lambda s: _gain(s, " *" if stars.get(s.run_id) else ""),
            "interval": _interval,
            "p": lambda s: _chance(p_values.get(s.run_id)),
            "steps": lambda s: _whole(s.confirmed.steps),
            "seconds": lambda s: _whole(s.confirmed.seconds),
        },
        chosen,
    )


def _no_signal(evidence: Evidence, study: StudyRecord) -> str:
    return " (no signal)" if evidence.place(study.target, study.plm) in evidence.targets_without_signal else ""


def pairs_table(evidence: Evidence) -> Table:
    """Every confirmed study with all its measurements."""
    columns: dict[str, Callable[[StudyRecord], Cell]] = {
        "target": lambda s: Cell(s.target),
        **({"PLM": lambda s: Cell(s.plm)} if evidence.several_plms else {}),
        "method": lambda s: Cell(s.method),
        "source": lambda s: Cell(" + ".join(s.sources) or "–"),
        "metric": lambda s: Cell(s.settings.get("metric", "–")),
        "score": _score,
        "gain": _gain,
        "interval": _interval,
        "p": lambda s: _chance(s.gain.p if s.gain else None),
        **{name: _similarity(name) for name in evidence.similarities},
        "gain of the first trial": lambda s: percent(value(s, "gain", "first"), signed=True),
        "score at first evaluation": lambda s: percent(value(s, "early")),
        "error reduction": lambda s: percent(value(s, "error_reduction"), signed=True),
        "convergence speed-up": lambda s: _times(value(s, "convergence")),
        "speed-up to prompt tuning's score": lambda s: _times(value(s, "comparable")),
        "twin": lambda s: percent(s.confirmed.twin.mean if s.confirmed.twin else None),
        "selection": lambda s: percent(s.confirmed.selection.mean),
        "steps": lambda s: _whole(s.confirmed.steps),
        "seconds": lambda s: _whole(s.confirmed.seconds),
    }
    caption = (
        "Every confirmed study; scores and gains in percent. p is not corrected. The first trial is scored on "
        "selection rows with the search seeds. Speed-ups: steps of prompt tuning divided by own steps, in the "
        "search; 0: never reached. Click a column header to sort"
    )
    return _table("pairs-table", caption, columns, evidence.studies, sortable=True)


def _similarity(name: str) -> Callable[[StudyRecord], Cell]:
    def cell(study: StudyRecord) -> Cell:
        found = study.similarities.get(name)
        return number(found, "" if found is None else minus(f"{found:.3f}"))

    return cell


def coefficients_table(evidence: Evidence, found: Sequence[Correlation], name: str = "coefficients-table") -> Table:
    """Every coefficient."""
    definitions = "; ".join(f"{measure.replace('_', ' ')}: {kind.label}" for measure, kind in MEASURES.items())
    caption = (
        "ρ: Spearman's, r: Pearson's coefficient, mean over targets; intervals: 95\u00a0% over targets and sources; by chance: the mean ρ of "
        "the best similarity where sources are permuted; source only: mean ρ of a source's mean rank on the other targets; pair r: of ranks within targets without the "
        "means of sources, what a similarity knows of the pair; its p: each source permuted over targets, corrected over similarities; "
        "noise ceiling: the coefficient that a repeated measurement of the gain with other seeds and report rows "
        "would reach as a predictor; pooled: of ranks within targets; its p: sources permuted jointly over targets, corrected over similarities; missing: pairs without a value; * the loss contains a similarity. "
        f"{definitions}. Click a column header to sort"
    )
    columns: dict[str, Callable[[Correlation], Cell]] = {
        "measure": lambda c: Cell(measure_label(c.measure)),
        "method": lambda c: Cell(c.method + " *" * is_marked(evidence, c.method)),
        "similarity": lambda c: Cell(c.similarity),
        "mean ρ": lambda c: number(c.spearman_mean, rho(c.spearman_mean)),
        "interval": lambda c: _span(c.mean_interval),
        "mean r": lambda c: number(c.pearson_mean, rho(c.pearson_mean)),
        "by chance": lambda c: number(c.by_chance, rho(c.by_chance)),
        "source only": lambda c: number(c.source_only, rho(c.source_only)),
        "pair r": lambda c: number(c.pair_coefficient, rho(c.pair_coefficient)),
        "pair p": lambda c: _chance(c.pair_p),
        "noise ceiling": lambda c: number(c.ceiling, rho(c.ceiling)),
        "pooled ρ": lambda c: number(c.pooled.spearman, rho(c.pooled.spearman)),
        "interval ": lambda c: _span(c.pooled.spearman_interval),
        "pooled p": lambda c: _chance(c.pooled.p_adjusted),
        "targets": _targets,
        "pairs": lambda c: number(c.pooled.n),
        "missing": lambda c: number(c.missing),
    }
    return _table(name, caption, columns, found, sortable=True)


def _targets(found: Correlation) -> Cell:
    known = sum(of.spearman is not None for of in found.targets.values())
    return number(known, f"{known} of {len(found.targets)}")


def measure_label(name: str) -> str:
    """The label of a measure of `answer.measure_name`."""
    whose = "first trial" if name.startswith("first_") else "winner"
    return f"{name.removeprefix('first_').replace('_', ' ')}, {whose}"


def spread_table(evidence: Evidence) -> Table:
    """Variation of gains over sources and seeds."""
    columns: dict[str, Callable[[Spread], Cell]] = {
        "target": lambda s: Cell(evidence.place(s.target, s.plm)),
        "method": lambda s: Cell(s.method),
        "trial": lambda s: Cell("winner" if s.scope == "winner" else "first trial"),
        "pairs": lambda s: number(s.n),
        "mean gain": lambda s: percent(s.mean, signed=True),
        "SD over sources": lambda s: percent(s.over_sources),
        "SD over seeds": lambda s: percent(s.over_seeds),
        "share above 0": lambda s: _share(s.beat),
        "share significantly above 0": lambda s: _share(s.beat_clearly),
    }
    caption = (
        "Gains in points: of confirmed winners on report rows, of first trials (the published setting) on selection rows with the search seeds; "
        "SD: standard deviation; significantly: the 95\u00a0% interval lies above 0. Click a column header to sort"
    )
    return _table("spread-table", caption, columns, spreads(evidence.studies), sortable=True)


def comparisons_table(found: Sequence[MethodComparison]) -> Table:
    """Comparisons of methods with prompt tuning, spot and twins."""
    columns: dict[str, Callable[[MethodComparison], Cell]] = {
        "method": lambda a: Cell(a.method),
        "compared with": lambda a: Cell(a.reference),
        "difference": lambda a: percent(a.mean, signed=True),
        "interval": lambda a: _points_span(a.interval),
        "p": lambda a: _chance(a.p),
        "minimum detectable effect": lambda a: _detectable(a.detectable),
        "share above 0": lambda a: _share(a.above_zero),
        "studies": lambda a: number(a.n),
        "targets": lambda a: number(len(a.with_signal)),
    }
    caption = (
        "Report scores of winners minus those of the target's prompt tuning, of spot from the same source, or of "
        "the twin without transfer; in points, mean over targets with a signal. "
        "Interval: 95\u00a0% over targets (t), if there are at least three; p: corrected for the number of methods "
        "(Holm). Minimum detectable effect: the smallest true difference that a test over this many targets detects "
        "with 80\u00a0% power, with its own 95\u00a0% interval; of fewer than five targets it cannot be said. Click a "
        "column header to sort"
    )
    return _table("comparisons-table", caption, columns, found, sortable=True)


def _detectable(found: Detectable | None) -> Cell:
    if found is None:
        return number(None, "cannot be said")
    return number(found.size, f"{100 * found.size:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})")


def _points_mean(found: Mean | None) -> Cell:
    if found is None:
        return number(None)
    ends = f" ({points(found.low)} to {points(found.high)})" if found.low is not None and found.high is not None else ""
    return number(found.mean, f"{points(found.mean)}{ends}")


def _points_span(interval: tuple[float, float] | None) -> Cell:
    return number(
        interval[0] if interval else None, f"{points(interval[0])} to {points(interval[1])}" if interval else ""
    )


def retrieval_table(evidence: Evidence) -> Table:
    """The gain of choosing sources by a similarity."""
    columns: dict[str, Callable[[RetrievalSummary], Cell]] = {
        "method": lambda f: Cell(f.method),
        "similarity": lambda f: Cell(f.similarity),
        "most similar": lambda f: percent(f.first, signed=True),
        "random": lambda f: percent(f.random, signed=True),
        "all sources": lambda f: percent(f.oracle, signed=True),
        "retained": lambda f: _share(f.kept),
        "over random": lambda f: _points_mean(f.advantage),
        "regret": lambda f: _points_mean(f.regret),
        "sources for 90\u00a0%": lambda f: _share(f.enough),
        "targets": lambda f: number(f.targets),
    }
    caption = (
        "Mean gains in points over targets with a signal: of the most similar source, of a random source, and of "
        "the best of all sources by selection score, each seed scored on what the others choose. Retained: share of the "
        "gain of all sources, where that is above 0 beyond doubt; "
        "over random: what the similarity is worth; regret: additional gain of the best source in hindsight, chosen on other "
        "report rows and seeds than it is scored on (below 0 by chance); both with 95\u00a0% intervals over targets (t). Sources for 90\u00a0%: share of sources to try, "
        "the most similar first, to retain 90\u00a0% of the gain. Click a column header to sort"
    )
    return _table("retrieval-table", caption, columns, retrieval_summaries(evidence), sortable=True)


def methods_table(evidence: Evidence) -> Table:
    """Methods × targets, as in a paper."""
    shown = method_table(evidence)
    rows = [[Cell("best constant"), *(percent(shown.majority.get(target)) for target in shown.targets)]]
    rows += [[Cell(m), *(_compared(shown.cells.get((m, t))) for t in shown.targets)] for m in shown.methods]
    return Table("methods-table", RULE.replace("Marked", "="), ["method", *shown.targets], rows)


def _compared(cell: Compared | None) -> Cell:
    if cell is None:
        return number(None)
    spread = "" if cell.std is None else f" ± {100 * cell.std:.1f}"
    return number(cell.mean, f"{100 * cell.mean:.1f}{spread}{' =' * (cell.mark == TIE)}", "best" * (cell.mark == BEST))


def _score(study: StudyRecord) -> Cell:
    score = study.confirmed.score
    return number(score.mean, f"{100 * score.mean:.1f}{_spread(score)}")


def _gain(study: StudyRecord, star: str = "") -> Cell:
    gain = study.gain
    return number(gain.mean, points(gain.mean) + _spread(gain) + star) if gain else number(None)


def _spread(estimate: Estimate) -> str:
    """The standard deviation over seeds; empty for a single seed."""
    return "" if estimate.spread is None else f" ± {100 * estimate.spread:.1f}"


def _interval(study: StudyRecord) -> Cell:
    return _points_span(study.gain.interval if study.gain else None)


def _span(interval: tuple[float, float] | None) -> Cell:
    return number(interval[0] if interval else None, span(interval))


def _chance(p: float | None) -> Cell:
    return number(p, chance(p).removeprefix("p ").removeprefix("= "))


def percent(found: float | None, signed: bool = False) -> Cell:
    """A share of one in percent."""
    return number(found, "" if found is None else points(found, signed))


def _share(found: float | None) -> Cell:
    return number(found, "" if found is None else f"{100 * found:.0f} %")


def _times(found: float | None) -> Cell:
    return number(found, "" if found is None else f"{found:.1f}")


def _whole(found: float | None) -> Cell:
    return number(found, "" if found is None else f"{found:.0f}")

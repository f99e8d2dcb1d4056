"""From MLflow to an answer: a page and figures in a folder, and a run `analysis` that holds them."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis.figures.drawing import save
from analysis.figures.gallery import Gallery, gallery
from analysis.findings.answer import Answer, answer, coefficients, correlations
from analysis.findings.best import winners
from analysis.findings.comparisons import MethodComparison
from analysis.findings.method_table import PAPERS, paper_table
from analysis.findings.repeats import OverSearches, of_study
from analysis.findings.retrieval import RetrievalSummary, retrieval_metrics, retrieval_summaries
from analysis.findings.search_history import SearchHistory, search_history
from analysis.records.connection import NoRecords
from analysis.records.evidence import Evidence, gather
from analysis.records.measures import MEASURES, SCOPES, spreads, value
from analysis.records.reader import winner_config
from analysis.records.studies import StudyRecord
from analysis.records.writer import write_analysis
from analysis.report.cost_table import COST_FILES, cost_rows
from analysis.report.report import Config, report
from analysis.statistics.correlation import Correlation

REPORT_FILE, FIGURES, WRITTEN = "report.html", "figures", "written.json"


@dataclass(frozen=True)
class Analysis:
    """What an analysis found, and where it wrote it.

    Attributes:
        evidence: of the experiment.
        answer: to the question.
        found: all coefficients, without pairs of a task with itself.
        within: with them, where there are some.
        search: what its trials say.
        shown: all figures.
        folder: with `report.html`, `figures` and the tables for papers, and maybe files of others.
    """

    evidence: Evidence
    answer: Answer
    found: tuple[Correlation, ...]
    within: tuple[Correlation, ...]
    search: SearchHistory
    shown: Gallery
    folder: Path

    @property
    def page(self) -> Path:
        """The report."""
        return self.folder / REPORT_FILE

    @property
    def files(self) -> list[str]:
        """What it wrote, as paths in its folder."""
        figures = [f"{FIGURES}/{drawing.name}.{form}" for drawing in self.shown.drawn for form in ("png", "svg")]
        papers = [
            *(PAPERS.values() if self.evidence.studies else ()),
            *(COST_FILES if self.search.equal_cost.rows else ()),
        ]
        return [REPORT_FILE, *papers, *figures]


def analyze(uri: str, experiment: str, out: Path) -> Analysis:
    """Reads an experiment, and writes page and figures; works with what there is.

    Args:
        uri: of MLflow.
        experiment: its name.
        out: the folder, made where it is not; what an earlier analysis wrote there is replaced, and nothing else.

    Raises:
        NoRecords: if there is no such experiment, or no study in it.
    """
    evidence = gather(uri, experiment)
    if not evidence.studies and not evidence.unfinished:
        raise NoRecords(f"experiment {experiment!r} has no study yet: run `panda-tune search` on its file first")
    found = correlations(evidence)
    result, search = answer(evidence, found), search_history(evidence)
    within = (
        correlations(evidence, exclude_self=False)
        if len(evidence.transfer_pairs) < len(evidence.pairs_with_signal)
        else []
    )
    analysis = Analysis(
        evidence, result, tuple(found), tuple(within), search, gallery(evidence, result, found, search), out
    )
    _write(analysis, configs(uri, winners(evidence.studies)))
    return analysis


def configs(uri: str, chosen: Iterable[StudyRecord]) -> dict[str, Config]:
    """Run id -> the winner as an experiment file, or why it cannot be read."""
    return {study.run_id: _config(uri, study.run_id) for study in chosen}


def _config(uri: str, run_id: str) -> Config:
    try:
        return winner_config(uri, run_id)
    except NoRecords as error:
        return str(error)


def _write(analysis: Analysis, files: Mapping[str, Config]) -> None:
    folder, evidence = analysis.folder, analysis.evidence
    folder.mkdir(parents=True, exist_ok=True)
    for old in _written(folder):
        (folder / old).unlink(missing_ok=True)
    (folder / WRITTEN).write_text(json.dumps(analysis.files, indent=1), encoding="utf-8")
    for drawing in analysis.shown.drawn:
        save(drawing, folder / FIGURES)
    for form, name in PAPERS.items():
        if evidence.studies:
            (folder / name).write_text(paper_table(evidence, form), encoding="utf-8")
    for name, write in COST_FILES.items():
        if analysis.search.equal_cost.rows:
            (folder / name).write_text(write(analysis.search.equal_cost), encoding="utf-8")
    now = datetime.now(UTC).astimezone()
    written = report(
        evidence,
        analysis.answer,
        analysis.found,
        analysis.search.comparisons,
        analysis.shown,
        files,
        now,
        analysis.within,
    )
    analysis.page.write_text(written, encoding="utf-8")


def _written(folder: Path) -> list[str]:
    """What an earlier analysis wrote there; a list that is not ours names nothing."""
    try:
        found = json.loads((folder / WRITTEN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    ours = re.compile(rf"({REPORT_FILE}|(methods|equal_cost)\.(tex|csv)|{FIGURES}/[\w.\-]+\.(png|svg))")
    return [name for name in found if isinstance(name, str) and ours.fullmatch(name)] if isinstance(found, list) else []


def tables(analysis: Analysis) -> dict[str, list[dict[str, Any]]]:
    """Name -> rows, as MLflow's tables and for notebooks."""
    evidence = analysis.evidence
    return {
        "pairs": [_pair(evidence, study) for study in evidence.studies],
        "correlations": [_correlation(one) for one in analysis.found],
        "retrieval": [_retrieval(one) for one in retrieval_summaries(evidence)],
        "spreads": [asdict(one) for one in spreads(evidence.studies)],
        "importances": [
            {"method": one.method, "knob": knob, "share": share, "chance": one.chance, "trials": one.trials, "studies": one.studies}
            for one in analysis.search.importances for knob, share in one.shares.items()
        ],
        "searches": [_searches(study, over) for study in evidence.studies if (over := of_study(study))],
        "comparisons": [_comparison(one) for one in analysis.search.comparisons],
        "equal_cost": cost_rows(analysis.search.equal_cost),
        "contrasts": [{**asdict(one), "interval": json.dumps(one.interval)} for one in analysis.search.contrasts],
    }  # fmt: skip


def _pair(evidence: Evidence, study: StudyRecord) -> dict[str, Any]:
    gain = study.confirmed.gain
    measured = {f"{scope}/{name}": value(study, name, scope) for name in MEASURES for scope in SCOPES}
    return {
        "target": study.target, "plm": study.plm, "method": study.method, "source": study.source or "",
        **measured, **{name: gain and getattr(gain, name) for name in ("low", "high", "p")},
        "std": study.confirmed.score.std,
        **{name: study.similarities.get(name) for name in (*evidence.similarities, *evidence.source_only)},
    }  # fmt: skip


def _retrieval(one: RetrievalSummary) -> dict[str, Any]:
    plain = {name: value for name, value in asdict(one).items() if name not in ("advantage", "regret")}
    means = {"advantage": one.advantage, "regret": one.regret}
    parts = {
        (name, part): found and getattr(found, part)
        for name, found in means.items()
        for part in ("mean", "low", "high")
    }
    return {**plain, **{name if part == "mean" else f"{name}_{part}": value for (name, part), value in parts.items()}}


def _searches(study: StudyRecord, over: OverSearches) -> dict[str, Any]:
    score, gain = over.score, over.gain
    return {
        "target": study.target, "plm": study.plm, "method": study.method, "source": study.source or "", "score": score.mean,
        "score/std": score.std, "gain": gain and gain.mean, "gain/std": gain and gain.std, "searches": over.n,
    }  # fmt: skip


def _comparison(one: MethodComparison) -> dict[str, Any]:
    low, high = one.interval or (None, None)
    return {
        "method": one.method, "reference": one.reference, "difference": one.mean, "low": low, "high": high,
        "p": one.p, "minimum_detectable_effect": one.detectable and one.detectable.size,
        "minimum_detectable_effect_low": one.detectable and one.detectable.low,
        "minimum_detectable_effect_high": one.detectable and one.detectable.high, "above_0": one.above_zero, "studies": one.n,
        "targets": len(one.with_signal), "no_signal": len(one.without_signal),
    }  # fmt: skip


def _correlation(one: Correlation) -> dict[str, Any]:
    prefix = f"corr/{one.measure}/{one.method}/{one.similarity}/"
    numbers = {name.removeprefix(prefix): number for name, number in coefficients([one])}
    return {
        "measure": one.measure,
        "method": one.method,
        "similarity": one.similarity,
        **{name: numbers.get(name) for name in COLUMNS},
    }


COLUMNS = (
    "spearman_mean", "spearman_mean/low", "spearman_mean/high", "pearson_mean", "ceiling", "pair", "pair/p", "source_only", "by_chance", "pooled/spearman", "pooled/pearson",
    "pooled/p", "pooled/p_adjusted", "pooled/n",
)  # fmt: skip


def publish(uri: str, experiment: str, analysis: Analysis) -> str:
    """Writes an analysis into MLflow as a new run, and marks earlier ones as superseded.

    Args:
        uri: of MLflow.
        experiment: its name.
        analysis: as `analyze` gave it.

    Returns:
        The id of the new run.

    Raises:
        NoRecords: if there is no such experiment.
    """
    metrics = {
        **dict(coefficients(analysis.found)),
        **dict(coefficients(analysis.within, "corr_with_self")),
        **dict(retrieval_metrics(retrieval_summaries(analysis.evidence))),
    }
    return write_analysis(
        uri, experiment, {name: analysis.folder / name for name in analysis.files}, tables(analysis), metrics,
        {"answer": " ".join(analysis.answer.sentences), "verdict": analysis.answer.verdict},
    )  # fmt: skip

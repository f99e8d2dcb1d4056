"""One page: the answer on top, then what it rests on. From records alone, to be read without a network."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import yaml

from analysis.answer import Answer, is_marked
from analysis.best import corrected, winners
from analysis.correlation import Correlation
from analysis.drawing import Drawing, NotDrawn, chance, counted, listed, minus, points, rho, span
from analysis.evidence import Evidence
from analysis.figures import Figure, Gallery
from analysis.gains import LEVEL
from analysis.measures import MEASURES, has_gain, spreads, value
from analysis.page import Cell, Html, bullets, code, facts, folded, number, page, paragraph, picture, section, table
from analysis.papers import BEST, RULE, TIE, comparison
from analysis.records import (
    GAIN,
    HIGH,
    LOW,
    OVERLAP,
    POOR_SOURCE,
    REPORT,
    SECONDS,
    SELECTION,
    SIMILARITY,
    STATE,
    STD,
    STEPS,
    TRUNCATED,
    TWIN,
    P,
    StudyRecord,
)

Config = Mapping[str, Any] | str
"""A winner as a complete experiment file, or why it cannot be read."""


def report(
    evidence: Evidence, answer: Answer, found: Sequence[Correlation], shown: Gallery, configs: Mapping[str, Config], now: datetime
) -> str:  # fmt: skip
    """The page.

    Args:
        evidence: of the experiment.
        answer: to the question.
        found: all coefficients.
        shown: the figures.
        configs: run id of a study -> its winner.
        now: written on the page.
    """
    return page(
        f"{evidence.experiment}: does transferability predict the gain?",
        Html(f"<h1>Does transferability predict the gain?<small>{_subtitle(evidence, now)}</small></h1>"),
        Html(f'<div class="answer">{"".join(paragraph(sentence) for sentence in answer.sentences)}</div>'),
        _facts(evidence), _contents(), _missing(evidence, shown), _best(evidence, configs),
        _prediction(evidence, found, shown), _gains(evidence, shown), _search(evidence, shown), _pairs(evidence), _method(evidence),
    )  # fmt: skip


def _subtitle(evidence: Evidence, now: datetime) -> str:
    from html import escape

    return escape(f"experiment {evidence.experiment} · {now:%Y-%m-%d %H:%M}")


SECTIONS = {
    "missing": "What is missing", "best": "Best per target", "prediction": "Similarity and gain", "gains": "Gains",
    "search": "The search", "pairs": "All pairs", "method": "How it was measured",
}  # fmt: skip


def _contents() -> Html:
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title in SECTIONS.items())
    return Html(f'<nav aria-label="Sections">{links}</nav>')


def _part(name: str, *content: object) -> Html:
    return section(name, SECTIONS[name], *content)


def _facts(evidence: Evidence) -> Html:
    trials = evidence.trials
    seconds = sum(trial.seconds or 0.0 for trial in trials) + sum(study.metrics.get(SECONDS, 0.0) for study in evidence.studies)
    states = Counter(trial.state for trial in trials)
    said = ", ".join(f"{states[state]} {state}" for state in ("complete", "stopped early", "failed", "running") if states[state])
    total = len(evidence.studies) + len(evidence.unfinished)
    return facts(
        [
            ("Targets", len(evidence.places)),
            ("Sources", len({pair.source for pair in evidence.pairs})),
            ("Methods", len({study.method for study in evidence.studies})),
            ("Studies confirmed", f"{len(evidence.studies)} of {total}"),
            ("Trials", f"{len(trials)}{f' ({said})' if said else ''}"),
            ("Time in trials and confirmations", _duration(seconds)),
        ]
    )


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def _missing(evidence: Evidence, shown: Gallery) -> Html:
    said = [*_gaps(evidence), *_cautions(evidence)]
    reasons = [f"{figure.name}: {figure.reason}" for figure in shown.not_drawn]
    return _part(
        "missing",
        bullets(said) if said else paragraph("Nothing: every study is confirmed, no trial failed, and every target carries a signal."),
        folded(f"{counted(len(reasons), 'figure')} not drawn", bullets(reasons)) if reasons else Html(""),
    )


def _gaps(evidence: Evidence) -> Iterator[object]:
    """What is not there."""
    if evidence.unfinished:
        names = [f"{evidence.place(s.target, s.plm)}, {s.name}{_state(s)}" for s in evidence.unfinished]
        yield Html(folded(f"{counted(len(names), 'study')} without a confirmed winner: panda-tune search goes on with them", bullets(names)))
    failed = [trial for trial in evidence.trials if trial.state == "failed"]
    if failed:
        reasons = Counter(trial.failure or "no reason recorded" for trial in failed)
        said = [f"{count} × {reason}" for reason, count in reasons.most_common()]
        yield Html(folded(f"{counted(len(failed), 'trial')} of {len(evidence.trials)} failed; they count as failed, not as bad scores", bullets(said)))
    unknown = {
        name: count for name in evidence.similarities
        if (count := sum(f"{SIMILARITY}/{name}" not in pair.metrics for pair in evidence.pairs))
    }  # fmt: skip
    if unknown:
        yield "Pairs without a similarity: " + ", ".join(f"{name} {count}" for name, count in unknown.items()) + "."


def _state(study: StudyRecord) -> str:
    return f" ({study.tags[STATE]})" if STATE in study.tags else ""


def _cautions(evidence: Evidence) -> Iterator[object]:
    """What makes numbers weaker than they look."""
    if evidence.silent:
        yield f"No signal on {listed(evidence.silent)}: prompt tuning does not beat the majority class (95 % interval). Left out of coefficients and pooled figures."
    marked = [method for method in evidence.methods if is_marked(evidence, method)]
    if marked:
        yield f"The loss of {listed(marked)} contains a similarity, so its gain and similarity are related by design: its coefficients are marked *, and do not answer the question."
    poor = sorted({pair.source or "" for pair in evidence.pairs if pair.tags.get(POOR_SOURCE) == "true"})
    if poor:
        yield f"{listed(poor)} {'do' if len(poor) > 1 else 'does'} not beat the own majority class as a source."
    shared = sorted({f"{pair.source} → {pair.target}" for pair in evidence.pairs if float(pair.tags.get(OVERLAP) or 0) > 0})
    if shared:
        yield f"Source texts that stand in the target's report rows, and how the experiment treats them: see the tag overlap of {listed(shared)}."
    cut = sorted({s.target for s in evidence.studies if max(s.metrics.get(f"{TRUNCATED}/{split}", 0.0) for split in ("train", "report")) > 0.1})
    if cut:
        yield f"More than a tenth of the rows are cut at the maximum length on {listed(cut)}."


def _best(evidence: Evidence, configs: Mapping[str, Config]) -> Html:
    chosen = sorted(winners(evidence.studies), key=lambda s: (s.target, s.plm))
    if not chosen:
        return _part("best", paragraph("No study is confirmed yet."))
    p_values = corrected(chosen)
    rows = [_best_row(evidence, study, p_values.get(study.run_id)) for study in chosen]
    files = [folded(f"{evidence.place(s.target, s.plm)}: {s.name}", *_config(s, configs.get(s.run_id, "not recorded"))) for s in chosen]
    return _part(
        "best",
        table("best-table", "Chosen by selection score; scores and gains over prompt tuning in percent on report rows, ± deviation over seeds, 95 % interval over rows and seeds; p after Holm's correction over targets",
              ["target", "method", "source", "score", "majority", "gain", "interval", "p", "steps", "seconds"], rows),
        Html("<h3>As experiment files</h3>"), *files,
    )  # fmt: skip


def _config(study: StudyRecord, config: Config) -> list[Html]:
    if isinstance(config, str):
        return [paragraph(config, "warn")]
    name = f"{study.target}.yaml"
    written = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    return [paragraph(f"Save it as {name}; panda-tune train {name} trains it again.", "note"), code(written)]


def _best_row(evidence: Evidence, study: StudyRecord, p: float | None) -> list[Cell]:
    star = " *" if p is not None and p < 1 - LEVEL else ""
    silent = " (no signal)" if evidence.place(study.target, study.plm) in evidence.silent else ""
    return [
        Cell(evidence.place(study.target, study.plm) + silent), Cell(study.method), Cell(study.source or "–"), _score(study),
        number(study.metrics.get("majority"), f"{100 * study.metrics.get('majority', math.nan):.1f}"), *_gain_cells(study, star),
        number(p, chance(p).removeprefix("p ").removeprefix("= ")), _whole(study.metrics.get(STEPS)), _whole(study.metrics.get(SECONDS)),
    ]  # fmt: skip


def _whole(found: float | None) -> Cell:
    return number(found, "" if found is None else f"{found:.0f}")


def _score(study: StudyRecord, kind: str = "") -> Cell:
    std = study.metrics.get(f"{REPORT}/{STD}")
    spread = f" ± {100 * std:.1f}" if std is not None and study.metrics.get(f"{REPORT}/n", 1) > 1 else ""
    return number(study.metrics.get(REPORT), f"{100 * study.metrics[REPORT]:.1f}{spread}", kind)


def _gain_cells(study: StudyRecord, star: str = "") -> list[Cell]:
    if not has_gain(study):
        return [number(None), number(None)]
    low, high = study.metrics.get(f"{GAIN}/{LOW}"), study.metrics.get(f"{GAIN}/{HIGH}")
    std = study.metrics.get(f"{GAIN}/{STD}")
    spread = f" ± {100 * std:.1f}" if std is not None and study.metrics.get(f"{GAIN}/n", 1) > 1 else ""
    interval = "" if low is None or high is None else f"{points(low)} to {points(high)}"
    return [number(study.metrics[GAIN], points(study.metrics[GAIN]) + spread + star), number(low, interval)]


def _prediction(evidence: Evidence, found: Sequence[Correlation], shown: Gallery) -> Html:
    rows = [_correlation_row(evidence, one) for one in found]
    heads = ["measure", "method", "similarity", "mean ρ", "95 % interval", "mean r", "ceiling", "pooled ρ", "95 % interval", "p", "targets", "pairs", "missing"]
    caption = (
        "ρ: Spearman's, r: Pearson's coefficient; mean over targets; intervals over targets and sources; p by permuting sources jointly over targets, "
        "corrected over similarities; ceiling: what another measurement with other seeds would reach; * the loss contains a similarity"
    )
    return _part(
        "prediction", *_figures(shown.answer),
        folded(f"All {counted(len(rows), 'coefficient')}", table("coefficients-table", caption, heads, rows, sortable=True)) if rows else Html(""),
        *_more("Similarities", shown.similarities),
    )  # fmt: skip


def _correlation_row(evidence: Evidence, one: Correlation) -> list[Cell]:
    pooled, known = one.pooled, sum(of.spearman is not None for of in one.targets.values())
    star = " *" * is_marked(evidence, one.method)
    return [
        Cell(measure_label(one.measure)), Cell(one.method + star), Cell(one.similarity), number(one.spearman_mean, rho(one.spearman_mean)),
        _span(one.mean_interval), number(one.pearson_mean, rho(one.pearson_mean)), number(one.ceiling, rho(one.ceiling)),
        number(pooled.spearman, rho(pooled.spearman)), _span(pooled.spearman_interval),
        number(pooled.p_adjusted, chance(pooled.p_adjusted).removeprefix("p ").removeprefix("= ")),
        number(known, f"{known} of {len(one.targets)}"), number(pooled.n), number(one.missing),
    ]  # fmt: skip


def measure_label(name: str) -> str:
    """What a measure of `answer.measure_name` is, for people."""
    first = name.startswith("first_")
    measure = MEASURES[name.removeprefix("first_")]
    return f"{measure.label}, {'first trial' if first else 'winner'}"


def _span(interval: tuple[float, float] | None) -> Cell:
    return number(interval[0] if interval else None, span(interval))


def _figures(shown: Sequence[Figure]) -> list[Html]:
    return [picture(figure) for figure in shown if isinstance(figure, Drawing)] + [
        paragraph(f"No figure {figure.name}: {figure.reason}.", "note") for figure in shown if isinstance(figure, NotDrawn)
    ]


def _more(title: str, shown: Sequence[Figure]) -> list[Html]:
    """The first figure, the others folded."""
    drawn = _figures(shown)
    return drawn[:1] + ([folded(f"{title}: {counted(len(drawn) - 1, 'more figure')}", *drawn[1:])] if len(drawn) > 1 else [])


def _gains(evidence: Evidence, shown: Gallery) -> Html:
    rows = [
        [
            Cell(evidence.place(one.target, one.plm)), Cell(one.method), number(one.n), number(one.mean, points(one.mean)),
            number(one.over_sources, "" if one.over_sources is None else f"{100 * one.over_sources:.1f}"),
            number(one.over_seeds, "" if one.over_seeds is None else f"{100 * one.over_seeds:.1f}"),
            number(one.beat, f"{100 * one.beat:.0f} %"), number(one.beat_clearly, "" if one.beat_clearly is None else f"{100 * one.beat_clearly:.0f} %"),
        ]
        for one in spreads(evidence.studies)
    ]  # fmt: skip
    heads = ["target", "method", "pairs", "mean gain", "± over sources", "± over seeds", "above 0", "clearly above 0"]
    return _part(
        "gains", *_comparison(evidence), *_more("Other methods", shown.gains),
        folded(
            "How gains spread over sources and seeds",
            table("spread-table", "Gain in points on report rows; clearly: its 95 % interval is above 0", heads, rows, sortable=True),
        ) if rows else Html(""),
    )  # fmt: skip


def _comparison(evidence: Evidence) -> list[Html]:
    if not evidence.studies:
        return []
    shown = comparison(evidence)
    signs = {BEST: "", TIE: " ="}
    rows = [[Cell("majority class"), *(number(m, "" if m is None else f"{100 * m:.1f}") for m in (shown.majority.get(t) for t in shown.targets))]]
    for method in shown.methods:
        cells = [shown.cells.get((method, target)) for target in shown.targets]
        rows.append(
            [
                Cell(method),
                *(
                    number(None) if cell is None
                    else number(cell.mean, f"{100 * cell.mean:.1f}{'' if cell.std is None else f' ± {100 * cell.std:.1f}'}{signs.get(cell.mark, '')}", "best" * (cell.mark == BEST))
                    for cell in cells
                ),
            ]
        )  # fmt: skip
    return [table("methods-table", RULE.replace("Marked", "="), ["method", *shown.targets], rows)]


def _search(evidence: Evidence, shown: Gallery) -> Html:
    if not evidence.trials:
        return _part("search", paragraph("No trial of these studies is recorded."))
    return _part("search", *_figures(shown.search))


def _pairs(evidence: Evidence) -> Html:
    if not evidence.studies:
        return _part("pairs", paragraph("No study is confirmed yet."))
    several = evidence.several_plms
    heads = [
        "target", *(["PLM"] if several else []), "method", "source", "score", "gain", "interval", "p", "first trial's gain",
        "first evaluation", "error reduction", "× sooner converged", "× sooner as good", "twin", "selection",
        *evidence.similarities, "steps", "seconds",
    ]  # fmt: skip
    caption = "Every confirmed study; scores and gains in percent. p is not corrected; × sooner is against prompt tuning, 0 means never"
    return _part("pairs", table("pairs-table", caption, heads, [_pair_row(evidence, study, several) for study in evidence.studies], sortable=True))


def _pair_row(evidence: Evidence, study: StudyRecord, several: bool) -> list[Cell]:
    p = study.metrics.get(f"{GAIN}/{P}") if has_gain(study) else None
    return [
        Cell(study.target), *([Cell(study.plm)] if several else []), Cell(study.method), Cell(study.source or "–"), _score(study),
        *_gain_cells(study), number(p, chance(p).removeprefix("p ").removeprefix("= ")),
        _percent(value(study, "gain", "first"), signed=True), _percent(value(study, "early")), _percent(value(study, "error_reduction"), signed=True),
        _times(value(study, "convergence")), _times(value(study, "comparable")), _percent(study.metrics.get(TWIN)),
        _percent(study.metrics.get(SELECTION)),
        *(number(found, "" if found is None else minus(f"{found:.3f}")) for name in evidence.similarities for found in [study.metrics.get(f"{SIMILARITY}/{name}")]),
        _whole(study.metrics.get(STEPS)), _whole(study.metrics.get(SECONDS)),
    ]  # fmt: skip


def _percent(found: float | None, signed: bool = False) -> Cell:
    return number(found, "" if found is None else points(found, signed))


def _times(found: float | None) -> Cell:
    return number(found, "" if found is None else f"{found:.1f}")


def _method(evidence: Evidence) -> Html:
    seeds = sorted({int(study.metrics.get(f"{REPORT}/n", 0)) for study in evidence.studies})
    settings = {
        name: sorted({study.params[name] for study in evidence.studies if name in study.params})
        for name in ("steps", "seeds", "batch_size", "prompt_form", "prompt_length", "weigh_by", "shots", "precision", "source_steps")
    }
    said = [f"{name} {listed(values)}" for name, values in settings.items() if values]
    return _part(
        "method",
        bullets(
            [
                f"{evidence.protocol}.",
                f"PLM: {listed(sorted({study.plm for study in evidence.studies})) or 'none yet'}; confirmed with {listed([str(n) for n in seeds]) or 'no'} fresh seeds; studies with {'; '.join(said) or 'settings that are not recorded'}.",
                "A winner is the configuration, and of a target the method and source, with the best selection score of the confirmed seeds; report rows choose nothing.",
                "Gain: report score minus that of the target's prompt tuning winner, paired by seed; its interval resamples rows and seeds together.",
                "First trial: the published setting, which every pair ran to its end; its scores are of selection rows. The maximum of many trials flattens differences between sources, so both are shown.",
                "Coefficients are per target over its sources. Pooled, a gain is its rank within its target; pairs of one source are not independent, so p permutes sources jointly over targets and is corrected over similarities (Benjamini and Hochberg). Fewer than 4 sources: no coefficient.",
                "Never comparable: a speed-up of 0 where prompt tuning's score was not reached in the search.",
            ]
        ),
        paragraph("Made from MLflow alone by panda-tune analyze; nothing on this page is loaded from elsewhere.", "note"),
    )  # fmt: skip

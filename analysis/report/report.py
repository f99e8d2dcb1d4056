"""One page: the answer on top, then what it rests on. From records alone, to be read without a network."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

import yaml

from analysis.figures.drawing import Drawing, NotDrawn
from analysis.figures.gallery import Figure, Gallery
from analysis.findings.answer import Answer, is_marked
from analysis.findings.best import winners
from analysis.findings.comparisons import Against
from analysis.records.evidence import Evidence
from analysis.records.names import OVERLAP, POOR_SOURCE, REPORT, SECONDS, SIMILARITY, STATE, TRUNCATED, N
from analysis.records.reader import StudyRecord
from analysis.report.page import Html, bullets, code, facts, folded, page, paragraph, picture, section
from analysis.report.tables import (
    against_table,
    best_table,
    coefficients_table,
    following_table,
    methods_table,
    pairs_table,
    spread_table,
)
from analysis.statistics.correlation import Correlation
from analysis.wording import counted, listed

Config = Mapping[str, Any] | str
"""A winner as a complete experiment file, or why it cannot be read."""


def report(
    evidence: Evidence, answer: Answer, found: Sequence[Correlation], compared: Sequence[Against], shown: Gallery,
    configs: Mapping[str, Config], now: datetime, within: Sequence[Correlation] = (),
) -> str:  # fmt: skip
    """The page.

    Args:
        evidence: of the experiment.
        answer: to the question.
        found: all coefficients.
        compared: methods against what they are to beat.
        shown: the figures.
        configs: run id of a study -> its winner.
        now: written on the page.
        within: coefficients with pairs of a task with itself, where there are some.
    """
    return page(
        f"{evidence.experiment}: does transferability predict the gain?",
        Html(f"<h1>Does transferability predict the gain?<small>{_subtitle(evidence, now)}</small></h1>"),
        Html(f'<div class="answer">{"".join(paragraph(sentence) for sentence in answer.sentences)}</div>'),
        _facts(evidence), _contents(), _missing(evidence), _best(evidence, configs),
        _prediction(evidence, found, within, shown), _gains(evidence, compared, shown), _search(evidence, shown), _pairs(evidence), _method(evidence),
    )  # fmt: skip


def _subtitle(evidence: Evidence, now: datetime) -> str:
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
    seconds = sum(trial.seconds or 0.0 for trial in trials) + sum(
        study.metrics.get(SECONDS, 0.0) for study in evidence.studies
    )
    states = Counter(trial.state for trial in trials)
    said = ", ".join(
        f"{states[state]} {state}" for state in ("complete", "stopped early", "failed", "running") if states[state]
    )
    total = len(evidence.studies) + len(evidence.unfinished)
    return facts(
        [
            ("Targets", len(evidence.places), f"{len(evidence.silent)} without signal" if evidence.silent else ""),
            ("Sources", len({pair.source for pair in evidence.pairs}), ""),
            ("Methods", len({study.method for study in evidence.studies}), "with the baseline"),
            ("Studies", len(evidence.studies), f"confirmed, of {total}"),
            ("Trials", len(trials), said),
            ("Time", _duration(seconds), "of trials and winners alone"),
        ]
    )


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def _missing(evidence: Evidence) -> Html:
    gaps, said = list(_gaps(evidence)), list(_cautions(evidence))
    return _part(
        "missing",
        bullets(said),
        *gaps,
        Html("")
        if said or gaps
        else paragraph("Nothing: every study is confirmed, and every target carries a signal."),
    )


def _gaps(evidence: Evidence) -> Iterator[Html]:
    """What is not there."""
    if evidence.unfinished:
        names = [f"{evidence.place(s.target, s.plm)}, {s.name}{_state(s)}" for s in evidence.unfinished]
        said = f"{counted(len(names), 'study')} without a confirmed winner: panda-tune search goes on there"
        yield folded(said, bullets(names))
    failed = [trial for trial in evidence.trials if trial.state == "failed"]
    if failed:
        reasons = Counter(trial.failure or "no reason recorded" for trial in failed)
        listing = [f"{count} × {reason}" for reason, count in reasons.most_common()]
        said = (
            f"{counted(len(failed), 'trial')} of {len(evidence.trials)} failed, and count as failed, not as bad scores"
        )
        yield folded(said, bullets(listing))


def _state(study: StudyRecord) -> str:
    return f" ({study.tags[STATE]})" if STATE in study.tags else ""


def _cautions(evidence: Evidence) -> Iterator[str]:
    """What makes numbers weaker than they look."""
    if evidence.silent:
        yield f"No signal on {listed(evidence.silent)}: prompt tuning does not beat the majority class (95 % interval). Left out of coefficients and pooled figures."
    marked = [method for method in evidence.methods if is_marked(evidence, method)]
    if marked:
        yield f"The loss of {listed(marked)} contains a similarity, so its gain and similarity are related by design: its coefficients are marked *, and do not answer the question."
    poor = sorted({pair.source or "" for pair in evidence.pairs if pair.tags.get(POOR_SOURCE) == "true"})
    if poor:
        yield f"{listed(poor)} {'do not beat their' if len(poor) > 1 else 'does not beat its'} own majority class as a source."
    joined = sum(len(pair.sources) > 1 for pair in evidence.pairs)
    if joined:
        yield f"{counted(joined, 'winner')} of {counted(len(evidence.pairs), 'pair')} used partners, so that their gain is not of one source alone; the first trial goes without."
    shared = sorted(
        {f"{pair.source} → {pair.target}" for pair in evidence.pairs if float(pair.tags.get(OVERLAP) or 0) > 0}
    )
    if shared:
        yield f"Source texts that stand in the target's report rows, and how the experiment treats them: see the tag overlap of {listed(shared)}."
    cut = sorted({study.target for study in evidence.studies if _cut(study) > 0.1})
    unknown = {
        name: count
        for name in evidence.similarities
        if (count := sum(f"{SIMILARITY}/{name}" not in pair.metrics for pair in evidence.pairs))
    }
    if unknown:
        yield "Pairs without a similarity: " + ", ".join(f"{name} {count}" for name, count in unknown.items()) + "."
    if cut:
        yield f"More than a tenth of the rows are cut at the maximum length on {listed(cut)}."


def _cut(study: StudyRecord) -> float:
    """The larger share of rows that do not fit, of train and report."""
    return max(study.metrics.get(f"{TRUNCATED}/{split}", 0.0) for split in ("train", "report"))


def _best(evidence: Evidence, configs: Mapping[str, Config]) -> Html:
    chosen = sorted(winners(evidence.studies), key=lambda study: (study.target, study.plm))
    if not chosen:
        return _part("best", paragraph("No study is confirmed yet."))
    files = [
        folded(f"{evidence.place(s.target, s.plm)}: {s.name}", *_config(s, configs.get(s.run_id, "not recorded")))
        for s in chosen
    ]
    return _part("best", best_table(evidence), Html("<h3>As experiment files</h3>"), *files)


def _config(study: StudyRecord, config: Config) -> list[Html]:
    if isinstance(config, str):
        return [paragraph(config, "warn")]
    name = f"{study.target}.yaml"
    written = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    return [paragraph(f"Save it as {name}; panda-tune train {name} trains it again.", "note"), code(written)]


def _prediction(
    evidence: Evidence, found: Sequence[Correlation], within: Sequence[Correlation], shown: Gallery
) -> Html:
    title = f"The same with {counted(max((one.self_pairs for one in within), default=0), 'pair')} of a task with itself"
    tables = {
        "What following a similarity gains": following_table(evidence) if evidence.heard_others else None,
        f"All {counted(len(found), 'correlation')}": coefficients_table(evidence, found) if found else None,
        title: coefficients_table(evidence, within, "self-pairs-table") if within else None,
    }
    shown_tables = [folded(name, table) for name, table in tables.items() if table is not None]
    return _part("prediction", *_figures(shown.answer), *shown_tables, *_more("Other similarities", shown.similarities))


def _figures(shown: Sequence[Figure]) -> list[Html]:
    return [picture(figure) for figure in shown if isinstance(figure, Drawing)] + [
        paragraph(f"No figure {figure.name}: {figure.reason}.", "note")
        for figure in shown
        if isinstance(figure, NotDrawn)
    ]


def _more(title: str, shown: Sequence[Figure]) -> list[Html]:
    """The first figure, the others folded."""
    drawn = _figures(shown)
    return drawn[:1] + (
        [folded(f"{title}: {counted(len(drawn) - 1, 'more figure')}", *drawn[1:])] if len(drawn) > 1 else []
    )


def _gains(evidence: Evidence, compared: Sequence[Against], shown: Gallery) -> Html:
    if not evidence.studies:
        return _part("gains", paragraph("No study is confirmed yet."))
    spread = folded("How gains spread over sources and seeds", spread_table(evidence))
    against = [Html("<h3>Method against method</h3>"), against_table(compared)] if compared else []
    return _part("gains", methods_table(evidence), *against, *_more("Other methods", shown.gains), spread)


def _search(evidence: Evidence, shown: Gallery) -> Html:
    if not evidence.trials:
        return _part("search", paragraph("No trial of these studies is recorded."))
    return _part("search", *_figures(shown.search))


def _pairs(evidence: Evidence) -> Html:
    return _part("pairs", pairs_table(evidence) if evidence.studies else paragraph("No study is confirmed yet."))


SETTINGS = (
    "train.steps",
    "train.seeds",
    "train.batch_size",
    "prompt.form",
    "prompt.length",
    "weigh_by",
    "shots.per_class",
    "train.precision",
    "source_train.steps",
)
"""Of studies, that the page tells."""


def _method(evidence: Evidence) -> Html:
    seeds = sorted({int(study.metrics.get(f"{REPORT}/{N}", 0)) for study in evidence.studies})
    settings = {
        name: sorted({study.params[name] for study in evidence.studies if name in study.params}) for name in SETTINGS
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

"""One page: the answer first, then the evidence. Built from records only; readable offline."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import yaml

from analysis.figures.drawing import Drawing, NotDrawn
from analysis.figures.gallery import Figure, Gallery
from analysis.findings.answer import Answer, is_marked
from analysis.findings.best import winners
from analysis.findings.comparisons import MethodComparison
from analysis.findings.equal_cost import equal_cost
from analysis.records.evidence import Evidence
from analysis.records.names import FAILED, TRIAL_STATES
from analysis.records.studies import StudyRecord
from analysis.report.cost_table import cost_sentence, cost_table
from analysis.report.page import Picture, Table, page
from analysis.report.search_tables import searches_table
from analysis.report.tables import (
    best_table,
    coefficients_table,
    comparisons_table,
    methods_table,
    pairs_table,
    retrieval_table,
    spread_table,
)
from analysis.statistics.correlation import Correlation
from analysis.wording import counted, listed

Config = Mapping[str, Any] | str
"""A winner as a complete experiment file, or why it cannot be read."""


def report(
    evidence: Evidence, answer: Answer, found: Sequence[Correlation], compared: Sequence[MethodComparison], shown: Gallery,
    configs: Mapping[str, Config], now: datetime, within: Sequence[Correlation] = (),
) -> str:  # fmt: skip
    """The page.

    Args:
        evidence: of the experiment.
        answer: to the question of the page.
        found: all coefficients.
        compared: comparisons of methods.
        shown: the figures.
        configs: run id of a study -> its winner.
        now: written on the page.
        within: coefficients with pairs of a task with itself, where there are some.
    """
    some, cost = bool(evidence.studies), equal_cost(evidence)
    return page(
        {
            "experiment": evidence.experiment, "now": f"{now:%Y-%m-%d %H:%M}", "sentences": answer.sentences,
            "facts": _facts(evidence), "cautions": list(_cautions(evidence)), "gaps": list(_gaps(evidence)),
            "best": best_table(evidence) if some else None, "files": _files(evidence, configs),
            "searches": searches_table(evidence), "answer_figures": _figures(shown.answer), "prediction": list(_prediction(evidence, found, within)),
            "similarity_figures": _figures(shown.similarities), "methods": methods_table(evidence) if some else None,
            "comparisons": comparisons_table(compared) if compared else None, "relative_figures": _figures(shown.relative), "gain_figures": _figures(shown.gains),
            "cost": cost_sentence(cost), "cost_table": cost_table(cost), "spread": spread_table(evidence), "search_figures": _figures(shown.search) if evidence.trials else None,
            "pairs": pairs_table(evidence) if some else None, "protocol": evidence.protocol,
            "plms": listed(sorted({study.plm for study in evidence.studies})) or "none yet",
            "seeds": listed(_seeds(evidence)) or "no", "settings": _settings(evidence) or "settings that are not recorded",
        }
    )  # fmt: skip


def _facts(evidence: Evidence) -> list[tuple[str, object, str]]:
    """Names, what they are, and details."""
    trials, without = evidence.trials, evidence.targets_without_signal
    seconds = sum(trial.seconds or 0.0 for trial in trials)
    seconds += sum(study.confirmed.seconds or 0.0 for study in evidence.studies)
    states = Counter(trial.state for trial in trials)
    total = len(evidence.studies) + len(evidence.unfinished)
    return [
        ("Targets", len(evidence.places), f"{len(without)} without signal" if without else ""),
        ("Sources", len({pair.source for pair in evidence.pairs}), ""),
        ("Methods", len({study.method for study in evidence.studies}), "including the baseline"),
        ("Studies", len(evidence.studies), f"confirmed, of {total}"),
        ("Trials", len(trials), ", ".join(f"{states[state]} {state}" for state in TRIAL_STATES if states[state])),
        ("Time", _duration(seconds), "of trials and confirmation runs only"),
    ]


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def _gaps(evidence: Evidence) -> Iterator[tuple[str, list[str]]]:
    """What is missing: a summary, and each case."""
    if evidence.unfinished:
        names = [f"{evidence.place(s.target, s.plm)}, {s.name}{_state(s)}" for s in evidence.unfinished]
        yield f"{counted(len(names), 'study')} without a confirmed winner: panda-tune search continues there", names
    reasons = Counter(t.failure or "no reason recorded" for t in evidence.trials if t.state == FAILED)
    if failed := reasons.total():
        yield (
            f"{counted(failed, 'trial')} of {len(evidence.trials)} failed, and count as failed, not as bad scores",
            [f"{count} × {reason}" for reason, count in reasons.most_common()],
        )


def _state(study: StudyRecord) -> str:
    return f" ({study.state})" if study.state else ""


def _cautions(evidence: Evidence) -> Iterator[str]:
    """Limitations that a reader of the numbers must know."""
    if without := evidence.targets_without_signal:
        yield f"No signal on {listed(without)}: prompt tuning does not beat the best constant answer in the search (95 % interval, corrected for its trials). Left out of coefficients and pooled figures."
    marked = [method for method in evidence.methods if is_marked(evidence, method)]
    if marked:
        yield f"The loss of {listed(marked)} contains a similarity, so gain and similarity are related by design: the coefficients are marked * and do not answer the question."
    poor = sorted({pair.source or "" for pair in evidence.pairs if pair.source_at_majority})
    if poor:
        yield f"{listed(poor)} {'do not beat their' if len(poor) > 1 else 'does not beat its'} own best constant answer as a source."
    if single := sorted({evidence.place(s.target, s.plm) for s in evidence.studies if s.gain and s.gain.n == 1}):
        yield f"One confirm seed on {listed(single)}: intervals are over report rows alone, and no gain can have a star."
    if any(not study.confirmed.chosen_by for study in evidence.studies):
        yield "Some winners were recorded without the choice by other seeds: the same seeds chose and report, so that the best of many looks better than it is. The same search command records it."
    joined = sum(len(pair.sources) > 1 for pair in evidence.pairs)
    if joined:
        yield f"{counted(joined, 'winner')} of {counted(len(evidence.pairs), 'pair')} used partners, so that the gain is not due to one source alone; the first trial has no partners."
    shared = sorted({f"{pair.source} → {pair.target}" for pair in evidence.pairs if pair.overlap})
    if shared:
        yield f"Some texts of train rows, of the source or of the target itself, are also in the target's report rows; for how the experiment treats them, see the tag overlap of {listed(shared)}."
    counts = {name: sum(name not in pair.similarities for pair in evidence.pairs) for name in evidence.similarities}
    if unknown := [f"{name} {count}" for name, count in counts.items() if count]:
        yield f"Pairs without a similarity: {', '.join(unknown)}."
    cut = sorted({study.target for study in evidence.studies if _truncated(study) > 0.1})
    if cut:
        yield f"More than a tenth of the rows are truncated at the maximum length on {listed(cut)}."


def _truncated(study: StudyRecord) -> float:
    """The larger share of rows that do not fit, of train and report."""
    return max(study.confirmed.truncated.get(split, 0.0) for split in ("train", "report"))


@dataclass(frozen=True)
class ConfigFile:
    """A winner as an experiment file.

    Attributes:
        title: whose.
        name: of the file.
        text: YAML; empty where it cannot be read.
        obstacle: why not.
    """

    title: str
    name: str
    text: str
    obstacle: str = ""


def _files(evidence: Evidence, configs: Mapping[str, Config]) -> list[ConfigFile]:
    chosen = sorted(winners(evidence.studies), key=lambda study: (study.target, study.plm))
    return [
        _file(f"{evidence.place(s.target, s.plm)}: {s.name}", f"{s.target}.yaml", configs.get(s.run_id, "not recorded"))
        for s in chosen
    ]


def _file(title: str, name: str, config: Config) -> ConfigFile:
    if isinstance(config, str):
        return ConfigFile(title, name, "", config)
    return ConfigFile(title, name, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))


def _prediction(
    evidence: Evidence, found: Sequence[Correlation], within: Sequence[Correlation]
) -> Iterator[tuple[str, Table]]:
    """Summary and table, as far as there are some."""
    if evidence.transfer_pairs:
        yield "Gain of choosing sources by similarity", retrieval_table(evidence)
    if found:
        yield f"All {counted(len(found), 'correlation')}", coefficients_table(evidence, found)
    if within:
        own = counted(max(one.self_pairs for one in within), "pair")
        yield (
            f"All correlations including {own} of a task with itself",
            coefficients_table(evidence, within, "self-pairs-table"),
        )


@dataclass(frozen=True)
class Figures:
    """Figures of a section.

    Attributes:
        pictures: that are drawn.
        missing: those that cannot be.
    """

    pictures: list[Picture]
    missing: list[NotDrawn]


def _figures(shown: Sequence[Figure]) -> Figures:
    drawn = [Picture(figure) for figure in shown if isinstance(figure, Drawing)]
    return Figures(drawn, [figure for figure in shown if isinstance(figure, NotDrawn)])


SETTINGS = (
    "train.steps", "train.seeds", "train.batch_size", "prompt.form", "prompt.length", "weigh_by", "shots.per_class",
    "train.precision", "source_train.steps",
)  # fmt: skip
"""Of studies, that the page names."""


def _settings(evidence: Evidence) -> str:
    studies = evidence.studies
    values = {name: sorted({s.settings[name] for s in studies if name in s.settings}) for name in SETTINGS}
    return "; ".join(f"{name} {listed(known)}" for name, known in values.items() if known)


def _seeds(evidence: Evidence) -> list[str]:
    return [str(n) for n in sorted({study.confirmed.score.n or 0 for study in evidence.studies})]

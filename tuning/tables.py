"""Results as tables for a terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.findings.best import BETTER, corrected, over_plms, row, verdict, winners
from analysis.findings.method_table import SIGNS, Cell, method_table, paper_table
from analysis.findings.repeats import OverSearches, of_study, of_targets
from analysis.records.evidence import Evidence
from analysis.records.reader import confirmed_of, confirmed_studies
from analysis.records.studies import Estimate, StudyRecord
from tuning.experiment.experiment import Experiment
from tuning.layout import UNKNOWN, Grid

NAMES = ("target", "PLM", "method", "source", "metric")
NUMBERS = ("score", "constant", "gain", "interval", "twin", "selection", "steps", "seconds")
OVER_SEARCHES = ("score over searches", "gain over searches")
SEARCHES_NOTE = (
    "over searches: mean ± deviation over (so many) searches with other seeds, each with its own winner; all other "
    "columns are of the first search"
)


def best_table(
    experiment: Experiment,
    target: str | None = None,
    width: int | None = None,
    studies: Sequence[StudyRecord] | None = None,
) -> str:
    """The best configuration per target, and per PLM where there are several.

    Args:
        experiment: whose results are read.
        target: only this one.
        width: columns of a terminal, to which it is folded; None: there is none.
        studies: its studies, where they are known; None: they are read from MLflow.

    Raises:
        NoRecords: if nothing is confirmed, or nothing of the target.
    """
    records = _confirmed(experiment, studies, target)
    chosen = winners(records)
    p_values, plms = corrected(chosen), over_plms(records)
    shown = sorted((r for r in chosen if target in (None, r.target)), key=lambda r: (r.target, r.plm))
    several = len({record.plm for record in shown}) > 1
    marked = {record.run_id for record in shown if several and plms[record.target] == record.plm}
    over = of_targets(records, winners)
    searches = {record.run_id: over.get((record.target, record.plm)) for record in shown}
    return _grid("Best configuration per target", shown, p_values, marked, verdicts_of(shown), searches).text(width)


def _confirmed(
    experiment: Experiment, studies: Sequence[StudyRecord] | None, target: str | None = None
) -> list[StudyRecord]:
    if studies is None:
        return confirmed_studies(experiment.tracking_uri, experiment.name, target)
    return confirmed_of(studies, experiment.name, target)


def study_table(experiment: Experiment, width: int | None = None, studies: Sequence[StudyRecord] | None = None) -> str:
    """Every study's confirmed winner, with the best constant answer of each target as a reference; as `best_table`."""
    records = _confirmed(experiment, studies)
    ordered = sorted(records, key=lambda r: (r.target, r.plm, r.method, r.source or ""))
    title = "Confirmed winner of each study"
    searches = {record.run_id: of_study(record) for record in ordered}
    return _grid(title, ordered, {}, set(), verdict_counts(ordered), searches, references=True).text(width)


def _grid(
    title: str,
    records: Sequence[StudyRecord],
    p_values: Mapping[str, float],
    marked: set[str],
    verdicts: Sequence[str],
    searches: Mapping[str, OverSearches | None],
    *,
    references: bool = False,
) -> Grid:
    told = [(record, row(record, p_values.get(record.run_id))) for record in records]
    several, repeated = len({record.plm for record in records}) > 1, any(searches.values())
    numbers = (*NUMBERS, *OVER_SEARCHES * repeated)
    rows: list[list[str]] = []
    previous: tuple[str, str] | None = None
    for record, values in told:
        if references and previous != (record.target, record.plm):
            previous = record.target, record.plm
            rows.append([*_reference(values, several), *[""] * len(OVER_SEARCHES) * repeated])
        best = " ●" if record.run_id in marked else ""
        over = _over_searches(searches.get(record.run_id)) if repeated else []
        rows.append([*_names(values, several, best), *_numbers(values), *over])
    names = tuple(name for name in NAMES if name != "PLM" or several)
    notes = (*verdicts, *_notes(told, marked), *[SEARCHES_NOTE] * repeated)
    return Grid(title, (*names, *numbers), tuple(rows), len(names), notes, folds=("PLM",))


def _over_searches(found: OverSearches | None) -> list[str]:
    """Score and gain over searches; dashes where there are not several."""
    return [UNKNOWN, UNKNOWN] if found is None else [_searches(found.score, ""), _searches(found.gain, "+")]


def _searches(known: Estimate | None, sign: str) -> str:
    return UNKNOWN if known is None else f"{100 * known.mean:{sign}.1f} ± {100 * (known.std or 0):.1f} ({known.n})"


def _reference(values: Mapping[str, Any], several: bool) -> list[str]:
    """The row of a target's best constant answer."""
    names = [values["target"], *([values["plm"]] if several else []), "best constant", UNKNOWN]
    return [*names, values["metric"] or UNKNOWN, f"{100 * values['majority']:.1f}", *[""] * (len(NUMBERS) - 1)]


def verdicts_of(records: Sequence[StudyRecord]) -> list[str]:
    """A line for each verdict but the favourable one, with the targets whose winners have it."""
    several = len({record.plm for record in records}) > 1
    found: dict[str, list[str]] = {}
    for record in records:
        on = f" on {record.plm}" if several else ""
        found.setdefault(verdict(record), []).append(f"{record.target}{on}")
    return [f"{text}: {', '.join(names)}" for text, names in found.items() if text != BETTER]


def verdict_counts(records: Sequence[StudyRecord]) -> list[str]:
    """A line for each verdict but the favourable one, with how many studies of methods that transfer have it."""
    found = Counter(verdict(record) for record in records if record.gain)
    return [f"{text}: {count} of {found.total()} studies" for text, count in found.items() if text != BETTER]


def methods_text(evidence: Evidence, width: int | None = None) -> str:
    """Methods × targets as `analyze` prints them; on a terminal that is narrower, a block per method."""
    text = paper_table(evidence, "table")
    *lines, note = text.rstrip().splitlines()
    if width is None or max(map(len, lines)) <= width:
        return text
    table = method_table(evidence)
    rows = [["best constant", *(_percent(table.majority.get(target)) for target in table.targets)]]
    rows += [[name, *(_cell(table.cells.get((name, target))) for target in table.targets)] for name in table.methods]
    return Grid("", ("method", *table.targets), tuple(rows), 1, (note,)).text(width)


def _percent(score: float | None) -> str:
    return UNKNOWN if score is None else f"{100 * score:.1f}"


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return UNKNOWN
    spread = "" if cell.std is None else f" ± {100 * cell.std:.1f}"
    return f"{100 * cell.mean:.1f}{spread} {SIGNS[cell.mark]}".rstrip()


def retrieved_table(rows: Sequence[Mapping[str, Any]], width: int | None = None) -> str:
    """The sources of a target, the most similar first."""
    several = len({row["plm"] for row in rows}) > 1
    first = rows[0]
    shown = [
        [
            *([values["plm"]] if several else []), values["source"] + " !" * _is_poor(values),
            str(values["rank"]), f"{values['similarity']['mean']:.3f}{_spread_of(values['similarity'])}",
            *("" if values[name] is None else f"{100 * values[name]:.1f}" for name in ("own_score", "own_majority")),
        ]
        for values in rows
    ]  # fmt: skip
    poor = any(map(_is_poor, rows))
    caption = (
        f"similarity of early snapshots, ± standard deviation over {first['similarity']['n']} seeds; own score on "
        "selection rows in percent"
    )
    notes = (caption, *["! a source that does not beat the best constant answer"] * poor)
    head = (*(["PLM"] if several else []), "source", "rank", first["by"], "own score", "constant")
    return Grid(f"Sources of {first['target']} by {first['by']}", head, tuple(shown), 1 + several, notes).text(width)


def _is_poor(values: Mapping[str, Any]) -> bool:
    """Whether a source's prompt is known to be no better than the best constant answer."""
    return values["own_score"] is not None and bool(values["own_score"] <= values["own_majority"])


def _spread_of(values: Mapping[str, Any]) -> str:
    return f" ± {values['std']:.3f}" if values["n"] > 1 else ""


def kept_table(rows: Sequence[Mapping[str, Any]], width: int | None = None) -> str:
    """The share of the gain of all sources that the best of the top-k sources retains."""
    shown = [
        [
            values["method"], str(values["k"]), f"{100 * values['left_out']:.0f} %", f"{100 * values['gain']:+.1f}",
            "–" if values["kept"] is None else f"{100 * values['kept']:.0f} %", f"{100 * values['random']:+.1f}",
            "–" if values["hindsight"] is None else f"{100 * values['hindsight']:+.1f}",
        ]
        for values in rows
    ]  # fmt: skip
    title = f"Best of the top-k sources by {rows[0]['similarity']}, chosen by selection score"
    head = ("method", "k", "untried", "gain", "retained", "random", "hindsight")
    return Grid(title, head, tuple(shown), 1, KEPT_NOTES).text(width)


KEPT_NOTES = (
    "gain over prompt tuning in points on report rows",
    "untried: share of sources that no tried winner uses, as its source or as a partner",
    "retained: share of the gain of all sources, the oracle (the last k); random: expected gain of k randomly drawn sources",
    "a seed is scored on what the other seeds choose; retained where the gain of all is above 0 beyond doubt",
    "hindsight: gain of the source that other report rows and seeds find best, unknown to selection",
    "with partners, k = 1 is the weighted average of the most similar (spot) or their mixture (spot_mixture)",
)


def _notes(rows: Sequence[tuple[StudyRecord, Mapping[str, Any]]], marked: set[str]) -> list[str]:
    """Explanations of the signs that occur in the table."""
    values = [value for _, value in rows]
    told = {
        "score (its metric) and gain over prompt tuning in percent on report rows, ± deviation over seeds; 95 % interval over rows and seeds": True,
        "each seed is scored on what the other seeds choose": any((value["score"]["n"] or 0) > 1 for value in values),
        "one confirm seed: intervals are over rows alone, and no gain has a star": any(
            value["gain"]["n"] == 1 for value in values
        ),
        "source + partners: the winner uses them together": any(value["partners"] for value in values),
        "* gain significant at 5 % after Holm's correction over targets": any(value["significant"] for value in values),
        "no signal: prompt tuning does not beat the best constant answer in the search, corrected for its trials": not all(
            value["signal"] for value in values
        ),
        "! a source that does not beat the best constant answer": any(value["source_at_majority"] for value in values),
        "≈ texts shared between train rows and the target's report rows (see the study's tag `overlap`)": any(
            v["overlap"] for v in values
        ),
        "twin: the same without transfer: λ = 0, or for a prompt with its head that head with a random prompt": any(
            value["twin"] for value in values
        ),
        **{told: True for value in values if (told := _gap(value))},
        "● the best PLM of the target": bool(marked),
        "protocol: paper, so the search looked at validation rows": any(
            record.protocol == "paper" for record, _ in rows
        ),
        "constructed demonstration tasks: these numbers say nothing about real ones": any(
            record.constructed for record, _ in rows
        ),
    }
    return [note for note, holds in told.items() if holds]


def _gap(values: Mapping[str, Any]) -> str:
    """The score of the larger teacher PLM, and the share of its lead that its student closed."""
    teacher = values["teacher"]
    if not teacher:
        return ""
    who = f"{values['target']}, {' ← '.join(filter(None, (values['method'], values['source'])))}"
    closed = teacher["gap_closed"]
    told = (
        "is not better than prompt tuning"
        if closed is None
        else f"{100 * closed:.0f} % of its lead over prompt tuning closed"
    )
    return f"{who}: the larger PLM scores {100 * teacher['mean']:.1f}, {told}"


def _names(values: Mapping[str, Any], several: bool, best: str) -> list[str]:
    source = " + ".join(filter(None, (values["source"], *values["partners"]))) or UNKNOWN
    signs = " !" * values["source_at_majority"] + " ≈" * (values["overlap"] > 0)
    plm = [values["plm"] + best] if several else []
    return [values["target"], *plm, values["method"], source + signs, values["metric"] or UNKNOWN]


def _spread(values: Mapping[str, Any]) -> str:
    """The standard deviation over seeds; empty for a single seed."""
    return f" ± {100 * values['std']:.1f}" if values["n"] != 1 else ""


def _numbers(values: Mapping[str, Any]) -> list[str]:
    score, gain, twin = values["score"], values["gain"], values["twin"]
    low, high = gain["interval"]
    is_baseline = not gain["n"]
    star = " *" if values["significant"] else ""
    steps = f"{values['steps']} + {values['teacher_steps']}" if values["teacher_steps"] else f"{values['steps']}"
    return [
        f"{100 * score['mean']:.1f}{_spread(score)}",
        f"{100 * values['majority']:.1f}{'' if values['signal'] else ' no signal'}",
        "–" if is_baseline else f"{100 * gain['mean']:+.1f}{_spread(gain)}{star}",
        "–" if is_baseline else f"{100 * low:+.1f} to {100 * high:+.1f}",
        f"{100 * twin['mean']:.1f}" if twin else "–",
        f"{100 * values['selection_score']:.1f}",
        steps,
        f"{values['seconds']:.0f}",
    ]

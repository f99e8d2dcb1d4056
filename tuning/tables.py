"""Answers as tables for a terminal."""

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from analysis.best import corrected, over_plms, row, winners
from analysis.records import PROTOCOL, StudyRecord, confirmed_studies
from tuning.experiment import Experiment

WIDTH = 200
NAMES = ("target", "PLM", "method", "source")
NUMBERS = ("score", "majority", "gain", "interval", "λ=0 twin", "selection", "steps", "seconds")


def best_table(experiment: Experiment, target: str | None = None) -> str:
    """The best configuration per target, and per PLM where there are several."""
    records = confirmed_studies(experiment.tracking_uri, experiment.name)
    chosen = winners(records)
    p_values, plms = corrected(chosen), over_plms(records)
    shown = sorted((r for r in chosen if target in (None, r.target)), key=lambda r: (r.target, r.plm))
    several = len({record.plm for record in shown}) > 1
    marked = {record.run_id for record in shown if several and plms[record.target] == record.plm}
    return _table("Best configuration per target", shown, p_values, marked)


def study_table(experiment: Experiment) -> str:
    """Every study's confirmed winner, with the majority class of each target as a reference."""
    records = confirmed_studies(experiment.tracking_uri, experiment.name)
    ordered = sorted(records, key=lambda r: (r.target, r.plm, r.method, r.source or ""))
    return _table("Confirmed winner of each study", ordered, {}, set(), references=True)


def _table(
    title: str,
    records: Sequence[StudyRecord],
    p_values: Mapping[str, float],
    marked: set[str],
    *,
    references: bool = False,
) -> str:
    rows = [(record, row(record, p_values.get(record.run_id))) for record in records]
    several = len({record.plm for record in records}) > 1
    table = Table(
        box=box.SIMPLE_HEAD, title=title, caption="\n".join(_notes(rows, marked)), title_justify="left",
        caption_justify="left",
    )  # fmt: skip
    for name in NAMES:
        if name != "PLM" or several:
            table.add_column(name, no_wrap=name != "PLM", overflow="fold")
    for name in NUMBERS:
        table.add_column(name, justify="right", no_wrap=True)
    known: tuple[str, str] | None = None
    for record, values in rows:
        if references and known != (record.target, record.plm):
            known = record.target, record.plm
            plm = [record.plm] if several else []
            said = [f"{100 * values['majority']:.1f}", *[""] * (len(NUMBERS) - 1)]
            table.add_row(record.target, *plm, "majority class", "–", *said)
        best = " ●" if record.run_id in marked else ""
        table.add_row(*_names(values, several, best), *_numbers(values))
    console = Console(file=StringIO(), width=WIDTH, color_system=None)
    console.print(table)
    written = console.file
    assert isinstance(written, StringIO)
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines())


def _notes(rows: Sequence[tuple[StudyRecord, Mapping[str, Any]]], marked: set[str]) -> list[str]:
    """What the table's signs mean, as far as they stand in it."""
    values = [value for _, value in rows]
    told = {
        "score and gain over prompt tuning in percent on report rows, ± deviation over seeds; 95 % interval over rows and seeds": True,
        "* gain significant at 5 % after Holm's correction over targets": any(value["significant"] for value in values),
        "no signal: prompt tuning does not beat the class that is most frequent (its 95 % interval)": not all(
            value["signal"] for value in values
        ),
        "! a source that does not beat its own majority class": any(value["source_at_majority"] for value in values),
        "≈ texts shared with the target's report rows (see the study's tag `overlap`)": any(
            v["overlap"] for v in values
        ),
        "● the best PLM of the target": bool(marked),
        "protocol: paper, so the search looked at validation rows": any(
            record.tags.get(PROTOCOL) == "paper" for record, _ in rows
        ),
        "constructed demonstration tasks: these numbers say nothing about real ones": any(
            record.tags.get("constructed") == "true" for record, _ in rows
        ),
    }
    return [note for note, holds in told.items() if holds]


def _names(values: Mapping[str, Any], several: bool, best: str) -> list[str]:
    source = values["source"] or "–"
    signs = " !" * values["source_at_majority"] + " ≈" * (values["overlap"] > 0)
    return [values["target"], *([values["plm"] + best] if several else []), values["method"], source + signs]


def _spread(values: Mapping[str, Any]) -> str:
    """The deviation over seeds; nothing where there is one seed only."""
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

"""Answers as tables for a terminal."""

from collections.abc import Sequence
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from analysis.best import row, winners
from analysis.records import PROTOCOL, StudyRecord, confirmed_studies
from tuning.experiment import Experiment

WIDTH = 200


def best_table(experiment: Experiment, target: str | None = None) -> str:
    """The best configuration per target."""
    records = confirmed_studies(experiment.tracking_uri, experiment.name)
    chosen = [record for record in winners(records) if target in (None, record.target)]
    return _table("Best configuration per target", chosen)


def study_table(experiment: Experiment) -> str:
    """Every study's confirmed winner."""
    records = confirmed_studies(experiment.tracking_uri, experiment.name)
    return _table("Confirmed winner of each study", sorted(records, key=lambda r: (r.target, r.method, r.source or "")))


def _table(title: str, records: Sequence[StudyRecord]) -> str:
    paper = any(record.tags.get(PROTOCOL) == "paper" for record in records)
    constructed = any(record.tags.get("constructed") == "true" for record in records)
    notes = [
        "score and gain over prompt tuning in percent on report rows, ± deviation over seeds; 95 % interval over rows and seeds"
    ]
    notes += ["protocol: paper, so the search looked at validation rows"] if paper else []
    notes += ["constructed demonstration tasks: these numbers say nothing about real ones"] if constructed else []
    table = Table(
        box=box.SIMPLE_HEAD, title=title, caption="\n".join(notes), title_justify="left", caption_justify="left"
    )
    for name in ("target", "method", "source"):
        table.add_column(name, no_wrap=True)
    for name in ("score", "majority", "gain", "interval", "λ=0 twin", "selection", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for record in records:
        table.add_row(*_cells(row(record)))
    console = Console(file=StringIO(), width=WIDTH, color_system=None)
    console.print(table)
    written = console.file
    assert isinstance(written, StringIO)
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines())


def _cells(values: dict[str, Any]) -> list[str]:
    score, gain, twin = values["score"], values["gain"], values["twin"]
    low, high = gain["interval"]
    signal = "" if values["signal"] else " no signal"
    is_baseline = values["source"] is None
    return [
        values["target"],
        values["method"],
        values["source"] or "–",
        f"{100 * score['mean']:.1f} ± {100 * score['std']:.1f}",
        f"{100 * values['majority']:.1f}{signal}",
        "–" if is_baseline else f"{100 * gain['mean']:+.1f} ± {100 * gain['std']:.1f}",
        "–" if is_baseline else f"{100 * low:+.1f} to {100 * high:+.1f}",
        f"{100 * twin['mean']:.1f}" if twin else "–",
        f"{100 * values['selection_score']:.1f}",
        f"{values['seconds']:.0f}",
    ]

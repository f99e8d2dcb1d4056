"""Methods × targets for a paper: mean ± deviation over seeds, the best in bold, those that may be as good marked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from types import MappingProxyType

from analysis.findings.choice import Choice, choose, difference, reported
from analysis.records.evidence import Evidence
from analysis.records.studies import StudyRecord
from analysis.statistics.gains import LEVEL, ROUNDING
from analysis.wording import guarded

BEST, TIE, PLAIN = "best", "tie", ""
SIGNS = {BEST: "*", TIE: "=", PLAIN: " "}
RULE = (
    "Report score in percent, mean ± standard deviation over seeds; of methods with sources, the source with the best selection score, "
    "each seed scored on what the others choose. Bold: the highest mean of a target. Marked: not significantly different from it, by paired "
    "differences over rows and seeds, corrected for the number of pairs of methods (Bonferroni)."
)


@dataclass(frozen=True)
class Cell:
    """One method on one target.

    Attributes:
        mean: report score, in score units.
        std: over seeds; None for one seed.
        n: seeds.
        source: the one that was chosen; None for methods without one.
        mark: `best`, `tie` (not distinguishable from the best) or empty.
    """

    mean: float
    std: float | None
    n: int
    source: str | None
    mark: str = PLAIN


@dataclass(frozen=True)
class MethodTable:
    """Methods × targets.

    Attributes:
        methods: names of rows, the baseline first.
        targets: names of columns.
        cells: (method, target) -> cell; a method that did not run on a target has none.
        majority: target -> score of the most frequent class.
    """

    methods: tuple[str, ...]
    targets: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]
    majority: Mapping[str, float]


def method_table(evidence: Evidence) -> MethodTable:
    """The winners of each method on each target."""
    targets: dict[str, list[StudyRecord]] = {}
    for study in sorted(evidence.studies, key=lambda s: (s.method, s.source or "")):
        targets.setdefault(evidence.place(study.target, study.plm), []).append(study)
    columns = {target: _column(studies) for target, studies in targets.items()}
    names = {study.method for study in evidence.studies}
    methods = sorted(names, key=lambda name: (name != evidence.baseline, name))
    classes = {target: studies[-1].confirmed.majority for target, studies in targets.items()}
    majority = {target: score for target, score in classes.items() if score is not None}
    cells = {(method, target): cell for target, column in columns.items() for method, cell in column.items()}
    return MethodTable(tuple(methods), tuple(sorted(targets)), MappingProxyType(cells), MappingProxyType(majority))


def _column(studies: Sequence[StudyRecord]) -> dict[str, Cell]:
    """Method -> its cell, of all studies of a target and PLM."""
    choices = {method: choose([s for s in studies if s.method == method]) for method in {s.method for s in studies}}
    shown = {method: reported(studies, choice) for method, choice in choices.items()}
    best = max(sorted(shown), key=lambda method: shown[method].confirmed.score.mean)
    highest = shown[best].confirmed.score.mean
    return {
        method: _cell(study, BEST if study.confirmed.score.mean >= highest - ROUNDING else _mark(choices, best, method, studies))
        for method, study in shown.items()
    }  # fmt: skip


def _cell(study: StudyRecord, mark: str) -> Cell:
    score = study.confirmed.score
    return Cell(score.mean, score.spread, score.n or 1, study.source, mark)


def _mark(choices: Mapping[str, Choice], best: str, method: str, studies: Sequence[StudyRecord]) -> str:
    """The best of several is the best by chance too, and the worst the worst: each pair of them may look clear.

    Where rows were not recorded, or there is one seed, nothing can be told apart.
    """
    found = difference(choices[best], choices[method], studies)
    clear = found is not None and found.n > 1 and found.p * comb(len(choices), 2) < 1 - LEVEL
    return PLAIN if clear else TIE


def as_csv(table: MethodTable) -> str:
    """A line per method and one of the best constant answer, four columns per target: mean, deviation, mark, source; in percent."""
    import pandas as pd

    names = [f"{target}{part}" for target in table.targets for part in ("", " sd", " mark", " source")]
    classes = (table.majority.get(target) for target in table.targets)
    rows = [["best constant", *(text for c in classes for text in ("" if c is None else f"{100 * c:.2f}", "", "", ""))]]
    for method in table.methods:
        known = [table.cells.get((method, target)) for target in table.targets]
        rows.append([method, *(field for cell in known for field in _fields(cell))])
    frame = pd.DataFrame(rows, columns=[*map(guarded, ["method", *names])]).map(guarded)
    return frame.to_csv(index=False, lineterminator="\n")


def _fields(cell: Cell | None) -> list[str]:
    if cell is None:
        return ["", "", "", ""]
    return [f"{100 * cell.mean:.2f}", "" if cell.std is None else f"{100 * cell.std:.2f}", cell.mark, cell.source or ""]


def as_text(table: MethodTable) -> str:
    """Aligned columns for a terminal; * is the best, = not distinguishable from it."""
    rows = [["method", *table.targets], ["best constant", *(_share(table.majority.get(t)) for t in table.targets)]]
    rows += [[m, *(_plain(table.cells.get((m, t))) for t in table.targets)] for m in table.methods]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(text.rjust(w) for text, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n* best, = not distinguishable from it\n"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}  "


def _plain(cell: Cell | None) -> str:
    if cell is None:
        return "–  "
    spread = "" if cell.std is None else f" ± {100 * cell.std:.1f}"
    return f"{100 * cell.mean:.1f}{spread} {SIGNS[cell.mark]}"


LATEX_SIGNS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "·": r"$\cdot$",
}  # fmt: skip


def latex_text(text: str) -> str:
    """A name as LaTeX that prints it."""
    return "".join(LATEX_SIGNS.get(sign, sign) for sign in text)


def as_latex(table: MethodTable) -> str:
    """A table for the package booktabs."""
    import pandas as pd

    rows = [["best constant", *(_share(table.majority.get(target)).strip() for target in table.targets)]]
    rows += [[latex_text(m), *(_latex_cell(table.cells.get((m, t))) for t in table.targets)] for m in table.methods]
    shown = pd.DataFrame(rows, columns=["method", *map(latex_text, table.targets)]).style.hide(axis="index")
    written = shown.to_latex(
        column_format="l" + "r" * len(table.targets), position_float="centering", hrules=True,
        caption=latex_text(RULE).replace("Marked:", r"$^\dagger$:").replace("±", r"$\pm$"),
    )  # fmt: skip
    return f"% needs \\usepackage{{booktabs}}\n{written}"


def _latex_cell(cell: Cell | None) -> str:
    if cell is None:
        return "--"
    mean = f"{100 * cell.mean:.1f}"
    shown = rf"\textbf{{{mean}}}" if cell.mark == BEST else mean
    spread = "" if cell.std is None else rf"{{\scriptsize$\pm${100 * cell.std:.1f}}}"
    return shown + spread + (r"$^\dagger$" if cell.mark == TIE else "")


FORMATS: Mapping[str, Callable[[MethodTable], str]] = MappingProxyType(
    {"table": as_text, "csv": as_csv, "latex": as_latex}
)
"""Name of a format -> what writes it."""
PAPERS: Mapping[str, str] = MappingProxyType({"latex": "methods.tex", "csv": "methods.csv"})
"""Name of a format -> the file that an analysis writes."""


def paper_table(evidence: Evidence, form: str) -> str:
    """Methods × targets in one of FORMATS.

    Raises:
        ValueError: if the format is unknown.
    """
    if form not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {form!r}")
    return FORMATS[form](method_table(evidence))

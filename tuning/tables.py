"""Results as tables for a terminal."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from analysis.findings.best import corrected, over_plms, row, winners
from analysis.records.reader import confirmed_studies
from analysis.records.studies import StudyRecord
from analysis.statistics.correlation import Correlation, OfTarget
from tuning.experiment.experiment import Experiment

WIDTH = 200
NAMES = ("target", "PLM", "method", "source")
NUMBERS = ("score", "majority", "gain", "interval", "twin", "selection", "steps", "seconds")


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
    previous: tuple[str, str] | None = None
    for record, values in rows:
        if references and previous != (record.target, record.plm):
            previous = record.target, record.plm
            plm = [record.plm] if several else []
            numbers = [f"{100 * values['majority']:.1f}", *[""] * (len(NUMBERS) - 1)]
            table.add_row(record.target, *plm, "majority class", "–", *numbers)
        best = " ●" if record.run_id in marked else ""
        table.add_row(*_names(values, several, best), *_numbers(values))
    return _printed(table)


def _printed(table: Table) -> str:
    console = Console(file=StringIO(), width=WIDTH, color_system=None)
    console.print(table)
    written = console.file
    assert isinstance(written, StringIO)
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines())


def plain_table(title: str, caption: str, names: Sequence[str], rows: Sequence[Sequence[str]], texts: int) -> str:
    """A table whose first columns are texts, left-aligned, and whose others are numbers."""
    table = Table(
        box=box.SIMPLE_HEAD, title=title, caption=caption, title_justify="left", caption_justify="left",
    )  # fmt: skip
    for number, name in enumerate(names):
        table.add_column(name, justify="left" if number < texts else "right", no_wrap=True)
    for row_ in rows:
        table.add_row(*row_)
    return _printed(table)


def retrieved_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The sources of a target, the most similar first."""
    several = len({row["plm"] for row in rows}) > 1
    first = rows[0]
    shown = [
        [
            *([values["plm"]] if several else []), values["source"] + " !" * (values["own_score"] <= values["own_majority"]),
            str(values["rank"]), f"{values['similarity']['mean']:.3f}{_spread_of(values['similarity'])}",
            f"{100 * values['own_score']:.1f}", f"{100 * values['own_majority']:.1f}",
        ]
        for values in rows
    ]  # fmt: skip
    poor = any(values["own_score"] <= values["own_majority"] for values in rows)
    caption = (
        f"similarity of early snapshots, ± standard deviation over {first['similarity']['n']} seeds; own score on "
        "selection rows in percent"
    )
    return plain_table(
        f"Sources of {first['target']} by {first['by']}",
        caption + "\n! a source that does not beat its own majority class" * poor,
        [*(["PLM"] if several else []), "source", "rank", first["by"], "own score", "majority"], shown, 1 + several,
    )  # fmt: skip


def _spread_of(values: Mapping[str, Any]) -> str:
    return f" ± {values['std']:.3f}" if values["n"] > 1 else ""


def kept_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The share of the gain of all sources that the best of the top-k sources retains."""
    shown = [
        [
            values["method"], str(values["k"]), f"{100 * values['left_out']:.0f} %", f"{100 * values['gain']:+.1f}",
            "–" if values["kept"] is None else f"{100 * values['kept']:.0f} %", f"{100 * values['random']:+.1f}",
            f"{100 * values['hindsight']:+.1f}",
        ]
        for values in rows
    ]  # fmt: skip
    return plain_table(
        f"Best of the top-k sources by {rows[0]['similarity']}, chosen by selection score",
        "gain over prompt tuning in points on report rows; untried: share of sources that no tried winner uses, as "
        "its source or as a partner;\n"
        "retained: share of the gain of all sources, the oracle (the last k); random: expected gain of k randomly "
        "drawn sources; hindsight: largest\n"
        "gain of any source, unknown to selection. With partners, k = 1 is the weighted average of the most similar "
        "(spot) or their mixture (spot_mixture)",
        ["method", "k", "untried", "gain", "retained", "random", "hindsight"], shown, 1,
    )  # fmt: skip


def _notes(rows: Sequence[tuple[StudyRecord, Mapping[str, Any]]], marked: set[str]) -> list[str]:
    """Explanations of the signs that occur in the table."""
    values = [value for _, value in rows]
    told = {
        "score and gain over prompt tuning in percent on report rows, ± deviation over seeds; 95 % interval over rows and seeds": True,
        "* gain significant at 5 % after Holm's correction over targets": any(value["significant"] for value in values),
        "no signal: prompt tuning does not beat the class that is most frequent (its 95 % interval)": not all(
            value["signal"] for value in values
        ),
        "! a source that does not beat its own majority class": any(value["source_at_majority"] for value in values),
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
    source = values["source"] or "–"
    signs = " !" * values["source_at_majority"] + " ≈" * (values["overlap"] > 0)
    return [values["target"], *([values["plm"] + best] if several else []), values["method"], source + signs]


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


PER_SIMILARITY = (
    "similarity", "mean ρ", "interval", "mean r", "pooled ρ", "interval", "pooled r", "p", "adjusted p",
    "noise ceiling", "pairs", "missing", "self-pairs",
)  # fmt: skip
COLUMNS = (
    "similarity", "measure", "method", "scope", "target", "spearman", "spearman_p", "spearman_exact", "pearson", "pearson_p", "n", "low",
    "high", "p_permutation", "p_adjusted", "ceiling", "missing", "self_pairs", "note",
)  # fmt: skip
"""Of the CSV. Scope: `target`, `mean` of targets, or `pooled`."""
UNKNOWN = "–"

RELATIVE = {
    "none": "pooled: unscaled scores, higher on easy than on hard targets (--relative-to self or baseline normalises them)",
    "self": "pooled: scores divided by the target's score with its own prompt",
    "baseline": "pooled: scores divided by the target's baseline",
}
"""What pooled scores are divided by -> its note below the table."""


def correlation_table(found: Sequence[Correlation], relative_to: str = "none") -> str:
    """A line per similarity, then Spearman's coefficients by target, then notes."""
    names = " · ".join(filter(None, (found[0].measure, found[0].method)))
    overview = plain_table(
        f"Correlation of similarity and {names}", "", PER_SIMILARITY, [_line(one) for one in found], 1
    )
    targets = sorted({name for one in found for name in one.targets})
    rows = [[name, *(_of_target(one.targets.get(name)) for one in found)] for name in targets]
    head = ["target", *(one.similarity for one in found)]
    by_target = plain_table("ρ (p) of each target over its sources", "", head, rows, 1)
    return "\n".join([overview, by_target, *_captions(found, relative_to)])


def _line(one: Correlation) -> list[str]:
    pooled = one.pooled
    return [
        one.similarity,
        signed(one.spearman_mean),
        _interval(one.mean_interval),
        signed(one.pearson_mean),
        signed(pooled.spearman),
        _interval(pooled.spearman_interval),
        signed(pooled.pearson),
        chance(pooled.p_permutation),
        chance(pooled.p_adjusted),
        signed(one.ceiling),
        *(str(count) for count in (pooled.n, one.missing, one.self_pairs)),
    ]


def _of_target(one: OfTarget | None) -> str:
    if one is None or one.spearman is None:
        return UNKNOWN
    return f"{signed(one.spearman)} ({chance(one.p)})"


def signed(value: float | None) -> str:
    """A coefficient with two decimals and its sign."""
    return UNKNOWN if value is None else f"{value:+.2f}"


def chance(p: float | None) -> str:
    """A p-value with three decimals, never 0."""
    return UNKNOWN if p is None else "<.001" if p < 0.0005 else f"{p:.3f}"


def _interval(ends: tuple[float, float] | None) -> str:
    return f"{signed(ends[0])} to {signed(ends[1])}" if ends else UNKNOWN


def _captions(found: Sequence[Correlation], relative_to: str) -> Iterator[str]:
    yield "ρ: Spearman, r: Pearson; mean: over targets; 95 % intervals over targets and sources"
    yield (
        "p: of pooled ρ, source labels permuted jointly over targets; "
        "adjusted for the number of similarities (Benjamini-Hochberg)"
    )
    yield RELATIVE[relative_to]
    if any(one.ceiling is not None for one in found):
        yield "noise ceiling: mean ρ between two measurements of the same scores, estimated from halves of the seeds"
    yield from notes(found)


def notes(found: Sequence[Correlation]) -> list[str]:
    """What is missing and why, one line each."""
    told: dict[str, list[str]] = {}
    for one in found:
        for about, why in _reasons(one):
            told.setdefault(f"{about}: {why}", []).append(one.similarity)
    everywhere = len(found)
    return [
        text if len(similarities) == everywhere else f"{', '.join(similarities)}: {text}"
        for text, similarities in told.items()
    ]


def _reasons(one: Correlation) -> Iterator[tuple[str, str]]:
    for name, target in one.targets.items():
        if target.note:
            yield f"no coefficient of {name}", target.note
    if one.pooled.note:
        yield "pooled" if one.pooled.spearman is not None else "no pooled coefficient", one.pooled.note
    if one.note:
        yield "seeds", one.note
    if one.missing:
        yield "missing", f"{one.missing} pair{'s' * (one.missing != 1)} without score or similarity"


def correlation_csv(found: Sequence[Correlation]) -> str:
    """All coefficients as CSV: per similarity one row per target, one for the mean over targets, one pooled."""
    text = StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(row for one in found for row in _rows(one))
    return text.getvalue()


def _rows(one: Correlation) -> Iterator[dict[str, Any]]:
    of = {"similarity": one.similarity, "measure": one.measure, "method": one.method}
    for name, target in one.targets.items():
        yield {**of, "scope": "target", "target": name, **vars(target)}
    whole = {**of, "missing": one.missing, "self_pairs": one.self_pairs}
    yield {
        **whole, "scope": "mean", "spearman": one.spearman_mean, "pearson": one.pearson_mean, "ceiling": one.ceiling,
        "n": sum(target.spearman is not None for target in one.targets.values()), **_ends(one.mean_interval),
    }  # fmt: skip
    pooled = {name: value for name, value in vars(one.pooled).items() if name != "spearman_interval"}
    yield {**whole, "scope": "pooled", **pooled, **_ends(one.pooled.spearman_interval)}


def _ends(interval: tuple[float, float] | None) -> dict[str, float]:
    return dict(zip(("low", "high"), interval or (), strict=False))

"""Methods at equal cost: the page's table and its sentence, and files for papers."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from analysis.findings.costs import ACCOUNTS, IN_FULL
from analysis.findings.equal_cost import WHOLE, AtCost, EqualCost
from analysis.findings.method_table import latex_text
from analysis.report.page import Cell, Table, number
from analysis.wording import guarded, listed, points

SHARE_NAMES: Mapping[float, str] = MappingProxyType(
    {0.125: "1/8", 0.25: "1/4", 0.5: "1/2", 1.0: "1", WHOLE: "whole search"}
)
"""Share -> its column."""


def cost_sentence(found: EqualCost) -> str:
    """What the table says, of every method: none is picked for being the best."""
    if found.note:
        return f"Methods cannot be compared at equal cost: {found.note}."
    own = {method: rows for method, rows in found.of(IN_FULL).items() if method != found.baseline}
    if not own:
        return f"There is no method beside {found.baseline} to compare it with."
    equal = [_difference(method, row) for method, rows in own.items() for row in rows if row.share == 1]
    whole = [f"{m} ×{row.cost:.1f}" for m, rows in own.items() for row in rows if row.share == WHOLE]
    return (
        f"For the steps of {found.baseline}'s whole search ({found.unit:,.0f} of all seeds, mean over targets), selection scores "
        f"differ from its own by: {'; '.join(equal)}. Whole searches cost more or less than that: {listed(whole)}."
    )


def _difference(method: str, row: AtCost) -> str:
    if row.difference is None:
        return f"{method} not known (it had a score on {len(row.scores)} of {row.targets} targets)"
    interval = row.interval and f", 95 % interval {points(row.interval[0])} to {points(row.interval[1])}"
    return f"{method} {points(row.difference)} points ({_targets(row.targets)}{interval or ''})"


def _targets(count: int) -> str:
    return f"{count} target" if count == 1 else f"{count} targets"


def cost_table(found: EqualCost) -> Table | None:
    """Methods × budgets, under both accounts; None where nothing can be compared."""
    if not found.rows:
        return None
    rows = [
        [Cell(method), Cell(account), number(budgets[0].targets), _times(budgets[-1]), *map(_score, budgets), _report(budgets[-1])]
        for account in ACCOUNTS for method, budgets in found.of(account).items()
    ]  # fmt: skip
    shares = [SHARE_NAMES.get(row.share, f"{row.share:g}") for row in _first(found)]
    heads = ["method", "sources paid", "targets", "cost", *shares, "report, whole search"]
    return Table("cost-table", caption(found), heads, rows)


def _first(found: EqualCost) -> Sequence[AtCost]:
    return next(iter(found.of(IN_FULL).values()))


def caption(found: EqualCost) -> str:
    """What the numbers of the table are."""
    whose = (
        "with each search seed in turn, of the trial that the other seeds choose"
        if found.is_cross_fitted
        else "of the seeds that chose it, so that it is too good, the more so the more trials there are"
    )
    return (
        f"Selection score in percent of the best complete trial so far, {whose}; in brackets the difference from {found.baseline} "
        "at the same budget, mean ± standard deviation over targets with a signal. Budgets are shares of the steps that "
        f"{found.baseline}'s whole search spent on the target; cost: the method's whole search as a multiple of it. Steps of all seeds "
        "count: of students (of stopped and failed trials too), source prompts, embeddings of targets, teachers, other PLMs and projectors, not of confirmations. "
        f"Sources paid {'; '.join(f'{name}: {rule}' for name, rule in ACCOUNTS.items())}. A dash: no complete trial yet on some target. "
        "Report: score of the winners, of whole searches alone, since what was the best before may not have been confirmed"
    )


def _times(row: AtCost) -> Cell:
    return number(row.cost, f"×{row.cost:.1f}")


def _score(row: AtCost) -> Cell:
    return number(row.score, _shown(row))


def _shown(row: AtCost) -> str:
    if row.score is None:
        return ""
    if row.difference is None or row.is_baseline:
        return f"{100 * row.score:.1f}"
    spread = "" if row.spread is None else f" ± {100 * row.spread:.1f}"
    return f"{100 * row.score:.1f} ({points(row.difference)}{spread})"


def _report(row: AtCost) -> Cell:
    return number(row.report, "" if row.report is None else f"{100 * row.report:.1f}")


def cost_rows(found: EqualCost) -> list[dict[str, object]]:
    """A row per account, method and budget, as MLflow's table and for the CSV; scores in score units."""
    return [
        {
            "sources_paid": row.account, "method": row.method, "budget": SHARE_NAMES.get(row.share, f"{row.share:g}"), "cost": row.cost,
            "targets": row.targets, "with_score": len(row.scores), "score": row.score, "difference": row.difference,
            "difference/std": row.spread, "low": row.interval and row.interval[0], "high": row.interval and row.interval[1],
            "report": row.report, "cross_fitted": found.is_cross_fitted, "unit_steps": found.unit,
        }
        for row in found.rows
    ]  # fmt: skip


def as_csv(found: EqualCost) -> str:
    """A line per account, method and budget."""
    import pandas as pd

    return pd.DataFrame(cost_rows(found)).map(guarded).to_csv(index=False, lineterminator="\n", float_format="%.6g")


def as_latex(found: EqualCost) -> str:
    """The page's table for the package booktabs, sources paid in full."""
    import pandas as pd

    own = found.of(IN_FULL)
    heads = ["method", "cost", *(SHARE_NAMES.get(row.share, f"{row.share:g}") for row in _first(found))]
    rows = [
        [latex_text(m), rf"$\times${budgets[-1].cost:.1f}", *(_latex(row) for row in budgets)]
        for m, budgets in own.items()
    ]
    written = pd.DataFrame(rows, columns=heads).style.hide(axis="index").to_latex(
        column_format="l" + "r" * (len(heads) - 1), position_float="centering", hrules=True,
        caption=_for_latex(latex_text(caption(found))),
    )  # fmt: skip
    return f"% needs \\usepackage{{booktabs}}\n{written}"


def _latex(row: AtCost) -> str:
    return _for_latex(_shown(row)) or "--"


def _for_latex(text: str) -> str:
    return text.replace("±", r"$\pm$").replace("−", "$-$").replace("×", r"$\times$")


COST_FILES: Mapping[str, Callable[[EqualCost], str]] = MappingProxyType(
    {"equal_cost.tex": as_latex, "equal_cost.csv": as_csv}
)
"""File that an analysis writes -> what writes it, where methods can be compared at equal cost."""

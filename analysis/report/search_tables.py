"""The page's tables of what was searched: the luck of the search."""

from analysis.findings.best import winners
from analysis.findings.repeats import OverSearches, of_study, of_targets
from analysis.records.evidence import Evidence
from analysis.records.studies import Estimate
from analysis.report.page import Cell, Table, number
from analysis.wording import points


def searches_table(evidence: Evidence) -> Table | None:
    """Score and gain of each target's winner, and of each study's, over searches with other seeds; None without any."""
    targets = of_targets(evidence.studies, winners)
    rows = [
        [Cell(evidence.place(*place)), Cell("the target's winner"), *_over(found)]
        for place, found in sorted(targets.items())
    ]
    studies = [(study, found) for study in evidence.studies if (found := of_study(study))]
    rows += [[Cell(evidence.place(s.target, s.plm)), Cell(s.name), *_over(found)] for s, found in studies]
    if not rows:
        return None
    caption = (
        "Report scores, and gains over prompt tuning of the same repeat, in percent: mean ± standard deviation over "
        "searches that differ in the seed of the search alone, each confirmed with a winner of its own. All other tables "
        "and figures are of the first search. The deviation is how much the search's luck moves them"
    )
    return Table("searches-table", caption, ["target", "of", "score", "gain", "searches", "winners"], rows)


def _over(found: OverSearches) -> list[Cell]:
    different = " / ".join(dict.fromkeys(found.winners))
    return [_estimate(found.score, False), _estimate(found.gain, True), number(found.n), Cell(different)]


def _estimate(known: Estimate | None, signed: bool) -> Cell:
    if known is None:
        return number(None)
    return number(known.mean, f"{points(known.mean, signed)} ± {100 * (known.std or 0.0):.1f}")

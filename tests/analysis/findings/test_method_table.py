"""Methods × targets for a paper: which study stands for a method, what is bold, what is marked, and the formats."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from analysis.findings.method_table import (
    RULE,
    as_csv,
    as_latex,
    latex_text,
    method_table,
    paper_table,
)
from analysis.records.contributions import Contributions
from analysis.records.evidence import Evidence
from analysis.records.studies import Estimate, StudyRecord
from tests.kits.worlds import World, evidence, record


def study(
    method: str, score: float, shift: int = 0, *, target: str = "cb", source: str | None = None, selection: float = 0.5,
    n: int = 3, rows: int = 100,
) -> StudyRecord:  # fmt: skip
    """A study whose first rows are right, those of its score; with `shift`, rows that far behind."""
    right = np.roll((np.arange(rows) < round(score * rows)).astype(float), shift)
    seeds = tuple(range(10, 10 + n))
    values = np.tile(right, (n, 1))
    by_seed = dict.fromkeys(seeds, score)
    return record(
        method, source, target, score=Estimate(score, 0.01, n, by_seed=by_seed), selection=selection, majority=0.4,
        gain=None if method == "prompt_tuning" else Estimate(score - 0.7, n=n), contributions=Contributions(seeds, values),
    )  # fmt: skip


BASE = study("prompt_tuning", 0.70)
FAR = study("panda", 0.80)
NEAR = study("spot", 0.78)
LOW = study("distill", 0.72)


def marks(*studies: StudyRecord) -> dict[str, str]:
    table = method_table(Evidence("x", studies))
    return {method: table.cells[method, "cb"].mark for method in table.methods}


def test_the_best_is_bold_and_what_paired_rows_cannot_tell_from_it_is_marked() -> None:
    """panda is right on two rows more than spot, on eight and ten more than the others, and never on fewer."""
    assert marks(BASE, FAR, NEAR, LOW) == {"prompt_tuning": "", "distill": "", "panda": "best", "spot": "tie"}
    assert marks(FAR, LOW) == {"distill": "", "panda": "best"}  # one pair of methods needs no correction


def test_on_other_rows_the_same_difference_is_doubtful() -> None:
    assert marks(study("prompt_tuning", 0.70, shift=40), FAR) == {"prompt_tuning": "tie", "panda": "best"}


def test_of_one_seed_or_without_rows_nothing_can_be_told_apart() -> None:
    assert marks(study("prompt_tuning", 0.3, n=1), study("panda", 0.9, n=1))["prompt_tuning"] == "tie"
    unknown = replace(FAR, winner=replace(FAR.confirmed, contributions=None))
    assert marks(study("prompt_tuning", 0.3), unknown)["prompt_tuning"] == "tie"


def test_a_cell_is_what_the_other_seeds_choose() -> None:
    def of(source: str, scores: tuple[float, float], selection: tuple[float, float]) -> StudyRecord:
        by_seed = dict(zip((10, 11), scores, strict=True))
        return record(
            "spot", source, "cb", score=Estimate(sum(scores) / 2, by_seed=by_seed), selection=sum(selection) / 2,
            chosen_by={10: selection[1], 11: selection[0]},
        )  # fmt: skip

    lucky, steady = of("a", (0.9, 0.2), (0.9, 0.1)), of("b", (0.3, 0.4), (0.4, 0.4))
    cell = method_table(Evidence("x", (lucky, steady))).cells["spot", "cb"]
    assert (cell.source, cell.mean) == ("a", pytest.approx((0.3 + 0.2) / 2))


def test_equal_scores_are_both_the_best() -> None:
    assert marks(BASE, study("distill", 0.70)) == {"prompt_tuning": "best", "distill": "best"}


def test_of_a_methods_sources_the_one_with_the_best_selection_score_stands_there_not_the_best_report() -> None:
    poor, lucky = (
        study("spot", 0.6, source="a", selection=0.9),
        study("spot", 0.99, source="b", selection=0.8),
    )
    cell = method_table(Evidence("x", (BASE, lucky, poor))).cells["spot", "cb"]
    assert (cell.mean, cell.source) == (0.6, "a")


def test_one_seed_has_no_deviation() -> None:
    assert method_table(Evidence("x", (study("prompt_tuning", 0.70, n=1),))).cells["prompt_tuning", "cb"].std is None


TABLE = method_table(Evidence("x", (BASE, FAR, NEAR, LOW, study("prompt_tuning", 0.6, target="my_task"))))


def test_csv_has_mean_deviation_and_mark_of_each_target_and_empty_fields_for_what_did_not_run() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(TABLE))))
    assert [row["method"] for row in rows] == ["best constant", "prompt_tuning", "distill", "panda", "spot"]
    assert rows.pop(0)["cb"] == f"{100 * TABLE.majority['cb']:.2f}"
    assert rows[2]["cb source"] == (TABLE.cells["panda", "cb"].source or "")
    assert (rows[2]["cb"], rows[2]["cb sd"], rows[2]["cb mark"]) == ("80.00", "1.00", "best")
    assert (rows[2]["my_task"], rows[2]["my_task sd"], rows[2]["my_task mark"]) == ("", "", "")
    assert rows[0]["my_task"] == "60.00"


def test_latex_is_bold_where_best_daggered_where_tied_and_escaped() -> None:
    text = as_latex(TABLE)
    assert text.startswith("% needs \\usepackage{booktabs}\n\\begin{table}\n\\centering\n\\caption{")
    assert "\\begin{tabular}{lrr}\n\\toprule\nmethod &" in text
    assert text.endswith("\\bottomrule\n\\end{tabular}\n\\end{table}\n")
    assert r"panda & \textbf{80.0}{\scriptsize$\pm$1.0} & -- \\" in text
    assert r"spot & 78.0{\scriptsize$\pm$1.0}$^\dagger$ & -- \\" in text
    assert r"method & cb & my\_task \\" in text
    assert text.count("{") == text.count("}")
    assert r"paired differences" in text


def test_latex_prints_names_as_they_are() -> None:
    assert (
        latex_text("a_b & 50%\\x{}^~#$") == r"a\_b \& 50\%\textbackslash{}x\{\}\textasciicircum{}\textasciitilde{}\#\$"
    )


def test_text_stands_in_columns_and_says_what_its_signs_mean() -> None:
    lines = paper_table(Evidence("x", (BASE, FAR, NEAR, LOW)), "table").splitlines()
    assert lines[1].split() == ["best", "constant", "40.0"]
    assert lines[4].split() == ["panda", "80.0", "±", "1.0", "*"]
    assert lines[5].split() == ["spot", "78.0", "±", "1.0", "="]
    assert lines[-1] == "* best, = not distinguishable from it"


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match=r"format must be one of table, csv, latex, got 'html'"):
        paper_table(evidence(World(trials=1)), "html")


def test_the_rule_is_said_where_the_table_is() -> None:
    assert "pairs of methods" in RULE
    assert "not significantly different" in as_latex(TABLE)

"""Tables for a terminal: they fit it, say what is needed to read them, and no more."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from analysis.external.scores import correlations
from analysis.findings.best import best
from analysis.findings.method_table import paper_table
from analysis.records.evidence import gather
from tests.kits.command import experiment_file
from tests.kits.small import new_store, rewritten, study_entry, told
from tuning.correlation_tables import correlation_table
from tuning.experiment.experiment import Experiment
from tuning.experiment.loading import load
from tuning.layout import WIDTH, Grid
from tuning.tables import best_table, kept_table, methods_text, retrieved_table, study_table
from tuning.tracking.updates import RunUpdate

Shown = Callable[..., tuple[str, str]]
SIGNS = {
    "* gain significant": "*", "no signal: ": "no signal", "! a source": "!", "≈ texts shared": "≈", "● the best PLM": "●",
}  # fmt: skip
"""Note -> its sign in the table."""


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    """The tables of studies: shown(*studies, plms=1) gives the best and all."""

    def tables(
        *studies: RunUpdate, plms: int = 1, target: str | None = None, width: int | None = None
    ) -> tuple[str, str]:
        experiment = recorded(tmp_path, studies, plms)
        return best_table(experiment, target, width), study_table(experiment, width)

    return tables


def recorded(folder: Path, studies: Sequence[RunUpdate], plms: int = 1) -> Experiment:
    file = experiment_file(folder, folder / "plm", tracking={"uri": new_store(folder / "store")})
    rewritten(file, plm=[{"from": f"plm{number}"} for number in range(plms)])
    experiment = load(file)
    told(experiment.tracking_uri, experiment.name, folder / "searches", studies)
    return experiment


def body(table: str) -> list[list[str]]:
    """The cells of a table's lines, head first; cells are divided by two spaces or more."""
    lines = [line for line in table.splitlines()[1:] if line.startswith("  ")]
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]


def notes(table: str) -> set[str]:
    return {sign for note, sign in SIGNS.items() if f"\n{note}" in table}


BASELINE = study_entry("t", "prompt_tuning", 0.6, metrics={"score/report": 0.92, "score/report/std": 0.035})
SPOT = study_entry("t", "spot", 0.7, metrics={"score/report": 0.975, "gain/p": 0.2, "gain": 0.055})


def test_the_best_has_a_line_per_target_with_all_its_numbers(shown: Shown) -> None:
    head, line = body(shown(BASELINE, SPOT)[0])
    assert head == [
        "target", "method", "source", "metric", "score", "constant", "gain", "interval", "twin", "selection", "steps",
        "seconds",
    ]  # fmt: skip
    assert line == [
        "t",
        "spot",
        "s",
        "accuracy",
        "97.5 ± 0.0",
        "40.0",
        "+5.5 ± 0.0",
        "+5.0 to +20.0",
        "–",
        "70.0",
        "8",
        "1",
    ]


def test_the_baseline_has_no_gain_and_no_source(shown: Shown) -> None:
    line = body(shown(BASELINE)[0])[1]
    assert line == ["t", "prompt_tuning", "–", "accuracy", "92.0 ± 3.5", "40.0", "–", "–", "–", "60.0", "8", "1"]


def test_every_study_has_a_line_below_the_best_constant_answer_of_its_target(shown: Shown) -> None:
    other = study_entry("u", "prompt_tuning", 0.5, metrics={"majority": 0.25})
    lines = body(shown(BASELINE, SPOT, other)[1])[1:]
    assert [line[:3] for line in lines] == [
        ["t", "best constant", "–"],
        ["t", "prompt_tuning", "–"],
        ["t", "spot", "s"],
        ["u", "best constant", "–"],
        ["u", "prompt_tuning", "–"],
    ]
    assert [line[3:] for line in lines if line[1] == "best constant"] == [["accuracy", "40.0"], ["accuracy", "25.0"]]
    assert "best constant" not in shown(BASELINE, SPOT, other)[0]


def test_steps_of_teachers_stand_behind_those_of_the_student(shown: Shown) -> None:
    panda = study_entry("t", "panda", 0.8, metrics={"teacher_steps": 4.0, "twin": 0.61})
    line = body(shown(BASELINE, panda)[0])[1]
    assert line[-4:] == ["61.0", "80.0", "8 + 4", "1"]


def test_signs_and_what_they_mean_stand_only_where_they_are_needed(shown: Shown) -> None:
    best, studies = shown(BASELINE, SPOT)
    assert notes(best) == notes(studies) == set()
    for sign in SIGNS.values():
        assert sign not in best
        assert sign not in studies


SIGNED: dict[str, tuple[dict[str, Any], str]] = {
    "*": ({"metrics": {"gain/p": 0.01}}, "gain"),
    "no signal": ({"signal": "false"}, "constant"),
    "!": ({"source_at_majority": "true"}, "source"),
    "≈": ({"overlap": "7"}, "source"),
}


@pytest.mark.parametrize("sign", SIGNED)
def test_each_sign_stands_at_what_it_says_something_of(shown: Shown, sign: str) -> None:
    changes, column = SIGNED[sign]
    table = shown(BASELINE, study_entry("t", "spot", 0.7, **changes))[0]
    head, line = body(table)
    assert notes(table) == {sign}
    assert dict(zip(head, line, strict=True))[column].endswith(f" {sign}")


def test_significance_is_told_of_the_best_after_correction_alone(shown: Shown) -> None:
    """Five targets with p = 0.02 each are 0.1 each; and a table of studies makes no test."""
    several = [study_entry(name, "spot", 0.7, metrics={"gain/p": 0.02}) for name in "abcde"]
    best, studies = shown(*several)
    assert "*" not in best
    assert "*" not in studies
    alone, studies = shown(several[0])
    assert "*" in alone
    assert "*" not in studies


def test_scores_and_gains_over_searches_are_shown_where_there_are_several(shown: Shown) -> None:
    """The other columns stay those of the first search, whatever a later one found."""
    again = [
        study_entry("t", "prompt_tuning", 0.65, metrics={"score/report": 0.90}, repeat="1"),
        study_entry("t", "spot", 0.99, metrics={"score/report": 0.935, "gain": 0.035}, repeat="1"),
    ]
    once, both = shown(BASELINE, SPOT), shown(BASELINE, SPOT, *again)
    assert not any("over searches" in table for table in once)
    (head, row), (all_head, *rows) = body(both[0]), body(both[1])
    assert head[-2:] == all_head[-2:] == ["score over searches", "gain over searches"]
    assert row[-2:] == ["95.5 ± 2.8 (2)", "+4.5 ± 1.4 (2)"]
    assert row[:-2] == body(once[0])[1]
    assert [cells[-2:] for cells in rows[1:]] == [["91.0 ± 1.4 (2)", "–"], ["95.5 ± 2.8 (2)", "+4.5 ± 1.4 (2)"]]
    assert all("\nover searches: mean ± deviation" in table for table in both)


def test_one_target_is_shown_with_the_correction_over_all(shown: Shown) -> None:
    several = [
        study_entry(name, "spot", 0.7, metrics={"gain/p": p}) for name, p in (("a", 0.02), ("b", 0.9), ("c", 0.9))
    ]
    table = shown(*several, target="a")[0]
    assert [line[0] for line in body(table)[1:]] == ["a"]
    assert "*" not in table  # 3 × 0.02


def test_the_plm_is_told_where_there_are_several_and_the_best_is_marked(shown: Shown) -> None:
    single = shown(BASELINE, SPOT)
    assert all("PLM" not in body(table)[0] for table in single)
    other = study_entry("t", "spot", 0.9, plm="roberta")
    best, studies = shown(BASELINE, SPOT, other, plms=2)
    head, *lines = [line[:3] for line in body(best)]
    assert head == ["target", "PLM", "method"]
    assert sorted(lines) == [["t", "bert", "spot"], ["t", "roberta ●", "spot"]]
    assert notes(best) == {"●"}
    assert [line[:3] for line in body(studies)[1:]] == [
        ["t", "bert", "best constant"],
        ["t", "bert", "prompt_tuning"],
        ["t", "bert", "spot"],
        ["t", "roberta", "best constant"],
        ["t", "roberta", "spot"],
    ]
    assert "●" not in studies


def test_of_several_plms_of_which_one_has_winners_none_is_marked(shown: Shown) -> None:
    best = shown(BASELINE, SPOT, plms=2)[0]
    assert ("●" in body(best)[1][1]) == bool(notes(best))


def test_plms_of_a_target_stand_in_one_order_whatever_wins(shown: Shown) -> None:
    """A reader goes down a column and compares."""
    both = [study_entry(t, m, 0.7, plm=p) for t, p, m in (
        ("a", "bert", "spot"), ("a", "roberta", "prompt_tuning"), ("b", "bert", "prompt_tuning"), ("b", "roberta", "spot"),
    )]  # fmt: skip
    names = [(line[0], line[1].removesuffix(" ●")) for line in body(shown(*both, plms=2)[0])[1:]]
    assert names == [("a", "bert"), ("a", "roberta"), ("b", "bert"), ("b", "roberta")]


def test_constructed_tasks_and_the_papers_protocol_are_told(shown: Shown) -> None:
    best = shown(study_entry("t", "spot", 0.7, constructed="true", protocol="paper"))[0]
    assert "\nconstructed demonstration tasks: these numbers say nothing about real ones" in best
    assert "\nprotocol: paper, so the search looked at validation rows" in best


LONG = {
    "short names": ("t", ("bert", "roberta")),
    "hub ids": ("tweet_sentiment", ("google/bert_uncased_L-4_H-512_A-8 · 3 layers", "distilbert/distilroberta-base")),
    "read in two ways": (
        "tweet_sentiment",
        ("FacebookAI/roberta-large · 12 layers · cls, after_prompt", "FacebookAI/roberta-large · 12 layers · mean, from_zero"),
    ),
    "folders": (
        "customer_requests_2025",
        ("srv/models/of-our-group/english/base-uncased-v2", "srv/models/of-our-group/english/large-cased-v1"),
    ),
    "deep folders": (
        "customer_requests_2025",
        tuple(f"srv/{'models-of-our-group/' * 6}base-{case}" for case in ("cased", "uncased")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("names", LONG)
def test_a_table_fits_its_width_and_cuts_no_number(shown: Shown, names: str) -> None:
    target, plms = LONG[names]
    every = {"signal": "false", "source_at_majority": "true", "overlap": "7", "source": "customer_complaints_2019"}
    numbers = {
        "score/report": 0.87531, "score/report/std": 0.10614, "gain": -0.1234, "gain/std": 0.0987, "gain/low": -0.2512,
        "gain/high": -0.1011, "gain/p": 0.001, "teacher_steps": 200.0, "steps": 400.0, "twin": 0.8812, "seconds": 1234.0,
    }  # fmt: skip
    studies = [
        study_entry(target, method, 0.7, plm=plm, metrics=numbers, **every)
        for plm in plms
        for method in ("prompt_tuning_longer", "panda")
    ]
    for table in shown(*studies, plms=2):
        assert max(len(line) for line in table.splitlines()) <= WIDTH
        for number in ("87.5 ± 10.6", "40.0 no signal", "-12.3 ± 9.9", "-25.1 to -10.1", "88.1", "400 + 200", "1234"):
            assert number in table
        assert "customer_complaints_2019 ! ≈" in table or names == "deep folders"


def test_no_line_ends_in_spaces(shown: Shown) -> None:
    for table in shown(BASELINE, SPOT):
        assert [line for line in table.splitlines() if line != line.rstrip()] == []


def test_a_table_says_what_the_json_says(tmp_path: Path) -> None:
    experiment = recorded(tmp_path, [BASELINE, SPOT])
    (row,) = best(experiment.tracking_uri, experiment.name)
    line = body(best_table(experiment))[1]
    assert line[4] == f"{100 * row['score']['mean']:.1f} ± {100 * row['score']['std']:.1f}"
    assert line[6] == f"{100 * row['gain']['mean']:+.1f} ± {100 * row['gain']['std']:.1f}"
    assert line[:4] == [row["target"], row["method"], row["source"], row["metric"]]
    assert row["verdict"] in best_table(experiment) or row["verdict"].startswith("better")


def test_retrieved_sources_stand_in_their_order_with_similarity_and_own_score() -> None:
    row = {"target": "t", "plm": "m", "by": "c_mean", "own_majority": 0.5}
    rows = [
        {**row, "rank": 1, "source": "s1", "own_score": 0.9, "similarity": {"mean": 0.75, "std": 0.05, "n": 2}},
        {**row, "rank": 2, "source": "s2", "own_score": 0.5, "similarity": {"mean": -0.5, "std": 0.0, "n": 2}},
    ]
    lines = retrieved_table(rows).splitlines()
    assert lines[0] == "Sources of t by c_mean"
    cells = [line.split() for line in lines if line.split()[:1] in (["s1"], ["s2"])]
    assert cells == [
        ["s1", "1", "0.750", "±", "0.050", "90.0", "50.0"],
        ["s2", "!", "2", "-0.500", "±", "0.000", "50.0", "50.0"],
    ]


def test_what_the_best_of_top_k_kept_is_told_in_percent_and_points() -> None:
    row = {"method": "spot", "similarity": "c_mean", "targets": 1, "unranked": 0, "hindsight": 0.05}
    rows = [
        {**row, "k": 1, "left_out": 0.5, "gain": 0.03, "kept": 0.75, "random": 0.01},
        {**row, "k": 2, "left_out": 0.0, "gain": -0.04, "kept": None, "random": -0.04},
    ]
    cells = [line.split() for line in kept_table(rows).splitlines() if line.split()[:1] == ["spot"]]
    assert cells == [
        ["spot", "1", "50", "%", "+3.0", "75", "%", "+1.0", "+5.0"],
        ["spot", "2", "0", "%", "-4.0", "–", "-4.0", "+5.0"],
    ]


def test_the_partners_of_a_winner_stand_beside_its_source(shown: Shown) -> None:
    alone, together = study_entry("t", "spot", 0.7), study_entry("t", "spot", 0.7, partners="s2,s3")
    assert body(shown(alone)[0])[1][2] == "s"
    best, studies = shown(together)
    assert body(best)[1][2] == body(studies)[2][2] == "s + s2 + s3"
    assert "\nsource + partners: the winner uses them together" in best


VERDICTS: dict[str, tuple[RunUpdate, str]] = {
    "itself": (BASELINE, "no better than prompt tuning (which itself has the best selection score): t"),
    "worse": (
        study_entry("t", "spot", 0.7, metrics={"gain": -0.02, "gain/low": -0.1, "gain/high": 0.1}),
        "no better than prompt tuning (a gain of 0 or less): t",
    ),
    "unclear": (
        study_entry("t", "spot", 0.7, metrics={"gain/low": -0.01}),
        "not clearly better than prompt tuning (the 95 % interval of the gain holds 0): t",
    ),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_a_winner_that_is_no_better_than_prompt_tuning_is_called_so(shown: Shown, name: str) -> None:
    winner, line = VERDICTS[name]
    assert line in shown(winner)[0].splitlines()


def test_a_winner_that_is_better_needs_no_words(shown: Shown) -> None:
    assert "better than prompt tuning" not in shown(BASELINE, SPOT)[0]


def test_studies_that_are_no_better_are_counted_without_prompt_tuning_itself(shown: Shown) -> None:
    worse = study_entry("t", "panda", 0.65, metrics={"gain": 0.0, "gain/low": -0.1, "gain/high": 0.1})
    studies = shown(BASELINE, SPOT, worse)[1].splitlines()
    assert "no better than prompt tuning (a gain of 0 or less): 1 of 2 studies" in studies


@pytest.mark.parametrize("width", [200, 139, 80, 60, 40])
def test_a_terminal_that_is_too_narrow_gets_a_block_of_lines_for_each_row(shown: Shown, width: int) -> None:
    wide = shown(BASELINE, SPOT)
    for table, whole in zip(shown(BASELINE, SPOT, width=width), wide, strict=True):
        assert max(map(len, table.splitlines())) <= width
        is_folded = "constant 40.0" in table
        assert is_folded == (max(map(len, whole.split("\n\nscore")[0].splitlines())) > width)
        for value in ("97.5 ± 0.0", "+5.5 ± 0.0", "+5.0 to +20.0", "70.0"):
            assert value in table


def test_a_folded_row_names_every_value_that_is_known() -> None:
    grid = Grid(
        "Title", ("a", "b", "c", "d"), (["x", "y", "1 ± 2", "–"], ["z", "–", "3", "4"]), 2, ("a note of words",)
    )
    assert grid.text(14).splitlines() == [
        "Title", "", "x", "  b y", "  c 1 ± 2", "", "z", "  c 3   d 4", "", "a note of", "    words",
    ]  # fmt: skip
    assert grid.text(60) == grid.text(None)


def test_the_methods_of_an_analysis_are_folded_where_the_terminal_is_narrow(tmp_path: Path) -> None:
    experiment = recorded(
        tmp_path, [study_entry(f"target_{n}", m, 0.7) for n in range(9) for m in ("prompt_tuning", "spot")]
    )
    evidence = gather(experiment.tracking_uri, experiment.name)
    assert methods_text(evidence) == methods_text(evidence, 500) == paper_table(evidence, "table")
    folded = methods_text(evidence, 80).splitlines()
    assert max(map(len, folded)) <= 80
    assert [line for line in folded if line and not line.startswith(" ")] == [
        "best constant", "prompt_tuning", "spot", "* best, = not distinguishable from it",
    ]  # fmt: skip
    assert sum("target_8 50.0" in line for line in folded) == 2


def test_correlations_are_folded_where_the_terminal_is_narrow(tmp_path: Path) -> None:
    scores, similarities = tmp_path / "scores.csv", tmp_path / "similarities.csv"
    scores.write_text("source,target,score\n" + "".join(f"s{i},t,{i}\n" for i in range(4)))
    similarities.write_text("source,target,metric,similarity\n" + "".join(f"s{i},t,on,0.{i}\n" for i in range(4)))
    found = correlations(scores, similarities, "none", False, 0, None)
    folded = correlation_table(found, "none", width=80)
    assert max(map(len, folded.splitlines())) <= 80
    assert "\non\n  mean ρ +1.00" in folded
    assert "pooled ρ +1.00" in folded

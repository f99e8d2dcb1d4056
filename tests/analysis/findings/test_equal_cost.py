"""Methods at equal cost, by hand: what was spent, by whom, and what had been found for it."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from analysis.figures.drawing import Drawing, NotDrawn
from analysis.figures.equal_cost import CURVE, _lines, equal_cost_figure
from analysis.findings.costs import IN_FULL, SHARED, Spending, spendings, unrecorded
from analysis.findings.equal_cost import WHOLE, AtCost, best_score, cross_fitted, equal_cost
from analysis.records.evidence import Evidence
from analysis.records.studies import TrialRecord
from analysis.report.cost_table import as_csv, as_latex, cost_sentence, cost_table
from tests.kits.worlds import World, evidence, record

EMBEDDING = {"embedding t": 5}


def trial(
    method: str, source: str | None, number: int, *scores: float, target: str = "t", spent: float = 10.0,
    runs: Mapping[str, int] | None = None, state: str = "complete",
) -> TrialRecord:  # fmt: skip
    """A trial with these scores by seed, and without any where it has none."""
    mean = sum(scores) / len(scores) if scores else None
    return TrialRecord(
        target, source, method, "bert", f"{method} {source} {target} bert", number, {}, mean, 5, 1.0, state,
        by_seed=dict(enumerate(scores)), spent=spent, runs={} if runs is None else runs,
    )  # fmt: skip


def made(*trials: TrialRecord) -> Evidence:
    """Evidence of these trials, whose studies are all confirmed: with report scores of 0.5, and of spot 0.6."""
    names = dict.fromkeys((t.method, t.source, t.target) for t in trials)
    studies = [
        replace(
            record(method, source, target, score=0.6 if source else 0.5, gain=0.1 if source else None),
            runs={f"embedding {target}": 5} if source else {},
        )
        for method, source, target in names
    ]
    return Evidence("x", tuple(studies), (), trials)


BASE = [trial("prompt_tuning", None, n, s, s) for n, s in enumerate((0.5, 0.6, 0.4, 0.7))]
A, B = {"source a": 20}, {"source b": 20}
SPOT = [
    trial("spot", "a", 0, 0.8, 0.8, runs=A), trial("spot", "a", 1, 0.9, 0.9, runs=A | B),
    trial("spot", "b", 0, 0.7, 0.7, runs=B), trial("spot", "b", 1, runs=B, state="failed", spent=4.0),
]  # fmt: skip
ELSEWHERE = [
    trial("prompt_tuning", None, 0, 0.5, 0.5, target="u"), trial("spot", "a", 0, 0.4, 0.4, target="u", runs=A),
]  # fmt: skip


def spent_on(place: str, method: str, account: str, *trials: TrialRecord) -> Spending:
    return next(one for one in spendings(made(*trials), account) if (one.place, one.method) == (place, method))


def test_trials_of_all_sources_are_spent_in_turn_and_a_run_is_paid_once() -> None:
    spot = spent_on("t", "spot", IN_FULL, *BASE, *SPOT)
    assert [(t.source, t.number) for t in spot.trials] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert spot.spent == (10 + 20 + 5, 10 + 20 + 35, 10 + 65, 4 + 75)
    assert spent_on("t", "prompt_tuning", IN_FULL, *BASE, *SPOT).spent == (10, 20, 30, 40)


def test_what_serves_two_targets_is_divided_where_it_is_shared() -> None:
    everything = (*BASE, *SPOT, *ELSEWHERE)
    assert spent_on("t", "spot", SHARED, *everything).spent == (10 + 10 + 5, 10 + 20 + 25, 65, 69)
    assert spent_on("u", "spot", SHARED, *everything).spent == (10 + 10 + 5,)
    assert spent_on("u", "spot", IN_FULL, *everything).spent == (10 + 20 + 5,)


def test_who_needs_a_run_for_longer_pays_the_rest_alone() -> None:
    longer = [
        trial("spot", "a", 0, 0.5, 0.5, runs={"embedding t": 5}),
        trial("spot", "a", 1, 0.5, 0.5, runs={"embedding t": 12}),
    ]
    assert spent_on("t", "spot", IN_FULL, *BASE, *longer).spent == (15, 32)


def test_running_trials_and_targets_without_signal_are_not_counted() -> None:
    running = trial("spot", "a", 0, 0.9, 0.9, spent=99.0, state="running")
    assert {one.method for one in spendings(made(*BASE, running), IN_FULL)} == {"prompt_tuning"}
    known = made(*BASE, *SPOT)
    silent = replace(known, studies=tuple(replace(study, signal=False) for study in known.studies))
    assert "no target that carries a signal" in equal_cost(silent).note


def test_spending_that_falls_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must rise with the 2 trials, got \[3.0, 2.0\]"):
        Spending("spot", "t", tuple(SPOT[:2]), (3.0, 2.0))


def test_scores_at_each_budget_by_hand() -> None:
    """Prompt tuning's whole search is 40 steps; the first trial of spot ends after 35, the others after 65 and more."""
    found = equal_cost(made(*BASE, *SPOT))
    rows = {(row.method, row.share): row for row in found.rows if row.account == IN_FULL}
    assert (found.unit, found.baseline, found.is_cross_fitted) == (40, "prompt_tuning", True)
    shares = (0.125, 0.25, 0.5, 1.0, WHOLE)
    assert [rows["prompt_tuning", share].score for share in shares] == [None, 0.5, 0.6, 0.7, 0.7]
    assert [rows["spot", share].score for share in shares] == [None, None, None, 0.8, 0.9]
    assert rows["spot", 1.0].difference == pytest.approx(0.1)
    assert rows["spot", WHOLE].cost == pytest.approx(79 / 40)
    assert [rows["spot", share].report for share in (1.0, WHOLE)] == [None, 0.6]
    assert rows["spot", 1.0].interval is None


def test_a_mean_over_targets_needs_a_score_on_each() -> None:
    """Spot has none on u within the steps of prompt tuning: a mean of t alone would be that of other targets."""
    rows = {(row.method, row.share): row for row in equal_cost(made(*BASE, *SPOT, *ELSEWHERE)).rows if row.account == IN_FULL}  # fmt: skip
    assert rows["spot", 1.0].scores == {"t": pytest.approx(0.8)}
    assert (rows["spot", 1.0].targets, rows["spot", 1.0].score, rows["spot", 1.0].difference) == (2, None, None)
    assert rows["spot", WHOLE].score == pytest.approx((0.9 + 0.4) / 2)
    assert rows["spot", WHOLE].difference == pytest.approx((0.2 - 0.1) / 2)
    assert rows["spot", WHOLE].spread == pytest.approx(np.std([0.2, -0.1], ddof=1))


def test_the_interval_over_three_targets_by_hand() -> None:
    """t with two degrees of freedom: 4.3027 standard errors."""
    row = AtCost(IN_FULL, "spot", 1.0, 1.0, {}, {"a": 0.0, "b": 0.03, "c": 0.06}, {}, 3)
    half = 4.302653 * 0.03 / np.sqrt(3)
    assert row.interval == pytest.approx((0.03 - half, 0.03 + half))


def test_seeds_that_did_not_choose_score_what_is_found() -> None:
    """Seed 1 chooses the second trial, which seed 0 scores with 0.4; seed 0 the first, which seed 1 scores with 0.5."""
    pair = [trial("spot", "a", 0, 0.6, 0.5), trial("spot", "a", 1, 0.4, 0.9)]
    assert cross_fitted(pair) == pytest.approx(0.45)
    assert best_score(pair) == pytest.approx(0.65)
    assert cross_fitted([]) is best_score([]) is None


def test_more_trials_that_are_all_alike_look_no_better_when_cross_fitted() -> None:
    generator = np.random.default_rng(0)
    drawn = [[trial("spot", "a", n, *generator.normal(0.5, 0.1, 3)) for n in range(24)] for _ in range(300)]
    plain, fitted = (np.mean([of(trials) for trials in drawn]) for of in (best_score, cross_fitted))
    assert plain > 0.6
    assert fitted == pytest.approx(0.5, abs=4 * 0.1 / np.sqrt(3 * 300))


@pytest.mark.parametrize(
    "changed", [replace(SPOT[0], by_seed={}), replace(SPOT[0], by_seed={0: 0.8}), replace(SPOT[0], by_seed={0: 0.8, 2: 0.8})]
)  # fmt: skip
def test_without_the_same_seeds_everywhere_all_scores_are_those_of_the_seeds_that_chose(changed: TrialRecord) -> None:
    found = equal_cost(made(*BASE, changed, *SPOT[1:]))
    assert not found.is_cross_fitted
    table = cost_table(found)
    assert table is not None
    assert "of the seeds that chose it, so that it is too good" in table.caption


@pytest.mark.parametrize("lost", ["spent", "runs", "study"])
def test_trials_of_an_earlier_version_are_not_compared_and_the_remedy_is_told(lost: str) -> None:
    known = made(*BASE, *SPOT)
    if lost == "study":
        known = replace(known, studies=tuple(replace(study, runs=None) for study in known.studies))
    else:
        known = replace(known, trials=(replace(known.trials[0], **{lost: None}), *known.trials[1:]))
    assert unrecorded(known) == (1 if lost != "study" else len(known.trials))
    found = equal_cost(known)
    assert found.rows == ()
    assert "run panda-tune search on the file again" in cost_sentence(found)
    assert cost_table(found) is None
    assert isinstance(equal_cost_figure(found), NotDrawn)


def test_the_sentence_names_every_method_and_what_it_does_not_know() -> None:
    told = cost_sentence(equal_cost(made(*BASE, *SPOT, *ELSEWHERE)))
    assert "spot not known (it had a score on 1 of 2 targets)" in told
    told = cost_sentence(equal_cost(made(*BASE, *SPOT)))
    assert "whole search (40 of all seeds, mean over targets)" in told
    assert "spot +10.0 points (1 target)" in told
    assert "Whole searches cost more or less than that: spot ×2.0" in told
    assert "no method beside prompt_tuning" in cost_sentence(equal_cost(made(*BASE)))


def test_tables_for_papers_say_what_the_page_says() -> None:
    found = equal_cost(made(*BASE, *SPOT))
    lines = as_csv(found).splitlines()
    assert lines[0].startswith("sources_paid,method,budget,cost,targets,with_score,score,difference")
    assert len(lines) == 1 + 2 * 2 * 5  # accounts, methods, budgets
    assert "in full,spot,1,1,1,1,0.8,0.1," in as_csv(found)
    latex = as_latex(found)
    assert r"80.0 (+10.0)" in latex
    assert r"prompt\_tuning" in latex
    table = cost_table(found)
    assert table is not None
    assert [len(row) for row in table.rows] == [len(table.heads)] * 4


def test_a_made_up_experiment_is_compared_and_drawn() -> None:
    known = evidence(World(trials=8, targets=("cb", "cr", "rte")))
    found = equal_cost(known)
    assert {row.method for row in found.rows} == {"prompt_tuning", "spot", "panda"}
    assert all(row.cost <= row.share + 1e-9 for row in found.rows)
    full, shared = (
        {row.method: row.cost for row in found.rows if row.account == a and row.share == WHOLE}
        for a in (IN_FULL, SHARED)
    )
    assert full["spot"] > shared["spot"] > 1
    assert full["prompt_tuning"] == shared["prompt_tuning"] == 1
    drawn = equal_cost_figure(equal_cost(known, CURVE))
    assert isinstance(drawn, Drawing)
    assert "prompt_tuning" not in drawn.alt
    assert isinstance(equal_cost_figure(equal_cost(made(*BASE), CURVE)), NotDrawn)


def test_the_figure_is_over_the_whole_search_of_prompt_tuning_by_hand() -> None:
    """0.7 is what that found: spot had 0.1 more for 35 of its 40 steps, and 0.2 more in the end."""
    assert _lines(equal_cost(made(*BASE, *SPOT), CURVE)) == {
        "prompt_tuning": [pytest.approx((c, s)) for c, s in ((0.25, -0.2), (0.5, -0.1), (1.0, 0.0))],
        "spot": [pytest.approx((1.0, 0.1)), pytest.approx((79 / 40, 0.2))],
    }

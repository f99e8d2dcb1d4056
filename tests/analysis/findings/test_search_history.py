"""What the search says, worked by hand: importances, slices, progress, contrasts."""

import math

import numpy as np
import pytest

from analysis.findings.contrasts import contrast, contrasts, interval
from analysis.findings.importance import LEAST, centred, importance, importances
from analysis.findings.search_history import progress, slices
from analysis.records.studies import TrialRecord


def trial(
    number: int, score: float | None, *, study: str = "s", state: str = "complete", step: int = 10, seconds: float = 5.0, method: str = "panda",
    **knobs: float | str,
) -> TrialRecord:  # fmt: skip
    return TrialRecord("t", "a", method, "bert", study, number, {**knobs}, score, step, seconds, state)


def many(count: int, studies: int = 4, seed: int = 0) -> list[TrialRecord]:
    """Trials whose score hangs on the learning rate alone, in studies of quite different levels."""
    generator = np.random.default_rng(seed)
    found = []
    for i in range(count):
        rate = float(10 ** generator.uniform(-3, -1))
        score = 0.2 * (i % studies) - 0.1 * (math.log10(rate) + 2) ** 2
        found.append(
            trial(
                i // studies, score, study=f"s{i % studies}", learning_rate=rate, partners=float(generator.integers(3))
            )
        )
    return found


def test_scores_are_centred_within_their_study_and_complete_ones_alone_count() -> None:
    found = centred(
        [
            trial(0, 0.5),
            trial(1, 0.7),
            trial(2, 0.1, state="stopped early"),
            trial(3, None, state="failed"),
            trial(0, 0.9, study="alone"),
        ]
    )
    assert [(t.number, s) for t, s in found] == [(0, pytest.approx(-0.1)), (1, pytest.approx(0.1))]


def test_the_knob_that_decides_is_found_and_the_idle_one_gets_no_more_than_chance() -> None:
    found = importance("panda", many(40))
    assert next(iter(found.shares)) == "learning_rate"
    assert found.shares["learning_rate"] > 0.7
    assert found.chance < 0.2
    assert found.shares["partners"] < found.chance + 0.05
    assert (found.trials, found.studies, found.note) == (40, 4, "")
    assert sum(found.shares.values()) + found.chance == pytest.approx(1)


def test_importances_depend_on_the_seed_and_on_nothing_else() -> None:
    trials = many(24)
    first = importance("panda", trials)
    np.random.seed(1)
    assert importance("panda", trials) == first
    assert importance("panda", trials, seed=7).shares != first.shares


def test_too_few_complete_trials_have_no_importance_and_say_so() -> None:
    few = many(LEAST - 1, studies=1)
    assert (
        importance("panda", few).note
        == f"{LEAST - 1} complete trials that can be compared: at least {LEAST} are needed"
    )
    assert importance("panda", few).shares == {}


def test_a_knob_that_is_constant_or_conditional_is_named_and_left_out() -> None:
    rates = [10.0**-i for i in range(LEAST)]
    trials = [trial(i, r, learning_rate=r, kd=1.0, **({"fusion": "late"} if i else {})) for i, r in enumerate(rates)]
    found = importance("panda", trials)
    assert set(found.shares) == {"learning_rate"}
    assert found.constant == ("kd", "fusion")
    alike = [trial(i, 0.1 * i, learning_rate=0.01) for i in range(LEAST)]
    assert importance("panda", alike).note == "no hyperparameter was varied in every trial"
    same = [trial(i, 0.5, learning_rate=r) for i, r in enumerate(rates)]
    assert importance("panda", same).note == "all scores of a study are the same"


def test_methods_without_hyperparameters_have_no_importance() -> None:
    assert [
        one.method for one in importances([trial(0, 0.5, method="zero_shot"), trial(0, 0.5, learning_rate=0.1)])
    ] == ["panda"]


def test_a_slice_has_means_of_equal_values_by_hand() -> None:
    scores = [0.50, 0.52, 0.54, 0.60, 0.62, 0.64, 0.50, 0.52, 0.54, 0.60, 0.62, 0.64]
    steps = [6.0, 6.0, 6.0, 15.0, 15.0, 15.0] * 2
    (found,) = slices([trial(i, s, teacher_steps=t) for i, (s, t) in enumerate(zip(scores, steps, strict=True))])
    assert (found.knob, found.method, found.studies, found.is_log) == ("teacher_steps", "panda", 1, False)
    assert [(b.middle, b.n) for b in found.bins] == [(6.0, 6), (15.0, 6)]
    assert [b.mean for b in found.bins] == pytest.approx([-0.05, 0.05])
    assert all(b.interval and b.interval[0] <= b.mean <= b.interval[1] for b in found.bins)


def test_a_wide_slice_is_on_a_log_scale_in_four_groups_of_neighbours() -> None:
    (found,) = (one for one in slices(many(40)) if one.knob == "learning_rate")
    assert found.is_log
    assert [b.n for b in found.bins] == [10, 10, 10, 10]
    assert [b.middle for b in found.bins] == sorted(b.middle for b in found.bins)
    assert max(found.bins, key=lambda b: b.mean) in found.bins[1:3]


def test_few_trials_make_no_slice() -> None:
    assert slices(many(LEAST - 1, studies=1)) == []


def test_progress_counts_the_cost_of_all_trials_and_the_scores_of_complete_ones() -> None:
    searched = [
        trial(0, 0.5, step=10, seconds=4.0),
        trial(1, 0.9, step=3, seconds=1.0, state="stopped early"),
        trial(2, None, step=0, seconds=None, state="failed"),  # type: ignore[arg-type]
        trial(3, 0.6, step=10, seconds=5.0),
        trial(4, 0.55, step=10, seconds=4.0),
    ]
    (found,) = progress(searched, "steps")
    assert (found.spent[0], found.spent[-1]) == (10, 33)
    assert {round(a, 6) for a in found.above} == {0.0, 0.1}  # 0.9 was not complete
    reached = next(spent for spent, above in zip(found.spent, found.above, strict=True) if above > 0.05)
    assert 23 <= reached < 23.5
    assert found.band is None
    assert progress(searched, "seconds")[0].spent[-1] == 14


def test_a_study_without_a_complete_first_trial_is_left_out_of_progress_and_counted() -> None:
    broken = [trial(0, None, study="b", state="failed"), trial(1, 0.5, study="b")]
    whole = [trial(0, 0.4, study="c"), trial(1, 0.5, study="c")]
    (found,) = progress([*broken, *whole], "steps")
    assert (found.studies, found.left_out, found.above[-1]) == (1, 1, pytest.approx(0.1))
    assert progress(broken, "steps") == []


def pair(study: str, none: float, some: float) -> list[TrialRecord]:
    """A study whose first trial tells nothing, one trial without partners and one with."""
    return [
        trial(0, 0.99, study=study, partners=0.0), trial(1, none, study=study, partners=0.0), trial(2, some, study=study, partners=2.0),
    ]  # fmt: skip


def test_a_contrast_is_the_mean_of_the_differences_within_studies() -> None:
    trials = [*pair("x", 0.5, 0.6), *pair("y", 0.2, 0.1), *pair("z", 0.7, 1.0)]
    found = contrast("partners − none", "panda", trials)
    assert found.difference == pytest.approx((0.1 - 0.1 + 0.3) / 3)
    assert (found.studies, found.trials, found.how) == (3, 6, "paired within studies")
    assert found.interval
    assert found.interval[0] < found.difference < found.interval[1]


def test_with_few_studies_of_both_ways_all_centred_scores_are_compared() -> None:
    """Study x: late 0.6, early 0.5, alone 0.1 (mean 0.4). Study y: late 0.9, alone 0.7 (mean 0.8)."""
    trials = [
        trial(1, 0.6, study="x", partners=1.0, fusion="late"), trial(2, 0.5, study="x", partners=1.0, fusion="early"),
        trial(3, 0.1, study="x", partners=0.0), trial(1, 0.9, study="y", partners=2.0, fusion="late_logits"), trial(2, 0.7, study="y", partners=0.0),
    ]  # fmt: skip
    found = contrast("late − early fusion", "panda", trials)
    assert found.difference == pytest.approx((0.2 + 0.1) / 2 - 0.1)
    assert (found.interval, found.studies, found.trials, found.how) == (None, 2, 3, "centred within studies")


def test_a_contrast_of_one_way_says_that_the_other_is_missing() -> None:
    found = contrast(
        "partners − none",
        "panda",
        [trial(0, 0.5, partners=0.0), trial(1, 0.6, partners=0.0), trial(2, 0.6, partners=0.0)],
    )
    assert (found.difference, found.note) == (None, "only one of the two ways has complete trials")


def test_methods_that_know_neither_partners_nor_fusion_are_not_contrasted() -> None:
    assert contrasts([trial(0, 0.5, learning_rate=0.1), trial(1, 0.6, learning_rate=0.2)]) == []


def test_an_interval_holds_its_mean_depends_on_the_seed_and_needs_three() -> None:
    values = [0.1, 0.2, 0.4, 0.1]
    assert interval(values[:2]) is None
    low, high = interval(values) or (9, 9)
    assert 0.1 <= low < 0.2 < high <= 0.4
    assert interval(values) == (low, high)
    assert interval(list(np.random.default_rng(0).normal(size=9)), 1) != interval(
        list(np.random.default_rng(0).normal(size=9)), 2
    )
    assert interval([0.3, 0.3, 0.3]) == pytest.approx((0.3, 0.3))

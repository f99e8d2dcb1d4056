"""Best of top-k against the oracle, chance and hindsight: worked by hand, by enumeration, and from MLflow."""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.findings.choice import choose
from analysis.findings.retrieval import TopK, chosen_gain, hindsight_gains, random_order, ranked, retrieval_rows, top_k
from analysis.records import names as records
from analysis.records.connection import NoRecords
from analysis.records.contributions import Contributions
from analysis.records.studies import Estimate, StudyRecord
from tests.kits.small import new_store, study_entry, told
from tests.kits.worlds import changed, record


def study(
    source: str | None, selection: float, gain: float, sim: float | None = None, method: str = "spot", **names: str
) -> StudyRecord:
    """A study of target t on bert; `sim` is its similarity c_mean, and c_pair the opposite."""
    measured = {} if sim is None else {"c_mean": sim, "c_pair": -sim}
    return record(
        method, source, **names, score=0.5 + gain, selection=selection, gain=float(gain), similarities=measured
    )


# Ranked a, b, c, d. The best by selection is c, by report b.
def everywhere(studies: Sequence[StudyRecord], targets: str = "tuv") -> list[StudyRecord]:
    """The same studies on several targets, so that a share of the oracle's gain can be said."""
    return [changed_target(one, target) for target in targets for one in studies]


def changed_target(one: StudyRecord, target: str) -> StudyRecord:
    return replace(one, target=target, run_id=f"{one.run_id} {target}")


FOUR = [study("a", 0.6, 0.01, 0.9), study("b", 0.5, 0.08, 0.8), study("c", 0.8, 0.04, 0.7), study("d", 0.7, -0.02, 0.6)]


def test_the_best_of_the_top_k_is_chosen_by_selection_score() -> None:
    about = pytest.approx
    assert top_k(everywhere(FOUR), "spot", "c_mean") == [
        TopK(1, 0.75, about(0.01), about(0.25), 3, 0),
        TopK(2, 0.50, about(0.01), about(0.25), 3, 0),  # b gains more, but its selection score does not say so
        TopK(3, 0.25, about(0.04), about(1.0), 3, 0),
        TopK(4, 0.00, about(0.04), about(1.0), 3, 0),
    ]
    assert [row.gain for row in top_k(FOUR, "spot", "c_pair")] == [-0.02, 0.04, 0.04, 0.04]  # d, c, b, a


def test_the_published_example_leaves_out_two_thirds_and_keeps_nine_tenths() -> None:
    """SPoT: of 48 source prompts the best 15 gain 5.4 points, all gain 6.0 (69 % left out, 90 % kept)."""
    scores = {10: (0.80, 0.054), 30: (0.81, 0.060)}
    prompts = [study(f"s{i:02}", *scores.get(i, (0.5, 0.01)), sim=-i) for i in range(48)]
    row = top_k(everywhere(prompts), "spot", "c_mean")[15 - 1]
    assert (row.k, round(row.left_out, 2), row.kept) == (15, 0.69, pytest.approx(0.90))
    assert row.left_out == pytest.approx((48 - 15) / 48)


def test_partners_of_the_winners_are_no_longer_left_out() -> None:
    """a used b too, and b all others: after a, two of four are left out; after b none."""
    one, two, *others = FOUR
    partners = [changed(one, partners=("b",)), changed(two, partners=("a", "c", "d")), *others]
    assert partners[0].sources == ("a", "b")
    assert [row.left_out for row in top_k(partners, "spot", "c_mean")] == [0.5, 0, 0, 0]


def test_means_are_over_targets_and_the_kept_share_is_one_of_means() -> None:
    other = [study("a", 0.9, 0.00, 0.1, target="u"), study("b", 0.8, 0.10, 0.2, target="u")]
    rows = top_k([*FOUR, *other], "spot", "c_mean")
    assert [row.gain for row in rows] == pytest.approx([0.055, 0.005, 0.02, 0.02])
    assert {row.kept for row in rows} == {None}  # of two targets the oracle's gain is not above 0 beyond doubt
    assert [row.left_out for row in rows] == pytest.approx([(3 / 4 + 1 / 2) / 2, 1 / 4, 1 / 8, 0])
    assert {row.targets for row in rows} == {2}


def test_each_plm_of_a_target_ranks_its_own_sources() -> None:
    each = [study(s, 0.5, g, sim, plm=plm) for plm, s, g, sim in (("x", "a", 0.1, 2), ("x", "b", 0.3, 1), ("y", "a", 0.5, 1), ("y", "b", 0.7, 2))]  # fmt: skip
    first = top_k(each, "spot", "c_mean")[0]
    assert (first.gain, first.targets) == (pytest.approx((0.1 + 0.7) / 2), 2)


def test_other_methods_and_the_baseline_are_not_retrieved() -> None:
    noise = [study("a", 0.99, 0.9, 1.0, method="panda"), study(None, 0.99, 0.0, method="prompt_tuning")]
    assert top_k([*FOUR, *noise], "spot", "c_mean") == top_k(FOUR, "spot", "c_mean")
    assert top_k([*FOUR, *noise], "panda", "c_mean") == [TopK(1, 0.0, 0.9, None, 1, 0)]


@pytest.mark.parametrize(
    "ask", [hindsight_gains, lambda r, m: random_order(r, m, 1), lambda r, m: top_k(r, m, "c_mean")]
)
def test_a_method_without_sources_is_refused(ask: Callable[[Sequence[StudyRecord], str], object]) -> None:
    with pytest.raises(ValueError, match=r"prompt_tuning has no study with a source, so there is nothing to retrieve"):
        ask([*FOUR, study(None, 0.5, 0.0, method="prompt_tuning")], "prompt_tuning")


def test_ties_of_similarity_and_of_selection_go_by_name() -> None:
    same = [study("c", 0.5, 0.3, 0.2), study("a", 0.5, 0.1, 0.2), study("b", 0.5, 0.2, 0.9)]
    assert [found.source for found in ranked(same, "c_mean")] == ["b", "a", "c"]
    assert chosen_gain(same) == 0.1
    assert [row.gain for row in top_k(same, "spot", "c_mean")] == [0.2, 0.1, 0.1]


def test_a_pair_of_unknown_similarity_is_counted_and_never_tried_but_the_oracle_has_it() -> None:
    best = study("e", 0.9, 0.08)
    rows = top_k(everywhere([*FOUR, best]), "spot", "c_mean")
    assert [row.gain for row in rows] == pytest.approx([0.01, 0.01, 0.04, 0.04, 0.04])
    assert [row.left_out for row in rows] == pytest.approx([4 / 5, 3 / 5, 2 / 5, 1 / 5, 1 / 5])
    assert [row.kept for row in rows] == pytest.approx([1 / 8, 1 / 8, 1 / 2, 1 / 2, 1 / 2])
    assert {(row.targets, row.unranked) for row in rows} == {(3, 3)}


def test_a_target_without_a_ranked_source_is_left_out_and_its_pairs_are_counted() -> None:
    unknown = [study(source, 0.9, 0.5, target="u") for source in "abcde"]
    rows = top_k([*FOUR, *unknown], "spot", "c_mean")
    assert [(row.gain, row.left_out) for row in rows] == [(r.gain, r.left_out) for r in top_k(FOUR, "spot", "c_mean")]
    assert {(row.targets, row.unranked) for row in rows} == {(1, 5)}
    assert top_k(unknown, "spot", "c_mean") == []


@pytest.mark.parametrize("gain", [-0.1, 0.0, 0.8 - 0.7 - (0.7 - 0.6)])  # the last is rounding
def test_nothing_is_kept_of_an_oracle_that_gains_nothing(gain: float) -> None:
    harmful = [study("a", 0.5, gain - 0.1, 0.9), study("b", 0.6, gain, 0.1)]
    rows = top_k(everywhere(harmful), "spot", "c_mean")
    assert [row.gain for row in rows] == pytest.approx([gain - 0.1, gain])
    assert {row.kept for row in rows} == {None}


def test_a_loss_keeps_a_negative_share_of_an_oracle_that_gains() -> None:
    two = everywhere([study("a", 0.5, -0.1, 0.9), study("b", 0.6, 0.2, 0.1)])
    assert top_k(two, "spot", "c_mean")[0].kept == pytest.approx(-0.5)


def by_seed(
    source: str, selection: Sequence[float], gains: Sequence[float], rows: Sequence[Sequence[float]] = ()
) -> StudyRecord:
    """A study of two seeds; prompt tuning scores 0.5 with both."""
    seeds = range(10, 10 + len(gains))
    scores = [0.5 + gain for gain in gains]
    others = [sum(selection) - own for own in selection]
    return record(
        "spot", source, score=Estimate(fmean(scores), by_seed=dict(zip(seeds, scores, strict=True))), selection=fmean(selection),
        gain=Estimate(fmean(gains), n=len(gains), by_seed=dict(zip(seeds, gains, strict=True))),
        chosen_by={seed: other / (len(gains) - 1) for seed, other in zip(seeds, others, strict=True)},
        contributions=Contributions(tuple(seeds), np.array(rows, float)) if rows else None, similarities={"c_mean": 1.0},
    )  # fmt: skip


def test_each_seed_is_scored_on_what_the_other_seeds_choose() -> None:
    """Seed 10 likes a, seed 11 likes b: so seed 11 is scored on a, and seed 10 on b."""
    two = [by_seed("a", (0.9, 0.1), (0.30, 0.01)), by_seed("b", (0.2, 0.8), (0.02, 0.40))]
    choice = choose(two)
    assert {seed: study.source for seed, study in choice.picks.items()} == {10: "b", 11: "a"}
    assert choice.final.source == "a"  # of equal means the first
    assert chosen_gain(two) == pytest.approx((0.02 + 0.01) / 2)
    assert random_order(two, "spot", 2) == pytest.approx(chosen_gain(two))
    assert random_order(two, "spot", 1) == pytest.approx((0.30 + 0.01 + 0.02 + 0.40) / 4)


def test_hindsight_is_chosen_by_other_rows_and_other_seeds_than_it_is_scored_on() -> None:
    """Rows by hand, scores 0.5 of prompt tuning taken off: even rows choose for odd ones and the other way round."""
    a = by_seed("a", (0.5, 0.5), (0.25, 0.0), [[1, 0, 1, 1], [1, 0, 1, 0]])
    b = by_seed("b", (0.5, 0.5), (0.0, 0.25), [[0, 1, 0, 1], [0, 1, 1, 1]])
    # Even rows: a has 1, 1 and b 0, 0.5, so both seeds choose a, whose odd rows have 0.5 and 0.
    # Odd rows: a has 0.5, 0 and b 1, 1, so both choose b, whose even rows have 0 and 0.5.
    assert hindsight_gains([a, b], "spot") == [pytest.approx((0.5 + 0 + 0 + 0.5) / 4 - (1 - 0.5 * 2 + 0.5))]
    assert hindsight_gains(FOUR, "spot") == [None]


def test_the_expected_best_of_two_random_sources_by_hand() -> None:
    """By selection c, d, a, b. Of the six pairs three have c, two of the rest d, and one is a and b."""
    assert random_order(FOUR, "spot", 2) == pytest.approx((3 * 0.04 + 2 * -0.02 + 1 * 0.01) / 6)


def test_one_random_source_gains_the_mean_and_all_gain_what_the_oracle_does() -> None:
    assert random_order(FOUR, "spot", 1) == pytest.approx(fmean([0.01, 0.08, 0.04, -0.02]))
    assert random_order(FOUR, "spot", 4) == 0.04
    assert random_order(FOUR, "spot", 9) == 0.04


def test_no_random_source_is_no_draw() -> None:
    with pytest.raises(ValueError, match=r"at least 1 source must be drawn, got k=0"):
        random_order(FOUR, "spot", 0)


@st.composite
def experiments(draw: st.DrawFn) -> list[StudyRecord]:
    """Up to three targets of up to five sources; few values, so that ties are many."""
    few = st.integers(-3, 3)
    return [
        study(source, draw(few) / 4, draw(few) / 100, draw(few), target=target)
        for target in "tuv"[: draw(st.integers(1, 3))]
        for source in "abcde"[: draw(st.integers(1, 5))]
    ]


def by_target(studies: Sequence[StudyRecord]) -> list[list[StudyRecord]]:
    return [list(group) for _, group in itertools.groupby(studies, key=lambda found: found.target)]


@given(experiments(), st.integers(1, 6))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_random_draw_gains_the_mean_over_all_draws(studies: list[StudyRecord], k: int) -> None:
    def drawn(group: list[StudyRecord]) -> float:
        return fmean(chosen_gain(some) for some in itertools.combinations(group, min(k, len(group))))

    assert random_order(studies, "spot", k) == pytest.approx(fmean(drawn(group) for group in by_target(studies)))


@given(experiments())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_to_try_all_is_the_oracle_whatever_the_similarity(studies: list[StudyRecord]) -> None:
    last, opposite = top_k(studies, "spot", "c_mean")[-1], top_k(studies, "spot", "c_pair")[-1]
    assert last == opposite
    assert last.k == max(map(len, by_target(studies)))
    assert last.gain == fmean(chosen_gain(group) for group in by_target(studies))
    assert last.gain == random_order(studies, "spot", last.k)
    assert last.left_out == 0.0
    assert last.kept in (None, 1.0)


@given(experiments(), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_the_order_of_the_records_changes_nothing(studies: list[StudyRecord], random: object) -> None:
    mixed = list(studies)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert top_k(mixed, "spot", "c_mean") == top_k(studies, "spot", "c_mean")
    assert random_order(mixed, "spot", 2) == random_order(studies, "spot", 2)


@given(experiments())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_only_the_order_of_the_similarities_matters(studies: list[StudyRecord]) -> None:
    studies = [changed(one, similarities={"cubed": one.similarities["c_mean"] ** 3 / 7 - 5}) for one in studies]
    assert top_k(studies, "spot", "cubed") == top_k(studies, "spot", "c_mean")


@given(experiments())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_larger_k_leaves_out_less_and_never_has_a_worse_selection_score(studies: list[StudyRecord]) -> None:
    left_out = [row.left_out for row in top_k(studies, "spot", "c_mean")]
    assert left_out == sorted(left_out, reverse=True)
    for group in by_target(studies):
        order = ranked(group, "c_mean")
        best = [choose(order[:k]).final.confirmed.selection.mean for k in range(1, len(order) + 1)]
        assert best == sorted(best)


def entry(target: str, method: str, source: str, selection: float, gain: float, similarity: float | None) -> object:
    measured = {} if similarity is None else {"similarity/c_mean": similarity}
    return study_entry(target, method, selection, metrics={"gain": gain, **measured}, **{records.SOURCE: source})


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of studies written by hand: spot has an unranked pair and a whole unranked target, panda is complete."""
    folder = tmp_path_factory.mktemp("by_hand")
    uri = new_store(folder)
    studies = [
        study_entry("t", "prompt_tuning", 0.5),
        entry("t", "spot", "a", 0.60, 0.02, 0.9),
        entry("t", "spot", "b", 0.70, 0.04, 0.1),
        entry("t", "spot", "c", 0.65, 0.06, None),
        entry("u", "spot", "a", 0.90, 0.50, None),
        entry("t", "panda", "a", 0.60, 0.03, 0.9),
        entry("u", "panda", "a", 0.60, 0.05, 0.8),
    ]
    told(uri, "hand", folder, studies)
    return uri


def test_rows_of_every_method_with_sources_stand_beside_chance_and_hindsight(by_hand: str) -> None:
    rows = retrieval_rows(by_hand, "hand", "c_mean")
    assert [(row["method"], row["k"]) for row in rows] == [("panda", 1), ("spot", 1), ("spot", 2), ("spot", 3)]
    assert rows[0] == {
        "method": "panda", "similarity": "c_mean", "k": 1, "left_out": 0.0, "gain": pytest.approx(0.04), "kept": None,
        "random": pytest.approx(0.04), "hindsight": None, "targets": 2, "unranked": 0,
    }  # fmt: skip
    # Target u has no ranked source: chance and hindsight are those of t, too.
    assert rows[1] == {
        "method": "spot", "similarity": "c_mean", "k": 1, "left_out": pytest.approx(2 / 3), "gain": 0.02, "kept": None,
        "random": pytest.approx(0.04), "hindsight": None, "targets": 1, "unranked": 2,
    }  # fmt: skip
    assert [row["random"] for row in rows[1:]] == pytest.approx([0.04, (2 * 0.04 + 0.06) / 3, 0.04])
    json.dumps(rows)


def test_rows_of_one_target_are_of_that_target_alone(by_hand: str) -> None:
    (row,) = retrieval_rows(by_hand, "hand", "c_mean", "u")
    assert (row["method"], row["gain"], row["targets"]) == ("panda", 0.05, 1)
    assert retrieval_rows(by_hand, "hand", "c_mean", "another") == []


def test_a_similarity_that_no_study_has_is_refused_with_those_there_are(by_hand: str) -> None:
    with pytest.raises(NoRecords, match=r"'hand' has the similarity 'c_maen'; measured: c_mean$"):
        retrieval_rows(by_hand, "hand", "c_maen")

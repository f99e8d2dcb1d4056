"""The question and its answer: which coefficients are taken, what the sentences say, and when nothing can be said."""

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.findings.answer import (
    answer,
    coefficients,
    correlations,
    headline_method,
    is_marked,
    points_of,
    smallest_p,
)
from analysis.findings.retrieval import retrieval_metrics, retrieval_summaries
from analysis.records.evidence import Evidence
from analysis.records.studies import StudyRecord
from tests.kits.worlds import SOURCES, World, changed, evidence, with_studies

SMALL = World(trials=1, similarities=("c_mean", "e_avg"))


def answered(world: World) -> tuple[str, str, str]:
    known = evidence(world)
    said = answer(known, correlations(known))
    return said.verdict, *said.sentences


def test_a_similarity_that_orders_the_sources_is_a_yes_with_its_numbers() -> None:
    known = evidence(SMALL)
    found = correlations(known)
    said = answer(known, found)
    (taken,) = [c for c in found if (c.method, c.measure, c.similarity) == ("spot", "gain", said.similarity)]
    assert (said.verdict, said.method, said.similarity, said.found) == ("yes", "spot", "c_mean", taken)
    assert said.sentences[0].startswith(
        "Yes: c_mean, the best of 2 similarities, predicts which sources help spot on which target: mean Spearman +"
    )
    assert f"{taken.spearman_mean:+.2f} over 4 targets" in said.sentences[0]
    assert "corrected for 2 similarities" in said.sentences[0]
    assert said.sentences[1].startswith("The most similar source gains +")


def test_noise_is_no_sign_and_never_called_a_no() -> None:
    verdict, first, _ = answered(replace(SMALL, effect=0.0, seed=3))
    assert verdict == "no sign"
    assert first.startswith("No sign of it here: ")
    assert "does not order the sources of spot better than chance would" in first


def test_of_one_target_nothing_can_be_said_of_pairs() -> None:
    assert [smallest_p(*n) for n in ((3, 2), (3, 3), (6, 1))] == pytest.approx([1 / 4, 1 / 108, 1.0])
    known = evidence(replace(SMALL, targets=("cb",), methods=("spot",), similarities=("c_mean",)))
    known = with_studies(known, lambda pair: changed(pair, gain=pair.similarities["c_mean"]))
    said = answer(known, correlations(known))
    assert said.verdict == "cannot say"
    assert said.sentences[0].startswith(
        "Whether c_mean predicts which sources help spot on which target cannot be said with 6 sources and 1 target: mean Spearman +1.00"
    )


def test_what_knowing_the_sources_does_as_well_is_no_knowledge_of_the_pair() -> None:
    """The same order of sources for every target, of similarities and of gains."""
    known = evidence(replace(SMALL, methods=("spot",), similarities=("c_mean",)))
    generator = np.random.default_rng(5)

    def by_source(pair: StudyRecord) -> StudyRecord:
        place, (one, other) = SOURCES.index(str(pair.source)), generator.normal(0, 0.6, 2)
        return changed(pair, gain=0.01 * (place + one), similarities={"c_mean": place + other})

    said = answer(known := with_studies(known, by_source), correlations(known))
    assert said.verdict == "source only"
    assert said.sentences[0].startswith(
        "Only by source: c_mean orders the sources of spot better than chance would, but"
    )
    assert said.found
    assert said.found.spearman_mean > 0.7
    assert f"a source's mean rank on the other targets alone reaches +{said.found.source_only:.2f}" in said.sentences[0]


def test_what_these_targets_show_and_others_may_not_is_probable() -> None:
    known = evidence(SMALL)
    said = answer(known, correlations(known))
    assert said.found
    wide = replace(said.found, mean_interval=(-0.1, 0.9))
    probable = answer(known, [wide])
    assert probable.verdict == "probably"
    assert probable.sentences[0].startswith(
        "Probably: c_mean orders the sources of spot for these targets better than chance would, but"
    )


def test_fewer_than_four_sources_have_no_coefficient_and_the_answer_says_so() -> None:
    verdict, first, second = answered(replace(SMALL, sources=SOURCES[:3]))
    assert verdict == "cannot say"
    assert (
        first
        == "Whether similarity predicts the gain cannot be said: there are only 3 sources, and a coefficient needs at least 4."
    )
    assert second.startswith("spot gains ")
    assert second.endswith("of 12 pairs.")


def test_four_sources_of_which_a_target_is_one_say_what_each_target_lacks() -> None:
    _, first, _ = answered(replace(SMALL, sources=SOURCES[:4], targets=SOURCES[:2]))
    assert first == "Whether similarity predicts the gain cannot be said: 3 sources: at least 4 are needed."


def test_targets_without_signal_are_in_no_coefficient() -> None:
    known = evidence(replace(SMALL, silent=("cb",)))
    assert known.targets_without_signal == ["cb"]
    assert all("cb" not in one.targets for one in correlations(known))
    assert answered(replace(SMALL, silent=SMALL.targets))[1].endswith(
        "no target carries a signal: prompt tuning beats the best constant answer nowhere."
    )


def test_panda_answers_only_where_its_loss_does_not_hold_the_similarity() -> None:
    weighed = evidence(replace(SMALL, methods=("panda",)))
    assert is_marked(weighed, "panda")
    assert headline_method(weighed) is None
    said = answer(weighed, correlations(weighed))
    assert said.verdict == "cannot say"
    assert "the loss of every method contains the similarity" in said.sentences[0]
    free = evidence(replace(SMALL, methods=("panda",), weigh_by="none"))
    assert (is_marked(free, "panda"), headline_method(free)) == (False, "panda")


def test_an_unweighed_panda_speaks_beside_spot_and_a_weighed_one_does_not() -> None:
    assert "; of panda, unweighted, it is " in answered(replace(SMALL, weigh_by="none"))[1]
    assert "panda" not in answered(SMALL)[1]


def test_a_loss_of_which_nothing_is_known_counts_as_holding_the_similarity() -> None:
    known = evidence(replace(SMALL, methods=("panda",)))
    bare = replace(known, studies=tuple(replace(study, similarity_in_loss=None) for study in known.studies))
    assert is_marked(bare, "panda")


def test_every_method_is_correlated_with_every_measure() -> None:
    found = correlations(evidence(replace(SMALL, similarities=("c_mean",))))
    expected = {
        "gain",
        "first_gain",
        "score",
        "first_score",
        "relative_performance",
        "error_reduction",
        "early",
        "convergence",
        "comparable",
    }
    assert all(expected <= {c.measure for c in found if c.method == method} for method in ("spot", "panda"))
    assert all(c.pooled.p_adjusted is not None for c in found if c.measure == "gain")


def test_a_pair_of_a_task_with_itself_is_left_out_and_can_be_asked_for() -> None:
    known = evidence(replace(SMALL, similarities=("c_mean",)))
    pairs = [
        replace(pair, source="cb") if pair.source == "mnli" and pair.target == "cb" else pair for pair in known.studies
    ]
    known = replace(known, studies=tuple(pairs))
    without, within = correlations(known)[0], correlations(known, exclude_self=False)[0]
    assert (without.self_pairs, within.self_pairs) == (0, 1)
    assert within.pooled.n == without.pooled.n + 1
    assert len(known.pairs_with_signal) == len(known.transfer_pairs) + 2  # of spot and of panda


def test_points_hold_every_seed_in_one_order_and_gaps_are_nan() -> None:
    known = evidence(replace(SMALL, methods=("spot",), targets=("cb",)))
    one, two, *others = known.pairs
    gain = one.confirmed.gain
    assert gain
    one = replace(one, winner=replace(one.confirmed, gain=replace(gain, by_seed={10: 0.1, 12: 0.2})))
    pairs = [one, replace(two, similarities={}), *others]
    found = points_of(known, pairs, "c_mean", "gain")
    assert [len(point.seeds) for point in found] == [3] * 6
    assert math.isnan(found[0].seeds[1])
    assert math.isnan(found[1].similarity)
    assert found[2].value == others[0].gained
    assert points_of(known, pairs, "c_mean", "gain", "first")[0].seeds == ()
    assert one.first
    assert one.first.gain
    pairs[0] = replace(one, first=replace(one.first, gain=replace(one.first.gain, by_seed={1: 0.25})))
    first = points_of(known, pairs, "c_mean", "gain", "first")
    assert first[0].seeds == (0.25,)
    assert math.isnan(first[1].seeds[0])


def test_several_plms_keep_their_targets_apart() -> None:
    known = evidence(replace(SMALL, plms=("bert", "roberta"), targets=("cb",), methods=("spot",)))
    assert known.places == ["cb · bert", "cb · roberta"]
    assert set(correlations(known)[0].targets) == {"cb · bert", "cb · roberta"}


def test_coefficients_have_names_that_sort_by_measure_method_and_similarity() -> None:
    known = evidence(replace(SMALL, similarities=("c_mean",)))
    said = dict(coefficients(correlations(known)))
    assert {"corr/gain/spot/c_mean/spearman_mean", "corr/first_gain/panda/c_mean/pooled/p_adjusted"} <= set(said)
    assert all(math.isfinite(number) for number in said.values())


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (Evidence("x", ()), "no study is confirmed yet"),
        (evidence(replace(SMALL, methods=())), "no method with sources is confirmed"),
        (evidence(replace(SMALL, similarities=())), "no similarity was measured"),
    ],
)
def test_what_is_missing_for_an_answer_is_named(known: Evidence, said: str) -> None:
    assert (
        answer(known, correlations(known)).sentences[0]
        == f"Whether similarity predicts the gain cannot be said: {said}."
    )


def test_following_a_similarity_in_numbers() -> None:
    known = evidence(
        replace(
            SMALL, methods=("spot",), targets=("cb", "rte", "cr"), sources=("a", "b", "c"), similarities=("c_mean",)
        )
    )
    told = {"a": (0.9, 0.02, 0.6), "b": (0.5, 0.05, 0.9), "c": (0.1, -0.01, 0.7)}

    def told_of(pair: StudyRecord) -> StudyRecord:
        similarity, gain, selection = told[str(pair.source)]
        extra = {"cb": 0.0, "rte": 0.001, "cr": -0.001}[pair.target]
        return changed(pair, similarities={"c_mean": similarity}, gain=gain + extra, selection=selection)

    known = with_studies(known, told_of)
    (found,) = retrieval_summaries(known)
    assert (found.method, found.similarity, found.targets) == ("spot", "c_mean", 3)
    assert (found.first, found.random, found.oracle) == pytest.approx((0.02, 0.02, 0.05))
    assert (found.kept, found.enough) == pytest.approx((0.4, 2 / 3))
    assert found.advantage.mean == pytest.approx(0)
    assert found.regret is None  # report rows were not recorded
    assert dict(retrieval_metrics([found])) == {
        "retrieval/spot/c_mean/advantage": found.advantage.mean,
        "retrieval/spot/c_mean/first": found.first,
    }

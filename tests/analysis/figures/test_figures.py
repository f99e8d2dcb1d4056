"""Figures: they render, their titles say what their numbers say, and what cannot be drawn gives its reason."""

import io
import itertools
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from analysis.figures.contrasts import contrasts_figure, twins_figure
from analysis.figures.correlation import coefficients_figure, fisher, scatter_figure
from analysis.figures.drawing import Drawing, NotDrawn, rendered, save
from analysis.figures.gains import gain_map
from analysis.figures.gallery import Gallery, gallery
from analysis.figures.retrieval import pooled_figure, retrieval_figure
from analysis.figures.search import importance_figure, progress_figure, slices_figure
from analysis.figures.similarity import similarity_map
from analysis.findings.answer import answer, correlations
from analysis.findings.contrasts import Contrast
from analysis.findings.importance import Importance
from analysis.findings.search_history import search_history
from analysis.records.evidence import Evidence
from analysis.records.studies import Estimate, StudyRecord
from analysis.wording import by_reason, chance, counted, listed, points, rho
from tests.kits.worlds import SOURCES, World, changed, evidence, with_studies

WORLD = World(trials=3, similarities=("c_mean", "e_avg"), silent=("rte",), noise=0.02)


def of(known: Evidence) -> Gallery:
    found = correlations(known)
    return gallery(known, answer(known, found), found, search_history(known))


@pytest.fixture(scope="module")
def drawn() -> dict[str, Drawing]:
    return {figure.name: figure for figure in of(evidence(WORLD)).drawn}


NAMES = (
    "coefficients", "scatter", "pooled", "retrieval", "gain-spot", "gain-panda", "similarity-c_mean", "similarity-e_avg", "importance", "slices",
    "search", "equal_cost", "contrasts", "twins",
)  # fmt: skip


def test_an_experiment_has_every_figure(drawn: dict[str, Drawing]) -> None:
    assert tuple(drawn) == NAMES


def cut_at_the_border(figure: Drawing) -> bool:
    picture = imread(io.BytesIO(rendered(figure, "png", titled=True)), format="png")[..., :3]
    return float(min(picture[:, :3].min(), picture[:, -3:].min(), picture[:3].min(), picture[-3:].min())) < 0.99


def texts(figure: Drawing) -> list[str]:
    canvas = Figure(figsize=figure.size, layout="constrained")
    figure.paint(canvas.subfigures(1, 1))
    canvas.draw_without_rendering()
    return [found.get_text() for found in canvas.findobj(Text) if found.get_visible()]


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_a_picture_with_something_on_it(name: str, drawn: dict[str, Drawing], tmp_path: Path) -> None:
    png, svg = save(drawn[name], tmp_path)
    picture = imread(io.BytesIO(png.read_bytes()), format="png")[..., :3]
    assert picture.shape[1] >= 5.5 * 160
    assert 0.01 < (picture.mean(axis=2) < 0.9).mean() < 0.9
    assert not cut_at_the_border(drawn[name])
    assert svg.read_text(encoding="utf-8").count("<path") > 20


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_says_something_and_can_be_read_aloud(name: str, drawn: dict[str, Drawing]) -> None:
    figure = drawn[name]
    assert len(figure.title) > 20
    assert re.search(r"\d", figure.caption), "n stands in the caption"
    assert figure.caption.endswith(".")
    assert figure.alt.endswith(".")
    assert figure.title != figure.alt


@pytest.mark.parametrize("name", ["coefficients", "scatter", "pooled", "retrieval", "gain-spot", "twins"])
def test_figures_of_report_scores_name_their_protocol(name: str, drawn: dict[str, Drawing]) -> None:
    assert "Held-out protocol" in drawn[name].caption


def test_pooled_figures_name_the_targets_they_leave_out(drawn: dict[str, Drawing]) -> None:
    for name in ("scatter", "pooled", "retrieval"):
        assert "Left out, since prompt tuning does not beat the best constant answer there: rte." in drawn[name].caption
    assert (
        "In parentheses: prompt tuning does not beat the best constant answer; the title does not count these."
        in drawn["gain-spot"].caption
    )


def test_the_title_of_the_gains_counts_them() -> None:
    known = evidence(WORLD)
    pairs = [pair for pair in known.pairs if pair.method == "spot"]
    gains = dict(zip((pair.run_id for pair in pairs), [0.05, 0.03, 0.01] + [-0.02] * (len(pairs) - 3), strict=True))

    def gaining(pair: StudyRecord, gain: float) -> StudyRecord:
        low, high = gain - 0.02, gain + 0.02
        return replace(pair, winner=replace(pair.confirmed, gain=Estimate(gain, 0.0, 3, low, high)))

    known = with_studies(known, lambda pair: gaining(pair, gains.get(pair.run_id, 0.0)))
    figure = gain_map(known, "spot")
    assert isinstance(figure, Drawing)
    assert figure.title.startswith(
        "spot beats prompt tuning on 3 of 18 pairs, on 2 significantly; mnli helps most, "
    )  # not on rte
    worse = gain_map(with_studies(known, lambda pair: changed(pair, gain=-0.02)), "spot")
    assert isinstance(worse, Drawing)
    assert worse.title.endswith("hurts least, −2.0 points on average")
    assert "includes zero (22)" in figure.caption  # +0.01 and −0.02, which touches zero
    assert "from −2.0 to +5.0 points; 22 cells hatched." in figure.alt


def test_the_title_of_a_similarity_names_the_closest_pair_but_no_task_with_itself() -> None:
    known = evidence(replace(WORLD, targets=("sst2", "cb"), methods=("spot",)))
    close = {("qqp", "cb"): 0.9}
    known = with_studies(
        known, lambda pair: changed(pair, similarities={"c_mean": close.get((str(pair.source), pair.target), 0.1)})
    )
    own = replace(known.pairs[0], source="sst2", target="sst2", similarities={"c_mean": 1.0})
    figure = similarity_map(replace(known, studies=(*known.studies, own)), "c_mean")
    assert isinstance(figure, Drawing)
    assert figure.title == "By c_mean, the most similar source and target are qqp and cb (0.90)"


def test_the_scatter_counts_the_targets_on_which_both_rise(drawn: dict[str, Drawing]) -> None:
    known = evidence(WORLD)
    said = answer(known, correlations(known))
    assert said.found
    up = sum((one.spearman or 0) > 0 for one in said.found.targets.values())
    assert drawn["scatter"].title == f"c_mean and the gain of spot are positively correlated on {up} of 3 targets"
    assert drawn["pooled"].title.startswith(
        f"Over all pairs, the correlation of c_mean and the gain of spot is {rho(said.found.pooled.spearman)} ("
    )


def test_a_contrast_is_told_by_its_better_side() -> None:
    clear = Contrast("late − early fusion", "panda", -0.021, (-0.03, -0.01), 12, 5, "paired within studies")
    vague = Contrast("partners − none", "spot", 0.01, (-0.01, 0.03), 12, 5, "paired within studies")
    assert contrasts_figure([clear, vague]).title == "panda scores 2.1 points lower with late fusion than with early"  # type: ignore[union-attr]
    assert contrasts_figure([vague]).title.startswith("Neither partner sources nor")  # type: ignore[union-attr]


def test_an_importance_below_chance_is_not_called_one() -> None:
    figure = importance_figure([Importance("spot", {"learning_rate": 0.4}, 0.6, (), 12, 3)])
    assert isinstance(figure, Drawing)
    assert figure.title == "No hyperparameter is more important than a random one would be"
    near = importance_figure([Importance("spot", {"learning_rate": 0.62}, 0.6, (), 12, 3)])
    assert near.title == figure.title  # type: ignore[union-attr]
    both = [Importance(m, {"learning_rate": 0.8, "partners": 0.1}, 0.1, (), 12, 3) for m in ("panda", "spot")]
    assert importance_figure(both).title == "The learning rate mattered most for panda and spot"  # type: ignore[union-attr]


LITTLE = replace(WORLD, similarities=("c_mean",), sources=SOURCES[:5], targets=("cb", "rte"))
SINGLE: dict[str, World] = {
    "one source and target, one seed": replace(LITTLE, sources=("sst2",), targets=("cr",), silent=(), seeds=(10,)),
    "no signal": replace(LITTLE, silent=LITTLE.targets),
    "two plms": replace(LITTLE, plms=("bert", "a PLM of a long name"), methods=("spot",)),
    "signs in names": replace(LITTLE, targets=("$x^2$ <b>&", "_hidden"), sources=("$\\frac{", "a_b", "<i>", "ö % #", "e"), silent=()),
}  # fmt: skip


@pytest.mark.parametrize("case", SINGLE)
def test_every_figure_copes_or_gives_a_reason(case: str) -> None:
    found = of(evidence(SINGLE[case]))
    assert list(found.drawn)
    for figure in found.drawn:
        assert not cut_at_the_border(figure), figure.name
    assert all(figure.reason for figure in found.not_drawn)
    if case == "one source and target, one seed":
        reasons = {figure.name: figure.reason for figure in found.not_drawn}
        assert reasons["retrieval"] == "no target has at least two sources to choose from"
    if case == "signs in names":
        written = {figure.name: texts(figure) for figure in found.drawn}
        assert {"$x^2$ <b>&", "_hidden"} <= set(written["pooled"])
        assert {"$\\frac{", "a_b", "<i>", "ö % #"} <= set(written["gain-spot"])


def test_numbers_at_axes_are_plain(drawn: dict[str, Drawing]) -> None:
    assert {"0.001", "0.01"} <= set(texts(drawn["slices"]))
    assert not any("$" in found or "-0" in found for figure in drawn.values() for found in texts(figure))


def test_gaps_are_crossed_out_and_missing_intervals_are_told() -> None:
    known = evidence(replace(WORLD, methods=("spot",), similarities=("c_mean",)))
    pairs = known.pairs
    without = {pair.run_id for pair in pairs[:3]}

    def bare(pair: StudyRecord) -> StudyRecord:
        won = replace(pair.confirmed, gain=Estimate(pair.gained, n=3))
        return replace(pair, winner=won, similarities={}) if pair.run_id in without else pair

    gaps = with_studies(replace(known, studies=tuple(study for study in known.studies if study is not pairs[5])), bare)
    gain, similarity = gain_map(gaps, "spot"), similarity_map(gaps, "c_mean")
    assert isinstance(gain, Drawing)
    assert isinstance(similarity, Drawing)
    assert "3 pairs without an interval" in gain.caption
    assert "Crossed out: 1 pair without a value." in gain.caption
    assert "Crossed out: 4 pairs without a value." in similarity.caption
    for figure in of(gaps).drawn:
        assert rendered(figure, "png", titled=True)


def test_nothing_confirmed_draws_nothing_and_says_why() -> None:
    found = of(Evidence("x", ()))
    assert list(found.drawn) == []
    assert {figure.name for figure in found.not_drawn} == {
        "coefficients",
        "scatter",
        "pooled",
        "retrieval",
        "importance",
        "slices",
        "search",
        "equal_cost",
        "contrasts",
        "twins",
    }


def test_similarities_that_lie_close_together_have_more_decimals() -> None:
    known = evidence(replace(WORLD, similarities=("c_mean",)))
    values = itertools.cycle((0.0412, 0.0478, 0.0441))
    known = with_studies(known, lambda pair: changed(pair, similarities={"c_mean": next(values)}))
    figure = similarity_map(known, "c_mean")
    assert isinstance(figure, Drawing)
    assert {"0.0412", "0.0478"} <= set(texts(figure))
    assert "from 0.0412 to 0.0478" in figure.alt


def test_the_same_numbers_give_the_same_bytes(drawn: dict[str, Drawing]) -> None:
    for form in ("png", "svg"):
        assert rendered(drawn["retrieval"], form, titled=True) == rendered(drawn["retrieval"], form, titled=True)


def test_a_page_has_the_picture_without_its_title(drawn: dict[str, Drawing]) -> None:
    assert len(rendered(drawn["twins"], "svg", titled=True)) > len(rendered(drawn["twins"], "svg", titled=False))


def test_twins_on_a_target_without_signal_are_shown_as_such_and_not_in_the_mean(drawn: dict[str, Drawing]) -> None:
    assert "rte (no signal)" in texts(drawn["twins"])
    assert "Left out, since prompt tuning does not beat the best constant answer there: rte" in drawn["twins"].caption


@pytest.mark.parametrize(
    "draw", [lambda: importance_figure([]), lambda: slices_figure([]), lambda: progress_figure({"steps": []}), lambda: contrasts_figure([]),
             lambda: twins_figure(Evidence("x", ()), []), lambda: similarity_map(Evidence("x", ()), "c"), lambda: gain_map(Evidence("x", ()), "spot"),
             lambda: coefficients_figure(Evidence("x", ()), [])],
)  # fmt: skip
def test_what_cannot_be_drawn_is_not_drawn(draw: Callable[[], Drawing | NotDrawn]) -> None:
    assert isinstance(draw(), NotDrawn)


def test_figures_without_an_answer_are_not_drawn() -> None:
    known = evidence(replace(WORLD, sources=SOURCES[:3], silent=()))
    said = answer(known, correlations(known))
    assert all(isinstance(draw(known, said), NotDrawn) for draw in (scatter_figure, pooled_figure))
    assert isinstance(retrieval_figure(known, said), Drawing)  # choosing needs no coefficient


def test_fishers_interval_by_hand() -> None:
    low, high = fisher(0.5, 28) or (0, 0)
    assert (low, high) == pytest.approx(
        (math.tanh(math.atanh(0.5) - 1.95996 / 5), math.tanh(math.atanh(0.5) + 1.95996 / 5)), abs=1e-4
    )
    assert fisher(1.0, 9) is None
    assert fisher(0.5, 3) is None
    assert fisher(None, 9) is None


def test_numbers_for_people() -> None:
    assert (points(0.0123), points(-0.004), points(-0.0001), points(0.5, signed=False)) == (
        "+1.2",
        "−0.4",
        "+0.0",
        "50.0",
    )
    assert (rho(-0.5), rho(None), chance(None), chance(0.0004), chance(0.0412), chance(0.5)) == (
        "−0.50",
        "–",
        "p unknown",
        "p < 0.001",
        "p = 0.041",
        "p = 0.50",
    )
    assert (counted(1, "pair"), counted(2, "study"), listed(["a", "b", "c"]), listed(["a"]), listed([])) == (
        "1 pair",
        "2 studies",
        "a, b and c",
        "a",
        "",
    )
    assert by_reason({"a": "x", "b": "y", "c": "x"}) == "x (a and c); y (b)"

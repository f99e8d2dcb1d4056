"""Su et al.'s matrix: relative performance of untrained source prompts, above what needs no source."""

from dataclasses import replace

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.figures.drawing import Drawing, NotDrawn, rendered
from analysis.figures.gallery import gallery
from analysis.figures.relative import relative_map, untrained
from analysis.findings.answer import answer, correlations
from analysis.findings.search_history import search_history
from analysis.records.evidence import Evidence
from analysis.records.studies import Estimate, StudyRecord
from tests.kits.worlds import World, evidence, with_studies

OWN = {"cr": 0.8, "rte": 0.5}
SCORES = {("sst2", "cr"): 0.88, ("sst2", "rte"): 0.45, ("qnli", "cr"): 0.4, ("qnli", "rte"): 0.6}
RANDOM = {"cr": 0.6, "rte": 0.5}
PLAIN = {"cr": 0.64, "rte": 0.4}


def scored(study: StudyRecord) -> StudyRecord:
    """The study with the score that the tables above give it."""
    control, own = RANDOM[study.target], OWN[study.target]
    score = {"prompt_tuning": own, "plain_template": PLAIN[study.target], "random_prompt": control}.get(study.method)
    score = SCORES[study.source or "", study.target] if score is None else score
    won = replace(
        study.confirmed, score=Estimate(score, 0.0, 3), relative_performance=score / own,
        steps=60 if study.method == "prompt_tuning" else 0,
        twin=Estimate(control) if study.method == "zero_shot" else None,
    )  # fmt: skip
    return replace(study, winner=won)


@pytest.fixture(scope="module")
def known() -> Evidence:
    world = evidence(World(sources=("qnli", "sst2"), targets=("cr", "rte"), methods=("zero_shot", "random_prompt")))
    alone = [replace(s, method="plain_template", reference="") for s in world.studies if s.source is None]
    return replace(world, studies=tuple(scored(study) for study in (*world.studies, *alone)))


def written(figure: Drawing) -> list[str]:
    canvas = Figure(figsize=figure.size, layout="constrained")
    figure.paint(canvas.subfigures(1, 1))
    canvas.draw_without_rendering()
    return [found.get_text() for found in canvas.findobj(Text) if found.get_visible()]


def test_the_matrix_by_hand(known: Evidence) -> None:
    figure = relative_map(known, "zero_shot")
    assert isinstance(figure, Drawing)
    said = written(figure)
    numbers = [text for text in said if text.replace(".", "").isdigit() and len(text) == 4]
    # sst2: 1.10 on cr and 0.90 on rte, mean 1.00; qnli: 0.50 and 1.20, mean 0.85; the column of rte has the higher mean
    assert numbers[:8] == ["0.90", "1.10", "1.20", "0.50", "1.00", "0.75", "0.80", "0.80"]
    assert [text for text in said if text in {*OWN, "sst2", "qnli", "random prompt", "plain_template"}] == [
        "rte", "cr", "sst2", "qnli", "random prompt", "plain_template",
    ]  # fmt: skip
    assert figure.title == (
        "zero_shot scores higher than the random prompt on 2 of 4 pairs; sst2 reaches 1.00 of the targets' own prompts on average"
    )
    assert "what needs no source: random prompt and plain_template" in figure.caption
    assert rendered(figure, "png", titled=True)


def test_methods_that_train_or_are_the_control_have_no_matrix(known: Evidence) -> None:
    assert untrained(known) == ["zero_shot"]
    assert untrained(evidence(World())) == []
    found = correlations(known)
    names = [figure.name for figure in gallery(known, answer(known, found), found, search_history(known)).relative]
    assert names == ["relative-zero_shot"]


def test_pairs_without_a_value_are_crossed_out(known: Evidence) -> None:
    def gone(study: StudyRecord) -> StudyRecord:
        lost = study.source == "qnli" and study.target == "cr"
        return replace(study, winner=replace(study.confirmed, relative_performance=None)) if lost else study

    figure = relative_map(with_studies(known, gone), "zero_shot")
    assert isinstance(figure, Drawing)
    assert "Crossed out: 1 pair without a value." in figure.caption
    assert rendered(figure, "png", titled=True)


def test_no_pair_is_no_matrix() -> None:
    assert isinstance(relative_map(Evidence("x", ()), "zero_shot"), NotDrawn)

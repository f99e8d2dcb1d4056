"""Pages of experiments that are too small to say much: each says what cannot be said, and no page has a number that is none."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from analysis.findings.answer import answer, correlations
from analysis.findings.best import corrected, verdict, winners
from analysis.records.evidence import Evidence
from analysis.records.studies import StudyRecord
from benchmarks.simulation import World, experiment
from tests.analysis.report.test_report import page_of, read

SMALL = World(sources=5, targets=3, rows=60, seeds=2, similarities=1, pair_sd=0.02)


def made(world: World) -> Evidence:
    return experiment(world, np.random.default_rng(0))[0]


def each(known: Evidence, change: Callable[[StudyRecord], StudyRecord | None]) -> Evidence:
    studies = [changed for study in known.studies if (changed := change(study)) is not None]
    return replace(known, studies=tuple(studies))


def constant(study: StudyRecord) -> StudyRecord:
    """Every study as good as every other, on every row."""
    first = made(SMALL).studies[1].confirmed
    return study if study.source is None else replace(study, winner=first, similarities=study.similarities)


def gappy(study: StudyRecord) -> StudyRecord | None:
    if (study.source, study.target) in (("s0", "t0"), ("s1", "t0"), ("s3", "t2")):
        return None
    return replace(study, similarities={}) if study.source == "s2" else study


SCARCE: dict[str, tuple[Evidence, str]] = {
    "one seed": (made(replace(SMALL, seeds=1)), "One confirm seed on t0, t1 and t2: intervals are over report rows alone"),
    "one target": (made(replace(SMALL, targets=1)), "cannot be said with 5 sources and 1 target"),
    "two sources": (made(replace(SMALL, sources=2)), "there are only 2 sources, and a coefficient needs at least 4"),
    "constant gains": (each(made(SMALL), constant), "all values are the same"),
    "missing pairs": (each(made(SMALL), gappy), "Pairs without a similarity: similarity0 3"),
    "no signal": (each(made(SMALL), lambda s: replace(s, signal=False)), "no target carries a signal"),
}  # fmt: skip


@pytest.mark.parametrize("name", SCARCE)
def test_a_scarce_experiment_says_what_cannot_be_said_and_its_page_has_no_nan(name: str) -> None:
    known, told = SCARCE[name]
    page = page_of(known)
    said = read(page).said
    assert told in said
    assert not re.search(r"\b(nan|inf|None)\b", said, re.IGNORECASE)
    assert not re.search(r">\s*(nan|None|inf)\s*<", page)


def test_of_one_seed_no_gain_has_a_star_or_is_called_better() -> None:
    known, _ = SCARCE["one seed"]
    chosen = winners(known.studies)
    assert corrected(chosen) == {}
    assert {verdict(study) for study in chosen if study.gain and study.gain.mean > 0} <= {
        "not to be told from prompt tuning (one confirm seed: its interval is over rows alone)",
        "no better than prompt tuning (which itself has the best selection score)",
    }


def test_nothing_varies_and_nothing_is_made_of_it() -> None:
    known, _ = SCARCE["constant gains"]
    said = answer(known, correlations(known))
    assert said.verdict == "cannot say"

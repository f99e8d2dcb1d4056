"""A search with repeats: the command, real Ray, real MLflow, a tiny random PLM."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.records.connection import client, runs
from analysis.records.names import REPEAT, STAGE, STUDY
from analysis.records.reader import current_studies
from tests.kits.command import experiment_file, panda_tune_here
from tests.kits.small import rewritten
from tuning.experiment.loading import load

pytestmark = pytest.mark.slow


def test_repeats_search_beside_what_is_there_and_show_their_spread(
    plms: Callable[[str], Path], tmp_path: Path, ray_address: str
) -> None:
    """The finished search keeps its journals, winners and numbers; the repeat has its own."""
    file = experiment_file(tmp_path, plms("bert"), methods=["spot"], sources=["s1"])
    printed = panda_tune_here("search", file, "--address", ray_address).stdout
    uri = load(file).tracking_uri
    before = {study.key: study for study in current_studies(uri, "small")}
    (best,) = json.loads(panda_tune_here("best", file, "--format", "json").stdout)
    rewritten(file, search={"trials": 2, "repeats": 2})
    shown = panda_tune_here("search", file, "--address", ray_address).stdout
    assert "nothing was computed" in panda_tune_here("search", file).stderr
    after = current_studies(uri, "small")
    (again,) = json.loads(panda_tune_here("best", file, "--format", "json").stdout)
    assert {study.key: study.confirmed.score for study in after} == {
        key: study.confirmed.score for key, study in before.items()
    }
    assert [[one.is_confirmed for one in study.repeats] for study in after] == [[True], [True]]
    tags = [run.data.tags for run in runs(client(uri), "small")]
    trials = [tag[STUDY] for tag in tags if tag[STAGE] == "trial" and tag.get(REPEAT) == "1"]
    assert sorted(trials) == sorted(study.repeats[0].key for study in after for _ in range(2))
    assert {**again, "over_searches": None} == best
    over = again["over_searches"]
    assert (over["score"]["n"], over["gain"]["n"], len(over["winners"])) == (2, 2, 2)
    assert "score over searches" in shown
    rewritten(file, search={"trials": 2})
    assert panda_tune_here("search", file).stdout == printed

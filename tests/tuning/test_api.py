"""The functions for notebooks take a file, its values or an Experiment, and give what the commands print."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis.records.connection import NoRecords
from tests.kits.command import experiment_file, panda_tune_here
from tuning import api
from tuning.experiment.problems import Misuse


@pytest.fixture
def file(tmp_path: Path, plms: Any) -> Path:
    """A sound experiment that was never searched."""
    return experiment_file(tmp_path, plms("bert"))


def test_an_experiment_may_be_given_in_each_way(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    ways = (file, str(file), yaml.safe_load(file.read_text()), api.experiment(file))
    found = [api.experiment(way) for way in ways]
    assert {json.dumps(each.filed, sort_keys=True) for each in found} == {json.dumps(found[0].filed, sort_keys=True)}
    assert {each.storage_path for each in found} == {found[0].storage_path}


def test_values_are_not_changed_and_their_mistakes_are_told_as_those_of_a_file(file: Path) -> None:
    values = yaml.safe_load(file.read_text()) | {"train": {"stepz": 3}, "targetz": ["t"]}
    before = json.dumps(values)
    with pytest.raises(Misuse) as refused:
        api.experiment(values)
    told = str(refused.value).splitlines()
    assert [line.partition("; ")[0] for line in told] == [
        "experiment: train.stepz: unknown key (did you mean steps?)", "experiment: targetz: unknown key (did you mean targets?)",
    ]  # fmt: skip
    assert json.dumps(values) == before


def test_what_is_not_there_is_refused_as_by_the_commands(file: Path) -> None:
    with pytest.raises(NoRecords, match="nothing recorded yet"):
        api.best(file)
    with pytest.raises(Misuse, match=r"--target tt: is no target of the experiment \(did you mean t\?\); there are t"):
        api.best(file, target="tt")
    with pytest.raises(Misuse, match="no such file"):
        api.search("nowhere.yaml")


def test_rows_as_a_table_have_a_column_for_each_nested_value() -> None:
    table = api.Rows(
        ({"target": "t", "gain": {"mean": 0.5, "interval": [0, 1]}}, {"target": "u", "gain": {"mean": 1.0}})
    ).to_pandas()
    assert table["gain.mean"].tolist() == [0.5, 1.0]
    assert api.Rows(()).to_pandas().empty


def test_scores_of_a_training_are_a_line_per_split_and_metric() -> None:
    trained = api.Trained({
        "selection": {"accuracy": {"mean": 0.5, "std": 0.1, "n": 2}},
        "report": {"accuracy": {"mean": 0.4, "std": 0.2, "n": 2}, "macro_f1": {"mean": 0.3, "std": 0.0, "n": 2}},
    })  # fmt: skip
    assert trained.to_pandas().to_dict("list")["metric"] == ["accuracy", "accuracy", "macro_f1"]
    assert trained.to_pandas()["mean"].tolist() == [0.5, 0.4, 0.3]


@pytest.mark.slow
def test_the_functions_give_what_the_commands_print(searched: tuple[Path, Path, str], ray_address: str) -> None:
    _, file, _ = searched
    again = api.search(file, address=ray_address)
    assert (again.computed, again.failures, again.unconfirmed) == (False, (), ())
    printed = json.loads(panda_tune_here("best", file, "--format", "json").stdout)
    assert json.loads(json.dumps(list(api.best(file).rows))) == printed
    assert again.to_pandas()["score.mean"].tolist() == [row["score"]["mean"] for row in printed]
    target = printed[0]["target"]
    ranked = api.retrieve(file, target, top=1, address=ray_address).to_pandas()
    assert ranked["rank"].tolist() == [1]
    analyzed = api.analyze(file)
    assert analyzed.page.is_file()
    assert analyzed.sentences
    assert set(analyzed.to_pandas()["target"]) == {row["target"] for row in printed}
    trained = api.train(printed[0]["config"])
    assert trained.to_pandas()["n"].min() >= 1

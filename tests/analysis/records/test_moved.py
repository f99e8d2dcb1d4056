"""A storage that was moved or copied keeps its artefacts beside its database."""

import shutil
from pathlib import Path

import pytest

from analysis.records.connection import client
from analysis.records.moved import follow


def uri(storage: Path) -> str:
    return f"sqlite:///{storage / 'mlflow.db'}"


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A storage with an experiment `e` whose run has an artefact."""
    folder = tmp_path / "old"
    (folder / "artifacts").mkdir(parents=True)
    store = client(uri(folder))
    experiment = store.create_experiment("e", artifact_location=(folder / "artifacts" / "e").as_uri())
    run = store.create_run(experiment).info.run_id
    (tmp_path / "before.txt").write_text("before")
    store.log_artifact(run, str(tmp_path / "before.txt"))
    return folder


@pytest.mark.parametrize("way", [shutil.move, shutil.copytree])
def test_artefacts_of_a_moved_or_copied_storage_are_its_own(storage: Path, tmp_path: Path, way: object) -> None:
    assert callable(way)
    way(str(storage), str(tmp_path / "new"))
    new = tmp_path / "new"
    store = client(uri(new))
    found = store.get_experiment_by_name("e")
    (run,) = store.search_runs([found.experiment_id])
    assert run.info.artifact_uri.startswith((new / "artifacts" / "e").as_uri())
    assert (Path(run.info.artifact_uri.removeprefix("file://")) / "before.txt").read_text() == "before"
    (tmp_path / "after.txt").write_text("after")
    store.log_artifact(store.create_run(found.experiment_id).info.run_id, str(tmp_path / "after.txt"))
    assert [path.is_relative_to(new) for path in tmp_path.rglob("*/artifacts/after.txt")] == [True]


def test_artefacts_elsewhere_are_left_there(storage: Path, tmp_path: Path) -> None:
    store = client(uri(storage))
    store.create_experiment("mine", artifact_location=(tmp_path / "mine").as_uri())
    follow(storage / "mlflow.db")
    assert client(uri(storage)).get_experiment_by_name("mine").artifact_location == (tmp_path / "mine").as_uri()


def test_what_is_no_database_is_left_to_mlflow(tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 100)
    follow(tmp_path / "mlflow.db")
    follow(tmp_path / "nowhere.db")
    assert (tmp_path / "mlflow.db").read_bytes() == b"no database" * 100

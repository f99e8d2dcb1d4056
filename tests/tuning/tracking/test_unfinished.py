"""A database of MLflow whose first making was cut short: made anew, and no other is touched."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from analysis.records.reader import client
from tuning.tracking.unfinished import set_unfinished_aside


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database that MLflow has made."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    client(f"sqlite:///{path}").search_experiments()
    return path.read_bytes()


def changed(path: Path, content: bytes, *statements: str) -> str:
    """A database with statements of sqlite run on it; its address."""
    path.write_bytes(content)
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()
    return f"sqlite:///{path}"


def test_a_half_made_database_is_set_aside_and_mlflow_makes_it_anew(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    uri = changed(path, whole, "UPDATE alembic_version SET version_num = '451aebb31d03'")
    (tmp_path / "mlflow.db-wal").write_bytes(b"")
    assert set_unfinished_aside(uri).startswith(
        f"{path} was left half made and holds no run; it is kept as mlflow.db.d"
    )
    assert sorted(each.name for each in tmp_path.iterdir()) == ["mlflow.db.damaged-1"]
    assert client(uri).search_experiments()
    assert set_unfinished_aside(uri) == ""


def test_an_empty_file_is_half_made(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    assert set_unfinished_aside(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_whole_database_and_one_with_a_run_and_what_is_none_stay(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    uri = changed(path, whole)
    assert set_unfinished_aside(uri) == ""
    run = client(uri).create_run("0").info.run_id
    old = changed(path, path.read_bytes(), "UPDATE alembic_version SET version_num = '451aebb31d03'")
    assert set_unfinished_aside(old) == ""
    assert run.encode() in path.read_bytes()
    path.write_bytes(b"no database at all")
    assert set_unfinished_aside(uri) == ""
    assert set_unfinished_aside(f"sqlite:///{tmp_path}/none.db") == ""
    assert set_unfinished_aside("http://host:5000") == ""

"""Why MLflow does not answer, in a few words."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from analysis.records.connection import is_away, reason_of


def test_a_database_that_cannot_be_written_is_told_in_its_own_words(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.touch()
    with (
        create_engine(f"sqlite:///file:{path}?mode=ro&uri=true").connect() as database,
        pytest.raises(OperationalError) as raised,
    ):
        database.execute(text("create table runs (id int)"))
    raised.value.add_detail("(raised as a result of Query-invoked autoflush)")  # as MLflow's own writing adds it
    assert is_away(raised.value)
    assert reason_of(raised.value) == "attempt to write a readonly database"
    wrapped = RuntimeError("a run was not written")
    wrapped.__cause__ = raised.value
    assert reason_of(wrapped) == "attempt to write a readonly database"

"""A store that was moved: MLflow keeps where artefacts lie as absolute paths, which then are those of before."""

import sqlite3
from pathlib import Path

ARTIFACTS = "artifacts"
"""Folder beside the database that holds a folder of artefacts per experiment."""


def follow(database: Path) -> None:
    """Lets experiments and runs of a database point at the artefacts that lie beside it, where they point elsewhere.

    Args:
        database: MLflow's SQLite file; one without artefacts of its own beside it is left as it is.
    """
    beside = database.absolute().parent / ARTIFACTS
    if not (database.is_file() and beside.is_dir()):
        return
    connection = sqlite3.connect(database)
    try:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone():
            return
        known = connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
        for (before,) in known:
            after = (beside / Path(before or "").name).as_uri()
            if before and before.startswith("file://") and before != after and (beside / Path(before).name).is_dir():
                _move(connection, before, after)
        connection.commit()
    except sqlite3.Error:  # no database, or another process writes: MLflow says what is wrong with it
        return
    finally:
        connection.close()


def _move(connection: sqlite3.Connection, before: str, after: str) -> None:
    connection.execute("UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?", (after, before))
    connection.execute(
        "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) WHERE substr(artifact_uri, 1, ?) = ?",
        (after, len(before) + 1, len(before) + 1, f"{before}/"),
    )

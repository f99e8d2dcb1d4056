"""MLflow's database in a storage, where its first making was cut short: it can neither be used nor mended."""

import sqlite3
from contextlib import closing
from pathlib import Path

from panda_trainable.library import set_aside

SQLITE = "sqlite:///"


def set_unfinished_aside(uri: str) -> str:
    """Sets aside a database that holds no run and not all of MLflow's tables, so that it is made anew.

    A full disk or a kill in the midst of MLflow's first migration leaves one, which MLflow refuses for ever.

    Args:
        uri: of MLflow; only files of sqlite are looked at.

    Returns:
        What was done; empty: nothing was wrong.
    """
    path = Path(uri.removeprefix(SQLITE))
    if not uri.startswith(SQLITE) or not path.is_file() or not _is_unfinished(path):
        return ""
    kept = set_aside(path)
    for ending in ("-journal", "-wal", "-shm"):  # of the old one: sqlite would apply them to the new
        path.with_name(f"{path.name}{ending}").unlink(missing_ok=True)
    return f"{path} was left half made and holds no run; it is kept as {kept.name} and made anew"


def _is_unfinished(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if "runs" in tables and database.execute("SELECT 1 FROM runs LIMIT 1").fetchone():
                return False
            told = database.execute("SELECT version_num FROM alembic_version") if "alembic_version" in tables else ()
            return [version for (version,) in told] != [_last_version()]
    except sqlite3.Error:
        return False  # no database, or in use: MLflow says what is wrong with it


def _last_version() -> str | None:
    """The version of all of MLflow's tables."""
    import mlflow
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations")).get_current_head()

"""Where a winner is: a folder, a pinned file, which is trained where it is not there yet, or a model of MLflow's registry."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuning.experiment.problems import Misuse, Problem

MODELS = "models:/"
TRACKING = "MLFLOW_TRACKING_URI"
USUAL_STORE = Path("runs") / "mlflow.db"
"""Where an experiment's records are that says nothing of them, beside its file."""

PINNED = (".yaml", ".yml")


@contextmanager
def winner_folder(where: str, tracking: str | None = None) -> Iterator[Path]:
    """The folder of a winner, there for as long as it is read.

    Args:
        where: a folder, a pinned file, or `models:/<name>@<alias>` or `models:/<name>/<version>`.
        tracking: MLflow's address for the latter; None: that of the environment, else the usual store.

    Raises:
        Misuse: if there is none.
    """
    if where.startswith(MODELS):
        with tempfile.TemporaryDirectory(prefix="panda-tune-") as folder:
            yield _registered(where, tracking or _usual_tracking(where), folder)
    elif Path(where).suffix.lower() in PINNED and not Path(where).is_dir():
        yield _pinned(Path(where))
    else:
        yield Path(where)


def _pinned(file: Path) -> Path:
    """The folder of a pinned file's winner, trained here where it is not there."""
    from panda_trainable.prediction.winner import CARD
    from tuning.experiment.loading import load
    from tuning.run.train import train, trained_folder

    experiment = load(file)
    folder = trained_folder(experiment)
    if not (folder / CARD).is_file():
        train(experiment)
    return folder


def _usual_tracking(where: str) -> str:
    if address := os.environ.get(TRACKING):
        return address
    if USUAL_STORE.is_file():
        return f"sqlite:///{USUAL_STORE.absolute()}"
    remedy = f"add --tracking with it, or set {TRACKING}"
    raise Misuse(Problem(where, f"MLflow's address is not known, and {USUAL_STORE} is not here", remedy=remedy))


def _registered(where: str, tracking: str, folder: str) -> Path:
    """A model of the registry, on disk.

    Raises:
        Misuse: if there is no such model, alias or version, or MLflow does not answer.
    """
    from analysis.records.address import cleaned, plain
    from analysis.records.connection import NoRecords, client, reason_of

    try:
        store = client(tracking, reads=True)
        version = _version(store, where)
        import mlflow

        source = store.get_model_version_download_uri(version.name, version.version)
        made = mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=folder, tracking_uri=plain(tracking))
    except NoRecords as error:
        raise Misuse(Problem(where, str(error))) from error
    except Misuse:
        raise
    except Exception as error:  # MLflow raises its own, requests' and SQLAlchemy's
        rule = f"is not to be had of MLflow at {cleaned(tracking)} ({reason_of(error)})"
        raise Misuse(Problem(where, rule, remedy="see its models in panda-tune ui")) from error
    return Path(made)


def _version(store: Any, where: str) -> Any:
    """The version of a model that is meant.

    Raises:
        Misuse: if it is none, with those that there are.
    """
    asked = where.removeprefix(MODELS)
    name, mark, alias = asked.partition("@")
    number = ""
    if not mark:
        name, _, number = asked.partition("/")
    if not name or not (alias or number):
        form = "write models:/<name>@champion, or models:/<name>/<version>"
        raise Misuse(Problem(where, "names no version of a model", remedy=form))
    models = {model.name: model for model in store.search_registered_models()}
    if name not in models:
        raise Misuse(Problem(where, "there is no such model", remedy=f"there are {', '.join(models) or 'none'}"))
    aliases, versions = models[name].aliases, [v.version for v in store.search_model_versions(f"name='{name}'")]
    if mark and alias not in aliases:
        raise Misuse(Problem(where, f"{name} has no alias {alias}", remedy=f"it has {', '.join(aliases) or 'none'}"))
    wanted = str(aliases[alias] if mark else number)
    if wanted not in map(str, versions):
        known = ", ".join(sorted(map(str, versions), key=int))
        raise Misuse(Problem(where, f"{name} has no version {wanted}", remedy=f"it has {known or 'none'}"))
    return store.get_model_version(name, wanted)

"""The connection to MLflow: nobody waits long for a server that does not answer, and nothing is sent twice."""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from analysis.records.address import cleaned, log_in
from analysis.records.moved import follow

ANSWERS_WITHIN_S = 5.0
"""Seconds in which a server or database must give its first answer to somebody who reads."""
REQUEST_S = "15"
"""Seconds for each later answer, where the user's environment says nothing else."""
PAGE = 250
"""Runs of an answer: one of a thousand takes a large store longer than that."""
REMEDY = "start it, or correct `tracking.uri`"
UNREACHABLE = (ConnectionError, TimeoutError, socket.gaierror)

T = TypeVar("T")


class NoRecords(Exception):
    """There is nothing to read: no such experiment, no finished study in it, or MLflow does not answer."""


class Away(NoRecords):
    """MLflow does not answer."""


class Deleted(NoRecords):
    """MLflow has marked the experiment as deleted: it takes no runs and shows none."""


def client(uri: str, reads: bool = False) -> Any:
    """MLflow's client of a store; mlflow is imported here, since that takes a second.

    Args:
        uri: of MLflow; its password is handed over beside it.
        reads: whether it is to answer now, and to have records.

    Raises:
        NoRecords: of one that reads, if there is no store.
        Away: of one that reads, if it does not answer.
    """
    _prepare()
    if uri.startswith("sqlite:"):
        path = Path(uri.removeprefix("sqlite:///"))
        if reads and not path.exists():
            raise NoRecords(f"{uri}: nothing recorded yet: run `panda-tune search` on the file first")
        follow(path)
    import mlflow

    address = log_in(uri)

    def store() -> Any:
        return mlflow.MlflowClient(tracking_uri=address, registry_uri=address)

    def answering_store() -> Any:
        found = store()
        found.search_experiments(max_results=1)
        return found

    if not reads:
        return store()
    with answering(uri, "does not answer"):
        return store() if uri.startswith("sqlite:") else within(ANSWERS_WITHIN_S, answering_store)


def _prepare() -> None:
    """A request is sent once, since a server may have done what it did not answer; and only we tell of failures."""
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", REQUEST_S)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout is the answer, and ours
    for name in ("mlflow", "alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def within(seconds: float, action: Callable[[], T]) -> T:
    """What an action gives, which is left behind in its thread where it takes longer.

    Raises:
        TimeoutError: if it does.
    """
    done: list[T] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            done.append(action())
        except Exception as error:  # noqa: BLE001  # raised below, in the thread of whoever waits
            failed.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    for error in failed:
        raise error
    if not done:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return done[0]


@contextmanager
def answering(uri: str, what: str) -> Iterator[None]:
    """Turns whatever a store or its artifacts fail with into a message.

    Raises:
        NoRecords: `what` is what MLflow does.
        Away: the same, where nothing answers.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:  # the last: a database's driver
        kind = Away if not uri.startswith("sqlite:") and is_away(error) else NoRecords
        remedy = f": {REMEDY}" if kind is Away else ""
        raise kind(f"MLflow at {cleaned(uri)} {what} ({reason_of(error)}){remedy}") from error


def experiment_of(store: Any, experiment: str) -> Any:
    """An experiment as MLflow has it; None where there is none of that name.

    Raises:
        Deleted: if somebody has deleted it, with what to do.
    """
    found = store.get_experiment_by_name(experiment)
    if found is not None and found.lifecycle_stage == "deleted":
        raise Deleted(
            f"MLflow experiment {experiment!r} at {cleaned(store.tracking_uri)} is deleted; restore it "
            f"(MLFLOW_TRACKING_URI={cleaned(store.tracking_uri)} mlflow experiments restore --experiment-id {found.experiment_id}), "
            "or give the file another `name`"
        )
    return found


def runs(store: Any, experiment: str, condition: str = "") -> Iterator[Any]:
    """All runs of an experiment that meet a condition, page by page.

    Raises:
        NoRecords: if there is no such experiment, or it is deleted.
    """
    found = experiment_of(store, experiment)
    if found is None:
        raise NoRecords(f"MLflow has no experiment {experiment!r} yet: run `panda-tune search` on its file first")
    token: str | None = None
    while True:
        page = store.search_runs([found.experiment_id], condition, max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what led to it, its own cause first: of one of Ray's, what happened on the other node."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [
            getattr(one, "cause", None),
            one.__cause__,
            one.__context__,
            getattr(one, "reason", None),
            *one.args,
        ]


def is_away(error: BaseException) -> bool:
    """Whether an error says that nobody answered, and not that somebody refused."""
    import requests
    from sqlalchemy.exc import OperationalError

    kinds = (*UNREACHABLE, OperationalError, requests.exceptions.ConnectionError, requests.exceptions.Timeout)
    return any(isinstance(one, kinds) for one in causes(error))


def reason_of(error: BaseException) -> str:
    """Why something failed, in a few words without passwords: the system's where it has some, else its first line."""
    for one in causes(error):
        if isinstance(one, OSError) and one.strerror and one.errno:
            return one.strerror
        if isinstance(one, TimeoutError) or "Timeout" in type(one).__name__:
            return str(one) if str(one).startswith("no answer") else "no answer in time"
        if isinstance(one, ConnectionError) and not one.args[1:]:
            return "the connection was closed without an answer"
        if isinstance(driver := getattr(one, "orig", None), Exception):  # SQLAlchemy's own words are about itself
            return cleaned(_first_line(driver))
    return cleaned(_first_line(error))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__

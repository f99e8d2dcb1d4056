"""MLflow's web page on the results of an experiment, on localhost."""

import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from tuning.experiment.problems import Misuse, Problem

HOST = "127.0.0.1"


def serve(store: Path, port: int) -> NoReturn:
    """Becomes MLflow's server on a store of sqlite.

    Raises:
        Misuse: if nothing is recorded yet, or the port is taken.
    """
    if not store.exists():
        raise Misuse(Problem(str(store), "nothing is recorded yet", remedy="run panda-tune search on the file first"))
    check_port(port)
    print(f"http://{HOST}:{port} (end with Ctrl-C)", flush=True)  # noqa: T201  # the answer, before this process is another
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    options = ["--backend-store-uri", f"sqlite:///{store}", "--host", HOST, "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui", *options])  # noqa: S606  # our own interpreter; no shell is wanted


def check_port(port: int) -> None:
    """Refuses a port that MLflow could not listen to.

    Raises:
        Misuse: with why.
    """
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what an ended server leaves behind is no obstacle
        try:
            tried.bind((HOST, port))
        except OSError as error:
            rule = f"cannot be used on this machine ({error.strerror})"
            remedy = f"name another, or open http://{HOST}:{port} if that is the page you look for"
            raise Misuse(Problem(f"--port {port}", rule, remedy=remedy)) from error

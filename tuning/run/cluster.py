"""Connects to Ray: the cluster's nodes get our four packages, and its chatter stays off."""

import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuning.experiment.experiment import Experiment
from tuning.experiment.problems import Misuse, Problem

PACKAGES = ("panda_trainable", "search_spaces", "tuning", "analysis")
QUIET = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # paths stay what they are
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune's own tells interrupted trials as ended; ours run again
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # the journals are the state; Tune's snapshot is not used
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "1",  # a suggestion waits until there is room for it
}


ANSWERS_WITHIN_S = 5
"""Seconds in which a cluster's head node takes a connection."""


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """A connection to Ray for the time of a block; one that this process already has is used, and left open.

    Args:
        address: None starts Ray on this machine; `auto` or `host:port` joins a running cluster.

    Raises:
        Misuse: for a `ray://` address, a cluster that cannot be reached, or another than this process is connected to.
    """
    import ray

    check_address(address)
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    if ray.is_initialized():
        _check_connection(address)
        yield
        return
    staged = Path(tempfile.mkdtemp(prefix="panda-tune-"))
    try:
        _stage(staged)
        with _own_signals():
            ray.init(
                address=address or "local", log_to_driver=False,
                logging_level=logging.ERROR, include_dashboard=False if address is None else None,
                runtime_env={"working_dir": str(staged), "env_vars": {"TOKENIZERS_PARALLELISM": "false", **_passed_on()}},
            )  # fmt: skip
    except BaseException as error:
        shutil.rmtree(staged, ignore_errors=True)
        if not isinstance(error, ConnectionError | ValueError | RuntimeError):
            ray.shutdown()  # stopped in the midst of it
            raise
        raise Misuse(
            Problem(
                f"--address {address or 'of this machine'}", f"no Ray cluster: {error}",
                remedy="start one (ray start --head) or correct the address" if address else "",
            )
        ) from error  # fmt: skip
    try:
        logging.getLogger("ray").setLevel(logging.ERROR)
        logging.getLogger("ray.tune").setLevel(logging.ERROR)
        yield
    finally:
        session = None if address else _session_folder()
        ray.shutdown()
        shutil.rmtree(staged, ignore_errors=True)
        if session:
            _remove_session(session)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keeps this process's handlers of signals: Ray puts its own in their place, which ends it in the midst of things."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in kept.items():
                signal.signal(number, handler)


def _session_folder() -> Path | None:
    """Where the Ray that this process started keeps its logs and sockets."""
    from ray._private.worker import _global_node

    return Path(_global_node.get_session_dir_path()) if _global_node else None


def _remove_session(folder: Path) -> None:
    """Removes the folder of a Ray that has ended, and the link that names it the latest."""
    shutil.rmtree(folder, ignore_errors=True)
    latest = folder.with_name("session_latest")
    if latest.is_symlink() and not latest.exists():
        latest.unlink(missing_ok=True)


def check_address(address: str | None) -> None:
    """Refuses addresses of Ray's client, and those where nothing answers, which Ray would try for minutes.

    Raises:
        Misuse: with the reason.
    """
    if address and address.startswith("ray://"):
        rule = "ray:// runs the search in a process away from your files and journals"
        remedy = "run the command on a node of the cluster with --address auto, or through `ray job submit`"
        raise Misuse(Problem(f"--address {address}", rule, remedy=remedy))
    ray = sys.modules.get("ray")
    if address in (None, "auto", "local") or (ray and ray.is_initialized()):
        return
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 2**16):
        rule = f"an address is auto or host:port, such as 10.0.0.5:6379, got {address!r}"
        raise Misuse(Problem("--address", rule, remedy="give that of `ray start --head`"))
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS_WITHIN_S).close()
    except (OSError, UnicodeError) as error:
        rule = f"no Ray cluster: nothing answers there ({getattr(error, 'strerror', None) or error})"
        raise Misuse(
            Problem(f"--address {address}", rule, remedy="start one (ray start --head) or correct the address")
        ) from error


def _check_connection(address: str | None) -> None:
    """Refuses to search on one cluster where another was asked for."""
    import ray

    connected_to = ray.get_runtime_context().gcs_address
    if address not in (None, "auto", connected_to):
        rule, remedy = (
            f"this process is connected to {connected_to}",
            "leave the address out, or call ray.shutdown() before",
        )
        raise Misuse(Problem(f"--address {address}", rule, remedy=remedy))


def _passed_on() -> dict[str, str]:
    return {name: os.environ[name] for name in ("HF_HUB_OFFLINE", "HF_HOME") if name in os.environ}


def _stage(folder: Path) -> None:
    """Copies the four packages into a working directory of our own.

    A user's folder that happens to be called `analysis` must not shadow ours on the workers.
    """
    here = Path(__file__).resolve().parents[2]
    for package in PACKAGES:
        shutil.copytree(here / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))


def resources(experiment: Experiment) -> dict[str, float]:
    """CPUs and GPUs of one trial: `auto` asks for a GPU where the cluster has some.

    Raises:
        Misuse: if no node could ever run a trial, which Ray would wait for in silence.
    """
    import ray

    total = ray.cluster_resources()
    if experiment.resources == "auto":
        asked = {"cpu": 1.0, "gpu": 1.0 if total.get("GPU", 0) >= 1 else 0.0}
    else:
        asked = {"cpu": experiment.resources.cpu, "gpu": experiment.resources.gpu}
    for name, amount in asked.items():
        largest = max(node["Resources"].get(name.upper(), 0.0) for node in ray.nodes() if node["Alive"])
        if amount > largest:
            rule = f"a trial asks for {amount:g}, but the largest node has {largest:g}"
            raise Misuse(Problem(f"resources.{name}", rule, remedy="ask for less"))
    return asked


def slots(asked: dict[str, float]) -> int:
    """Trials that fit the cluster at once."""
    import ray

    total = ray.cluster_resources()
    return max(1, int(min(total.get(name.upper(), 0) / amount for name, amount in asked.items() if amount > 0)))


def run_all(
    function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], asked: dict[str, float],
    done: Callable[[int, Any], None],
) -> list[tuple[int, str]]:  # fmt: skip
    """Runs a function of ours for each call as Ray tasks, in parallel.

    Args:
        function: of a module of the four packages.
        calls: arguments of each call.
        asked: CPUs and GPUs of a call.
        done: told the number and the result of each call as it ends.

    Returns:
        The number and the reason of each call that failed.
    """
    import ray

    remote = ray.remote(num_cpus=asked["cpu"], num_gpus=asked["gpu"], max_retries=2)(function)
    waiting = {remote.remote(*arguments): number for number, arguments in enumerate(calls)}
    failed = []
    while waiting:
        ready, _ = ray.wait(list(waiting), num_returns=1)
        for reference in ready:
            number = waiting.pop(reference)
            try:
                done(number, ray.get(reference))
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None) or error
                failed.append((number, f"{type(cause).__name__}: {cause}".splitlines()[0]))
    return failed

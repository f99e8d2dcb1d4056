"""Connects to Ray: the cluster's nodes get our four packages, and its chatter stays off."""

import logging
import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tuning.cluster.access import check_access, private
from tuning.cluster.address import check_address
from tuning.cluster.staging import passed_on, stage
from tuning.experiment.problems import Misuse, Problem

QUIET = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # paths stay what they are
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",  # a Ray job's working directory is its driver's alone
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune's own tells interrupted trials as ended; ours run again
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # the journals are the state; Tune's snapshot is not used
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",  # the searcher suggests as many as there is room for: they start together
}

START = "start one (ray start --head) or correct the address"


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """A connection to Ray for the time of a block; one that this process already has is used, and left open.

    Args:
        address: None starts Ray on this machine; `auto` or `host:port` joins a running cluster.

    Raises:
        Misuse: for a `ray://` address, a cluster that cannot be reached, or another than this process is connected to.
    """
    import ray
    from ray._private import ray_logging

    check_address(address)
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    if ray.is_initialized():
        _check_connection(address)
        yield
        return
    with ExitStack() as stack:
        folder = tempfile.TemporaryDirectory(prefix="panda-tune-", ignore_cleanup_errors=True)
        staged = Path(stack.enter_context(folder))
        stage(staged)
        if address in (None, "local"):
            stack.enter_context(private())
        else:
            check_access(_head_of(address), f"--address {address}")
        stack.callback(_end, is_ours=address in (None, "local"))
        with _own_signals():
            _connect(address, staged)
        ray_logging.stdout_deduplicator.skip_re = re.compile("")  # what raylets tell of lost processes, on stdout
        logging.getLogger("ray").setLevel(logging.ERROR)
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial's lost process is told by our own callback
        yield


def _end(*, is_ours: bool) -> None:
    """Leaves Ray; of one that this process started nothing stays in the temporary folder."""
    import ray

    session = session_folder() if is_ours else None
    ray.shutdown()
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


def session_folder() -> Path | None:
    """Where the Ray that this process started keeps its logs and sockets."""
    from ray._private.worker import _global_node

    return Path(_global_node.get_session_dir_path()) if _global_node else None


def _remove_session(folder: Path) -> None:
    """Removes the folder of a Ray that has ended, and the link that names it the latest."""
    shutil.rmtree(folder, ignore_errors=True)
    latest = folder.with_name("session_latest")
    if latest.is_symlink() and not latest.exists():
        latest.unlink(missing_ok=True)


def _head_of(address: str) -> str:
    """host:port of the head node that an address means.

    Raises:
        Misuse: if `auto` finds none.
    """
    from ray._private.services import canonicalize_bootstrap_address

    try:
        return str(canonicalize_bootstrap_address(address))
    except (ConnectionError, ValueError, OSError) as error:
        rule = "no Ray runs on this machine, and RAY_ADDRESS names none" if address == "auto" else f"no Ray: {error}"
        raise Misuse(Problem(f"--address {address}", rule, remedy=START)) from error


def _connect(address: str | None, staged: Path) -> None:
    """Starts or joins a Ray whose workers get a staged folder.

    Raises:
        Misuse: if that fails.
    """
    import ray

    try:
        ray.init(
            address=address or "local", log_to_driver=False,
            logging_level=logging.ERROR, include_dashboard=False if address is None else None,
            runtime_env={"working_dir": str(staged), "env_vars": {"TOKENIZERS_PARALLELISM": "false", **passed_on()}},
        )  # fmt: skip
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.AuthenticationError) as error:
        place = f"--address {address or 'of this machine'}"
        raise Misuse(Problem(place, f"no Ray cluster: {error}", remedy=START if address else "")) from error


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

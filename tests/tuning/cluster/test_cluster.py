"""A cluster of two real raylets, a decoy package beside the experiment, and a driver that is killed."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from analysis.records import reader as records
from tests.kits.command import COMMAND, experiment_file, panda_tune, panda_tune_here
from tests.tuning.run.test_search import runs_by_stage, statuses
from tuning.engine.journal import Journal

pytestmark = pytest.mark.slow


@pytest.fixture
def other_node(ray_cluster: Any) -> Iterator[str]:
    """The id of a second node, while the first, which is the driver's, has no processor left."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    class Occupant:
        def node(self) -> str:
            return str(ray.get_runtime_context().get_node_id())

    head = ray.get_runtime_context().get_node_id()
    occupant = ray.remote(num_cpus=1, scheduling_strategy=NodeAffinitySchedulingStrategy(head, soft=False))(Occupant)
    holder = occupant.remote()
    assert ray.get(holder.node.remote()) == head
    node = ray_cluster.add_node(num_cpus=1)
    yield node.node_id
    ray.kill(holder)
    ray_cluster.remove_node(node)


def test_a_search_runs_on_another_node_and_meets_no_decoy_of_the_users_folder(
    tmp_path: Path, plms: Callable[[str], Path], ray_address: str, other_node: str
) -> None:
    for package in ("analysis", "panda_trainable"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(
            "raise RuntimeError('the decoy was imported')", encoding="utf-8"
        )
    file = experiment_file(tmp_path, plms("bert"), methods=["spot"], search={"trials": 1}, sources=["s1"])
    panda_tune("search", file, "--address", ray_address, cwd=tmp_path)
    store = records.client(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    nodes = {run.data.tags["node"].split("/")[1] for run in records.runs(store, "small", "tags.stage = 'trial'")}
    assert len(nodes) == 1
    assert other_node.startswith(*nodes)


def test_rays_client_is_refused_with_the_reason(tmp_path: Path, plms: Callable[[str], Path]) -> None:
    file = experiment_file(tmp_path, plms("bert"))
    done = panda_tune_here("search", file, "--address", "ray://head:10001", code=2)
    assert "ray job submit" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_resources_that_no_node_has_are_refused(tmp_path: Path, plms: Callable[[str], Path], ray_address: str) -> None:
    file = experiment_file(tmp_path, plms("bert"), resources={"cpu": 4096})
    done = panda_tune_here("search", file, "--address", ray_address, code=2)
    assert "the largest node has" in done.stderr


def test_a_search_waits_for_nodes_as_long_as_it_is_told_and_says_so(
    tmp_path: Path, plms: Callable[[str], Path], ray_address: str
) -> None:
    file = experiment_file(tmp_path, plms("bert"), resources={"cpu": 4096})
    done = panda_tune_here("search", file, "--address", ray_address, "--wait-for-nodes", "2", code=2)
    assert "waiting up to 2 s for a node that fits a trial" in done.stderr
    assert "a trial asks for 4096, but the largest node has 1 after 2 s" in done.stderr
    done = panda_tune_here("search", file, "--wait-for-nodes", "2", code=2)
    assert "there are no nodes to wait for on this machine alone; add --address" in done.stderr


def test_another_cluster_than_the_connected_one_is_refused(
    tmp_path: Path, plms: Callable[[str], Path], ray_address: str
) -> None:
    file = experiment_file(tmp_path, plms("bert"))
    done = panda_tune_here("search", file, "--address", "192.0.2.77:6379", code=2)
    assert f"this process is connected to {ray_address}" in done.stderr


def journals(folder: Path) -> dict[str, list[Any]]:
    """Every trial of every study: state, parameters, value and curve."""
    paths = sorted((folder / "runs/searches/small/studies").glob("*.journal"))
    return {
        path.stem: [
            (t.number, t.state.name, t.params, t.value, t.intermediate_values) for t in Journal(path.stem, path).trials
        ]
        for path in paths
    }


def interrupted(file: Path, folder: Path, trials: int, by: signal.Signals) -> int:
    """Starts a search and ends it by a signal when so many trials are complete; its exit code."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    hears = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a background job inherits deafness to it
    one_slot = f"resources.cpu={os.cpu_count()}"  # as the Ray of all tests has, where the search goes on
    driver = subprocess.Popen(
        [COMMAND, "search", file, "-o", one_slot], start_new_session=True, preexec_fn=hears, **quiet
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and driver.poll() is None:
        if sum(state == "COMPLETE" for told in journals(folder).values() for _, state, *_ in told) >= trials:
            break
        time.sleep(0.05)
    assert driver.poll() is None, "the search ended before it could be interrupted"
    if by == signal.SIGKILL:
        os.killpg(driver.pid, by)  # and all of Ray with it
    else:
        driver.send_signal(by)
    return driver.wait(timeout=120)


def test_a_search_resumed_after_ctrl_c_and_after_a_kill_is_the_search(
    tmp_path: Path, plms: Callable[[str], Path], ray_address: str
) -> None:
    settings = {"search": {"trials": 4}, "methods": ["panda"], "sources": ["s1"]}
    files = {name: tmp_path / name for name in ("killed", "whole")}
    for folder in files.values():
        folder.mkdir()
    whole = experiment_file(files["whole"], plms("bert"), **settings)
    killed = experiment_file(files["killed"], plms("bert"), **settings)
    panda_tune_here("search", whole, "--address", ray_address)
    assert interrupted(killed, files["killed"], 1, signal.SIGINT) == 130
    assert "RUNNING" not in statuses(files["killed"])
    assert interrupted(killed, files["killed"], 4, signal.SIGKILL) == -signal.SIGKILL
    panda_tune_here("search", killed, "--address", ray_address)
    assert journals(files["killed"]) == journals(files["whole"])
    assert runs_by_stage(files["killed"]) == runs_by_stage(files["whole"])
    assert statuses(files["killed"]) == {"FINISHED"}

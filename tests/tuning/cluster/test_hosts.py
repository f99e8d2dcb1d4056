"""A head and two workers with addresses of their own: one worker is cut off in the midst of a search, and comes back."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kits import hosts as kit
from tests.kits.clusters import ray_node, wait_for, wait_for_nodes
from tests.kits.command import COMMAND, experiment_file
from tests.kits.processes import TRIAL, process_below, stopped
from tests.tuning.cluster.test_cluster import journals
from tests.tuning.run.test_search import statuses

pytestmark = [
    pytest.mark.slow,
    pytest.mark.faults,
    pytest.mark.skipif(not kit.can_be_made(), reason="needs the right to make network namespaces (root), and iproute2"),
]
PORT = 6390
TRIALS = 12
NOTICES = json.dumps(
    {"health_check_period_ms": 1000, "health_check_timeout_ms": 3000, "health_check_failure_threshold": 5}
)
"""Ray takes a node for dead after half a minute of silence: it would be more."""


def told_by(folder: Path) -> list[str]:
    """The node of each result, as the journals have it: text, since they are written meanwhile."""
    texts = (path.read_text() for path in (folder / "runs/searches/small/studies").glob("*.journal"))
    return [node for text in texts for node in re.findall(r'"node\\*": *\\*"([^"\\]+)', text)]


def wait_until(holds: Callable[[], bool], seconds: float, driver: "subprocess.Popen[str]") -> None:
    """Waits for something while the driver runs."""
    until = time.monotonic() + seconds
    while not holds():
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < until
        time.sleep(0.2)


def test_a_search_over_hosts_loses_nothing_where_one_is_cut_off_and_comes_back(
    tmp_path: Path, plms: Callable[[str], Path]
) -> None:
    train = {"steps": 600, "batch_size": 4, "max_length": 16, "eval_every": 200, "seeds": [0, 1]}
    file = experiment_file(
        tmp_path, plms("bert"), methods=["spot"], sources=["s1"], train=train,
        search={"trials": TRIALS, "scheduler": "none"}, resources={"cpu": 1},
    )  # fmt: skip
    with ExitStack() as stack:
        head, steady, cut = stack.enter_context(kit.hosts(3))

        def join(inside: tuple[str, ...], host: kit.Host, *arguments: str) -> int:
            return stack.enter_context(ray_node(f"--node-ip-address={host.address}", *arguments, inside=inside)).pid

        address = f"{head.address}:{PORT}"
        join(
            head.inside,
            head,
            "--head",
            f"--port={PORT}",
            "--num-cpus=0",
            "--include-dashboard=false",
            f"--system-config={NOTICES}",
        )
        wait_for(head.address, PORT, head.inside)
        keeps_on = join(steady.alone, steady, f"--address={address}", "--num-cpus=1")
        join(cut.alone, cut, f"--address={address}", "--num-cpus=1")
        wait_for_nodes(address, 3, head.inside)
        driver = subprocess.Popen(
            [*head.inside, str(COMMAND), "search", str(file), "--address", address, "--wait-for-nodes", "120"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "RAY_worker_niceness": "0"},
        )  # fmt: skip
        stack.callback(driver.kill)
        wait_until(lambda: len(set(told_by(tmp_path))) == 2, 300, driver)
        cut.cut_off()
        told = len(told_by(tmp_path))
        wait_until(lambda: len(told_by(tmp_path)) > told + 2, 300, driver)  # two may have been on their way
        # However fast the steady one is, there is work left when the other is back.
        with stopped(process_below(keeps_on, *TRIAL)):
            time.sleep(25)  # longer than Ray waits
            cut.join()
            # Ray takes no node twice: what was cut off ends itself, and is started anew.
            wait_until(lambda: len(set(told_by(tmp_path))) == 3, 300, driver)
        out, err = driver.communicate(timeout=400)
    assert driver.returncode == 0, out + err
    ended = journals(tmp_path)
    assert {key: len(trials) for key, trials in ended.items()} == dict.fromkeys(ended, TRIALS)
    assert {state for trials in ended.values() for _, state, *_ in trials} == {"COMPLETE"}
    assert "RUNNING" not in statuses(tmp_path)

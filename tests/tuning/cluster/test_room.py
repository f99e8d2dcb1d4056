"""How many trials fit a cluster whose nodes come and go, and that one which grows does so for a search."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kits.clusters import free_port, ray_node, wait_for
from tuning.cluster import resources
from tuning.cluster.resources import slots

NODE = f"{0:05}".rjust(56, "f")
"""The head's id, as Ray's imitation of a cloud wants it."""

MOST = 2
LOOKS = """
import sys, time
from tuning.cluster.connection import connected
from tuning.cluster.room import Room
with connected(sys.argv[1]):
    room = Room({"cpu": 1.0, "gpu": 0.0}, is_ours=False)
    until = time.monotonic() + 120
    seen = [room.look(int(sys.argv[2]))]
    while seen[-1] < int(sys.argv[2]) and time.monotonic() < until:
        time.sleep(0.5)
        seen.append(room.look(int(sys.argv[2])))
    room.close()
    print(seen[0], seen[-1])
"""


@pytest.mark.parametrize(
    ("cpus", "gpus", "asked", "fit"),
    [
        ((4.0, 2.0), (0.0, 0.0), {"cpu": 1.0, "gpu": 0.0}, 6),
        ((1.5, 1.5), (0.0, 0.0), {"cpu": 1.0, "gpu": 0.0}, 2),  # together they would fit three
        ((0.6,), (0.0,), {"cpu": 0.2, "gpu": 0.0}, 3),  # 0.6 / 0.2 is a little below 3
        ((16.0, 16.0), (4.0, 0.0), {"cpu": 2.0, "gpu": 0.5}, 8),
        ((1.0,), (0.0,), {"cpu": 2.0, "gpu": 0.0}, 1),  # which waits for a node
        ((), (), {"cpu": 1.0, "gpu": 0.0}, 1),
    ],
)
def test_trials_fit_nodes_and_not_their_sum(
    cpus: tuple[float, ...], gpus: tuple[float, ...], asked: dict[str, float], fit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = [{"Resources": {"CPU": c, "GPU": g}} for c, g in zip(cpus, gpus, strict=True)]
    monkeypatch.setattr(resources, "nodes", lambda: told)
    assert slots(asked) == fit


def cloud(port: int) -> dict[str, Any]:
    """A cluster that grows by processes of this machine, up to two workers of one CPU."""
    return {
        "cluster_name": "grows", "max_workers": MOST, "upscaling_speed": 1.0, "idle_timeout_minutes": 5,
        "provider": {
            "type": "fake_multinode", "gcs_address": f"127.0.0.1:{port}", "head_node_id": NODE, "launch_multiple": True,
            "disable_node_updaters": True, "disable_launch_config_check": True,
        },
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": MOST},
        },
        **{key: {} for key in ("auth", "docker", "file_mounts")}, "cluster_synced_files": [], "rsync_exclude": [],
        "rsync_filter": [], "file_mounts_sync_continuously": False, "initialization_commands": [],
        **{f"{who}setup_commands": [] for who in ("", "head_", "worker_")},
        **{f"{who}_start_ray_commands": [] for who in ("head", "worker")},
    }  # fmt: skip


@pytest.mark.slow
def test_a_cluster_that_grows_is_asked_for_nodes_and_they_are_used(tmp_path: Path) -> None:
    port = free_port()
    file = tmp_path / "cluster.json"
    file.write_text(json.dumps(cloud(port)), encoding="utf-8")
    head = ("--head", f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=0", "--include-dashboard=false")
    names = {"RAY_FAKE_CLUSTER": "1", "RAY_OVERRIDE_NODE_ID_FOR_TESTING": NODE, "RAY_CLOUD_INSTANCE_ID": NODE}
    with ray_node(*head, f"--autoscaling-config={file}", AUTOSCALER_UPDATE_INTERVAL_S="1", **names):
        wait_for("127.0.0.1", port)
        looked = subprocess.run(
            [sys.executable, "-c", LOOKS, f"127.0.0.1:{port}", str(MOST)],
            capture_output=True, text=True, check=False, env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        )  # fmt: skip
    assert looked.returncode == 0, looked.stderr
    assert looked.stdout.split()[-2:] == ["1", str(MOST)]

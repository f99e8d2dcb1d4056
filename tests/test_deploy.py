"""The files in deploy/ are what their platforms take, as far as that shows without them."""

import json
import os
import shutil
import signal
import stat
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

DEPLOY = Path(__file__).parent.parent / "deploy"
SEARCHES = "panda-tune search"


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", sorted(DEPLOY.iterdir()), ids=lambda file: file.name)
def test_the_lines_to_change_are_told_at_the_top(file: Path) -> None:
    assert "Change these lines:" in "".join(file.read_text(encoding="utf-8").splitlines(keepends=True)[:9])


def test_ray_takes_the_cluster_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    given = read("ray-cluster.yaml")
    jsonschema.validate(given, json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text()))
    validate_config(prepare_config(given))
    assert given["head_node_type"] in given["available_node_types"]
    assert all("RAY_AUTH_MODE=token" in given[f"{node}_start_ray_commands"][-1] for node in ("head", "worker"))


def test_the_ray_job_has_what_kuberay_needs() -> None:
    job = read("kuberay-rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"]["entrypoint"].startswith(SEARCHES)
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"].rsplit(".", 1)[0] == ray.__version__.rsplit(".", 1)[0]
    assert cluster["authOptions"] == {"mode": "token"}
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for each in pod["containers"] for mount in each["volumeMounts"]} == volumes
        assert all({"name", "image", "resources"} <= set(each) for each in pod["containers"])
    images = {each["image"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
              for each in group["template"]["spec"]["containers"]}  # fmt: skip
    assert len(images) == 1


def test_the_batch_file_is_shell() -> None:
    subprocess.run(["bash", "-n", DEPLOY / "slurm.sbatch"], check=True)
    if shellcheck := shutil.which("shellcheck"):
        subprocess.run([shellcheck, DEPLOY / "slurm.sbatch"], check=True)


SLURM = {
    "scontrol": 'if [ "$1" = show ]; then echo here; sleep 0.2; echo there; else echo "$@" >> "$SAID"; fi',
    "srun": 'case "$*" in *--ip-address*) echo 127.0.0.1;; *) echo "$@" >> "$SAID"; exec sleep 60;; esac',
    "panda-tune": 'trap \'echo stopping >> "$SAID"; exit 143\' TERM; echo "$@" >> "$SAID"; '
    'kill -TERM "$PPID"; while :; do sleep 0.1; done',
    "seq": "echo 1",
}
"""Commands of Slurm, and a search that is told to end at once."""


def test_a_batch_job_that_is_told_to_end_ends_its_search_in_good_order_and_is_queued_again(tmp_path: Path) -> None:
    for name, does in SLURM.items():
        file = tmp_path / name
        file.write_text(f"#!/bin/bash\n{does}\n", encoding="utf-8")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    script = (DEPLOY / "slurm.sbatch").read_text(encoding="utf-8")
    job = tmp_path / "job.sbatch"
    job.write_text(script.replace("source .venv/bin/activate", "true").replace("sleep 10", "true"), encoding="utf-8")
    said = tmp_path / "said"
    environment = {
        **os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SAID": str(said), "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "here,there", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "4",
    }  # fmt: skip
    batch = subprocess.Popen(
        ["bash", job, "experiment.yaml"], env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        code = batch.wait(timeout=60)
    finally:
        with suppress(ProcessLookupError):  # all of them have ended
            os.killpg(batch.pid, signal.SIGKILL)  # as Slurm ends the steps of a job
    lines = said.read_text(encoding="utf-8").splitlines()
    assert code == 143
    assert lines[-2:] == ["stopping", "requeue 7"]
    assert "search experiment.yaml --address 127.0.0.1:20007 --wait-for-nodes 300" in lines
    assert any("--head" in line for line in lines)
    assert any("--exclude=here" in line and "--address=127.0.0.1:20007" in line for line in lines)

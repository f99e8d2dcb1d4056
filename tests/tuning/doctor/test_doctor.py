"""The doctor on a cluster of two real nodes, one of which is broken, and what a search makes of it."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kits.clusters import head_node, ray_node, wait_for_nodes
from tests.kits.command import experiment_file, panda_tune

pytestmark = [
    pytest.mark.slow,
    pytest.mark.faults,
    pytest.mark.skipif(
        subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0,
        reason="needs the right to make mount namespaces (root)",
    ),
]
HIDES = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"')
"""Runs a command for which a folder is another one, empty."""


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, plms: Callable[[str], Path]) -> Iterator[tuple[Path, str]]:
    """An experiment, and the address of a cluster whose second node has another storage and another transformers."""
    folder = tmp_path_factory.mktemp("broken")
    file = experiment_file(folder, plms("bert"), methods=["spot"], sources=["s1"], search={"trials": 1})
    (folder / "runs").mkdir()
    other = folder / "site" / "transformers-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 0.0.1\n")
    path = os.pathsep.join(filter(None, (str(other.parent), os.environ.get("PYTHONPATH"))))
    with (
        head_node(cpus=1) as address,
        ray_node(f"--address={address}", "--num-cpus=1", inside=(*HIDES, str(folder / "runs")), PYTHONPATH=path),
    ):
        wait_for_nodes(address, 2)
        yield file, address


def states(findings: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Place -> check -> state."""
    places: dict[str, dict[str, str]] = {}
    for finding in findings:
        places.setdefault(finding["node"], {})[finding["check"]] = finding["state"]
    return places


def test_the_doctor_names_the_broken_node_and_what_to_do(broken: tuple[Path, str]) -> None:
    file, address = broken
    done = panda_tune("doctor", file, "--address", address, "--format", "json", code=1)
    findings = json.loads(done.stdout)
    failed = [finding for finding in findings if finding["state"] == "failed"]
    assert {finding["check"] for finding in failed} == {"versions", "storage"}, failed
    assert len({finding["node"] for finding in failed}) == 1
    said = {finding["check"]: finding for finding in failed}
    assert said["versions"]["found"].startswith("transformers 0.0.1, here ")
    assert said["storage"]["found"] == f"{file.parent / 'runs'} is another folder than the driver's"
    assert "mount the same folder" in said["storage"]["remedy"]
    assert len(states(findings)) == 4  # driver, two nodes, one worker
    assert set(states(findings)["driver"].values()) == {"ok"}
    assert [path.name for path in (file.parent / "runs").glob(".doctor-*")] == []


def test_a_search_does_not_start_where_a_node_has_another_storage(broken: tuple[Path, str]) -> None:
    file, address = broken
    done = panda_tune("search", file, "--address", address, code=2)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("node ")]
    assert "storage:" in line
    assert "is another folder than the driver's; mount the same folder" in line
    assert "Traceback" not in done.stderr
    assert not list((file.parent / "runs").glob("searches/small/studies/*.journal"))


def test_a_cluster_that_cannot_be_reached_is_a_row_of_the_table(tmp_path: Path, plms: Callable[[str], Path]) -> None:
    file = experiment_file(
        tmp_path, plms("bert"), methods=["spot"], sources=["s1"], tracking={"uri": "http://127.0.0.1:1"}
    )
    done = panda_tune("doctor", file, "--address", "127.0.0.1:1", "--format", "json", code=1)
    failed = {finding["check"]: finding["found"] for finding in json.loads(done.stdout) if finding["state"] == "failed"}
    assert set(failed) == {"Ray", "MLflow"}
    assert "nothing answers there" in failed["Ray"]

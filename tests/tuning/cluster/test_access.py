"""Ray's token: what is wrong with it is told in one sentence, and a Ray of our own lets nobody in."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kits.clusters import free_port, head_node

pytestmark = pytest.mark.slow
GUARD = "a-token-of-sixteen-characters-or-more"
CONNECT = """
import os, sys
from tuning.experiment.problems import Misuse
from tuning.cluster.connection import connected
try:
    with connected(sys.argv[1]):
        import ray
        class Actor:
            def name(self):
                return "an actor"
        assert ray.get(ray.remote(Actor).remote().name.remote(), timeout=90) == "an actor"
        print("connected to", int(ray.cluster_resources()["CPU"]))
except Misuse as refused:
    print(refused)
"""
LISTENING = """
import os, subprocess, ray
from tuning.cluster.connection import connected
before = {name: os.environ.get(name) for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
with connected(None):
    @ray.remote
    def secret():
        return os.environ["RAY_AUTH_MODE"], len(os.environ["RAY_AUTH_TOKEN"])
    assert ray.get(secret.remote()) == ("token", 64)
    print("gcs", ray.get_runtime_context().gcs_address)
    group = [line.split() for line in subprocess.run(["ps", "-eo", "pid,sid"], capture_output=True, text=True).stdout.splitlines()]
    ours = {pid for pid, session in group if session == str(os.getsid(0))}
    for line in subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True).stdout.splitlines():
        if any(f"pid={pid}," in line for pid in ours):
            print("listens", line.split()[3])
    session, token = ray._private.worker._global_node.get_session_dir_path(), os.environ["RAY_AUTH_TOKEN"]
    print("leaks", subprocess.run(["grep", "-rlsa", "--devices=skip", token, session], capture_output=True, text=True).stdout)
assert before == {name: os.environ.get(name) for name in before}
"""


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """The address of a Ray that asks for a token."""
    with head_node(cpus=1, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=GUARD) as address:
        yield address


def connect(address: str, home: Path, **environment: str) -> str:
    """What a process says that connects to an address, with another home and no Ray's variables but these."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", CONNECT, address], capture_output=True, text=True, check=True, timeout=120,
        env=plain | {"HOME": str(home)} | environment,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def test_a_cluster_that_asks_for_a_token_says_what_is_wrong_with_ours(guarded: str, tmp_path: Path) -> None:
    assert "asks for a token, and there is none here; write what `ray get-auth-token`" in connect(guarded, tmp_path)
    wrong = connect(guarded, tmp_path, RAY_AUTH_TOKEN="another")
    assert "does not take the token of RAY_AUTH_TOKEN;" in wrong
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("another")
    assert "does not take the token of ~/.ray/auth_token;" in connect(guarded, tmp_path)
    off = connect(guarded, tmp_path, RAY_AUTH_TOKEN=GUARD, RAY_AUTH_MODE="disabled")
    assert "asks for a token, got RAY_AUTH_MODE=disabled; unset RAY_AUTH_MODE" in off
    assert all(text.count("\n") == 1 for text in (wrong, off))


def test_the_right_token_is_used_whether_or_not_the_mode_is_set(guarded: str, tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text(GUARD)
    assert connect(guarded, tmp_path) == "connected to 1\n"


def test_a_token_that_nobody_asks_for_is_not_asked_of_a_cluster_whose_actors_would_die_of_it(tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text(GUARD)
    with head_node(cpus=1) as address:
        assert connect(address, tmp_path) == "connected to 1\n"


def test_what_is_no_ray_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_hang_up, args=(server,), daemon=True).start()
        said = connect(f"127.0.0.1:{server.getsockname()[1]}", tmp_path)
    assert "is no head node of Ray" in said or "nothing answers there" in said


def _hang_up(server: socket.socket) -> None:
    while True:
        try:
            server.accept()[0].close()
        except OSError:
            return


@pytest.mark.skipif(not Path("/usr/bin/ss").exists(), reason="needs ss of iproute2")
def test_a_ray_of_our_own_listens_on_loopback_alone_and_asks_for_a_token_of_its_own(tmp_path: Path) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENING], stdout=subprocess.PIPE, text=True, start_new_session=True,
        env=plain | {"HOME": str(tmp_path), "RAY_worker_niceness": "0"},
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=180)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0
    heard = [line.split()[1] for line in said.splitlines() if line.startswith("listens")]
    assert len(heard) >= 5
    assert {address.rpartition(":")[0] for address in heard} <= {"127.0.0.1", "[::ffff:127.0.0.1]"}
    assert [line for line in said.splitlines() if line.startswith("leaks")] == ["leaks "]
    assert not (tmp_path / ".ray").exists()


def test_auto_without_a_ray_is_refused_in_one_sentence(tmp_path: Path) -> None:
    said = connect("auto", tmp_path, RAY_ADDRESS=f"127.0.0.1:{free_port()}")
    assert "--address auto: what answers there is no head node of Ray" in said

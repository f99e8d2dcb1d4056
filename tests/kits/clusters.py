"""Ray clusters of real processes, each with an end of its own: `ray stop` would end those of others too."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

RAY = [sys.executable, "-m", "ray.scripts.scripts"]


def free_port() -> int:
    """A port on which nothing listens, below those that Ray gives its workers."""
    for port in range(9100, 9900):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)):
                try:
                    tried.close()
                    with socket.create_server(("0.0.0.0", port)):  # noqa: S104
                        return port
                except OSError:
                    continue
    raise AssertionError("no port is free")


@contextmanager
def ray_node(*arguments: str, inside: tuple[str, ...] = (), **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A node of Ray as processes of one session, ended together.

    Args:
        arguments: of `ray start`.
        inside: a command that runs it elsewhere, such as `ip netns exec`.
        environment: variables of its processes.
    """
    node = subprocess.Popen(
        [*inside, *RAY, "start", "--block", "--disable-usage-stats", *arguments], start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "RAY_worker_niceness": "0", "RAY_AUTH_MODE": "disabled", **environment},
    )  # fmt: skip
    try:
        yield node
    finally:
        node.terminate()  # --block ends the node's processes
        try:
            node.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(node.pid, signal.SIGKILL)
            node.wait()


@contextmanager
def head_node(cpus: int = 1, **environment: str) -> Iterator[str]:
    """The address of a head node that runs during a block."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    arguments = ("--head", f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false")
    with ray_node(*arguments, f"--num-cpus={cpus}", **environment) as node:
        wait_for(port, node)
        yield address


def wait_for(port: int, node: "subprocess.Popen[bytes]", host: str = "127.0.0.1", seconds: float = 90) -> None:
    """Waits until something listens at a port."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and node.poll() is None:
        with socket.socket() as tried:
            if tried.connect_ex((host, port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError(f"nothing listens at port {port}")


NODES = """
import sys, time
import ray
from tuning.cluster.connection import connected
from tuning.cluster.resources import nodes
with connected(sys.argv[1]):
    until = time.monotonic() + 120
    while len(nodes()) < int(sys.argv[2]) and time.monotonic() < until:
        time.sleep(0.2)
    print(len(nodes()))
"""


def wait_for_nodes(address: str, count: int, *running: "subprocess.Popen[bytes]") -> None:
    """Waits until so many nodes have joined, in a process of its own: this one may be connected elsewhere."""
    done = subprocess.run(
        [sys.executable, "-c", NODES, address, str(count)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) >= count, [node.poll() for node in running]

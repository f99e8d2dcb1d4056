"""Ray clusters of real processes, each with an end of its own: `ray stop` would end those of others too."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

NOTHING: Mapping[str, str] = MappingProxyType({})
PORTS = iter(range(9100 + os.getpid() % 50 * 16, 9990))
AGENTS = ("metrics-export", "dashboard-agent-grpc", "dashboard-agent-listen", "runtime-env-agent")
"""Ports that Ray would wait for some seconds to be told, which is not enough where much else is to be done."""
RAY = [sys.executable, "-m", "ray.scripts.scripts"]


def free_port() -> int:
    """A port on which nothing listens, below those that Ray gives its workers; each call gives another one."""
    for port in PORTS:
        try:
            with socket.create_server(("0.0.0.0", port)):  # noqa: S104
                return port
        except OSError:
            continue
    raise AssertionError("no port is free")


AGAIN = ("sh", "-c", 'until "$@"; do sleep 1; done', "sh")
"""Starts a node again that has ended, as those who run clusters do: on a busy machine Ray gives a node too little time to start."""


@contextmanager
def ray_node(*arguments: str, inside: tuple[str, ...] = (), **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A node of Ray as processes of one session, ended together.

    Args:
        arguments: of `ray start`.
        inside: a command that runs it elsewhere, such as `ip netns exec`.
        environment: variables of its processes.
    """
    usual = {"RAY_worker_niceness": "0", "RAY_agent_register_timeout_ms": "120000", "RAY_AUTH_MODE": "disabled"}
    ports = [f"--{name}-port={free_port()}" for name in AGENTS]
    node = subprocess.Popen(
        [*AGAIN, *inside, *RAY, "start", "--block", "--disable-usage-stats", *ports, *arguments], start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **usual, **environment},
    )  # fmt: skip
    try:
        yield node
    finally:
        _end(node)


def _end(node: "subprocess.Popen[bytes]", seconds: float = 20) -> None:
    """Ends all processes of a node: --block ends those that Ray started."""
    until = time.monotonic() + seconds
    sent: int = signal.SIGTERM
    while _sent(node.pid, sent):
        sent = signal.SIGKILL if time.monotonic() > until else 0
        time.sleep(0.2)
        node.poll()


def _sent(group: int, what: int) -> bool:
    """Whether there is still a process of a group to send a signal to."""
    try:
        os.killpg(group, what)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def head_node(cpus: int = 1, **environment: str) -> Iterator[str]:
    """The address of a head node that runs during a block."""
    port = free_port()
    arguments = ("--head", f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false")
    with ray_node(*arguments, f"--num-cpus={cpus}", **environment):
        wait_for("127.0.0.1", port)
        wait_for_nodes(f"127.0.0.1:{port}", 1, environment=environment)
        yield f"127.0.0.1:{port}"


CONNECTS = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)"


def wait_for(host: str, port: int, inside: tuple[str, ...] = (), seconds: float = 120) -> None:
    """Waits until something listens at a port, as seen from elsewhere, such as a network namespace."""
    until = time.monotonic() + seconds
    while subprocess.run(
        [*inside, sys.executable, "-c", CONNECTS, host, str(port)], check=False, capture_output=True
    ).returncode:
        assert time.monotonic() < until, f"nothing listens at port {port}"
        time.sleep(0.2)


NODES = """
import sys, time
import ray
from tuning.cluster.connection import connected
from tuning.cluster.resources import nodes
with connected(sys.argv[1]):
    until = time.monotonic() + 60
    while len(nodes()) < int(sys.argv[2]) and time.monotonic() < until:
        time.sleep(0.2)
    print(len(nodes()))
"""


def wait_for_nodes(
    address: str,
    count: int,
    inside: tuple[str, ...] = (),
    seconds: float = 240,
    environment: Mapping[str, str] = NOTHING,
) -> None:
    """Waits until so many nodes have joined, in processes of their own: this one may be connected elsewhere."""
    until = time.monotonic() + seconds
    while True:
        asked = [*inside, sys.executable, "-c", NODES, address, str(count)]
        done = subprocess.run(asked, check=False, capture_output=True, text=True, env={**os.environ, **environment})
        if done.returncode == 0 and done.stdout.splitlines()[-1] == str(count):  # Ray may have said something before
            return
        assert time.monotonic() < until, done.stderr  # a node that was too slow is started again

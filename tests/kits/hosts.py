"""Several hosts on one machine: network namespaces with addresses of their own, joined by a bridge that is in none of ours."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

LINK = "eth0"


def can_be_made() -> bool:
    """Whether this process may make network namespaces."""
    name = f"pt-try-{os.getpid()}"
    try:
        made = subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
    except OSError:
        return False
    return made.returncode == 0


@dataclass(frozen=True)
class Host:
    """A network namespace.

    Attributes:
        name: of the namespace.
        address: by which the others reach it.
    """

    name: str
    address: str

    @property
    def inside(self) -> tuple[str, ...]:
        """Runs the command behind it there."""
        return ("ip", "netns", "exec", self.name)

    @property
    def alone(self) -> tuple[str, ...]:
        """The same, with a temporary folder of Ray of its own: nodes that share one remove each other's files."""
        return (*self.inside, "sh", "-c", 'mkdir -p /tmp/ray && mount -t tmpfs ray /tmp/ray && exec "$@"', "sh")

    def cut_off(self) -> None:
        """Its cable is pulled."""
        self._ip("link", "set", LINK, "down")

    def join(self) -> None:
        """Its cable is there again."""
        self._ip("link", "set", LINK, "up")

    def _ip(self, *arguments: str) -> None:
        subprocess.run(["ip", "-n", self.name, *arguments], check=True)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """So many hosts on one network, the first with the bridge; gone after the block."""
    made = [Host(f"pt{os.getpid()}-{number}", f"10.77.0.{number + 1}") for number in range(count)]
    first = made[0]
    try:
        for host in made:
            _run("ip", "netns", "add", host.name)
            _run("ip", "-n", host.name, "link", "set", "lo", "up")
        _run("ip", "-n", first.name, "link", "add", LINK, "type", "bridge")
        for number, host in enumerate(made[1:]):
            cable = f"cable{number}"
            _run(
                "ip", "-n", first.name, "link", "add", cable, "type", "veth",
                "peer", "name", LINK, "netns", host.name,
            )  # fmt: skip
            _run("ip", "-n", first.name, "link", "set", cable, "master", LINK, "up")
        for host in made:
            _run("ip", "-n", host.name, "addr", "add", f"{host.address}/24", "dev", LINK)
            _run("ip", "-n", host.name, "link", "set", LINK, "up")
        yield made
    finally:
        for host in made:
            subprocess.run(["ip", "netns", "del", host.name], check=False, capture_output=True)

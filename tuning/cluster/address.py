"""Addresses of Ray: what may be one, and whether something answers there."""

import socket
import sys

from tuning.experiment.problems import Misuse, Problem

ANSWERS_WITHIN_S = 5
"""Seconds in which a cluster's head node takes a connection."""


def check_address(address: str | None) -> None:
    """Refuses addresses of Ray's client, and those where nothing answers, which Ray would try for minutes.

    Raises:
        Misuse: with the reason.
    """
    if address and address.startswith("ray://"):
        rule = "ray:// runs the search in a process away from your files and journals"
        remedy = "run the command on a node of the cluster with --address auto, or through `ray job submit`"
        raise Misuse(Problem(f"--address {address}", rule, remedy=remedy))
    ray = sys.modules.get("ray")
    if address in (None, "auto", "local") or (ray and ray.is_initialized()):
        return
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 2**16):
        rule = f"an address is auto or host:port, such as 10.0.0.5:6379, got {address!r}"
        raise Misuse(Problem("--address", rule, remedy="give that of `ray start --head`"))
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS_WITHIN_S).close()
    except (OSError, UnicodeError) as error:
        rule = f"no Ray cluster: nothing answers there ({getattr(error, 'strerror', None) or error})"
        raise Misuse(
            Problem(f"--address {address}", rule, remedy="start one (ray start --head) or correct the address")
        ) from error

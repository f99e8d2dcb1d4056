"""Addresses of Ray where nothing answers are refused at once, with the cause and what to do."""

import subprocess
import sys

WRONG = {
    "127.0.0.1:1": "no Ray cluster: nothing answers there (Connection refused)",
    "[::1]:1": "no Ray cluster: nothing answers there (",
    "no-such-host.invalid:6379": "no Ray cluster: nothing answers there (",
    "127.0.0.1": "an address is auto or host:port, such as 10.0.0.5:6379, got '127.0.0.1'",
    "127.0.0.1:": "an address is auto or host:port",
    "x:y": "an address is auto or host:port",
    ":6379": "an address is auto or host:port",
    "127.0.0.1:70000": "an address is auto or host:port",
    "ray://head:10001": "ray:// runs the search in a process away from your files and journals",
}
EACH = """
import sys
from tuning.experiment.problems import Misuse
from tuning.cluster.address import check_address
for address in sys.argv[1:]:
    try:
        check_address(address)
    except Misuse as refused:
        print(refused)
check_address(None)
check_address("auto")
"""


def test_an_address_that_cannot_be_reached_is_refused_in_one_line_before_ray_is_asked() -> None:
    """In a process of its own, which is connected to nothing."""
    done = subprocess.run([sys.executable, "-c", EACH, *WRONG], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [rule in line for line, rule in zip(lines, WRONG.values(), strict=True)] == [True] * len(WRONG)
    assert all("ray start --head" in line or "ray job submit" in line for line in lines)

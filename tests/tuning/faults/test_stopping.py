"""Signals to real processes: the first ends a command in good order, the second at once."""

import signal
import subprocess
import sys
from functools import partial

import pytest

from tuning.commands.stopping import Stopping

pytestmark = pytest.mark.faults

LISTENS = """
import sys, time
from tuning.commands.stopping import Stopping
with Stopping() as stopping:
    try:
        print("ready", flush=True)
        time.sleep(120)
    except KeyboardInterrupt:
        print("stopping", flush=True)
        time.sleep(float(sys.argv[1]))
        print("in good order", flush=True)
        sys.exit(stopping.exit_code)
"""


def listening(rest_s: float, deaf_to: tuple[signal.Signals, ...] = ()) -> subprocess.Popen[str]:
    """A process that rests for so long when it is asked to stop."""

    def ears() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN if number in deaf_to else signal.SIG_DFL)

    command = [sys.executable, "-c", LISTENS, str(rest_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=partial(ears))
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_first_signal_ends_in_good_order(number: signal.Signals, code: int) -> None:
    process = listening(0.1)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert (said, process.returncode) == ("stopping\nin good order\n", code)


def test_the_second_ends_at_once() -> None:
    process = listening(100)
    process.send_signal(signal.SIGTERM)
    assert process.stdout
    assert process.stdout.readline() == "stopping\n"
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert (said, process.returncode) == ("", 143)


def test_a_process_that_was_started_deaf_to_ctrl_c_stays_so() -> None:
    process = listening(0.1, deaf_to=(signal.SIGINT,))
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert (said, process.returncode) == ("stopping\nin good order\n", 143)


def test_after_a_command_the_process_hears_as_before() -> None:
    """A notebook or a test that runs a command in its own process."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Stopping():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before

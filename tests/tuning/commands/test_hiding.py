"""Passwords on the command line of a real process: the process uses them, and nobody else can read them there."""

import base64
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kits.command import COMMAND, experiment_file

LOGIN = "anna:geheim-4711"


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes requests and does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


@pytest.mark.parametrize(
    "command",
    [
        pytest.param((str(COMMAND),), id="script"),
        pytest.param((sys.executable, "-m", "tuning"), id="module", marks=pytest.mark.slow),
    ],
)
def test_a_password_is_used_and_not_shown(
    command: tuple[str, ...], silent: socket.socket, tmp_path: Path, plms: Callable[[str], Path]
) -> None:
    folder = tmp_path / "one two"
    folder.mkdir()
    file = experiment_file(folder, plms("bert"))
    address = f"127.0.0.1:{silent.getsockname()[1]}"
    asked = [*command, "best", str(file), "-o", f"tracking.uri=http://{LOGIN}@{address}"]
    process = subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    connection, _ = silent.accept()
    request = connection.recv(65536).decode()
    shown = Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")
    connection.close()
    out, err = process.communicate(timeout=120)
    assert f"Authorization: Basic {base64.b64encode(LOGIN.encode()).decode()}" in request
    assert f"tracking.uri=http://anna:***@{address}" in shown
    assert str(file) in shown
    assert "geheim" not in " ".join(shown) + out + err
    assert process.returncode == 2
    assert "PANDA_TUNE_ARGUMENTS" not in err

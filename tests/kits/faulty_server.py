"""A real MLflow server behind a proxy that can be made silent, dead or slow, and that can lose answers."""

import base64
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
READY_S = 180


def free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        return int(free.getsockname()[1])


@contextmanager
def mlflow_server(folder: Path, store: Path) -> Iterator[str]:
    """The address of a real `mlflow server` on a copy of an initialised sqlite store; it takes ten seconds to start."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(store, folder / "server.db")
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "artifacts"), "--host", HOST, "--port", str(port),
        "--workers", "1",
    ]  # fmt: skip
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        _wait_until(lambda: _is_healthy(port), READY_S)
        yield f"http://{HOST}:{port}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _wait_until(holds: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "the server did not start"
        time.sleep(0.2)


class FaultyServer:
    """A proxy in front of a server, with the faults of servers and networks; it begins without any.

    Attributes:
        requests: method and path of each request that came, in order.
    """

    def __init__(self, upstream: str, login: str = ""):
        self.upstream, self.login = upstream.removeprefix("http://"), login
        self.port = free_port()
        self.requests: list[str] = []
        self._open = threading.Event()
        self._open.set()
        self._delay_s = 0.0
        self._to_lose: list[str] = []
        self._silent_after = ("", 0)
        self._http: ThreadingHTTPServer | None = None
        self._connections: set[socket.socket] = set()
        self._listen()

    @property
    def uri(self) -> str:
        """The proxy's address, with the login that it asks for."""
        return f"http://{self.login}@{HOST}:{self.port}" if self.login else f"http://{HOST}:{self.port}"

    def silent(self) -> None:
        """Takes connections and requests, and answers none of them."""
        self._open.clear()

    def silent_after(self, path: str, times: int) -> None:
        """Is silent once a path was asked for so many times."""
        self._silent_after = (path, times)

    def dead(self) -> None:
        """Refuses connections, and cuts those there are."""
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def slow(self, seconds: float) -> None:
        """Answers each request so late."""
        self._delay_s = seconds

    def lose(self, path: str, times: int = 1) -> None:
        """Has the server do what is asked of a path the next times, and cuts the connection in place of an answer."""
        self._to_lose += [path] * times

    def well(self) -> None:
        """Answers again, at once."""
        self._delay_s, self._silent_after = 0.0, ("", 0)
        self._open.set()
        if self._http is None:
            self._listen()

    def close(self) -> None:
        """Ends the proxy; requests that wait for an answer get none."""
        self.dead()
        self._open.set()

    def _listen(self) -> None:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                proxy._connections.add(self.connection)

            def finish(self) -> None:
                proxy._connections.discard(self.connection)
                with suppress(OSError):
                    super().finish()

            def handle_one_request(self) -> None:
                with suppress(OSError):
                    super().handle_one_request()
                    return
                self.close_connection = True

            def log_message(self, *arguments: Any) -> None:
                """Nothing."""

            def _pass_on(self) -> None:
                proxy._pass_on(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _pass_on

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *arguments: Any) -> None:
                """A connection that is cut is meant to be."""

        self._http = Server((HOST, self.port), Handler)
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def _pass_on(self, asked: BaseHTTPRequestHandler) -> None:
        body = asked.rfile.read(int(asked.headers.get("Content-Length") or 0))
        self.requests.append(f"{asked.command} {asked.path}")
        if self.login and asked.headers.get("Authorization") != _basic(self.login):
            _answer(asked, 401, b'{"error_code": "UNAUTHENTICATED", "message": "no such user, or another password"}')
            return
        path, times = self._silent_after
        if times and sum(request.endswith(path) for request in self.requests) > times:
            self.silent()
        self._open.wait()
        time.sleep(self._delay_s)
        headers = {name: value for name, value in asked.headers.items() if name.lower() not in ("connection", "host")}
        upstream = http.client.HTTPConnection(self.upstream, timeout=60)
        upstream.request(asked.command, asked.path, body or None, headers)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        lost = next((path for path in self._to_lose if asked.path.split("?")[0].endswith(path)), None)
        if lost is not None:
            self._to_lose.remove(lost)
            asked.close_connection = True
            asked.connection.shutdown(socket.SHUT_RDWR)
            return
        _answer(asked, answer.status, content, answer.getheader("Content-Type") or "application/json")


def _answer(asked: BaseHTTPRequestHandler, status: int, content: bytes, kind: str = "application/json") -> None:
    asked.send_response(status)
    asked.send_header("Content-Type", kind)
    asked.send_header("Content-Length", str(len(content)))
    asked.end_headers()
    if asked.command != "HEAD":
        asked.wfile.write(content)


def _basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()


@contextmanager
def faulty(upstream: str, login: str = "") -> Iterator[FaultyServer]:
    """A proxy without faults in front of a server.

    Args:
        upstream: the server's address.
        login: `user:password` that it asks for; empty: none.
    """
    server = FaultyServer(upstream, login)
    try:
        yield server
    finally:
        server.close()

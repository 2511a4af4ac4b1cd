"""The simulator over real HTTP, with a thread that sends its webhooks."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterable
from email.utils import format_datetime
from types import TracebackType
from typing import Any

import requests
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from lnpay.sandbox.application import (
    DELAY,
    DROP,
    MARK,
    RESUME,
    RESUMED,
    read_body,
)
from lnpay.sandbox.simulator import Simulator
from lnpay.sandbox.strike.envelope import ApiError, error_reply

WEBHOOK_TIMEOUT_SECONDS = 5
PUMP_PAUSE_SECONDS = 0.05


class _QuietHandler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:
        """Log nothing: the ledger and the deliveries show what happened."""

    def send_response(self, code: int, message: str | None = None) -> None:
        """Start an answer without this machine's Date: each answer sets its own."""
        self.send_response_only(code, message)
        self.send_header("Server", self.version_string())

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer invalid HTTP with Strike's error envelope too."""
        reply = error_reply(ApiError("BAD_REQUEST", message, status=code), "")
        self.request_version = self.protocol_version  # the caller's may be unreadable, or one without headers
        self.send_response(code)
        for name, value in (*reply.headers, ("Content-Length", str(len(reply.body))), ("Connection", "close"), MARK):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)
        self.close_connection = True


class SandboxServer:
    """Serve a simulator on a port (0: any free one) until `stop`. Usable as a context manager."""

    def __init__(self, simulator: Simulator, host: str = "127.0.0.1", port: int = 0) -> None:
        self.simulator = simulator
        self._server: BaseWSGIServer = make_server(
            host, port, self._answer, threaded=True, request_handler=_QuietHandler
        )
        # A delayed answer must not delay the exit of the program.
        self._server.daemon_threads = True  # type: ignore[attr-defined]
        self._server.block_on_close = False  # type: ignore[attr-defined]
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def start(self) -> SandboxServer:
        """Begin to answer and to send webhooks."""
        self._stopping.clear()
        for run in (self._serve, self._pump):
            thread = threading.Thread(target=run, daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def stop(self) -> None:
        """Stop both threads and release the port."""
        self._stopping.set()
        if self._threads:
            self._server.shutdown()
        for thread in self._threads:
            thread.join(timeout=WEBHOOK_TIMEOUT_SECONDS + 1)
        self._threads.clear()
        self._server.server_close()

    def __enter__(self) -> SandboxServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=PUMP_PAUSE_SECONDS)

    def _pump(self) -> None:
        with requests.Session() as session:
            session.trust_env = False

            def send(url: str, body: bytes, headers: dict[str, str]) -> int:
                answer = session.post(
                    url, data=body, headers=headers, timeout=WEBHOOK_TIMEOUT_SECONDS, allow_redirects=False
                )
                return answer.status_code

            while not self._stopping.wait(PUMP_PAUSE_SECONDS):
                self.simulator.pump_webhooks(send)

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request as the private headers of the response demand."""
        try:
            body = read_body(environ)
        except ApiError as error:
            reply = error_reply(error, self.simulator.new_id())
            # What is left of the body is not read.
            headers = [*reply.headers, ("Content-Length", str(len(reply.body))), ("Connection", "close"), MARK]
            start_response(f"{reply.status} {error.code}", headers)
            return [reply.body]
        environ["CONTENT_LENGTH"] = str(len(body))
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        status, headers, chunks = self._call(environ, body)
        marks = {name: value for name, value in headers if name in (DROP, DELAY, RESUME)}
        if marks:
            self._stopping.wait(float(marks.get(DELAY, 0)))
            if RESUME in marks:
                environ[RESUMED] = True
                status, headers, chunks = self._call(environ, body)
            if DROP in marks:
                return _hang_up(environ)
        date = ("Date", format_datetime(self.simulator.clock.now(), usegmt=True))
        dated = headers if "Date" in dict(headers) else [*headers, date]
        start_response(status, [pair for pair in dated if pair[0] not in (DELAY, RESUME)])
        return chunks

    def _call(self, environ: dict[str, Any], body: bytes) -> tuple[str, list[tuple[str, str]], Iterable[bytes]]:
        started: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> None:
            started[:] = [status, headers]

        environ["wsgi.input"] = io.BytesIO(body)
        chunks = list(self.simulator.wsgi_app(environ, start_response))
        return started[0], started[1], chunks


def _hang_up(environ: dict[str, Any]) -> Iterable[bytes]:
    """Close the connection without an answer."""
    connection: socket.socket = environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError


def wait_until(is_true: Callable[[], object], seconds: float = 5.0) -> bool:
    """Poll until something holds; False when it did not in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if is_true():
            return True
        time.sleep(0.01)
    return bool(is_true())

"""A WSGI application as a `requests` transport, inside the process: no sockets, no waiting.

A response marked as dropped or delayed becomes the exception that `requests` would raise.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import requests
from requests.adapters import BaseAdapter
from requests.exceptions import ConnectTimeout, ReadTimeout
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers
from urllib3 import HTTPResponse
from urllib3.exceptions import ProtocolError

from lnpay.sandbox.application import DELAY, DROP, READ_TIMEOUT

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]


class MovableClock(Protocol):
    """What a VirtualClock offers to a transport."""

    is_running: bool

    def advance(self, seconds: float) -> None:
        """Move forward."""


class WsgiAdapter(BaseAdapter):
    """Mount with `session.mount("http://strike.test", WsgiAdapter(simulator.wsgi_app, simulator.clock))`.

    clock: when given and frozen, waiting moves it: by a delay, or by the timeout that was reached.
    """

    def __init__(self, app: WsgiApp, clock: MovableClock | None = None) -> None:
        super().__init__()
        self._app = app
        self._clock = clock

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float | None, float | None] | None = None,
        verify: bool | str = True,
        cert: bytes | str | tuple[bytes | str, bytes | str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Answer a request, or raise what `requests` raises when there is no answer."""
        read_timeout = timeout[1] if isinstance(timeout, tuple) else timeout
        status, headers, body = self._call(_environ(request, read_timeout))
        self._interpret(headers, request, read_timeout)
        return _response(request, status, headers, body)

    def close(self) -> None:
        """Nothing is held open."""

    def _call(self, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
        started: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> None:
            started[:] = [status, headers]

        chunks = self._app(environ, start_response)
        try:
            body = b"".join(chunks)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        return started[0], started[1], body

    def _interpret(
        self,
        headers: list[tuple[str, str]],
        request: requests.PreparedRequest,
        read_timeout: float | None,
    ) -> None:
        marks = {name: value for name, value in headers if name in (DROP, DELAY)}
        if not marks:
            return
        drop, delay = marks.get(DROP), float(marks.get(DELAY, 0))
        if drop == "unreachable":
            raise ConnectTimeout("Connection to the simulator timed out.", request=request)
        if drop == "timeout" or (read_timeout is not None and delay > read_timeout):
            self._wait(read_timeout or delay)
            raise ReadTimeout(f"Read timed out. (read timeout={read_timeout})", request=request)
        self._wait(delay)
        if drop == "reset":
            cause = ProtocolError("Connection aborted.", ConnectionResetError("closed without response"))
            raise requests.exceptions.ConnectionError(cause, request=request)

    def _wait(self, seconds: float) -> None:
        if self._clock is not None and not self._clock.is_running:
            self._clock.advance(seconds)


def _environ(request: requests.PreparedRequest, read_timeout: float | None) -> dict[str, Any]:
    parts = urlsplit(request.url or "")
    body = request.body or b""
    data = body.encode() if isinstance(body, str) else bytes(body)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(parts.path, "latin-1") or "/",
        "RAW_URI": parts.path or "/",
        "QUERY_STRING": parts.query,
        "SERVER_NAME": parts.hostname or "localhost",
        "SERVER_PORT": str(parts.port or (443 if parts.scheme == "https" else 80)),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": parts.netloc,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": parts.scheme,
        "wsgi.input": io.BytesIO(data),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "CONTENT_LENGTH": str(len(data)) if data else "",
        READ_TIMEOUT: read_timeout,
    }
    for name, value in request.headers.items():
        key = name.upper().replace("-", "_")
        environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = str(value)
    return environ


def _response(
    request: requests.PreparedRequest, status: str, headers: list[tuple[str, str]], body: bytes
) -> requests.Response:
    code, _, reason = status.partition(" ")
    response = requests.Response()
    response.status_code = int(code)
    response.reason = reason
    response.headers = CaseInsensitiveDict(headers)
    response.encoding = get_encoding_from_headers(response.headers)
    response.raw = HTTPResponse(
        io.BytesIO(body), headers=dict(headers), status=int(code), preload_content=False, request_method=request.method
    )
    response.url = request.url or ""
    response.request = request
    return response

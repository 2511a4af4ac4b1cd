"""Every HTTP call that LNPay makes: bounded in total time and in size, and sent exactly as the caller says.

The time-outs of `requests` bound single steps: a name with ten addresses, a server that sends one byte of a header
every few seconds, or an answer without an end keeps a caller for minutes. Here the whole call has one deadline, name
resolution, TLS, headers and body included, after which its connection is cut.

- A login comes from the caller or from the URL. A ~/.netrc file never adds or replaces one. Proxies
  (HTTPS_PROXY, HTTP_PROXY, NO_PROXY) and certificate authorities (REQUESTS_CA_BUNDLE) of the environment are used,
  but calls to this machine itself never go through a proxy.
- Redirects are not followed: they would carry keys and orders to another host.
- The size limit holds for the unpacked answer: a few compressed bytes can unpack to gigabytes.
- Nothing is repeated here: only callers know what may be.
"""

from __future__ import annotations

import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, TypedDict, Unpack
from urllib.parse import unquote_to_bytes, urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError
from urllib3.poolmanager import ProxyManager

Timeout = tuple[float, float]
"""Seconds to connect, and seconds to wait for the answer. Their sum is the deadline of the whole call."""

_READ_BYTES = 16_384


class AnswerTooLarge(requests.RequestException):
    """The answer is longer than the caller takes."""


@dataclass(frozen=True)
class HttpAnswer:
    """An answer. Header names are looked up in any case."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes


class _Content(TypedDict, total=False):
    """What a call may send in addition to its method and URL."""

    params: Mapping[str, str] | None
    headers: Mapping[str, str] | None
    json: object
    data: bytes | None


def call(
    session: requests.Session,
    method: str,
    url: str,
    *,
    timeout: Timeout,
    max_bytes: int,
    auth: AuthBase | None = None,
    **sent: Unpack[_Content],
) -> HttpAnswer:
    """Make one call and read its whole answer.

    auth: adds the login to the request; without it, the URL's own login is sent.
    max_bytes: of the body, unpacked.
    Raises requests.RequestException: ConnectTimeout if nothing was sent, ReadTimeout if the deadline passed later,
    AnswerTooLarge.
    """
    with _deadline(sum(timeout)) as deadline:
        try:
            with _send(session, method, url, timeout, auth, sent) as response:
                content = _unpack(response, _read_all(response, max_bytes, deadline), max_bytes)
        except requests.ConnectTimeout:
            raise
        except (requests.RequestException, OSError) as error:
            if deadline.has_passed():
                raise requests.ReadTimeout(f"no whole answer within {sum(timeout):g} seconds") from error
            raise
        # A cut connection can look like the end of headers or of an answer.
        if deadline.has_passed():
            raise requests.ReadTimeout(f"no whole answer within {sum(timeout):g} seconds")
        return HttpAnswer(response.status_code, response.headers, content)


def call_for_status(
    session: requests.Session,
    method: str,
    url: str,
    *,
    timeout: Timeout,
    peek_bytes: int = 0,
    **sent: Unpack[_Content],
) -> HttpAnswer:
    """Make one call whose status is all that counts. The body is at most the first `peek_bytes`, or empty.

    Raises requests.RequestException, as `call` does.
    """
    with _deadline(sum(timeout)) as deadline:
        try:
            with _send(session, method, url, timeout, None, sent) as response:
                if deadline.has_passed():  # headers that were cut off look like complete ones
                    raise requests.ReadTimeout(f"no answer within {sum(timeout):g} seconds")
                content = b""
                if peek_bytes:
                    with suppress(requests.RequestException, urllib3.exceptions.HTTPError, OSError):
                        content = response.raw.read(peek_bytes, decode_content=False)
                return HttpAnswer(response.status_code, response.headers, content)
        except requests.ConnectTimeout:
            raise
        except (requests.RequestException, OSError) as error:
            if deadline.has_passed():
                raise requests.ReadTimeout(f"no answer within {sum(timeout):g} seconds") from error
            raise


def pooled_session() -> requests.Session:
    """A session for many threads, with connections that deadlines can cut. It never repeats a call by itself."""
    session = requests.Session()
    adapter = _Adapter(pool_connections=4, pool_maxsize=32, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _send(
    session: requests.Session, method: str, url: str, timeout: Timeout, auth: AuthBase | None, sent: _Content
) -> requests.Response:
    headers = {"Accept-Encoding": "gzip", **(sent.get("headers") or {})}
    return session.request(
        method,
        url,
        params=sent.get("params"),
        headers=headers,
        json=sent.get("json"),
        data=sent.get("data"),
        # Without `auth`, requests would look into ~/.netrc and prefer it to the URL's login.
        auth=auth or _UrlLogin(url),
        proxies=_exceptions_from_proxies(url),
        timeout=timeout,
        allow_redirects=False,
        stream=True,
    )


def _exceptions_from_proxies(url: str) -> dict[str, str] | None:
    """What makes requests ignore the environment's proxies; None leaves the choice to NO_PROXY."""
    host = urlsplit(url).hostname or ""
    try:
        is_here = ip_address(host).is_loopback
    except ValueError:
        is_here = host == "localhost" or host.endswith(".localhost")
    return {"no_proxy": host} if is_here else None


def _read_all(response: requests.Response, max_bytes: int, deadline: _Deadline) -> bytes:
    content = b""
    while True:
        try:
            piece = response.raw.read(min(_READ_BYTES, max_bytes + 1), decode_content=False)
        except urllib3.exceptions.ReadTimeoutError as error:
            raise requests.ReadTimeout("the answer stopped") from error
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise requests.ConnectionError(f"the answer broke off: {type(error).__name__}") from error
        if not piece:
            return content
        content += piece
        if len(content) > max_bytes:
            raise AnswerTooLarge(f"an answer of more than {max_bytes:,} bytes")
        if deadline.has_passed():
            raise requests.ReadTimeout("the answer comes too slowly")


def _unpack(response: requests.Response, content: bytes, max_bytes: int) -> bytes:
    """The body without its compression, at most `max_bytes` of it. gzip is the only one that is asked for."""
    if "gzip" not in response.headers.get("Content-Encoding", "").lower() or not content:
        return content
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        unpacked = unpacker.decompress(content, max_bytes + 1)
    except zlib.error as error:
        raise requests.exceptions.ContentDecodingError("the answer's compression is broken") from error
    if len(unpacked) > max_bytes:
        raise AnswerTooLarge(f"an answer of more than {max_bytes:,} bytes")
    if not unpacker.eof:
        raise requests.exceptions.ContentDecodingError("the answer's compression is incomplete")
    return unpacked


class _UrlLogin(AuthBase):
    """The login in a URL, if it has one: exactly the bytes that its percent-encoding names."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._login = (unquote_to_bytes(parts.username or ""), unquote_to_bytes(parts.password or ""))

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if any(self._login):
            HTTPBasicAuth(*self._login)(request)
        return request


class _Deadline:
    """The end of one call. When it comes, the call's connection is cut, whatever it is waiting for."""

    def __init__(self, seconds: float) -> None:
        self._ends_at = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None
        self._is_done = False
        self._was_cut = False
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def start(self) -> None:
        """Start the countdown. Raises RuntimeError where no thread can be started."""
        self._timer.start()

    def stop(self) -> None:
        """The call is over."""
        self._timer.cancel()
        with self._lock:
            self._is_done = True
            self._drop_handle()

    def has_passed(self) -> bool:
        """Whether the time is over."""
        return self._was_cut or time.monotonic() >= self._ends_at

    def left(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self._ends_at - time.monotonic())

    def watch(self, connection: socket.socket) -> None:
        """Cut this connection at the deadline. Of several, the last one counts."""
        # A handle of our own for the same connection: the file number of the other may be another file's by then.
        handle = socket.fromfd(connection.fileno(), connection.family, connection.type)
        with self._lock:
            self._drop_handle()
            self._handle = handle
            if self._was_cut:
                self._shut_down()

    def _cut(self) -> None:
        with self._lock:
            if not self._is_done:
                self._was_cut = True
                self._shut_down()

    def _shut_down(self) -> None:
        if self._handle is not None:
            with suppress(OSError):
                self._handle.shutdown(socket.SHUT_RDWR)

    def _drop_handle(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None


_current: ContextVar[_Deadline | None] = ContextVar("deadline", default=None)


@contextmanager
def _deadline(seconds: float) -> Iterator[_Deadline]:
    deadline = _Deadline(seconds)
    try:
        deadline.start()
    except RuntimeError as error:
        raise requests.ConnectTimeout("no thread for the call's deadline") from error
    token = _current.set(deadline)
    try:
        yield deadline
    finally:
        _current.reset(token)
        deadline.stop()


def _connect_in_time(connect: Callable[[], socket.socket], deadline: _Deadline) -> socket.socket | None:
    """The connection, or None at the deadline: name resolution and lists of addresses have no time-out of their own.

    Raises what `connect` raises, and RuntimeError where no thread can be started.
    """
    future: Future[socket.socket] = Future()

    def work() -> None:
        try:
            future.set_result(connect())
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            future.set_exception(error)

    threading.Thread(target=work, name="connect", daemon=True).start()
    try:
        return future.result(deadline.left())
    except TimeoutError:
        if future.done() and future.exception() is not None:
            raise
        future.add_done_callback(_close_late)
        return None


def _close_late(future: Future[socket.socket]) -> None:
    if future.exception() is None:
        future.result().close()


class _Watched(HTTPConnection):
    """A connection that the current call's deadline cuts."""

    def _new_conn(self) -> socket.socket:
        deadline = _current.get()
        if deadline is None:
            return super()._new_conn()
        try:
            connection = _connect_in_time(super()._new_conn, deadline)
        except RuntimeError as error:
            raise ConnectTimeoutError(self, f"no thread to connect to {self.host}") from error
        if connection is None:
            raise ConnectTimeoutError(self, f"no connection to {self.host} in time")
        deadline.watch(connection)
        return connection

    def request(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 -- as urllib3 calls it
        """Send a request, over a connection that an earlier call may have opened."""
        deadline = _current.get()
        if deadline is not None and self.sock is not None:
            deadline.watch(self.sock)
        super().request(*arguments, **named)


class _WatchedTls(_Watched, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Watched


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedTls


_POOLS = {"http": _Pool, "https": _TlsPool}


class _Adapter(HTTPAdapter):
    """Connections that a deadline cuts, to servers and to proxies."""

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 -- as requests calls it
        """As in the base class."""
        super().init_poolmanager(*arguments, **named)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **named: Any) -> ProxyManager:  # noqa: ANN401 -- as requests calls it
        """As in the base class."""
        manager: ProxyManager = super().proxy_manager_for(proxy, **named)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = _POOLS
        return manager

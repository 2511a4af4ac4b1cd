"""Connections with a deadline that cuts them at any step of a call."""

from __future__ import annotations

import heapq
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.poolmanager import ProxyManager
from urllib3.util.connection import create_connection

from lnpay.http.public_address import is_public, look_up


class Deadline:
    """The deadline of one call. When it passes, the connection is cut at any step of the call.

    is_public_only: refuse private networks. has_met_private: the host resolved to one.
    """

    def __init__(self, seconds: float, *, is_public_only: bool) -> None:
        self.is_public_only = is_public_only
        self.has_met_private = False
        self._ends_at = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None
        self._is_done = False
        self._was_cut = False

    def start(self) -> None:
        """Start the countdown. Raises RuntimeError where no thread can be started."""
        _watcher.add(self._ends_at, self._cut)

    def stop(self) -> None:
        """Cancel the countdown."""
        with self._lock:
            self._is_done = True
            self._drop_handle()

    def has_passed(self) -> bool:
        """Whether the deadline has passed."""
        return self._was_cut or time.monotonic() >= self._ends_at

    def left(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self._ends_at - time.monotonic())

    def watch(self, connection: socket.socket) -> None:
        """Cut this connection at the deadline. Only the last watched one is cut."""
        # Duplicate the socket, because the original's file descriptor may have been reused by then.
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


class _Watcher:
    """One thread for the deadlines of all calls, because a thread for each costs more than the call's own work."""

    def __init__(self) -> None:
        self._is_sooner = threading.Condition()
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def add(self, at: float, act: Callable[[], None]) -> None:
        """Call `act` at `at`, in seconds of time.monotonic(). Raises RuntimeError where no thread can be started."""
        with self._is_sooner:
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                thread.start()
                self._thread = thread
            heapq.heappush(self._waiting, (at, next(self._numbers), act))
            if self._waiting[0][0] == at:
                self._is_sooner.notify()

    def _run(self) -> None:
        while True:
            with self._is_sooner:
                self._is_sooner.wait_for(lambda: self._waiting)
                left = self._waiting[0][0] - time.monotonic()
                if left > 0:
                    self._is_sooner.wait(left)
                    continue
                _, _, act = heapq.heappop(self._waiting)
            act()


_watcher = _Watcher()

_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def current_deadline() -> Deadline | None:
    """The deadline of the current call."""
    return _current.get()


@contextmanager
def call_deadline(seconds: float, *, is_public_only: bool = False) -> Iterator[Deadline]:
    """Bound everything inside by `seconds`. Raises requests.ConnectTimeout where no thread can be started."""
    deadline = Deadline(seconds, is_public_only=is_public_only)
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


def _connect_in_time(connect: Callable[[], socket.socket], deadline: Deadline) -> socket.socket | None:
    """The connection, or None at the deadline: name resolution and address lists have no timeout of their own.

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
    """A connection cut by the current call's deadline."""

    def _new_conn(self) -> socket.socket:
        deadline = current_deadline()
        if deadline is None:
            return super()._new_conn()
        connect = partial(self._connect_publicly, deadline) if deadline.is_public_only else super()._new_conn
        try:
            connection = _connect_in_time(connect, deadline)
        except RuntimeError as error:
            raise ConnectTimeoutError(self, f"no thread to connect to {self.host}") from error
        if connection is None:
            raise ConnectTimeoutError(self, f"no connection to {self.host} in time")
        deadline.watch(connection)
        return connection

    def _connect_publicly(self, deadline: Deadline) -> socket.socket:
        """Connect to one of the host's checked addresses, so that a second DNS answer cannot lead elsewhere."""
        addresses = look_up(self._dns_host.strip("[]"), self.port)
        if self.proxy is not None or not all(is_public(one) for one in addresses):
            deadline.has_met_private = True
            raise NewConnectionError(self, "private network")
        for address in addresses:
            with suppress(OSError):
                where = (address, self.port)
                return create_connection(where, self.timeout, self.source_address, self.socket_options)
        raise NewConnectionError(self, "no address of the host can be reached")

    def request(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 -- as urllib3 calls it
        """Send a request, perhaps over a connection opened by an earlier call."""
        deadline = current_deadline()
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


class DeadlineAdapter(HTTPAdapter):
    """A transport whose connections, to servers and proxies, obey the deadline."""

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

"""Waitress, tuned for thousands of open payment pages that each send a short request every two seconds.

Measured with `python -m bench status`: with stock Waitress, requests queue up for seconds. What helps:
- a connection is kept after a 304; Waitress would close it, and every request would need a new one;
- room for thousands of connections, watched with poll() (select() ends at 1,024);
- all waiting connections are accepted in one turn of its loop, not one: after a restart every page connects at once;
- a status poll answered from memory is handled in the event loop itself, without a thread.

It also bounds what a client may send: 64 KiB of body (nothing larger is kept in memory or on disk), 32 KiB of headers,
each request complete within 30 seconds.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import MultiSocketServer, create_server
from waitress.task import ErrorTask, WSGITask

from lnpay.web.errors import HTTP_WORDS

THREADS = 16
"""Requests served at once. Each mostly waits for Strike, so many more than cores."""

MOST_CONNECTIONS = 4_000

RESERVED_FILES = 100
"""File descriptors reserved for the database, Strike and the log."""

ACCEPTED_AT_ONCE = 64

MAX_BODY_BYTES = 64 * 1024
"""Far more than any request needs. A larger body is refused as soon as its size is known, and never stored."""

MAX_HEADER_BYTES = 32 * 1024

REQUEST_SECONDS = 30.0
"""Time from the first byte of a request to its last. Slower clients are disconnected."""

LINGER_SECONDS = 5.0
"""After an error that ends a connection, the client's remaining data is read and dropped for this long. Closing at once
would reset the connection, and the client would lose the answer."""

STOP_NOTICED_SECONDS = 0.5
"""How often an idle server checks `stop`."""

FINISH_SECONDS = 35.0
"""How long a stopping server continues with requests that have arrived; longer than calls to Strike take."""

ARRIVE_SECONDS = 2.0
"""How long it waits for the rest of a request that is still arriving."""

FINISHED_NOTICED_SECONDS = 0.05

FIRST_REQUEST_SECONDS = 1.0
"""How long after connecting a client may still send its first request to a stopping server."""


def make_server(
    app: Any,  # noqa: ANN401 - Waitress is untyped
    host: str,
    port: int,
    is_quick: Callable[[str], bool],
    *,
    sockets: Sequence[socket.socket] = (),
) -> Any:  # noqa: ANN401
    """A server for `app`, to be passed to run_until. is_quick: whether GET of a path never blocks.

    sockets: already listening, in place of `host` and `port`.
    Raises OSError if the port is in use.
    """
    where: dict[str, Any] = {"sockets": list(sockets)} if sockets else {"host": host, "port": port}
    server = create_server(
        app,
        **where,
        threads=THREADS,
        ident="LNPay",
        connection_limit=_room_for_connections(),
        asyncore_use_poll=True,
        # Browsers keep idle connections open, so close them soon.
        channel_timeout=30,
        cleanup_interval=10,
        # `lnpay.web.clients` decides which proxies may name the client; nothing else reads these headers.
        clear_untrusted_proxy_headers=False,
        # Waitress refuses what reaches the limit, not what exceeds it.
        max_request_body_size=MAX_BODY_BYTES + 1,
        max_request_header_size=MAX_HEADER_BYTES,
    )
    # A host with several addresses gets a server for each.
    for one in getattr(server, "map", {}).values() if not hasattr(server, "handle_accept") else [server]:
        if hasattr(one, "active_channels"):
            _make_quick(one, is_quick)
    return server


def run_until(server: Any, stop: threading.Event) -> None:  # noqa: ANN401 - untyped there
    """Serve requests until `stop` is set. Then refuse new connections, and finish what has arrived."""
    sockets: Any = server.map if isinstance(server, MultiSocketServer) else server._map
    while not stop.is_set():
        wasyncore.loop(STOP_NOTICED_SECONDS, use_poll=True, map=sockets, count=1)
    for listener in [one for one in sockets.values() if hasattr(one, "active_channels")]:
        # Closing the socket would lose the requests of clients that the system has already connected, so accept those
        # first. Later clients are refused, and a proxy sends their requests to another server.
        known = -1
        while known != len(listener.active_channels):
            known = len(listener.active_channels)
            listener.handle_accept()
        wasyncore.dispatcher.close(listener)
    stopped = time.monotonic()
    while (waited := time.monotonic() - stopped) < FINISH_SECONDS and any(
        isinstance(one, _Channel) and (one.is_answering() or (waited < ARRIVE_SECONDS and one.is_expecting()))
        for one in sockets.values()
    ):
        wasyncore.loop(FINISHED_NOTICED_SECONDS, use_poll=True, map=sockets, count=1)
    server.task_dispatcher.shutdown()


def _room_for_connections() -> int:
    try:
        import resource
    except ImportError:  # Windows has no such limit, and its select() takes 512
        return 400
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + RESERVED_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return (
        MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else max(100, min(MOST_CONNECTIONS, soft - RESERVED_FILES))
    )


class _Parser(HTTPRequestParser):
    """Parses one request as it arrives."""

    def received(self, data: bytes) -> int:
        """Consume the bytes of this request. Returns how many there were."""
        consumed: int = super().received(data)
        # A request that is refused or has no body must not get "100 Continue"; Waitress would send it, and forget the
        # request.
        if self.completed:
            self.expect_continue = False
        return consumed


class _Task(WSGITask):
    """One answer. Unlike Waitress, it keeps the connection open after a 304, which has no body."""

    def set_close_on_finish(self) -> None:
        """Close the connection after this answer, if requested or required."""
        asked: dict[str, str] = getattr(self.request, "headers", {})
        is_asked = self.version == "1.0" or asked.get("CONNECTION", "").lower() == "close"
        if self.has_body or is_asked:
            super().set_close_on_finish()


class _ErrorTask(ErrorTask):
    """The answer to invalid HTTP or a request that is too large, in LNPay's error shape."""

    def execute(self) -> None:
        """Write the answer; the connection is closed after it."""
        error = self.request.error  # type: ignore[attr-defined]
        code, message = HTTP_WORDS.get(error.code, (error.reason.lower().replace(" ", "_"), error.reason))
        body = json.dumps({"status": "error", "code": code, "message": message, "errors": {}}).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))  # type: ignore[attr-defined]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.channel.is_to_linger = True  # type: ignore[attr-defined]
        self.write(b"" if getattr(self.request, "command", "") == "HEAD" else body)


class _Channel(HTTPChannel):
    """One connection. A quick request is answered in the event loop, any other by a thread.

    Only the loop's thread uses the fields below, except `is_to_linger`, which is set before the answer is written.
    """

    task_class = _Task
    error_task_class = _ErrorTask
    parser_class = _Parser

    reading_thread: int | None = None
    """The loop's thread, while it reads from this connection."""
    is_quick_next = False
    """Whether the request just read is quick and no other precedes it."""
    started_at: float | None = None
    """When the current request began to arrive."""
    is_to_linger = False
    lingers_until: float | None = None

    def handle_read(self) -> None:
        """Read what has arrived, and answer it here if it is quick."""
        if self.lingers_until is not None:
            self._drop_input()
            return
        self.reading_thread = threading.get_ident()
        try:
            super().handle_read()
        finally:
            self.reading_thread = None
        if self.request is None:
            self.started_at = None
        elif self.started_at is None:
            self.started_at = time.monotonic()
        # Not earlier: while it reads, the channel holds the lock that answering needs. Requests that came in the same
        # packet are handed to a thread after this one, by `service` itself.
        if self.is_quick_next:
            self.is_quick_next = False
            self.service()

    def is_answering(self) -> bool:
        """Whether a request is being answered, or its answer sent."""
        return bool(self.requests or self.total_outbufs_len)

    def is_expecting(self) -> bool:
        """Whether a request is arriving, or the first one has yet to come."""
        is_new = self.last_activity == self.creation_time and time.time() - self.creation_time < FIRST_REQUEST_SECONDS
        return is_new or self.request is not None

    def takes_in_loop(self) -> bool:
        """Whether the caller is the loop while it reads, which alone may answer here."""
        return self.reading_thread == threading.get_ident()

    def readable(self) -> bool:
        """Whether the loop should read from this connection."""
        return self.lingers_until is not None or bool(super().readable())

    def handle_write(self) -> None:
        """Send pending data; close the connection after the last of it."""
        if self.is_to_linger and self.close_when_flushed and not self.will_close:
            self._flush_exception(self._flush_some)  # type: ignore[attr-defined]
            if not self.total_outbufs_len and not self.will_close:
                self.is_to_linger = self.close_when_flushed = False
                self.lingers_until = time.monotonic() + LINGER_SECONDS
                with suppress(OSError):
                    self.socket.shutdown(socket.SHUT_WR)  # type: ignore[union-attr]
            if not self.will_close:
                return
        super().handle_write()

    def is_overdue(self) -> bool:
        """Whether the client has used up its time."""
        now = time.monotonic()
        if self.lingers_until is not None:
            return now > self.lingers_until
        if self.started_at is not None and self.requests:  # a request is being answered, so the next is not read yet
            self.started_at = now
        return self.started_at is not None and now - self.started_at > REQUEST_SECONDS

    def _drop_input(self) -> None:
        try:
            self.recv(self.adj.recv_bytes)  # closes the channel itself if the client has
        except OSError:
            self.handle_close()
        if self.is_overdue():
            self.will_close = True


def _make_quick(server: Any, is_quick: Callable[[str], bool]) -> None:  # noqa: ANN401 - untyped there
    accept_one, hand_over, maintain = server.handle_accept, server.add_task, server.maintenance

    def handle_accept() -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            known = len(server.active_channels)
            accept_one()
            if len(server.active_channels) == known:
                return

    def add_task(channel: Any) -> None:  # noqa: ANN401 - untyped there
        request = channel.requests[0]
        if channel.takes_in_loop() and not request.error and request.command == "GET" and is_quick(request.path):
            channel.is_quick_next = True
        else:
            hand_over(channel)

    def maintenance(now: float) -> None:
        maintain(now)
        for channel in server.active_channels.values():
            if channel.is_overdue():
                channel.will_close = True

    server.channel_class = _Channel
    server.handle_accept = handle_accept
    server.add_task = add_task
    server.maintenance = maintenance

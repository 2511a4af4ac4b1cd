"""Waitress, made fit for thousands of open payment pages that each ask a short question every two seconds.

Measured with `python -m bench status`: as Waitress comes, pages queue up for seconds. What helps:
- a connection is kept after a 304; Waitress would close it, and every question would bring a new one;
- room for thousands of connections, watched with poll() (select() ends at 1,024);
- all waiting connections are accepted in one turn of its loop, not one: after a restart every page comes at once;
- what the status board knows by heart is answered in the loop itself, without a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import MultiSocketServer, create_server
from waitress.task import WSGITask

THREADS = 16
"""Requests served at once. Each mostly waits for Strike, so many more than cores."""

MOST_CONNECTIONS = 4_000

RESERVED_FILES = 100
"""Of the files that a process may open: for the database, Strike and the log."""

ACCEPTED_AT_ONCE = 64

STOP_NOTICED_SECONDS = 0.5
"""How long a server without anything to do looks away from `stop`."""


def make_server(app: Any, host: str, port: int, is_quick: Callable[[str], bool]) -> Any:  # noqa: ANN401 - untyped there
    """A server for `app`, for run_until. is_quick: whether a path is answered at once, without waiting for anything.

    Raises OSError when the port is taken.
    """
    server = create_server(
        app,
        host=host,
        port=port,
        threads=THREADS,
        ident="LNPay",
        connection_limit=_room_for_connections(),
        asyncore_use_poll=True,
        # Browsers keep connections open that they do not use, but not for long.
        channel_timeout=30,
        cleanup_interval=10,
    )
    # A host with several addresses has a server for each.
    for one in getattr(server, "map", {}).values() if not hasattr(server, "handle_accept") else [server]:
        if hasattr(one, "active_channels"):
            _make_quick(one, is_quick)
    return server


def run_until(server: Any, stop: threading.Event) -> None:  # noqa: ANN401 - untyped there
    """Answer requests until `stop` is set, then finish those that threads are at."""
    sockets = server.map if isinstance(server, MultiSocketServer) else server._map
    while not stop.is_set():
        wasyncore.loop(STOP_NOTICED_SECONDS, use_poll=True, map=sockets, count=1)
    server.task_dispatcher.shutdown()


def _room_for_connections() -> int:
    try:
        import resource
    except ImportError:  # Windows, where there is no such limit and select() takes 512
        return 400
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + RESERVED_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return (
        MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else max(100, min(MOST_CONNECTIONS, soft - RESERVED_FILES))
    )


class _Task(WSGITask):
    """One answer. Waitress closes the connection after one that has no body, although a 304 ends by itself."""

    def set_close_on_finish(self) -> None:
        """Close the connection after this answer, where that is asked for or needed."""
        asked: dict[str, str] = getattr(self.request, "headers", {})
        is_asked = self.version == "1.0" or asked.get("CONNECTION", "").lower() == "close"
        if self.has_body or is_asked:
            super().set_close_on_finish()


class _Channel(HTTPChannel):
    """One connection. A quick request is served by the loop that has read it, any other by a thread."""

    is_quick_now = False
    task_class = _Task

    def handle_read(self) -> None:
        super().handle_read()
        # Not earlier: while it reads, the channel holds the lock that serving needs.
        if self.is_quick_now:
            self.is_quick_now = False
            self.service()


def _make_quick(server: Any, is_quick: Callable[[str], bool]) -> None:  # noqa: ANN401 - untyped there
    accept_one, hand_over = server.handle_accept, server.add_task

    def handle_accept() -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            known = len(server.active_channels)
            accept_one()
            if len(server.active_channels) == known:
                return

    def add_task(channel: Any) -> None:  # noqa: ANN401 - untyped there
        # A second request that has come with the first is handed over by the channel itself: to a thread.
        request = channel.requests[0]
        if channel.is_quick_now or request.error or not is_quick(request.path):
            hand_over(channel)
        else:
            channel.is_quick_now = True

    server.channel_class = _Channel
    server.handle_accept = handle_accept
    server.add_task = add_task

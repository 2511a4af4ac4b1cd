"""The app behind the real server on a real port, and what its loop and threads did."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lnpay.web import create_app
from lnpay.web.customer.checkout import STATUS_CACHE
from lnpay.web.serving import make_server, run_until
from tests.world import World


@dataclass
class LiveServer:
    """A running server. `answered_by`: the threads that called the app, in order."""

    port: int
    server: Any
    answered_by: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def open_channels(self) -> int:
        return len(self.server.active_channels)

    def assert_all_channels_close(self) -> None:
        """Fail unless the server drops every connection within seconds."""
        ends_at = time.monotonic() + 5
        while self.open_channels and time.monotonic() < ends_at:
            time.sleep(0.02)
        assert self.open_channels == 0


@contextmanager
def serving(world: World) -> Iterator[LiveServer]:
    """Serve the world. Each answer repeats the header X-Number of its request."""
    app = create_app(world.backend)
    answer = app.wsgi_app
    answered_by: list[str] = []

    def noting(environ: dict[str, Any], start_response: Any) -> object:
        answered_by.append(threading.current_thread().name)

        def start(status: str, headers: list[tuple[str, str]], *rest: object) -> object:
            return start_response(status, [*headers, ("X-Number", environ.get("HTTP_X_NUMBER", ""))], *rest)

        return answer(environ, start)  # type: ignore[arg-type]

    server = make_server(noting, "127.0.0.1", 0, app.extensions[STATUS_CACHE].is_fresh)
    stop = threading.Event()
    loop = threading.Thread(target=run_until, args=(server, stop), name="loop", daemon=True)
    loop.start()
    try:
        yield LiveServer(int(server.effective_port), server, answered_by)
    finally:
        stop.set()
        server.pull_trigger()
        loop.join(10)
        server.close()

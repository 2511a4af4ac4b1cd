"""The server: quick answers in its loop, everything else in threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from lnpay.web import create_app
from lnpay.web.checkout import BOARD
from lnpay.web.serving import make_server, run_until
from tests.world import World


@contextmanager
def serving(world: World) -> Iterator[tuple[str, list[str]]]:
    """Serve the world on a real port. Gives its URL and the threads that answered, in order."""
    app = create_app(world.backend)
    answer = app.wsgi_app
    answered_by: list[str] = []

    def noting(environ: dict[str, object], start_response: object) -> object:
        answered_by.append(threading.current_thread().name)
        return answer(environ, start_response)  # type: ignore[arg-type]

    server = make_server(noting, "127.0.0.1", 0, app.extensions[BOARD].is_fresh)
    stop = threading.Event()
    loop = threading.Thread(target=run_until, args=(server, stop), name="loop", daemon=True)
    loop.start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}", answered_by
    finally:
        stop.set()
        loop.join(10)
        server.close()


@pytest.mark.parametrize("keeps_connection", [True, False])
def test_what_the_board_knows_is_answered_by_the_loop(world: World, keeps_connection: bool) -> None:
    invoice = world.sell()
    with serving(world) as (url, answered_by), requests.Session() as session:
        session.headers["Connection"] = "keep-alive" if keeps_connection else "close"

        answers = [session.get(f"{url}/checkout/{invoice.token}/status", timeout=5) for _ in range(3)]

    assert len({answer.content for answer in answers}) == 1
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert answered_by[0] != "loop"
    assert answered_by[1:] == ["loop", "loop"]


def test_everything_else_is_answered_by_a_thread(world: World) -> None:
    invoice = world.sell()
    with serving(world) as (url, answered_by):
        for path in (f"/checkout/{invoice.token}", "/checkout/x/status", "/healthz"):
            requests.get(url + path, timeout=5)

    assert "loop" not in answered_by

"""The server: quick answers in its loop, everything else in threads."""

from __future__ import annotations

import http.client
from contextlib import closing

import pytest
import requests

from tests.web.live_server import serving
from tests.world import World


@pytest.mark.parametrize("keeps_connection", [True, False])
def test_a_cached_status_is_answered_by_the_loop(world: World, keeps_connection: bool) -> None:
    invoice = world.sell()
    with serving(world) as live, requests.Session() as session:
        session.headers["Connection"] = "keep-alive" if keeps_connection else "close"

        answers = [session.get(f"{live.url}/checkout/{invoice.token}/status", timeout=5) for _ in range(3)]

    assert len({answer.content for answer in answers}) == 1
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert live.answered_by[0] != "loop"
    assert live.answered_by[1:] == ["loop", "loop"]


def ask(connection: http.client.HTTPConnection, path: str, **headers: str) -> http.client.HTTPResponse:
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    return answer


def test_a_page_that_asks_again_and_again_keeps_its_connection(world: World) -> None:
    path = f"/checkout/{world.sell().token}/status"
    with serving(world) as live, closing(http.client.HTTPConnection("127.0.0.1", live.port)) as connection:
        etag = ask(connection, path).headers["ETag"]
        socket = connection.sock

        answers = [ask(connection, path, **{"If-None-Match": etag}) for _ in range(3)]

        assert [answer.status for answer in answers] == [304, 304, 304]
        assert connection.sock is socket is not None


@pytest.mark.parametrize(("version", "headers"), [("HTTP/1.1", {"Connection": "close"}), ("HTTP/1.0", {})])
def test_a_connection_is_closed_on_request(world: World, version: str, headers: dict[str, str]) -> None:
    path = f"/checkout/{world.sell().token}/status"
    with serving(world) as live, closing(http.client.HTTPConnection("127.0.0.1", live.port)) as connection:
        etag = ask(connection, path).headers["ETag"]
        connection._http_vsn_str = version  # type: ignore[attr-defined]

        answer = ask(connection, path, **{"If-None-Match": etag}, **headers)

        assert (answer.status, answer.headers["Connection"]) == (304, "close")


def test_everything_else_is_answered_by_a_thread(world: World) -> None:
    invoice = world.sell()
    with serving(world) as live:
        for path in (f"/checkout/{invoice.token}", "/checkout/x/status", "/healthz"):
            requests.get(live.url + path, timeout=5)

    assert "loop" not in live.answered_by

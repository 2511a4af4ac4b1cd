"""A stopping server answers every request that has reached its machine."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lnpay.web.serving import make_server, run_until

REQUEST = b"GET /slow HTTP/1.1\r\nHost: shop\r\n\r\n"
LONGER_THAN_WAITRESS_WAITS = 5.5


def make(answer: Callable[[], None]) -> Any:
    """A server whose app calls `answer` before it answers."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        answer()
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    return make_server(app, "127.0.0.1", 0, lambda path: False)


@contextmanager
def connected(server: Any) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", int(server.effective_port)), timeout=20) as client:
        yield client


def read_all(client: socket.socket) -> bytes:
    answer = b""
    while not answer.endswith(b"ok") and (part := client.recv(1_000)):
        answer += part
    return answer


def test_clients_that_are_connected_but_not_yet_accepted_are_answered() -> None:
    server, stop = make(lambda: None), threading.Event()
    stop.set()
    with connected(server) as whole, connected(server) as half:
        whole.sendall(REQUEST)
        half.sendall(REQUEST[:10])
        loop = threading.Thread(target=run_until, args=(server, stop))
        loop.start()

        assert read_all(whole).startswith(b"HTTP/1.1 200 OK")
        half.sendall(REQUEST[10:])
        assert read_all(half).startswith(b"HTTP/1.1 200 OK")
        loop.join(20)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(server.effective_port)))
    assert not loop.is_alive()
    server.close()


def test_a_request_that_takes_long_is_answered_and_idle_connections_do_not_delay_the_end() -> None:
    begun = threading.Event()

    def answer() -> None:
        begun.set()
        time.sleep(LONGER_THAN_WAITRESS_WAITS)

    server, stop = make(answer), threading.Event()
    loop = threading.Thread(target=run_until, args=(server, stop))
    loop.start()
    with connected(server) as idle, connected(server) as client:
        client.sendall(REQUEST)
        assert begun.wait(10)
        stop.set()

        assert read_all(client).startswith(b"HTTP/1.1 200 OK")
        loop.join(10)
        assert idle.fileno() > 0
    assert not loop.is_alive()
    server.close()

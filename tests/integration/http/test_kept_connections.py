"""A provider that keeps connections open: every call gets its own answer, however the one before it ended."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests

from lnpay.domain.errors import StrikeAmbiguous, StrikeError
from lnpay.http.outgoing import AnswerTooLarge, HttpAnswer, call, call_for_status, pooled_session
from lnpay.repository import Repository
from lnpay.strike.budget import Budget
from lnpay.strike.client import Strike

Step = Callable[[socket.socket, bytes], None]
"""Answers one request, whose body is given, on a connection that stays open."""

IDLE_SECONDS = 0.2
"""For bytes and the end of a connection to arrive on this machine."""


def echo(connection: socket.socket, body: bytes) -> None:
    """Answer with what was sent."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def late(connection: socket.socket, body: bytes) -> None:
    time.sleep(1)
    echo(connection, body)


def twice(connection: socket.socket, body: bytes) -> None:
    echo(connection, body)
    echo(connection, b"once more")


def close_after(connection: socket.socket, body: bytes) -> None:
    echo(connection, body)
    connection.shutdown(socket.SHUT_RDWR)


def close_unanswered(connection: socket.socket, body: bytes) -> None:
    connection.shutdown(socket.SHUT_RDWR)


class Provider:
    """Answers the n-th request with the n-th step; later ones are echoed. Counts connections, keeps the bodies."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.connections = 0
        self.bodies: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream, suppress(OSError):
            while True:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    line = stream.readline()
                    if not line:
                        return
                    head += line
                length = re.search(rb"(?i)content-length: (\d+)", head)
                body = stream.read(int(length[1])) if length else b""
                self.bodies.append(body)
                (self.steps.pop(0) if self.steps else echo)(connection, body)


@contextmanager
def provider(*steps: Step) -> Iterator[Provider]:
    made = Provider(*steps)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with pooled_session() as made:
        yield made


def ask(session: requests.Session, server: Provider, body: bytes, seconds: float = 5, max_bytes: int = 100) -> bytes:
    answer: HttpAnswer = call(
        session, "POST", server.url, timeout=(seconds / 2, seconds / 2), max_bytes=max_bytes, data=body
    )
    return answer.content


def test_calls_share_a_connection(session: requests.Session) -> None:
    with provider() as server:
        assert [ask(session, server, b"%d" % n) for n in range(5)] == [b"%d" % n for n in range(5)]
        assert server.connections == 1


def test_an_answer_that_came_too_late_is_not_that_of_the_next_call(session: requests.Session) -> None:
    with provider(late) as server:
        with pytest.raises(requests.ReadTimeout):
            ask(session, server, b"first", seconds=0.4)
        time.sleep(1)

        assert ask(session, server, b"second") == b"second"
        assert server.connections == 2


def test_an_answer_sent_twice_is_not_that_of_the_next_call(session: requests.Session) -> None:
    with provider(twice) as server:
        assert ask(session, server, b"first") == b"first"
        time.sleep(IDLE_SECONDS)

        assert ask(session, server, b"second") == b"second"


def test_the_rest_of_an_answer_that_is_too_large_is_not_that_of_the_next_call(session: requests.Session) -> None:
    with provider() as server:
        with pytest.raises(AnswerTooLarge):
            ask(session, server, b"x" * 50_000)

        assert ask(session, server, b"second") == b"second"


def test_a_body_that_is_not_read_is_not_the_answer_of_the_next_call(session: requests.Session) -> None:
    with provider() as server:
        status = call_for_status(session, "POST", server.url, timeout=(2, 2), data=b"x" * 50_000, peek_bytes=10)

        assert (status.status_code, status.content) == (200, b"x" * 10)
        assert ask(session, server, b"second") == b"second"


def test_a_connection_that_was_closed_meanwhile_is_opened_again(session: requests.Session) -> None:
    with provider(close_after) as server:
        assert ask(session, server, b"first") == b"first"
        time.sleep(IDLE_SECONDS)

        assert ask(session, server, b"second") == b"second"
        assert (server.connections, server.bodies) == (2, [b"first", b"second"])


def test_a_request_on_a_connection_that_closes_at_that_moment_is_not_sent_again(session: requests.Session) -> None:
    with provider(echo, close_unanswered) as server:
        ask(session, server, b"first")

        with pytest.raises(requests.ConnectionError) as caught:
            ask(session, server, b"second")

        assert not isinstance(caught.value, requests.ConnectTimeout)
        assert server.bodies == [b"first", b"second"]


def test_strike_may_have_done_what_was_sent_on_such_a_connection(tmp_path: Path) -> None:
    repository = Repository(f"sqlite:///{tmp_path}/invoices.sqlite")
    repository.upgrade()
    with provider(echo, close_unanswered) as server, pooled_session() as session:
        strike = Strike("a-key", server.url, Budget(repository), session=session)
        with pytest.raises(StrikeError):
            strike.quote_invoice("first")

        with pytest.raises(StrikeAmbiguous):
            strike.quote_invoice("second")

        assert (server.connections, len(server.bodies)) == (1, 2)
    repository.close()

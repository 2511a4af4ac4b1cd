"""Pipelined requests on one connection: each is answered, in order, and no connection leaks."""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.sandbox_process import ROOT, running_sandbox
from tests.web.live_server import LiveServer, serving
from tests.web.raw_http import Answer, Answers, connect, send_in_pieces
from tests.world import World

KINDS = ("status", "known", "head", "thread", "post", "chunked", "expect")
CONNECTIONS = 200


class Pages:
    """A server, and the requests that a test can put together for one of its payments."""

    def __init__(self, live: LiveServer, path: str) -> None:
        self.live, self.path = live, path
        with connect(live.port) as connection:
            connection.sendall(self.request("status", 0))
            self.etag = Answers(connection).next().headers["etag"]
        live.assert_all_channels_close()

    def request(self, kind: str, number: int, headers: str = "", version: str = "1.1") -> bytes:
        """The bytes of one request. "status" and "known" are those that the loop answers."""
        extra = f"Host: x\r\nX-Number: {number}\r\n{headers}"
        if kind in ("post", "chunked", "expect"):
            extra += "Content-Type: application/json\r\n"
            extra += "Transfer-Encoding: chunked\r\n" if kind == "chunked" else "Content-Length: 2\r\n"
            extra += "Expect: 100-continue\r\n" if kind == "expect" else ""
            body = "2\r\n{}\r\n0\r\n\r\n" if kind == "chunked" else "{}"
            return f"POST /generate-invoice HTTP/{version}\r\n{extra}\r\n{body}".encode()
        method = "HEAD" if kind == "head" else "GET"
        path = "/healthz" if kind == "thread" else self.path
        extra += f"If-None-Match: {self.etag}\r\n" if kind == "known" else ""
        return f"{method} {path} HTTP/{version}\r\n{extra}\r\n".encode()

    def ask(self, kinds: list[str], cuts: list[int], last: str = "") -> list[Answer]:
        """Send requests of these kinds at once; return what is answered. last: a header of the last one."""
        requests = [self.request(kind, n, last if n == len(kinds) - 1 else "") for n, kind in enumerate(kinds)]
        data = b"".join(requests)
        with connect(self.live.port) as connection:
            send_in_pieces(connection, data, [cut % len(data) for cut in cuts])
            answers = Answers(connection)
            found = [next_final(answers, kind) for kind in kinds]
            assert not last or answers.is_at_end()
        return found


def next_final(answers: Answers, kind: str) -> Answer:
    """The next answer, without a "100 Continue" before it."""
    answer = answers.next("HEAD" if kind == "head" else "GET")
    return answers.next() if answer.status == 100 else answer


STATUS_OF = {"status": 200, "known": 304, "head": 200, "thread": 200, "post": 400, "chunked": 400, "expect": 400}


def assert_all_answered(kinds: list[str], answers: list[Answer]) -> None:
    """In order, each by what it asked for."""
    assert [answer.number for answer in answers] == [str(n) for n in range(len(kinds))]
    assert [answer.status for answer in answers] == [STATUS_OF[kind] for kind in kinds]


@pytest.fixture
def pages(world: World) -> Iterator[Pages]:
    path = f"/checkout/{world.sell().token}/status"
    with serving(world) as live:
        yield Pages(live, path)


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", KINDS)
def test_two_requests_in_one_packet_are_both_answered(pages: Pages, first: str, second: str) -> None:
    kinds = [first, second, first]

    assert_all_answered(kinds, pages.ask(kinds, []))
    pages.live.assert_all_channels_close()


@pytest.mark.parametrize("seed", range(40))
def test_any_mix_split_anywhere_is_answered_in_order(pages: Pages, seed: int) -> None:
    chosen = random.Random(seed)
    kinds = chosen.choices(KINDS, k=chosen.randint(2, 30))
    cuts = [chosen.randrange(100_000) for _ in range(chosen.randint(0, 6))]
    last = chosen.choice(["", "Connection: close\r\n"])

    assert_all_answered(kinds, pages.ask(kinds, cuts, last))
    pages.live.assert_all_channels_close()


@pytest.mark.parametrize("kind", ["status", "known", "thread"])
def test_http_1_0_gets_its_answer_and_the_end(pages: Pages, kind: str) -> None:
    with connect(pages.live.port) as connection:
        connection.sendall(pages.request(kind, 0, version="1.0") + pages.request(kind, 1, version="1.0"))
        answers = Answers(connection)

        assert answers.next().number == "0"
        assert answers.is_at_end()
    pages.live.assert_all_channels_close()


def test_http_1_0_that_keeps_its_connection_is_answered_in_order(pages: Pages) -> None:
    with connect(pages.live.port) as connection:
        requests = [pages.request("status", n, "Connection: keep-alive\r\n", "1.0") for n in range(5)]
        connection.sendall(b"".join(requests))
        answers = Answers(connection)

        assert [answers.next().number for _ in requests] == ["0", "1", "2", "3", "4"]
    pages.live.assert_all_channels_close()


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nBad Header\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 70000\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: 70000\r\nExpect: 100-continue\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 431),
    ],
)
@pytest.mark.parametrize("kind", ["status", "post"])
def test_an_error_in_the_middle_is_answered_in_order_and_closes_the_connection(
    pages: Pages, kind: str, wrong: bytes, status: int
) -> None:
    with connect(pages.live.port) as connection:
        connection.sendall(pages.request(kind, 0) + pages.request("status", 1) + wrong + pages.request("status", 2))
        answers = Answers(connection)

        assert [answers.next().number for _ in range(2)] == ["0", "1"]
        last = answers.next()
        assert (last.status, last.headers["connection"]) == (status, "close")
        assert last.body.startswith(b'{"status": "error", "code": "')
        assert answers.is_at_end()
    pages.live.assert_all_channels_close()


def test_a_request_without_a_body_that_expects_to_continue_is_answered(pages: Pages) -> None:
    with connect(pages.live.port) as connection:
        connection.sendall(pages.request("status", 0, "Expect: 100-continue\r\n") + pages.request("thread", 1))
        answers = Answers(connection)

        assert [answers.next().number for _ in range(2)] == ["0", "1"]


def test_a_client_that_closes_its_sending_side_still_gets_every_answer(pages: Pages) -> None:
    with connect(pages.live.port) as connection:
        connection.sendall(pages.request("status", 0) + pages.request("post", 1) + pages.request("status", 2))
        connection.shutdown(socket.SHUT_WR)
        answers = Answers(connection)

        assert [answers.next().number for _ in range(3)] == ["0", "1", "2"]
        assert answers.is_at_end()


@pytest.mark.parametrize("seed", range(4))
def test_two_hundred_dropped_connections_leave_nothing_open(pages: Pages, seed: int) -> None:
    chosen = random.Random(seed)
    connections = [connect(pages.live.port) for _ in range(CONNECTIONS)]
    for connection in connections:
        kinds = chosen.choices(KINDS, k=chosen.randint(1, 6)) if seed else ["status", "status"]
        data = b"".join(pages.request(kind, n) for n, kind in enumerate(kinds))
        # Some leave in the middle of a request.
        connection.sendall(data[: chosen.randint(1, len(data))] if seed else data)
    for connection in connections:
        if chosen.random() < 0.3:  # Some do not take leave.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()

    pages.live.assert_all_channels_close()
    assert_all_answered(["status", "post"], pages.ask(["status", "post"], []))


def test_a_client_that_never_ends_its_request_is_disconnected(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lnpay.web.serving.REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(pages.live.server.adj, "cleanup_interval", 0.1)
    pages.live.server.next_channel_cleanup = 0
    with connect(pages.live.port, timeout=0.05) as connection:
        assert is_closed_while_sending(connection)
    pages.live.assert_all_channels_close()


def is_closed_while_sending(connection: socket.socket) -> bool:
    """Whether the server ends this connection although a byte comes every 0.05 seconds."""
    for _ in range(400):
        try:
            connection.sendall(b"G")
            return connection.recv(1) == b""
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_server_with_320_descriptors_survives_two_hundred_such_connections(tmp_path: Path) -> None:
    """A process of its own, because the limit is one of processes: it is not raised, and it is reached."""
    with running_sandbox(tmp_path, ROOT, 320) as sandbox:
        made = requests.post(f"{sandbox.url}/generate-invoice", json={"amount_fiat": "1"}, timeout=30).json()
        path = f"/checkout/{made['data']['checkout_url'].rpartition('/')[2]}/status"
        port = int(sandbox.url.rpartition(":")[2])
        question = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        for _ in range(3):
            connections = [connect(port) for _ in range(CONNECTIONS)]
            for connection in connections:
                connection.sendall(question * 2)
            answered = [Answers(connection) for connection in connections]
            assert [[one.next().status, one.next().status] for one in answered] == [[200, 200]] * CONNECTIONS
            for connection in connections:
                connection.sendall(question * 2)
                connection.close()

        assert requests.get(f"{sandbox.url}/healthz", timeout=5).status_code == 200
        with connect(port) as connection:
            connection.sendall(question * 2)
            answers = Answers(connection)
            assert [answers.next().status for _ in range(2)] == [200, 200]

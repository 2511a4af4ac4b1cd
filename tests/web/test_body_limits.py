"""A body over 64 KiB is refused by the server itself: it reaches neither memory nor disk."""

from __future__ import annotations

import socket
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from waitress.buffers import OverflowableBuffer

from lnpay.web.serving import MAX_BODY_BYTES
from tests.web.live_server import LiveServer, serving
from tests.web.raw_http import Answers, connect
from tests.world import World

MEGABYTE = b" " * 1_000_000


@pytest.fixture
def live(world: World) -> Iterator[LiveServer]:
    with serving(world) as live:
        yield live


@pytest.fixture(autouse=True)
def largest_buffer(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of the largest buffer that the server held, whether in memory or in a file."""
    largest = [0]
    append = OverflowableBuffer.append

    def noting(self: OverflowableBuffer, data: bytes) -> None:
        append(self, data)
        largest[0] = max(largest[0], len(self))

    monkeypatch.setattr(OverflowableBuffer, "append", noting)
    return largest


@pytest.mark.parametrize("path", ["/generate-invoice", "/webhook", "/refund/x", "/nothing", "/healthz"])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_sixty_megabytes_are_a_413_and_are_never_held(
    live: LiveServer, path: str, is_chunked: bool, largest_buffer: list[int]
) -> None:
    body = (MEGABYTE for _ in range(60)) if is_chunked else MEGABYTE * 60
    tracemalloc.start()
    try:
        answer = requests.post(live.url + path, data=body, headers={"Content-Type": "application/json"}, timeout=20)
        _, most_memory = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")
    assert answer.headers["Connection"] == "close"
    assert largest_buffer[0] <= MAX_BODY_BYTES + 8_192
    assert most_memory < 20_000_000
    assert live.answered_by == []
    live.assert_all_channels_close()


@pytest.mark.parametrize(("size", "status"), [(MAX_BODY_BYTES, 400), (MAX_BODY_BYTES + 1, 413)])
def test_exactly_64_kib_reach_the_app(live: LiveServer, size: int, status: int) -> None:
    answer = requests.post(
        f"{live.url}/generate-invoice", data=b" " * size, headers={"Content-Type": "application/json"}, timeout=5
    )

    assert answer.status_code == status


def test_a_body_longer_than_its_length_says_is_not_read_as_one(live: LiveServer, largest_buffer: list[int]) -> None:
    with connect(live.port) as connection:
        head = b"POST /generate-invoice HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        sending = threading.Thread(target=send_all, args=(connection, head + MEGABYTE * 60))
        sending.start()
        answers = Answers(connection)

        assert [answers.next().status for _ in range(2)] == [400, 431]
        sending.join()
    assert largest_buffer[0] <= MAX_BODY_BYTES
    live.assert_all_channels_close()


def send_all(connection: socket.socket, data: bytes) -> None:
    """Send as much as the server takes."""
    with suppress(OSError):
        connection.sendall(data)


def test_a_body_shorter_than_its_length_says_is_dropped_when_its_client_leaves(live: LiveServer) -> None:
    for _ in range(20):
        with connect(live.port) as connection:
            connection.sendall(b"POST /generate-invoice HTTP/1.1\r\nContent-Length: 60000\r\n\r\n{")

    live.assert_all_channels_close()
    assert live.answered_by == []


def test_an_endless_line_of_chunks_is_cut(live: LiveServer) -> None:
    with connect(live.port) as connection:
        head = b"POST /generate-invoice HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        sending = threading.Thread(target=send_all, args=(connection, head + b"1;" + b"x" * 3_000_000))
        sending.start()

        assert Answers(connection).next().status == 413
        sending.join()
    live.assert_all_channels_close()


def test_a_temporary_file_is_never_needed(live: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))

    answer = requests.post(
        f"{live.url}/generate-invoice",
        data=b" " * MAX_BODY_BYTES,
        headers={"Content-Type": "application/json"},
        timeout=5,
    )

    assert answer.status_code == 400

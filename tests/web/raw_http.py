"""Raw bytes to a server and its answers: requests that an HTTP library would refuse to send."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Answer:
    """One answer. `number`: the X-Number of the request that it belongs to."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def number(self) -> str:
        return self.headers.get("x-number", "")


def connect(port: int, timeout: float = 5.0) -> socket.socket:
    """A connection whose reads fail after `timeout` seconds."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def send_in_pieces(connection: socket.socket, data: bytes, cuts: list[int]) -> None:
    """Send `data`, cut at these places, each piece in a packet of its own."""
    places = [0, *sorted(cuts), len(data)]
    for start, end in pairwise(places):
        connection.sendall(data[start:end])
        if end != len(data):
            time.sleep(0.01)


class Answers:
    """Reads the answers of one connection, one by one."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._held = b""

    def next(self, method: str = "GET") -> Answer:
        """The next answer. Raises TimeoutError when there is none, EOFError when the server has closed."""
        while b"\r\n\r\n" not in self._held:
            self._receive()
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        first, *fields = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
        status = int(first.split()[1])
        has_body = method != "HEAD" and status >= 200 and status not in (204, 304)
        size = int(headers.get("content-length", 0)) if has_body else 0
        while len(self._held) < size:
            self._receive()
        body, self._held = self._held[:size], self._held[size:]
        return Answer(status, headers, body)

    def is_at_end(self) -> bool:
        """Whether the server has closed, and sent nothing more."""
        return not self._held and self._connection.recv(1) == b""

    def _receive(self) -> None:
        received = self._connection.recv(65_536)
        if not received:
            raise EOFError
        self._held += received

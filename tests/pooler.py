"""A connection pooler in transaction mode, as PgBouncer is run: each transaction gets any session of the server.

It speaks as much of PostgreSQL's protocol as it takes to see where a transaction ends
(https://www.postgresql.org/docs/current/protocol-flow.html). Sessions are handed out in turn, so that two transactions
of one client never share one by luck, and nothing that a client sets on its session is reset.
"""

from __future__ import annotations

import queue
import secrets
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.engine import URL, make_url

SESSIONS = 3
PROTOCOL = 3 << 16
COMMIT = (b"Q", b"COMMIT\0")
NO_TLS = {80877103, 80877104}
"""What a client asks before it starts: for TLS, for GSS encryption."""
END_OF_REQUEST = b"QS"
"""A simple query, and Sync after an extended one: the server answers both with ReadyForQuery."""


def read_message(sock: socket.socket) -> tuple[bytes, bytes]:
    """Type and content. Raises ConnectionError at the end of the stream."""
    head = _read_exactly(sock, 5)
    return head[:1], _read_exactly(sock, struct.unpack("!I", head[1:])[0] - 4)


def message(kind: bytes, content: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(content) + 4) + content


def _read_exactly(sock: socket.socket, size: int) -> bytes:
    read = b""
    while len(read) < size:
        part = sock.recv(size - len(read))
        if not part:
            raise ConnectionError("closed")
        read += part
    return read


def _read_start(client: socket.socket) -> int:
    """The code of a client's first message: PROTOCOL, one of NO_TLS, or a request to cancel."""
    size = struct.unpack("!I", _read_exactly(client, 4))[0]
    return int(struct.unpack("!I", _read_exactly(client, size - 4)[:4])[0])


@dataclass
class Pooler:
    """Listens on a port of its own and shares SESSIONS sessions of the database at `url`.

    commits: how many it has passed on. lost_commit: of which of them, counted from 0, the client gets no answer and
    loses its connection, though the server has carried it out.
    """

    url: URL
    transactions: int = 0
    commits: int = 0
    lost_commit: int | None = None
    _sessions: queue.Queue[socket.socket] = field(default_factory=queue.Queue)
    _parameters: bytes = b""

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        for _ in range(SESSIONS):
            self._sessions.put(self._open_session())
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def client_url(self) -> str:
        """What DATABASE_URL is for a client of the pooler."""
        port = self._listener.getsockname()[1]
        plain = self.url.set(host="127.0.0.1", port=port, query={})
        return plain.render_as_string(hide_password=False)

    def close(self) -> None:
        # Without the first, accept() would keep the port.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        while not self._sessions.empty():
            self._sessions.get().close()

    def _open_session(self) -> socket.socket:
        folder = self.url.query.get("host")
        if isinstance(folder, str) and Path(folder).is_dir():
            session = socket.socket(socket.AF_UNIX)
            session.connect(f"{folder}/.s.PGSQL.{self.url.port or 5432}")
        else:
            session = socket.create_connection((self.url.host or "127.0.0.1", self.url.port or 5432))
        asked = f"user\0{self.url.username}\0database\0{self.url.database}\0\0".encode()
        session.sendall(struct.pack("!II", len(asked) + 8, PROTOCOL) + asked)
        self._parameters = b""
        while True:
            kind, content = read_message(session)
            if kind == b"E" or (kind == b"R" and content != bytes(4)):
                raise ConnectionError(f"this pooler needs a server that trusts it: {content!r}")
            if kind == b"S":
                self._parameters += message(kind, content)
            if kind == b"Z":
                return session

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                # Answers are many small messages, none of which may wait for the client to confirm the one before it.
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            while (code := _read_start(client)) in NO_TLS:
                client.sendall(b"N")
            if code != PROTOCOL:
                return
            key = message(b"K", secrets.token_bytes(8))
            client.sendall(message(b"R", bytes(4)) + self._parameters + key + message(b"Z", b"I"))
            while self._pass_a_transaction_on(client):
                self.transactions += 1

    def _is_lost(self) -> bool:
        """Count a commit. Whether its answer is to be lost."""
        self.commits += 1
        return self.commits - 1 == self.lost_commit

    def _pass_a_transaction_on(self, client: socket.socket) -> bool:
        """Take a session for one transaction. False when the client says goodbye."""
        kind, content = read_message(client)
        if kind == b"X":
            return False
        session = self._sessions.get()
        is_sound = False
        try:
            status = b""
            while status != b"I":
                is_commit = (kind, content) == COMMIT
                while True:
                    session.sendall(message(kind, content))
                    if kind in END_OF_REQUEST:
                        break
                    kind, content = read_message(client)
                is_lost = is_commit and self._is_lost()
                status = _pass_the_answer_on(session, None if is_lost else client)
                if is_lost:
                    # The session is in order: only the client does not know.
                    is_sound = True
                    return False
                if status != b"I":
                    kind, content = read_message(client)
            is_sound = True
        finally:
            if not is_sound:
                session.close()
                session = self._open_session()
            self._sessions.put(session)
        return True


def _pass_the_answer_on(session: socket.socket, client: socket.socket | None) -> bytes:
    """Up to ReadyForQuery, whose status it gives: I outside a transaction. client: None: the answer is lost."""
    while True:
        kind, content = read_message(session)
        if client is not None:
            client.sendall(message(kind, content))
        if kind == b"Z":
            return content


@contextmanager
def pooling(url: str) -> Iterator[Pooler]:
    """A pooler in front of the database at `url`."""
    pooler = Pooler(make_url(url))
    try:
        yield pooler
    finally:
        pooler.close()

"""A small HTTP proxy: each request goes to a server whose /readyz answers 200, or to the next one if that refuses."""

from __future__ import annotations

import http.client
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

from lnpay.sandbox.server import wait_until

CHECK_EVERY_SECONDS = 0.5
TIMEOUT_SECONDS = 40
OF_THE_CONNECTION = ("connection", "keep-alive", "transfer-encoding", "date", "server", "content-length")


@dataclass
class Upstream:
    """One server. is_drained: it was taken out of service."""

    port: int
    is_ready: bool = False
    is_drained: bool = False
    in_hand: int = 0


class Proxy:
    """Listens until `stop`."""

    def __init__(self, ports: list[int]) -> None:
        self.upstreams = [Upstream(port) for port in ports]
        self._turn = count()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        """Begin to listen, and to ask the servers whether they are ready."""
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        for upstream in self.upstreams:
            threading.Thread(target=self._check, args=(upstream,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening."""
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def drain(self, upstream: Upstream) -> None:
        """Send a server no more requests, and wait for those in progress."""
        upstream.is_drained = True
        assert wait_until(lambda: not upstream.in_hand, TIMEOUT_SECONDS)

    def restore(self, upstream: Upstream) -> None:
        """Send a server requests again when it is ready."""
        upstream.is_ready = upstream.is_drained = False
        assert wait_until(lambda: upstream.is_ready, TIMEOUT_SECONDS)

    def forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and body of a server's answer; our own 502 if none took the request, or one broke off."""
        for upstream in self._usable():
            connection = http.client.HTTPConnection("127.0.0.1", upstream.port, timeout=TIMEOUT_SECONDS)
            with self._lock:
                upstream.in_hand += 1
            try:
                try:
                    connection.connect()
                except OSError:
                    upstream.is_ready = False
                    continue
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                kept = [pair for pair in answer.getheaders() if pair[0].lower() not in OF_THE_CONNECTION]
                return answer.status, kept, answer.read()
            except (OSError, http.client.HTTPException):
                # The server may have processed the request: only the caller knows whether to repeat it.
                return 502, [], b"the server broke off"
            finally:
                connection.close()
                with self._lock:
                    upstream.in_hand -= 1
        return 502, [], b"no server is ready"

    def _usable(self) -> list[Upstream]:
        ready = [one for one in self.upstreams if one.is_ready and not one.is_drained]
        first = next(self._turn) % len(ready) if ready else 0
        return ready[first:] + ready[:first]

    def _check(self, upstream: Upstream) -> None:
        while not self._stopping.wait(CHECK_EVERY_SECONDS):
            connection = http.client.HTTPConnection("127.0.0.1", upstream.port, timeout=8)
            try:
                connection.request("GET", "/readyz")
                upstream.is_ready = connection.getresponse().status == 200
            except (OSError, http.client.HTTPException):
                upstream.is_ready = False
            finally:
                connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: Proxy

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        sent = {name: value for name, value in self.headers.items() if name.lower() not in OF_THE_CONNECTION}
        status, headers, answer = self.proxy.forward(self.command, self.path, sent, body)
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(answer)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = _forward

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

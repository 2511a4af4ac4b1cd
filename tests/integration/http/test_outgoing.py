"""Outgoing HTTP against real servers that answer slowly, endlessly or not at all, with a real netrc file and proxy."""

from __future__ import annotations

import base64
import gzip
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests

from config import delivery
from lnpay.doctor.http_probe import send_probe
from lnpay.domain.errors import (
    LnpayError,
    ShopRefused,
    StrikeAmbiguous,
    StrikeUnavailable,
)
from lnpay.domain.model import Event, utc_now
from lnpay.http.outgoing import (
    AnswerTooLarge,
    HttpAnswer,
    call,
    call_for_status,
    pooled_session,
)
from lnpay.rates.sources import Coinbase, CoinGecko, RateSourceError
from lnpay.runtime.bootstrap import open_strike
from lnpay.strike.client import Strike
from tests.world import world_settings

ROOT = Path(__file__).resolve().parents[3]
JSON_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
Answerer = Callable[[socket.socket], None]


class Server:
    """Takes connections, keeps the head of each request, and answers it with bytes as the test says."""

    def __init__(self, answer: Answerer) -> None:
        self.answer = answer
        self.heads: list[str] = []
        self.cut_after: list[float] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def authorization(self) -> str | None:
        """The login of the only request."""
        (head,) = self.heads
        lines = [line.split(": ", 1)[1] for line in head.split("\r\n") if line.lower().startswith("authorization:")]
        return lines[0] if lines else None

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65_536)
            self.heads.append(head.decode("latin-1"))
            started = time.monotonic()
            try:
                self.answer(connection)
            except OSError:
                self.cut_after.append(time.monotonic() - started)


@contextmanager
def serving(answer: Answerer) -> Iterator[Server]:
    server = Server(answer)
    try:
        yield server
    finally:
        server.close()


def at_once(content: bytes) -> Answerer:
    return lambda connection: connection.sendall(content)


def drip(content: bytes, before: bytes = b"") -> Answerer:
    """Each byte well within any read time-out, all of them for half a minute."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(before)
        for _ in range(10):
            for place in range(len(content)):
                connection.sendall(content[place : place + 1])
                time.sleep(0.03)

    return answer


DRIPS = {
    "status line": drip(b"HTTP/1.1 200 " + b"O" * 300),
    "headers": drip(b"X-More: yes\r\n" * 30, b"HTTP/1.1 200 OK\r\n"),
    "body": drip(b" " * 300, b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n"),
    "chunks": drip(b"1\r\n \r\n" * 50, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "body without an end": drip(b" " * 300, b"HTTP/1.1 200 OK\r\n\r\n"),
    "interim answers": drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 12),
}


def get(url: str, *, seconds: float = 0.4, max_bytes: int = 1_000) -> HttpAnswer:
    with pooled_session() as session:
        return call(session, "GET", url, timeout=(seconds / 2, seconds / 2), max_bytes=max_bytes)


class TestDeadlines:
    @pytest.mark.parametrize("kind", DRIPS)
    def test_an_answer_that_drips_is_cut_at_the_deadline(self, kind: str) -> None:
        with serving(DRIPS[kind]) as server:
            started = time.monotonic()

            with pytest.raises(requests.ReadTimeout):
                get(server.url)

            assert time.monotonic() - started < 1.5

    def test_the_connection_is_cut_too(self) -> None:
        with serving(DRIPS["headers"]) as server:
            with pytest.raises(requests.ReadTimeout):
                get(server.url)
            ends_at = time.monotonic() + 5
            while not server.cut_after and time.monotonic() < ends_at:
                time.sleep(0.01)

            assert server.cut_after[0] < 1.5

    def test_a_kept_connection_has_a_deadline_of_its_own_for_each_call(self) -> None:
        answers = [at_once(JSON_ANSWER.replace(b"Connection: close\r\n", b"")), DRIPS["body"]]

        def answer(connection: socket.socket) -> None:
            answers[0](connection)
            connection.recv(65_536)
            answers[1](connection)

        with serving(answer) as server, pooled_session() as session:
            call(session, "GET", server.url, timeout=(0.2, 0.2), max_bytes=100)
            time.sleep(0.5)
            started = time.monotonic()

            with pytest.raises(requests.ReadTimeout):
                call(session, "GET", server.url, timeout=(0.2, 0.2), max_bytes=10_000)

            assert 0.3 < time.monotonic() - started < 1.5
            assert len(server.heads) == 1

    def test_a_name_that_is_never_resolved_counts_as_never_sent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        let_go = threading.Event()

        def resolve(*_: object, **__: object) -> list[object]:
            let_go.wait(5)
            raise OSError("no such name")

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        started = time.monotonic()

        with pytest.raises(requests.ConnectTimeout):
            get("http://slow.example")
        assert time.monotonic() - started < 1.5
        let_go.set()

    def test_where_no_thread_can_be_started_nothing_is_sent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with serving(at_once(JSON_ANSWER)) as server:

            def refuse(_: threading.Thread) -> None:
                raise RuntimeError("can't start new thread")

            monkeypatch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(requests.ConnectTimeout):
                get(server.url)
            assert server.heads == []

    @pytest.mark.parametrize("kind", ["status line", "headers"])
    def test_a_call_for_a_status_waits_no_longer(self, kind: str) -> None:
        with serving(DRIPS[kind]) as server, pooled_session() as session:
            started = time.monotonic()

            with pytest.raises(requests.ReadTimeout):
                call_for_status(session, "GET", server.url, timeout=(0.2, 0.2))
            assert time.monotonic() - started < 1.5

    def test_a_call_for_a_status_does_not_wait_for_the_body(self) -> None:
        with serving(DRIPS["body"]) as server, pooled_session() as session:
            answer = call_for_status(session, "GET", server.url, timeout=(0.2, 0.2))

        assert (answer.status_code, answer.content) == (200, b"")

    def test_no_thread_and_no_descriptor_stays_behind(self) -> None:
        with serving(at_once(JSON_ANSWER)) as server:
            get(server.url)
            threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
            for _ in range(30):
                get(server.url)
            time.sleep(0.1)

            assert threading.active_count() <= threads + 1
            assert len(os.listdir("/proc/self/fd")) <= descriptors + 1


class TestStrike:
    """What a cut call means depends on whether it can have done something."""

    @pytest.mark.parametrize("kind", DRIPS)
    def test_a_dripped_read_ends_at_its_total_deadline(self, tmp_path: Path, kind: str) -> None:
        with serving(DRIPS[kind]) as server, strike_at(server, tmp_path) as strike:
            started = time.monotonic()

            with pytest.raises(StrikeUnavailable):
                strike.get_invoice("i", timeout=(0.2, 0.3))
            assert time.monotonic() - started < 2

    def test_a_payout_whose_answer_drips_may_have_been_made(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with serving(DRIPS["body"]) as server, strike_at(server, tmp_path) as strike:
            monkeypatch.setattr(strike, "_timeout", (0.2, 0.3))

            with pytest.raises(StrikeAmbiguous):
                strike.execute_payment_quote("q")

    def test_an_answer_without_an_end_is_not_kept_in_memory(self, tmp_path: Path) -> None:
        body = b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 30_000_000
        with (
            serving(at_once(body)) as server,
            strike_at(server, tmp_path) as strike,
            pytest.raises(StrikeAmbiguous, match="too large"),
        ):
            strike.get_invoice("i")

    def test_a_packed_answer_is_read(self, tmp_path: Path) -> None:
        content = gzip.compress(b'{"items": []}')
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(content)}\r\n\r\n"
        with serving(at_once(head.encode() + content)) as server, strike_at(server, tmp_path) as strike:
            assert strike.newest_invoice() is None


@contextmanager
def strike_at(server: Server, folder: Path) -> Iterator[Strike]:
    settings = world_settings(f"sqlite:///{folder}/calls.sqlite", strike_api_url=f"{server.url}/v1")
    with open_strike(settings) as strike:
        yield strike


class TestSizes:
    @pytest.mark.parametrize("size", [1_000, 1_001, 5_000_000])
    def test_an_answer_is_read_up_to_its_limit(self, size: int) -> None:
        with serving(at_once(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * size)) as server:
            if size <= 1_000:
                assert len(get(server.url, seconds=5).content) == size
            else:
                with pytest.raises(AnswerTooLarge):
                    get(server.url, seconds=5)

    def test_a_few_packed_bytes_cannot_fill_the_memory(self) -> None:
        content = gzip.compress(b" " * 50_000_000)
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
        with serving(at_once(head + content)) as server, pytest.raises(AnswerTooLarge):
            get(server.url, seconds=5, max_bytes=100_000)

    @pytest.mark.parametrize(
        "content", [b"not gzip", gzip.compress(b"{}" * 100, mtime=0)[:-12]], ids=["text", "cut off"]
    )
    def test_broken_packing_is_a_failed_call(self, content: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
        with serving(at_once(head + content)) as server, pytest.raises(requests.RequestException):
            get(server.url, seconds=5)


def event(url: str) -> Event:
    return Event("msg_1", "invoice.settled", {}, b"{}", {"Content-Type": "application/json"}, url)


def read_account(server: Server, folder: Path) -> None:
    with strike_at(server, folder) as strike:
        strike.newest_invoice()


CALLERS: dict[str, tuple[Callable[[Server, Path], object], str | None]] = {
    "strike": (read_account, "Bearer a-key-of-the-tests"),
    "coingecko": (lambda server, _: CoinGecko(pooled_session(), server.url, "", utc_now).fetch("usd"), None),
    "coinbase": (lambda server, _: Coinbase(pooled_session(), server.url, utc_now).fetch("usd"), None),
    "delivery": (lambda server, _: delivery.deliver(event(server.url)), None),
    "doctor": (lambda server, _: send_probe("GET", server.url), None),
}
"""Who calls, and which login each of them sends."""


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with a login for every host."""
    home = tmp_path / "home"
    home.mkdir()
    path = home / ".netrc"
    path.write_text("machine 127.0.0.1 login thief password secret\ndefault login thief password secret\n")
    path.chmod(0o600)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("NETRC", raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return path


@pytest.mark.usefixtures("netrc")
class TestLogins:
    def test_the_file_would_be_read_by_requests_alone(self) -> None:
        with serving(at_once(JSON_ANSWER)) as server:
            requests.get(server.url, timeout=5)

            assert server.authorization() is not None

    @pytest.mark.parametrize("place", ["home", "NETRC"])
    @pytest.mark.parametrize("caller", CALLERS)
    def test_a_netrc_file_changes_nothing(
        self, tmp_path: Path, netrc: Path, monkeypatch: pytest.MonkeyPatch, caller: str, place: str
    ) -> None:
        make_call, login = CALLERS[caller]
        if place == "NETRC":
            monkeypatch.setenv("NETRC", str(netrc))
        with serving(at_once(JSON_ANSWER)) as server:
            with suppress(LnpayError, RateSourceError):
                make_call(server, tmp_path)

            assert server.authorization() == login

    def test_nor_does_it_for_webhook_settings(self, tmp_path: Path, netrc: Path) -> None:
        answer = JSON_ANSWER.replace(b"Content-Length: 2", b"Content-Length: 2").replace(b"{}", b"[]")
        with serving(at_once(answer)) as server:
            environ = {
                "PATH": os.environ["PATH"],
                "HOME": str(netrc.parent),
                "STRIKE_API_KEY": "the-only-key",
                "STRIKE_API_URL": f"{server.url}/v1",
                "DATABASE_URL": f"sqlite:///{tmp_path}/webhooks.sqlite",
            }
            command = [sys.executable, str(ROOT / "webhook_settings.py"), "list"]
            subprocess.run(command, env=environ, cwd=tmp_path, timeout=60, check=True, capture_output=True)

            assert server.authorization() == "Bearer the-only-key"

    @pytest.mark.parametrize(
        ("login", "sent"),
        [
            ("shop:word", b"shop:word"),
            ("shop:a%3Ab%40c", b"shop:a:b@c"),
            ("sh%C3%B6p:w%E2%82%ACrd", "shöp:w€rd".encode()),
            ("shop", b"shop:"),
            (":word", b":word"),
        ],
    )
    def test_the_shops_url_keeps_its_own_login(self, login: str, sent: bytes) -> None:
        with serving(at_once(JSON_ANSWER)) as server:
            delivery.deliver(event(server.url.replace("://", f"://{login}@")))

            assert server.authorization() == "Basic " + base64.b64encode(sent).decode()


class TestProxies:
    @pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
    @pytest.mark.parametrize("caller", CALLERS)
    def test_a_call_to_this_machine_goes_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caller: str, name: str
    ) -> None:
        with serving(at_once(JSON_ANSWER)) as proxy, serving(at_once(JSON_ANSWER)) as server:
            monkeypatch.delenv("NO_PROXY", raising=False)
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.setenv(name, proxy.url)
            with suppress(LnpayError, RateSourceError):
                CALLERS[caller][0](server, tmp_path)

            assert (len(proxy.heads), len(server.heads)) == (0, 1)

    def test_the_environments_proxy_is_used_for_other_hosts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with serving(at_once(JSON_ANSWER)) as proxy:
            monkeypatch.delenv("NO_PROXY", raising=False)
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.setenv("http_proxy", proxy.url)

            delivery.deliver(event("http://me:word@shop.invalid/webhook"))

            assert proxy.heads[0].startswith("POST http://shop.invalid/webhook HTTP/1.1")
            assert proxy.authorization() == "Basic " + base64.b64encode(b"me:word").decode()

    def test_an_answer_that_drips_through_a_proxy_is_cut_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with serving(DRIPS["headers"]) as proxy:
            monkeypatch.delenv("NO_PROXY", raising=False)
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.setenv("http_proxy", proxy.url)
            started = time.monotonic()

            with pytest.raises(requests.ReadTimeout):
                get("http://shop.invalid")
            assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("kind", ["status line", "headers", "interim answers"])
def test_a_shop_that_drips_is_cut_within_its_claim(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(delivery, "TIMEOUT_SECONDS", (0.1, 0.4))
    with serving(DRIPS[kind]) as server:
        started = time.monotonic()

        with pytest.raises(ShopRefused, match="ReadTimeout"):
            delivery.deliver(event(server.url))
        assert time.monotonic() - started < 1.5

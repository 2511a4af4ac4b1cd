"""Calls to an address that an API key has set never reach a private network, however the address is written."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests
from urllib3.util.connection import create_connection

from lnpay.domain.errors import ShopRefused
from lnpay.http import connections, public_address
from lnpay.http.outgoing import PrivateAddress, call_for_status, pooled_session
from lnpay.http.post import post_for_status
from lnpay.http.public_address import is_host_private, is_public

PRIVATE = (
    "127.0.0.1", "127.255.255.254", "0.0.0.0",  # noqa: S104
    "0.1.2.3", "10.0.0.1", "10.255.255.255", "172.16.0.1",
    "172.31.255.255", "192.168.0.1", "192.168.255.255", "169.254.169.254", "100.64.0.1", "192.0.2.1", "198.18.0.1",
    "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "febf::1", "fec0::1",
    "fc00::1", "fdff::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1",
    "::10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::a00:1", "64:ff9b:1::808:808",
    "2002:7f00:1::", "2002:a00:1::",
    "2001:0:4136:e378:8000:63bf:f5ff:fffe", "not an address", "",
)  # fmt: skip

PUBLIC = (
    "8.8.8.8", "172.15.0.1", "172.32.0.1", "192.167.0.1", "169.253.0.1", "100.63.0.1", "2606:4700::1111",
    "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::",
)  # fmt: skip

HERE = (
    "127.0.0.1", "localhost", "LOCALHOST", "localhost.", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1",
    "017700000001", "127.1", "127.0.1", "0", "0.0.0.0",  # noqa: S104
    "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "%31%32%37.0.0.1",
)  # fmt: skip
"""Ways to write this machine."""


class Listener:
    """Answers every request in the same way, and keeps what it got."""

    def __init__(self, answer: str = "204 No Content") -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.requests: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    self.requests.append(_read(connection))
                    connection.sendall(f"HTTP/1.1 {self._answer}\r\nConnection: close\r\n\r\n".encode())


def _read(connection: socket.socket) -> bytes:
    """A whole request: its head and its body."""
    request = b""
    while b"\r\n\r\n" not in request:
        piece = connection.recv(65_536)
        if not piece:
            return request
        request += piece
    head, _, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    while length is not None and len(body) < int(length[1]) and (piece := connection.recv(65_536)):
        body += piece
    return head + b"\r\n\r\n" + body


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


class Names:
    """A name server whose every answer is chosen; numbers are read as always."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: Any, port: Any, *more: Any, **named: Any) -> Any:
        if host != "shop.test":
            return self._real(host, port, *more, **named)
        self.asked.append(host)
        addresses = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [one for address in addresses for one in self._real(address, port, *more, **named)]


def call(url: str) -> int:
    with pooled_session() as session:
        return call_for_status(session, "POST", url, data=b"{}", timeout=(2, 2), is_public_only=True).status_code


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_known(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_that_is_public_is_known(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", HERE)
def test_this_machine_is_never_connected_to_however_it_is_written(listener: Listener, host: str) -> None:
    with pytest.raises(requests.RequestException):
        call(f"http://{host}:{listener.port}/")

    assert listener.requests == []


@pytest.mark.parametrize("host", [one.strip("[]") for one in HERE if not one.startswith("%")])
def test_this_machine_is_noticed_when_the_address_is_set(host: str) -> None:
    assert is_host_private(host)


@pytest.mark.parametrize("host", ["localhost.", "LOCALHOST", "shop.localhost", "a.Localhost.", "localhost.."])
def test_a_name_of_this_machine_is_private_although_the_resolver_does_not_know_it(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(monkeypatch, [])

    assert is_host_private(host)


@pytest.mark.parametrize("host", ["notlocalhost", "localhost.shop.test"])
def test_a_name_that_only_looks_like_it_is_looked_up(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, ["8.8.8.8"])

    assert not is_host_private(host)


def test_the_operator_may_call_this_machine(listener: Listener) -> None:
    assert post_for_status(f"http://127.0.0.1:{listener.port}/", b"{}", {}, False) == 204


def test_a_refused_address_is_said_to_be_private(listener: Listener) -> None:
    with pytest.raises(ShopRefused, match="private network"):
        post_for_status(f"http://localhost:{listener.port}/", b"{}", {}, True)


def test_a_redirect_is_not_followed() -> None:
    target = Listener()
    redirecting = Listener(answer=f"302 Found\r\nLocation: http://127.0.0.1:{target.port}/")
    try:
        assert post_for_status(f"http://127.0.0.1:{redirecting.port}/", b"{}", {}, False) == 302
        assert target.requests == []
    finally:
        redirecting.close()
        target.close()


def test_a_name_that_leads_to_this_machine_later_is_refused(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(monkeypatch, ["8.8.8.8"], ["127.0.0.1"])

    assert not is_host_private("shop.test")
    with pytest.raises(PrivateAddress):
        call(f"http://shop.test:{listener.port}/")
    assert listener.requests == []


def test_one_private_address_among_public_ones_is_enough(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch, ["8.8.8.8", "127.0.0.1"])

    assert is_host_private("shop.test")
    with pytest.raises(PrivateAddress):
        call(f"http://shop.test:{listener.port}/")
    assert len(names.asked) == 2


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is looked up once: what a name server says a moment later changes nothing."""
    names = Names(monkeypatch, ["127.0.0.2"], ["127.0.0.3"])
    monkeypatch.setattr(connections, "is_public", lambda address: address == "127.0.0.2")
    connected: list[tuple[str, int]] = []

    def watched(address: tuple[str, int], *more: Any) -> socket.socket:
        connected.append(address)
        return create_connection(("127.0.0.1", address[1]), *more)

    monkeypatch.setattr(connections, "create_connection", watched)

    assert call(f"http://shop.test:{listener.port}/path") == 204
    assert (names.asked, connected) == (["shop.test"], [("127.0.0.2", listener.port)])
    assert b"Host: shop.test" in listener.requests[0]


def test_the_next_address_of_a_name_is_tried(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, ["127.0.0.2", "127.0.0.1"])
    monkeypatch.setattr(connections, "is_public", lambda _: True)

    assert call(f"http://shop.test:{listener.port}/") == 204


def test_a_name_none_of_whose_addresses_answers_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, ["127.0.0.1"])
    monkeypatch.setattr(connections, "is_public", lambda _: True)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    with pytest.raises(ShopRefused, match="could not be reached: ConnectionError"):
        post_for_status(f"http://shop.test:{port}/", b"{}", {}, True)


def test_a_proxy_of_the_environment_is_not_used(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would look the name up again, and lead anywhere."""
    Names(monkeypatch, ["127.0.0.1"])
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{listener.port}")

    with pytest.raises(PrivateAddress):
        call("http://shop.test:1/")

    assert listener.requests == []


def test_a_connection_through_a_proxy_is_refused_where_one_is_used_all_the_same(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "is_public", lambda _: True)
    session = pooled_session()
    session.proxies = {"http": f"http://127.0.0.1:{listener.port}"}

    with session, pytest.raises(PrivateAddress):
        call_for_status(session, "POST", "http://shop.test/", data=b"", timeout=(2, 2), is_public_only=True)

    assert listener.requests == []


def test_a_host_that_cannot_be_looked_up_is_not_called_private(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that is away must not keep a shop from being connected; each connection is checked."""
    answered = threading.Event()

    def slow(*_: Any) -> list[str]:
        answered.wait(10)
        return ["127.0.0.1"]

    assert not is_host_private("no-such-name.invalid")
    monkeypatch.setattr(public_address, "LOOKUP_SECONDS", 0.05)
    monkeypatch.setattr(public_address, "look_up", slow)
    assert not is_host_private("shop.test")
    answered.set()

"""config/delivery.py as it is shipped, against a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from config import delivery
from config.delivery import deliver
from lnpay.domain.errors import ShopGone, ShopRefused
from lnpay.domain.model import Event


class Shop(ThreadingHTTPServer):
    """A shop that answers with `status`, after `may_answer` is set, and remembers what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.headers: dict[str, str] = {}
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.got: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/webhook"


class _Handler(BaseHTTPRequestHandler):
    server: Shop

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        self.server.may_answer.wait(10)
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def shop() -> Iterator[Shop]:
    server = Shop()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.may_answer.set()
    server.shutdown()
    thread.join()
    server.server_close()


def event(url: str) -> Event:
    content = '{"status":"success","text":"Grüße"}'.encode()
    headers = {"Content-Type": "application/json", "webhook-id": "msg_1", "webhook-timestamp": "1767225600"}
    return Event("msg_1", "invoice.settled", {"status": "success"}, content, headers, url)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_a_2xx_is_a_success(shop: Shop, status: int) -> None:
    shop.status = status

    deliver(event(shop.url))

    assert len(shop.got) == 1


def test_the_exact_bytes_and_headers_are_sent(shop: Shop) -> None:
    sent = event(shop.url)

    deliver(sent)

    ((path, headers, body),) = shop.got
    assert (path, body) == ("/webhook", sent.content)
    assert sent.headers.items() <= headers.items()


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_another_status_is_a_refusal(shop: Shop, status: int) -> None:
    shop.status = status

    with pytest.raises(ShopRefused, match=str(status)) as refusal:
        deliver(event(shop.url))
    assert not isinstance(refusal.value, ShopGone)


def test_a_410_means_never_again(shop: Shop) -> None:
    shop.status = 410

    with pytest.raises(ShopGone):
        deliver(event(shop.url))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(shop: Shop, status: int) -> None:
    shop.status, shop.headers = status, {"Location": shop.url}

    with pytest.raises(ShopRefused, match=str(status)):
        deliver(event(shop.url))
    assert len(shop.got) == 1


def test_a_shop_that_is_too_slow_is_a_refusal(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "TIMEOUT_SECONDS", (0.05, 0.05))
    shop.may_answer.clear()

    with pytest.raises(ShopRefused, match="ReadTimeout"):
        deliver(event(shop.url))


def test_a_shop_that_is_down_is_a_refusal(shop: Shop) -> None:
    url = shop.url.replace("127.0.0.1", "127.0.0.2").replace(str(shop.server_address[1]), "1")

    with pytest.raises(ShopRefused, match="could not be reached"):
        deliver(event(url))


def test_the_shop_has_the_promised_fifteen_seconds() -> None:
    assert sum(delivery.TIMEOUT_SECONDS) == 15


def test_a_refusal_does_not_tell_what_the_url_holds(shop: Shop) -> None:
    shop.status = 500

    with pytest.raises(ShopRefused) as refusal:
        deliver(event(shop.url + "?token=very-secret"))
    assert "very-secret" not in str(refusal.value)

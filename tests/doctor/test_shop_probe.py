"""The doctor judges the shop's answer to its probe as a delivery would be judged."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from config.delivery import TIMEOUT_SECONDS, deliver
from lnpay.deliveries.shop_answer import ANSWER_SECONDS
from lnpay.doctor import Finding, Verdict
from lnpay.domain.errors import ShopRefused
from lnpay.domain.model import Event
from tests.doctor.installation import Installation

HOUR = timedelta(hours=1)
STATUSES = (200, 202, 204, 301, 302, 303, 307, 308, 400, 401, 403, 404, 409, 410, 422, 429, 500, 502, 503)


@contextmanager
def a_shop(status: int, *, allow: str | None = None, seconds: float = 0) -> Iterator[str]:
    """A server that gives every request the same answer. Yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            stopping.wait(seconds)
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            if allow is not None:
                self.send_header("Allow", allow)
            if 300 <= status < 400:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_OPTIONS = do_POST = answer

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    stopping = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/webhook"
    finally:
        stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


def probe(shop: Installation, url: str) -> Finding:
    """The doctor's finding about a shop at this URL."""
    shop.set(DELIVERY_URL=url)
    return {finding.name: finding for finding in shop.examine()}["delivery_url"]


def is_accepted(url: str) -> bool:
    """Whether the shipped hook accepts the shop's answer as a delivery."""
    try:
        deliver(Event("msg_1", "invoice.settled", {}, b"{}", {}, url))
    except ShopRefused:
        return False
    return True


@pytest.fixture(scope="module")
def quiet_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation whose shop has accepted nothing for two hours; shared, because nothing here changes it."""
    from tests.doctor.installation import installed

    with installed(tmp_path_factory.mktemp("quiet")) as made:
        made.let_pass(2 * HOUR)
        yield made


@pytest.mark.parametrize("status", STATUSES)
def test_it_is_ok_exactly_if_a_delivery_would_be_accepted(quiet_shop: Installation, status: int) -> None:
    with a_shop(status) as url:
        found = probe(quiet_shop, url)

        assert is_accepted(url) is (found.verdict is Verdict.OK)
    assert found.verdict in (Verdict.OK, Verdict.FAIL)


def test_an_address_that_does_not_allow_post_fails(quiet_shop: Installation) -> None:
    with a_shop(200, allow="GET, HEAD, OPTIONS") as url:
        found = probe(quiet_shop, url)

    assert (found.verdict, "does not allow POST" in found.message) == (Verdict.FAIL, True)


@pytest.mark.parametrize("status", [405, 501])
@pytest.mark.parametrize(
    ("allow", "verdict"), [("POST", Verdict.OK), ("get, post", Verdict.OK), ("GET", Verdict.FAIL), (None, Verdict.WARN)]
)
def test_an_address_that_does_not_answer_options_is_judged_by_what_it_allows(
    quiet_shop: Installation, status: int, allow: str | None, verdict: Verdict
) -> None:
    with a_shop(status, allow=allow) as url:
        assert probe(quiet_shop, url).verdict is verdict


def test_an_accepted_message_shows_what_options_does_not(shop: Installation) -> None:
    with a_shop(405) as url:
        assert probe(shop, url).verdict is Verdict.OK


@pytest.mark.parametrize("status", [302, 401, 404, 500])
def test_a_refused_probe_after_a_recent_delivery_is_a_warning(shop: Installation, status: int) -> None:
    with a_shop(status) as url:
        assert probe(shop, url).verdict is Verdict.WARN


def test_a_shop_that_takes_seven_seconds_is_reported_as_slow(quiet_shop: Installation) -> None:
    with a_shop(204, seconds=8) as url:
        found = probe(quiet_shop, url)

    assert found.verdict is Verdict.WARN
    assert "fails after 15 seconds" in found.message


def test_the_hook_waits_as_long_as_the_doctor_says() -> None:
    assert sum(TIMEOUT_SECONDS) == ANSWER_SECONDS

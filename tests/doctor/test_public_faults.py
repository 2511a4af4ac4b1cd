"""What the doctor says about the public route to LNPay, and about simulators mixed with real money."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from config.settings import load_settings
from lnpay.access.api_keys import create_key, revoke_key
from lnpay.doctor import Finding, Verdict
from lnpay.doctor.checks import proxy, simulated
from lnpay.doctor.target import open_target
from lnpay.domain.permissions import KeyPurpose
from lnpay.repository import Repository
from tests.doctor.installation import Installation
from tests.scenarios.live import free_port

PUBLIC = "https://pay.shop.invalid/webhook"
REAL = {
    "STRIKE_API_URL": "https://api.strike.me/v1",
    "COINGECKO_API_URL": "https://api.coingecko.com/api/v3",
    "COINBASE_API_URL": "https://api.coinbase.com/v2",
    "DELIVERY_URL": "http://127.0.0.1:1/webhook",
}


@contextmanager
def a_proxy(backend: str, passes: Callable[[str], bool], forwards: str = "real") -> Iterator[str]:
    """A web server that passes on what `passes` says, and answers 404 itself to the rest.

    forwards: in X-Forwarded-For the caller's "real" address, "nothing", or what the caller "says".
    """

    class Handler(BaseHTTPRequestHandler):
        server_version = "nginx/1.26"
        sys_version = ""

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sent = {name: self.headers[name] for name in ("X-Webhook-Signature", "X-Forwarded-For")}
            if forwards == "real":
                sent["X-Forwarded-For"] = "198.51.100.9"
            elif forwards == "nothing":
                del sent["X-Forwarded-For"]
            answer = requests.post(backend + self.path, data=body, headers=sent, timeout=10)
            self.send_response(answer.status_code)
            self.send_header("X-LNPay-Seen", answer.headers["X-LNPay-Seen"])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            if not passes(self.path):
                self.send_error(404)
                return
            answer = requests.get(backend + self.path, headers=dict(self.headers), timeout=10)
            self.send_response(answer.status_code)
            self.send_header("X-Request-Id", answer.headers["X-Request-Id"])
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def found(shop: Installation, name: str) -> Finding:
    """Run one check only, so that the real Strike is not called."""
    [check] = [one for one in (*proxy.CHECKS, *simulated.CHECKS) if one.names == (name,)]
    with open_target(load_settings({}, shop.env_file), shop.now) as target:
        [finding] = check.run(target)
    return finding


class TestProxy:
    def test_the_proxy_in_front_is_named(self, shop: Installation) -> None:
        with a_proxy(f"http://127.0.0.1:{shop.values['PORT']}", lambda path: True) as url:
            shop.set(WEBHOOK_URL=f"{url}/webhook")

            finding = found(shop, "proxy")

        assert (finding.verdict, "through nginx" in finding.message) == (Verdict.OK, True)

    @pytest.mark.parametrize("hidden", ["/lnpay.js", "/checkout/", "/refund/", "/static/", "/invoices/"])
    def test_a_path_that_customers_cannot_reach_is_named(self, shop: Installation, hidden: str) -> None:
        backend = f"http://127.0.0.1:{shop.values['PORT']}"
        with a_proxy(backend, lambda path: not path.startswith(hidden)) as url:
            shop.set(WEBHOOK_URL=f"{url}/webhook")

            finding = found(shop, "proxy")

        assert finding.verdict is Verdict.FAIL
        assert hidden in finding.message
        assert hidden in finding.advice

    @pytest.mark.parametrize("hidden", ["/api/v1/", "/i/", "/modal/"])
    def test_a_path_that_plugins_cannot_reach_is_named_once_there_is_a_key(
        self, shop: Installation, hidden: str
    ) -> None:
        backend = f"http://127.0.0.1:{shop.values['PORT']}"
        with a_proxy(backend, lambda path: not path.startswith(hidden)) as url:
            shop.set(WEBHOOK_URL=f"{url}/webhook")
            before = found(shop, "proxy")
            repository = Repository(shop.values["DATABASE_URL"])
            key = create_key(repository, KeyPurpose.WOOCOMMERCE, "A shop", shop.now()).key

            finding = found(shop, "proxy")
            shop.set(GREENFIELD="off")
            without_plugins = found(shop, "proxy")
            shop.set(GREENFIELD="on")
            revoke_key(repository, key.id, shop.now())
            revoked = found(shop, "proxy")
            repository.close()

        assert finding.verdict is Verdict.WARN
        assert hidden in finding.message
        assert [one.verdict for one in (before, without_plugins, revoked)] == [Verdict.OK] * 3

    @pytest.mark.parametrize(
        ("forwards", "trusted", "words"),
        [
            ("real", ("127.0.0.0/8",), None),
            ("says", ("127.0.0.0/8",), "callers can forge their address"),
            ("nothing", ("127.0.0.0/8",), "does not forward client addresses"),
            ("real", ("10.0.0.0/8",), "sees every caller as 127.0.0.1"),
        ],
    )
    def test_callers_are_distinguished_behind_a_proxy(
        self, shop: Installation, forwards: str, trusted: tuple[str, ...], words: str | None
    ) -> None:
        shop.stop()
        shop.start(trusted_proxies=trusted)
        with a_proxy(f"http://127.0.0.1:{shop.values['PORT']}", lambda path: True, forwards) as url:
            # An address of this machine that does not look like one, as a public name would.
            public = url.replace("127.0.0.1", "127.1") + "/webhook"
            settings = replace(load_settings({}, shop.env_file), webhook_url=public, trusted_proxies=trusted)
            with open_target(settings, shop.now) as target:
                [finding] = proxy.CHECKS[0].run(target)

        assert finding.verdict is (Verdict.OK if words is None else Verdict.WARN)
        assert words is None or words in finding.message

    def test_an_address_where_nothing_answers_cannot_be_checked(self, shop: Installation) -> None:
        shop.set(WEBHOOK_URL=f"http://127.0.0.1:{free_port()}/webhook")

        assert found(shop, "proxy").verdict is Verdict.WARN


class TestSimulator:
    def test_real_settings_are_ok(self, shop: Installation) -> None:
        shop.set(WEBHOOK_URL=PUBLIC, **REAL)

        assert found(shop, "simulator").verdict is Verdict.OK

    def test_customers_of_a_public_address_would_pay_simulated_invoices(self, shop: Installation) -> None:
        shop.set(WEBHOOK_URL=PUBLIC)

        finding = found(shop, "simulator")

        assert (finding.verdict, "pay no real money" in finding.message) == (Verdict.FAIL, True)

    @pytest.mark.parametrize("name", ["COINGECKO_API_URL", "COINBASE_API_URL", "DELIVERY_URL"])
    def test_one_simulator_address_was_left_in_the_settings(self, shop: Installation, name: str) -> None:
        left = {name: shop.values[name]}
        shop.set(WEBHOOK_URL=PUBLIC, **{**REAL, **left})

        finding = found(shop, "simulator")

        assert finding.verdict is Verdict.FAIL
        assert name in finding.message
        assert name in finding.advice

    @pytest.mark.parametrize("host", ["api.dev.strike.me", "strike.shop.example"])
    def test_a_host_other_than_strikes_is_a_warning(self, shop: Installation, host: str) -> None:
        shop.set(**{**REAL, "STRIKE_API_URL": f"https://{host}/v1"})

        finding = found(shop, "simulator")

        assert (finding.verdict, host in finding.message) == (Verdict.WARN, True)

    def test_every_response_of_the_simulator_identifies_it(self, shop: Installation) -> None:
        for path in ("/v1/invoices", "/shop/webhook", "/coinbase/v2/exchange-rates", "/_control/clock"):
            assert requests.get(shop.world.url + path, timeout=10).headers["X-LNPay-Simulator"] == "1"


class TestKeys:
    def test_a_server_that_was_started_before_its_keys_were_set_is_named(self, shop: Installation) -> None:
        shop.set(HOST="0.0.0.0")  # noqa: S104

        finding = shop.troubles()["api_keys"]

        assert (finding.verdict, "/generate-invoice asks for none" in finding.message) == (Verdict.FAIL, True)
        assert "restart LNPay" in finding.advice

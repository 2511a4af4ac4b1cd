"""The simulator as a whole: repeatable, complete over a socket, and fast enough to run thousands of."""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from hashlib import sha256
from threading import Thread

import pytest
import requests
from werkzeug import Request, Response
from werkzeug.serving import make_server

from lnpay.sandbox import (
    SandboxServer,
    Simulator,
    SimulatorConfig,
    VirtualClock,
    WsgiAdapter,
)
from lnpay.sandbox.server import wait_until
from tests.sandbox.strike_client import SECRET, Client, error_of


def story(seed: int) -> tuple[object, ...]:
    """Everything a short run shows."""
    simulator = Simulator(clock=VirtualClock(running=False), seed=seed)
    with requests.Session() as session:
        session.mount("http://strike.test", WsgiAdapter(simulator.wsgi_app, simulator.clock))
        strike = Client(simulator, session, "http://strike.test")
        strike.subscribe()
        invoice = strike.invoice()
        quote = strike.quote(invoice["invoiceId"])
        simulator.pay_invoice(quote["lnInvoice"])
        payment = strike.execute(strike.payment_quote()).json()
    sent: list[bytes] = []

    def send(url: str, body: bytes, headers: dict[str, str]) -> int:
        sent.append(body)
        return 200

    simulator.pump_webhooks(send)
    return invoice, quote, payment, tuple(sent)


def test_the_same_seed_tells_the_same_story() -> None:
    assert story(1) == story(1)
    assert story(1) != story(2)


def test_a_reset_begins_the_story_again(strike: Client) -> None:
    first = strike.invoice(correlationId="order-1")
    strike.control("/reset")

    assert strike.invoice(correlationId="order-1") == first


def test_two_simulators_share_nothing() -> None:
    one, other = Simulator(seed=1), Simulator(seed=1)

    one.config.rate_limits = "off"
    one.faults.remove()
    one.rates.set_price("usd", "1")

    assert other.config == SimulatorConfig()
    assert other.rates.price("strike", "usd") != 1


def test_simulators_and_calls_are_cheap(strike: Client) -> None:
    """Generous bounds, far above what is measured: a regression by a factor shows."""
    invoice_id = strike.invoice()["invoiceId"]
    started_at = time.perf_counter()
    for _ in range(50):
        Simulator(seed=1)
    built_at = time.perf_counter()
    for _ in range(50):
        strike.get(f"/v1/invoices/{invoice_id}")

    assert (built_at - started_at) / 50 < 0.005
    assert (time.perf_counter() - built_at) / 50 < 0.01


@pytest.fixture
def webhook_receiver() -> Iterator[tuple[str, list[bool]]]:
    """A server that notes for each call whether its signature fits."""
    got: list[bool] = []

    @Request.application
    def receive(request: Request) -> Response:
        wanted = hmac.new(SECRET.encode(), request.get_data(), sha256).hexdigest()
        got.append(hmac.compare_digest(wanted, request.headers["X-Webhook-Signature"].lower()))
        return Response(status=204)

    server = make_server("127.0.0.1", 0, receive)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/webhook", got
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_whole_sale_and_refund_over_real_sockets(
    strike_over_http: Client, webhook_receiver: tuple[str, list[bool]]
) -> None:
    strike, (url, got) = strike_over_http, webhook_receiver
    assert strike.subscribe(webhookUrl=url).status_code == 201

    invoice_id = strike.invoice()["invoiceId"]
    strike.control("/pay", payment_request=strike.quote(invoice_id)["lnInvoice"], late_seconds=180)
    payment = strike.execute(strike.payment_quote(btc="0.00051636")).json()

    assert strike.get(f"/v1/invoices/{invoice_id}").json()["state"] == "PAID"
    assert payment["state"] == "COMPLETED"
    assert wait_until(lambda: len(got) == 4)
    assert all(got)
    ledger = strike.get("/_control/ledger").json()
    assert (ledger["received_sats"], ledger["sent_sats"]) == (51636, 51636)


def test_a_race_of_executions_pays_once(strike: Client) -> None:
    quote_id = strike.payment_quote()

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: strike.execute(quote_id).status_code, range(16)))

    assert sorted(statuses) == [200] + [422] * 15
    assert strike.simulator.ledger.payouts_per_quote() == {quote_id: 1}


def test_a_port_is_free_again_after_the_stop(simulator: Simulator) -> None:
    with SandboxServer(simulator) as server:
        port = int(server.url.rpartition(":")[2])

    with SandboxServer(simulator, port=port) as again, requests.Session() as session:
        assert session.get(f"{again.url}/_control/clock", timeout=5).status_code == 200


def test_the_clock_is_read_and_moved(strike: Client) -> None:
    moved = strike.control("/clock/advance", seconds=90)

    assert moved == strike.get("/_control/clock").json()
    assert moved["now"] == "2026-01-01T00:01:30+00:00"


@pytest.mark.parametrize(
    "values", [{"no_such_setting": 1}, {"quote_seconds": "ten"}, {"rate_limits": None}, {"has_valid_until": "yes"}]
)
def test_a_wrong_setting_is_refused_and_changes_nothing(strike: Client, values: dict[str, object]) -> None:
    answer = strike.call("POST", "/_control/config", json={"handle": "changed", **values})

    assert answer.status_code == 400
    assert strike.simulator.config == SimulatorConfig()


def test_every_setting_can_be_set_to_what_it_is(strike: Client) -> None:
    current = strike.get("/_control/config").json()

    assert strike.control("/config", **current) == current
    assert strike.control("/config", quote_seconds=10)["quote_seconds"] == 10


def test_the_wallet_can_be_told_to_pay_by_invoice_id(strike: Client) -> None:
    invoice_id = strike.invoice()["invoiceId"]
    before = strike.call("POST", "/_control/pay", json={"invoice_id": invoice_id})
    strike.quote(invoice_id)

    assert before.status_code == 404
    assert strike.control("/pay", invoice_id=invoice_id)["state"] == "COMPLETED"
    again = strike.call("POST", "/_control/pay", json={"invoice_id": invoice_id})
    assert (again.status_code, again.json()["reason"]) == (409, "paid")


def test_the_state_tells_of_everything(strike: Client) -> None:
    invoice_id = strike.paid_invoice(correlationId="order-1")
    quote_id = strike.payment_quote()
    strike.execute(quote_id)

    state = strike.get("/_control/state").json()

    assert [invoice["invoice_id"] for invoice in state["invoices"]] == [invoice_id]
    assert [(quote["quote_id"], quote["state"]) for quote in state["payment_quotes"]] == [(quote_id, "COMPLETED")]
    assert state["wallet"]["receipts"][0]["sats"] == 10_000


def test_times_are_written_with_fractions_of_different_length(strike: Client) -> None:
    lengths = set()
    for _ in range(10):
        lengths.add(len(strike.invoice()["created"]))
        strike.simulator.clock.advance(1.001)

    assert lengths == {len("2026-01-01T00:00:00.+00:00") + digits for digits in (3, 6, 7)}


def test_the_account_shows_its_balances_and_profile(strike: Client) -> None:
    strike.paid_invoice()

    bitcoin = strike.get("/v1/balances").json()[0]
    profile = strike.get("/v1/accounts/handle/corner-shop/profile").json()

    assert (bitcoin["currency"], bitcoin["available"]) == ("BTC", "0.10051636")
    assert profile == strike.get(f"/v1/accounts/{profile['id']}/profile").json()
    assert {row["currency"] for row in profile["currencies"] if row["isInvoiceable"]} == {"BTC", "USD"}
    assert strike.get("/v1/accounts/handle/unknown/profile").status_code == 404


@pytest.mark.parametrize(("method", "status"), [("DELETE", 405), ("PUT", 405)])
def test_a_method_a_path_does_not_know_is_refused(strike: Client, method: str, status: int) -> None:
    assert strike.call(method, "/v1/invoices").status_code == status
    assert strike.call(method, "/v1/nothing/at/all").status_code == 404


def test_answers_carry_the_date_of_the_simulator_s_clock(strike_over_http: Client) -> None:
    strike_over_http.simulator.clock.advance(600)

    date = strike_over_http.get("/v1/rates/ticker").headers["Date"]

    assert parsedate_to_datetime(date) == strike_over_http.simulator.clock.now().replace(microsecond=0)


def test_the_account_is_the_receiver_and_the_issuer_is_an_integration(strike_over_http: Client) -> None:
    strike = strike_over_http
    account = strike.get("/v1/accounts/handle/corner-shop/profile").json()["id"]
    invoice = strike.invoice()
    strike.control("/config", issuer_of_invoices="account")

    assert invoice["receiverId"] == account != invoice["issuerId"]
    assert strike.get(f"/v1/accounts/{invoice['issuerId']}/profile").status_code == 404
    assert strike.call("GET", f"/v1/invoices?$filter=issuerId eq '{invoice['issuerId']}'").json()["count"] == 1
    assert strike.invoice()["issuerId"] == account


def test_a_profile_tells_of_each_currency_what_the_account_may_do(strike_over_http: Client) -> None:
    strike = strike_over_http
    strike.control(
        "/config", available_currencies=["BTC", "USD"], invoiceable_currencies=["USD", "EUR"], default_currency="USD"
    )

    profile = strike.get("/v1/accounts/handle/corner-shop/profile").json()

    assert profile.keys() == {"id", "handle", "canReceive", "currencies"}
    rows = {row.pop("currency"): list(row.values()) for row in profile["currencies"]}
    assert list(profile["currencies"][0]) == ["isDefaultCurrency", "isAvailable", "isInvoiceable"]
    assert rows == {
        "BTC": [False, True, False], "USD": [True, True, True], "EUR": [False, False, False],
        "USDT": [False, False, False], "GBP": [False, False, False], "AUD": [False, False, False],
    }  # fmt: skip
    assert [row["currency"] for row in strike.get("/v1/balances").json()] == ["BTC", "USD"]
    for currency in ("BTC", "EUR"):
        answer = strike.call("POST", "/v1/invoices", json={"amount": {"amount": "1", "currency": currency}})
        assert error_of(answer) == (422, "USER_CURRENCY_UNAVAILABLE")

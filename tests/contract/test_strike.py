"""The client of Strike against recorded answers over real HTTP, against failures, and against the simulator."""

from __future__ import annotations

import json
import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from lnpay.domain.errors import (
    StrikeAmbiguous,
    StrikeError,
    StrikeRejected,
    StrikeUnanswered,
    StrikeUnavailable,
)
from lnpay.http.outgoing import pooled_session
from lnpay.sandbox import Simulator, VirtualClock, WsgiAdapter
from lnpay.sandbox.faults import Fault
from lnpay.strike import failures
from lnpay.strike.answers import PaymentsMade, PaymentStatus
from lnpay.strike.buckets import Bucket
from lnpay.strike.client import WEBHOOK_TIMEOUT, Strike
from lnpay.strike.failures import LONGEST_WAIT_SECONDS, named_in
from lnpay.strike.invoices import InvoiceStatus, StrikeInvoice
from lnpay.strike.reading import PAGE_SIZE, parse_time
from lnpay.strike.receive_requests import ArrayForm

KEY = "a-key-that-must-stay-secret"
NOW = datetime(2022, 11, 5, 15, 20, tzinfo=UTC)
INVOICE_ID = "c9454470-76d3-4e75-928d-dc07480e01ba"

# Recorded from Strike in November 2022, but for the currency.
INVOICE: dict[str, Any] = {
    "invoiceId": INVOICE_ID,
    "amount": {"currency": "BTC", "amount": "0.00051636"},
    "state": "UNPAID",
    "created": "2022-11-05T15:14:35.0831438+00:00",
    "correlationId": "592d101c-7eb5-4560-b88f-924e80aa05e2",
    "description": "Invoice for order 123",
    "issuerId": "df7666c0-36bf-4ead-bed9-faef9188f96b",
    "receiverId": "df7666c0-36bf-4ead-bed9-faef9188f96b",
}
QUOTE: dict[str, Any] = {
    "quoteId": "643dbf45-3fe6-44bf-a8da-3f6041c3aabe",
    "description": "Invoice for order 123",
    "lnInvoice": "lnbc516360n1abc",
    "onchainAddress": "bc1qabc",
    "expiration": "2022-11-05T15:16:34.206+00:00",
    "expirationInSec": 117,
    "targetAmount": {"currency": "BTC", "amount": "0.00051636"},
    "sourceAmount": {"currency": "BTC", "amount": "0.00051636"},
    "conversionRate": {"amount": "1", "sourceCurrency": "BTC", "targetCurrency": "BTC"},
}
PAYMENT_QUOTE: dict[str, Any] = {
    "paymentQuoteId": "quote-1",
    "validUntil": "2022-11-05T15:21:00.1234+00:00",
    "amount": {"amount": "0.00010000", "currency": "BTC"},
    "totalFee": {"amount": "0.00000011", "currency": "BTC"},
    "totalAmount": {"amount": "0.00010011", "currency": "BTC"},
}
PAYMENT: dict[str, Any] = {
    "paymentId": "payment-1",
    "state": "COMPLETED",
    "result": "SUCCESS",
    "amount": {"amount": "0.00010000", "currency": "BTC"},
    "totalAmount": {"amount": "0.00010011", "currency": "BTC"},
}
SUBSCRIPTION: dict[str, Any] = {
    "id": "s1",
    "webhookUrl": "https://shop.example/webhook",
    "webhookVersion": "v1",
    "enabled": True,
    "created": "2022-11-05T15:14:35.08+00:00",
    "eventTypes": ["invoice.updated"],
}
RECEIVE_REQUEST: dict[str, Any] = {
    "receiveRequestId": "0192f0aa-5d2e-7c31-9c55-0d4b6f1a2b3c",
    "created": "2022-11-05T15:14:35.0831438+00:00",
    "targetCurrency": "BTC",
    "bolt11": {
        "invoice": "lnbc516360n1abc",
        "requestedAmount": {"amount": "0.00051636", "currency": "BTC"},
        "btcAmount": "0.00051636",
        "description": "Invoice for order 123",
        "descriptionHash": None,
        "paymentHash": "ab" * 32,
        "expires": "2022-11-05T15:16:35+00:00",
    },
    "onchain": None,
}
BLOCKED_PAGE = b"<html><head><title>Attention Required! | Cloudflare</title></head></html>"

Call = Callable[[Strike], object]
CALLS: dict[str, tuple[Call, str, Bucket, Any]] = {
    "create_invoice": (lambda s: s.create_invoice(51_636, "order-1", None), "POST", Bucket.INVOICE_CREATE, INVOICE),
    "quote_invoice": (lambda s: s.quote_invoice("i"), "POST", Bucket.INVOICE_QUOTE, QUOTE),
    "get_invoice": (lambda s: s.get_invoice("i"), "GET", Bucket.OTHER, INVOICE),
    "list_invoices": (lambda s: s.list_invoices(InvoiceStatus.PAID, 0), "GET", Bucket.OTHER, {"items": []}),
    "create_receive_request": (
        lambda s: s.receive_requests.create(51_636, None, 120, "BTC"), "POST", Bucket.OTHER, RECEIVE_REQUEST,
    ),
    "receives_of": (lambda s: s.receive_requests.receives_of("r"), "GET", Bucket.OTHER, {"items": []}),
    "list_receives": (
        lambda s: s.receive_requests.list_receives(["r"], ArrayForm.COMMA, 0), "GET", Bucket.OTHER, {"items": []},
    ),
    "create_payment_quote": (
        lambda s: s.create_payment_quote("a@b.io", 10_000, "key-1"), "POST", Bucket.PAYMENT_QUOTE, PAYMENT_QUOTE,
    ),
    "get_payment_quote": (lambda s: s.get_payment_quote("q"), "GET", Bucket.OTHER, PAYMENT_QUOTE),
    "execute_payment_quote": (lambda s: s.execute_payment_quote("q"), "PATCH", Bucket.PAYMENT_EXECUTE, PAYMENT),
    "get_payment": (lambda s: s.get_payment("p"), "GET", Bucket.OTHER, PAYMENT),
    "ticker": (lambda s: s.ticker(), "GET", Bucket.RATES, []),
    "list_subscriptions": (lambda s: s.list_subscriptions(), "GET", Bucket.OTHER, []),
    "create_subscription": (
        lambda s: s.create_subscription("https://x.io/webhook", "0123456789", ["b", "a"]),
        "POST", Bucket.OTHER, SUBSCRIPTION,
    ),
    "update_subscription": (
        lambda s: s.update_subscription("s", {"enabled": False}), "PATCH", Bucket.OTHER, SUBSCRIPTION,
    ),
    "delete_subscription": (lambda s: s.delete_subscription("s"), "DELETE", Bucket.OTHER, None),
    "list_events": (lambda s: s.list_events(), "GET", Bucket.OTHER, {"items": []}),
    "list_payments_since": (
        lambda s: s.list_payments_since(datetime(2026, 1, 1, tzinfo=UTC)), "GET", Bucket.OTHER, {"items": []},
    ),
    "newest_invoice": (lambda s: s.newest_invoice(), "GET", Bucket.OTHER, {"items": []}),
    "get_profile": (lambda s: s.get_profile("a"), "GET", Bucket.OTHER, {"currencies": []}),
    "available_sats": (lambda s: s.available_sats(), "GET", Bucket.OTHER, []),
}  # fmt: skip
READS = [name for name, (_, method, _, _) in CALLS.items() if method == "GET"]
WRITES = [name for name, (_, method, _, _) in CALLS.items() if method != "GET"]
ONE_OF_EACH = ["get_invoice", "create_invoice", "execute_payment_quote", "delete_subscription"]


@dataclass
class Asked:
    """One request as the server saw it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def params(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}


@dataclass
class FakeStrike:
    """A server of raw answers. `answers` are given in turn; the last one repeats."""

    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    accident: Callable[[socket.socket], None] | None = None
    url: str = ""

    def answer(self, status: int, body: object = None, **headers: str) -> None:
        """Answer next with JSON, or with bytes as they are."""
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.answers.append((status, {name.replace("_", "-"): value for name, value in headers.items()}, content))

    def next_answer(self) -> tuple[int, dict[str, str], bytes]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Handler(BaseHTTPRequestHandler):
    """Answers every method as the test has said."""

    protocol_version = "HTTP/1.1"
    fake: FakeStrike

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.fake.asked.append(Asked(self.command, self.path, dict(self.headers), body))
        if self.fake.accident is not None:
            self.fake.accident(self.connection)
            self.close_connection = True
            return
        status, headers, content = self.fake.next_answer()
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = do_DELETE = handle_any

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@dataclass
class Notebook:
    """A budget that only writes down."""

    taken: list[Bucket] = field(default_factory=list)
    blocks: list[tuple[Bucket, int | None]] = field(default_factory=list)

    def take(self, bucket: Bucket) -> None:
        self.taken.append(bucket)

    def block(self, bucket: Bucket, retry_after_seconds: int | None) -> None:
        self.blocks.append((bucket, retry_after_seconds))


class QuietServer(ThreadingHTTPServer):
    """A server whose broken connections are meant."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[QuietServer]:
    made = QuietServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def fake(server: QuietServer) -> FakeStrike:
    Handler.fake = FakeStrike(url=f"http://127.0.0.1:{server.server_port}/v1")
    return Handler.fake


@pytest.fixture
def budget() -> Notebook:
    return Notebook()


@pytest.fixture
def strike(fake: FakeStrike, budget: Notebook) -> Iterator[Strike]:
    with client(fake.url, budget) as made:
        yield made


class TestRequests:
    @pytest.mark.parametrize("name", CALLS)
    def test_every_call_carries_the_key_and_counts_in_its_bucket(
        self, fake: FakeStrike, strike: Strike, budget: Notebook, name: str
    ) -> None:
        call, method, bucket, answer = CALLS[name]
        fake.answer(200, answer)

        call(strike)

        assert [one.method for one in fake.asked] == [method]
        assert fake.asked[0].headers["Authorization"] == f"Bearer {KEY}"
        assert budget.taken == [bucket]

    @pytest.mark.parametrize("name", CALLS)
    def test_a_call_that_the_budget_forbids_is_not_made(self, fake: FakeStrike, name: str) -> None:
        class Spent(Notebook):
            def take(self, bucket: Bucket) -> None:
                raise StrikeUnavailable("used up", retry_after_seconds=60)

        with client(fake.url, Spent()) as strike, pytest.raises(StrikeUnavailable, match="used up"):
            CALLS[name][0](strike)

        assert fake.asked == []

    def test_an_invoice_is_asked_for_in_bitcoin_with_eight_places(self, fake: FakeStrike, strike: Strike) -> None:
        fake.answer(201, INVOICE)

        strike.create_invoice(51_636, "order-1", "Zwei Kaffee ☕")

        assert fake.asked[0].target == "/v1/invoices"
        assert json.loads(fake.asked[0].body) == {
            "correlationId": "order-1",
            "amount": {"amount": "0.00051636", "currency": "BTC"},
            "description": "Zwei Kaffee ☕",
        }

    @pytest.mark.parametrize("description", [None, ""])
    def test_no_description_is_left_out(self, fake: FakeStrike, strike: Strike, description: str | None) -> None:
        fake.answer(201, INVOICE)

        strike.create_invoice(1, "order-1", description)

        assert "description" not in json.loads(fake.asked[0].body)

    def test_a_payout_is_priced_under_the_key_of_the_refund(self, fake: FakeStrike, strike: Strike) -> None:
        fake.answer(200, PAYMENT_QUOTE)

        strike.create_payment_quote("alice@example.com", 10_000, "key-1")

        assert fake.asked[0].target == "/v1/payment-quotes/lightning/lnurl"
        assert fake.asked[0].headers["idempotency-key"] == "key-1"
        assert json.loads(fake.asked[0].body) == {
            "lnAddressOrUrl": "alice@example.com",
            "sourceCurrency": "BTC",
            "amount": {"amount": "0.00010000", "currency": "BTC"},
        }

    def test_a_payout_is_executed_without_a_body(self, fake: FakeStrike, strike: Strike) -> None:
        fake.answer(200, PAYMENT)

        strike.execute_payment_quote("q1")

        assert (fake.asked[0].target, fake.asked[0].body) == ("/v1/payment-quotes/q1/execute", b"")

    def test_a_subscription_is_made_whole(self, fake: FakeStrike, strike: Strike) -> None:
        fake.answer(201, SUBSCRIPTION)

        made = strike.create_subscription("https://x.io/webhook", "0123456789", ["b", "a"])

        assert made == SUBSCRIPTION
        assert json.loads(fake.asked[0].body) == {
            "webhookUrl": "https://x.io/webhook",
            "webhookVersion": "v1",
            "secret": "0123456789",
            "enabled": True,
            "eventTypes": ["a", "b"],
        }

    def test_the_list_is_asked_with_a_lone_comparison(self, fake: FakeStrike, strike: Strike) -> None:
        fake.answer(200, {"items": []})

        strike.list_invoices(InvoiceStatus.PAID, 200)

        expected = {"$filter": "state eq 'PAID'", "$orderby": "created desc", "$top": "100", "$skip": "200"}
        assert fake.asked[0].params == expected

    @pytest.mark.parametrize("name", ["order-1", "O'Brien's", "''", "a&b=c#d%20", "1' or 'a' eq 'a", "注文 +1"])
    def test_any_order_id_stays_one_literal(self, fake: FakeStrike, strike: Strike, name: str) -> None:
        fake.answer(200, {"items": [{**INVOICE, "correlationId": name}]})

        found = strike.find_invoice_by_correlation_id(name)

        assert found is not None
        doubled = name.replace("'", "''")
        assert fake.asked[0].params == {"$filter": f"correlationId eq '{doubled}'"}

    @pytest.mark.parametrize(
        ("text", "segment"),
        [("a/b", "a%2Fb"), ("../x", "..%2Fx"), ("a?b#c", "a%3Fb%23c"), ("a%2Fb", "a%252Fb"), ("ä b", "%C3%A4%20b")],
    )
    def test_an_id_stays_one_segment_of_the_path(
        self, fake: FakeStrike, strike: Strike, text: str, segment: str
    ) -> None:
        fake.answer(200, INVOICE)

        strike.get_invoice(text)

        assert fake.asked[0].target == f"/v1/invoices/{segment}?includeTransactions=true"

    @pytest.mark.parametrize("text", ["", ".", ".."])
    def test_an_id_that_would_change_the_path_is_refused_unsent(
        self, fake: FakeStrike, strike: Strike, text: str
    ) -> None:
        with pytest.raises(StrikeRejected):
            strike.get_payment(text)

        assert fake.asked == []

    def test_a_slash_at_the_end_of_the_address_changes_nothing(self, fake: FakeStrike, budget: Notebook) -> None:
        fake.answer(200, [])

        with client(fake.url + "/", budget) as strike:
            strike.ticker()

        assert fake.asked[0].target == "/v1/rates/ticker"


class TestInvoices:
    def test_a_recorded_invoice_is_read_exactly(self, fake: FakeStrike, strike: Strike) -> None:
        fake.answer(201, INVOICE, Location=f"{fake.url}/invoices/{INVOICE_ID}")

        invoice = strike.create_invoice(51_636, "order-1", None)

        assert invoice == StrikeInvoice(
            invoice_id=INVOICE_ID,
            status=InvoiceStatus.UNPAID,
            amount_sats=51_636,
            created_at=datetime(2022, 11, 5, 15, 14, 35, 83_143, tzinfo=UTC),
            paid_at=None,
            received_sats=None,
            raw=INVOICE,
        )

    @pytest.mark.parametrize(
        ("written", "moment"),
        [
            ("2022-11-05T15:14:35+00:00", datetime(2022, 11, 5, 15, 14, 35, tzinfo=UTC)),
            ("2022-11-05T15:14:35Z", datetime(2022, 11, 5, 15, 14, 35, tzinfo=UTC)),
            ("2022-11-05T15:14:35", datetime(2022, 11, 5, 15, 14, 35, tzinfo=UTC)),
            ("2022-11-05T15:14:35.206+00:00", datetime(2022, 11, 5, 15, 14, 35, 206_000, tzinfo=UTC)),
            ("2022-11-05T15:14:35.2061+00:00", datetime(2022, 11, 5, 15, 14, 35, 206_100, tzinfo=UTC)),
            ("2022-11-05T15:14:35.083143+00:00", datetime(2022, 11, 5, 15, 14, 35, 83_143, tzinfo=UTC)),
            ("2022-11-05T15:14:35.0831438+00:00", datetime(2022, 11, 5, 15, 14, 35, 83_143, tzinfo=UTC)),
            ("2022-11-05T17:14:35.5+02:00", datetime(2022, 11, 5, 15, 14, 35, 500_000, tzinfo=UTC)),
        ],
    )
    def test_a_time_is_read_with_any_number_of_digits(self, written: str, moment: datetime) -> None:
        parsed = parse_time(written)

        assert parsed == moment
        assert parsed.utcoffset() == timedelta(0)

    @pytest.mark.parametrize(
        "written", ["", "yesterday", "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00", 5, None]
    )
    def test_what_is_no_time_raises_what_readers_expect(self, written: object) -> None:
        with pytest.raises((ValueError, TypeError)):
            parse_time(written)

    @pytest.mark.parametrize("missing", ["correlationId", "description", "issuerId", "receiverId", "amount"])
    def test_a_field_that_may_be_missing_may_be_missing(self, fake: FakeStrike, strike: Strike, missing: str) -> None:
        fake.answer(200, without(INVOICE, missing))

        invoice = strike.get_invoice(INVOICE_ID)

        assert invoice.amount_sats == (None if missing == "amount" else 51_636)

    def test_an_amount_in_another_currency_is_no_amount_in_sats(self, fake: FakeStrike, strike: Strike) -> None:
        fake.answer(200, {**INVOICE, "amount": {"currency": "USD", "amount": "1.00"}})

        assert strike.get_invoice(INVOICE_ID).amount_sats is None

    @pytest.mark.parametrize("state", InvoiceStatus)
    def test_every_known_state_is_read(self, fake: FakeStrike, strike: Strike, state: InvoiceStatus) -> None:
        fake.answer(200, {**INVOICE, "state": state})

        assert strike.get_invoice(INVOICE_ID).status is state

    @pytest.mark.parametrize(
        "changes",
        [
            {"state": "EXPLODED"},
            {"state": None},
            {"state": "paid"},
            {"invoiceId": ""},
            {"invoiceId": 5},
            {"created": "soon"},
            {"created": "0001-01-01T00:00:00+05:00"},
            {"amount": {"currency": "BTC"}},
            {"amount": {"currency": "BTC", "amount": 0.5}},
            {"amount": {"currency": "BTC", "amount": "-1"}},
            {"amount": {"currency": "BTC", "amount": "1e999"}},
            {"transactions": [{"state": "COMPLETED", "created": "soon"}]},
        ],
    )
    def test_an_invoice_that_cannot_be_read_is_ambiguous(
        self, fake: FakeStrike, strike: Strike, changes: dict[str, Any]
    ) -> None:
        fake.answer(200, {**INVOICE, **changes})

        with pytest.raises(StrikeAmbiguous, match="is unreadable"):
            strike.get_invoice(INVOICE_ID)

    @pytest.mark.parametrize("missing", ["invoiceId", "state", "created"])
    def test_an_invoice_without_what_matters_is_ambiguous(self, fake: FakeStrike, strike: Strike, missing: str) -> None:
        fake.answer(200, without(INVOICE, missing))

        with pytest.raises(StrikeAmbiguous):
            strike.get_invoice(INVOICE_ID)


class TestTransactions:
    def test_the_earliest_transaction_tells_when_it_was_paid(self, fake: FakeStrike, strike: Strike) -> None:
        invoice = read_paid(
            fake, strike, [transaction("0.0003", created="T15:16:00.5"), transaction("0.00021636", created="T15:15:59")]
        )

        assert invoice.paid_at == datetime(2022, 11, 5, 15, 15, 59, tzinfo=UTC)
        assert invoice.received_sats == 51_636

    @pytest.mark.parametrize("name", ["t1", None, 5, ""])
    def test_a_transaction_that_is_listed_twice_counts_once(
        self, fake: FakeStrike, strike: Strike, name: object
    ) -> None:
        """A refund of what was received would otherwise pay it back twice."""
        one = {**transaction("0.00051636"), "transactionId": name}
        other = {**transaction("0.0001"), "transactionId": "t2"}

        assert read_paid(fake, strike, [one, one]).received_sats == 51_636
        assert read_paid(fake, strike, [one, other, one]).received_sats == 61_636

    def test_a_fraction_of_a_sat_is_no_sat(self, fake: FakeStrike, strike: Strike) -> None:
        """A refund of what was received would otherwise pay back more."""
        parts = [{**transaction("0.00010000999"), "transactionId": name} for name in ("t1", "t2")]

        assert read_paid(fake, strike, parts[:1]).received_sats == 10_000
        assert read_paid(fake, strike, parts).received_sats == 20_001

    def test_different_payments_without_an_id_all_count(self, fake: FakeStrike, strike: Strike) -> None:
        parts = [without(transaction(amount), "transactionId") for amount in ("0.0001", "0.0002")]

        assert read_paid(fake, strike, parts).received_sats == 30_000

    @pytest.mark.parametrize("transactions", [None, [], ["nonsense", None], 5, {}])
    def test_without_transactions_the_time_is_not_known(
        self, fake: FakeStrike, strike: Strike, transactions: list[Any] | None
    ) -> None:
        invoice = read_paid(fake, strike, transactions)

        assert (invoice.status, invoice.paid_at, invoice.received_sats) == (InvoiceStatus.PAID, None, None)

    def test_money_that_is_not_final_does_not_date_a_payment(self, fake: FakeStrike, strike: Strike) -> None:
        """A first try was PENDING in time and came to nothing; what was paid came late."""
        pending = {**transaction("0.00051636", created="T15:15:00"), "state": "PENDING"}
        late = transaction("0.00051636", created="T15:40:00")

        invoice = read_paid(fake, strike, [pending, late])

        assert (invoice.paid_at, invoice.received_sats) == (datetime(2022, 11, 5, 15, 40, tzinfo=UTC), 51_636)
        assert read_paid(fake, strike, [pending]).paid_at is None

    @pytest.mark.parametrize("state", ["completed", "Completed"])
    def test_a_final_transaction_dates_a_payment_in_any_case(
        self, fake: FakeStrike, strike: Strike, state: str
    ) -> None:
        late = {**transaction("0.00051636", created="T15:40:00"), "state": state}

        invoice = read_paid(fake, strike, [late])

        assert (invoice.paid_at, invoice.received_sats) == (datetime(2022, 11, 5, 15, 40, tzinfo=UTC), 51_636)

    @pytest.mark.parametrize("created", ["soon", 5, {}, "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"])
    def test_a_transaction_that_cannot_be_dated_hides_no_other(
        self, fake: FakeStrike, strike: Strike, created: object
    ) -> None:
        odd = {**transaction("0.0001"), "created": created, "completed": None}

        assert read_paid(fake, strike, [odd, transaction("0.0004", created="T15:16:00")]).paid_at == datetime(
            2022, 11, 5, 15, 16, tzinfo=UTC
        )

    @pytest.mark.parametrize("amount", [None, 5, "much", {"currency": "BTC"}, {"currency": "BTC", "amount": "1e999"}])
    def test_what_was_received_is_not_known_where_a_part_cannot_be_read(
        self, fake: FakeStrike, strike: Strike, amount: object
    ) -> None:
        odd = {**transaction("0.0001"), "amountReceived": amount}

        assert read_paid(fake, strike, [odd, transaction("0.0004")]).received_sats is None

    def test_without_created_the_end_of_the_payment_is_its_time(self, fake: FakeStrike, strike: Strike) -> None:
        invoice = read_paid(fake, strike, [without(transaction("0.00051636"), "created")])

        assert invoice.paid_at == datetime(2022, 11, 5, 15, 16, 2, tzinfo=UTC)

    def test_without_completed_its_beginning_is(self, fake: FakeStrike, strike: Strike) -> None:
        invoice = read_paid(fake, strike, [without(transaction("0.00051636"), "completed")])

        assert invoice.paid_at == datetime(2022, 11, 5, 15, 16, tzinfo=UTC)

    def test_without_either_there_is_none(self, fake: FakeStrike, strike: Strike) -> None:
        invoice = read_paid(fake, strike, [without(transaction("0.00051636"), "created", "completed")])

        assert (invoice.paid_at, invoice.received_sats) == (None, 51_636)

    def test_what_is_pending_is_not_received(self, fake: FakeStrike, strike: Strike) -> None:
        pending = {**transaction("0.0001"), "state": "PENDING"}

        assert read_paid(fake, strike, [pending]).received_sats is None
        assert read_paid(fake, strike, [pending, transaction("0.0002")]).received_sats == 20_000

    def test_dollars_are_not_sats(self, fake: FakeStrike, strike: Strike) -> None:
        dollars = {**transaction("1.00"), "amountReceived": {"amount": "1.00", "currency": "USD"}}

        assert read_paid(fake, strike, [dollars]).received_sats is None
        assert read_paid(fake, strike, [dollars, transaction("0.0002")]).received_sats is None

    def test_they_are_asked_for(self, fake: FakeStrike, strike: Strike) -> None:
        read_paid(fake, strike, [])

        assert fake.asked[0].params == {"includeTransactions": "true"}


class TestQuotes:
    def test_a_recorded_quote_is_read_exactly(self, fake: FakeStrike, strike: Strike) -> None:
        fake.answer(201, QUOTE)

        quote = strike.quote_invoice(INVOICE_ID)

        assert (quote.bolt11, quote.raw) == ("lnbc516360n1abc", QUOTE)
        assert quote.expires_at == datetime(2022, 11, 5, 15, 16, 34, 206_000, tzinfo=UTC)

    @pytest.mark.parametrize(
        "change", [{"lnInvoice": ""}, {"lnInvoice": None}, {"expiration": None}, {"expiration": 5}]
    )
    def test_an_invalid_quote_is_ambiguous(self, fake: FakeStrike, strike: Strike, change: dict[str, Any]) -> None:
        fake.answer(201, {**QUOTE, **change})

        with pytest.raises(StrikeAmbiguous, match="is invalid"):
            strike.quote_invoice(INVOICE_ID)

    def test_numbers_with_a_fraction_are_decimals_and_never_floats(self, fake: FakeStrike, strike: Strike) -> None:
        fake.answer(201, json.dumps(QUOTE)[:-1].encode() + b',"number":0.1234567890123456789}')

        assert strike.quote_invoice(INVOICE_ID).raw["number"] == Decimal("0.1234567890123456789")


class TestPayouts:
    @pytest.mark.parametrize("name", ["create_payment_quote", "get_payment_quote"])
    def test_a_payment_quote_tells_amount_fee_and_end(self, fake: FakeStrike, strike: Strike, name: str) -> None:
        fake.answer(200, PAYMENT_QUOTE)

        quote: Any = CALLS[name][0](strike)

        assert (quote.quote_id, quote.amount_sats, quote.fee_sats) == ("quote-1", 10_000, 11)
        assert quote.valid_until == datetime(2022, 11, 5, 15, 21, 0, 123_400, tzinfo=UTC)

    @pytest.mark.parametrize("missing", ["validUntil", "totalFee"])
    def test_what_a_payment_quote_may_lack_it_may_lack(self, fake: FakeStrike, strike: Strike, missing: str) -> None:
        fake.answer(200, without(PAYMENT_QUOTE, missing))

        assert strike.get_payment_quote("q").fee_sats == 11

    @pytest.mark.parametrize(
        "change",
        [
            {"paymentQuoteId": None},
            {"amount": None},
            {"amount": {"amount": "1.00", "currency": "USD"}},
            {"totalAmount": {"amount": "1.00", "currency": "USD"}},
            {"totalAmount": {"amount": "0.00009999", "currency": "BTC"}},
            {"validUntil": "soon"},
        ],
    )
    def test_an_invalid_payment_quote_is_ambiguous(
        self, fake: FakeStrike, strike: Strike, change: dict[str, Any]
    ) -> None:
        fake.answer(200, {**PAYMENT_QUOTE, **change})

        with pytest.raises(StrikeAmbiguous, match="is invalid"):
            strike.create_payment_quote("a@b.io", 10_000, "key-1")

    @pytest.mark.parametrize("http_status", [200, 202])
    @pytest.mark.parametrize("state", PaymentStatus)
    def test_the_state_of_a_payment_decides_and_not_the_http_status(
        self, fake: FakeStrike, strike: Strike, http_status: int, state: PaymentStatus
    ) -> None:
        fake.answer(http_status, {**PAYMENT, "state": state})

        payment = strike.execute_payment_quote("q")

        assert (payment.payment_id, payment.status) == ("payment-1", state)

    @pytest.mark.parametrize(
        ("amount", "total", "read"),
        [
            ("0.00010000", "0.00010011", (10_000, 11)),
            ("0.00010000", None, (10_000, None)),
            (None, "0.00010011", (None, None)),
            ("much", "0.00010011", (None, None)),
        ],
    )
    def test_a_payment_tells_amount_and_fee_where_they_can_be_read(
        self, fake: FakeStrike, strike: Strike, amount: str | None, total: str | None, read: tuple[int | None, ...]
    ) -> None:
        money = {"amount": {"amount": amount, "currency": "BTC"}, "totalAmount": {"amount": total, "currency": "BTC"}}
        fake.answer(200, {**PAYMENT, **money})

        payment = strike.get_payment("payment-1")

        assert (payment.amount_sats, payment.fee_sats) == read

    @pytest.mark.parametrize("change", [{"state": "SUCCESS"}, {"state": None}, {"paymentId": None}, {"paymentId": ""}])
    def test_an_invalid_payment_is_ambiguous(self, fake: FakeStrike, strike: Strike, change: dict[str, Any]) -> None:
        fake.answer(200, {**PAYMENT, **change})

        with pytest.raises(StrikeAmbiguous, match="is invalid"):
            strike.execute_payment_quote("q")


class TestLists:
    def test_a_page_of_invoices_is_read_in_order(self, fake: FakeStrike, strike: Strike) -> None:
        items = [{**INVOICE, "invoiceId": f"i{number}"} for number in range(3)]
        fake.answer(200, {"items": items, "count": 0, "isCountUnknown": True})

        page = strike.list_invoices(InvoiceStatus.PAID, 0)

        assert [one.invoice_id for one in page.invoices] == page.ids == ["i0", "i1", "i2"]
        assert (page.rows, page.unreadable, page.nameless, page.is_last) == (3, 0, 0, True)

    @pytest.mark.parametrize(
        ("rows", "envelope", "is_last"),
        [
            (9, {}, True),
            (10, {}, False),
            (99, {"count": 0}, False),
            (99, {"count": 99}, True),
            (100, {"count": 100}, False),
            (50, {"count": 50, "isCountUnknown": True}, False),
            (0, {"count": 7}, True),
        ],
    )
    def test_a_short_page_is_the_last_if_it_is_counted_or_very_short(
        self, fake: FakeStrike, strike: Strike, rows: int, envelope: dict[str, Any], is_last: bool
    ) -> None:
        fake.answer(200, {"items": [INVOICE] * rows, **envelope})

        assert strike.list_invoices(InvoiceStatus.PAID, 0).is_last is is_last

    @pytest.mark.parametrize(
        ("row", "ids", "nameless", "dated"),
        [
            (None, [], 1, 0),
            ("nonsense", [], 1, 0),
            ([], [], 1, 0),
            ({}, [], 1, 0),
            ({"amount": {"currency": "BTC"}}, [], 1, 0),
            ({**INVOICE, "invoiceId": None}, [], 1, 1),
            ({**INVOICE, "invoiceId": 5}, [], 1, 1),
            ({**INVOICE, "amount": {"currency": "BTC"}}, [INVOICE_ID], 0, 1),
            ({**INVOICE, "amount": {"currency": "BTC", "amount": 1}}, [INVOICE_ID], 0, 1),
            ({**INVOICE, "amount": {"currency": "BTC", "amount": "1e999999999"}}, [INVOICE_ID], 0, 1),
            ({**INVOICE, "amount": {"currency": "BTC", "amount": None}}, [INVOICE_ID], 0, 1),
            ({**INVOICE, "state": "EXPLODED"}, [INVOICE_ID], 0, 1),
            ({**INVOICE, "state": ["PAID"]}, [INVOICE_ID], 0, 1),
            ({**INVOICE, "state": {}}, [INVOICE_ID], 0, 1),
            ({**INVOICE, "created": "soon"}, [INVOICE_ID], 0, 0),
            ({**INVOICE, "created": 5}, [INVOICE_ID], 0, 0),
            ({**INVOICE, "created": "0001-01-01T00:00:00+05:00"}, [INVOICE_ID], 0, 0),
            ({"invoiceId": "a\x00b", "state": "PAID"}, [], 0, 0),
            ({"invoiceId": "\ud800", "state": "PAID"}, [], 0, 0),
            ({"invoiceId": "i" * 5_000, "state": "PAID"}, [], 0, 0),
        ],
    )
    def test_a_row_that_cannot_be_read_hides_no_other(
        self,
        fake: FakeStrike,
        strike: Strike,
        caplog: pytest.LogCaptureFixture,
        row: object,
        ids: list[str],
        nameless: int,
        dated: int,
    ) -> None:
        """The row's own id counts where it shows one: it may be an invoice of ours."""
        good = {**INVOICE, "invoiceId": "good"}
        fake.answer(200, {"items": [row, good]})

        page = strike.list_invoices(InvoiceStatus.PAID, 0)

        assert [one.invoice_id for one in page.invoices] == ["good"]
        assert (page.ids, page.nameless, len(page.created_at)) == ([*ids, "good"], nameless, 1 + dated)
        assert (page.rows, page.unreadable) == (2, 1)
        assert "unreadable rows count=1 rows=2" in caplog.text

    @pytest.mark.parametrize("number", ["1e9999999999999999999", "-1E-9999999999999999999", "9" * 5_000])
    def test_a_number_beyond_all_measure_hides_no_other_row(
        self, fake: FakeStrike, strike: Strike, number: str
    ) -> None:
        rows = f'{{"invoiceId": "odd", "created": {number}}}, {json.dumps(INVOICE)}'
        fake.answer(200, f'{{"items": [{rows}]}}'.encode())

        page = strike.list_invoices(InvoiceStatus.PAID, 0)

        assert (page.ids, page.unreadable) == (["odd", INVOICE_ID], 1)

    def test_a_date_in_no_order_says_nothing_about_where_a_page_ends(self, fake: FakeStrike, strike: Strike) -> None:
        since = datetime(2022, 11, 1, tzinfo=UTC)
        odd = [{**INVOICE, "created": "2020-01-01T00:00:00Z"}, {**INVOICE, "created": "0001-01-01T00:00:00Z"}]
        fake.answer(200, {"items": [INVOICE, *odd, INVOICE]})

        assert not strike.list_invoices(InvoiceStatus.PAID, 0).reaches(since)
        assert strike.list_invoices(InvoiceStatus.PAID, 0).reaches(since + timedelta(days=30))

    @pytest.mark.parametrize("answer", [{}, {"items": None}, {"items": {}}, [], "items", None])
    def test_a_list_without_items_is_ambiguous(self, fake: FakeStrike, strike: Strike, answer: object) -> None:
        fake.answer(200, answer)

        with pytest.raises(StrikeAmbiguous):
            strike.list_invoices(InvoiceStatus.PAID, 0)

    @pytest.mark.parametrize("name", ["ticker", "list_subscriptions"])
    def test_a_bare_list_is_read_without_what_is_no_object(self, fake: FakeStrike, strike: Strike, name: str) -> None:
        fake.answer(200, [SUBSCRIPTION, "nonsense", None, 5])

        assert CALLS[name][0](strike) == [SUBSCRIPTION]

    @pytest.mark.parametrize("name", ["ticker", "list_subscriptions"])
    def test_an_object_is_no_bare_list(self, fake: FakeStrike, strike: Strike, name: str) -> None:
        fake.answer(200, {"items": []})

        with pytest.raises(StrikeAmbiguous, match="not a list"):
            CALLS[name][0](strike)

    def test_an_invoice_is_found_among_others_by_its_exact_correlation_id(
        self, fake: FakeStrike, strike: Strike
    ) -> None:
        fake.answer(200, {"items": [{**INVOICE, "correlationId": "order-10"}, {**INVOICE, "correlationId": "order-1"}]})

        found = strike.find_invoice_by_correlation_id("order-1")

        assert found is not None
        assert found.raw["correlationId"] == "order-1"
        fake.answers = [(200, {}, b'{"items":[]}')]
        assert strike.find_invoice_by_correlation_id("order-1") is None

    @pytest.mark.parametrize(
        ("status", "body"), [(403, BLOCKED_PAGE), (400, b'{"data":{"code":"INVALID_DATA_QUERY"}}')]
    )
    def test_where_filters_are_refused_the_newest_are_searched(
        self, fake: FakeStrike, strike: Strike, status: int, body: bytes
    ) -> None:
        fake.answer(status, body)
        fake.answer(200, {"items": [{**INVOICE, "correlationId": "order-1"}]})

        found = strike.find_invoice_by_correlation_id("order-1")

        assert found is not None
        assert fake.asked[1].params == {"$orderby": "created desc", "$top": str(PAGE_SIZE)}

    def test_a_deleted_subscription_answers_nothing(self, fake: FakeStrike, strike: Strike) -> None:
        fake.answer(204)

        strike.delete_subscription("s/1")

        assert fake.asked[0].target == "/v1/subscriptions/s%2F1"


class TestRefusals:
    def test_the_error_envelope_is_kept(self, fake: FakeStrike, strike: Strike) -> None:
        values = {"paymentQuoteId": "first-quote", "empty": "", "number": 5}
        fake.answer(422, envelope(422, "DUPLICATE_PAYMENT_QUOTE", values=values))

        error = refusal(lambda: strike.create_payment_quote("a@b.io", 1, "key-1"), StrikeRejected)

        assert (error.status, error.strike_code, error.trace_id) == (422, "DUPLICATE_PAYMENT_QUOTE", "0HMLTEOL5SERD:2")
        assert named_in(error, "paymentQuoteId") == "first-quote"
        assert [named_in(error, name) for name in ("empty", "number", "missing")] == [None, None, None]

    def test_a_401_has_no_trace_id(self, fake: FakeStrike, strike: Strike) -> None:
        fake.answer(401, {"data": {"status": 401, "code": "UNAUTHORIZED", "message": "Invalid identity."}})

        error = refusal(lambda: strike.get_invoice("i"), StrikeRejected)

        assert (error.strike_code, error.trace_id, error.values) == ("UNAUTHORIZED", None, {})

    def test_validation_errors_are_a_refusal_that_names_its_code(self, fake: FakeStrike, strike: Strike) -> None:
        problem = {"code": "INVALID_DATA_MAXLENGTH", "message": "too long", "values": {"maxLength": 40}}
        fake.answer(400, envelope(400, "INVALID_DATA", validationErrors={"correlationId": [problem]}))

        error = refusal(lambda: strike.create_invoice(1, "x" * 41, None), StrikeRejected)

        assert error.strike_code == "INVALID_DATA"

    def test_a_duplicate_invoice_is_a_refusal_that_names_its_code(self, fake: FakeStrike, strike: Strike) -> None:
        fake.answer(409, envelope(409, "DUPLICATE_INVOICE"))

        assert refusal(lambda: strike.create_invoice(1, "o", None), StrikeRejected).strike_code == "DUPLICATE_INVOICE"

    @pytest.mark.parametrize(
        "body",
        [
            BLOCKED_PAGE, b"", b"null", b"[]", b'"text"', b'{"data":null}', b'{"data":[]}', b'{"data":{"code":5}}',
            b'{"data":{"code":null,"values":[]},"traceId":7}', b"\xff\xfe\xfa", b"[" * 100_000,
            b'{"data":{"code":NaN}}', b'{"x":1e9999999999999999999}', b'{"x":' + b"9" * 5_000 + b"}",
        ],
    )  # fmt: skip
    def test_a_refusal_in_any_other_words_is_still_a_refusal(
        self, fake: FakeStrike, strike: Strike, body: bytes
    ) -> None:
        fake.answer(403, body, Content_Type="text/html")

        error = refusal(lambda: strike.get_invoice("i"), StrikeRejected)

        assert (error.status, error.strike_code, error.trace_id, error.values) == (403, None, None, {})

    @pytest.mark.parametrize(
        ("header", "seconds"),
        [
            ("120", 120),
            (" 7 ", 7),
            ("0", 0),
            ("999999999", LONGEST_WAIT_SECONDS),
            (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
            (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0),
            ("Sat, 05 Nov 2022 15:21:00 -0000", 60),
            ("Sat, 05 Nov 2022 16:21:00 +0100", 60),
            ("Mon, 01 Jan 9999 00:00:00 GMT", LONGEST_WAIT_SECONDS),
            ("soon", None),
            ("-5", None),
            ("1.5", None),
            ("9" * 5_000, None),
            ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
            ("", None),
        ],
    )
    def test_a_429_blocks_its_bucket_for_as_long_as_it_says(
        self, fake: FakeStrike, strike: Strike, budget: Notebook, header: str, seconds: int | None
    ) -> None:
        fake.answer(429, BLOCKED_PAGE, Retry_After=header)

        error = refusal(lambda: strike.get_invoice("i"), StrikeUnavailable)

        assert (error.status, error.retry_after_seconds) == (429, seconds)
        assert budget.blocks == [(Bucket.OTHER, seconds)]

    @pytest.mark.parametrize("name", CALLS)
    def test_a_429_without_retry_after_blocks_the_bucket_of_the_call(
        self, fake: FakeStrike, strike: Strike, budget: Notebook, name: str
    ) -> None:
        call, _, bucket, _ = CALLS[name]
        fake.answer(429, BLOCKED_PAGE)

        assert refusal(lambda: call(strike), StrikeUnavailable).retry_after_seconds is None
        assert budget.blocks == [(bucket, None)]

    def test_a_503_with_retry_after_blocks_nothing_but_is_passed_on(
        self, fake: FakeStrike, strike: Strike, budget: Notebook
    ) -> None:
        fake.answer(503, envelope(503, "MAINTENANCE_MODE"), Retry_After="30")

        assert refusal(lambda: strike.get_invoice("i"), StrikeUnavailable).retry_after_seconds == 30
        assert budget.blocks == []

    @given(st.text(alphabet=st.characters(codec="latin-1", exclude_characters="\r\n")))
    def test_no_retry_after_header_breaks_anything(self, header: str) -> None:
        seconds = failures.retry_after_seconds(header, NOW)

        assert seconds is None or 0 <= seconds <= LONGEST_WAIT_SECONDS


class TestClassification:
    """What may be done after each failure, for what only reads and for what changes something."""

    @pytest.mark.parametrize("name", ONE_OF_EACH)
    @pytest.mark.parametrize("status", [300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 405, 409, 410, 422, 451])
    def test_a_no_is_a_no(self, fake: FakeStrike, strike: Strike, name: str, status: int) -> None:
        fake.answer(status, None if status == 304 else envelope(status, "SOME_CODE"), Location=f"{fake.url}/elsewhere")

        error = refusal(lambda: CALLS[name][0](strike), StrikeRejected)

        assert error.status == status
        assert len(fake.asked) == 1

    @pytest.mark.parametrize("name", ONE_OF_EACH)
    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (409, "PROCESSING_CONFLICT"),
            (422, "EXCHANGE_RATE_NOT_AVAILABLE"),
            (425, "ACCOUNT_NOT_READY"),
            (425, None),
            (429, "RATE_LIMIT_EXCEEDED"),
            (429, "TOO_MANY_ATTEMPTS"),
            (429, None),
        ],
    )
    def test_not_now_may_be_repeated_later(
        self, fake: FakeStrike, strike: Strike, name: str, status: int, code: str | None
    ) -> None:
        fake.answer(status, envelope(status, code) if code else BLOCKED_PAGE)

        assert refusal(lambda: CALLS[name][0](strike), StrikeUnavailable).strike_code == code

    @pytest.mark.parametrize(
        ("status", "code"),
        [
            *((status, "INTERNAL_SERVER_ERROR") for status in (408, 500, 502, 503, 504, 520, 599)),
            (503, "LN_UNAVAILABLE"),
        ],
    )
    def test_a_server_that_breaks_may_have_done_what_it_was_asked(
        self, fake: FakeStrike, strike: Strike, status: int, code: str
    ) -> None:
        """Also LN_UNAVAILABLE: a refund taken for unsent was sent again."""
        fake.answer(status, envelope(status, code))

        assert kinds_of(strike, READS) == dict.fromkeys(READS, StrikeUnavailable)
        assert kinds_of(strike, WRITES) == dict.fromkeys(WRITES, StrikeAmbiguous)

    @pytest.mark.parametrize(
        "content",
        [b"<html>fine</html>", b'{"invoiceId":', b"\xff", b"[" * 100_000, b"NaN"],
    )
    def test_an_answer_that_is_not_json_tells_nothing(self, fake: FakeStrike, strike: Strike, content: bytes) -> None:
        fake.answer(200, content)

        assert set(kinds_of(strike, list(CALLS)).values()) == {StrikeAmbiguous}

    def test_an_empty_answer_tells_nothing_but_that_something_was_deleted(
        self, fake: FakeStrike, strike: Strike
    ) -> None:
        fake.answer(200)
        strike.delete_subscription("s")

        names = [name for name in CALLS if name != "delete_subscription"]
        assert kinds_of(strike, names) == dict.fromkeys(names, StrikeAmbiguous)

    def test_a_connection_that_is_refused_did_nothing(self, budget: Notebook) -> None:
        with client(f"http://127.0.0.1:{free_port()}/v1", budget) as strike:
            assert kinds_of(strike, ONE_OF_EACH) == dict.fromkeys(ONE_OF_EACH, StrikeUnavailable)

    def test_a_name_that_is_not_known_did_nothing(self, budget: Notebook) -> None:
        with client("http://no-such-host.invalid/v1", budget) as strike:
            assert kinds_of(strike, ONE_OF_EACH) == dict.fromkeys(ONE_OF_EACH, StrikeUnavailable)

    def test_a_connection_that_takes_too_long_did_nothing(
        self, budget: Notebook, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def never_connected(*_: Any, **__: Any) -> None:
            raise TimeoutError("timed out")

        monkeypatch.setattr(socket.socket, "connect", never_connected)

        with client("http://127.0.0.1:9/v1", budget) as strike:
            assert kinds_of(strike, ONE_OF_EACH) == dict.fromkeys(ONE_OF_EACH, StrikeUnavailable)

    @pytest.mark.parametrize("when", ["at_once", "after_the_headers", "in_the_middle"])
    def test_an_answer_that_breaks_off_may_hide_that_it_was_done(
        self, fake: FakeStrike, strike: Strike, when: str
    ) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
        fake.accident = resetting({"at_once": b"", "after_the_headers": head, "in_the_middle": head + b'{"a":1'}[when])

        kinds = kinds_of(strike, ONE_OF_EACH)

        assert kinds.pop("get_invoice") is StrikeUnanswered
        assert set(kinds.values()) == {StrikeAmbiguous}

    def test_an_answer_that_is_too_large_is_one_that_cannot_be_read(
        self, fake: FakeStrike, strike: Strike, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lnpay.strike.client.MAX_ANSWER_BYTES", 100_000)
        fake.answer(200, {**INVOICE, "description": "x" * 100_000})

        assert set(kinds_of(strike, ONE_OF_EACH).values()) == {StrikeAmbiguous}

    @pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"])
    def test_an_answer_that_never_comes_may_hide_that_it_was_done(
        self, fake: FakeStrike, budget: Notebook, sent: bytes
    ) -> None:
        is_over = threading.Event()
        fake.accident = silent(sent, is_over)

        with client(fake.url, budget, Impatient()) as strike:
            kinds = kinds_of(strike, ["get_invoice", "create_invoice", "execute_payment_quote"])
        is_over.set()

        assert kinds == {
            "get_invoice": StrikeUnanswered,
            "create_invoice": StrikeAmbiguous,
            "execute_payment_quote": StrikeAmbiguous,
        }

    def test_nothing_is_repeated_by_itself(self, fake: FakeStrike, strike: Strike) -> None:
        fake.accident = resetting(b"")

        kinds_of(strike, list(CALLS))

        # Only the search for an order asks twice, and it is not among these.
        assert len(fake.asked) == len(CALLS)


class TestSecrets:
    def test_no_repr_shows_the_key(self, strike: Strike) -> None:
        assert KEY not in f"{strike!r} {vars(strike)!r} {strike._auth!r}"

    @pytest.mark.parametrize("status", [200, 302, 400, 401, 429, 500])
    def test_no_log_and_no_error_shows_the_key_or_the_providers_text(
        self, fake: FakeStrike, strike: Strike, caplog: pytest.LogCaptureFixture, status: int
    ) -> None:
        fake.answer(status, f"<html>{KEY} the provider's own words</html>".encode())

        with caplog.at_level(logging.DEBUG, logger="lnpay"):
            error = refusal(lambda: strike.get_invoice("i"), StrikeError)

        assert "status" in caplog.text
        assert KEY not in caplog.text + f"{error!r} {error} {vars(error)}"
        assert "own words" not in caplog.text + f"{error!r} {error} {vars(error)}"

    def test_an_unreachable_provider_shows_no_key_either(
        self, budget: Notebook, caplog: pytest.LogCaptureFixture
    ) -> None:
        with (
            client(f"http://127.0.0.1:{free_port()}/v1", budget) as strike,
            caplog.at_level(logging.DEBUG, logger="lnpay"),
        ):
            error = refusal(lambda: strike.create_invoice(1, "o", None), StrikeUnavailable)

        assert "strike unreachable" in caplog.text
        assert KEY not in caplog.text + f"{error!r} {error.__cause__!r}"

    def test_a_netrc_file_cannot_replace_the_key(
        self, fake: FakeStrike, budget: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login thief password secret\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        monkeypatch.setenv("NO_PROXY", "*")
        fake.answer(200, [])

        with pooled_session() as session:
            Strike(KEY, fake.url, budget, session=session).ticker()

        assert fake.asked[0].headers["Authorization"] == f"Bearer {KEY}"

    def test_a_redirect_does_not_carry_the_key_elsewhere(self, fake: FakeStrike, strike: Strike) -> None:
        fake.answer(307, None, Location=f"{fake.url}/thief")

        refusal(lambda: strike.get_invoice("i"), StrikeRejected)

        assert [one.target for one in fake.asked] == ["/v1/invoices/i?includeTransactions=true"]

    def test_without_a_session_the_client_makes_a_pooled_one(self, fake: FakeStrike, budget: Notebook) -> None:
        fake.answer(200, [])

        strike = Strike(KEY, fake.url, budget)

        assert strike.ticker() == []
        assert strike._session.get_adapter("https://api.strike.me").max_retries.total == 0  # type: ignore[attr-defined]
        strike._session.close()


class TestAgainstTheSimulator:
    @pytest.fixture
    def simulator(self) -> Simulator:
        return Simulator(clock=VirtualClock(running=False), seed=7)

    @pytest.fixture
    def simulated(self, simulator: Simulator, budget: Notebook) -> Iterator[Strike]:
        with requests.Session() as session:
            session.trust_env = False
            session.mount("http://strike.test", WsgiAdapter(simulator.wsgi_app, simulator.clock))
            yield Strike(KEY, "http://strike.test/v1", budget, session=session, clock=simulator.clock.now)

    def test_an_invoice_is_made_quoted_paid_and_read_back(self, simulator: Simulator, simulated: Strike) -> None:
        made = simulated.create_invoice(51_636, "order-1", "Two coffees")
        quote = simulated.quote_invoice(made.invoice_id)
        simulator.clock.advance(5)
        simulator.pay_invoice(quote.bolt11)

        paid = simulated.get_invoice(made.invoice_id)

        assert (made.status, made.amount_sats) == (InvoiceStatus.UNPAID, 51_636)
        assert (paid.status, paid.received_sats) == (InvoiceStatus.PAID, 51_636)
        assert paid.paid_at == simulator.now()
        assert simulated.list_invoices(InvoiceStatus.PAID, 0).ids == [made.invoice_id]
        assert simulated.list_invoices(InvoiceStatus.PAID, 1).rows == 0

    def test_a_repeated_correlation_id_leads_to_the_first_invoice(self, simulated: Strike) -> None:
        first = simulated.create_invoice(5, "O'Brien", None)

        error = refusal(lambda: simulated.create_invoice(6, "O'Brien", None), StrikeRejected)

        assert error.strike_code == "DUPLICATE_INVOICE"
        assert simulated.find_invoice_by_correlation_id("O'Brien") == first
        assert simulated.find_invoice_by_correlation_id("o'brien") is None

    def test_it_is_found_also_where_every_filter_is_blocked(self, simulator: Simulator, simulated: Strike) -> None:
        simulator.config.filter_policy = "block_all"
        first = simulated.create_invoice(5, "order-1", None)

        assert simulated.find_invoice_by_correlation_id("order-1") == first

    def test_money_is_priced_sent_and_followed(self, simulated: Strike) -> None:
        quote = simulated.create_payment_quote("alice@example.com", 10_000, "5f0c4a3e-2d29-4a8e-9a53-0d8b6c1de111")

        payment = simulated.execute_payment_quote(quote.quote_id)

        assert (quote.amount_sats, payment.status) == (10_000, PaymentStatus.COMPLETED)
        assert simulated.get_payment(payment.payment_id) == payment
        assert refusal(lambda: simulated.get_payment_quote(quote.quote_id), StrikeRejected).status == 404

    def test_a_repeated_key_leads_to_the_first_payment_quote(self, simulated: Strike) -> None:
        key = "5f0c4a3e-2d29-4a8e-9a53-0d8b6c1de111"
        quote = simulated.create_payment_quote("alice@example.com", 10_000, key)

        error = refusal(lambda: simulated.create_payment_quote("alice@example.com", 10_000, key), StrikeRejected)

        assert error.strike_code == "DUPLICATE_PAYMENT_QUOTE"
        assert named_in(error, "paymentQuoteId") == quote.quote_id

    def test_a_quote_is_executed_once(self, simulated: Strike) -> None:
        quote = simulated.create_payment_quote("alice@example.com", 10_000, "5f0c4a3e-2d29-4a8e-9a53-0d8b6c1de111")
        simulated.execute_payment_quote(quote.quote_id)

        error = refusal(lambda: simulated.execute_payment_quote(quote.quote_id), StrikeRejected)

        assert error.strike_code == "PAYMENT_PROCESSED"

    def test_subscriptions_are_made_changed_listed_and_deleted(self, simulated: Strike) -> None:
        made = simulated.create_subscription("https://shop.example/webhook", "0123456789", ["invoice.updated"])
        changed = simulated.update_subscription(made["id"], {"enabled": False})

        assert simulated.list_subscriptions() == [changed]
        assert (changed["enabled"], "secret" in changed) == (False, False)

        simulated.delete_subscription(made["id"])
        assert simulated.list_subscriptions() == []

    def test_the_ticker_is_a_list_of_rates(self, simulated: Strike) -> None:
        assert {"BTC", "USD"} <= {row["sourceCurrency"] for row in simulated.ticker()}

    @pytest.mark.parametrize(
        ("kind", "reading", "writing"),
        [
            ("error", StrikeUnavailable, StrikeAmbiguous),
            ("error_after", StrikeUnavailable, StrikeAmbiguous),
            ("unreachable", StrikeUnavailable, StrikeUnavailable),
            ("lost_request", StrikeUnanswered, StrikeAmbiguous),
            ("lost_answer", StrikeUnanswered, StrikeAmbiguous),
            ("timeout_after", StrikeUnanswered, StrikeAmbiguous),
            ("html403", StrikeRejected, StrikeRejected),
            ("rate_limited", StrikeUnavailable, StrikeUnavailable),
            ("garbage", StrikeAmbiguous, StrikeAmbiguous),
            ("truncated", StrikeAmbiguous, StrikeAmbiguous),
        ],
    )
    def test_each_fault_is_distinguished(
        self,
        simulator: Simulator,
        simulated: Strike,
        kind: str,
        reading: type[StrikeError],
        writing: type[StrikeError],
    ) -> None:
        made = simulated.create_invoice(5, "order-1", None)
        simulator.faults.add(Fault("*", "/v1/invoices*", kind, times=None, seconds=3))

        assert type(refusal(lambda: simulated.get_invoice(made.invoice_id), StrikeError)) is reading
        assert type(refusal(lambda: simulated.create_invoice(5, "order-2", None), StrikeError)) is writing

    def test_a_hurried_reader_gives_up_in_time_for_the_webhook(self, simulator: Simulator, simulated: Strike) -> None:
        made = simulated.create_invoice(5, "order-1", None)
        simulator.faults.add(Fault("GET", "/v1/invoices/*", "timeout_after"))
        before = simulator.now()

        refusal(lambda: simulated.get_invoice(made.invoice_id, timeout=WEBHOOK_TIMEOUT), StrikeUnavailable)

        assert simulator.now() - before < timedelta(seconds=4)

    @pytest.mark.parametrize("form", ["seconds", "date"])
    def test_the_budget_records_a_lock_out(
        self, simulator: Simulator, simulated: Strike, budget: Notebook, form: str
    ) -> None:
        simulator.config.retry_after_form = form
        simulator.config.rate_limit_table = {"others": [1, 600, 3600]}
        simulated.list_subscriptions()

        refusal(simulated.list_subscriptions, StrikeUnavailable)

        assert budget.blocks == [(Bucket.OTHER, 3_600)]


@contextmanager
def client(url: str, budget: Notebook, adapter: requests.adapters.HTTPAdapter | None = None) -> Iterator[Strike]:
    """A client without the proxies of this machine."""
    with pooled_session() as session:
        session.trust_env = False
        if adapter is not None:
            session.mount("http://", adapter)
        yield Strike(KEY, url, budget, session=session, clock=lambda: NOW)


class Impatient(requests.adapters.HTTPAdapter):
    """Waits a twentieth of a second for an answer, regardless of the timeout it is given."""

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        return super().send(request, *args, **{**options, "timeout": (1.0, 0.05)})


def resetting(sent: bytes) -> Callable[[socket.socket], None]:
    """Send so much, then break the connection as a dying machine does."""

    def accident(connection: socket.socket) -> None:
        connection.sendall(sent)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    return accident


def silent(sent: bytes, is_over: threading.Event) -> Callable[[socket.socket], None]:
    """Send so much, then nothing until it is over."""

    def accident(connection: socket.socket) -> None:
        connection.sendall(sent)
        is_over.wait(10)

    return accident


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def refusal(call: Callable[[], object], kind: type[StrikeError]) -> StrikeError:
    with pytest.raises(kind) as caught:
        call()
    return caught.value


def kinds_of(strike: Strike, names: list[str]) -> dict[str, type[StrikeError]]:
    """What each of these calls raises."""
    return {name: type(refusal(lambda name=name: CALLS[name][0](strike), StrikeError)) for name in names}  # type: ignore[misc]


def envelope(status: int, code: str, **more: Any) -> dict[str, Any]:
    return {"traceId": "0HMLTEOL5SERD:2", "data": {"status": status, "code": code, "message": "For people.", **more}}


def without(value: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: one for name, one in value.items() if name not in names}


def transaction(amount: str, *, created: str = "T15:16:00") -> dict[str, Any]:
    return {
        "transactionId": f"{amount} at {created}",
        "state": "COMPLETED",
        "amountReceived": {"amount": amount, "currency": "BTC"},
        "created": f"2022-11-05{created}+00:00",
        "completed": "2022-11-05T15:16:02+00:00",
    }


def read_paid(fake: FakeStrike, strike: Strike, transactions: list[Any] | None) -> StrikeInvoice:
    """A paid invoice with these transactions, read by the client."""
    more = {} if transactions is None else {"transactions": transactions}
    fake.answers = [(200, {}, json.dumps({**INVOICE, "state": "PAID", **more}).encode())]
    return strike.get_invoice(INVOICE_ID)


NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def payment_event(payment_id: str, created: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    return {"eventType": "payment.created", "created": created, "data": {"entityId": payment_id}}


class TestLookingAtAnAccount:
    def test_the_events_are_the_newest_and_asked_for_without_a_filter(self, fake: FakeStrike, strike: Strike) -> None:
        fake.answer(200, {"items": [{"id": "e1"}, "nonsense"], "count": 2})

        assert strike.list_events() == [{"id": "e1"}]

        assert fake.asked[0].params == {"$orderby": "created desc", "$top": "100"}

    def test_the_payments_since_a_moment_are_those_of_events(self, fake: FakeStrike, strike: Strike) -> None:
        rows = [
            payment_event("p1"),
            payment_event("p2", "yesterday"),
            {**payment_event("i1"), "eventType": "invoice.updated"},
            payment_event("p0", "2025-12-31T23:59:59Z"),
        ]
        fake.answer(200, {"items": rows})

        assert strike.list_payments_since(NEW_YEAR) == PaymentsMade(["p1", "p2"], is_complete=True)

        assert fake.asked[0].params["$filter"] == "eventType eq 'payment.created'"

    @pytest.mark.parametrize(
        ("rows", "total", "is_complete"),
        [
            (["2026-01-02"] * 100, None, False),
            (["2026-01-02"] * 100, 100, False),
            (["2026-01-02"] * 50, 51, False),
            (["2026-01-02"] * 50, None, False),
            (["2026-01-02"] * 50, 50, True),
            (["2026-01-02"] * 9, None, True),
            (["2026-01-02"] * 99 + ["2025-12-31"], None, True),
            (["2025-12-31"] + ["2026-01-02"] * 99, None, False),
            ([], 0, True),
        ],
        ids=[
            "full",
            "full and counted",
            "short",
            "short and not counted",
            "all",
            "few",
            "older ones too",
            "in another order",
            "none",
        ],
    )
    def test_a_page_shows_whether_it_has_all_payments_since_then(
        self, fake: FakeStrike, strike: Strike, rows: list[str], total: int | None, *, is_complete: bool
    ) -> None:
        fake.answer(200, {"items": [payment_event("p", f"{day}T00:00:00Z") for day in rows], "count": total})

        assert strike.list_payments_since(NEW_YEAR).is_complete == is_complete

    @pytest.mark.parametrize("row", ["nonsense", {"data": None}, {"data": {"entityId": 7}}, {"data": {"entityId": ""}}])
    def test_a_payment_that_cannot_be_read_is_missing(self, fake: FakeStrike, strike: Strike, row: Any) -> None:
        odd = {**payment_event("p2"), **row} if isinstance(row, dict) else row
        fake.answer(200, {"items": [payment_event("p1"), odd]})

        assert strike.list_payments_since(NEW_YEAR) == PaymentsMade(["p1"], is_complete=False)

    def test_the_newest_invoice_is_the_only_one_asked_for(self, fake: FakeStrike, strike: Strike) -> None:
        fake.answer(200, {"items": [INVOICE]})

        newest = strike.newest_invoice()

        assert newest is not None
        assert newest.invoice_id == INVOICE["invoiceId"]
        assert fake.asked[0].params == {"$orderby": "created desc", "$top": "1"}

    def test_the_balance_is_that_of_bitcoin(self, fake: FakeStrike, strike: Strike) -> None:
        fake.answer(200, [{"currency": "USD", "available": "7.00"}, {"currency": "BTC", "available": "0.00012345"}])

        assert strike.available_sats() == 12_345

    @pytest.mark.parametrize("row", [{"currency": "BTC"}, {"currency": "BTC", "available": 1}])
    def test_an_invalid_balance_is_ambiguous(self, fake: FakeStrike, strike: Strike, row: dict[str, Any]) -> None:
        fake.answer(200, [row])

        with pytest.raises(StrikeAmbiguous, match="balance is invalid"):
            strike.available_sats()

    @pytest.mark.parametrize(
        ("status", "body", "code"),
        [
            (200, {}, None),
            (400, {"data": {"code": "INVALID_DATA"}}, "INVALID_DATA"),
            (403, {"data": {"code": "FORBIDDEN"}}, "FORBIDDEN"),
            (403, BLOCKED_PAGE, None),
            (503, b"", None),
        ],
    )
    def test_to_ask_gives_any_status_with_its_code(
        self, fake: FakeStrike, strike: Strike, status: int, body: object, code: str | None
    ) -> None:
        fake.answer(status, body)

        answer = strike.ask("POST", "/invoices", Bucket.INVOICE_CREATE, body={})

        assert (answer.status, answer.code) == (status, code)
        assert fake.asked[0].body == b"{}"

    @pytest.mark.parametrize(
        ("header", "told_at"),
        [
            ("Wed, 18 May 2022 12:00:30 GMT", datetime(2022, 5, 18, 12, 0, 30, tzinfo=UTC)),
            ("Wed, 18 May 2022 12:00:30 -0000", datetime(2022, 5, 18, 12, 0, 30, tzinfo=UTC)),
            ("soon", None),
        ],
    )
    def test_to_ask_tells_the_time_at_strike(
        self, fake: FakeStrike, strike: Strike, header: str, told_at: datetime | None
    ) -> None:
        fake.answer(200, {}, Date=header)

        assert strike.ask("GET", "/rates/ticker", Bucket.RATES).told_at == told_at

    def test_to_ask_honours_a_lock_out(self, fake: FakeStrike, strike: Strike, budget: Notebook) -> None:
        fake.answer(429, b"", Retry_After="90")

        with pytest.raises(StrikeUnavailable):
            strike.ask("GET", "/rates/ticker", Bucket.RATES)

        assert budget.blocks == [(Bucket.RATES, 90)]

"""A receive request is made: with what Strike refuses, loses or answers wrongly, and within the budget of calls."""

from __future__ import annotations

import pytest

from lnpay.domain.events import EventType
from lnpay.domain.receives import ReceiveWith
from lnpay.domain.states import InvoiceState
from lnpay.runtime.bootstrap import NEW_REQUESTS_SHARE
from lnpay.runtime.worker_passes import main_pass
from lnpay.sandbox.config import SimulatorConfig
from lnpay.sandbox.strike.receive_requests import Bolt11Terms
from lnpay.strike.buckets import Bucket
from tests.integration.receiving.conftest import Open
from tests.world import World

CREATE = "/v1/receive-requests"


def made(world: World) -> int:
    """How many requests there are at Strike."""
    return len(world.simulator.receive_requests.by_id)


def error_of(world: World) -> tuple[int, str]:
    answer = world.ask()
    return answer.status_code, answer.get_json()["code"]


class TestWhatStrikeMakes:
    def test_the_shop_gets_the_shape_of_an_invoice_and_its_quote(self, shop: World) -> None:
        data = shop.ask(description="Zwei Kaffee ☕").get_json()["data"]

        invoice, quote = data["invoice"], data["quote"]
        request = shop.simulator.receive_requests.by_id[invoice["invoiceId"]]
        assert request.bolt11 is not None
        assert quote["lnInvoice"] == request.bolt11.payment_request
        assert (invoice["state"], invoice["description"]) == ("UNPAID", "Zwei Kaffee ☕")
        assert invoice["amount"] == quote["sourceAmount"] == quote["targetAmount"]
        assert request.bolt11.description == "Zwei Kaffee ☕"
        assert shop.calls("POST ") == [f"POST {CREATE}"]

    def test_the_payment_request_ends_with_the_time_to_pay(self, shop: World) -> None:
        invoice = shop.sell(expires_in=300)

        request = shop.simulator.receive_requests.by_id[invoice.strike_invoice_id]
        assert request.bolt11 is not None
        assert (request.bolt11.expires_at - request.created_at).total_seconds() == 300
        assert abs((invoice.issue.payable_until - invoice.expires_at).total_seconds()) <= 1

    def test_a_repeat_of_the_shops_call_shows_the_same_request(self, shop: World) -> None:
        first = shop.sell(correlation_id="order-1")
        again = shop.sell(correlation_id="order-1")

        assert first.strike_invoice_id == again.strike_invoice_id
        assert made(shop) == 1


class TestLostAnswers:
    @pytest.mark.parametrize("kind", ["lost_answer", "timeout_after", "garbage", "truncated", "error_after"])
    def test_another_request_is_made_and_the_first_is_never_shown(self, shop: World, kind: str) -> None:
        shop.fault("POST", CREATE, kind)

        answer = shop.ask(correlation_id="order-1")
        if answer.status_code != 200:
            answer = shop.ask(correlation_id="order-1")

        invoice = shop.invoice(answer.get_json()["data"]["invoice"]["invoiceId"])
        lost, shown = shop.simulator.receive_requests.by_id.values()
        assert invoice.strike_invoice_id == shown.request_id
        assert lost.bolt11 is not None
        assert lost.bolt11.payment_request not in answer.text
        shop.simulator.pay_invoice(invoice.issue.bolt11)
        main_pass(shop.backend)
        assert shop.invoice(shown.request_id).state is InvoiceState.SETTLED

    def test_a_call_that_arrives_twice_makes_one_invoice(self, shop: World) -> None:
        shop.fault("POST", CREATE, "repeated")

        invoice = shop.sell()

        assert made(shop) == 2
        assert list(shop.simulator.receive_requests.by_id)[1] == invoice.strike_invoice_id

    def test_two_lost_answers_leave_a_draft_that_the_next_call_issues(self, shop: World) -> None:
        shop.fault("POST", CREATE, "lost_answer", times=2)

        assert shop.ask(correlation_id="order-1").status_code >= 500
        assert shop.ask(correlation_id="order-1").status_code == 200
        assert made(shop) == 3

    @pytest.mark.parametrize("kind", ["unreachable", "rate_limited", "error"])
    def test_what_never_reached_strike_makes_nothing_and_may_be_repeated(self, shop: World, kind: str) -> None:
        shop.fault("POST", CREATE, kind, status=503, times=2)

        answer = shop.ask(correlation_id="order-1")

        assert answer.status_code == 503
        assert made(shop) == 0
        shop.simulator.faults.remove()
        shop.wait(3_700)
        assert shop.ask(correlation_id="order-1").status_code == 200


class TestRefusals:
    def test_an_amount_that_strike_refuses_is_the_callers_to_change(self, shop: World) -> None:
        shop.fault("POST", CREATE, "error", status=422, code="AMOUNT_TOO_HIGH")

        assert error_of(shop) == (400, "invalid_request")

    def test_another_refusal_is_not_blamed_on_the_caller(self, open_world: Open) -> None:
        shop = open_world(settle_in="EUR", config=SimulatorConfig(available_currencies=["BTC", "USD"]))

        assert error_of(shop)[0] == 502
        assert made(shop) == 0

    @pytest.mark.parametrize(
        ("field", "value", "reason"),
        [
            ("bolt11.invoice", "lnbc1nonsense", "payment request is invalid"),
            ("targetCurrency", "USD", "payments are credited in USD, not in BTC"),
        ],
    )
    def test_what_was_not_asked_for_is_never_shown(
        self, shop: World, caplog: pytest.LogCaptureFixture, field: str, value: str, reason: str
    ) -> None:
        shop.fault("POST", CREATE, "field_changed", field=field, value=value)

        assert error_of(shop)[0] == 502
        assert reason in caplog.text

    @pytest.mark.parametrize(("sats", "reason"), [(1, "asks for 1,000 msats"), (None, "asks for any amount")])
    def test_a_payment_request_of_another_amount_is_never_shown(
        self, shop: World, caplog: pytest.LogCaptureFixture, sats: int | None, reason: str
    ) -> None:
        other = shop.backend.strike.receive_requests.create(1, None, 600, "BTC").bolt11
        if sats is None:
            part = shop.simulator.receive_requests.create("BTC", Bolt11Terms(None, None, None, 600), None).bolt11
            assert part is not None
            other = part.payment_request
        shop.fault("POST", CREATE, "field_changed", field="bolt11.invoice", value=other)

        assert error_of(shop)[0] == 502
        assert reason in caplog.text


class TestBudget:
    def test_new_requests_stop_while_reads_and_refunds_still_have_calls(self, shop: World) -> None:
        limit = int(1_000 * NEW_REQUESTS_SHARE)
        invoice = shop.sell()
        for _ in range(limit - 1):
            shop.backend.sweep_budget.take(Bucket.OTHER)

        answer = shop.ask()

        assert answer.status_code == 503
        assert 0 < int(answer.headers["Retry-After"]) <= 600
        assert made(shop) == 1
        shop.simulator.pay_invoice(invoice.issue.bolt11)
        main_pass(shop.backend)
        assert shop.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED
        shop.wait(660)
        assert shop.ask().status_code == 200

    def test_invoices_of_strikes_are_not_held_back_by_that_share(self, shop: World) -> None:
        shop.restart(receive_with=ReceiveWith.INVOICE)
        for _ in range(int(1_000 * NEW_REQUESTS_SHARE)):
            shop.backend.sweep_budget.take(Bucket.OTHER)

        assert shop.ask().status_code == 200


def test_an_unpaid_request_of_another_day_is_announced_as_expired_once(shop: World) -> None:
    invoice = shop.sell()
    for _ in range(3):
        shop.wait(400)
        main_pass(shop.backend)

    assert [one.event_type for one in shop.deliveries(invoice)] == [EventType.INVOICE_EXPIRED]

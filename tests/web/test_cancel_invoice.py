"""POST /invoices/<id>/cancel: Strike decides, a faster payment wins, and a lost answer loses nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from werkzeug.test import TestResponse

from lnpay.domain.errors import StrikeAmbiguous
from lnpay.domain.model import Invoice
from lnpay.domain.states import InvoiceState
from lnpay.invoices.cancel import cancel_invoice
from lnpay.invoices.settle import Outcome, reconcile_invoice
from lnpay.repository.invoices import Invoices
from lnpay.runtime.worker_passes import expired_pass, main_pass
from lnpay.sandbox.config import SimulatorConfig
from tests.web.answers import assert_error
from tests.world import ALL_EVENTS, World

S = InvoiceState
CANCEL = "/v1/invoices/*/cancel"


@pytest.fixture
def shop(make_world: Callable[..., World]) -> World:
    """A world whose shop receives every event and whose cancelled invoices stay payable."""
    return make_world(config=SimulatorConfig(is_payable_after_cancel=True), delivery_events=ALL_EVENTS)


def cancel(world: World, invoice: Invoice) -> TestResponse:
    return world.client.post(f"/invoices/{invoice.strike_invoice_id}/cancel")


def state(world: World, invoice: Invoice) -> InvoiceState:
    return world.invoice(invoice.strike_invoice_id).state


def events(world: World, invoice: Invoice) -> list[str]:
    return [one.event_type for one in world.deliveries(invoice)]


def at_strike(world: World, invoice: Invoice) -> str:
    return world.simulator.invoices.by_id[invoice.strike_invoice_id].state


def assert_conflict(answer: TestResponse, code: str) -> None:
    """Check for a 409 with the state of the invoice."""
    body = answer.get_json()
    assert (answer.status_code, body["code"]) == (409, code)
    assert body["invoice_id"]


class TestCancelling:
    def test_an_open_invoice_is_cancelled_here_and_at_strike(self, shop: World) -> None:
        invoice = shop.sell()

        answer = cancel(shop, invoice)

        assert (answer.status_code, answer.get_json()["state"]) == (200, "cancelled")
        assert at_strike(shop, invoice) == "CANCELLED"
        assert events(shop, invoice) == ["invoice.expired"]

    def test_a_repeat_answers_the_same_and_tells_the_shop_once(self, shop: World) -> None:
        invoice = shop.sell()

        first, second = cancel(shop, invoice), cancel(shop, invoice)

        assert first.get_json() == second.get_json()
        assert len(shop.calls("PATCH")) == 1
        assert events(shop, invoice) == ["invoice.expired"]

    def test_an_expired_invoice_can_be_cancelled_and_the_shop_is_not_told_twice(self, shop: World) -> None:
        invoice = shop.sell()
        shop.wait(200)
        expired_pass(shop.backend)
        assert state(shop, invoice) is S.EXPIRED

        assert cancel(shop, invoice).get_json()["state"] == "cancelled"
        assert events(shop, invoice) == ["invoice.expired"]

    def test_an_unknown_invoice_is_a_404(self, shop: World) -> None:
        assert_error(shop.client.post("/invoices/nothing/cancel"), 404, "not_found")

    def test_the_correlation_id_is_free_for_a_new_invoice(self, shop: World) -> None:
        invoice = shop.sell(correlation_id="order-1")
        cancel(shop, invoice)

        assert shop.sell(correlation_id="order-1").strike_invoice_id != invoice.strike_invoice_id


class TestAFasterPayment:
    def test_it_wins_when_it_is_not_known_yet(self, shop: World) -> None:
        invoice = shop.sell()
        shop.pay(invoice)

        assert_conflict(cancel(shop, invoice), "already_paid")

        assert state(shop, invoice) is S.SETTLED
        assert events(shop, invoice) == ["invoice.settled"]

    @pytest.mark.parametrize(("late", "code"), [(0, "already_paid"), (121, "paid_late")])
    def test_it_wins_when_it_is_known(self, shop: World, late: float, code: str) -> None:
        invoice = shop.sell()
        shop.wait(late)
        shop.pay(invoice)
        reconcile_invoice(shop.backend.settlement, invoice.strike_invoice_id)

        assert_conflict(cancel(shop, invoice), code)
        assert shop.calls("PATCH") == []

    def test_a_late_one_is_refunded_and_not_cancelled(self, shop: World) -> None:
        invoice = shop.sell(ln_address="alice@example.com")
        shop.wait(121)
        shop.pay(invoice)

        assert_conflict(cancel(shop, invoice), "paid_late")
        assert shop.refund(invoice) is not None

    def test_a_pending_payment_prevents_the_cancellation(self, shop: World) -> None:
        invoice = shop.sell()
        shop.fault("PATCH", CANCEL, "error", status=422, code="PROCESSING_PAYMENT")

        assert_conflict(cancel(shop, invoice), "payment_pending")
        assert state(shop, invoice) is S.UNPAID

    @pytest.mark.parametrize(("late", "outcome"), [(0, Outcome.SETTLED), (121, Outcome.PAID_LATE)])
    def test_a_payment_after_the_cancellation_counts(self, shop: World, late: float, outcome: Outcome) -> None:
        invoice = shop.sell(ln_address="alice@example.com")
        cancel(shop, invoice)
        shop.wait(late)
        shop.pay(invoice)

        assert reconcile_invoice(shop.backend.settlement, invoice.strike_invoice_id) is outcome
        assert (shop.refund(invoice) is not None) == (outcome is Outcome.PAID_LATE)


class TestLostAnswers:
    @pytest.mark.parametrize("kind", ["lost_answer", "timeout_after", "error_after", "garbage", "truncated"])
    def test_after_a_lost_answer_the_invoice_is_read_back(self, shop: World, kind: str) -> None:
        invoice = shop.sell()
        shop.fault("PATCH", CANCEL, kind)

        assert cancel(shop, invoice).get_json()["state"] == "cancelled"
        assert events(shop, invoice) == ["invoice.expired"]

    def test_a_cancellation_that_did_not_reach_strike_is_a_503_and_can_be_repeated(self, shop: World) -> None:
        invoice = shop.sell()
        shop.fault("PATCH", CANCEL, "error", status=500)

        assert_error(cancel(shop, invoice), 503, "provider_unavailable")
        assert state(shop, invoice) is S.UNPAID
        assert cancel(shop, invoice).status_code == 200

    def test_a_refusal_for_another_reason_is_a_502(self, shop: World) -> None:
        invoice = shop.sell()
        shop.fault("PATCH", CANCEL, "error", status=403, code="FORBIDDEN")

        assert_error(cancel(shop, invoice), 502, "provider_rejected")
        assert state(shop, invoice) is S.UNPAID

    @pytest.mark.parametrize("finish", ["repeat", "webhook", "worker"])
    def test_a_process_killed_before_its_commit_is_finished_by_the_next(
        self, shop: World, monkeypatch: pytest.MonkeyPatch, finish: str
    ) -> None:
        shop.subscribe()
        invoice = shop.sell()
        with monkeypatch.context() as patched:
            patched.setattr(Invoices, "cancel", _killed)
            with pytest.raises(KeyboardInterrupt):
                cancel_invoice(shop.backend.settlement, invoice.strike_invoice_id)
        assert (at_strike(shop, invoice), state(shop, invoice)) == ("CANCELLED", S.UNPAID)

        shop.restart()
        if finish == "repeat":
            assert cancel(shop, invoice).status_code == 200
        elif finish == "webhook":
            shop.pump()
        else:
            shop.wait(61)
            main_pass(shop.backend)

        assert state(shop, invoice) is S.CANCELLED
        assert events(shop, invoice) == ["invoice.expired"]

    def test_an_open_invoice_in_strikes_answer_is_not_trusted(
        self, shop: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        invoice = shop.sell()
        strike = shop.backend.settlement.strike
        monkeypatch.setattr(strike, "cancel_invoice", strike.get_invoice)

        with pytest.raises(StrikeAmbiguous, match="repeat the request"):
            cancel_invoice(shop.backend.settlement, invoice.strike_invoice_id)


def _killed(*_: object) -> bool:
    raise KeyboardInterrupt

"""Clocks of our machines that are wrong, jump and disagree: deadlines stay Strike's, and no payment is lost by them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest

from lnpay.deliveries.send import CLAIM, send_due
from lnpay.domain.errors import StrikeUnavailable
from lnpay.domain.model import Invoice
from lnpay.domain.states import LAPSE_MARGIN, InvoiceState, RefundState
from lnpay.invoices.mark_invalid import mark_invalid
from lnpay.invoices.settle import reconcile_invoice
from lnpay.monitoring.overview import attention
from lnpay.runtime.backend import Backend
from lnpay.runtime.worker_passes import (
    Summary,
    expired_pass,
    main_pass,
    refund_pass,
)
from tests.refunding import one_refund, refund, sell_paid
from tests.world import World

HOUR = 3_600.0
LAPSED_AFTER = HOUR + LAPSE_MARGIN.total_seconds()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(time_offset_seconds=600)


def start_server(world: World, *, skew_seconds: float) -> None:
    """A server on a machine whose clock is wrong; it asks Strike for the time, as main.py does."""
    world.skew_seconds = skew_seconds
    world.restart()
    assert world.backend.strike.measure_time()


def pass_all(world: World) -> None:
    for one_pass in (main_pass, expired_pass):
        one_pass(world.backend)


def stage(world: World, token: str) -> str:
    return str(world.client.get(f"/checkout/{token}/status").get_json()["state"])


def seconds_left(world: World, token: str) -> int:
    """What the payment page counts down from."""
    found = re.search(r'data-left="(\d+)"', world.client.get(f"/checkout/{token}").text)
    assert found
    return int(found[1])


class TestAClockThatIsAhead:
    def test_a_step_while_passes_run_ends_no_invoice_that_can_be_paid(self, world: World) -> None:
        invoice = world.sell()
        world.skew_seconds = 2 * HOUR
        for _ in range(5):
            world.wait(3)
            pass_all(world)
        world.skew_seconds = 0
        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.UNPAID

        world.pay(invoice)
        pass_all(world)

        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED
        assert len(world.told()) == 1

    @pytest.mark.parametrize("skew", [30, 660, 2 * HOUR, 72 * HOUR])
    def test_a_worker_on_a_machine_that_is_ahead_ends_nothing(self, world: World, skew: float) -> None:
        invoice = world.sell()
        worker = world.neighbour(skew_seconds=skew)
        for _ in range(3):
            main_pass(worker)
            expired_pass(worker)
            world.wait(5)
        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.UNPAID

        world.pay(invoice)
        main_pass(worker)

        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED
        assert len(world.told()) == 1

    def test_an_invoice_is_sold_and_shown_although_the_server_started_with_a_wrong_clock(self, world: World) -> None:
        start_server(world, skew_seconds=2 * HOUR)

        invoice = world.sell()

        assert stage(world, invoice.token) == "waiting"
        assert seconds_left(world, invoice.token) in (599, 600)

    def test_what_is_over_at_strike_still_ends(self, world: World) -> None:
        start_server(world, skew_seconds=2 * HOUR)
        invoice = world.sell()
        world.wait(620)
        pass_all(world)
        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.EXPIRED

        world.wait(LAPSED_AFTER)
        pass_all(world)
        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.LAPSED


class TestAClockThatIsBehind:
    def test_a_page_does_not_wait_after_the_end(self, world: World) -> None:
        start_server(world, skew_seconds=-300)
        invoice = world.sell()
        world.wait(598)
        assert stage(world, invoice.token) == "waiting"

        world.wait(5)
        assert stage(world, invoice.token) == "expired"

    def test_the_same_order_is_refused_when_its_time_is_over(self, world: World) -> None:
        start_server(world, skew_seconds=-300)
        world.sell(correlation_id="order-1")
        world.wait(602)

        assert world.ask(correlation_id="order-1").get_json()["code"] == "expired"

    def test_a_worker_that_is_behind_ends_what_is_over(self, world: World) -> None:
        invoice = world.sell()
        worker = world.neighbour(skew_seconds=-2 * HOUR)
        world.wait(620)
        main_pass(worker)

        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.EXPIRED


class TestStrikesDate:
    def test_without_a_date_nothing_ends(self, world: World) -> None:
        invoice = world.sell()
        world.restart()
        world.fault("*", "/v1/*", "date", value="", times=None)
        world.wait(2 * HOUR)
        pass_all(world)

        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.UNPAID

    @pytest.mark.parametrize("wrong", ["soon", "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"])
    def test_an_absurd_date_is_ignored(self, world: World, wrong: str) -> None:
        invoice = world.sell()
        world.restart()
        world.fault("*", "/v1/*", "date", value=wrong, times=None)
        pass_all(world)
        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.UNPAID
        assert world.backend.strike.time.certain() is None

    def test_one_answer_with_the_date_of_another_hour_ends_nothing(self, world: World) -> None:
        invoice = world.sell()
        world.fault("GET", "/v1/invoices", "date", seconds=2 * HOUR)
        pass_all(world)

        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.UNPAID

    def test_the_page_of_a_proxy_says_nothing_about_the_time(self, world: World) -> None:
        world.restart()
        world.fault("*", "/v1/*", "html403", times=None)
        pass_all(world)

        assert world.backend.strike.time.offset() is None


class TestALapsedInvoiceThatWasPaid:
    @pytest.fixture
    def lapsed(self, world: World) -> Invoice:
        """Lapsed by a process of an older release whose clock was ahead; the customer pays in time."""
        world.sell()
        invoice = world.sell()
        with world.backend.repository.transaction() as tx:
            tx.invoices.move(invoice.id, InvoiceState.UNPAID, InvoiceState.EXPIRED)
            tx.invoices.move(invoice.id, InvoiceState.EXPIRED, InvoiceState.LAPSED)
        return invoice

    def test_the_webhook_settles_it(self, world: World, lapsed: Invoice) -> None:
        world.subscribe()
        world.pay(lapsed)

        assert world.pump() == [200]
        assert world.invoice(lapsed.strike_invoice_id).state is InvoiceState.SETTLED

    def test_the_list_of_the_paid_settles_it(self, world: World, lapsed: Invoice) -> None:
        world.pay(lapsed)
        pass_all(world)

        assert world.invoice(lapsed.strike_invoice_id).state is InvoiceState.SETTLED
        assert len(world.told()) == 1

    def test_a_late_payment_of_it_is_refunded(self, make_world: Callable[..., World]) -> None:
        world = make_world(time_offset_seconds=600)
        invoice = world.sell(ln_address="customer@wallet.test")
        world.wait(620)
        pass_all(world)
        with world.backend.repository.transaction() as tx:
            tx.invoices.move(invoice.id, InvoiceState.EXPIRED, InvoiceState.LAPSED)
        world.pay(invoice)
        world.wait(HOUR)
        pass_all(world)

        refund = world.refund(invoice)
        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.PAID_LATE
        assert refund is not None
        assert refund.state is RefundState.SENT

    def test_it_is_looked_for_once_an_hour_where_nothing_else_is_watched(self, world: World) -> None:
        invoice = world.sell()
        world.wait(620)
        pass_all(world)
        world.wait(LAPSED_AFTER)
        pass_all(world)
        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.LAPSED

        before = len(world.calls("GET /v1/invoices"))
        for _ in range(30):
            world.wait(60)
            pass_all(world)
        assert len(world.calls("GET /v1/invoices")) - before <= 1

        world.simulator.invoices.by_id[invoice.strike_invoice_id].state = "PAID"
        world.wait(HOUR)
        pass_all(world)
        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED

    def test_it_is_not_looked_for_hours_later(self, world: World) -> None:
        world.sell()
        for seconds in (620.0, LAPSED_AFTER, 5 * HOUR):
            world.wait(seconds)
            pass_all(world)
        before = len(world.calls("GET /v1/invoices"))
        world.wait(HOUR)
        pass_all(world)

        assert len(world.calls("GET /v1/invoices")) == before

    def test_its_page_goes_on_asking(self, world: World, lapsed: Invoice) -> None:
        assert world.client.get(f"/checkout/{lapsed.token}/status").get_json()["is_final"] is False
        world.pay(lapsed)
        pass_all(world)
        world.restart()
        answer = world.client.get(f"/checkout/{lapsed.token}/status").get_json()
        assert (answer["state"], answer["is_final"]) == ("paid", True)


class TestAPaymentThatCannotBeSettled:
    def test_it_is_counted_and_in_the_operators_list_until_it_is_settled(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        invoice = world.sell()
        world.pay(invoice)
        fault = world.fault("GET", "/v1/invoices/*", "garbage", times=None)
        main_pass(world.backend)
        assert "invoices paid at strike are not settled" in caplog.text
        assert attention(world.backend.repository, world.backend.clock()).unsettled == []

        world.wait(601)
        summary = main_pass(world.backend)
        waiting = attention(world.backend.repository, world.backend.clock())
        assert [one.strike_invoice_id for one in waiting.unsettled] == [invoice.strike_invoice_id]
        assert waiting.count == 1
        assert summary.trouble is not None
        assert "lnpay_unsettled_payments 1.0" in world.client.get("/metrics").text

        world.simulator.faults.remove(fault.fault_id)
        main_pass(world.backend)
        assert attention(world.backend.repository, world.backend.clock()).count == 0
        assert "lnpay_unsettled_payments 0.0" in world.client.get("/metrics").text


class TestAnOperatorLearnsOfAWrongClock:
    @pytest.mark.parametrize("skew", [62, 2 * HOUR, -62, -72 * HOUR])
    @pytest.mark.parametrize("one_pass", [main_pass, expired_pass, refund_pass])
    def test_each_pass_on_a_machine_that_is_off_says_so(
        self, world: World, skew: float, one_pass: Callable[[Backend], Summary]
    ) -> None:
        worker = world.neighbour(skew_seconds=skew)

        summary = one_pass(worker)

        assert summary.trouble is not None
        told = re.fullmatch(r".* ([\d,.]+) seconds (ahead of|behind) Strike's, give or take (\S+): .*", summary.trouble)
        assert told is not None
        assert abs(float(told[1].replace(",", "")) - abs(skew)) <= float(told[3])
        assert told[2] == ("ahead of" if skew > 0 else "behind")
        assert one_pass(world.backend).trouble is None

    @pytest.mark.parametrize("skew", [0, 20, -20, 50])
    def test_a_clock_that_is_nearly_right_is_no_trouble(self, world: World, skew: float) -> None:
        world.sell()

        assert main_pass(world.neighbour(skew_seconds=skew)).trouble is None

    def test_a_pass_says_that_nothing_is_ended_while_strikes_time_is_unknown(self, world: World) -> None:
        world.sell()
        world.restart()
        world.fault("*", "/v1/*", "date", value="", times=None)

        for one_pass in (main_pass, expired_pass):
            trouble = one_pass(world.backend).trouble
            assert trouble is not None
            assert "no invoice expires" in trouble

    @pytest.mark.parametrize("skew", [-300.0, 0.0, 2 * HOUR])
    def test_metrics_show_the_offset_and_how_exactly_it_is_known(self, world: World, skew: float) -> None:
        start_server(world, skew_seconds=skew)
        offset, uncertainty = (
            float(re.findall(rf"^{name} (\S+)$", world.client.get("/metrics").text, re.MULTILINE)[0])
            for name in ("lnpay_clock_offset_seconds", "lnpay_clock_offset_uncertainty_seconds")
        )

        assert 0 < uncertainty < 2
        assert abs(offset - skew) <= uncertainty

    def test_metrics_show_no_offset_before_strike_has_told_its_time(self, world: World) -> None:
        world.restart()

        assert "lnpay_clock_offset" not in world.client.get("/metrics").text


class TestWorkThatAWrongClockHasPlanned:
    """The worker has heard nothing of Strike, so that its own clock dates what it writes."""

    @pytest.fixture
    def worker(self, world: World) -> Backend:
        world.fault("*", "/v1/*", "date", value="", times=None)
        worker = world.neighbour(skew_seconds=2 * HOUR)
        assert worker.strike.time.offset() is None
        return worker

    def paid(self, world: World, **fields: str) -> Invoice:
        """An order that was paid, of which the shop has not been told."""
        invoice = world.sell(**fields)
        world.pay(invoice)
        reconcile_invoice(world.backend.settlement, invoice.strike_invoice_id)
        return invoice

    def test_a_message_that_it_was_killed_with_is_sent_within_minutes(self, world: World, worker: Backend) -> None:
        self.paid(world)
        with worker.repository.transaction() as tx:
            (delivery,) = tx.deliveries.due(worker.clock(), 1)
            assert tx.deliveries.claim(delivery, until=worker.clock() + CLAIM)

        send_due(world.backend.outbox)
        assert len(world.told()) == 1

    @pytest.mark.parametrize("failures", [1, 2, 3, 4])
    def test_a_message_that_it_has_put_off_is_sent_within_minutes(
        self, world: World, worker: Backend, failures: int
    ) -> None:
        self.paid(world)
        fault = world.fault("POST", "/shop/*", "error", status=500, times=None)
        for _ in range(failures):
            send_due(worker.outbox)
            world.wait(90)
        world.simulator.faults.remove(fault.fault_id)

        world.wait(120)
        send_due(world.backend.outbox)
        assert len(world.told()) == 1

    def test_the_claim_of_a_neighbour_whose_clock_is_nearly_right_is_kept(self, world: World) -> None:
        self.paid(world)
        with world.backend.repository.transaction() as tx:
            (delivery,) = tx.deliveries.due(world.backend.clock(), 1)
            assert tx.deliveries.claim(delivery, until=world.backend.clock() + CLAIM + timedelta(seconds=50))

        assert send_due(world.backend.outbox) == {}

    @pytest.mark.parametrize("is_claimed", [True, False])
    def test_a_refund_that_it_holds_or_has_put_off_is_sent_within_minutes(
        self, world: World, worker: Backend, is_claimed: bool
    ) -> None:
        invoice = world.sell(ln_address="customer@wallet.test")
        world.pay(invoice, late_seconds=700)
        reconcile_invoice(world.backend.settlement, invoice.strike_invoice_id)
        refund = world.refund(invoice)
        assert refund is not None
        if is_claimed:
            with worker.repository.transaction() as tx:
                assert tx.refunds.claim(refund, until=worker.clock() + CLAIM)
        else:
            world.simulator.faults.remove()
            fault = world.fault("*", "/v1/*", "html403", times=None)
            refund_pass(worker)
            put_off = world.refund(invoice)
            assert put_off is not None
            assert put_off.next_attempt_at > world.backend.clock() + timedelta(hours=1)
            world.simulator.faults.remove(fault.fault_id)

        world.wait(120)
        refund_pass(world.backend)
        after = world.refund(invoice)
        assert after is not None
        assert after.state is RefundState.SENT

    def test_a_clock_that_jumps_back_does_not_stop_messages(self, world: World) -> None:
        self.paid(world)
        world.fault("*", "/v1/*", "date", value="", times=None)
        world.skew_seconds = 2 * HOUR
        world.restart()
        fault = world.fault("POST", "/shop/*", "error", status=500, times=None)
        send_due(world.backend.outbox)
        world.simulator.faults.remove(fault.fault_id)
        world.skew_seconds = -2 * HOUR

        world.wait(120)
        send_due(world.backend.outbox)
        assert len(world.told()) == 1


class TestAnInvoiceThatIsGivenUp:
    """Its deadline is the moment at which it is marked, by Strike's clock."""

    def test_a_payment_before_that_settles_it_though_our_clock_is_behind(self, world: World) -> None:
        start_server(world, skew_seconds=-600)
        invoice = world.sell()
        world.wait(100)
        world.pay(invoice)
        world.wait(10)

        mark_invalid(world.backend.settlement, invoice.strike_invoice_id)
        main_pass(world.backend)

        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED
        assert world.refund(invoice) is None

    def test_a_payment_after_that_is_late_though_our_clock_is_ahead(self, world: World) -> None:
        start_server(world, skew_seconds=600)
        invoice = world.sell()
        world.wait(10)
        mark_invalid(world.backend.settlement, invoice.strike_invoice_id)

        world.wait(100)
        world.pay(invoice)
        main_pass(world.backend)

        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.PAID_LATE
        assert world.refund(invoice) is not None

    def test_a_payment_before_that_settles_it_though_our_clock_is_behind_after_a_restart(self, world: World) -> None:
        invoice = world.sell()
        world.wait(60)
        world.pay(invoice)
        world.wait(10)
        world.skew_seconds = -600
        world.restart()

        mark_invalid(world.backend.settlement, invoice.strike_invoice_id)
        main_pass(world.backend)

        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED
        assert world.refund(invoice) is None

    @pytest.mark.parametrize("answers", [1, 2, 3, 4])
    def test_a_payment_before_that_settles_it_though_strikes_first_answers_are_hours_off(
        self, world: World, answers: int
    ) -> None:
        invoice = world.sell()
        world.wait(60)
        world.pay(invoice)
        world.wait(10)
        world.restart()
        world.fault("*", "/v1/*", "date", seconds=-2 * HOUR, times=answers)

        if answers > 1:
            with pytest.raises(StrikeUnavailable, match="repeat the request"):
                mark_invalid(world.backend.settlement, invoice.strike_invoice_id)
        mark_invalid(world.backend.settlement, invoice.strike_invoice_id)
        main_pass(world.backend)

        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED
        assert world.refund(invoice) is None

    def test_a_claim_is_not_withdrawn_by_our_clock_alone(self, world: World) -> None:
        made = refund(world, sell_paid(world), address=None)
        world.skew_seconds = 40 * 24 * HOUR
        world.restart()
        world.fault("*", "/v1/*", "unreachable", times=None)

        refund_pass(world.backend)

        assert one_refund(world, made).state is RefundState.NEEDS_ADDRESS

    def test_it_stays_open_while_strikes_time_is_unknown(self, world: World) -> None:
        invoice = world.sell()
        world.restart()
        world.fault("*", "/v1/*", "unreachable", times=None)

        with pytest.raises(StrikeUnavailable, match="time is unknown"):
            mark_invalid(world.backend.settlement, invoice.strike_invoice_id)

        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.UNPAID

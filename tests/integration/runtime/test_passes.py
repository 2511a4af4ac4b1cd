"""What a worker does in one pass, what it says of it, and how passes are repeated."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from lnpay.domain.errors import Stopping, StorageUnavailable, StrikeUnavailable
from lnpay.domain.model import Heartbeat
from lnpay.domain.states import InvoiceState
from lnpay.invoices.settle import reconcile_invoice
from lnpay.repository.sql import LATELY_SECONDS, UnreadableRows
from lnpay.runtime import worker_passes
from lnpay.runtime.backend import Backend
from lnpay.runtime.worker_passes import (
    Summary,
    expired_pass,
    main_pass,
    make_pass,
    refund_pass,
    repeat,
    start_workers,
)
from lnpay.sandbox.server import wait_until
from tests.owing import owe
from tests.world import World


class TestMainPass:
    def test_it_settles_and_tells_the_shop(self, world: World) -> None:
        world.pay(world.sell())

        summary = main_pass(world.backend)

        assert str(summary) == "settled=1 paid_late=0 failed=0 expired=0 lapsed=0 delivered=1 refused=0"
        assert (summary.trouble, len(world.told())) == (None, 1)

    def test_it_tells_the_shop_even_while_the_provider_is_down(self, world: World) -> None:
        world.pay(world.sell())
        world.simulator.shop.answer_with(500)
        main_pass(world.backend)
        world.fault("*", "/v1/*", "unreachable", times=None)
        world.wait(5)

        assert main_pass(world.backend).counts["delivered"] == 1

    def test_expiring_and_lapsing_are_part_of_it(self, world: World) -> None:
        world.sell()
        world.wait(200)
        first = main_pass(world.backend)
        world.wait(6_000)

        second = main_pass(world.backend)

        assert (first.counts["expired"], second.counts["lapsed"]) == (1, 1)

    def test_one_that_finds_nothing_is_uneventful(self, world: World) -> None:
        summary = main_pass(world.backend, waits_for_others=True)

        assert not summary.is_eventful


class TestExpiredPass:
    def test_it_looks_back_however_recently_anybody_did(self, world: World) -> None:
        invoice = world.sell(ln_address="alice@example.com")
        world.wait(200)
        main_pass(world.backend)
        world.pay(invoice)

        summary = expired_pass(world.backend)

        assert summary.counts["paid_late"] == 1
        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.PAID_LATE


class TestTrouble:
    def test_a_key_that_is_not_accepted(self, world: World) -> None:
        world.sell()
        world.simulator.config.api_keys = {"another": ["*"]}

        trouble = main_pass(world.backend).trouble

        assert trouble is not None
        assert "STRIKE_API_KEY" in trouble

    def test_a_key_without_the_scope_to_read(self, world: World) -> None:
        world.sell()
        world.simulator.config.api_keys = {"a-key-of-the-tests": ["partner.invoice.create"]}

        summaries = [main_pass(world.backend) for _ in range(2)]

        assert all(summary.is_eventful for summary in summaries)
        assert "1 invoices could not be reconciled" in (summaries[0].trouble or "")

    @pytest.mark.parametrize("one_pass", [main_pass, expired_pass])
    @pytest.mark.parametrize("fault", [{"kind": "unreachable"}, {"kind": "error", "status": 503}])
    def test_a_pass_that_learns_nothing_says_so(
        self, world: World, one_pass: Callable[[Backend], Summary], fault: dict[str, Any]
    ) -> None:
        world.sell()
        world.fault("*", "/v1/*", times=None, **fault)

        assert "could not be" in (one_pass(world.backend).trouble or "")
        world.simulator.faults.remove()
        assert one_pass(world.backend).trouble is None

    def test_without_the_list_and_without_calls_a_pass_learns_nothing(self, world: World) -> None:
        world.sell()
        world.fault("GET", "/v1/invoices", "garbage", times=None)
        world.backend.sweep_budget.remaining = lambda: 9  # type: ignore[method-assign]

        assert "no calls are left" in (main_pass(world.backend).trouble or "")

    def test_a_list_that_cannot_be_read_is_no_trouble_while_single_reads_do(self, world: World) -> None:
        world.pay(world.sell())
        world.fault("GET", "/v1/invoices", "garbage", times=None)

        summary = main_pass(world.backend)

        assert (summary.counts["settled"], summary.trouble) == (1, None)

    def test_a_pending_row_without_an_id_is_named_as_what_keeps_expired_invoices(self, world: World) -> None:
        """The heartbeat brings it to the doctor, and to the operator's page when it stays."""
        world.sell()
        world.wait(200)
        expired_pass(world.backend)
        pending = world.sell()
        world.simulator.pay_invoice(pending.issue.bolt11, pending_seconds=100_000)
        world.wait(5_000)
        world.fault("GET", "/v1/invoices", "field_missing", field="items.0.invoiceId", times=1)

        blind = make_pass(world.backend, "expired", expired_pass)
        with world.backend.repository.reading() as tx:
            [beat] = tx.heartbeats.every()
        after = make_pass(world.backend, "expired", expired_pass)

        assert "Strike lists 1 pending payment without an invoice id, so no expired invoice" in (blind.trouble or "")
        assert blind.counts["lapsed"] == 0
        assert beat.trouble == blind.trouble
        assert (after.trouble, after.counts["lapsed"]) == (None, 1)

    def test_a_list_of_pending_payments_that_is_refused_is_named_as_well(self, world: World) -> None:
        world.sell()
        world.wait(200)
        expired_pass(world.backend)
        world.wait(5_000)
        world.fault("GET", "/v1/invoices", "html403", times=1)

        summary = expired_pass(world.backend)

        assert "Strike's list of pending payments is unavailable, so no expired" in (summary.trouble or "")
        assert summary.counts["lapsed"] == 0

    def test_odd_rows_of_others_are_counted_and_no_trouble(self, world: World) -> None:
        world.pay(world.sell())
        world.fault("GET", "/v1/invoices", "field_changed", field="items.0.amount", value={"currency": "BTC"})

        summary = make_pass(world.backend, "main", main_pass)

        assert (summary.counts["settled"], summary.trouble, summary.unreadable) == (1, None, 1)
        with world.backend.repository.reading() as tx:
            assert [beat.unreadable for beat in tx.heartbeats.every()] == [1]

    def test_refunds_that_strike_does_not_answer_for(self, world: World) -> None:
        owe(world)
        world.fault("*", "/v1/*", "error", status=503, times=None)

        assert "Strike did not answer" in (refund_pass(world.backend).trouble or "")

    def test_a_refund_that_cannot_be_worked_on(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        owe(world)
        monkeypatch.setattr("lnpay.refunds.send._advance", lambda *_: 1 / 0)

        assert "1 refunds could not be worked on: see the log" in (refund_pass(world.backend).trouble or "")


class TestStalledWork:
    """What has not moved for an hour, for any reason."""

    def test_refunds_that_have_failed_for_long(self, world: World) -> None:
        owe(world)
        world.fault("POST", "/v1/payment-quotes/*", "error", status=422, code="BALANCE_TOO_LOW", times=None)
        first = refund_pass(world.backend).trouble
        for _ in range(60):
            world.wait(1_800)
            last = refund_pass(world.backend).trouble

        assert first is None
        assert "1 refund could not be sent" in (last or "")

    def test_messages_that_the_shop_has_not_taken_for_long(self, world: World) -> None:
        world.simulator.shop.answer_with(500, times=None)
        world.pay(world.sell())
        first = main_pass(world.backend).trouble
        world.wait(3_700)
        second = main_pass(world.backend).trouble

        assert first is None
        assert "1 message to the shop could not be delivered" in (second or "")
        world.simulator.shop.answer_with(200, times=None)
        world.wait(7_300)
        assert main_pass(world.backend).trouble is None

    def test_open_invoices_that_could_not_be_read_for_long(self, world: World) -> None:
        """The list is refused, and the calls are enough for one of the invoices alone."""
        for _ in range(3):
            world.sell()
        world.fault("GET", "/v1/invoices", "html403", times=None)
        world.backend.sweep_budget.remaining = lambda: 10  # type: ignore[method-assign]
        world.wait(4_000)
        with world.backend.repository.transaction() as tx:
            tx.invoices.mark_checked(tx.invoices.least_recently_checked(9), world.backend.clock())
        world.fault("GET", "/v1/invoices/*", "field_changed", field="state", value="PENDING", times=None)
        main_pass(world.backend)

        assert "2 unpaid invoices could not be checked" in (main_pass(world.backend).trouble or "")

    def test_what_a_pass_ends_after_days_without_one_is_no_trouble(self, world: World) -> None:
        for _ in range(3):
            world.sell()
        world.wait(3 * 86_400)

        troubles = [one_pass(world.backend).trouble for one_pass in (main_pass, main_pass, expired_pass, expired_pass)]

        assert troubles == [None] * 4

    def test_an_invoice_with_a_pending_payment_is_not_reported_as_unread(self, world: World) -> None:
        invoice = world.sell()
        world.simulator.pay_invoice(invoice.issue.bolt11, pending_seconds=90_000)
        world.subscribe()
        reconcile_invoice(world.backend.settlement, invoice.strike_invoice_id)
        world.wait(20_000)

        assert [main_pass(world.backend).trouble, expired_pass(world.backend).trouble] == [None, None]

    def test_expired_invoices_that_could_not_be_read_for_long(self, world: World) -> None:
        invoice = world.sell()
        world.wait(200)
        main_pass(world.backend)
        world.wait(20_000)
        world.fault("GET", "/v1/invoices", "error", status=500, times=None)
        world.fault("GET", f"/v1/invoices/{invoice.strike_invoice_id}", "error", status=500, times=None)

        assert "1 expired invoice could not be checked" in (expired_pass(world.backend).trouble or "")


class TestUnreadableRows:
    """Rows of our own database: of a later version, of a hand's mistake, of a damaged disk."""

    DAMAGES = (
        "UPDATE invoices SET strike_invoice = '{' WHERE id = 1",
        "UPDATE invoices SET strike_quote = '[[[' WHERE id = 1",
        "UPDATE invoices SET amount_fiat = 'much' WHERE id = 1",
        "UPDATE invoices SET opened_at = 'soon' WHERE id = 1",
        "UPDATE invoices SET opened_at = '' WHERE id = 1",
        "UPDATE invoices SET rate_as_of = 'soon' WHERE id = 1",
        "UPDATE invoices SET description = CAST(x'ff' AS TEXT) WHERE id = 1",
    )

    def damage(self, world: World, statement: str) -> None:
        with world.backend.repository.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
            connection.exec_driver_sql(statement)
            connection.exec_driver_sql("PRAGMA ignore_check_constraints = OFF")
            connection.exec_driver_sql("COMMIT")

    @pytest.mark.parametrize("statement", DAMAGES)
    def test_an_invoice_that_cannot_be_read_stops_no_other(self, world: World, statement: str) -> None:
        world.sell()
        paid, unpaid = world.sell(), world.sell()
        self.damage(world, statement)
        world.pay(paid)
        world.wait(200)

        summary = make_pass(world.backend, "main", main_pass)

        assert (summary.counts["settled"], summary.counts["expired"]) == (1, 1)
        assert world.invoice(unpaid.strike_invoice_id).state is InvoiceState.EXPIRED
        assert "1 row of the database is unreadable" in (summary.trouble or "")
        with world.backend.repository.reading() as tx:
            assert [beat.unreadable for beat in tx.heartbeats.every()] == [1]

    def test_a_message_that_cannot_be_read_stops_no_other(self, world: World) -> None:
        for _ in range(2):
            world.pay(world.sell())
        world.simulator.shop.answer_with(500, times=2)
        main_pass(world.backend)
        self.damage(world, "UPDATE deliveries SET created_at = 'soon' WHERE id = 1")
        world.wait(10)

        summary = main_pass(world.backend)

        assert summary.counts["delivered"] == 1
        assert "1 row of the database" in (summary.trouble or "")

    def test_a_refund_that_cannot_be_read_stops_no_other(self, world: World) -> None:
        for _ in range(2):
            owe(world)
        self.damage(world, "UPDATE refunds SET state = 'teleported' WHERE id = 1")
        self.damage(world, "UPDATE refunds SET state = 'requested', created_at = 'soon' WHERE id = 1")

        summary = refund_pass(world.backend)

        assert summary.counts["sent"] == 1
        assert "1 row of the database" in (summary.trouble or "")

    def test_many_that_cannot_be_read_leave_room_for_the_others(self, world: World) -> None:
        """As many as are read at once, and older than the good one."""
        for _ in range(10):
            owe(world)
        self.damage(world, "UPDATE refunds SET created_at = 'soon' WHERE id < 10")

        assert refund_pass(world.backend).counts["sent"] == 1

    def test_one_that_is_repaired_is_forgotten_after_a_while(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = [0.0]
        monkeypatch.setattr("lnpay.repository.sql.time.monotonic", lambda: now[0])
        rows = UnreadableRows()
        rows.note("invoices", 1)
        rows.note("invoices", 1)

        assert rows.count() == 1
        now[0] = LATELY_SECONDS + 1
        assert rows.count() == 0

    def test_many_refusals_speak_of_the_scopes(self, world: World) -> None:
        for _ in range(4):
            world.sell()
        world.simulator.config.api_keys = {"a-key-of-the-tests": ["partner.invoice.create"]}

        assert "scopes" in (main_pass(world.backend).trouble or "")

    def test_the_line_ends_with_it(self) -> None:
        assert str(Summary({"settled": 1}, "look here")) == "settled=1 trouble: look here"


class TestHeartbeats:
    def beats(self, world: World) -> list[Heartbeat]:
        with world.backend.repository.reading() as tx:
            return tx.heartbeats.every()

    def test_each_worker_leaves_the_time_of_its_last_pass(self, world: World) -> None:
        make_pass(world.backend, "main", main_pass)
        world.wait(60)
        make_pass(world.backend, "refund", refund_pass)
        make_pass(world.backend, "main", main_pass)

        now = world.backend.clock()
        assert self.beats(world) == [Heartbeat("main", now, None), Heartbeat("refund", now, None)]

    def test_it_is_known_since_when_a_worker_is_in_trouble(self, world: World) -> None:
        troubles = iter(["look", "look again", None, "once more"])

        def one_pass(_: object) -> Summary:
            return Summary({}, next(troubles))

        start = world.backend.clock()
        since = []
        for _ in range(4):
            make_pass(world.backend, "main", one_pass)
            since.append(self.beats(world)[0].troubled_since)
            world.wait(60)

        assert since == [start, start, None, start + timedelta(seconds=180)]

    def test_a_fault_is_remembered_until_it_is_fixed(self, world: World) -> None:
        troubles = iter(["2 refunds wait", None])

        def one_pass(_: object) -> Summary:
            return Summary({}, next(troubles))

        make_pass(world.backend, "refund", one_pass)
        (first,) = self.beats(world)
        make_pass(world.backend, "refund", one_pass)
        (second,) = self.beats(world)

        assert (first.trouble, second.trouble) == ("2 refunds wait", None)

    def test_a_pass_that_fails_says_so(self, world: World) -> None:
        def one_pass(_: object) -> Summary:
            raise StrikeUnavailable("Strike does not answer")

        with pytest.raises(StrikeUnavailable):
            make_pass(world.backend, "main", one_pass)

        assert [beat.trouble for beat in self.beats(world)] == ["Strike does not answer"]

    @pytest.mark.parametrize("error", [Stopping("shutdown requested"), ZeroDivisionError("a bug")])
    def test_a_pass_that_never_came_to_its_end_leaves_none(self, world: World, error: Exception) -> None:
        def one_pass(_: object) -> Summary:
            raise error

        with pytest.raises(type(error)):
            make_pass(world.backend, "main", one_pass)

        assert self.beats(world) == []


class TestRepeating:
    def endless(self, stop: threading.Event, *outcomes: Exception | Summary) -> Callable[[], Summary]:
        """A pass that goes through `outcomes` and sets `stop` with the last one."""
        left = list(outcomes)

        def one_pass() -> Summary:
            outcome = left.pop(0)
            if not left:
                stop.set()
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        return one_pass

    def test_a_pass_that_fails_is_followed_by_the_next(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "lnpay")
        stop = threading.Event()
        done, wrong = Summary({"settled": 1}), Summary({"settled": 0}, "look at it")
        one_pass = self.endless(
            stop, StorageUnavailable("locked"), ZeroDivisionError("a bug"), done, wrong, Summary({"x": 0})
        )

        repeat(one_pass, 0, stop)

        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            ("ERROR", "pass failed error=locked"),
            ("ERROR", "pass failed unexpectedly"),
            ("INFO", "pass done settled=1"),
            ("INFO", "pass done settled=0 trouble=look at it"),
            ("DEBUG", "pass done x=0"),
        ]

    def test_a_pass_that_is_asked_to_end_is_the_last(self) -> None:
        stop = threading.Event()
        calls: list[int] = []

        def one_pass() -> Summary:
            calls.append(1)
            raise Stopping("shutdown requested")

        repeat(one_pass, 0, stop)

        assert calls == [1]

    def test_the_pause_ends_when_asked(self) -> None:
        stop = threading.Event()
        thread = threading.Thread(target=repeat, args=(lambda: Summary({}), 3_600, stop))
        thread.start()

        stop.set()
        thread.join(5)

        assert not thread.is_alive()

    def test_inside_a_server_every_pass_is_repeated(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        made: list[str] = []

        def noting(name: str) -> tuple[Callable[[object], Summary], float]:
            def one_pass(_: object) -> Summary:
                made.append(name)
                return Summary({})

            return one_pass, 0.01

        paces = {name: noting(name) for name in worker_passes.WORKER_INTERVALS}
        monkeypatch.setattr(worker_passes, "WORKER_INTERVALS", paces)

        start_workers(world.backend)

        assert wait_until(lambda: all(made.count(name) >= 2 for name in paces))
        world.backend.stop.set()


class TestTimekeeper:
    def test_a_server_knows_strikes_time_before_it_has_sold_anything(self, world: World) -> None:
        thread = worker_passes.start_timekeeper(world.backend)

        assert wait_until(lambda: world.backend.strike.time.certain() is not None)
        world.backend.stop.set()
        thread.join(5)
        assert not thread.is_alive()

    def test_a_database_that_is_away_does_not_end_it(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(worker_passes, "TIME_EVERY_SECONDS", 0.01)
        failures = iter([StorageUnavailable("away")])
        measure = world.backend.strike.measure_time

        def measure_or_fail() -> bool:
            for failure in failures:
                raise failure
            return measure()

        monkeypatch.setattr(world.backend.strike, "measure_time", measure_or_fail)
        thread = worker_passes.start_timekeeper(world.backend)

        assert wait_until(lambda: world.backend.strike.time.certain() is not None)
        world.backend.stop.set()
        thread.join(5)

"""What a worker does in one pass, what it says of it, and how passes are repeated."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from lnpay import passes
from lnpay.errors import Stopping, StorageUnavailable, StrikeUnavailable
from lnpay.model import Heartbeat
from lnpay.passes import Summary, expired_pass, main_pass, make_pass, refund_pass, repeat, start_workers
from lnpay.sandbox.server import wait_until
from lnpay.states import InvoiceState
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
        summary = main_pass(world.backend, is_patient=True)

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

    def test_a_provider_that_is_down_is_no_reason_to_call_a_person(self, world: World) -> None:
        world.sell()
        world.fault("*", "/v1/*", "unreachable", times=None)

        assert main_pass(world.backend).trouble is None

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

    def test_what_is_wrong_is_remembered_until_it_is_mended(self, world: World) -> None:
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

    @pytest.mark.parametrize("error", [Stopping("asked to end"), ZeroDivisionError("a bug")])
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
            ("ERROR", "pass failed, the next one tries again"),
            ("INFO", "pass done settled=1"),
            ("INFO", "pass done settled=0 trouble=look at it"),
            ("DEBUG", "pass done x=0"),
        ]

    def test_a_pass_that_is_asked_to_end_is_the_last(self) -> None:
        stop = threading.Event()
        calls: list[int] = []

        def one_pass() -> Summary:
            calls.append(1)
            raise Stopping("asked to end")

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

        paces = {name: noting(name) for name in passes.INSIDE_EVERY_SECONDS}
        monkeypatch.setattr(passes, "INSIDE_EVERY_SECONDS", paces)

        start_workers(world.backend)

        assert wait_until(lambda: all(made.count(name) >= 2 for name in paces))
        world.backend.stop.set()


class TestTimekeeper:
    def test_a_server_knows_strikes_time_before_it_has_sold_anything(self, world: World) -> None:
        thread = passes.start_timekeeper(world.backend)

        assert wait_until(lambda: world.backend.strike.time.certain() is not None)
        world.backend.stop.set()
        thread.join(5)
        assert not thread.is_alive()

    def test_a_database_that_is_away_does_not_end_it(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(passes, "TIME_EVERY_SECONDS", 0.01)
        failures = iter([StorageUnavailable("away")])
        measure = world.backend.strike.measure_time

        def measure_or_fail() -> bool:
            for failure in failures:
                raise failure
            return measure()

        monkeypatch.setattr(world.backend.strike, "measure_time", measure_or_fail)
        thread = passes.start_timekeeper(world.backend)

        assert wait_until(lambda: world.backend.strike.time.certain() is not None)
        world.backend.stop.set()
        thread.join(5)

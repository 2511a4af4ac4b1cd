"""The figures that an operator is warned by: read from the database, the same in every process."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from lnpay.deliveries.send import send_due
from lnpay.domain.errors import StorageUnavailable
from lnpay.domain.events import EventType
from lnpay.domain.model import Heartbeat
from lnpay.domain.states import DeliveryState, InvoiceState, RefundState
from lnpay.monitoring.snapshot import (
    RECOUNT_SECONDS,
    WORKERS,
    Calls,
    FiguresReader,
    Snapshot,
    WorkerStatus,
)
from lnpay.repository import Repository
from lnpay.repository.repository import SCHEMA_VERSION
from lnpay.runtime.worker_passes import WORKER_INTERVALS, main_pass
from lnpay.strike.buckets import Bucket
from lnpay.strike.budget import LIMITS, Budget
from tests.databases import migrated_postgres
from tests.owing import EXECUTE, owe, refund_of, send
from tests.world import ALL_EVENTS, World

S, R, D = InvoiceState, RefundState, DeliveryState


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A world over each kind of database, whose shop subscribes to every event."""
    if request.param == "sqlite":
        made = World.make(tmp_path, delivery_events=ALL_EVENTS)
        yield made
        made.close()
        return
    with migrated_postgres(request.getfixturevalue("postgres_server")) as url:
        made = World.make(tmp_path, database_url=url, delivery_events=ALL_EVENTS)
        yield made
        made.close()


def look(world: World) -> Snapshot:
    """The figures as a new process reads them."""
    return FiguresReader(world.backend.repository, world.backend.clock).read()


class TestCounts:
    def test_a_world_with_nothing_in_it_names_everything_with_zero(self, world: World) -> None:
        figures = look(world)

        assert figures.schema_version == SCHEMA_VERSION
        assert figures.invoices == dict.fromkeys(S, 0)
        assert figures.refunds == dict.fromkeys(R, 0)
        assert figures.deliveries == dict.fromkeys(D, 0)
        assert figures.undelivered_seconds == dict.fromkeys(EventType, 0)
        assert set(figures.refund_seconds.values()) == {0}

    def test_invoices_are_counted_by_state(self, world: World) -> None:
        paid, _unpaid, _other = world.sell(), world.sell(), world.sell()
        world.pay(paid)
        main_pass(world.backend)

        assert look(world).invoices == {
            S.UNPAID: 2,
            S.SETTLED: 1,
            S.EXPIRED: 0,
            S.PAID_LATE: 0,
            S.LAPSED: 0,
            S.CANCELLED: 0,
        }

    def test_a_draft_that_strike_never_issued_is_no_invoice(self, world: World) -> None:
        world.fault("POST", "/v1/invoices", "error", times=None, status=400)

        assert world.ask().status_code == 502
        assert look(world).invoices[S.UNPAID] == 0

    def test_messages_are_counted_by_state(self, world: World) -> None:
        for _ in range(2):
            world.pay(world.sell())
        main_pass(world.backend)
        told = look(world).deliveries
        world.simulator.shop.answer_with(410)
        world.pay(world.sell())
        main_pass(world.backend)

        assert told == {D.PENDING: 0, D.DELIVERED: 2, D.ABANDONED: 0, D.WITHDRAWN: 0}
        assert look(world).deliveries == {D.PENDING: 0, D.DELIVERED: 2, D.ABANDONED: 1, D.WITHDRAWN: 0}

    def test_what_is_done_with_is_counted_once_a_minute_and_what_is_open_each_time(self, world: World) -> None:
        moment = [0.0]
        figures_reader = FiguresReader(world.backend.repository, world.backend.clock, lambda: moment[0])
        invoice = world.sell()
        figures_reader.read()
        world.pay(invoice)
        world.sell()
        main_pass(world.backend)

        moment[0] = RECOUNT_SECONDS - 1
        soon = figures_reader.read().invoices
        moment[0] = RECOUNT_SECONDS
        later = figures_reader.read().invoices

        assert (soon[S.UNPAID], soon[S.SETTLED]) == (1, 0)
        assert (later[S.UNPAID], later[S.SETTLED]) == (1, 1)

    def test_an_unreachable_database_is_reported(self, world: World) -> None:
        nowhere = Repository("sqlite:////nowhere/at/all/invoices.sqlite")

        with pytest.raises(StorageUnavailable):
            FiguresReader(nowhere, world.backend.clock).read()


class TestAges:
    def test_a_paid_order_waits_since_it_was_settled_until_the_shop_takes_it(self, world: World) -> None:
        world.simulator.shop.answer_with(500)
        world.pay(world.sell())
        main_pass(world.backend)
        world.wait(400)
        waiting = look(world).undelivered_seconds
        send_due(world.backend.outbox)

        assert waiting[EventType.INVOICE_SETTLED] == pytest.approx(400)
        assert sum(waiting.values()) == waiting[EventType.INVOICE_SETTLED]
        assert sum(look(world).undelivered_seconds.values()) == 0

    def test_the_oldest_refund_without_an_address_counts(self, world: World) -> None:
        for _ in range(2):
            owe(world, address=None)
            world.wait(3_600)

        figures = look(world)

        assert figures.refunds[R.NEEDS_ADDRESS] == 2
        assert figures.refund_seconds[R.NEEDS_ADDRESS] == pytest.approx(7_200 + 180, abs=1)

    def test_a_refund_in_flight_counts_since_it_was_started(self, world: World) -> None:
        world.fault("PATCH", EXECUTE, "timeout_after", times=None)
        world.fault("GET", "/v1/payments/*", "error", times=None, status=503)
        invoice = owe(world)
        world.wait(1_000)
        send(world)
        world.wait(500)

        figures = look(world)

        started_at = refund_of(world, invoice).started_at
        assert started_at is not None
        assert figures.refunds[R.IN_FLIGHT] == 1
        assert timedelta(seconds=figures.refund_seconds[R.IN_FLIGHT]) == world.backend.clock() - started_at
        assert 500 <= figures.refund_seconds[R.IN_FLIGHT] < 600

    def test_a_refund_that_was_sent_waits_no_more(self, world: World) -> None:
        owe(world)
        send(world)

        figures = look(world)

        assert figures.refunds == {**dict.fromkeys(R, 0), R.SENT: 1}
        assert R.SENT not in figures.refund_seconds


class TestProvider:
    def test_calls_of_the_window_are_counted_and_forgotten_after_it(self, world: World) -> None:
        budget = Budget(world.backend.repository)
        budget.take(Bucket.OTHER)
        budget.take(Bucket.OTHER)
        now = look(world).calls
        world.wait(LIMITS[Bucket.OTHER].window.total_seconds() + 60)

        assert now == {
            Bucket.OTHER: Calls(2, 948), Bucket.PAYMENT_QUOTE: Calls(0, 237), Bucket.PAYMENT_EXECUTE: Calls(0, 237)
        }  # fmt: skip
        assert look(world).calls[Bucket.OTHER] == Calls(0, 950)

    def test_a_lock_is_known_until_it_ends(self, world: World) -> None:
        Budget(world.backend.repository).block(Bucket.OTHER, 600)
        world.wait(100)
        locked = look(world).blocked_seconds
        world.wait(501)

        assert locked == {**dict.fromkeys(Bucket, 0), Bucket.OTHER: 500}
        assert look(world).blocked_seconds[Bucket.OTHER] == 0


class TestWorkers:
    def test_the_workers_are_those_that_there_are(self) -> None:
        assert set(WORKERS) == WORKER_INTERVALS.keys()

    def test_one_that_never_ran_has_no_age_and_one_in_trouble_says_so(self, world: World) -> None:
        with world.backend.repository.transaction() as tx:
            tx.heartbeats.beat(Heartbeat("main", world.backend.clock(), None))
            tx.heartbeats.beat(Heartbeat("refund", world.backend.clock(), "look at it"))
        world.wait(90)

        assert look(world).workers == {
            ("main", ""): WorkerStatus(90, is_in_trouble=False),
            ("expired", ""): WorkerStatus(None, is_in_trouble=False),
            ("refund", ""): WorkerStatus(90, is_in_trouble=True, trouble_seconds=90),
        }

    def test_each_host_has_a_status_of_its_own(self, world: World) -> None:
        with world.backend.repository.transaction() as tx:
            tx.heartbeats.beat(Heartbeat("main", world.backend.clock(), None, host="web-1"))
        world.wait(90)
        with world.backend.repository.transaction() as tx:
            tx.heartbeats.beat(Heartbeat("main", world.backend.clock(), "look at it", host="web-2"))

        assert look(world).workers == {
            ("main", "web-1"): WorkerStatus(90, is_in_trouble=False),
            ("main", "web-2"): WorkerStatus(0, is_in_trouble=True),
            ("expired", ""): WorkerStatus(None, is_in_trouble=False),
            ("refund", ""): WorkerStatus(None, is_in_trouble=False),
        }

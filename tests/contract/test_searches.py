"""What people look for and who tries to log in, over both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lnpay.domain.errors import TooManyTries, Unauthorized
from lnpay.domain.model import Invoice
from lnpay.domain.states import DeliveryState, InvoiceState, RefundState
from lnpay.invoices.settle import reconcile_invoice
from lnpay.monitoring.overview import attention, last_days
from lnpay.repository.queries.searches import InvoiceFilter, InvoiceRow, InvoiceTotal
from lnpay.web.admin.login_backoff import log_in
from tests.databases import migrated_postgres
from tests.owing import owe, send
from tests.world import World

LONG_ADDRESS = "ü" * 1_000
"""Longer than PostgreSQL would index."""


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A world over each kind of database."""
    with ExitStack() as stack:
        changes: dict[str, Any] = {}
        if request.param == "postgresql":
            server = request.getfixturevalue("postgres_server")
            changes["database_url"] = stack.enter_context(migrated_postgres(server))
        made = World.make(tmp_path, **changes)
        stack.callback(made.close)
        yield made


def orders(found: list[InvoiceRow]) -> list[str]:
    return [one.correlation_id for one in found]


def newest(world: World, wanted: InvoiceFilter, limit: int = 9) -> list[InvoiceRow]:
    with world.backend.repository.reading() as tx:
        return tx.searches.newest(wanted, limit)


@pytest.fixture
def late(world: World) -> Invoice:
    """One of four invoices, which is paid late and sent back; before it one is paid, after it two are open."""
    paid = world.sell(correlation_id="paid", ln_address="Bob@Example.com")
    world.pay(paid)
    reconcile_invoice(world.backend.settlement, paid.strike_invoice_id)
    world.wait(2)
    invoice = owe(world, correlation_id="late")
    send(world)
    world.wait(2)
    for number in (1, 2):
        world.sell(correlation_id=f"open-{number}", ln_address=LONG_ADDRESS)
    return invoice


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (InvoiceFilter(), ["open-2", "open-1", "late", "paid"]),
        (InvoiceFilter("late"), ["late"]),
        (InvoiceFilter("Bob@Example.com"), ["paid"]),
        (InvoiceFilter("alice@example.com"), ["late"]),
        (InvoiceFilter("lightning:alice@example.com"), ["late"]),
        (InvoiceFilter("nul\x00"), []),
        (InvoiceFilter("Zürich 😀"), []),
        (InvoiceFilter("x" * 5_000), []),
        (InvoiceFilter(state=InvoiceState.UNPAID), ["open-2", "open-1"]),
        (InvoiceFilter(refund_state=RefundState.SENT), ["late"]),
        (InvoiceFilter(refund_state=RefundState.FAILED), []),
        (InvoiceFilter(delivery_state=DeliveryState.PENDING), ["paid"]),
        (InvoiceFilter(delivery_state=DeliveryState.DELIVERED), []),
        (InvoiceFilter(state=InvoiceState.SETTLED, delivery_state=DeliveryState.PENDING), ["paid"]),
    ],
)
def test_what_is_wanted_is_found(world: World, late: Invoice, wanted: InvoiceFilter, expected: list[str]) -> None:
    found = newest(world, wanted)

    assert orders(found) == expected


def test_a_row_says_how_its_refund_and_its_message_stand(world: World, late: Invoice) -> None:
    states = {one.correlation_id: (one.refund_state, one.delivery_state) for one in newest(world, InvoiceFilter())}

    assert states["late"] == (RefundState.SENT, None)
    assert states["paid"] == (None, DeliveryState.PENDING)


def test_pages_lead_there_and_back_also_where_all_are_of_one_moment(world: World) -> None:
    made = [world.sell().correlation_id for _ in range(7)]
    with world.backend.repository.reading() as tx:
        first = tx.searches.newest(InvoiceFilter(), 3)
        second = tx.searches.newest(InvoiceFilter(), 3, before=first[-1].place)
        third = tx.searches.newest(InvoiceFilter(), 3, before=second[-1].place)
        back = tx.searches.oldest(InvoiceFilter(), 3, after=third[0].place)

    assert orders(first) + orders(second) + orders(third) == made[::-1]
    assert back == second


def test_a_time_has_a_beginning_and_an_end(world: World, late: Invoice) -> None:
    at = late.issue.opened_at
    second = timedelta(seconds=1)

    assert orders(newest(world, InvoiceFilter(opened_from=at, opened_before=at + second))) == ["late"]
    assert "late" not in orders(newest(world, InvoiceFilter(opened_before=at)))
    assert "late" not in orders(newest(world, InvoiceFilter(opened_from=at + second)))


def test_a_day_is_summed_up(world: World, late: Invoice) -> None:
    *before, today = last_days(world.backend.repository, world.backend.clock(), 30)

    once = InvoiceTotal(1, late.amount_sats)
    assert (today.paid, today.late, today.refunded) == (once, once, once)
    assert {(day.paid, day.late, day.refunded) for day in before} == {(InvoiceTotal(), InvoiceTotal(), InvoiceTotal())}


def test_what_needs_a_person_is_known(world: World, late: Invoice) -> None:
    owe(world, None)
    world.wait(700)

    found = attention(world.backend.repository, world.backend.clock())

    assert (len(found.without_address), len(found.untold), found.count) == (1, 1, 2)


def test_many_guesses_at_once_are_all_counted(world: World) -> None:
    def guess(_: int) -> type[Exception]:
        with pytest.raises((Unauthorized, TooManyTries)) as raised:
            log_in(world.backend.repository, "right", "wrong", "10.0.0.1", None, world.backend.clock())
        return raised.type

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(guess, range(16)))

    assert (answers.count(Unauthorized), answers.count(TooManyTries)) == (5, 11)


def test_it_is_let_in_again_after_the_pause(world: World, make_guess: Callable[[str], None]) -> None:
    for _ in range(5):
        with pytest.raises(Unauthorized):
            make_guess("wrong")
    with pytest.raises(TooManyTries) as raised:
        make_guess("right")
    assert raised.value.retry_after_seconds == 10

    world.wait(10)

    make_guess("right")
    with pytest.raises(Unauthorized):
        make_guess("wrong")


@pytest.fixture
def make_guess(world: World) -> Callable[[str], None]:
    """Try a password, from one address."""
    return lambda given: log_in(world.backend.repository, "right", given, "not an address", None, world.backend.clock())

"""Where an invoice stands, in Greenfield's words: for every state, in the answer and in the list's query."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import update

from lnpay.domain.states import InvoiceState
from lnpay.invoices.settle import reconcile_invoice
from lnpay.repository import tables
from lnpay.web.greenfield.status import AdditionalStatus, Status, derive_status
from tests.greenfield.shop import Plugin, is_settled
from tests.world import World

NEVER = None
IN_TIME, LATE = 60, 2_000
"""Seconds after the invoice was made at which money was seen, or it was marked."""


def put(world: World, invoice_id: str, state: InvoiceState, *, seen: int | None, marked: bool) -> None:
    """Give a row a state, as its history might have left it."""
    row = world.invoice(invoice_id)
    opened_at = row.issue.opened_at
    paid = (
        {"paid_at": opened_at, "received_sats": row.amount_sats}
        if state in (InvoiceState.SETTLED, InvoiceState.PAID_LATE)
        else {}
    )
    values = {
        "state": state,
        "seen_at": None if seen is None else opened_at + timedelta(seconds=seen),
        "marked_invalid_at": opened_at if marked else None,
        "settled_at": opened_at if state is InvoiceState.SETTLED else None,
        **paid,
    }
    with world.backend.repository.engine.begin() as connection:
        connection.execute(
            update(tables.invoices).where(tables.invoices.c.strike_invoice_id == invoice_id).values(values)
        )


CASES = {
    "new": (InvoiceState.UNPAID, NEVER, False, 0, "New"),
    "money seen": (InvoiceState.UNPAID, IN_TIME, False, 100, "Processing"),
    "money seen in time, not final after the deadline": (InvoiceState.EXPIRED, IN_TIME, False, 3_000, "Processing"),
    "money seen too late": (InvoiceState.EXPIRED, LATE, False, 3_000, "Expired"),
    "past the deadline, before a worker looked": (InvoiceState.UNPAID, NEVER, False, 3_000, "Expired"),
    "expired": (InvoiceState.EXPIRED, NEVER, False, 3_000, "Expired"),
    "lapsed": (InvoiceState.LAPSED, NEVER, False, 9_000, "Expired"),
    "cancelled": (InvoiceState.CANCELLED, NEVER, False, 10, "Expired"),
    "settled": (InvoiceState.SETTLED, NEVER, False, 10, "Settled"),
    "settled after it was expired": (InvoiceState.SETTLED, LATE, False, 9_000, "Settled"),
    "paid late": (InvoiceState.PAID_LATE, NEVER, False, 3_000, "Expired"),
    "paid late, seen before": (InvoiceState.PAID_LATE, IN_TIME, False, 3_000, "Expired"),
    "marked": (InvoiceState.EXPIRED, NEVER, True, 100, "Invalid"),
    "marked, then paid": (InvoiceState.PAID_LATE, NEVER, True, 3_000, "Invalid"),
    "marked after the payment": (InvoiceState.SETTLED, NEVER, True, 100, "Settled"),
    "marked and lapsed": (InvoiceState.LAPSED, NEVER, True, 9_000, "Invalid"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_state_has_one_status_in_the_answer_and_in_the_list(plugin: Plugin, world: World, case: str) -> None:
    state, seen, marked, waited, status = CASES[case]
    made = plugin.create()
    put(world, made["id"], state, seen=seen, marked=marked)
    world.wait(waited)

    read = plugin.read(made)
    listed = [word for word in Status if plugin.get(f"stores/{{store}}/invoices?status={word}")]

    assert read["status"] == status
    assert read["additionalStatus"] == ("Marked" if status == "Invalid" else "None")
    assert listed == [status]
    assert is_settled(read) == (state is InvoiceState.SETTLED)
    assert read["paidAmount"] == ("12.34" if state is InvoiceState.SETTLED else "0")


@pytest.mark.parametrize("state", InvoiceState)
@pytest.mark.parametrize("seen", [NEVER, IN_TIME, LATE])
@pytest.mark.parametrize("marked", [False, True])
def test_only_what_was_paid_in_time_is_ever_taken_for_paid(
    plugin: Plugin, world: World, state: InvoiceState, seen: int | None, marked: bool
) -> None:
    made = plugin.create()
    put(world, made["id"], state, seen=seen, marked=marked)

    for waited in (0, 1_000, 10_000):
        world.wait(waited)
        standing = derive_status(world.invoice(made["id"]), world.clock())
        assert (standing.status is Status.SETTLED) == (state is InvoiceState.SETTLED)
        if state is InvoiceState.PAID_LATE and not marked:
            assert (standing.status, standing.additional) == (Status.EXPIRED, AdditionalStatus.NONE)


def test_a_payment_that_is_not_final_is_processing_and_not_paid(plugin: Plugin, world: World) -> None:
    made = plugin.create()
    world.simulator.pay_invoice(world.invoice(made["id"]).issue.bolt11, pending_seconds=600)
    reconcile_invoice(world.backend.settlement, made["id"])

    read = plugin.read(made)

    assert (read["status"], read["paidAmount"]) == ("Processing", "0")
    assert not is_settled(read)


def test_a_late_payment_is_paid_for_plugins_only_once_it_is_accepted(plugin: Plugin, world: World) -> None:
    made = plugin.create()
    put(world, made["id"], InvoiceState.PAID_LATE, seen=NEVER, marked=False)
    assert not is_settled(plugin.read(made))
    assert plugin.get("stores/{store}/invoices?status=Settled") == []

    with world.backend.repository.transaction() as tx:
        assert tx.invoices.accept_late(world.invoice(made["id"]).id, world.clock())

    read = plugin.read(made)
    (method,) = plugin.get(f"stores/{{store}}/invoices/{made['id']}/payment-methods")
    assert is_settled(read)
    assert (read["status"], read["additionalStatus"], read["paidAmount"]) == ("Expired", "PaidLate", "12.34")
    assert (len(method["payments"]), method["due"]) == (1, "0")
    assert [one["id"] for one in plugin.get("stores/{store}/invoices?status=Expired")] == [made["id"]]
    assert plugin.get("stores/{store}/invoices?status=Settled") == []

"""`python main.py deliveries ...`: messages to the shop, their states and the reasons."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import datetime

from lnpay.commands.base import Subparsers, add_command, add_invoice_id, find_named_invoice
from lnpay.commands.tables import new_table, print_table
from lnpay.domain.model import Delivery, Invoice
from lnpay.domain.states import DeliveryState
from lnpay.runtime.backend import Backend

LONGEST_LIST = 1_000

OPEN = (DeliveryState.ABANDONED, DeliveryState.PENDING)
"""Messages the shop has not accepted; those that need the operator come first."""


def add_deliveries(commands: Subparsers) -> None:
    """Add `deliveries` and its actions."""
    deliveries = add_command(commands, "deliveries", "list messages to the shop, and why any was not accepted")
    actions = deliveries.add_subparsers(required=True, metavar="ACTION")
    listing = add_command(actions, "list", "list messages by state; without a state, all undelivered ones")
    add_invoice_id(listing, is_optional=True)
    listing.add_argument("--state", choices=[str(state) for state in DeliveryState])
    listing.set_defaults(command=_list)
    showing = add_command(actions, "show", "show all messages about an order")
    add_invoice_id(showing)
    showing.set_defaults(command=_show, state=None)


def _list(backend: Backend, options: argparse.Namespace) -> int:
    if options.invoice_id is not None:
        return _show(backend, options)
    states = [DeliveryState(options.state)] if options.state else OPEN
    with backend.repository.reading() as tx:
        found = [one for state in states for one in tx.deliveries.newest(state, LONGEST_LIST)]
        invoices = {one.invoice_id: tx.invoices.find(one.invoice_id) for one in found}
    if found:
        _print(backend, [(one, invoices[one.invoice_id]) for one in found])
    else:
        print("no messages in this state" if options.state else "the shop has accepted every message")
    return 0


def _show(backend: Backend, options: argparse.Namespace) -> int:
    invoice = find_named_invoice(backend.repository, options.invoice_id)
    with backend.repository.reading() as tx:
        found = tx.deliveries.of_invoice(invoice.id)
    if options.state:
        found = [one for one in found if one.state == options.state]
    if found:
        _print(backend, [(one, invoice) for one in found])
    else:
        what = f"no {options.state} message" if options.state else "no message has been created"
        print(f"{what} about order {invoice.correlation_id} (invoice {invoice.strike_invoice_id})")
    return 0


def _print(backend: Backend, rows: list[tuple[Delivery, Invoice | None]]) -> None:
    now = backend.clock()
    with backend.repository.reading() as tx:
        endpoints = {one.id: one.public_id for one in tx.webhook_endpoints.every()}
    table = new_table(
        "order", "invoice", "message", "state", "attempts", "next or delivered (UTC)", "why not delivered"
    )
    # The id is never cut, because the next command needs it.
    table.columns[1].no_wrap, table.columns[1].min_width = True, 36
    for delivery, invoice in rows:
        names = ("?", "?") if invoice is None else (invoice.correlation_id, invoice.strike_invoice_id)
        table.add_row(
            *names, _message(delivery, endpoints), delivery.state, f"{delivery.attempts:,}", _moment(delivery, now),
            delivery.last_error or "-",
        )  # fmt: skip
    print_table(table)


def _message(delivery: Delivery, endpoints: Mapping[int, str]) -> str:
    """The event, and its webhook endpoint if it is for one."""
    if delivery.endpoint_id is None:
        return delivery.event_type
    return f"{delivery.event_type} to {endpoints.get(delivery.endpoint_id, 'a deleted endpoint')}"


def _moment(delivery: Delivery, now: datetime) -> str:
    if delivery.state in (DeliveryState.ABANDONED, DeliveryState.WITHDRAWN):
        return "never"
    if delivery.delivered_at is None and delivery.next_attempt_at <= now:
        return "now"
    return f"{delivery.delivered_at or delivery.next_attempt_at:%Y-%m-%d %H:%M:%S}"

"""`python main.py redeliver ORDER`: send the shop an invoice's messages again."""

from __future__ import annotations

import argparse

from lnpay.commands.base import Subparsers, add_command, add_invoice_id, find_named_invoice
from lnpay.deliveries.send import send_again, send_due_and_wait
from lnpay.domain.states import DeliveryState
from lnpay.runtime.backend import Backend


def add_redeliver(commands: Subparsers) -> None:
    """Add `redeliver`."""
    parser = add_command(commands, "redeliver", "send the shop an invoice's messages again, with the same webhook-id")
    add_invoice_id(parser)
    parser.set_defaults(command=_redeliver)


def _redeliver(backend: Backend, options: argparse.Namespace) -> int:
    invoice = find_named_invoice(backend.repository, options.invoice_id)
    again = send_again(backend.repository, invoice.strike_invoice_id, backend.clock())
    # A running server may send some of them first.
    send_due_and_wait(backend.outbox)
    with backend.repository.reading() as tx:
        sent = {delivery.id for delivery in again}
        now = [one for one in tx.deliveries.of_invoice(again[0].invoice_id) if one.id in sent]
    for delivery in now:
        print(f"{delivery.webhook_id} {delivery.event_type}: {delivery.state} {delivery.last_error or ''}".rstrip())
    return 0 if all(delivery.state is DeliveryState.DELIVERED for delivery in now) else 1

"""What an operator does from the command line: `python main.py redeliver ...` and `python main.py refunds ...`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from lnpay.backend import Backend
from lnpay.deliveries import send_again, send_due_and_wait
from lnpay.model import Refund
from lnpay.refunds_by_hand import approve, change_address, retry, settle_by_hand
from lnpay.states import DeliveryState, RefundState

if TYPE_CHECKING:
    from rich.table import Table

LONGEST_LIST = 1_000

COLUMNS_WITHOUT_TERMINAL = 200
"""Wide enough that nothing is folded in a file or a pipe."""

Command = Callable[[Backend, argparse.Namespace], int]


class Subparsers(Protocol):
    """What argparse's add_subparsers gives; its own class is private."""

    def add_parser(self, name: str, *, help: str) -> argparse.ArgumentParser:
        """Add a command."""
        ...


def add_commands(commands: Subparsers) -> None:
    """Add the operator's commands; each sets `command` to the function that does it."""
    _add(commands, "redeliver", _redeliver, "tell the shop of an invoice once more, under the same webhook-id")
    refunds = commands.add_parser("refunds", help="see refunds, and do what needs a person").add_subparsers(
        required=True, metavar="ACTION"
    )
    listing = refunds.add_parser("list", help="refunds by state; without a state, those that are not sent")
    listing.add_argument("--state", choices=[str(state) for state in RefundState])
    listing.set_defaults(command=_list)
    _add(refunds, "show", _show, "one refund and everything that was tried")
    _add(refunds, "approve", _approve, "send a held refund in spite of the limits")
    _add(refunds, "retry", _retry, "it was not sent, as Strike's dashboard shows: try it again", with_note=True)
    _add(refunds, "settle", _settle, "it was sent, or paid back in another way: close it", with_note=True)
    address = _add(refunds, "address", _address, "send it to this address")
    address.add_argument("ln_address", help="Lightning address (name@host) or LNURL")


def _add(
    commands: Subparsers, name: str, command: Command, words: str, *, with_note: bool = False
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=words)
    parser.add_argument("invoice_id", help="Strike's invoiceId, as in the answer to /generate-invoice")
    if with_note:
        parser.add_argument("--note", required=True, help="how you know: it is kept with the refund")
    parser.set_defaults(command=command)
    return parser


def _redeliver(backend: Backend, options: argparse.Namespace) -> int:
    again = send_again(backend.repository, options.invoice_id, backend.clock())
    # The server may be quicker with it than we are.
    send_due_and_wait(backend.outbox)
    with backend.repository.reading() as tx:
        now = tx.deliveries.of_invoice(again[0].invoice_id)
    for delivery in now:
        print(f"{delivery.webhook_id} {delivery.event_type}: {delivery.state} {delivery.last_error or ''}".rstrip())
    return 0 if all(delivery.state is DeliveryState.DELIVERED for delivery in now) else 1


def _list(backend: Backend, options: argparse.Namespace) -> int:
    states = [RefundState(options.state)] if options.state else [one for one in RefundState if one != RefundState.SENT]
    with backend.repository.reading() as tx:
        refunds = tx.refunds.in_states(states, LONGEST_LIST)
        ids = {refund.id: _strike_id(tx.invoices.find(refund.invoice_id)) for refund in refunds}
    # The id is whole in every window, because the next command needs it.
    table = _table("invoice", "state", "sats", "address", "why it waits")
    table.columns[0].no_wrap, table.columns[0].min_width = True, 36
    for refund in refunds:
        table.add_row(
            ids[refund.id], refund.state, f"{refund.amount_sats:,}", refund.address or "-", refund.reason or "-"
        )
    if refunds:
        _print(table)
    else:
        print("no refunds in this state")
    return 0


def _table(*columns: str) -> Table:
    # Here, because the server shares this file's imports and draws no tables.
    from rich.table import Table

    return Table(*columns, box=None)


def _print(table: Table) -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else COLUMNS_WITHOUT_TERMINAL).print(table)


def _strike_id(invoice: object) -> str:
    return str(getattr(invoice, "strike_invoice_id", "?"))


def _show(backend: Backend, options: argparse.Namespace) -> int:
    with backend.repository.reading() as tx:
        invoice = tx.invoices.find_by_strike_id(options.invoice_id)
        refund = None if invoice is None else tx.refunds.find_by_invoice(invoice.id)
        history = [] if refund is None else tx.refunds.history(refund)
    if refund is None:
        print("no refund is owed for an invoice of this id")
        return 1
    print(_sentence(refund))
    table = _table("time (UTC)", "step", "what came of it", "quote", "fee", "code", "trace id")
    for one in history:
        fee = "-" if one.fee_sats is None else str(one.fee_sats)
        quote, code, trace = (value or "-" for value in (one.payment_quote_id, one.strike_code, one.trace_id))
        table.add_row(f"{one.at:%Y-%m-%d %H:%M:%S}", one.step, one.outcome, quote, fee, code, trace)
    _print(table)
    return 0


def _approve(backend: Backend, options: argparse.Namespace) -> int:
    return _say(approve(backend.repository, options.invoice_id, backend.clock()))


def _retry(backend: Backend, options: argparse.Namespace) -> int:
    return _say(retry(backend.repository, options.invoice_id, options.note, backend.clock()))


def _settle(backend: Backend, options: argparse.Namespace) -> int:
    events = backend.refund_desk.events
    return _say(settle_by_hand(backend.repository, options.invoice_id, options.note, events, backend.clock()))


def _address(backend: Backend, options: argparse.Namespace) -> int:
    return _say(change_address(backend.repository, options.invoice_id, options.ln_address, backend.clock()))


def _say(refund: Refund) -> int:
    print(_sentence(refund))
    return 0


def _sentence(refund: Refund) -> str:
    to = f" to {refund.address}" if refund.address else ""
    why = f": {refund.reason}" if refund.reason else ""
    return f"refund of {refund.amount_sats:,} sats{to} is {refund.state}{why}"

"""`python main.py refunds ...`: list refunds, and make the operator's decisions about them."""

from __future__ import annotations

import argparse
import json
import uuid

from lnpay.commands.base import (
    Command,
    Subparsers,
    add_command,
    add_invoice_id,
    find_named_invoice,
)
from lnpay.commands.tables import new_table, print_table
from lnpay.domain.model import Invoice, Refund, RefundAttempt
from lnpay.domain.states import OPEN_REFUNDS, Closer, RefundState
from lnpay.domain.text import utc_minute
from lnpay.invoices.late import accept_late_payment
from lnpay.refunds.by_hand import (
    approve,
    ask_strike,
    change_address,
    choose_refund,
    retry,
    settle_by_hand,
)
from lnpay.refunds.merchant import cancel_refund, create_refund
from lnpay.refunds.operator_request import read_operator_request
from lnpay.runtime.backend import Backend

LONGEST_LIST = 1_000


def add_refunds(commands: Subparsers) -> None:
    """Add `refunds` and its actions."""
    refunds = add_command(
        commands, "refunds", "list refunds, create them, and act on those that need your decision"
    ).add_subparsers(required=True, metavar="ACTION")
    listing = add_command(refunds, "list", "list refunds by state; without a state, all that are owed")
    listing.add_argument("--state", choices=[str(state) for state in RefundState])
    listing.set_defaults(command=_list)
    _add_create(refunds)
    _add(refunds, "show", _show, "show a refund and every attempt to send it")
    _add(refunds, "approve", _approve, "send a held refund despite the limits, or refund a held late payment")
    _add(refunds, "accept", _accept, "accept a held late payment instead of refunding it")
    _add(refunds, "retry", _retry, "retry a refund that was not sent, according to Strike's dashboard", with_note=True)
    _add(refunds, "settle", _settle, "close a refund that was sent, or that you paid yourself", with_note=True)
    cancel = _add(refunds, "cancel", _cancel, "cancel a refund of a paid order before it is sent")
    cancel.add_argument("--checked", action="store_true", help="after a restore: Strike's dashboard does not show it")
    address = _add(refunds, "address", _address, "set the address that a refund is sent to")
    address.add_argument("ln_address", help="Lightning address (name@host) or LNURL")


def _add_create(commands: Subparsers) -> None:
    parser = add_command(commands, "create", "refund a paid order, in full or in part")
    add_invoice_id(parser)
    how_much = parser.add_mutually_exclusive_group()
    how_much.add_argument("--amount", help="in the order's currency; default: all that is left to refund")
    how_much.add_argument("--sats", help="the amount in sats")
    parser.add_argument(
        "--price", choices=("sale", "today"), default="sale", help="the price that converts --amount to sats"
    )
    where_to = parser.add_mutually_exclusive_group(required=True)
    where_to.add_argument("--to", metavar="ADDRESS", help="Lightning address (name@host) or LNURL")
    where_to.add_argument("--claim", action="store_true", help="print a link on which the customer enters an address")
    parser.add_argument("--key", help="idempotency key: repeating the command with the same key sends nothing twice")
    parser.add_argument("--json", action="store_true", help="answer as JSON, for programs")
    parser.set_defaults(command=_create)


def _create(backend: Backend, options: argparse.Namespace) -> int:
    invoice = find_named_invoice(backend.repository, options.invoice_id)
    request = read_operator_request(
        invoice,
        request_key=str(uuid.uuid4()) if options.key is None else options.key,
        amount=options.amount,
        sats=options.sats,
        address=options.to,
        is_todays_price=options.price == "today",
    )
    # The claim expires by Strike's time, not by this machine's clock.
    backend.strike.measure_time()
    refund = create_refund(backend.refund_issuer, invoice.strike_invoice_id, request)
    link = f"{backend.access.public_url or ''}/refund/{refund.token}"
    if options.json:
        print(json.dumps(_as_json(refund, invoice, link), indent=2))
        return 0
    print(f"{_sentence(refund)} (refund {refund.id}, key {refund.request_key})")
    if refund.state is RefundState.NEEDS_ADDRESS:
        until = "" if refund.claim_expires_at is None else f" until {utc_minute(refund.claim_expires_at)}"
        where = "" if backend.access.public_url else ", at the address of your server"
        print(f"the customer claims it{until}{where}: {link}")
    return 0


def _as_json(refund: Refund, invoice: Invoice, link: str) -> dict[str, object]:
    return {
        "id": refund.id,
        "invoice_id": invoice.strike_invoice_id,
        "state": refund.state,
        "amount_sats": refund.amount_sats,
        "basis": refund.basis,
        "amount_fiat": None if refund.amount_fiat is None else format(refund.amount_fiat, "f"),
        "currency": invoice.order.currency,
        "price": None if refund.price is None else format(refund.price, "f"),
        "ln_address": refund.address,
        "claim_url": link,
        "claim_expires_at": None if refund.claim_expires_at is None else refund.claim_expires_at.isoformat(),
        "key": refund.request_key,
    }


def _add(
    commands: Subparsers, name: str, command: Command, words: str, *, with_note: bool = False
) -> argparse.ArgumentParser:
    parser = add_command(commands, name, words)
    add_invoice_id(parser)
    parser.add_argument("--refund", type=int, metavar="ID", help="which refund, if the invoice has several")
    if with_note:
        parser.add_argument("--note", required=True, help="how you know; stored with the refund")
    parser.set_defaults(command=command)
    return parser


def _list(backend: Backend, options: argparse.Namespace) -> int:
    states = [RefundState(options.state)] if options.state else OPEN_REFUNDS
    with backend.repository.reading() as tx:
        refunds = tx.refunds.in_states(states, LONGEST_LIST)
        names = {refund.id: _names(tx.invoices.find(refund.invoice_id)) for refund in refunds}
    # The id is never cut, because the next command needs it.
    table = new_table("invoice", "order", "refund", "state", "sats", "address", "why it waits")
    table.columns[0].no_wrap, table.columns[0].min_width = True, 36
    for refund in refunds:
        table.add_row(
            *names[refund.id],
            str(refund.id),
            refund.state,
            f"{refund.amount_sats:,}",
            refund.address or "-",
            refund.reason or "-",
        )
    if refunds:
        print_table(table)
    else:
        print("no refunds in this state" if options.state else "no refunds are owed")
    return 0


INFERRED_WORDS = "inferred: Strike named no payment, look for it in Strike's dashboard"


def _names(invoice: Invoice | None) -> tuple[str, str]:
    """Strike's id of an invoice, and the shop's own."""
    return ("?", "?") if invoice is None else (invoice.strike_invoice_id, invoice.correlation_id)


def _show(backend: Backend, options: argparse.Namespace) -> int:
    invoice = find_named_invoice(backend.repository, options.invoice_id)
    with backend.repository.reading() as tx:
        found = [one for one in tx.refund_requests.of_invoice(invoice.id) if options.refund in (None, one.id)]
        shown = [(one, tx.refunds.history(one)) for one in found]
    if not shown:
        print(f"no refund is owed for order {invoice.correlation_id} (invoice {invoice.strike_invoice_id})")
        return 1
    for refund, history in shown:
        _print_refund(refund, history)
    return 0


def _print_refund(refund: Refund, history: list[RefundAttempt]) -> None:
    print(f"{_sentence(refund)} (refund {refund.id})")
    table = new_table("time (UTC)", "step", "result", "quote", "fee", "code", "trace id")
    for one in history:
        fee = "-" if one.fee_sats is None else str(one.fee_sats)
        quote, code, trace = (value or "-" for value in (one.payment_quote_id, one.strike_code, one.trace_id))
        table.add_row(f"{one.at:%Y-%m-%d %H:%M:%S}", one.step, one.outcome, quote, fee, code, trace)
    print_table(table)


def _approve(backend: Backend, options: argparse.Namespace) -> int:
    events = backend.refund_sender.events
    invoice_id, now = _invoice_id(backend, options), backend.clock()
    return _say(approve(backend.repository, invoice_id, now, events, options.refund))


def _accept(backend: Backend, options: argparse.Namespace) -> int:
    events = backend.settlement.events
    invoice = accept_late_payment(backend.repository, _invoice_id(backend, options), events, backend.clock())
    print(
        f"late payment of {invoice.received_sats or 0:,} sats accepted: the order is settled, and nothing is refunded"
    )
    return 0


def _retry(backend: Backend, options: argparse.Namespace) -> int:
    invoice_id = _invoice_id(backend, options)
    at_strike = ask_strike(backend.repository, backend.strike, invoice_id, options.refund)
    return _say(retry(backend.repository, invoice_id, options.note, backend.clock(), options.refund, at_strike))


def _settle(backend: Backend, options: argparse.Namespace) -> int:
    events = backend.refund_sender.events
    invoice_id, is_time_known = _invoice_id(backend, options), backend.strike.measure_time()
    now, known = backend.clock(), options.refund
    settled = settle_by_hand(
        backend.repository, invoice_id, options.note, events, now, known, is_time_known=is_time_known
    )
    return _say(settled)


def _cancel(backend: Backend, options: argparse.Namespace) -> int:
    invoice_id = _invoice_id(backend, options)
    with backend.repository.reading() as tx:
        refund = choose_refund(tx, invoice_id, options.refund)
    return _say(cancel_refund(backend.refund_issuer, refund.id, is_checked=options.checked))


def _address(backend: Backend, options: argparse.Namespace) -> int:
    invoice_id, now = _invoice_id(backend, options), backend.clock()
    return _say(change_address(backend.repository, invoice_id, options.ln_address, now, options.refund))


def _invoice_id(backend: Backend, options: argparse.Namespace) -> str:
    return find_named_invoice(backend.repository, options.invoice_id).strike_invoice_id


def _say(refund: Refund) -> int:
    print(_sentence(refund))
    return 0


def _sentence(refund: Refund) -> str:
    to = f" to {refund.address}" if refund.address else ""
    why = f": {refund.reason}" if refund.reason else ""
    inferred = f" ({INFERRED_WORDS})" if refund.closed_by is Closer.INFERRED else ""
    return f"refund of {refund.amount_sats:,} sats{to} is {refund.state}{inferred}{why}"

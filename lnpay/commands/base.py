"""What every command has in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Protocol

from lnpay.domain.errors import Conflict, NotFound
from lnpay.domain.model import Invoice
from lnpay.domain.text import utc_minute
from lnpay.repository import Repository
from lnpay.runtime.backend import Backend

Command = Callable[[Backend, argparse.Namespace], int]
"""Does what the options say with a backend that is ready. Gives the exit code. A parser keeps it as `command`.

What needs no backend, or must not bring the database up to date, takes the settings in its place: `on_settings`.
"""


class Subparsers(Protocol):
    """What argparse's add_subparsers gives; its own class is private."""

    def add_parser(self, name: str, *, help: str) -> argparse.ArgumentParser:
        """Add a command."""
        ...


def add_invoice_id(parser: argparse.ArgumentParser, *, is_optional: bool = False) -> None:
    """Let a command name an invoice; `find_named_invoice` reads it."""
    words = "your order's id (correlation_id), or Strike's invoiceId"
    parser.add_argument("invoice_id", metavar="ORDER", help=words, nargs="?" if is_optional else None)


def find_named_invoice(repository: Repository, name: str) -> Invoice:
    """The one invoice that goes by `name`: Strike's invoiceId, or the shop's id of the order.

    Raises NotFound; Conflict when it names several, with the invoiceId of each.
    """
    with repository.reading() as tx:
        found = tx.invoices.named(name.strip())
    if not found:
        raise NotFound(f"no invoice is called {name}: give the order's correlation_id, or Strike's invoiceId")
    if len(found) > 1:
        lines = "\n".join(
            f"  {one.strike_invoice_id}  {one.state}, order {one.correlation_id}, {one.amount_sats:,} sats,"
            f" {utc_minute(one.created_at)}"
            for one in found
        )
        raise Conflict(f"{name} names {len(found)} invoices; repeat the command with one of these ids:\n{lines}")
    return found[0]

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
"""Runs a command on an open backend and returns the exit code. A parser stores it as `command`.

A command that needs no backend, or must not migrate the database, takes the settings instead: `on_settings`.
"""


class Subparsers(Protocol):
    """What argparse's add_subparsers returns; its own class is private."""

    def add_parser(self, name: str, *, help: str, description: str) -> argparse.ArgumentParser:
        """Add a command."""
        ...


def add_command(commands: Subparsers, name: str, words: str) -> argparse.ArgumentParser:
    """Add a command. words: what it does, for the list of commands and for its own --help."""
    return commands.add_parser(name, help=words, description=words)


def add_invoice_id(parser: argparse.ArgumentParser, *, is_optional: bool = False) -> None:
    """Let a command name an invoice; `find_named_invoice` reads it."""
    words = "your order's id (correlation_id), or Strike's invoiceId"
    parser.add_argument("invoice_id", metavar="ORDER", help=words, nargs="?" if is_optional else None)


def find_named_invoice(repository: Repository, name: str) -> Invoice:
    """The one invoice that `name` refers to: Strike's invoiceId, or the shop's order id.

    Raises NotFound; Conflict if it refers to several, with the invoiceId of each.
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

"""What every command has in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Protocol

from lnpay.backend import Backend

Command = Callable[[Backend, argparse.Namespace], int]
"""Does what the options say with a backend that is ready. Gives the exit code. A parser keeps it as `command`.

What needs no backend, or must not bring the database up to date, takes the settings in its place: `on_settings`.
"""


class DatabaseSettings(Protocol):
    """What a command that works on the database itself wants of the settings."""

    @property
    def database_url(self) -> str: ...


class Subparsers(Protocol):
    """What argparse's add_subparsers gives; its own class is private."""

    def add_parser(self, name: str, *, help: str) -> argparse.ArgumentParser:
        """Add a command."""
        ...


def add_invoice_id(parser: argparse.ArgumentParser) -> None:
    """Let a command name an invoice."""
    parser.add_argument("invoice_id", help="Strike's invoiceId, as in the answer to /generate-invoice")

"""`python main.py copy-database URL`: from SQLite to PostgreSQL, compared value by value."""

from __future__ import annotations

import argparse

from lnpay.commands.base import Subparsers, add_command
from lnpay.domain.model import utc_now
from lnpay.domain.settings import Settings


def add_copy_database(commands: Subparsers) -> None:
    """Add `copy-database`."""
    parser = add_command(commands, "copy-database", "copy an SQLite database into PostgreSQL; stop everything first")
    parser.add_argument(
        "url", metavar="URL", help="the new, empty database: postgresql+psycopg://user@host/name (PGPASSWORD is used)"
    )
    parser.set_defaults(on_settings=_copy)


def _copy(settings: Settings, options: argparse.Namespace) -> int:
    # Imported here because the server loads the commands too.
    from rich.console import Console
    from rich.progress import Progress

    from lnpay.repository.maintenance.copy import copy_database

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(step, total=total)
            bar.update(tasks[step], completed=done)

        counts = copy_database(settings.database_url, options.url, utc_now(), show)
    for name, count in counts.items():
        print(f"{name}: {count:,} copied")
    print("Every value was compared: the copy is identical.")
    print(
        "Now put the new address into DATABASE_URL (config/.env) and start LNPay.\n"
        "Do not start LNPay on the old file again: it lacks everything that happens from now on."
    )
    return 0

"""`python main.py backup ...` and `restore ...`: copy the database while it is in use, and restore a copy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lnpay.commands.base import Subparsers, add_command
from lnpay.domain.errors import InvalidRequest
from lnpay.domain.model import utc_now
from lnpay.domain.settings import Settings
from lnpay.domain.text import utc_second

if TYPE_CHECKING:
    from lnpay.repository.maintenance.backup import Restore
    from lnpay.repository.maintenance.backup_summary import Contents


def add_backup(commands: Subparsers) -> None:
    """Add `backup`."""
    parser = add_command(
        commands, "backup", "copy the database into a file, even while it is in use, and check the copy"
    )
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="the new file, or a folder for a file with a dated name"
    )
    parser.add_argument("--force", action="store_true", help="overwrite FILE")
    parser.set_defaults(on_settings=_back_up)


def add_restore(commands: Subparsers) -> None:
    """Add `restore`."""
    parser = add_command(commands, "restore", "replace the database with a backup; stop everything first")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("file", nargs="?", type=Path, metavar="FILE", help="a file written by `backup`")
    what.add_argument("--mark", action="store_true", help="after restoring an older database by other means: "
                      "hold the refunds that may have been sent since")  # fmt: skip
    parser.add_argument(
        "--force",
        action="store_true",
        help="restore even though the current database cannot be checked; stop everything first",
    )
    parser.set_defaults(on_settings=_restore)


# Imported inside the functions because the server loads the commands too.


def _back_up(settings: Settings, options: argparse.Namespace) -> int:
    from lnpay.repository.maintenance.backup import back_up, choose_target
    from lnpay.repository.maintenance.dump import dump
    from lnpay.repository.maintenance.sqlite_url import sqlite_path

    now = utc_now()
    database = sqlite_path(settings.database_url)
    suffix = ".dump" if database is None else ".sqlite"
    target = choose_target(options.file, now, suffix, may_overwrite=options.force)
    made = dump(settings.database_url, target) if database is None else back_up(database, target, now)
    print(f"backup written and checked: {made.path} ({made.size_bytes:,} bytes)")
    print(_describe(made.contents))
    print("It contains customers' addresses and the links to their pages: keep it where only you can read it.")
    return 0


def _describe(contents: Contents) -> str:
    rows = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in contents.rows.items())
    newest = contents.newest_invoice_at
    when = "there is no invoice yet" if newest is None else f"newest invoice created at {utc_second(newest)}"
    return f"It has {rows}; {when}; schema version {contents.schema}."


def _restore(settings: Settings, options: argparse.Namespace) -> int:
    from lnpay.repository.maintenance.backup import restore
    from lnpay.repository.maintenance.dump import check_dump, restore_command
    from lnpay.repository.maintenance.sqlite_url import sqlite_path

    if options.mark:
        return _mark(settings)
    database = sqlite_path(settings.database_url)
    if database is None:
        check_dump(options.file)
        raise InvalidRequest(
            "PostgreSQL's own tool restores a dump. Stop the servers, the workers and their cron jobs. Then:\n"
            f"    {restore_command(settings.database_url, options.file)}\n"
            "    python main.py restore --mark\n"
            "Do not skip the second command: without it refunds may be sent twice."
        )
    _explain(restore(options.file, database, utc_now(), is_forced=options.force), database)
    return 0


def _mark(settings: Settings) -> int:
    from lnpay.refunds.after_restore import doubt_refunds
    from lnpay.repository import Repository

    repository = Repository(settings.database_url)
    try:
        repository.upgrade()
        with repository.transaction() as tx:
            doubt_refunds(tx, utc_now())
    finally:
        repository.close()
    print("marked: refunds of orders up to now are held until you approve them; see python main.py refunds list")
    return 0


def _explain(restored: Restore, database: Path) -> None:
    contents = restored.contents
    taken = utc_second(contents.copied_at) if contents.copied_at else "an unknown time"
    print(f"restored: {database} is as it was at {taken}")
    print(_describe(contents))
    if restored.aside is not None:
        print(f"The previous database is kept: {restored.aside}")
    print(
        "What happened since the backup is lost:\n"
        "- Refunds may have been sent. LNPay holds each refund of an order from before the next start until you have\n"
        "  looked for it in Strike's dashboard: python main.py refunds list, then refunds settle or refunds approve.\n"
        "- Orders created since are missing here: python main.py report --from DATE lists those that were paid.\n"
        "- LNPay finds payments made since for orders in the backup, and notifies your shop again, with a new\n"
        "  webhook-id: recognise the orders by correlation_id.\n"
        "Now start LNPay again."
    )

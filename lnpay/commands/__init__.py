"""The operator's commands, `python main.py COMMAND`: one module for each."""

from __future__ import annotations

from lnpay.commands.backup import add_backup, add_restore
from lnpay.commands.base import Subparsers
from lnpay.commands.copy_database import add_copy_database
from lnpay.commands.deliveries import add_deliveries
from lnpay.commands.doctor import add_doctor
from lnpay.commands.keys import add_keys
from lnpay.commands.redeliver import add_redeliver
from lnpay.commands.refunds import add_refunds
from lnpay.commands.report import add_report
from lnpay.commands.webhooks import add_webhooks


def add_commands(commands: Subparsers) -> None:
    """Add the operator's commands; each sets `command` to the function that runs it."""
    add_doctor(commands)
    add_deliveries(commands)
    add_redeliver(commands)
    add_refunds(commands)
    add_keys(commands)
    add_webhooks(commands)
    add_report(commands)
    add_backup(commands)
    add_restore(commands)
    add_copy_database(commands)

"""Use case: detect another running copy of this database, by invoices at Strike that only that copy can have created.

Two programs can run on copies of one database: a snapshot was restored, a standby was promoted, or the old server was
started again beside the new one. Every invoice at Strike carries the name of the database that made it
(`strike_names`). If one carries ours but has no row here, the other copy created it, and may have sent our refunds too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from lnpay.domain.states import HoldCause
from lnpay.domain.strike_names import read_strike_name
from lnpay.refunds.after_restore import doubt_refunds
from lnpay.repository import Repository, Transaction
from lnpay.strike.invoices import StrikeInvoice

log = logging.getLogger(__name__)

CLOCKS_DIFFER = timedelta(seconds=60)
"""How far the clock that dated a restore may be ahead of Strike's."""


def notice_fork(repository: Repository, listed: Iterable[StrikeInvoice], now: datetime) -> bool:
    """Hold all open refunds if an invoice in `listed` shows that another copy is running. Returns whether it does.

    Invoices created before the last restore, or before the last such detection, are already explained and do not count.
    A restore that is dated later than Strike's time explains nothing: a clock was wrong, and to hold refunds is safer.
    """
    listed = list(listed)
    with repository.reading() as tx:
        strangers = _made_by_another_copy(tx, listed, now)
    if not strangers:
        return False
    with repository.transaction() as tx:
        strangers = _made_by_another_copy(tx, listed, now)  # another process may have detected it since
        if strangers:
            doubt_refunds(tx, max(now, *(one.created_at for one in strangers)), HoldCause.FORKED)
    for one in strangers:
        log.error("invoice not in this database: another copy is running invoice_id=%s", one.invoice_id)
    return bool(strangers)


def _made_by_another_copy(tx: Transaction, listed: list[StrikeInvoice], now: datetime) -> list[StrikeInvoice]:
    installation = tx.installation.name()
    last = tx.restores.newest()
    if last is not None and last.cause is HoldCause.RESTORED and last.noticed_at > now + CLOCKS_DIFFER:
        last = None
    ours = {
        str(one.raw["correlationId"]): one
        for one in listed
        if _installation_of(one) == installation and (last is None or one.created_at > last.noticed_at)
    }
    if installation is None or not ours:
        return []
    known = tx.ledger.by_strike_ids(one.invoice_id for one in ours.values())
    unknown = {name: one for name, one in ours.items() if one.invoice_id not in known}
    drafts = tx.invoices.named_at_strike(unknown)
    return [one for name, one in unknown.items() if name not in drafts]


def _installation_of(invoice: StrikeInvoice) -> str | None:
    name = invoice.raw.get("correlationId")
    known = read_strike_name(name) if isinstance(name, str) else None
    return None if known is None else known.installation

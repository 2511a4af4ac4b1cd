"""Moving the bulk of old invoices into the archive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Text, exists, or_, select, text, type_coerce, update

from lnpay.domain.errors import StorageUnavailable
from lnpay.domain.states import OPEN_REFUNDS, PAID, DeliveryState, InvoiceState, RefundState
from lnpay.repository.maintenance.compatibility import require_code
from lnpay.repository.queries.searches import without_index
from lnpay.repository.records.archive import FIELDS, FORM, pack, read_through, to_fields, unpack
from lnpay.repository.sql import checked, insert_into, read_rows, upsert
from lnpay.repository.tables import (
    IS_TO_ARCHIVE,
    archive_totals,
    deliveries,
    invoice_archive,
    invoices,
    receives,
    refunds,
)

i, a = invoices.c, invoice_archive.c

OLDEST_CODE = "0029"
"""Code of earlier versions cannot read an invoice that is archived."""

EMPTY: Mapping[str, Any] = {"bolt11": "", "strike_invoice": {}, "strike_quote": {}}
"""Values left in the emptied columns. NULL would turn the row into a draft."""


@dataclass(frozen=True)
class ArchiveTotals:
    """How many invoices are archived, and the size of their archived columns before and after compression."""

    invoices: int = 0
    source_bytes: int = 0
    kept_bytes: int = 0


class Archive:
    """Queries about the archive inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def move(self, before: datetime, at: datetime, limit: int) -> int:
        """Archive up to `limit` invoices that were completely finished before `before`. Returns how many.

        1. Lock invoices that are paid, whose shop is notified, and that have nothing open. Skip locked ones.
        2. Write their texts to the archive, read them back and compare.
        3. Only then empty the columns. No other code writes these columns of an issued invoice.

        Raises StorageUnavailable if the archive differs from what was written. The caller must then roll back.
        """
        found = self._lock(before, limit)
        if not found:
            return 0
        require_code(self._connection, OLDEST_CODE)
        kept_bytes = self._write(found, at)
        self._verify(found)
        emptied = update(invoices).where(i.id.in_(found), i.archived_at.is_(None)).values(**EMPTY, archived_at=at)
        if self._connection.execute(emptied).rowcount != len(found):
            raise StorageUnavailable("invoices changed while they were archived; nothing was moved")
        source_bytes = sum(len(one.encode()) for texts in found.values() for one in texts.values())
        self._add_up(ArchiveTotals(len(found), source_bytes, kept_bytes))
        return len(found)

    def _lock(self, before: datetime, limit: int) -> dict[int, dict[str, str]]:
        raw = [type_coerce(invoices.c[name], Text).label(name) for name in FIELDS]
        statement = (
            select(i.id, *raw)
            .where(text(IS_TO_ARCHIVE), i.paid_at < before, *_is_done(before))
            .order_by(i.paid_at)
            .limit(limit)
        )
        # An unreadable one is skipped and does not hold up the others.
        locking = statement.with_for_update(skip_locked=True, of=invoices)
        return dict(read_rows(self._connection, invoices, locking, _to_texts))

    def _write(self, found: Mapping[int, Mapping[str, str]], at: datetime) -> int:
        packed = {invoice_id: pack(texts) for invoice_id, texts in found.items()}
        rows = [
            {"invoice_id": invoice_id, "form": FORM, "body": body, "digest": digest, "archived_at": at}
            for invoice_id, (body, digest) in packed.items()
        ]
        new = insert_into(self._connection.dialect.name, invoice_archive)
        # The columns are authoritative; an archive row that exists already is overwritten.
        change = {name: new.excluded[name] for name in ("form", "body", "digest", "archived_at")}
        self._connection.execute(new.on_conflict_do_update(index_elements=["invoice_id"], set_=change), rows)
        return sum(len(body) for body, _ in packed.values())

    def _verify(self, found: Mapping[int, Mapping[str, str]]) -> None:
        columns = (a.invoice_id, a.form, a.body, a.digest)
        written = self._connection.execute(select(*columns).where(a.invoice_id.in_(found))).all()
        try:
            kept = {row.invoice_id: unpack(row.form, row.body, row.digest) for row in written}
        except (ValueError, TypeError) as error:
            raise StorageUnavailable("the archive cannot be read back; nothing was moved") from error
        if kept != found:
            raise StorageUnavailable("the archive differs from what was written; nothing was moved")

    def _add_up(self, new: ArchiveTotals) -> None:
        change = {name: archive_totals.c[name] + value for name, value in vars(new).items()}
        self._connection.execute(upsert(self._connection, archive_totals, {"id": 1}, vars(new), change))

    def totals(self) -> ArchiveTotals:
        """What was archived so far."""
        found = read_rows(self._connection, archive_totals, select(archive_totals), _to_totals)
        return found[0] if found else ArchiveTotals()

    def read_through(self, newest: int) -> None:
        """Read the newest archive rows, to find unreadable ones."""
        read_through(self._connection, newest)
        self.totals()


def _to_totals(row: Row[Any]) -> ArchiveTotals:
    return checked(ArchiveTotals(row.invoices, row.source_bytes, row.kept_bytes))


def _to_texts(row: Row[Any]) -> tuple[int, dict[str, str]]:
    texts = {name: getattr(row, name) for name in FIELDS}
    to_fields(texts)
    return row.id, texts


def _is_done(before: datetime) -> list[ColumnElement[bool]]:
    """Whether nothing about the invoice is open, and nothing about it has happened since `before`."""
    d, r = deliveries.c, refunds.c
    is_refunded = exists().where(r.invoice_id == i.id, r.state == RefundState.SENT)
    is_accepted = d.state.in_((DeliveryState.DELIVERED, DeliveryState.WITHDRAWN))
    is_new_message = or_(~is_accepted, d.delivered_at >= before, d.created_at >= before)
    is_new_refund = or_(r.state.in_(OPEN_REFUNDS), r.sent_at >= before, r.created_at >= before, r.canceled_at >= before)
    return [
        # Most invoices are settled, so only the index of those still to be archived selects few rows.
        without_index(i.state).in_(PAID),
        (without_index(i.state) == InvoiceState.SETTLED) | is_refunded,
        i.settled_at.is_(None) | (i.settled_at < before),
        ~exists().where(d.invoice_id == i.id, is_new_message),
        ~exists().where(r.invoice_id == i.id, is_new_refund),
        ~exists().where(receives.c.invoice_id == i.id, receives.c.noticed_at >= before),
    ]

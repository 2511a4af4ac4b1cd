"""Rows of invoices, from the draft to the issued invoice and its final state."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    bindparam,
    func,
    select,
    text,
    true,
    update,
)

from lnpay.domain.model import Draft, Invoice, Issue, Order, Rate
from lnpay.domain.receives import ReceiveWith
from lnpay.domain.states import PAID, PAYABLE, UNWATCHED, WATCHED, Accepter, InvoiceState, check_invoice_move
from lnpay.domain.text import is_printable_ascii, is_storable
from lnpay.repository.records.invoices import (
    RATE_COLUMNS,
    draft_values,
    read_invoice,
    read_invoices,
    read_record,
    to_checked,
    to_rate,
    to_record,
)  # fmt: skip
from lnpay.repository.sql import FirstMoment, by_column, insert_unless_there, read_rows
from lnpay.repository.tables import invoices as t

MAX_NAMESAKES = 50
"""As many as an operator will read."""

ACCEPTING_LOCK = 7_305_012_120
"""On PostgreSQL; any constant will do."""

_IS_LISTED = t.c.receive_with == ReceiveWith.INVOICE
"""Strike's list of invoices has it: it is no receive request."""

PENDING_FOR = timedelta(days=7)
"""How much longer an unwatched invoice is swept whose payment Strike has seen but not counted."""

_BY_CORRELATION_ID = select(t).where(t.c.correlation_id == bindparam("sought"))

_ISSUED = {
    column: select(t).where(t.c[column] == bindparam("sought"), t.c.strike_invoice_id.is_not(None))
    for column in ("id", "strike_invoice_id", "token")
}
"""An issued invoice, by the value of a column."""

_OLDEST_OPENED_AT = FirstMoment(t, t.c.opened_at, (t.c.state == bindparam("sought")) & _IS_LISTED)

_NEWEST_CREATED_AT = FirstMoment(t, t.c.created_at, true(), is_newest=True)

_STATE = func.coalesce(t.c.state, "")
"""Where ids are given: by the index of the states SQLite would read every invoice that ever lapsed."""

_PAYABLE_AMONG = select(t.c.strike_invoice_id, t.c.checked_at).where(
    t.c.strike_invoice_id.in_(bindparam("ids", expanding=True)), _STATE.in_(PAYABLE)
)

_CHANGE_DRAFT = update(t).where(
    t.c.id == bindparam("draft_id"),
    t.c.strike_invoice_id.is_(None),
    t.c.strike_correlation_id == bindparam("draft_name"),
)
"""Sets the columns whose values it is executed with."""


def _ending(state: InvoiceState, ends_at: Column[datetime]) -> Select[Any]:
    return select(t).where(t.c.state == state, ends_at < bindparam("before")).order_by(ends_at).limit(bindparam("most"))


_TO_EXPIRE = _ending(InvoiceState.UNPAID, t.c.expires_at)

_TO_LAPSE = _ending(InvoiceState.EXPIRED, t.c.payable_until)


def _may_be_paid(payable_since: datetime) -> ColumnElement[bool]:
    """A payment of an unwatched invoice is possible: it was payable lately, or has a pending payment."""
    is_possible = (t.c.payable_until > payable_since) | t.c.seen_at.is_not(None)
    # For the index: without it every invoice that ever lapsed would be read.
    return is_possible & (t.c.payable_until > payable_since - PENDING_FOR)


class Invoices:
    """Queries about invoices inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add_draft(
        self,
        correlation_id: str,
        strike_correlation_id: str,
        token: str,
        order: Order,
        amount_sats: int,
        rate: Rate,
        created_at: datetime,
    ) -> Draft | None:
        """Store a draft. None if a row with that correlation id exists already."""
        values = {
            **draft_values(order, amount_sats, rate, created_at),
            "correlation_id": correlation_id,
            "strike_correlation_id": strike_correlation_id,
            "token": token,
            "state": InvoiceState.UNPAID,
        }
        row_id = insert_unless_there(self._connection, t, values)
        if row_id is None:
            return None
        return Draft(row_id, correlation_id, strike_correlation_id, token, order, amount_sats, rate, created_at)

    def renew_draft(
        self,
        draft: Draft,
        strike_correlation_id: str,
        order: Order,
        amount_sats: int,
        rate: Rate,
        created_at: datetime,
    ) -> Draft | None:
        """Price a draft again, under a new id at Strike. None if another process has renewed or issued it since."""
        values = draft_values(order, amount_sats, rate, created_at)
        if not self._change_draft(draft, {**values, "strike_correlation_id": strike_correlation_id}):
            return None
        return Draft(
            draft.id,
            draft.correlation_id,
            strike_correlation_id,
            draft.token,
            order,
            amount_sats,
            rate,
            created_at,
        )

    def issue(self, draft: Draft, issue: Issue) -> Invoice | None:
        """Store what Strike issued for a draft. None if another process has renewed or issued it since."""
        if not self._change_draft(draft, vars(issue)):
            return None
        return Invoice(
            **vars(draft), issue=issue, state=InvoiceState.UNPAID, paid_at=None, received_sats=None, settled_at=None
        )

    def _change_draft(self, draft: Draft, values: dict[str, Any]) -> bool:
        which = {"draft_id": draft.id, "draft_name": draft.strike_correlation_id}
        return self._connection.execute(_CHANGE_DRAFT, {**by_column(t, values), **which}).rowcount == 1

    def find_by_correlation_id(self, correlation_id: str) -> Draft | Invoice | None:
        """The row of a shop's order: a Draft until Strike has issued the invoice."""
        return read_record(self._connection, _BY_CORRELATION_ID, {"sought": correlation_id})

    def find_invoice_by_correlation_id(self, correlation_id: str) -> Invoice | None:
        """The invoice with the shop's `correlation_id`; None for a draft. Accepts any text."""
        known = self.find_by_correlation_id(correlation_id) if is_storable(correlation_id) else None
        return known if isinstance(known, Invoice) else None

    def find_by_strike_id(self, strike_invoice_id: str) -> Invoice | None:
        """The invoice with Strike's id `strike_invoice_id`."""
        return self._named("strike_invoice_id", strike_invoice_id)

    def find_by_token(self, token: str) -> Invoice | None:
        """The invoice behind a checkout link."""
        return self._named("token", token)

    def named(self, name: str) -> list[Invoice]:
        """Issued invoices that `name` may refer to, oldest first: by Strike's id or one of the shop's ids."""
        if not name.isprintable():
            return []
        # One query per column, so that each uses its own index.
        ways = (t.c.strike_invoice_id == name.lower(), t.c.correlation_id == name, t.c.order_id == name)
        found: dict[int, Invoice] = {}
        for way in ways:
            statement = select(t).where(way, t.c.strike_invoice_id.is_not(None)).order_by(t.c.id).limit(MAX_NAMESAKES)
            found.update({one.id: one for one in read_invoices(self._connection, statement)})
        return [found[row_id] for row_id in sorted(found)]

    def find(self, invoice_id: int) -> Invoice | None:
        """The invoice with the row number `invoice_id`."""
        return read_invoice(self._connection, _ISSUED["id"], {"sought": invoice_id})

    def named_at_strike(self, names: Iterable[str]) -> set[str]:
        """Which of these names at Strike belong to orders of ours, issued or not."""
        wanted = list(names)
        if not wanted:
            return set()
        statement = select(t.c.strike_correlation_id).where(t.c.strike_correlation_id.in_(wanted))
        return set(self._connection.execute(statement).scalars())

    def _named(self, column: str, name: str) -> Invoice | None:
        # The name comes from an untrusted URL. PostgreSQL rejects NUL characters, and no name of ours has one.
        if not is_printable_ascii(name):
            return None
        return read_invoice(self._connection, _ISSUED[column], {"sought": name})

    def payable_among(self, strike_invoice_ids: Iterable[str]) -> list[str]:
        """Our invoices among these Strike ids that a payment would still count for, least recently checked first."""
        ids = {"ids": list(strike_invoice_ids)}
        return [one[-1] for one in sorted(read_rows(self._connection, t, _PAYABLE_AMONG, to_checked, ids))]

    def oldest_opened_at(self, states: Iterable[InvoiceState]) -> datetime | None:
        """When the oldest of Strike's invoices in any of `states` was made; None if there is none."""
        moments = [self._oldest_opened_at(state) for state in states]
        return min((moment for moment in moments if moment is not None), default=None)

    def _oldest_opened_at(self, state: InvoiceState) -> datetime | None:
        return _OLDEST_OPENED_AT.find(self._connection, {"sought": state})

    def oldest_unwatched_opened_at(self, payable_since: datetime) -> datetime | None:
        """When the oldest unwatched invoice was made that may yet be paid (see `_may_be_paid`); None: there is none."""
        is_one = t.c.state.in_(UNWATCHED) & _IS_LISTED & _may_be_paid(payable_since)
        return FirstMoment(t, t.c.opened_at, is_one).find(self._connection)

    def watched_among(self, strike_invoice_ids: Iterable[str]) -> list[Invoice]:
        """The invoices of ours among these Strike ids that are still watched for a payment."""
        statement = select(t).where(t.c.strike_invoice_id.in_(list(strike_invoice_ids)), t.c.state.in_(WATCHED))
        return read_invoices(self._connection, statement)

    def mark_listed_paid(self, strike_invoice_ids: Iterable[str], at: datetime) -> None:
        """Record that Strike lists these as paid although they could not be settled; the first time is kept."""
        is_listed = t.c.strike_invoice_id.in_(list(strike_invoice_ids))
        is_new = _STATE.in_(PAYABLE) & is_listed & t.c.listed_paid_at.is_(None)
        self._connection.execute(update(t).where(is_new).values(listed_paid_at=at))

    def unsettled(self, until: datetime, limit: int) -> list[Invoice]:
        """Invoices that Strike first listed as paid by `until` and that are still not settled, oldest first."""
        statement = (
            select(t)
            .where(t.c.listed_paid_at <= until, t.c.state.not_in(PAID))
            .order_by(t.c.listed_paid_at, t.c.id)
            .limit(limit)
        )
        return read_invoices(self._connection, statement)

    def newest_created_at(self) -> datetime | None:
        """When the newest order arrived, by our clock; None if there is none."""
        return _NEWEST_CREATED_AT.find(self._connection)

    def newest_rate(self, currency: str) -> Rate | None:
        """The price of the newest order in `currency`; None if there is none."""
        statement = select(*RATE_COLUMNS).where(t.c.currency == currency).order_by(t.c.id.desc()).limit(1)
        found = read_rows(self._connection, t, statement, to_rate)
        return found[0] if found else None

    def least_recently_checked(self, limit: int) -> list[str]:
        """Strike ids of watched invoices, least recently checked first."""
        return self._least_recently_checked(WATCHED, true(), limit)

    def unwatched_least_recently_checked(
        self, payable_since: datetime, limit: int, *, unless_between: tuple[datetime, datetime] | None = None
    ) -> list[str]:
        """The same of lapsed and cancelled ones that may yet be paid (`_may_be_paid`), unless checked in between."""
        is_one = _may_be_paid(payable_since)
        if unless_between is not None:
            is_one &= t.c.checked_at.is_(None) | ~t.c.checked_at.between(*unless_between)
        return self._least_recently_checked(UNWATCHED, is_one, limit)

    def _least_recently_checked(
        self, states: Iterable[InvoiceState], condition: ColumnElement[bool], limit: int
    ) -> list[str]:
        found: list[tuple[bool, datetime, str]] = []
        for state in states:
            statement = (
                select(t.c.strike_invoice_id, t.c.checked_at)
                .where(t.c.state == state, t.c.strike_invoice_id.is_not(None), _IS_LISTED, condition)
                .order_by(t.c.checked_at.nulls_first(), t.c.id)
                .limit(limit)
            )
            found += read_rows(self._connection, t, statement, to_checked)
        return [strike_invoice_id for _, _, strike_invoice_id in sorted(found)[:limit]]

    def mark_checked(self, strike_invoice_ids: Iterable[str], at: datetime | None) -> None:
        """Record that these were read at Strike; None: that they have to be read again."""
        statement = update(t).where(t.c.strike_invoice_id.in_(list(strike_invoice_ids))).values(checked_at=at)
        self._connection.execute(statement)

    def mark_seen(self, invoice_id: int, seen_at: datetime | None) -> None:
        """Record that a payment was seen that is not final, or (None) that it is gone again."""
        statement = update(t).where(t.c.id == invoice_id, t.c.state.in_(PAYABLE)).values(seen_at=seen_at)
        self._connection.execute(statement)

    def mark_pending(self, strike_invoice_ids: Iterable[str], at: datetime) -> None:
        """Record that these lapsed and cancelled invoices in Strike's list have a pending payment."""
        is_pending = t.c.strike_invoice_id.in_(list(strike_invoice_ids))
        is_new = _STATE.in_(UNWATCHED) & _IS_LISTED & is_pending & t.c.seen_at.is_(None)
        self._connection.execute(update(t).where(is_new).values(seen_at=at))

    def keep_pending(self, strike_invoice_ids: Iterable[str], at: datetime) -> None:
        """Record that as of `at`, of all lapsed and cancelled invoices in Strike's list, no others have one."""
        is_other = t.c.state.in_(UNWATCHED) & _IS_LISTED & t.c.strike_invoice_id.not_in(list(strike_invoice_ids))
        self._connection.execute(update(t).where(is_other, t.c.seen_at <= at).values(seen_at=None))

    def mark_paid(
        self,
        invoice_id: int,
        new: InvoiceState,
        *,
        paid_at: datetime,
        received_sats: int,
        at: datetime,
        accepted_price: Decimal | None = None,
    ) -> bool:
        """Move an invoice to SETTLED or PAID_LATE. False if it is no longer in a payable state.

        accepted_price: the price by which the rule accepts a late payment.
        """
        values = {
            "paid_at": paid_at,
            "received_sats": received_sats,
            "settled_at": at if new is InvoiceState.SETTLED else None,
            "accepted_by": None if accepted_price is None else Accepter.RULE,
            "accepted_price": accepted_price,
        }
        return any(self._move(invoice_id, old, new, values) for old in PAYABLE)

    def accept_late(self, invoice_id: int, at: datetime) -> bool:
        """Settle a late payment that the operator accepts. False if it is not PAID_LATE any more.

        Call it in the transaction that cancels the refund.
        """
        values = {"settled_at": at, "accepted_by": Accepter.OPERATOR}
        return self._move(invoice_id, InvoiceState.PAID_LATE, InvoiceState.SETTLED, values)

    def take_turn_accepting(self) -> None:
        """Wait until no other transaction accepts a late payment, so that two payments of one order are not both
        accepted. SQLite has one writer at a time anyway.
        """
        if self._connection.dialect.name == "postgresql":
            self._connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ACCEPTING_LOCK})

    def move(self, invoice_id: int, old: InvoiceState, new: InvoiceState) -> bool:
        """Move an invoice from `old` to `new`. False if it is no longer in `old`."""
        return self._move(invoice_id, old, new, {})

    def cancel(self, invoice_id: int, old: InvoiceState) -> bool:
        """Move an invoice from `old` to CANCELLED, and drop any pending payment. False if no longer in `old`."""
        return self._move(invoice_id, old, InvoiceState.CANCELLED, {"seen_at": None})

    def release_correlation_id(self, invoice: Invoice) -> bool:
        """Free a cancelled invoice's correlation id for a new invoice; it remains an attempt at the same order.

        False if it is no longer cancelled, or has released the id before.
        """
        values = {
            "correlation_id": secrets.token_hex(20),  # 40 characters, and no value that a shop could have chosen
            "former_correlation_id": invoice.correlation_id,
            "order_id": invoice.order_id,
        }
        statement = (
            update(t)
            .where(
                t.c.id == invoice.id,
                t.c.state == InvoiceState.CANCELLED,
                t.c.seen_at.is_(None),
                t.c.correlation_id == invoice.correlation_id,
            )
            .values(values)
        )
        return self._connection.execute(statement).rowcount == 1

    def _move(self, invoice_id: int, old: InvoiceState, new: InvoiceState, values: dict[str, Any]) -> bool:
        check_invoice_move(old, new)
        statement = update(t).where(t.c.id == invoice_id, t.c.state == old).values(state=new, **values)
        return self._connection.execute(statement).rowcount == 1

    def to_expire(self, before: datetime, limit: int) -> list[Invoice]:
        """Unpaid invoices whose payment deadline was before `before`, oldest first."""
        return read_invoices(self._connection, _TO_EXPIRE, {"before": before, "most": limit})

    def to_lapse(self, before: datetime, limit: int) -> list[Invoice]:
        """Expired invoices whose payment request ended before `before`, oldest first."""
        return read_invoices(self._connection, _TO_LAPSE, {"before": before, "most": limit})

    def read_through(self, newest: int) -> None:
        """Read the newest orders, and every one that is watched, to learn which cannot be read."""
        read_rows(self._connection, t, select(t).order_by(t.c.id.desc()).limit(newest), to_record)
        read_rows(self._connection, t, select(t).where(t.c.state.in_(WATCHED)), to_record)

    def counts(self) -> dict[InvoiceState, int]:
        """How many issued invoices are in each state."""
        statement = select(t.c.state, func.count()).where(t.c.strike_invoice_id.is_not(None)).group_by(t.c.state)
        found = {str(state): int(count) for state, count in self._connection.execute(statement)}
        return {state: found.get(state, 0) for state in InvoiceState}

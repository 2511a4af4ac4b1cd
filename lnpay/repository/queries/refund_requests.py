"""Creating and canceling refunds. The sum of an invoice's refunds never exceeds what was received for it.

`invoices.refund_reserved_sats` is the sum of its refunds that are not canceled. It is moved in the transaction that
adds or cancels one, and a CHECK of the database compares it with what was received.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, func, select, true, update

from lnpay.domain.errors import RefundExceedsReceived
from lnpay.domain.model import Hold, Refund, RefundKey
from lnpay.domain.states import (
    AmountBasis,
    CancelCause,
    HoldCause,
    RefundAsker,
    RefundKind,
    RefundState,
    check_refund_move,
)
from lnpay.repository.records.refunds import key_values, to_refund
from lnpay.repository.sql import insert_unless_there, read_every, read_one, read_rows
from lnpay.repository.tables import invoices, restores
from lnpay.repository.tables import refunds as t


@dataclass(frozen=True, kw_only=True)
class NewRefund:
    """A refund that is being added. See `Refund`.

    received_sats: for its invoice, at the time of the request. wanted_at: when the customer or the merchant asked for
    it, in which case it is sent however small it is. hold: why the operator must decide first.
    """

    invoice_id: int
    kind: RefundKind
    sequence: int
    amount_sats: int
    received_sats: int
    address: str | None
    token: str
    key: RefundKey
    created_at: datetime
    wanted_at: datetime | None = None
    basis: AmountBasis = AmountBasis.WHOLE
    amount_fiat: Decimal | None = None
    price: Decimal | None = None
    price_as_of: datetime | None = None
    asked_by: RefundAsker = RefundAsker.RULE
    api_key_id: int | None = None
    request_key: str | None = None
    request_hash: str | None = None
    claim_expires_at: datetime | None = None
    hold: Hold | None = None


def late_refund(
    invoice_id: int,
    received_sats: int,
    address: str | None,
    token: str,
    key: RefundKey,
    created_at: datetime,
    hold: Hold | None,
) -> NewRefund:
    """The refund of a late payment: of everything received, and the first of its invoice."""
    return NewRefund(
        invoice_id=invoice_id,
        kind=RefundKind.LATE,
        sequence=1,
        amount_sats=received_sats,
        received_sats=received_sats,
        address=address,
        token=token,
        key=key,
        created_at=created_at,
        hold=hold,
    )


_NEWEST_DOUBTED = select(func.coalesce(func.max(restores.c.last_invoice_id), 0)).scalar_subquery()

_OVERDUE_CLAIMS = (
    select(t)
    .where(
        t.c.claim_expires_at <= bindparam("now"),
        t.c.state == RefundState.NEEDS_ADDRESS,
        t.c.approved_at.is_not(None) | (t.c.invoice_id > _NEWEST_DOUBTED),
    )
    .order_by(t.c.claim_expires_at, t.c.id)
    .limit(bindparam("most"))
)


class RefundRequests:
    """Queries about asking for refunds, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def lock(self, invoice_id: int) -> None:
        """Let no other transaction add or cancel a refund of this invoice before ours ends."""
        # SQLite has one writer at a time anyway.
        self._connection.execute(select(invoices.c.id).where(invoices.c.id == invoice_id).with_for_update())

    def left_sats(self, invoice_id: int) -> int:
        """What can still be refunded for an invoice; 0 if its row cannot be read. Call `lock` first to rely on it."""
        i = invoices.c
        left = func.coalesce(i.received_sats, 0) - i.refund_reserved_sats
        sats = self._connection.execute(select(left).where(i.id == invoice_id)).scalar_one()
        return sats if isinstance(sats, int) else 0

    def next_sequence(self, invoice_id: int) -> int:
        """The number of the invoice's next refund. Call `lock` first to rely on it."""
        newest = select(func.coalesce(func.max(t.c.sequence), 0)).where(t.c.invoice_id == invoice_id)
        return int(self._connection.execute(newest).scalar_one()) + 1

    def add(self, new: NewRefund) -> bool:
        """Add a refund and reserve its amount.

        False if it is there already, by its key, its request or, if it is of a late payment, its invoice.
        Raises RefundExceedsReceived; the transaction must then be rolled back.
        """
        return add_refund(self._connection, new)

    def of_invoice(self, invoice_id: int) -> list[Refund]:
        """Every refund of an invoice, oldest first."""
        statement = select(t).where(t.c.invoice_id == invoice_id).order_by(t.c.id)
        return read_rows(self._connection, t, statement, to_refund)

    def every_of(self, invoice_id: int) -> list[Refund]:
        """The same, for decisions about money: a skipped refund would be owed again. Raises UnreadableRow."""
        statement = select(t).where(t.c.invoice_id == invoice_id).order_by(t.c.id)
        return read_every(self._connection, t, statement, to_refund)

    def by_request_key(self, invoice_id: int, request_key: str) -> Refund | None:
        """The refund of an invoice that was asked for with this Idempotency-Key."""
        is_it = (t.c.invoice_id == invoice_id) & (t.c.request_key == request_key)
        return read_one(self._connection, t, select(t).where(is_it), to_refund)

    def cancel_accepted(self, refund: Refund, at: datetime) -> Refund | None:
        """Cancel a held refund, because the operator accepts the late payment: nothing is owed back any more.

        None also if a restore has since put in doubt whether it was sent.
        """
        return self._cancel(refund, at, CancelCause.ACCEPTED, t.c.held_because == HoldCause.LATE_PAYMENT)

    def cancel(self, refund: Refund, at: datetime, cause: CancelCause) -> Refund | None:
        """Move to CANCELED and free the amount. None if the refund has changed since it was read.

        Nothing of it may have been sent: the states from which it may be canceled, and `claims`, which every worker
        that is about to send it increments, guarantee that.
        """
        return self._cancel(refund, at, cause, true())

    def _cancel(
        self, refund: Refund, at: datetime, cause: CancelCause, condition: ColumnElement[bool]
    ) -> Refund | None:
        check_refund_move(refund.state, RefundState.CANCELED)
        values: dict[str, Any] = {
            "state": RefundState.CANCELED,
            "canceled_at": at,
            "cancel_cause": cause,
            "claims": refund.claims + 1,
            "claimed_until": None,
            "held_because": None,
            "reason": None,
        }
        statement = update(t).where(
            t.c.id == refund.id, t.c.state == refund.state, t.c.claims == refund.claims, condition
        )
        if self._connection.execute(statement.values(values)).rowcount != 1:
            return None
        _reserve(self._connection, refund.invoice_id, -refund.amount_sats)
        return dataclasses.replace(refund, **values)

    def overdue_claims(self, now: datetime, limit: int) -> list[Refund]:
        """Refunds that still need an address although the time to give one is over, longest first.

        Without those that may have been claimed and sent before a restore: the operator decides them.
        """
        return read_rows(self._connection, t, _OVERDUE_CLAIMS, to_refund, {"now": now, "most": limit})

    def is_destination_used(self, refund: Refund, address: str) -> bool:
        """Whether another refund is, or was, sent to `address`."""
        is_other = (t.c.address == address) & (t.c.id != refund.id)
        return self._connection.execute(select(t.c.id).where(is_other).limit(1)).first() is not None


def add_refund(connection: Connection, new: NewRefund) -> bool:
    """See `RefundRequests.add`."""
    state = RefundState.REQUESTED if new.address else RefundState.NEEDS_ADDRESS
    values = {name: value for name, value in vars(new).items() if name not in ("key", "hold")}
    values |= {
        "state": state if new.hold is None else RefundState.HELD,
        "held_because": None if new.hold is None else new.hold.cause,
        "reason": None if new.hold is None else new.hold.reason,
        **key_values(new.key),
        "next_attempt_at": new.created_at,
    }
    if insert_unless_there(connection, t, values) is None:
        return False
    if not _reserve(connection, new.invoice_id, new.amount_sats):
        raise RefundExceedsReceived("more would be refunded for this invoice than was received")
    return True


def _reserve(connection: Connection, invoice_id: int, sats: int) -> bool:
    """Change the sum of an invoice's refunds. False, without a change, if it would exceed what was received."""
    i = invoices.c
    after = i.refund_reserved_sats + sats
    statement = update(invoices).where(i.id == invoice_id, after <= func.coalesce(i.received_sats, 0))
    return connection.execute(statement.values(refund_reserved_sats=after)).rowcount == 1

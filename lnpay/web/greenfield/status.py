"""An invoice's status in Greenfield's terms.

Shop plugins ship goods when they read `Settled`, and also when they read `Expired` with `PaidLate`. LNPay refunds late
payments, so a plugin that saw one would give away goods and money. A late payment is therefore not visible here: it is
`Expired` and `None`, and its payment is not listed. Only one that is accepted (LATE_PAYMENTS) is `PaidLate`, and that
excludes its refund.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from lnpay.domain.model import Invoice
from lnpay.domain.states import InvoiceState


class Status(StrEnum):
    """Greenfield's status of an invoice. Clients parse it as an enum, so only these values may appear."""

    NEW = "New"
    PROCESSING = "Processing"
    SETTLED = "Settled"
    EXPIRED = "Expired"
    INVALID = "Invalid"


class AdditionalStatus(StrEnum):
    """Greenfield's additional status of an invoice; it has more values than these."""

    NONE = "None"
    MARKED = "Marked"
    PAID_LATE = "PaidLate"


@dataclass(frozen=True)
class DerivedStatus:
    """Both parts of a Greenfield status."""

    status: Status
    additional: AdditionalStatus = AdditionalStatus.NONE

    @property
    def is_paid(self) -> bool:
        """Whether a payment counts, so that the shop delivers."""
        return self.status is Status.SETTLED or self.additional is AdditionalStatus.PAID_LATE


def derive_status(invoice: Invoice, now: datetime) -> DerivedStatus:
    """The status of `invoice` for a Greenfield client. Only a payment that was made in time is ever `Settled`."""
    if invoice.accepted_by is not None:
        return DerivedStatus(Status.EXPIRED, AdditionalStatus.PAID_LATE)
    if invoice.state is InvoiceState.SETTLED:
        return DerivedStatus(Status.SETTLED)
    if invoice.marked_invalid_at is not None:
        return DerivedStatus(Status.INVALID, AdditionalStatus.MARKED)
    if invoice.state is InvoiceState.PAID_LATE:
        return DerivedStatus(Status.EXPIRED)
    # Money first seen after the deadline may be late, so it is not shown until LNPay knows that it was in time.
    if invoice.seen_at is not None and invoice.seen_at <= invoice.expires_at:
        return DerivedStatus(Status.PROCESSING)
    is_open = invoice.state is InvoiceState.UNPAID and now <= invoice.expires_at
    return DerivedStatus(Status.NEW if is_open else Status.EXPIRED)

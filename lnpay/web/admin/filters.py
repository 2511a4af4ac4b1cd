"""The filters of the invoice list, read from the page's address; invalid ones are ignored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from lnpay.domain.states import DeliveryState, InvoiceState, RefundKind, RefundState
from lnpay.repository.queries.refund_list import RefundFilter
from lnpay.repository.queries.searches import MAX_TEXT_CHARACTERS, InvoiceFilter, ListPosition

_PLACE = re.compile(r"(\d{1,17})-(\d{1,18})", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_State = TypeVar("_State", bound=StrEnum)


@dataclass(frozen=True)
class InvoiceQuery:
    """Which invoices to list. fields: the values that the form shows, by name, without invalid ones."""

    wanted: InvoiceFilter
    before: ListPosition | None
    after: ListPosition | None
    fields: dict[str, str]


def read_invoice_query(arguments: Mapping[str, str]) -> InvoiceQuery:
    """Read the filters from the query parameters."""
    first, last = (_day(arguments.get(name, "")) for name in ("from", "to"))
    wanted = InvoiceFilter(
        text=arguments.get("q", "").strip()[:MAX_TEXT_CHARACTERS],
        state=_word(InvoiceState, arguments.get("state")),
        refund_state=_word(RefundState, arguments.get("refund")),
        delivery_state=_word(DeliveryState, arguments.get("delivery")),
        opened_from=first,
        # Includes the whole of that day.
        opened_before=None if last is None else last + timedelta(days=1),
    )
    fields = {
        "q": wanted.text,
        "state": wanted.state or "",
        "refund": wanted.refund_state or "",
        "delivery": wanted.delivery_state or "",
        "from": f"{first:%Y-%m-%d}" if first else "",
        "to": f"{last:%Y-%m-%d}" if last else "",
    }
    shown = {name: str(value) for name, value in fields.items() if value}
    before, after = (_place(arguments.get(name, "")) for name in ("before", "after"))
    return InvoiceQuery(wanted, before, after, shown)


def read_refund_query(arguments: Mapping[str, str]) -> tuple[RefundFilter, int | None, dict[str, str]]:
    """The requested refunds, the id below which the page starts, and the values that the form shows."""
    wanted = RefundFilter(
        arguments.get("q", "").strip()[:MAX_TEXT_CHARACTERS],
        _word(RefundState, arguments.get("state")),
        _word(RefundKind, arguments.get("kind")),
    )
    fields = {"q": wanted.text, "state": wanted.state or "", "kind": wanted.kind or ""}
    before = re.fullmatch(r"\d{1,18}", arguments.get("before", ""), re.ASCII)
    shown = {name: str(value) for name, value in fields.items() if value}
    return wanted, int(before[0]) if before else None, shown


def position_text(place: ListPosition) -> str:
    """A position in the list, as a query parameter."""
    return f"{(place.opened_at - _EPOCH) // _MICROSECOND}-{place.id}"


def _place(text: str) -> ListPosition | None:
    found = _PLACE.fullmatch(text)
    try:
        return ListPosition(_EPOCH + int(found[1]) * _MICROSECOND, int(found[2])) if found else None
    except OverflowError:
        return None


def _word(words: type[_State], text: str | None) -> _State | None:
    return words(text) if text in list(words) else None


def _day(text: str) -> datetime | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    # No shop is older than bitcoin, and later dates would overflow.
    return datetime(day.year, day.month, day.day, tzinfo=UTC) if 2009 <= day.year < 9999 else None

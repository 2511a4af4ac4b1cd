"""The query parameters of `GET /invoices`, validated, and the cursors of its pages."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from werkzeug.datastructures import MultiDict

from lnpay.domain.model import Invoice
from lnpay.domain.states import InvoiceState
from lnpay.repository.queries.invoice_list import ListFilter, place_of
from lnpay.repository.queries.searches import ListPosition
from lnpay.web.api.bodies import invalid_fields

DEFAULT_PAGE_SIZE = 20
MAX_PAGE_SIZE = 100

IDS = ("correlation_id", "order_id")

PAGED = ("state", "from", "to", "limit", "cursor")
"""Any of these parameters asks for a page of the list."""

_CURSOR = re.compile(r"([0-9T:.+-]{1,40})/([0-9]{1,18})", re.ASCII)

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class ListQuery:
    """A requested page."""

    wanted: ListFilter
    limit: int
    before: ListPosition | None


def read_list_query(arguments: MultiDict[str, str]) -> ListQuery:
    """The page that a query asks for. Raises InvalidRequest naming every invalid parameter.

    An unknown parameter is invalid: ignoring `status=settled` would list unpaid orders as if they were paid.
    """
    wrong = _wrong_names(arguments)

    def read(name: str, reader: Callable[[str], _Value]) -> _Value | None:
        text = arguments.get(name)
        try:
            return None if text is None else reader(text)
        except ValueError as error:
            wrong[name] = str(error)
            return None

    wanted = ListFilter(
        read("correlation_id", str.strip),
        read("order_id", str.strip),
        read("state", _state),
        read("from", _moment),
        read("to", _moment),
    )
    limit, before = read("limit", _limit), read("cursor", read_cursor)
    if wrong:
        raise invalid_fields(wrong)
    return ListQuery(wanted, limit or DEFAULT_PAGE_SIZE, before)


def _wrong_names(arguments: MultiDict[str, str]) -> dict[str, str]:
    known = (*IDS, *PAGED)
    wrong = {}
    for name, values in arguments.lists():
        if name not in known:
            wrong[name[:100]] = f"is not a parameter of this list; it has {', '.join(known)}"
        elif len(values) > 1:
            wrong[name] = "is given more than once"
    return wrong


def cursor_after(invoice: Invoice) -> str:
    """The cursor of the page that begins after `invoice`."""
    place = place_of(invoice)
    text = f"{place.opened_at.astimezone(UTC).isoformat()}/{place.id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(text: str) -> ListPosition:
    """The position that a cursor encodes. Raises ValueError if it is not a cursor."""
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
        found = _CURSOR.fullmatch(decoded)
        if found is not None:
            return ListPosition(_moment(found[1]), int(found[2]))
    except (binascii.Error, ValueError):
        pass
    raise ValueError("is not a cursor of this list: send next_cursor as it was returned")


def _state(text: str) -> InvoiceState:
    if text not in tuple(InvoiceState):
        raise ValueError(f"must be one of {', '.join(InvoiceState)}")
    return InvoiceState(text)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError('must be a time with its offset, such as "2026-01-31T00:00:00Z" (write + as %2B)')


def _limit(text: str) -> int:
    if not re.fullmatch("[0-9]{1,3}", text, re.ASCII) or not 1 <= int(text) <= MAX_PAGE_SIZE:
        raise ValueError(f"must be a whole number from 1 to {MAX_PAGE_SIZE}")
    return int(text)

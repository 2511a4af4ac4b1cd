"""Strike's receive requests: payment requests whose expiry the caller chooses, created in one call.

Unlike an invoice, a request has no correlation id, so creating one is not safe to repeat: each call creates another. It
has no state either; its receives show what was paid. Source: Strike API, "Receive requests".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from lnpay.domain.errors import StrikeAmbiguous
from lnpay.domain.money import sats_to_btc
from lnpay.http.outgoing import Timeout
from lnpay.strike.buckets import Bucket
from lnpay.strike.reading import ODD, PAGE_SIZE, SMALLEST_PAGE, parse_time, read_object, read_text
from lnpay.strike.receives import ReceivePage, StrikeReceive, read_id, read_receive_page
from lnpay.strike.urls import segment

RECEIVE_COMPLETED = "receive-request.receive-completed"
"""The event of a payment that is final. Its entityId is the receive request."""

MOST_IDS = PAGE_SIZE
"""How many requests one call can ask about."""

MAX_PAGES = 10
"""How many pages of one request's receives are read."""


class ArrayForm(StrEnum):
    """The ways to send several values of one parameter. Strike does not document which of them it accepts."""

    COMMA = "comma"
    REPEATED = "repeated"


@dataclass(frozen=True)
class StrikeReceiveRequest:
    """A payment request that can be paid until `expires_at`. target_currency: what its payments are credited in."""

    request_id: str
    bolt11: str
    created_at: datetime
    expires_at: datetime
    target_currency: str | None


class ReceiveRequests:
    """Calls about receive requests. call: makes one call to Strike and gives its JSON (see `client`)."""

    def __init__(self, call: Callable[..., object]) -> None:
        self._call = call

    def create(
        self, amount_sats: int, description: str | None, expiry_seconds: int, target_currency: str
    ) -> StrikeReceiveRequest:
        """Create a request for `amount_sats`, payable for `expiry_seconds`.

        target_currency: what its payments are credited in, at the rate of the moment of each payment.
        StrikeAmbiguous: one may have been created without our knowledge; create another.
        Source: "Create a receive request".
        """
        bolt11: dict[str, Any] = {
            "amount": {"amount": sats_to_btc(amount_sats), "currency": "BTC"},
            "expiryInSeconds": expiry_seconds,
        }
        if description:
            bolt11["description"] = description
        body = {"bolt11": bolt11, "targetCurrency": target_currency}
        return _read_request(self._call("POST", "/receive-requests", Bucket.OTHER, body=body))

    def receives_of(self, request_id: str, *, timeout: Timeout | None = None) -> ReceivePage:
        """All receives of one request. Rows of another one are not an answer.

        Each page is one call. Receives that MAX_PAGES or Strike's answers leave out count as unreadable.
        timeout: of each call. Source: "Get receives of a receive request".
        """
        path = f"/receive-requests/{segment(request_id)}/receives"
        receives: dict[str, StrikeReceive] = {}
        rows, unreadable, missing = 0, 0, 0
        for _ in range(MAX_PAGES):
            # The first call has no parameters, because Strike documents none.
            params = {"$top": str(PAGE_SIZE), "$skip": str(rows)} if rows else None
            page = read_receive_page(self._call("GET", path, Bucket.OTHER, params=params, timeout=timeout))
            if not page.request_ids <= {request_id} or page.nameless:
                raise StrikeAmbiguous("Strike's receives are not those of the request")
            known = len(receives)
            receives.update((one.receive_id, one) for one in page.receives)
            rows, unreadable = rows + page.rows, unreadable + page.unreadable
            missing = _missing_after(page, rows)
            # A page that repeats the previous one shows that the next would too.
            if not missing or len(receives) == known:
                break
        unread = unreadable + missing
        unreadable_ids = frozenset([request_id] if unread else [])
        return ReceivePage(len(receives) + unread, list(receives.values()), unreadable_ids, 0)

    def list_receives(self, request_ids: Sequence[str], form: ArrayForm, skip: int) -> ReceivePage:
        """One page of the receives of up to MOST_IDS requests. The caller checks whose they are.

        Source: "Get receives", $receiveRequestId.
        """
        params: dict[str, str | list[str]] = {
            "$receiveRequestId": ",".join(request_ids) if form is ArrayForm.COMMA else list(request_ids),
            "$top": str(PAGE_SIZE),
            "$skip": str(skip),
        }
        return read_receive_page(self._call("GET", "/receive-requests/receives", Bucket.OTHER, params=params), skip)

    def list_all(self, skip: int) -> ReceivePage:
        """One page of the receives of every request of the account.

        Source: "Get receives".
        """
        params = {"$top": str(PAGE_SIZE), "$skip": str(skip)}
        return read_receive_page(self._call("GET", "/receive-requests/receives", Bucket.OTHER, params=params), skip)


def _missing_after(page: ReceivePage, rows: int) -> int:
    """The minimum number of receives on further pages. rows: of this page and all before it."""
    if page.total:
        return max(0, page.total - rows)
    return 0 if page.rows < SMALLEST_PAGE else 1


def _read_request(value: object) -> StrikeReceiveRequest:
    raw = read_object(value)
    bolt11 = read_object(raw.get("bolt11"))
    try:
        target = raw.get("targetCurrency")
        return StrikeReceiveRequest(
            request_id=read_id(raw["receiveRequestId"]),
            bolt11=read_text(bolt11["invoice"]),
            created_at=parse_time(raw["created"]),
            expires_at=parse_time(bolt11["expires"]),
            target_currency=None if target is None else read_text(target),
        )
    except ODD as error:
        raise StrikeAmbiguous("Strike's receive request is invalid") from error

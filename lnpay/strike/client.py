"""Client of the Strike API: one method per endpoint used, typed answers, no business rules.

Strike's own terms stay in this file. Every method raises one of three errors, by what the caller may do next:
StrikeRejected (repeating does not help), StrikeUnavailable (nothing was done: retry later), StrikeAmbiguous (sent,
but no clear answer: ask what happened). Source: Strike API v1, docs.strike.me.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, Protocol, TypedDict, Unpack
from urllib.parse import quote as url_quote

import requests
import urllib3.exceptions

from lnpay.domain.errors import (
    StrikeAmbiguous,
    StrikeError,
    StrikeRejected,
    StrikeUnavailable,
)
from lnpay.domain.model import Clock, utc_now
from lnpay.domain.money import btc_to_sats, sats_to_btc
from lnpay.domain.strike_time import StrikeTime
from lnpay.http.outgoing import (
    HttpAnswer,
    Timeout,
    call,
    pooled_session,
)
from lnpay.strike.invoices import (
    PAGE_SIZE,
    InvoicePage,
    InvoiceStatus,
    StrikeInvoice,
    read_invoice,
    read_page,
)
from lnpay.strike.reading import (
    ODD,
    parse_json,
    parse_time,
    read_array,
    read_items,
    read_object,
    read_sats,
    read_sats_or_none,
    read_text,
)

log = logging.getLogger(__name__)

SUBSCRIBED_EVENTS = ("invoice.updated", "payment.created", "payment.updated")
"""Events that LNPay subscribes to at Strike."""

MAX_ANSWER_BYTES = 5_000_000
"""A page of a hundred invoices is about 100,000."""

DEFAULT_TIMEOUT: Timeout = (3.05, 10.0)
WEBHOOK_TIMEOUT: Timeout = (1.0, 2.5)
"""For handlers that must answer Strike's webhook within five seconds."""

MEASUREMENTS = 3
"""This many answers determine Strike's time even if this machine's clock, or one answer, is wrong."""


class Bucket(StrEnum):
    """Calls that Strike counts together. OTHER is strict: past 1,000 in ten minutes, Strike blocks for an hour."""

    INVOICE_CREATE = "invoice_create"
    INVOICE_QUOTE = "invoice_quote"
    RATES = "rates"
    PAYMENT_QUOTE = "payment_quote"
    PAYMENT_EXECUTE = "payment_execute"
    OTHER = "other"


class CallBudget(Protocol):
    """Consulted before each call, and informed when Strike rate-limits one."""

    def take(self, bucket: Bucket) -> None:
        """Count one call. Raises StrikeUnavailable, with retry_after_seconds, if it must not be made now."""
        ...

    def block(self, bucket: Bucket, retry_after_seconds: int | None) -> None:
        """Record a 429. None: it had no Retry-After."""
        ...


@dataclass(frozen=True)
class StrikeQuote:
    """Strike's price for an invoice, and the payment request that a customer can pay until `expires_at`."""

    bolt11: str
    expires_at: datetime
    raw: dict[str, Any]


class PaymentStatus(StrEnum):
    """Strike's states of an outgoing payment. PENDING: already charged, but not yet received."""

    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class PaymentQuote:
    """Strike's price for sending. `amount_sats` is what the recipient gets; `fee_sats` is charged on top."""

    quote_id: str
    amount_sats: int
    fee_sats: int
    valid_until: datetime | None


@dataclass(frozen=True)
class Payment:
    """An outgoing payment. `status` decides, not the HTTP status.

    amount_sats is what the recipient gets, fee_sats is charged on top; None if Strike does not give them in bitcoin.
    """

    payment_id: str
    status: PaymentStatus
    amount_sats: int | None = None
    fee_sats: int | None = None


@dataclass(frozen=True)
class StrikeAnswer:
    """Strike's answer to a call whose result does not matter: its status, error code and time."""

    status: int
    code: str | None
    told_at: datetime | None


class _More(TypedDict, total=False):
    """Further arguments of a call, besides method and path."""

    body: dict[str, Any] | None
    params: dict[str, str] | None
    headers: dict[str, str] | None
    timeout: Timeout | None


class Strike:
    """The client. One per process: it holds a connection pool and is safe to share between threads.

    time: Strike's time, measured from every answer. The clients of one process share it.
    """

    def __init__(
        self,
        api_key: str,
        base_url: str,
        budget: CallBudget,
        *,
        session: requests.Session | None = None,
        clock: Clock = utc_now,
        time: StrikeTime | None = None,
        timeout: Timeout = DEFAULT_TIMEOUT,
    ) -> None:
        self.time = time or StrikeTime(clock)
        self._base_url = base_url.rstrip("/")
        self._budget = budget
        self._timeout = timeout
        self._session = session or pooled_session()
        self._auth = _Bearer(api_key)

    def create_invoice(self, amount_sats: int, correlation_id: str, description: str | None) -> StrikeInvoice:
        """Create an invoice for `amount_sats`.

        correlation_id: makes repeats safe. A second call with it raises StrikeRejected with the code
        DUPLICATE_INVOICE, and `find_invoice_by_correlation_id` finds the first one.
        Source: "Issue invoice".
        """
        body: dict[str, Any] = {
            "correlationId": correlation_id,
            "amount": {"amount": sats_to_btc(amount_sats), "currency": "BTC"},
        }
        if description:
            body["description"] = description
        return read_invoice(self._call("POST", "/invoices", Bucket.INVOICE_CREATE, body=body))

    def quote_invoice(self, strike_invoice_id: str) -> StrikeQuote:
        """Get a payment request. Every call creates a new one; older ones stay payable until they expire.

        Source: "Issue quote for invoice".
        """
        path = f"/invoices/{_segment(strike_invoice_id)}/quote"
        return _read_quote(self._call("POST", path, Bucket.INVOICE_QUOTE))

    def get_invoice(self, strike_invoice_id: str, *, timeout: Timeout = DEFAULT_TIMEOUT) -> StrikeInvoice:
        """Read an invoice with its transactions, which show when it was paid.

        Source: "Find invoice by id", includeTransactions.
        """
        path = f"/invoices/{_segment(strike_invoice_id)}"
        params = {"includeTransactions": "true"}
        return read_invoice(self._call("GET", path, Bucket.OTHER, params=params, timeout=timeout))

    def cancel_invoice(self, strike_invoice_id: str) -> StrikeInvoice:
        """Cancel an unpaid invoice. A payment request that was shown may stay payable: Strike does not say.

        Raises StrikeRejected if it is paid, cancelled already, or a payment is in flight. Safe to repeat.
        Source: "Cancel unpaid invoice".
        """
        return read_invoice(self._call("PATCH", f"/invoices/{_segment(strike_invoice_id)}/cancel", Bucket.OTHER))

    def find_invoice_by_correlation_id(self, correlation_id: str) -> StrikeInvoice | None:
        """The invoice with this `correlation_id`, or None. If filters are refused, search the newest hundred.

        Source: "Get invoices".
        """
        try:
            found = self._list_invoices({"$filter": f"correlationId eq {_literal(correlation_id)}"})
        except StrikeRejected:
            found = self._list_invoices({"$orderby": "created desc", "$top": str(PAGE_SIZE)})
        return next((one for one in found.invoices if one.raw.get("correlationId") == correlation_id), None)

    def list_invoices(self, status: InvoiceStatus, skip: int) -> InvoicePage:
        """One page of the invoices with a status, newest first.

        The filter is a single comparison: Strike's edge proxy has refused compound ones with a 403 page.
        Source: "Get invoices".
        """
        params = {
            "$filter": f"state eq {_literal(status)}",
            "$orderby": "created desc",
            "$top": str(PAGE_SIZE),
            "$skip": str(skip),
        }
        return self._list_invoices(params)

    def create_payment_quote(self, address: str, amount_sats: int, key: str) -> PaymentQuote:
        """Get a quote for sending `amount_sats` to a Lightning address or LNURL. Moves no money.

        key: the refund's stored idempotency key; a repeat raises StrikeRejected with DUPLICATE_PAYMENT_QUOTE, whose
        values may name the first quote as paymentQuoteId.
        Source: "Create LNURL/LN address payment quote".
        """
        body = {
            "lnAddressOrUrl": address,
            "sourceCurrency": "BTC",
            "amount": {"amount": sats_to_btc(amount_sats), "currency": "BTC"},
        }
        path = "/payment-quotes/lightning/lnurl"
        headers = {"idempotency-key": key}
        return _read_payment_quote(self._call("POST", path, Bucket.PAYMENT_QUOTE, body=body, headers=headers))

    def get_payment_quote(self, quote_id: str) -> PaymentQuote:
        """Read a payment quote again. Undocumented: where it is not supported, this raises StrikeRejected (404)."""
        return _read_payment_quote(self._call("GET", f"/payment-quotes/{_segment(quote_id)}", Bucket.OTHER))

    def execute_payment_quote(self, quote_id: str) -> Payment:
        """Execute a quote: send the money. A quote pays at most once, however often it is executed.

        StrikeUnavailable: definitely not executed by this call. StrikeAmbiguous: possibly executed. StrikeRejected: see
        strike_code; PAYMENT_PROCESSED means that an earlier call executed it.
        Source: "Execute payment quote".
        """
        path = f"/payment-quotes/{_segment(quote_id)}/execute"
        return _read_payment(self._call("PATCH", path, Bucket.PAYMENT_EXECUTE))

    def get_payment(self, payment_id: str, *, timeout: Timeout = DEFAULT_TIMEOUT) -> Payment:
        """Read an outgoing payment. Source: "Get payment by id"."""
        return _read_payment(self._call("GET", f"/payments/{_segment(payment_id)}", Bucket.OTHER, timeout=timeout))

    def ticker(self) -> list[dict[str, Any]]:
        """Strike's own prices: rows of amount, sourceCurrency and targetCurrency. Source: "Get rates ticker"."""
        return read_array(self._call("GET", "/rates/ticker", Bucket.RATES, timeout=WEBHOOK_TIMEOUT))

    def list_subscriptions(self) -> list[dict[str, Any]]:
        """All webhook subscriptions of the account. Source: "Get subscriptions"."""
        return read_array(self._call("GET", "/subscriptions", Bucket.OTHER))

    def create_subscription(self, url: str, secret: str, event_types: Iterable[str]) -> dict[str, Any]:
        """Subscribe `url` to events, signed with `secret` (10 to 50 characters). Source: "Create subscription"."""
        body = {
            "webhookUrl": url,
            "webhookVersion": "v1",
            "secret": secret,
            "enabled": True,
            "eventTypes": sorted(event_types),
        }
        return read_object(self._call("POST", "/subscriptions", Bucket.OTHER, body=body))

    def update_subscription(self, subscription_id: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change some fields of a subscription. Source: "Update subscription"."""
        path = f"/subscriptions/{_segment(subscription_id)}"
        return read_object(self._call("PATCH", path, Bucket.OTHER, body=dict(changes)))

    def delete_subscription(self, subscription_id: str) -> None:
        """Delete a subscription. Source: "Delete subscription"."""
        self._call("DELETE", f"/subscriptions/{_segment(subscription_id)}", Bucket.OTHER)

    def list_events(self) -> list[dict[str, Any]]:
        """The newest hundred events of the account, newest first; `deliverySuccess` says whether they were delivered.

        Without a filter, which Strike's edge proxy may refuse. Source: "Get events".
        """
        params = {"$orderby": "created desc", "$top": str(PAGE_SIZE)}
        return read_array(read_items(self._call("GET", "/events", Bucket.OTHER, params=params)))

    def newest_invoice(self) -> StrikeInvoice | None:
        """The account's newest invoice, whichever program created it; None if there is none. Source: "Get invoices"."""
        return next(iter(self._list_invoices({"$orderby": "created desc", "$top": "1"}).invoices), None)

    def get_profile(self, account_id: str) -> dict[str, Any]:
        """What an account may do; `currencies` says what it can invoice in. Source: "Fetch public profile by id"."""
        return read_object(self._call("GET", f"/accounts/{_segment(account_id)}/profile", Bucket.OTHER))

    def available_sats(self) -> int:
        """The account's spendable bitcoin balance. Source: "Get balance details"."""
        rows = read_array(self._call("GET", "/balances", Bucket.OTHER))
        try:
            return sum(btc_to_sats(read_text(row["available"])) for row in rows if row.get("currency") == "BTC")
        except ODD as error:
            raise StrikeAmbiguous("Strike's balance is invalid") from error

    def ask(
        self,
        method: str,
        path: str,
        bucket: Bucket,
        *,
        body: dict[str, Any] | None = None,
        params: dict[str, str] | None = None,
    ) -> StrikeAnswer:
        """Make a call only for its status: a refusal is an answer too.

        Raises StrikeUnavailable and StrikeAmbiguous if there is no answer.
        """
        response = self._send(method, path, bucket, body=body, params=params)
        if response.status_code == 429:
            raise self._refusal(method, path, bucket, response)
        code = _error_data(response).get("code")
        return StrikeAnswer(response.status_code, code, _read_date(response.headers.get("Date")))

    def measure_time(self) -> bool:
        """Make sure that Strike's time is known, with a few calls if needed. False if Strike does not report it."""
        for _ in range(MEASUREMENTS):
            if self.time.certain() is not None:
                return True
            try:
                self.ask("GET", "/rates/ticker", Bucket.RATES)
            except StrikeError as error:
                log.warning("strike's time is unknown error=%s", error.message)
                return False
        return self.time.certain() is not None

    def _list_invoices(self, params: dict[str, str]) -> InvoicePage:
        return read_page(self._call("GET", "/invoices", Bucket.OTHER, params=params))

    def _call(self, method: str, path: str, bucket: Bucket, **more: Unpack[_More]) -> object:
        """Make one call and return its JSON (None if there is no body)."""
        response = self._send(method, path, bucket, **more)
        if 200 <= response.status_code < 300:
            return _read_json(method, path, response)
        raise self._refusal(method, path, bucket, response)

    def _send(self, method: str, path: str, bucket: Bucket, **more: Unpack[_More]) -> HttpAnswer:
        """Make one call, within the budget. The only place that knows `requests`."""
        self._budget.take(bucket)
        asked_at = self.time.steady()
        try:
            response = call(
                self._session,
                method,
                self._base_url + path,
                json=more.get("body"),
                params=more.get("params"),
                headers=more.get("headers"),
                auth=self._auth,
                timeout=more.get("timeout") or self._timeout,
                max_bytes=MAX_ANSWER_BYTES,
            )
        except requests.RequestException as error:
            raise _unanswered(method, path, error) from error
        if _tells_strikes_time(response):
            self.time.observe(_read_date(response.headers.get("Date")), asked_at, self.time.steady())
        return response

    def _refusal(self, method: str, path: str, bucket: Bucket, response: HttpAnswer) -> StrikeError:
        data = _error_data(response)
        told_at = _read_date(response.headers.get("Date")) or self.time.now()
        retry_after = _retry_after_seconds(response.headers.get("Retry-After"), told_at)
        if response.status_code == 429:
            self._budget.block(bucket, retry_after)
        kind = _kind_of(method, response.status_code, data.get("code"))
        log.warning(
            "strike refused method=%s path=%s status=%d code=%s trace_id=%s",
            method, path, response.status_code, data.get("code"), data.get("traceId"),
        )  # fmt: skip
        return kind(
            f"Strike answered {response.status_code} {data.get('code') or 'without a code'}",
            status=response.status_code,
            strike_code=data.get("code"),
            trace_id=data.get("traceId"),
            values=data.get("values"),
            invalid_fields=data.get("invalidFields", frozenset()),
            retry_after_seconds=retry_after,
        )


class _Bearer(requests.auth.AuthBase):
    """Adds the key to each request; no repr shows it."""

    def __init__(self, api_key: str) -> None:
        self._header = f"Bearer {api_key}"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._header
        return request


_SAFE_TO_REPEAT = frozenset(
    {"PROCESSING_CONFLICT", "ACCOUNT_NOT_READY", "EXCHANGE_RATE_NOT_AVAILABLE"}
    | {"RATE_LIMIT_EXCEEDED", "TOO_MANY_ATTEMPTS"}
)
"""Codes with which Strike did nothing and asks for a retry.

Not LN_UNAVAILABLE: that is a 503, and a payment may have been sent before it.
"""

_LATER = frozenset({425, 429})
"""The same, expressed by the status alone: too early, too many requests."""

_REQUEST_TIMEOUT = 408
"""Sent by a proxy that timed out, possibly after it had forwarded the request."""

LONGEST_WAIT_SECONDS = 86_400
"""A Retry-After of more than a day is ignored."""


def _kind_of(method: str, status: int, code: str | None) -> type[StrikeError]:
    if status in _LATER or code in _SAFE_TO_REPEAT:
        return StrikeUnavailable
    if status < 500 and status != _REQUEST_TIMEOUT:
        return StrikeRejected
    # A 5xx may come after the server has done what was asked, so it is ambiguous.
    return StrikeUnavailable if method == "GET" else StrikeAmbiguous


def _unanswered(method: str, path: str, error: requests.RequestException) -> StrikeError:
    log.warning("strike unreachable method=%s path=%s error=%s", method, path, type(error).__name__)
    if method == "GET" or isinstance(error, requests.ConnectTimeout) or _was_never_sent(error):
        return StrikeUnavailable("Strike could not be reached")
    return StrikeAmbiguous("Strike did not answer")


def _was_never_sent(error: requests.RequestException) -> bool:
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, urllib3.exceptions.NewConnectionError | urllib3.exceptions.NameResolutionError)


def _read_json(method: str, path: str, response: HttpAnswer) -> object:
    if not response.content:
        return None
    try:
        return parse_json(response.content)
    except ValueError as error:
        log.warning("strike unreadable method=%s path=%s status=%d", method, path, response.status_code)
        raise StrikeAmbiguous("Strike's answer is not valid JSON", status=response.status_code) from error


def _error_data(response: HttpAnswer) -> dict[str, Any]:
    """`code`, `traceId`, `values` and invalid fields of the error envelope; empty for the edge proxy's HTML."""
    try:
        envelope = parse_json(response.content)
    except ValueError:
        return {}
    if not isinstance(envelope, dict) or not isinstance(envelope.get("data"), dict):
        return {}
    data = envelope["data"]
    values = data.get("values")
    return {
        "code": data["code"] if isinstance(data.get("code"), str) else None,
        "traceId": envelope.get("traceId") if isinstance(envelope.get("traceId"), str) else None,
        "values": values if isinstance(values, dict) else None,
        "invalidFields": frozenset(errors) if isinstance(errors := data.get("validationErrors"), dict) else frozenset(),
    }


def _retry_after_seconds(header: str | None, now: datetime) -> int | None:
    """Seconds to wait, from a number of seconds or an HTTP date; None if there is neither."""
    if header is None:
        return None
    try:
        seconds = int(header) if header.strip().isdecimal() else _seconds_until(parsedate_to_datetime(header), now)
    except (ValueError, OverflowError):
        return None
    return min(max(0, seconds), LONGEST_WAIT_SECONDS)


def _seconds_until(moment: datetime, now: datetime) -> int:
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return math.ceil((aware - now).total_seconds())


def _segment(text: str) -> str:
    """An id as one path segment. Dots cannot be escaped: ".." would be another path."""
    if text in ("", ".", ".."):
        raise StrikeRejected("Strike has nothing with that id")
    return url_quote(text, safe="")


def _literal(text: str) -> str:
    """An OData string literal."""
    return "'" + text.replace("'", "''") + "'"


def _tells_strikes_time(response: HttpAnswer) -> bool:
    """Whether the Date is from Strike itself, just now; pages of proxies and caches carry other dates."""
    is_cached = response.headers.get("Age", "0").strip() != "0"
    return not is_cached and "json" in response.headers.get("Content-Type", "")


def _read_date(header: str | None) -> datetime | None:
    """The time in a Date header; None if it is missing or unreadable."""
    try:
        moment = parsedate_to_datetime(header or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _read_quote(value: object) -> StrikeQuote:
    raw = read_object(value)
    try:
        return StrikeQuote(
            bolt11=read_text(raw["lnInvoice"]),
            expires_at=parse_time(raw["expiration"]),
            raw=raw,
        )
    except ODD as error:
        raise StrikeAmbiguous("Strike's quote is invalid") from error


def _read_payment_quote(value: object) -> PaymentQuote:
    raw = read_object(value)
    try:
        amount, total = read_sats(raw["amount"]), read_sats(raw["totalAmount"])
        if amount is None or total is None or total < amount:
            raise ValueError("not in bitcoin, or a negative fee")
        return PaymentQuote(
            quote_id=read_text(raw["paymentQuoteId"]),
            amount_sats=amount,
            fee_sats=total - amount,
            valid_until=parse_time(raw["validUntil"]) if raw.get("validUntil") else None,
        )
    except ODD as error:
        raise StrikeAmbiguous("Strike's payment quote is invalid") from error


def _read_payment(value: object) -> Payment:
    raw = read_object(value)
    try:
        payment_id, status = read_text(raw["paymentId"]), PaymentStatus(raw["state"])
    except ODD as error:
        raise StrikeAmbiguous("Strike's payment is invalid") from error
    amount, total = read_sats_or_none(raw.get("amount")), read_sats_or_none(raw.get("totalAmount"))
    return Payment(payment_id, status, amount, None if amount is None or total is None else total - amount)


def named_in(error: StrikeError, name: str) -> str | None:
    """An id in the `values` of Strike's error, such as paymentQuoteId or paymentId."""
    value = error.values.get(name)
    return value if isinstance(value, str) and value else None

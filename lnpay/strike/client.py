"""Client of the Strike API: one method per endpoint used, typed answers, no business rules.

Strike's own terms stay in this file. Every method raises one of three errors, by what the caller may do next:
StrikeRejected (repeating does not help), StrikeUnavailable (nothing was done: retry later), StrikeAmbiguous (sent,
but no clear answer: ask what happened). Source: Strike API v1, docs.strike.me.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict, Unpack

import requests

from lnpay.domain.addresses import is_payment_request
from lnpay.domain.errors import StrikeAmbiguous, StrikeError, StrikeRejected, StrikeUnavailable
from lnpay.domain.model import Clock, utc_now
from lnpay.domain.money import btc_to_sats, sats_to_btc
from lnpay.domain.strike_time import CLOCK_WARN, StrikeTime
from lnpay.http.outgoing import HttpAnswer, Timeout, call, pooled_session
from lnpay.strike.answers import (
    PAYMENT_CREATED,
    Payment,
    PaymentQuote,
    PaymentsMade,
    StrikeQuote,
    read_payment,
    read_payment_quote,
    read_payments_made,
    read_quote,
)
from lnpay.strike.buckets import Bucket, CallBudget
from lnpay.strike.dates import date_of, is_from_strike_now
from lnpay.strike.failures import error_data, kind_of, retry_after_seconds, unanswered
from lnpay.strike.invoices import InvoicePage, InvoiceStatus, StrikeInvoice, read_invoice, read_page
from lnpay.strike.reading import (
    ODD,
    PAGE_SIZE,
    parse_json,
    read_array,
    read_items,
    read_object,
    read_text,
)
from lnpay.strike.receive_requests import RECEIVE_COMPLETED, ReceiveRequests
from lnpay.strike.urls import literal, segment

log = logging.getLogger(__name__)

SUBSCRIBED_EVENTS = ("invoice.updated", PAYMENT_CREATED, "payment.updated", RECEIVE_COMPLETED)
"""Events that LNPay subscribes to at Strike."""

MAX_ANSWER_BYTES = 5_000_000
"""A page of a hundred invoices is about 100,000."""

DEFAULT_TIMEOUT: Timeout = (3.05, 10.0)
WEBHOOK_TIMEOUT: Timeout = (1.0, 2.5)
"""For handlers that must answer Strike's webhook within five seconds."""

MEASUREMENTS = 3
"""This many answers determine Strike's time even if this machine's clock, or one answer, is wrong."""


@dataclass(frozen=True)
class StrikeAnswer:
    """Strike's answer to a call whose result does not matter: its status, error code and time."""

    status: int
    code: str | None
    told_at: datetime | None


class _More(TypedDict, total=False):
    """Further arguments of a call, besides method and path."""

    body: dict[str, Any] | None
    params: Mapping[str, str | list[str]] | None
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
        self.receive_requests = ReceiveRequests(self._call)

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
        path = f"/invoices/{segment(strike_invoice_id)}/quote"
        return read_quote(self._call("POST", path, Bucket.INVOICE_QUOTE))

    def get_invoice(self, strike_invoice_id: str, *, timeout: Timeout = DEFAULT_TIMEOUT) -> StrikeInvoice:
        """Read an invoice with its transactions, which show when it was paid.

        Source: "Find invoice by id", includeTransactions.
        """
        path = f"/invoices/{segment(strike_invoice_id)}"
        params = {"includeTransactions": "true"}
        return read_invoice(self._call("GET", path, Bucket.OTHER, params=params, timeout=timeout))

    def cancel_invoice(self, strike_invoice_id: str) -> StrikeInvoice:
        """Cancel an unpaid invoice. A payment request that was shown may stay payable: Strike does not say.

        Raises StrikeRejected if it is paid, cancelled already, or a payment is in flight. Safe to repeat.
        Source: "Cancel unpaid invoice".
        """
        return read_invoice(self._call("PATCH", f"/invoices/{segment(strike_invoice_id)}/cancel", Bucket.OTHER))

    def find_invoice_by_correlation_id(self, correlation_id: str) -> StrikeInvoice | None:
        """The invoice with this `correlation_id`, or None. If filters are refused, search the newest hundred.

        Source: "Get invoices".
        """
        try:
            found = self._list_invoices({"$filter": f"correlationId eq {literal(correlation_id)}"})
        except StrikeRejected:
            found = self._list_invoices({"$orderby": "created desc", "$top": str(PAGE_SIZE)})
        return next((one for one in found.invoices if one.raw.get("correlationId") == correlation_id), None)

    def list_invoices(self, status: InvoiceStatus, skip: int) -> InvoicePage:
        """One page of the invoices with a status, newest first.

        The filter is a single comparison: Strike's edge proxy has refused compound ones with a 403 page.
        Source: "Get invoices".
        """
        params = {
            "$filter": f"state eq {literal(status)}",
            "$orderby": "created desc",
            "$top": str(PAGE_SIZE),
            "$skip": str(skip),
        }
        return self._list_invoices(params)

    def create_payment_quote(self, address: str, amount_sats: int, key: str) -> PaymentQuote:
        """Get a quote for sending `amount_sats` to a Lightning address, LNURL or payment request. Moves no money.

        A payment request must ask for exactly that amount: Strike quotes what it asks for.
        key: the refund's stored idempotency key; a repeat raises StrikeRejected with DUPLICATE_PAYMENT_QUOTE, whose
        values may name the first quote as paymentQuoteId.
        Source: "Create LNURL/LN address payment quote", "Create lightning payment quote".
        """
        body: dict[str, Any] = {"lnInvoice": address, "sourceCurrency": "BTC"}
        path = "/payment-quotes/lightning"
        if not is_payment_request(address):
            amount = {"amount": sats_to_btc(amount_sats), "currency": "BTC"}
            body = {"lnAddressOrUrl": address, "sourceCurrency": "BTC", "amount": amount}
            path = "/payment-quotes/lightning/lnurl"
        headers = {"idempotency-key": key}
        return read_payment_quote(self._call("POST", path, Bucket.PAYMENT_QUOTE, body=body, headers=headers))

    def get_payment_quote(self, quote_id: str) -> PaymentQuote:
        """Read a payment quote again. Undocumented: where it is not supported, this raises StrikeRejected (404)."""
        return read_payment_quote(self._call("GET", f"/payment-quotes/{segment(quote_id)}", Bucket.OTHER))

    def execute_payment_quote(self, quote_id: str) -> Payment:
        """Execute a quote: send the money. A quote pays at most once, however often it is executed.

        StrikeUnavailable: definitely not executed by this call. StrikeAmbiguous: possibly executed. StrikeRejected: see
        strike_code; PAYMENT_PROCESSED means that an earlier call executed it.
        Source: "Execute payment quote".
        """
        path = f"/payment-quotes/{segment(quote_id)}/execute"
        return read_payment(self._call("PATCH", path, Bucket.PAYMENT_EXECUTE))

    def get_payment(self, payment_id: str, *, timeout: Timeout = DEFAULT_TIMEOUT) -> Payment:
        """Read an outgoing payment. Source: "Get payment by id"."""
        return read_payment(self._call("GET", f"/payments/{segment(payment_id)}", Bucket.OTHER, timeout=timeout))

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
        path = f"/subscriptions/{segment(subscription_id)}"
        return read_object(self._call("PATCH", path, Bucket.OTHER, body=dict(changes)))

    def delete_subscription(self, subscription_id: str) -> None:
        """Delete a subscription. Source: "Delete subscription"."""
        self._call("DELETE", f"/subscriptions/{segment(subscription_id)}", Bucket.OTHER)

    def list_events(self) -> list[dict[str, Any]]:
        """The newest hundred events of the account, newest first; `deliverySuccess` says whether they arrived."""
        return read_array(read_items(self._newest_events()))

    def list_payments_since(self, since: datetime) -> PaymentsMade:
        """The account's outgoing payments since `since`, whichever program made them, by their events."""
        try:
            return read_payments_made(self._newest_events(PAYMENT_CREATED), since)
        except StrikeRejected:
            return read_payments_made(self._newest_events(), since)

    def _newest_events(self, event_type: str | None = None) -> object:
        """event_type: only these; Strike's edge proxy may refuse that filter (StrikeRejected). Source: "Get events"."""
        params = {"$orderby": "created desc", "$top": str(PAGE_SIZE)}
        if event_type is not None:
            params["$filter"] = f"eventType eq {literal(event_type)}"
        return self._call("GET", "/events", Bucket.OTHER, params=params)

    def newest_invoice(self) -> StrikeInvoice | None:
        """The account's newest invoice, whichever program created it; None if there is none. Source: "Get invoices"."""
        return next(iter(self._list_invoices({"$orderby": "created desc", "$top": "1"}).invoices), None)

    def get_profile(self, account_id: str) -> dict[str, Any]:
        """What an account may do; `currencies` says what it can invoice in. Source: "Fetch public profile by id"."""
        return read_object(self._call("GET", f"/accounts/{segment(account_id)}/profile", Bucket.OTHER))

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
        code = error_data(response).get("code")
        return StrikeAnswer(response.status_code, code, date_of(response))

    def measure_time(self) -> bool:
        """Make sure that Strike's time is known, with a few calls if needed. False if Strike does not report it."""
        for _ in range(MEASUREMENTS):
            if self.time.certain() is not None:
                return True
            if not self._ask_time():
                return False
        return self.time.certain() is not None

    def confirm_time(self) -> None:
        """Make sure of Strike's time where a wrong one could not be put right later.

        If this machine's clock disagrees, one of the two is wrong: then so many more answers must agree with the
        earlier ones. Raises StrikeUnavailable if they do not, or if Strike does not report its time.
        """
        is_known = self.measure_time()
        offset = self.time.offset()
        if is_known and offset is not None and offset.least > CLOCK_WARN:
            is_known = all(self._ask_time() and self.time.certain() is not None for _ in range(MEASUREMENTS))
        if not is_known:
            raise StrikeUnavailable("Strike's time is unknown: repeat the request")

    def _ask_time(self) -> bool:
        """Make one call, of which `time` learns. False if there is no answer."""
        try:
            self.ask("GET", "/rates/ticker", Bucket.RATES)
        except StrikeError as error:
            log.warning("strike's time is unknown error=%s", error.message)
            return False
        return True

    def _list_invoices(self, params: dict[str, str]) -> InvoicePage:
        skip = int(params.get("$skip", "0"))
        return read_page(self._call("GET", "/invoices", Bucket.OTHER, params=params), skip)

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
            raise unanswered(method, path, error) from error
        if is_from_strike_now(response):
            self.time.observe(date_of(response), asked_at, self.time.steady())
        return response

    def _refusal(self, method: str, path: str, bucket: Bucket, response: HttpAnswer) -> StrikeError:
        data = error_data(response)
        told_at = date_of(response) or self.time.now()
        retry_after = retry_after_seconds(response.headers.get("Retry-After"), told_at)
        if response.status_code == 429:
            self._budget.block(bucket, retry_after)
        kind = kind_of(method, response.status_code, data.get("code"))
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


def _read_json(method: str, path: str, response: HttpAnswer) -> object:
    if not response.content:
        return None
    try:
        return parse_json(response.content)
    except ValueError as error:
        log.warning("strike unreadable method=%s path=%s status=%d", method, path, response.status_code)
        raise StrikeAmbiguous("Strike's answer is not valid JSON", status=response.status_code) from error
